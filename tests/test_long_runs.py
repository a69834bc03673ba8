"""Runs of any ensemble that are stopped at any moment and go on, and what is said of them
meanwhile.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import CUBE, invent, liquid, named_pairs, topology_of

from mld_ff.engines.registry import ENGINES
from mld_ff.engines.settings import MD, Device
from mld_ff.errors import CheckFailed, EngineError, InputError
from mld_ff.geometry.system import System
from mld_ff.loss.model import AgentLoss
from mld_ff.production.record import read_record
from mld_ff.production.results import check_whole, read_log, read_run
from mld_ff.production.sessions import SESSION, newest_checkpoint
from mld_ff.production.simulation import run
from mld_ff.trajectory import Trajectory

PLATFORM = Device("Reference")
"""Deterministic."""
LONG: dict[str, dict[str, Any]] = {
    "openmm": {
        "time_ps": 0.1,
        "timestep_fs": 0.5,
        "every_fs": 1.0,
        "checkpoint_ps": 0.0155,
        "velocities": True,
    },
    "lammps": {
        "time_ps": 2.5,
        "timestep_fs": 0.5,
        "every_fs": 5.0,
        "checkpoint_ps": 0.1035,
        "velocities": True,
    },
}
"""Checkpoints fall between frames."""


@pytest.fixture(scope="module")
def frame() -> Trajectory:
    """Eight waters."""
    return liquid(["H2O"] * 8, CUBE, seed=3)


@pytest.fixture(scope="module")
def loss(frame: Trajectory) -> AgentLoss:
    return invent(frame, kind="power", cutoff=4.8)


def stop_at(step: int) -> Callable[[str, int, int], None]:
    """A user who interrupts: the engine is killed wherever it is by then."""

    def progress(what: str, done: int, total: int) -> None:
        if done >= step:
            raise KeyboardInterrupt

    return progress


# --- stopped and resumed --------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
def test_run_that_was_killed_goes_on(
    engine: str, frame: Trajectory, loss: AgentLoss, tmp_path: Path
) -> None:
    """No frame or row is lost, doubled or broken; OpenMM's Reference platform continues to the
    bit.
    """
    settings, cut = MD(**LONG[engine]), tmp_path / "cut"
    whole = run(loss, frame, engine, tmp_path / "whole", settings, PLATFORM)
    for at in (
        (settings.steps // 4, settings.steps // 2) if engine == "lammps" else (settings.steps // 4,)
    ):
        with pytest.raises(KeyboardInterrupt):
            run(loss, frame, engine, cut, settings, PLATFORM, stop_at(at), resume=True)
        part = read_run(cut)
        assert (
            np.array_equal(part.step, whole.step[: part.n_frames]) and part.origin.finished is False
        )
        assert part.n_frames >= at // settings.every and part.velocities is not None
    assert newest_checkpoint(cut, ENGINES[engine]) is not None
    told = list[int]()
    resumed = run(
        loss, frame, engine, cut, settings, PLATFORM, lambda _, n, __: told.append(n), resume=True
    )
    # what was done before says nothing of the time left; a short last piece is not told of at all
    assert all(steps > 0 for steps in told)
    assert not (cut / SESSION).exists() and resumed.origin.finished is True
    assert np.array_equal(resumed.step, whole.step)
    assert read_log(cut)["time_ps"] == pytest.approx(0.0005 * read_log(cut)["step"])
    for mine, other in (
        (read_log(cut), read_log(tmp_path / "whole")),
        (vars(resumed), vars(whole)),
    ):
        for name in (
            "step",
            "time_ps",
            "potential_eV",
            "temperature_K",
            "positions",
            "velocities",
            "cell",
        ):
            if name in other:
                a, b = np.asarray(mine[name]), np.asarray(other[name])
                if engine == "openmm":
                    assert np.array_equal(a, b), name
                else:  # another order of summation, and a system that forgets where it came from
                    near = len(a) // 4
                    assert a.shape == b.shape and a[:near] == pytest.approx(b[:near], abs=1e-3), (
                        name
                    )
    assert (
        np.linalg.norm(np.diff(resumed.positions, axis=0), axis=2).max() < 0.5
    )  # no jump where it went on


@pytest.mark.parametrize("engine", ENGINES)
def test_finished_run_is_made_longer(
    engine: str, frame: Trajectory, loss: AgentLoss, tmp_path: Path
) -> None:
    short, more = (MD(time_ps=t, timestep_fs=0.5, every_fs=2.0) for t in (0.0105, 0.02))
    run(loss, frame, engine, tmp_path, short, PLATFORM)
    before = (tmp_path / "trajectory.dcd").read_bytes()
    assert run(loss, frame, engine, tmp_path, short, PLATFORM, resume=True).origin.finished is True
    assert (tmp_path / "trajectory.dcd").read_bytes() == before
    longer = run(loss, frame, engine, tmp_path, more, PLATFORM, resume=True)
    first = {"openmm": 1, "lammps": 0}[engine]
    assert longer.step.tolist() == [4 * k for k in range(first, 11)]
    assert json.loads((tmp_path / "run.json").read_text())["settings"]["time_ps"] == 0.02


def test_runs_that_look_otherwise_go_on(frame: Trajectory, loss: AgentLoss, tmp_path: Path) -> None:
    """Those of earlier versions told less of where they started and of their model. Where
    checkpoints are more frequent than frames, LAMMPS logs a row between frames, and OpenMM may have
    logged none.
    """
    settings = MD(time_ps=0.02, timestep_fs=0.5, every_fs=2.0)
    whole = run(loss, frame, "lammps", tmp_path, settings)
    record, model = (json.loads((tmp_path / f"{k}.json").read_text()) for k in ("run", "model"))
    del record["started_from"]["step"], model["domain"]
    for name, content in (("run", record), ("model", model)):
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    assert (tmp_path / "model.json").read_text() != loss.dumps()
    assert run(loss, frame, "lammps", tmp_path, settings, resume=True).n_frames == whole.n_frames

    log = tmp_path / "log.lammps"
    more = re.sub(r"(\n +0 .*\n)", r"\1 2 0.001 300 0 0 0 0 1 0\n", log.read_text(), count=1)
    log.write_text(more)
    assert len(read_log(tmp_path)["step"]) == whole.n_frames + 1
    assert read_run(tmp_path).n_frames == whole.n_frames

    for file in (log, tmp_path / "trajectory.dcd"):
        file.write_bytes(b"")
    often = MD(time_ps=0.02, every_fs=2.0, checkpoint_ps=0.001)
    check_whole(tmp_path, replace(read_record(tmp_path), settings=often))
    with pytest.raises(InputError, match="holds no thermodynamic output"):
        check_whole(tmp_path, read_record(tmp_path))


LOGS = {
    "lammps": "Step Time Temp PotEng TotEng Density Press\n 0 0 300 1 2 1 3\n"
    "Step Time Temp PotEng TotEng Density Press Econserve\n 4 2e-3 301 1 2 1 3 4\n",
    "openmm": "#Step\n4,0.002,1,2,3,300,1\n#Step\n8,0.004,1,2,3,301,1,5\n",
}
"""The second session is that of a later version, which logs what is conserved."""


@pytest.mark.parametrize("engine", ENGINES)
def test_log_of_several_versions(engine: str, tmp_path: Path) -> None:
    (tmp_path / ENGINES[engine].files.log).write_text(LOGS[engine])
    log = read_log(tmp_path)
    assert log["temperature_K"].tolist() == [300.0, 301.0] and "conserved_eV" not in log


def test_only_the_same_run_goes_on(frame: Trajectory, loss: AgentLoss, tmp_path: Path) -> None:
    settings = MD(time_ps=0.01, every_fs=2.0)
    run(loss, frame, "lammps", tmp_path, settings)

    def said(other: AgentLoss = loss, **options: Any) -> str:
        with pytest.raises(InputError) as caught:
            run(
                other,
                frame,
                "lammps",
                tmp_path,
                MD(**({"time_ps": 0.02, "every_fs": 2.0} | options)),
                resume=True,
            )
        return str(caught.value)

    assert (
        "another run lies here: its temperature_K is 300.0, now it is 310.0; only time_ps,"
        " checkpoint_ps" in said(temperature_K=310.0)
    )
    assert "its ensemble is 'nvt', now it is 'nve'" in said(ensemble="nve")
    assert (
        said(loss.only())
        == f"{tmp_path / 'model.json'}: the run that lies here was made with another model"
    )


# --- ensembles ------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
def test_energy_is_conserved_without_a_thermostat(
    engine: str, few: Trajectory, power_water: AgentLoss, tmp_path: Path
) -> None:
    """Velocity Verlet's own fluctuation, far less than what a thermostat gives and takes."""
    ranges = {}
    for ensemble in ("nve", "nvt"):
        settings = MD(
            time_ps=0.06, timestep_fs=0.25, every_fs=2.0, damping_fs=20.0, ensemble=ensemble
        )
        run(power_water, few[3], engine, tmp_path / ensemble, settings, Device("CPU"))
        total = read_log(tmp_path / ensemble)["total_eV"]
        ranges[ensemble] = np.ptp(total[len(total) // 4 :])
    assert ranges["nve"] < 0.05 < 0.5 < ranges["nvt"]


@pytest.mark.parametrize("engine", ENGINES)
def test_volume_follows_the_pressure(
    engine: str, few: Trajectory, power_water: AgentLoss, tmp_path: Path
) -> None:
    """20 GPa make it smaller; molecules stay whole, the box its shape, and nobody is left in the
    dark.
    """
    settings = MD(time_ps=0.1, every_fs=5.0, ensemble="npt", pressure_bar=2e5)
    trajectory = run(power_water, few[3], engine, tmp_path, settings, Device("CPU"))
    log = read_log(tmp_path)
    density = trajectory.masses.sum() * 1.66053907 / np.linalg.det(trajectory.cell)
    assert density == pytest.approx(log["density_g_per_cm3"], rel=1e-4)
    assert 1.0 < density[-1] < 1.5 and np.ptp(density) > 0.003
    assert trajectory.cell[-1] == pytest.approx(trajectory.cell[-1, 0, 0] * np.eye(3), abs=1e-4)
    bonds = topology_of(
        few[3].select_atoms(
            np.array(json.loads((tmp_path / "run.json").read_text())["atom_in_source"])
        )
    )
    lengths = [
        np.linalg.norm(x[bonds.bonds[:, 0]] - x[bonds.bonds[:, 1]], axis=1).max()
        for x in trajectory.positions
    ]
    assert max(lengths) < 1.3
    note = json.loads((tmp_path / "run.json").read_text())["notes"][0]
    assert (
        note.startswith("the loss was inferred from forces") and "do not tell the pressure" in note
    )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"ensemble": "nph"}, "ensemble is 'nph'; known: nve, nvt, npt"),
        ({"on_escape": "cry"}, "on_escape is 'cry'; known: warn, stop"),
        ({"pressure_bar": float("nan")}, "pressure_bar is nan; it must be a number"),
        ({"checkpoint_ps": 0}, "checkpoint_ps is 0; it must be a positive number"),
    ],
)
def test_settings_that_make_no_sense(options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as caught:
        MD(**options)
    assert str(caught.value) == said


# --- what is watched meanwhile --------------------------------------------------------------------


def test_escapes_are_the_pairs_farthest_outside(frame: Trajectory, loss: AgentLoss) -> None:
    """Beside all pairs one by one. Where data were, they tell the limit, and not the wall that
    begins before it.
    """
    topology = topology_of(frame)
    seen = replace(loss.free_terms[0], coverage={"shortest_A": 3.5})
    loss = replace(loss, terms=(*loss.bond_terms, seen, *loss.free_terms[1:]))
    limits = {t.name: t.range_A for t in loss.bond_terms} | {
        t.name: (2.0, np.inf) for t in loss.free_terms
    }
    limits[seen.name] = 3.5, np.inf
    expected: dict[str, tuple[float, tuple[str, ...]]] = {}
    for name, pairs in named_pairs(topology, frame.positions[0], frame.cell[0], loss.cutoff_A):
        for i, j, r in zip(pairs.i, pairs.j, pairs.r, strict=True):
            outside = max(limits[name][0] - r, r - limits[name][1])
            if outside > expected.get(name, (0,))[0]:
                expected[name] = (
                    outside,
                    (f"{topology.symbols[i]}{i + 1}", f"{topology.symbols[j]}{j + 1}"),
                )
    escapes: dict[str, tuple[Any, tuple[str, ...]]] = {
        e.term: (pytest.approx(e.outside), e.atoms)
        for e in loss.escapes(System(topology, frame.positions[0], CUBE, loss.shortest_reach_A))
    }
    assert len(expected) >= 2 and escapes == expected


def test_leaving_the_sampled_distances_is_said_or_stops(
    frame: Trajectory, loss: AgentLoss, tmp_path: Path
) -> None:
    """The invented walls begin inside the distances of the start."""
    run(loss, frame, "lammps", tmp_path / "warn", MD(time_ps=0.02, every_fs=2.0))
    notes = json.loads((tmp_path / "warn" / "run.json").read_text())["notes"]
    assert any(
        "of 11 frames a pair left the sampled distances, at worst in step" in note for note in notes
    )
    with pytest.raises(
        CheckFailed,
        match=r"a pair left the sampled distances: step \d+, bonded:.-H, .\d+ and H\d+: ",
    ):
        run(
            loss,
            frame,
            "lammps",
            tmp_path / "stop",
            MD(time_ps=0.02, every_fs=2.0, on_escape="stop"),
        )
    assert json.loads((tmp_path / "stop" / "run.json").read_text())["finished"] is False


def test_directory_that_vanishes(frame: Trajectory, loss: AgentLoss, tmp_path: Path) -> None:
    def vanish(what: str, done: int, total: int) -> None:
        if done >= 400:
            shutil.rmtree(tmp_path / "run", ignore_errors=True)

    with pytest.raises(EngineError, match=r"run has vanished while lammps was writing to it$"):
        run(loss, frame, "lammps", tmp_path / "run", MD(time_ps=20.0), progress=vanish)


@pytest.mark.parametrize("engine", ENGINES)
def test_disk_that_is_full(engine: str, frame: Trajectory, loss: AgentLoss, tmp_path: Path) -> None:
    def fill(what: str, done: int, total: int) -> None:
        if not (tmp_path / "trajectory.dcd").exists():
            (tmp_path / "trajectory.dcd").symlink_to("/dev/full")

    settings = MD(time_ps=0.02, every_fs=2.0)
    with pytest.raises(EngineError, match="No space left on device"):
        run(loss, frame, engine, tmp_path, settings, PLATFORM, progress=fill)


@pytest.mark.parametrize("engine", ENGINES)
def test_speed_is_told(engine: str, frame: Trajectory, loss: AgentLoss, tmp_path: Path) -> None:
    said: list[str] = []
    settings = MD(time_ps=0.05, timestep_fs=0.5, every_fs=0.5)
    run(loss, frame, engine, tmp_path, settings, PLATFORM, lambda what, *_: said.append(what))
    assert said[0] == engine and said[-1].startswith(f"{engine}: ") and said[-1].endswith(" ns/day")
    assert json.loads((tmp_path / "run.json").read_text())["ns_per_day"] == pytest.approx(
        float(said[-1].split()[1]), rel=0.01
    )
