"""Exported files: every engine runs them, and computes what numpy says, on every kind of system and
loss.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import openmm
import pytest
from conftest import (
    CUBE,
    TRICLINIC,
    energy_and_forces,
    invent,
    liquid,
    named_pairs,
    topology_of,
)
from engine_cases import CASES, energy_scale

from mld_ff.engines.openmm.system import openmm_system
from mld_ff.engines.registry import ENGINES
from mld_ff.engines.settings import Device
from mld_ff.engines.start import Start, start_from
from mld_ff.errors import InputError, MldError
from mld_ff.loss.model import AgentLoss
from mld_ff.trajectory import Floats, Trajectory

CPU = Device("CPU")
FORCE_LIMIT = {"openmm": 1e-4, "lammps": 2e-4}
"""[eV/Å]"""
ENERGY_LIMIT = 1e-5
"""Relative to the sum of the magnitudes of the terms."""


@pytest.fixture
def waters() -> Trajectory:
    return liquid(["H2O"] * 8, CUBE, seed=1)


# --- the same energy and forces -------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("case", CASES)
def test_engine_computes_what_numpy_says(
    engine: str,
    case: str,
    tmp_path: Path,
    few: Trajectory,
    spline_water: AgentLoss,
    power_water: AgentLoss,
    collective_water: AgentLoss,
) -> None:
    """Two frames whose atoms lie on both sides of the boundary, in an order of their own.

    numpy evaluates the frames as they are, the engines what was made of them: by molecule, in the
    standard cell.
    """
    fitted = {
        "spline_water": spline_water,
        "power_water": power_water,
        "collective_water": collective_water,
    }
    loss, frames = CASES[case](few=few, **fitted)
    start = start_from(frames[0], force=True)  # walls of what is invented may attract
    ready = start.engine_frames(frames)
    ENGINES[engine].export(loss, start, tmp_path)
    energies, forces = ENGINES[engine].evaluate(tmp_path, ready, CPU)
    assert ready.symbols == tuple(frames.symbols[k] for k in start.order)
    for f in range(frames.n_frames):
        energy, expected = energy_and_forces(loss, frames[f])
        assert abs(energies[f] - energy) <= ENERGY_LIMIT * energy_scale(loss, frames[f])
        turn = rotation(frames.cell[f], ready.cell[f])
        difference = np.linalg.norm(forces[f] - expected[start.order] @ turn, axis=1)
        assert difference.max() <= FORCE_LIMIT[engine], difference.max()
        assert np.abs(expected).max() > 0.1
    assert np.abs(forces[0] - forces[1]).max() > 1e-3


def rotation(cell: Floats, reduced: Floats) -> Floats:
    """The rotation of `cell` that brings a along x and b into the xy plane; it then spans the
    lattice of `reduced`.
    """
    x = cell[0] / np.linalg.norm(cell[0])
    y = cell[1] - (cell[1] @ x) * x
    y /= np.linalg.norm(y)
    turn = np.stack([x, y, np.cross(x, y)], axis=1)
    whole = cell @ turn @ np.linalg.inv(reduced)
    assert whole == pytest.approx(np.round(whole), abs=1e-9), "not the same lattice"
    assert abs(np.linalg.det(np.round(whole))) == pytest.approx(1)
    return turn


def test_cases_reach_beyond_walls(tmp_path: Path) -> None:
    """Else the agreement above would say nothing about them."""
    loss, frames = CASES["alcohols"]()
    topology = topology_of(frames[0])
    terms = loss.terms_of(topology)
    beyond = [
        name
        for name, pairs in named_pairs(topology, frames.positions[0], frames.cell[0], loss.cutoff_A)
        if any(((wall.edge_A - pairs.r) * wall.inward > 0).any() for wall in terms[name].walls)
    ]
    assert {name.split(":")[0] for name in beyond} == {"bonded", "free"}
    assert {len(t.species) for t in loss.terms} == {2} and len(loss.bond_terms) > 7


def test_terms_with_cutoffs_and_exponents_of_their_own(few: Trajectory, tmp_path: Path) -> None:
    """The model file lets every term have its own."""
    frame = few[0]
    long, short = (
        invent(frame, "power", (2.0,), cutoff=6.0),
        invent(frame, "power", (3.0, 1.0), cutoff=4.0),
    )
    loss = replace(long, terms=(*long.terms[:-1], short.terms[-1]))
    start = start_from(frame)
    system = openmm_system(loss, start)
    free = [f for f in system.getForces() if isinstance(f, openmm.CustomNonbondedForce)]
    groups = {round(f.getCutoffDistance()._value, 6): f.getForceGroup() for f in free}
    assert groups == {0.6: 0, 0.4: 1}, "GPU platforms refuse two cutoffs in one group"
    expected = energy_and_forces(loss, start.frame)[1]
    for engine in ENGINES:
        ENGINES[engine].export(loss, start, tmp_path / engine)
        _, forces = ENGINES[engine].evaluate(tmp_path / engine, start.frame, CPU)
        assert np.linalg.norm(forces[0] - expected, axis=1).max() <= FORCE_LIMIT[engine], engine


def test_splines_and_powers_in_one_model(few: Trajectory, tmp_path: Path) -> None:
    frame = few[0]
    splines, powers = invent(frame), invent(frame, "power", cutoff=5.5)
    loss = replace(splines, terms=(*splines.terms[:-1], powers.terms[-1]))
    start = start_from(frame)
    expected = energy_and_forces(loss, start.frame)[1]
    for engine in ENGINES:
        ENGINES[engine].export(loss, start, tmp_path / engine)
        _, forces = ENGINES[engine].evaluate(tmp_path / engine, start.frame, CPU)
        assert np.linalg.norm(forces[0] - expected, axis=1).max() <= FORCE_LIMIT[engine], engine


# --- what every export does -----------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
def test_files_are_the_same_every_time(engine: str, waters: Trajectory, tmp_path: Path) -> None:
    loss = invent(waters)
    for name in "ab":
        ENGINES[engine].export(loss, start_from(waters), tmp_path / name)
    for file in (tmp_path / "a").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes(), file.name


@pytest.mark.parametrize("engine", ENGINES)
def test_model_that_does_not_cover_the_system(
    engine: str, waters: Trajectory, tmp_path: Path
) -> None:
    start = start_from(liquid(["H2O", "NH3"], CUBE))
    with pytest.raises(InputError, match="the system holds N; the model knows only O, H"):
        ENGINES[engine].export(invent(waters), start, tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    "cell", [np.diag([12.0, 9.5, 12.0]), 0.75 * TRICLINIC], ids=["orthorhombic", "triclinic"]
)
def test_box_that_is_too_small(engine: str, cell: Floats, tmp_path: Path) -> None:
    frame = liquid(["H2O"] * 2, cell)
    with pytest.raises(
        InputError, match=r"the cutoff is 5 Å; .* half the smallest width of the cell, 4\.\d+ Å"
    ):
        ENGINES[engine].export(invent(frame, cutoff=5.0), start_from(frame), tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("engine", ENGINES)
def test_missing_and_foreign_files(engine: str, few: Trajectory, tmp_path: Path) -> None:
    with pytest.raises(MldError, match="system"):
        ENGINES[engine].evaluate(tmp_path, start_from(few[0]).frame, CPU)


def test_start_keeps_the_frame(few: Trajectory) -> None:
    """Atoms by molecule, molecules whole; nothing else moves, and the centre of mass comes to
    rest.
    """
    frame = few[5]
    start: Start = start_from(frame)
    assert sorted(start.order.tolist()) == list(range(192))
    assert start.topology.molecule_index.tolist() == sorted(start.topology.molecule_index.tolist())
    apart = (start.frame.positions[0] - frame.positions[0][start.order]) / 12.444661
    assert apart == pytest.approx(np.round(apart), abs=1e-6)
    assert frame.velocities is not None and start.frame.velocities is not None
    momentum = (start.frame.velocities[0] * start.frame.masses[:, None]).sum(axis=0)
    assert np.abs(momentum).max() < 1e-12
    assert start.frame.velocities[0] == pytest.approx(frame.velocities[0][start.order], abs=1e-5)
