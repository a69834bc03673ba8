"""Charges of slabs: no image along c does anything to them, in numpy and in both engines."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import openmm
import pytest
from conftest import CUBE, invent, liquid, present, topology_of
from cp2k_output import edit
from openmm import app

from mld_ff.engines.openmm.export import export_openmm
from mld_ff.engines.settings import MD
from mld_ff.engines.start import start_from
from mld_ff.errors import InputError
from mld_ff.geometry.slabs import gaps, in_one_piece
from mld_ff.geometry.system import System
from mld_ff.inference import Basis
from mld_ff.inference.dataset import Dataset
from mld_ff.inference.design import ChargeForm
from mld_ff.inference.sampling import blank_forms
from mld_ff.loss.charges import ChargeTerm, product_features
from mld_ff.loss.model import AgentLoss
from mld_ff.production.simulation import run as simulate
from mld_ff.sources.cp2k import open_cp2k
from mld_ff.trajectory import Floats, Trajectory
from mld_ff.verification import verify

CUTOFF_A = 4.8
DATA = Path(__file__).parent / "data" / "cp2k"
CHARGES = {"O": -0.82, "H": 0.41, "Na": 1.0, "Cl": -1.0}


def slab(height_A: float, tilted: bool = False) -> Trajectory:
    """Waters and ions, 12 Å thick, in a cell of this height; its boundary is within the slab."""
    frame = liquid(["H2O"] * 8 + ["Na", "Cl"] * 3, CUBE, seed=4)
    cell = frame.cell[0] * [1, 1, height_A / frame.cell[0, 2, 2]]
    if tilted:
        cell[1:] += [[3.0, 0, 0], [2.0, 1.0, 0]]
    whole = topology_of(frame).whole(frame.positions, frame.cell)
    return replace(frame, cell=cell[None], positions=whole - [0, 0, 5.0])


def model(frame: Trajectory) -> AgentLoss:
    loss = invent(frame, cutoff=CUTOFF_A)
    charges = tuple(CHARGES[s] for s in loss.species)
    term = ChargeTerm(
        name="charge", species=loss.species, coefficients=charges, cutoff_A=CUTOFF_A, slab=True
    )
    return replace(loss, terms=(*loss.terms, term))


def system(frame: Trajectory) -> System:
    return System(topology_of(frame), frame.positions[0], frame.cell[0], CUTOFF_A)


def test_how_high_the_cell_is_does_not_matter() -> None:
    """... from a vacuum on that is twice as wide as the cell; with images it does, by 0.1 eV/Å."""
    forces, loss = [], model(slab(60)).only("charge")
    for height_A in (45, 70):
        frame = slab(height_A)
        forces.append(loss.evaluate(system(frame)).forces)
        split = replace(frame, positions=frame.positions % [12, 12, height_A])
        assert loss.evaluate(system(split)).forces == pytest.approx(forces[-1], abs=1e-9)
    assert np.abs(forces[0] - forces[1]).max() < 1e-4
    periodic = replace(present(loss.charges), slab=False)
    with_images = replace(loss, terms=(*loss.terms[:-1], periodic))
    assert np.abs(with_images.evaluate(system(slab(45))).forces - forces[0]).max() > 0.05


def test_energy_forces_virial_and_products_belong_together() -> None:
    """In a tilted cell, whose boundary the slab crosses."""
    frame = slab(26, tilted=True)
    loss, (positions, cell) = model(frame).only("charge"), (frame.positions[0], frame.cell[0])
    result, topology = loss.evaluate(system(frame)), topology_of(frame)

    def energy(moved: Floats, deformed: Floats = cell) -> float:
        return loss.evaluate(System(topology, moved, deformed, CUTOFF_A)).energy

    there, step = np.zeros_like(positions), 1e-3
    there[25, 2] = step
    slope = (energy(positions + there) - energy(positions - there)) / (2 * step)
    assert result.forces[25, 2] == pytest.approx(-slope, abs=1e-5)
    for a, b in ((2, 2), (0, 2)):
        strain = np.zeros((3, 3))
        strain[a, b] = step / 5
        more, less = np.eye(3) + strain, np.eye(3) - strain
        slope = energy(positions @ more, cell @ more) - energy(positions @ less, cell @ less)
        assert result.virial[a, b] == pytest.approx(slope / (2 * step / 5), abs=1e-3)
    term = present(loss.charges)
    q, (one, other) = np.array(term.coefficients), np.triu_indices(len(term.coefficients))
    products = q[one] * q[other] * np.where(one == other, 1, 2)
    forces, virials = product_features(term, system(frame))
    largest = np.abs(result.forces).max()
    assert np.abs(forces @ products - result.forces.ravel()).max() < 1e-4 * largest
    assert virials @ products == pytest.approx(result.virial, abs=1e-2)


def test_both_engines_compute_charges_of_a_slab(tmp_path: Path) -> None:
    """So does what forcefield.xml makes. In a tilted cell, as `kspace_modify slab` takes none."""
    frame = slab(26, tilted=True)
    loss = model(frame)
    verified = verify(loss, frame, per_term=False)
    assert verified.passed, verified.to_dict()
    export_openmm(loss, start_from(frame), tmp_path)
    topology = app.PDBFile(str(tmp_path / "topology.pdb")).topology
    forcefield = app.ForceField(str(tmp_path / "forcefield.xml"))
    made = forcefield.createSystem(topology, nonbondedMethod=app.CutoffPeriodic)
    platform = openmm.Platform.getPlatform("CPU")
    context = openmm.Context(made, openmm.VerletIntegrator(0.001), platform)
    context.setPositions(start_from(frame).frame.positions[0] / 10)
    energy = context.getState(energy=True).getPotentialEnergy()._value / 96.4853321
    assert energy == pytest.approx(verified.energy_eV, abs=1e-3)


def test_a_slab_is_in_one_piece_in_the_middle() -> None:
    frame = slab(26, tilted=True)
    cell = frame.cell[0]
    split = replace(frame, positions=frame.positions - 3 * cell[1] + np.array([0, 0, 5.0]))
    placed = start_from(split).frame
    assert np.ptp(placed.positions[0, :, 2]) == pytest.approx(np.ptp(frame.positions[0, :, 2]))
    thick, middle = gaps(placed.positions[0], placed.cell[0])
    assert abs(middle[2] - round(middle[2])) < 1e-9 and 10 < thick[2] < 14
    heights = placed.positions[0, :, 2] / placed.cell[0, 2, 2]
    assert heights.min() == pytest.approx(1 - heights.max()) and heights.min() > 0.2
    again = in_one_piece(topology_of(frame), frame.positions[0] + 2 * cell[2], cell)
    assert np.ptp(again[:, 2]) == pytest.approx(np.ptp(frame.positions[0, :, 2]))


def test_what_is_no_slab_is_refused(tmp_path: Path) -> None:
    bulk, frame = liquid(["H2O"] * 8 + ["Na", "Cl"] * 3, CUBE, seed=4), slab(26)
    with pytest.raises(InputError) as caught:
        start_from(bulk).check(model(bulk))
    assert str(caught.value).endswith(
        "and charges of a slab need more than 8 Å between it and its images: give such a box, or"
        " fit charges to data that are periodic along c"
    )
    low = replace(bulk, forces=bulk.positions, origin=replace(bulk.origin, slab=True))
    with pytest.raises(InputError, match=r"compute a higher cell, or fit with --charges none"):
        _ = Dataset.of([low]).is_slab
    with pytest.raises(InputError, match="whose vacuum a barostat would close: run it at constant"):
        simulate(model(frame), frame, "openmm", tmp_path / "run", MD(ensemble="npt"))
    model(frame).save(tmp_path / "model.json")
    assert present(AgentLoss.load(tmp_path / "model.json").charges).slab
    text = (tmp_path / "model.json").read_text().replace('"slab": true', '"slab": 1')
    (tmp_path / "model.json").write_text(text)
    with pytest.raises(InputError, match="slab is 1; expected true or false"):
        AgentLoss.load(tmp_path / "model.json")


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("ABC 13 13 13", "ABC 13 13 13\nPERIODIC XY", True),
        ("ABC 13 13 13", "ABC 13 13 13\nPERIODIC XZ", False),
        ("&END FORCE_EVAL", "&DFT\nSURFACE_DIPOLE_CORRECTION .TRUE.\n&END\n&END FORCE_EVAL", True),
        ("&END FORCE_EVAL", "&DFT\nSURFACE_DIPOLE_CORRECTION F\n&END\n&END FORCE_EVAL", False),
        (
            "&SUBSYS\n    &CELL\n      ABC 13 13 13",
            "&DFT\nSURFACE_DIPOLE_CORRECTION\n&END\n&SUBSYS\n&CELL\nABC 13 13 13\nPERIODIC NONE",
            False,
        ),
    ],
)
def test_cp2k_says_what_is_a_slab(tmp_path: Path, old: str, new: str, expected: bool) -> None:
    """A fit begins with charges of the same kind, or refuses to mix kinds."""
    directory = shutil.copytree(DATA / "argon", tmp_path / "argon")
    plain = open_cp2k(directory)
    edit(directory / "argon.inp", old, new)
    source = open_cp2k(directory)
    assert source.origin.slab is expected
    if expected:
        with pytest.raises(InputError, match="some are periodic along c, and others are slabs"):
            _ = Dataset.of([source, plain]).is_slab


def test_a_fit_of_a_slab_has_charges_of_one() -> None:
    frame = slab(26)
    frames = replace(frame, forces=np.ones_like(frame.positions))
    marked = replace(frames, origin=replace(frames.origin, slab=True))
    for source in (frames, marked):
        *_, form = blank_forms(Dataset.of(source), Basis(accuracy="pairs", charges="learn"))
        assert isinstance(form, ChargeForm) and form.term.slab is source.origin.slab
