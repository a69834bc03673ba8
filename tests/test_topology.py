"""Who is bonded to whom: on water from CP2K, on small molecules anywhere in any cell, and where it
must be refused.
"""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from ase.neighborlist import build_neighbor_list, get_connectivity_matrix
from conftest import CUBE, TRICLINIC, frame_of, liquid, named_pairs, shuffled, topology_of
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse.csgraph import shortest_path

from mld_ff.engines.residues import to_parmed
from mld_ff.engines.start import start_from
from mld_ff.errors import InputError
from mld_ff.geometry.pairs import minimum_image
from mld_ff.geometry.system import changes
from mld_ff.geometry.topology import Topology, find_topology
from mld_ff.trajectory import Trajectory

MOLECULES = {
    "methanol": "CH3OH",
    "ammonia": "NH3",
    "ethanol": "CH3CH2OH",
    "benzene": "C6H6",
    "cyclopropane": "C3H6_D3h",
    "oxirane": "CH2OCH2",
    "pyridine": "C5H5N",
    "bicyclobutane": "bicyclobutane",
}
MIXTURE = ["H2O"] * 4 + ["CH3OH"] * 2 + ["C5H5N", "Cl"]


def counts(topology: Topology) -> dict[str, int]:
    return {topology.bonded_names[path]: len(pairs) for path, pairs in topology.bonded.items()}


# --- which pairs are bonded, and what they are called ---------------------------------------------


def test_water(few: Trajectory) -> None:
    topology = topology_of(few[0])
    assert topology.formulas() == {"H2O": 64}
    assert counts(topology) == {"bonded:O-H": 128, "bonded:H-H": 64}
    assert topology.bonded_names == {("O", "H"): "bonded:O-H", ("H", "O", "H"): "bonded:H-H"}
    assert topology.free == [("O", "O"), ("O", "H"), ("H", "H")]
    assert changes(topology, few) == []


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("NH3", {"N-H": 3, "H-H": 3}),
        ("CH3OH", {"O-H": 1, "C-O": 1, "C-H": 3, "O-C-H": 3, "C-O-H": 1, "H-C-H": 3, "H-C-O-H": 3}),
        ("C3H6_D3h", {"C-C": 3, "C-H": 6, "C-C-H": 12, "H-C-H": 3, "H-C-C-H": 12}),
        (
            "C6H6",
            {"C-C": 6, "C-C-C": 6, "C-C-C-C": 3, "C-H": 6, "C-C-H": 12, "C-C-C-H": 12, "H-H": 6},
        ),
    ],
)
@pytest.mark.parametrize("cell", [CUBE, TRICLINIC], ids=["cube", "triclinic"])
def test_names_tell_ambiguous_paths_apart(
    name: str, expected: dict[str, int], cell: np.ndarray
) -> None:
    """Counted by hand from the structural formula."""
    counted = counts(topology_of(liquid([name], cell)))
    assert counted == {f"bonded:{key}": n for key, n in expected.items()}


@pytest.mark.parametrize("name", MOLECULES.values(), ids=MOLECULES)
@pytest.mark.parametrize("cell", [CUBE, TRICLINIC], ids=["cube", "triclinic"])
def test_all_pairs_up_to_three_bonds_apart(name: str, cell: np.ndarray) -> None:
    """Against ASE's connectivity of the isolated molecule, for a molecule that the cell cuts into
    pieces.
    """
    isolated = molecule(name)
    graph = get_connectivity_matrix(build_neighbor_list(isolated, self_interaction=False).nl)
    apart = shortest_path(graph, directed=False, unweighted=True)
    near = np.argwhere((apart >= 1) & (apart <= 3)).tolist()
    expected = {(i, j): int(apart[i, j]) for i, j in near if i < j}
    topology = topology_of(liquid([name], cell, jitter=0.0))
    bonds_apart = {
        (int(i), int(j)): len(path) - 1 for path, pairs in topology.bonded.items() for i, j in pairs
    }
    assert bonds_apart == expected
    i, j = np.triu_indices(len(isolated), 1)
    assert topology.is_bonded(i, j).tolist() == [
        pair in expected for pair in zip(i.tolist(), j.tolist(), strict=True)
    ]
    assert len(topology.molecules) == 1


def test_hydrogen_alone_is_bonded_as_far_as_beside_others() -> None:
    """0.9 Å are more than its radii reach: 7 of 27 molecules of a gas at 300 K were atoms."""
    positions = np.array([[0.0, 0, 0], [0.9, 0, 0], [5, 5, 5], [5, 5, 5.7]])
    assert topology_of(frame_of(["H"] * 4, positions, CUBE)).formulas() == {"H2": 2}


def test_mixture_with_single_ions() -> None:
    topology = topology_of(liquid(["H2O", "H2O", "Na", "Cl"], CUBE))
    assert topology.formulas() == {"H2O": 2, "Na": 1, "Cl": 1}
    assert counts(topology) == {"bonded:O-H": 4, "bonded:H-H": 2}
    everyone = {frozenset(pair) for pair in topology.free}
    assert everyone == {
        frozenset(p.split()) for p in ("O", "O H", "O Na", "O Cl", "H", "H Na", "H Cl", "Na Cl")
    }


@pytest.mark.parametrize(
    ("ion", "partner", "distance"),
    [("Na", "O", 2.4), ("K", "O", 2.8), ("Cl", "H", 2.2)],
)
def test_ion_in_its_shell_of_water_is_no_molecule(ion: str, partner: str, distance: float) -> None:
    """Distances of the first shell in solution."""
    water = molecule("H2O")
    k = water.get_chemical_symbols().index(partner)
    away = water.positions[k] - water.get_center_of_mass()
    away = away / np.linalg.norm(away)
    positions = [*water.positions, water.positions[k] + distance * away]
    frame = frame_of([*water.get_chemical_symbols(), ion], np.array(positions) + 6, CUBE)
    assert topology_of(frame).formulas() == {"H2O": 1, ion: 1}


@pytest.mark.parametrize(
    "crystal",
    [
        bulk("C", "diamond", a=3.567, cubic=True) * 4,
        bulk("ZnS", "zincblende", a=5.41, cubic=True) * 4,
    ],
    ids=["diamond", "ZnS"],
)
def test_network_is_no_molecule(crystal: Atoms) -> None:
    symbols, x, cell = crystal.get_chemical_symbols(), crystal.positions, crystal.cell[:]
    with pytest.raises(
        InputError,
        match=r"512 of 512 atoms hang together .* no molecules.*; choose --topology none",
    ):
        find_topology(symbols, x, cell, "molecules")
    topology = find_topology(symbols, x, cell)
    assert topology.no_molecules.startswith("bonds connect 512 of 512 atoms with their own")
    assert not len(topology.bonds) and not topology.bonded and topology.kind == "none"


NANOPARTICLE = bulk("Pt", "fcc", a=3.92, cubic=True) * 3


@pytest.mark.parametrize(
    ("atoms", "cell", "why"),
    [
        (bulk("Pt", "fcc", a=3.92), 1.0, "bonds connect 1 of 1 atoms with their own"),
        (fcc111("Pt", (2, 2, 3), vacuum=8.0), 1.0, "bonds connect 12 of 12 atoms"),
        (NANOPARTICLE, 2.5, "metals are bonded to each other"),
        (bulk("NaCl", "rocksalt", a=5.64, cubic=True) * 2, 1.0, "no two atoms are bonded"),
    ],
    ids=["one atom", "slab", "nanoparticle", "salt"],
)
def test_metals_and_salts_have_no_molecules(atoms: Atoms, cell: float, why: str) -> None:
    topology = find_topology(atoms.get_chemical_symbols(), atoms.positions, cell * atoms.cell[:])
    assert topology.no_molecules.startswith(why)
    assert all(name.startswith("any:") for name in topology.free_names.values())


def test_pairs_of_a_frame_are_each_named_once(few: Trajectory) -> None:
    """Every pair below the cutoff belongs to one name; bonded ones are there at any distance."""
    topology = topology_of(few[0])
    x, cell, cutoff = few.positions[0], few.cell[0], 5.0
    seen: Counter[tuple[int, int]] = Counter()
    for name, pairs in named_pairs(topology, x, cell, cutoff):
        seen.update(
            (min(i, j), max(i, j)) for i, j in zip(pairs.i.tolist(), pairs.j.tolist(), strict=True)
        )
        ends = {
            frozenset((topology.symbols[i], topology.symbols[j]))
            for i, j in zip(pairs.i, pairs.j, strict=True)
        }
        assert ends == {frozenset(name.split(":")[1].split("-"))}
        assert np.allclose(np.linalg.norm(pairs.vector, axis=1), pairs.r)
    i, j = np.triu_indices(topology.n_atoms, 1)
    d = x[j] - x[i]
    length = np.diag(cell)
    r = np.linalg.norm(d - length * np.round(d / length), axis=1)
    expected = {(int(a), int(b)) for a, b in zip(i[r < cutoff], j[r < cutoff], strict=True)}
    assert set(seen) == expected and set(seen.values()) == {1}


# --- properties -----------------------------------------------------------------------------------


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 10**6),
    shift=st.tuples(*[st.floats(-50, 50)] * 3),
    triclinic=st.booleans(),
    images=st.booleans(),
)
def test_topology_depends_on_nothing_but_who_is_near(
    seed: int, shift: tuple[float, ...], triclinic: bool, images: bool
) -> None:
    """Translation, other periodic images of any atom, another order of atoms: the same bonds under
    the same names.
    """
    cell = TRICLINIC if triclinic else CUBE
    frame = liquid(MIXTURE, cell, seed=3)
    expected = topology_of(frame)
    other, order = shuffled(frame, seed)
    x = other.positions + np.array(shift)
    if images:
        x = x + np.random.default_rng(seed).integers(-2, 3, size=x.shape) @ cell
    again = topology_of(replace(other, positions=x))
    assert again.bonded_names == expected.bonded_names
    assert sorted(again.formulas().items()) == sorted(expected.formulas().items())
    for path, pairs in expected.bonded.items():
        back = np.sort(order[again.bonded[path]], axis=1)
        assert sorted(map(tuple, back.tolist())) == sorted(map(tuple, pairs.tolist())), path


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10**6), triclinic=st.booleans())
def test_whole_molecules(seed: int, triclinic: bool) -> None:
    """In one piece, first atom inside, and no distance between any two atoms changed."""
    cell = TRICLINIC if triclinic else CUBE
    frame = liquid(MIXTURE, cell, seed=seed % 7)
    frame, _ = shuffled(frame, seed)
    x = (
        frame.positions[0]
        + np.random.default_rng(seed).integers(-2, 3, size=(frame.n_atoms, 3)) @ cell
    )
    topology = find_topology(frame.symbols, x, cell)
    whole = topology.whole(x, cell)
    lattice = (whole - x) @ np.linalg.inv(cell)
    assert np.abs(lattice - np.round(lattice)).max() < 1e-9
    every = np.stack(np.triu_indices(frame.n_atoms, 1), axis=1)
    assert minimum_image(whole, cell, every).r == pytest.approx(
        minimum_image(x, cell, every).r, abs=1e-9
    )
    for i, j in topology.bonds:
        assert np.linalg.norm(whole[i] - whole[j]) < 1.7
    first = np.array([atoms[0] for atoms in topology.molecules])
    inside = whole[first] @ np.linalg.inv(cell)
    assert inside.min() > -1e-9 and inside.max() < 1 + 1e-9


# --- bonds that break -----------------------------------------------------------------------------


def two_waters() -> Trajectory:
    """O1 H2 H3 and O4 H5 H6; H2 points along +x at O4, over the boundary of the cell."""
    positions = [
        (11.0, 6, 6),
        (11.96, 6, 6),
        (10.7, 6.9, 6),
        (13.9, 6, 6),
        (14.2, 6.9, 6),
        (14.2, 5.5, 6.8),
    ]
    return frame_of("OHHOHH", np.array(positions) % 12, CUBE)


def later(frame: Trajectory, atom: int, x: float, step: int) -> Trajectory:
    """The frame at a later step with one coordinate x changed."""
    positions = frame.positions.copy()
    positions[0, atom, 0] = x
    return replace(frame, positions=positions, step=np.array([step]), time=np.array([step * 0.5]))


def test_proton_transfer_is_reported() -> None:
    frame = two_waters()
    topology = topology_of(frame)
    assert topology.formulas() == {"H2O": 2}
    assert changes(topology, later(frame, 1, 12.4, 10)) == []  # 1.40 Å and 1.50 Å: still its own
    (change,) = changes(topology, later(frame, 1, 12.5, 20))
    assert (change.step, change.time_fs, change.atoms) == (20, 10.0, (1, 0, 3))
    assert change.what == "the proton H2 left O1 (1.50 Å) for O4 (1.40 Å)"


def test_broken_bond_is_reported() -> None:
    """Beyond 1.6 (0.66 + 0.31) Å = 1.552 Å."""
    frame = two_waters()
    topology = topology_of(frame)
    positions = frame.positions.copy()
    positions[0, 2] = positions[0, 0] + np.array([0, 1.54, 0])
    assert changes(topology, replace(frame, positions=positions)) == []
    positions[0, 2] = positions[0, 0] + np.array([0, 1.56, 0])
    (change,) = changes(topology, replace(frame, positions=positions, step=np.array([7])))
    assert (change.step, change.atoms) == (7, (0, 2))
    assert change.what == "the bond O1–H3 is stretched to 1.56 Å"


# --- ParmEd ---------------------------------------------------------------------------------------


def test_parmed_structure(few: Trajectory) -> None:
    frame = few[0]
    order = topology_of(frame).molecule_order
    frame = frame.select_atoms(order)
    assert frame.velocities is not None
    structure = to_parmed(
        topology_of(frame),
        frame.positions[0],
        frame.cell[0],
        frame.masses,
        velocities=frame.velocities[0],
    )
    assert [residue.name for residue in structure.residues] == ["HOH"] * 64
    assert {tuple(atom.name for atom in residue) for residue in structure.residues} == {
        ("O", "H1", "H2")
    }
    assert len(structure.bonds) == 128
    assert {
        tuple(sorted((b.atom1.element_name, b.atom2.element_name))) for b in structure.bonds
    } == {("H", "O")}
    assert all(bond.atom1.residue is bond.atom2.residue for bond in structure.bonds)
    assert structure.box == pytest.approx([12.444661] * 3 + [90] * 3)
    assert np.array(structure.coordinates) == pytest.approx(frame.positions[0])
    assert structure.velocities == pytest.approx(1000 * frame.velocities[0], abs=1e-6)  # Å/ps
    assert [a.mass for a in structure.atoms[:2]] == pytest.approx([15.999, 1.008], abs=1e-3)


def test_parmed_structure_of_a_mixture() -> None:
    frame = liquid(["CH3OH", "Na", "H2O"], TRICLINIC)
    topology = topology_of(frame)
    structure = to_parmed(topology, frame.positions[0], frame.cell[0])
    assert [residue.name for residue in structure.residues] == ["M01", "NA", "HOH"]
    assert {a.name for a in structure.residues[0]} == {"C", "O", "H1", "H2", "H3", "H4"}
    assert structure.box == pytest.approx([12.5, 13.0, 12.8, 76, 97, 68])
    assert all(len(residue.name) <= 3 for residue in structure.residues)


def test_parmed_structure_wants_contiguous_molecules(few: Trajectory) -> None:
    topology = topology_of(few[0])
    with pytest.raises(
        ValueError, match=r"not contiguous: select frames in Topology\.molecule_order"
    ):
        to_parmed(topology, few.positions[0], few.cell[0])


def test_parmed_is_asked_for_where_it_is_missing(
    few: Trajectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "parmed", None)
    with pytest.raises(InputError) as error:
        start_from(few[0]).structure  # noqa: B018
    assert str(error.value) == (
        "ParmEd is not installed, and a ParmEd Structure needs it: pip install parmed (with a C++"
        " compiler at hand)"
    )
