"""Production: short NVT runs of every engine from a frame of CP2K, and what is read back."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import TRICLINIC, energy_and_forces, invent, liquid, present

from mld_ff.engines.registry import ENGINES
from mld_ff.engines.settings import MD, Device
from mld_ff.engines.start import start_from
from mld_ff.errors import InputError
from mld_ff.loss.model import AgentLoss
from mld_ff.production.results import read_log, read_run
from mld_ff.production.simulation import run
from mld_ff.trajectory import Trajectory

CPU = Device("CPU")
SHORT = MD(time_ps=0.05, timestep_fs=0.5, every_fs=5.0, velocities=True)
FILES = {
    "openmm": {
        "system.xml",
        "state.xml",
        "integrator.xml",
        "topology.pdb",
        "run.py",
        "log.csv",
        "checkpoint.chk",
    },
    "lammps": {
        "system.data",
        "forcefield.lmp",
        "pair.table",
        "bond.table",
        "settings.lmp",
        "in.nvt",
        "log.lammps",
    },
}
AMU_A2_PER_FS2_IN_EV = 103.642697
KB_EV = 8.617333e-5


@pytest.fixture(scope="module")
def runs(
    few: Trajectory, spline_water: AgentLoss, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[Path, Trajectory]]:
    """100 steps of each engine from the tenth frame."""
    by_engine = {}
    for engine in ENGINES:
        directory = tmp_path_factory.mktemp("runs") / engine
        by_engine[engine] = directory, run(spline_water, few[10], engine, directory, SHORT, CPU)
    return by_engine


def _linked(out: Path) -> None:
    log = out / "log.lammps"
    log.rename(out.parent / "precious")
    log.symlink_to(out.parent / "precious")


def _twice(file: Path) -> None:
    file.write_text(2 * file.read_text())


def _told(out: Path, **changes: object) -> None:
    record = json.loads((out / "run.json").read_text())
    settings = record["settings"] | changes
    own = {name: settings.pop(name) for name in list(settings) if name in record}
    (out / "run.json").write_text(json.dumps({**record, **own, "settings": settings}))


DAMAGED: dict[str, tuple[Callable[[Path], object], str]] = {
    "a link": (_linked, "log.lammps: is a link, and what goes on there would write through it"),
    "no trajectory": (lambda out: (out / "trajectory.dcd").unlink(), "holds 0 frames, and the log"),
    "half a trajectory": (
        lambda out: os.truncate(out / "trajectory.dcd", 9000),
        "a part of one is",
    ),
    "two logs": (lambda out: _twice(out / "log.lammps"), "is of several runs: its steps do not"),
    "no model": (lambda out: (out / "model.json").unlink(), "model.json: is missing"),
    "negative time": (lambda out: _told(out, wall_s=-1.0), "does not hold what a run has: wall_s"),
    "infinite mass": (lambda out: _told(out, masses_amu=[1e308] * 192), "has: masses_amu"),
    "fewer frames": (lambda out: _told(out, every_fs=10.0), "rows are 10 steps apart, expected 20"),
    "longer steps": (lambda out: _told(out, timestep_fs=1.0, every_fs=10.0), "is at 0.05 ps, exp"),
    "longer": (lambda out: _told(out, time_ps=1.0), "ends at step 100, and run.json says"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_run_that_is_not_whole(
    case: str,
    runs: dict[str, tuple[Path, Trajectory]],
    few: Trajectory,
    spline_water: AgentLoss,
    tmp_path: Path,
) -> None:
    """By hand or by a stranger: frames would get wrong times, speeds any value, and files elsewhere
    would be written to."""
    damage, said = DAMAGED[case]
    out = tmp_path / "run"
    shutil.copytree(runs["lammps"][0], out)
    damage(out)
    longer = replace(SHORT, time_ps=0.1)
    with pytest.raises(InputError) as caught:
        if case in ("a link", "no trajectory", "no model"):
            run(spline_water, few[10], "lammps", out, longer, CPU, resume=True)
        else:
            read_run(out)
    assert said in str(caught.value)


def kinetic_eV(frame: Trajectory) -> float:
    assert frame.velocities is not None
    momentum = (frame.velocities[0] * frame.masses[:, None]).sum(axis=0)
    v = frame.velocities[0] - momentum / frame.masses.sum()
    return float(0.5 * AMU_A2_PER_FS2_IN_EV * (frame.masses[:, None] * v**2).sum())


@pytest.mark.parametrize("engine", ENGINES)
def test_files_of_a_run(
    engine: str, runs: dict[str, tuple[Path, Trajectory]], few: Trajectory
) -> None:
    directory, _ = runs[engine]
    there = {file.name for file in directory.iterdir()}
    assert there >= FILES[engine] | {"run.json", "trajectory.dcd", ENGINES[engine].files.velocities}
    record = json.loads((directory / "run.json").read_text())
    assert record["finished"] is True and record["engine"] == engine
    assert record["settings"]["time_ps"] == 0.05 and record["settings"]["temperature_K"] == 300.0
    assert record["device"].get("platform") == {"openmm": "CPU"}.get(engine)
    assert engine == "lammps" or re.fullmatch(r"1 thread|\d+ threads", record["device"]["device"])
    assert record["started_from"]["step"] == few.step[10]
    assert record["started_from"]["sha256"] == few.origin.sha256
    assert not [name for name in there if name.startswith(".")], "left-overs of writing"


@pytest.mark.parametrize("engine", ENGINES)
def test_trajectory_of_a_run(engine: str, runs: dict[str, tuple[Path, Trajectory]]) -> None:
    """50 fs, a frame every 5 fs; the start is the first frame of LAMMPS, but not of OpenMM."""
    directory, trajectory = runs[engine]
    first = {"openmm": 1, "lammps": 0}[engine]
    assert trajectory.step.tolist() == [10 * k for k in range(first, 11)]
    assert trajectory.time.tolist() == [5.0 * k for k in range(first, 11)]
    n = 11 - first
    assert trajectory.positions.shape == (n, 192, 3) and trajectory.cell.shape == (n, 3, 3)
    assert trajectory.cell == pytest.approx(
        np.broadcast_to(12.444661 * np.eye(3), (n, 3, 3)), abs=1e-4
    )
    assert trajectory.symbols == ("O", "H", "H") * 64
    assert trajectory.masses[:2] == pytest.approx([15.999, 1.008], abs=1e-3)
    assert trajectory.origin.to_dict() == {
        "files": ["trajectory.dcd"],
        "engine": engine,
        "finished": True,
    }
    again = read_run(directory)
    assert np.array_equal(again.positions, trajectory.positions)
    assert again.energy is not None and trajectory.energy is not None
    assert np.array_equal(again.energy, trajectory.energy)


@pytest.mark.parametrize("engine", ENGINES)
def test_logged_energy_is_that_of_the_frame(
    engine: str, runs: dict[str, tuple[Path, Trajectory]], spline_water: AgentLoss
) -> None:
    """numpy on the positions read back (float32 of some 10 Å) finds the engine's potential
    energy.
    """
    _, trajectory = runs[engine]
    assert trajectory.energy is not None
    for k in (0, 5, -1):
        assert trajectory.energy[k] == pytest.approx(
            energy_and_forces(spline_water, trajectory[k])[0], abs=2e-3
        )
    assert np.ptp(trajectory.energy) > 0.05


@pytest.mark.parametrize("engine", ENGINES)
def test_run_starts_at_the_frame(
    engine: str, few: Trajectory, spline_water: AgentLoss, tmp_path: Path
) -> None:
    """The first step goes from CP2K's positions with CP2K's velocities and the model's forces, atom
    by atom.

    By v dt + a dt² / 2, in velocity Verlet and in OpenMM's leap-frog, whose velocities are those
    half a step before.
    """
    settings = MD(time_ps=0.002, timestep_fs=0.5, every_fs=0.5)
    trajectory = run(spline_water, few[10], engine, tmp_path / "run", settings, CPU)
    first = trajectory[trajectory.step.tolist().index(1)]
    order = np.array(json.loads((tmp_path / "run" / "run.json").read_text())["atom_in_source"])
    assert sorted(order.tolist()) == list(range(192))
    assert few.velocities is not None
    velocity = few.velocities[10] - (few.masses @ few.velocities[10]) / few.masses.sum()
    acceleration = (
        energy_and_forces(spline_water, few[10])[1] / few.masses[:, None] / AMU_A2_PER_FS2_IN_EV
    )
    expected = few.positions[10] + 0.5 * velocity + 0.5 * 0.25 * acceleration
    moved = first.positions[0] - expected[order]
    moved -= 12.444661 * np.round(moved / 12.444661)
    assert np.abs(moved).max() < 1e-4
    assert np.abs(0.5 * velocity).max() > 0.02 and np.abs(0.5 * 0.25 * acceleration).max() > 1e-3


def test_velocities_at_the_start_are_those_of_the_frame(
    runs: dict[str, tuple[Path, Trajectory]], few: Trajectory
) -> None:
    """LAMMPS logs the start itself."""
    expected = kinetic_eV(few[10])
    log = read_log(runs["lammps"][0])
    assert log["total_eV"][0] - log["potential_eV"][0] == pytest.approx(expected, rel=1e-5)
    assert log["temperature_K"][0] == pytest.approx(2 * expected / (3 * 191 * KB_EV), rel=1e-4)


@pytest.mark.parametrize("engine", ENGINES)
def test_log_of_a_run(engine: str, runs: dict[str, tuple[Path, Trajectory]]) -> None:
    log = read_log(runs[engine][0])
    names = {"step", "time_ps", "temperature_K", "potential_eV", "total_eV", "density_g_per_cm3"}
    names |= {"conserved_eV"} | ({"pressure_bar"} if engine == "lammps" else set())
    assert set(log) == names
    assert log["density_g_per_cm3"] == pytest.approx(0.9933, abs=1e-3)
    assert log["step"][-1] == 100 and log["time_ps"][-1] == pytest.approx(0.05)
    kinetic = log["total_eV"] - log["potential_eV"]
    assert kinetic == pytest.approx(1.5 * 191 * KB_EV * log["temperature_K"], rel=1e-4)
    assert (abs(log["temperature_K"] - 300) < 60).all()


@pytest.mark.parametrize("engine", ENGINES)
def test_velocities_have_the_temperature_of_the_log(
    engine: str, runs: dict[str, tuple[Path, Trajectory]]
) -> None:
    """Half-step ones in OpenMM, on-step ones in LAMMPS: whichever its log counts."""
    directory, trajectory = runs[engine]
    log = read_log(directory)
    logged = log["temperature_K"][np.searchsorted(log["step"], trajectory.step)]
    assert trajectory.temperature() == pytest.approx(logged, rel=1e-5)
    assert np.ptp(logged) > 1


@pytest.mark.parametrize(("engine", "lag"), [("openmm", 0.5), ("lammps", 0.0)])
def test_velocities_belong_to_the_positions(
    engine: str, lag: float, few: Trajectory, spline_water: AgentLoss, tmp_path: Path
) -> None:
    """A frame every step: v of the frame is the way to it from the one before (OpenMM), or half the
    way between its neighbours (LAMMPS), in steps.
    """
    settings = MD(time_ps=0.005, timestep_fs=0.5, every_fs=0.5, velocities=True)
    trajectory = run(spline_water, few[10], engine, tmp_path / "run", settings, CPU)
    assert trajectory.velocities is not None
    way = np.diff(trajectory.positions, axis=0) / 0.5
    expected = way[:-1] if lag else (way[1:] + way[:-1]) / 2
    error = np.abs(trajectory.velocities[1:-1] - expected).max()
    assert error < 1e-4 < 0.01 * np.abs(expected).max()
    other = (way[1:] + way[:-1]) / 2 if lag else way[:-1]
    assert np.abs(trajectory.velocities[1:-1] - other).max() > 10 * error


@pytest.mark.parametrize("engine", ENGINES)
def test_run_that_was_interrupted_has_as_many_velocities_as_positions(
    engine: str, runs: dict[str, tuple[Path, Trajectory]], tmp_path: Path
) -> None:
    """The last line of a file is not always written when an engine is killed."""
    shutil.copytree(runs[engine][0], tmp_path / "cut")
    file = tmp_path / "cut" / ENGINES[engine].files.velocities
    file.write_bytes(file.read_bytes()[:-7])
    interrupted, whole = read_run(tmp_path / "cut"), runs[engine][1]
    assert (
        interrupted.velocities is not None
        and len(interrupted.velocities) == len(interrupted.positions) == whole.n_frames - 1
    )
    assert np.array_equal(interrupted.positions, whole.positions[:-1])
    file.unlink()
    with pytest.raises(
        InputError,
        match=rf"{ENGINES[engine].files.velocities}: cannot be read as a (DCD file|LAMMPS dump)",
    ):
        read_run(tmp_path / "cut")


def test_engines_follow_the_same_path(runs: dict[str, tuple[Path, Trajectory]]) -> None:
    """From the same start: leap-frog and velocity Verlet are one algorithm, but for the thermostat
    and rounding.
    """
    lammps, openmm = runs["lammps"][1], runs["openmm"][1]
    apart = lammps.positions[1:] - openmm.positions
    apart -= 12.444661 * np.round(apart / 12.444661)
    assert np.abs(apart[0]).max() < 1e-4
    assert np.sqrt((apart[-1] ** 2).mean()) < 1e-3


@pytest.mark.parametrize("engine", ENGINES)
def test_thermostat_holds_the_temperature_asked_for(
    engine: str, few: Trajectory, power_water: AgentLoss, tmp_path: Path
) -> None:
    settings = MD(temperature_K=360.0, time_ps=0.2, every_fs=2.0, damping_fs=5.0)
    run(power_water, few[0], engine, tmp_path / "hot", settings, CPU)
    log = read_log(tmp_path / "hot")
    assert log["temperature_K"][len(log["step"]) // 2 :].mean() == pytest.approx(360, abs=15)


@pytest.mark.parametrize("engine", ENGINES)
def test_frame_without_velocities_gets_those_of_the_temperature(
    engine: str, few: Trajectory, power_water: AgentLoss, tmp_path: Path
) -> None:
    frame = replace(few[0], velocities=None)
    settings = MD(temperature_K=350.0, time_ps=0.002, every_fs=0.5)
    run(power_water, frame, engine, tmp_path / "drawn", settings, CPU)
    start = start_from(frame, 350.0, settings.seed).frame
    # standard deviation of the temperature of 573 degrees of freedom: 350 K sqrt(2 / 573) = 21 K
    drawn = 2 * kinetic_eV(start) / (3 * 191 * KB_EV)
    assert drawn == pytest.approx(350, abs=63)
    logged = read_log(tmp_path / "drawn")["temperature_K"][0]
    if engine == "lammps":
        assert logged == pytest.approx(drawn, rel=1e-4)
    else:  # after the first step; the frame is not in equilibrium with velocities of its own
        assert logged == pytest.approx(drawn, abs=25)


def test_drawn_velocities_are_maxwell_boltzmann(few: Trajectory) -> None:
    """Every component of every species has variance kT/m; other seeds give others, the same seed
    the same.
    """
    frame = replace(few[0], velocities=None)
    starts = [start_from(frame, 400.0, seed).frame for seed in range(40)]
    drawn = np.array([present(start.velocities)[0] for start in starts])
    masses = start_from(frame).frame.masses
    scaled = AMU_A2_PER_FS2_IN_EV * masses[None, :, None] * drawn**2 / (KB_EV * 400.0)
    for chosen in (masses > 10, masses < 10):
        assert scaled[:, chosen].mean() == pytest.approx(1.0, abs=0.06)
    assert (drawn[0] != drawn[1]).all()
    again = start_from(frame, 400.0, 0).frame.velocities
    assert again is not None and np.array_equal(again[0], drawn[0])
    assert np.abs(np.einsum("fpc,p->fc", drawn, masses)).max() < 1e-10


@pytest.mark.parametrize("engine", ENGINES)
def test_mixture_in_a_triclinic_cell(engine: str, tmp_path: Path) -> None:
    """Molecules of several kinds, an ion, pieces on both sides of the boundary: the cell comes back
    as it was.
    """
    frame = liquid(["CH3OH", "H2O", "H2O", "Cl"], TRICLINIC, seed=4)
    loss = invent(frame, cutoff=4.8)
    settings = MD(time_ps=0.005, timestep_fs=0.25, every_fs=1.0)
    trajectory = run(loss, frame, engine, tmp_path / "run", settings, CPU)
    start = start_from(frame)
    assert trajectory.cell[0] == pytest.approx(start.frame.cell[0], abs=1e-4)
    assert trajectory.symbols == start.frame.symbols
    # molecules leave the engines in one piece
    bonds = start.topology.bonds
    assert (
        np.linalg.norm(
            trajectory.positions[-1][bonds[:, 0]] - trajectory.positions[-1][bonds[:, 1]], axis=1
        ).max()
        < 2.0
    )


@pytest.mark.parametrize("engine", ENGINES)
def test_progress_is_told(
    engine: str, few: Trajectory, power_water: AgentLoss, tmp_path: Path
) -> None:
    said: list[tuple[str, int, int]] = []
    settings = MD(time_ps=0.05, every_fs=0.5)
    run(
        power_water,
        few[0],
        engine,
        tmp_path / engine,
        settings,
        CPU,
        lambda *what: said.append(what),
    )
    assert said[0] == (engine, 0, 100) and said[-1][1:] == (100, 100) and len(said) > 2
    assert {what.partition(":")[0] for what, _, _ in said} == {engine}
    assert [done for _, done, _ in said] == sorted(done for _, done, _ in said)


@pytest.mark.parametrize("engine", ENGINES)
def test_directory_that_holds_a_run(
    engine: str, runs: dict[str, tuple[Path, Trajectory]], few: Trajectory, spline_water: AgentLoss
) -> None:
    directory, _ = runs[engine]
    before = {file.name: file.stat().st_mtime_ns for file in directory.iterdir()}
    with pytest.raises(
        InputError,
        match=r"a run lies here already: choose another directory, remove this one, or go",
    ):
        run(spline_water, few[0], engine, directory, SHORT)
    assert {file.name: file.stat().st_mtime_ns for file in directory.iterdir()} == before
