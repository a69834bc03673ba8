"""Charges: Ewald's sum against known constants, charges learned from forces, both engines."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from command_line import invoke
from conftest import CUBE, TRICLINIC, invent, liquid, present, topology_of
from engine_cases import SOLUTION, WATERS_H, charged

from mld_ff.engines.lammps.export import export_lammps
from mld_ff.engines.openmm.export import export_openmm
from mld_ff.engines.start import start_from
from mld_ff.errors import InputError
from mld_ff.geometry.pairs import neighbour_pairs
from mld_ff.geometry.system import System
from mld_ff.inference import Basis, fit
from mld_ff.inference.charge_terms import charge_term
from mld_ff.inference.design import ChargeForm
from mld_ff.loss.charges import product_features
from mld_ff.loss.ewald import far, near, own, splitting
from mld_ff.loss.model import AgentLoss
from mld_ff.sources import open_source
from mld_ff.trajectory import Floats, Trajectory
from mld_ff.verification import verify

SALT = Path(__file__).parent / "data" / "cp2k" / "nacl"
SALT_BASIS = Basis(accuracy="pairs", cutoff_A=6.2)
"""Which learns charges, as salts do unless told otherwise."""
FCC = np.array([[0.0, 1, 1], [1, 0, 1], [1, 1, 0]]) / 2
HALF, QUARTER = (np.array([[0.0, 0, 0], [x, x, x]]) for x in (0.5, 0.25))


@pytest.fixture(scope="module")
def salt() -> Trajectory:
    """CP2K's molten NaCl, Fumi and Tosi's functions and charges of 1 and -1 e."""
    return next(iter(open_source(SALT).chunks(1000)))


@pytest.fixture(scope="module")
def salt_loss(salt: Trajectory) -> AgentLoss:
    return fit(salt, SALT_BASIS).loss


def solution() -> tuple[AgentLoss, Trajectory]:
    """Molecules across the boundary, and ions, in a triclinic cell; nothing but charges."""
    frame = liquid(SOLUTION, TRICLINIC, seed=4)
    loss = charged(invent(frame, cutoff=4.8), frame)
    return loss.only("charge"), frame


# --- the sum --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cell", "positions", "nearest", "madelung"),
    [
        (FCC, HALF, 0.5, 1.747564594633182),  # NaCl
        (np.eye(3), HALF, np.sqrt(3) / 2, 1.762674773070991),  # CsCl
        (FCC, QUARTER, np.sqrt(3) / 4, 1.638055053388790),  # ZnS
    ],
    ids=["NaCl", "CsCl", "ZnS"],
)
def test_madelung_constants(
    cell: Floats, positions: Floats, nearest: float, madelung: float
) -> None:
    """Those of the crystals, known to 1e-15, from two ions in a cell of any shape."""
    charges, cutoff = np.array([1.0, -1.0]), 2.5
    alpha, pairs = splitting(cutoff, 4.7), neighbour_pairs(positions, cell, cutoff)
    waves = (
        far(positions, cell, charges[:, None], alpha, 4.7).potential[:, 0] - own(alpha) * charges
    )
    energy = (charges[pairs.i] * charges[pairs.j]) @ near(pairs.r, alpha)[0] + charges @ waves / 2
    assert -energy * nearest == pytest.approx(madelung, abs=1e-8)


def test_energy_forces_and_virial_belong_together() -> None:
    """Derivatives by positions and by strain, in a triclinic cell."""
    loss, frame = solution()
    topology, positions, cell = topology_of(frame), frame.positions[0], frame.cell[0]

    def energy(moved: Floats, deformed: Floats = cell) -> float:
        return loss.evaluate(System(topology, moved, deformed, 4.8)).energy

    result, step = loss.evaluate(System(topology, positions, cell, 4.8)), 1e-3
    for atom, axis in ((0, 0), (31, 2)):
        there = np.zeros_like(positions)
        there[atom, axis] = step
        slope = (energy(positions + there) - energy(positions - there)) / (2 * step)
        assert result.forces[atom, axis] == pytest.approx(-slope, abs=1e-5)
    for a, b in ((0, 0), (2, 1)):
        strain = np.zeros((3, 3))
        strain[a, b] = step / 5
        one, other = np.eye(3) + strain, np.eye(3) - strain
        slope = energy(positions @ one, cell @ one) - energy(positions @ other, cell @ other)
        assert result.virial[a, b] == pytest.approx(slope / (2 * step / 5), abs=1e-3)
    assert np.abs(result.forces.sum(axis=0)).max() < 1e-10


def test_the_energy_does_not_depend_on_where_the_sum_is_split() -> None:
    """... by more than 1e-6 of what forces are; bonded pairs do not act on each other."""
    loss, frame = solution()
    topology, positions, cell = topology_of(frame), frame.positions[0], frame.cell[0]
    results = []
    for cutoff in (4.0, 5.5):
        charges = replace(present(loss.charges), cutoff_A=cutoff)
        system = System(topology, positions, cell, 5.5)
        results.append(replace(loss, terms=(*loss.pair_terms, charges)).evaluate(system))
    one, other = results
    assert one.energy == pytest.approx(other.energy, abs=1e-4)
    assert np.abs(one.forces - other.forces).max() < 1e-6 * np.abs(one.forces).max()
    assert one.virial == pytest.approx(other.virial, abs=1e-4)


def test_products_of_charges_make_up_forces_and_virial() -> None:
    loss, frame = solution()
    term = present(loss.charges)
    system = System(topology_of(frame), frame.positions[0], frame.cell[0], 4.8)
    q = np.array(term.coefficients)
    a, b = np.triu_indices(len(q))
    products = q[a] * q[b] * np.where(a == b, 1, 2)
    forces, virials = product_features(term, system)
    expected = loss.evaluate(system)
    largest = np.abs(expected.forces).max()
    assert np.abs(forces @ products - expected.forces.ravel()).max() < 1e-4 * largest
    # 3 bar, by the waves that a fit leaves out
    assert virials @ products == pytest.approx(expected.virial, abs=1e-2)


# --- learned from forces --------------------------------------------------------------------------


def test_charges_of_molten_salt(salt_loss: AgentLoss) -> None:
    """CP2K's forces are pairs and Coulomb's: both are found, with honest errors."""
    told = salt_loss.provenance
    assert list(told["charges_e"]) == ["Cl", "Na"]
    assert told["charges_e"]["Na"] == pytest.approx(1.0, abs=0.01)
    assert told["charges_e"]["Cl"] == pytest.approx(-told["charges_e"]["Na"], abs=1e-12)
    assert told["rmse_meV_per_A"] < 3 and told["charges"]["unseen_meV_per_A_without"] > 60
    assert told["charges"]["determined"] and told["charges"]["free_numbers"] == 1
    (errors,) = {round(e, 12) for e in told["charges"]["errors_e"].values()}
    assert 1e-5 < errors < 1e-2
    assert told["warnings"] == []


def test_given_charges(salt: Trajectory, salt_loss: AgentLoss) -> None:
    """The right ones are as good as the learned ones, wrong ones are not; pairs do the rest."""
    right, wrong = (
        fit(salt[:20], replace(SALT_BASIS, charges=text)).loss.provenance
        for text in ("Na=1, Cl=-1", "Na=0.5,Cl=-0.5")
    )
    assert right["charges_e"] == {"Cl": -1.0, "Na": 1.0} and right["charges"]["given"]
    assert right["rmse_meV_per_A"] < 3 < 20 < wrong["rmse_meV_per_A"]


def test_atoms_of_one_element_have_charges_of_their_own() -> None:
    """... where they are bonded differently; each molecule is neutral if that is asked for."""
    topology = topology_of(liquid(["H2O"] * 6 + ["CH3OH"] * 2, CUBE))
    term = present(charge_term(Basis(charges="learn"), [topology], 6.0))
    types = ("C(HHHO(H))", "H(C(HHO))", "H(O(C))", WATERS_H, "O(C(HHH)H)", "O(HH)")
    assert term.owners == term.atom_types == types
    assert term.species == ("C", "O", "H")
    box, each = (
        ChargeForm.of(term, [topology], molecules).directions for molecules in (False, True)
    )
    assert box.shape == (6, 5) and each.shape == (6, 4)
    assert np.abs(np.array([0, 0, 0, 2, 0, 1]) @ each).max() < 1e-12
    water = topology_of(liquid(["H2O"] * 6, CUBE))
    assert present(charge_term(Basis(charges="learn"), [water], 6.0)).owners == ("O", "H")
    given = "O(HH)=-0.8,H(O(H))=0.4,O(C(HHH)H)=-0.6,H(O(C))=0.4,C(HHHO(H))=0.2,H(C(HHO))=0"
    term = present(charge_term(Basis(charges=given), [topology], 6.0))
    assert term.of_atoms(topology)[:3] == pytest.approx([-0.8, 0.4, 0.4])
    with pytest.raises(InputError, match=r"the system holds C, O, H or C\(HHHO\(H\)\), H\(C\(HHO"):
        charge_term(Basis(charges="O(HH)=-0.8,H=0.4"), [topology], 6.0)


def test_a_model_file_holds_types_of_atoms(tmp_path: Path) -> None:
    loss, _ = solution()
    loss.save(tmp_path / "model.json")
    assert AgentLoss.load(tmp_path / "model.json").terms == loss.terms
    text = (tmp_path / "model.json").read_text().replace(WATERS_H, "H; shell rm")
    (tmp_path / "other.json").write_text(text)
    with pytest.raises(InputError, match="'H; shell rm' is no atom type"):
        AgentLoss.load(tmp_path / "other.json")
    salty = liquid(["H2O", "CO2"], CUBE)
    with pytest.raises(InputError, match=r"none of C\(OO\), O\(C\(O\)\)"):
        present(loss.charges).of_atoms(topology_of(salty))


def test_where_there_are_no_charges(salt: Trajectory) -> None:
    """Forces of pairs alone: the charges that are found are none that a fit would trust."""
    short = Basis(accuracy="pairs", cutoff_A=6.2, spacing_A=0.4, charges="none")
    loss = fit(salt[:20], short).loss
    loss = replace(loss, terms=tuple(replace(t, wall_edge_A=0.5) for t in loss.free_terms))
    topology, reach = topology_of(salt), loss.cutoff_A
    frames = salt[20:]
    forces = np.array(
        [
            loss.evaluate(System(topology, x, cell, reach)).forces
            for x, cell in zip(frames.positions, frames.cell, strict=True)
        ]
    )
    noise = np.random.default_rng(0).normal(size=forces.shape) * 0.02
    found = fit(replace(frames, forces=forces + noise), replace(SALT_BASIS, spacing_A=0.4))
    told = found.loss.provenance
    assert abs(told["charges_e"]["Na"]) < 0.05 and not told["charges"]["determined"]
    assert told["warnings"][0].startswith("the data do not determine the charges (Cl ")


@pytest.mark.parametrize("text", ["", "Na", "Na=one", "Na=0,Cl=0", "Na=nan", "Na=99,Cl=-99"])
def test_what_are_no_charges(text: str) -> None:
    with pytest.raises(InputError) as caught:
        Basis(charges=text)
    assert str(caught.value) == (
        "charges are learn, molecules, none, salts, mulliken, hirshfeld, lowdin, resp, or one for"
        f" each element, as Na=1,Cl=-1; found {text!r}"
    )


def test_charges_of_other_species_and_beside_a_collective_loss(salt: Trajectory) -> None:
    with pytest.raises(InputError, match=r"charges of K, Cl are given; the system holds Cl, Na$"):
        fit(salt[:8], Basis(accuracy="pairs", charges="K=1,Cl=-1"))
    with pytest.raises(InputError, match="charges come beside channels, not beside a collective"):
        Basis(collective=2, charges="learn")
    with pytest.raises(InputError, match=r"has a charge of \+32 e"):
        fit(salt[:8], Basis(accuracy="pairs", charges="Na=2,Cl=-1"))
    sodium = salt[:8].select_atoms(np.arange(32))
    with pytest.raises(InputError, match=r"^no charges of Na but zero leave everything neutral"):
        fit(sodium, Basis(accuracy="pairs", charges="learn"))


def test_a_box_that_is_not_neutral(salt_loss: AgentLoss) -> None:
    frame = liquid(["Na"] * 2 + ["Cl"] * 3, CUBE)
    with pytest.raises(InputError) as caught:
        start_from(frame).check(salt_loss)
    assert str(caught.value).startswith("the system (2 Na, 3 Cl) has a charge of -0.99")


def test_the_command_tells_charges(tmp_path: Path) -> None:
    words = ["fit", str(SALT), "-o", str(tmp_path / "m.json"), "--accuracy", "pairs"]
    words += ["--charges", "learn", "--spacing", "0.5", "--json"]
    told = json.loads(invoke(*words).stdout)
    assert told["charges_e"]["Na"] == pytest.approx(1.0, abs=0.02)
    assert AgentLoss.load(tmp_path / "m.json").charges is not None


def test_a_vacuum_is_told_of() -> None:
    """Of a slab, and only where there are charges."""
    frame = liquid(["H2O"] * 8, CUBE)
    loss = invent(frame, cutoff=4.8)
    whole = topology_of(frame).whole(frame.positions, frame.cell)
    slab = replace(frame, positions=whole, cell=frame.cell + np.diag([0, 0, 20.0]))
    assert start_from(frame).check(charged(loss, frame)) == []
    assert start_from(slab).check(loss) == []
    (told,) = start_from(slab).check(charged(loss, frame))
    assert re.match(r"there is a vacuum of 2\d Å along c, and charges act on their images", told)


# --- engines --------------------------------------------------------------------------------------


def test_molten_salt_in_both_engines(
    salt: Trajectory, salt_loss: AgentLoss, tmp_path: Path
) -> None:
    """What was learned, saved and loaded; a charge that somebody changes does not pass."""
    salt_loss.save(tmp_path / "model.json")
    loss, start = AgentLoss.load(tmp_path / "model.json"), start_from(salt[0])
    assert loss.terms == salt_loss.terms
    changed = {"system.xml": r'(?<= q=")-?[\d.]+', "system.data": r"(?<=\n1 1 2 )\S+"}
    export_openmm(loss, start, tmp_path / "openmm")
    export_lammps(loss, start, tmp_path / "lammps")
    for engine, (name, pattern) in zip(("openmm", "lammps"), changed.items(), strict=True):
        directory = {engine: tmp_path / engine}
        verified = verify(loss, salt[::20], 2, directory, per_term=False)
        assert verified.passed, verified.to_dict()
        file = tmp_path / engine / name
        text, n = re.subn(pattern, lambda q: repr(1.01 * float(q[0])), file.read_text(), count=1)
        assert n == 1
        file.write_text(text)
        try:
            assert not verify(loss, salt[:1], 1, directory, per_term=False).passed
        except Exception as error:  # LAMMPS sees that the box is not neutral any more
            assert "not charge neutral" in str(error)
