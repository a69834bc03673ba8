"""Systems and losses that the tests share: water as CP2K gave it, liquids at random, and invented
functions.
"""

from __future__ import annotations

import io
import lzma
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import PIL.Image
import pytest
from ase import Atoms
from ase.build import molecule
from ase.geometry import cellpar_to_cell
from hypothesis import settings

from mld_ff.engines.settings import MD
from mld_ff.geometry.pairs import Pairs
from mld_ff.geometry.system import System
from mld_ff.geometry.topology import Topology, find_topology
from mld_ff.inference import Basis, fit
from mld_ff.inference.basis import ORDER_NAMES
from mld_ff.loss.bonds import BondTerm
from mld_ff.loss.densities import DensityTerm
from mld_ff.loss.free_pairs import PowerTerm, SplineTerm
from mld_ff.loss.model import AgentLoss
from mld_ff.loss.terms import FreeTerm, Term
from mld_ff.production.record import read_record
from mld_ff.production.simulation import run
from mld_ff.sources.cp2k import open_cp2k
from mld_ff.sources.cp2k.run.inputs import Reference
from mld_ff.sources.packing import Ingredient, find_molecule, pack
from mld_ff.sources.source import FileSource
from mld_ff.trajectory import Floats, Ints, Trajectory

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OPENMM_CPU_THREADS"):
    # tests already run in a process per core, which inherits this before it loads anything
    os.environ.setdefault(variable, "1")
settings.register_profile("any machine", deadline=None)  # 0.2 s are over where others work too
settings.load_profile("any machine")
os.environ.pop("COLUMNS", None)  # the console keeps what it finds when it is made: tests set it

LONGEST = (
    *("test_study.py", "test_export.py", "test_cli.py", "test_verify.py", "test_channels.py"),
    *("test_fit.py", "test_shards.py", "test_docs.py", "test_long_runs.py"),
)
"""Files of 8 to 23 s of the suite's 255: begun last they leave one worker idle for 10 s."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name not in LONGEST)


EXAMPLE = Path(__file__).parent.parent / "examples" / "water" / "cp2k"
SHORT = Path(__file__).parent / "data/cp2k/water64"
"""Three frames of the same run."""
CUBE = 12.0 * np.eye(3)
TRICLINIC = cellpar_to_cell([12.5, 13.0, 12.8, 76, 97, 68])
"""Lower triangular, but with tilts that still have to be reduced."""


T = TypeVar("T")


def present(value: T | None) -> T:
    """What a test knows to be there."""
    assert value is not None
    return value


# --- water ----------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def water_source() -> FileSource:
    """The shipped example, which takes 1 s to open and 1 s to read."""
    return open_cp2k(EXAMPLE)


@pytest.fixture(scope="session")
def water(water_source: FileSource) -> Trajectory:
    """The shipped example: 64 waters of a CP2K run at 300 K."""
    return water_source.read()


@pytest.fixture(scope="session")
def late_water(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of the example from 5.9 ps on, which are read in a tenth of the time."""
    directory = tmp_path_factory.mktemp("late-water")
    for file in EXAMPLE.iterdir():
        if file.name.endswith(".xyz.xz"):
            with lzma.open(file, "rt") as frames:
                (directory / file.stem).write_text("".join(frames.readlines()[590 * 194 :]))
        else:
            shutil.copy(file, directory)
    return directory


@pytest.fixture(scope="session")
def few(water: Trajectory) -> Trajectory:
    """40 frames spread over the example."""
    return water[np.linspace(0, water.n_frames - 1, 40).astype(int)]


TEST_FRAMES = [16, 17, 18, 19, 36, 37, 38, 39]
"""Of these 40 in ten contiguous blocks, every fifth of which is for testing."""


@pytest.fixture(scope="session")
def spline_water(few: Trajectory) -> AgentLoss:
    return fit(few, Basis("spline", spacing_A=0.2, bond_degree=4, accuracy="pairs")).loss


@pytest.fixture(scope="session")
def power_water(few: Trajectory) -> AgentLoss:
    return fit(few, Basis("power", (3.0,), bond_degree=2)).loss


@pytest.fixture(scope="session")
def collective_water(few: Trajectory) -> AgentLoss:
    return fit(few, Basis(spacing_A=0.4, collective=2)).loss


# --- reports --------------------------------------------------------------------------------------


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are a point each, and do not answer: a page draws for 8 s; test_study.py and
    regression/test_browser.py look at one.
    """
    point = io.BytesIO()
    PIL.Image.new("RGB", (1, 1)).save(point, "PNG")
    written = point.getvalue()
    monkeypatch.setattr(
        "matplotlib.figure.Figure.savefig", lambda _, file, **__: file.write(written)
    )
    monkeypatch.setattr("mld_ff.report.interactive.embed", lambda figures: ("", {}))
    monkeypatch.setattr("mld_ff.report.movies.plot_atoms", lambda *_, **__: None)


# --- liquids at random ----------------------------------------------------------------------------


def frame_of(symbols: Sequence[str], positions: Floats, cell: Floats, **more: Any) -> Trajectory:
    """A trajectory of one frame, masses as ASE has them."""
    atoms = Atoms(symbols)
    return Trajectory(
        symbols=tuple(symbols),
        masses=atoms.get_masses(),
        positions=np.array(positions, dtype=float)[None],
        cell=np.array(cell, dtype=float)[None],
        time=np.zeros(1),
        step=np.zeros(1, np.int64),
        **more,
    )


def liquid(
    names: Sequence[str], cell: Floats, seed: int = 0, jitter: float = 0.03, wrap: bool = True
) -> Trajectory:
    """Molecules (names of ase.build.molecule, or an element) turned at random, one on each cell of
    a grid in the box.

    Many of them straddle the boundary; `wrap` then puts every atom inside the cell on its own.
    """
    rng = np.random.default_rng(seed)
    n = int(np.ceil(len(names) ** (1 / 3)))
    grid = np.stack(np.meshgrid(*[np.arange(n) / n] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    symbols: list[str] = []
    positions = []
    for name, place in zip(names, grid[rng.permutation(len(grid))], strict=False):
        atoms = (
            molecule(name) if len(name) > 2 or name == "CO" else Atoms(name, positions=[(0, 0, 0)])
        )
        turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
        symbols += atoms.get_chemical_symbols()
        positions.append((atoms.positions - atoms.positions.mean(axis=0)) @ turn + place @ cell)
    x = np.concatenate(positions) + rng.normal(size=(len(symbols), 3)).clip(-2, 2) * jitter
    if wrap:
        fractional = x @ np.linalg.inv(cell)
        x = (fractional - np.floor(fractional)) @ cell
    return frame_of(symbols, x, cell)


def waters(count: int, density: float = 0.997, seed: int = 1) -> Trajectory:
    """A box of packed water."""
    return pack([Ingredient(find_molecule("H2O"), count)], density, seed)


def topology_of(frame: Trajectory) -> Topology:
    return find_topology(frame.symbols, frame.positions[0], frame.cell[0])


def shuffled(frame: Trajectory, seed: int) -> tuple[Trajectory, Ints]:
    """The same atoms in another order, and that order."""
    order = np.random.default_rng(seed).permutation(frame.n_atoms)
    return frame.select_atoms(order), order


# --- invented losses ------------------------------------------------------------------------------


def free_term(
    species: tuple[str, str],
    kind: str = "spline",
    exponents: tuple[float, ...] = (3.0,),
    cutoff: float = 5.0,
    edge: float = 2.0,
    seed: int = 0,
) -> FreeTerm:
    """A function of some 0.1 eV, of both signs, with a wall below `edge`."""
    rng = np.random.default_rng([seed, *map(ord, "".join(species))])
    common: dict[str, Any] = {
        "name": f"free:{species[0]}-{species[1]}",
        "species": species,
        "cutoff_A": cutoff,
        "wall_edge_A": edge,
        "wall_stiffness_eV_per_A3": 12.5,
    }
    if kind == "spline":
        n = round((cutoff - 1.0) / 0.2)
        return SplineTerm(coefficients=tuple(0.1 * rng.normal(size=n)), spacing_A=0.2, **common)
    m = len(exponents)
    term = PowerTerm(coefficients=(0.0,) * (m + m * (m + 1) // 2), exponents=exponents, **common)
    size = np.abs(term.basis(np.array([2.5]))[0])
    return replace(term, coefficients=tuple(0.1 * rng.normal(size=len(size)) / size))


def bond_term(
    name: str, path: tuple[str, ...], r: Floats, degree: int = 4, seed: int = 0
) -> BondTerm:
    """A polynomial about the mean of the distances r, whose walls begin inside the range of r."""
    rng = np.random.default_rng([seed, *map(ord, name)])
    stiff = np.array([0.2, 10.0, 8.0, 20.0, 20.0, 20.0])[:degree]
    low, high = round(float(r.min()) + 0.01, 2), round(float(r.max()) - 0.01, 2)
    return BondTerm(
        name=name,
        species=(path[0], path[-1]),
        coefficients=tuple(stiff * (1 + 0.3 * rng.normal(size=degree))),
        path=path,
        r0_A=round(float(r.mean()), 4),
        range_A=(min(low, high - 0.02), high),
        wall_stiffness_eV_per_A3=(25.0, 40.0),
    )


def channel(species: Sequence[str], centre: str, number: int, seed: int = 0) -> DensityTerm:
    """A density of either sign to 4 Å whose sampled range is so narrow that atoms of any liquid lie
    beyond it.
    """
    rng = np.random.default_rng([seed, number, *map(ord, centre)])
    functions = tuple(3 + k % 3 for k in range(len(species)))
    low = float(rng.normal())
    return DensityTerm(
        name=f"collective:{centre}:{number}",
        species=(centre,),
        neighbours=tuple(species),
        functions=functions,
        coefficients=tuple(rng.normal(size=sum(functions))),
        spacing_A=0.5,
        cutoff_A=4.0,
        strength_eV=0.1 * float(rng.normal()),
        rest=low + 0.3,
        range=(low, low + 0.8),
        fade=0.3,
    )


def with_channels(loss: AgentLoss, rank: int = 2) -> AgentLoss:
    """The same loss with so many channels for every species."""
    added = [channel(loss.species, s, k) for s in loss.species for k in range(1, rank + 1)]
    return replace(loss, terms=(*loss.terms, *added))


def angular_channel(
    species: Sequence[str], order: int, number: int = 1, seed: int = 0, cutoff: float = 4.0
) -> DensityTerm:
    """A density of order 1 or 2 of either sign, of every agent."""
    rng = np.random.default_rng([seed, number, order])
    kinds = tuple(f"{a}-{b}" for a, b in combinations_with_replacement(species, 2))
    functions = tuple(3 + k % 3 for k in range(len(kinds)))
    return DensityTerm(
        name=f"{ORDER_NAMES[order]}:{number}",
        species=tuple(species),
        neighbours=kinds,
        functions=functions,
        coefficients=tuple(rng.normal(size=sum(functions))),
        spacing_A=0.5,
        cutoff_A=cutoff,
        strength_eV=0.1 * float(rng.normal()),
        range=(0.0, 1.0),
        order=order,
    )


def with_angles(loss: AgentLoss, rank: int = 2, cutoff: float = 4.0) -> AgentLoss:
    """The same loss with so many channels of order 1 and of order 2."""
    more = [
        angular_channel(loss.species, order, k, cutoff=cutoff)
        for order in (1, 2)
        for k in range(1, rank + 1)
    ]
    return replace(loss, terms=(*loss.terms, *more))


def invent(
    frame: Trajectory, kind: str = "spline", exponents: tuple[float, ...] = (3.0,), **options: Any
) -> AgentLoss:
    """A loss with a term for every kind of pair of the frame; some pairs lie beyond walls."""
    topology = topology_of(frame)
    bond_options = {"degree": options.pop("degree")} if "degree" in options else {}
    terms: list[Term] = []
    pairs_of = dict(named_pairs(topology, frame.positions[0], frame.cell[0], 1.0))
    for path, name in topology.bonded_names.items():
        terms.append(bond_term(name, path, pairs_of[name].r, **bond_options))
    terms += [free_term(pair, kind, exponents, **options) for pair in topology.free]
    return AgentLoss(topology.species, tuple(terms))


def evaluate(
    loss: AgentLoss, topology: Topology, positions: Floats, cell: Floats
) -> tuple[dict[str, float], Floats]:
    """numpy's energies by term and forces."""
    result = loss.evaluate(System(topology, positions, cell, loss.cutoff_A))
    return result.energies, result.forces


def named_pairs(
    topology: Topology, positions: Floats, cell: Floats, cutoff_A: float
) -> Iterator[tuple[str, Pairs]]:
    return System(topology, positions, cell, cutoff_A).pairs(cutoff_A)


def coefficients_of(loss: AgentLoss) -> list[tuple[float, ...]]:
    return [term.coefficients for term in loss.terms]


def energy_and_forces(loss: AgentLoss, frame: Trajectory) -> tuple[float, Floats]:
    """numpy's, of the frame as it stands."""
    energies, forces = evaluate(loss, topology_of(frame), frame.positions[0], frame.cell[0])
    return sum(energies.values()), forces


# --- a teacher, and what little it has shown ------------------------------------------------------

COLD_K = 100.0
TEACHER_BASIS = Basis(spacing_A=0.3, cutoff_A=4.0, accuracy="pairs")


class Teacher:
    """Stands for CP2K: the forces of a model of its own; notes what it was asked."""

    def __init__(self, loss: AgentLoss, first: Trajectory) -> None:
        self.loss, self.topology, self.asked = loss, topology_of(first), list[int]()

    def __call__(
        self, directory: Path, reference: Reference, frames: Trajectory, progress: Any
    ) -> Trajectory:
        self.asked.append(frames.n_frames)
        return self.label(frames)

    def label(self, frames: Trajectory) -> Trajectory:
        pairs = zip(frames.positions, frames.cell, strict=True)
        forces = np.array([evaluate(self.loss, self.topology, x, cell)[1] for x, cell in pairs])
        return replace(frames, forces=forces, step=np.arange(1, frames.n_frames + 1))


@pytest.fixture(scope="session")
def teacher(few: Trajectory) -> Teacher:
    return Teacher(fit(few, TEACHER_BASIS).loss, few[0])


def run_of(loss: AgentLoss, start: Trajectory, directory: Path, settings: MD) -> Trajectory:
    """Frames of a run in LAMMPS, the atoms in the order of the start."""
    frames = run(loss, replace(start, velocities=None), "lammps", directory, settings)
    return frames.select_atoms(np.argsort(read_record(directory).atom_in_source))


@pytest.fixture(scope="session")
def cold_water(
    few: Trajectory, teacher: Teacher, tmp_path_factory: pytest.TempPathFactory
) -> Trajectory:
    """20 frames at 100 K: far too little to know what hot water does."""
    cold = run_of(
        teacher.loss, few[20], tmp_path_factory.mktemp("cold"), MD(COLD_K, 0.3, every_fs=10.0)
    )
    # taken for 20 independent ones: 2 ps would tell no more here
    return teacher.label(replace(cold[11:], time=100.0 * np.arange(20.0)))
