"""What a new engine needs: one file (`new_engine.py`), and a line that adds it.

It is then exported, verified, run, resumed, read back and reported like the others.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import SHORT, TRICLINIC, invent, liquid, with_channels
from new_engine import SYSTEM, TEXTBOOK

from mld_ff.engines.registry import ENGINES, engine_named, fastest, find_engine
from mld_ff.engines.settings import MD, Device
from mld_ff.engines.start import start_from
from mld_ff.errors import EngineError, InputError
from mld_ff.loss.model import AgentLoss
from mld_ff.production.record import read_record
from mld_ff.production.results import read_log, read_run
from mld_ff.production.sessions import SESSION
from mld_ff.production.simulation import run
from mld_ff.report.page import write_report
from mld_ff.report.study import compare_runs
from mld_ff.trajectory import Trajectory
from mld_ff.verification import verify

NVE = MD(time_ps=0.03, timestep_fs=0.5, every_fs=1.0, ensemble="nve", velocities=True)


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """The line that adds it."""
    monkeypatch.setitem(ENGINES, "textbook", TEXTBOOK)


@pytest.fixture(scope="module")
def frame() -> Trajectory:
    return liquid(["H2O"] * 12, TRICLINIC, seed=3)


@pytest.fixture(scope="module")
def loss(frame: Trajectory) -> AgentLoss:
    return invent(frame, cutoff=4.8)


# --- verified -------------------------------------------------------------------------------------


def test_it_is_verified_beside_the_others(
    frame: Trajectory, loss: AgentLoss, tmp_path: Path
) -> None:
    beside = verify(loss, frame, per_term=False)
    assert list(beside.engines) == ["openmm", "lammps", "textbook"] and beside.passed
    TEXTBOOK.export(loss, start_from(frame), tmp_path)
    alone = verify(loss, frame, directories={"textbook": tmp_path})
    assert alone.passed, alone.to_dict()
    assert set(alone.engines["textbook"].terms_eV) == {term.name for term in loss.terms}
    assert alone.to_dict()["engines"]["textbook"]["force_tolerance_eV_per_A"] == 1e-4


def test_files_that_are_spoilt_do_not_pass(
    frame: Trajectory, loss: AgentLoss, tmp_path: Path
) -> None:
    """Every number of one table, or one atom of another kind."""
    TEXTBOOK.export(loss, start_from(frame), tmp_path)
    file = tmp_path / SYSTEM
    text = file.read_text()
    assert verify(loss, frame, 1, {"textbook": tmp_path}, per_term=False).passed
    head, table, rest = text.partition("[free:O-H table]\n")
    rows, bracket, rest = rest.partition("[")
    scaled = np.array([row.split() for row in rows.splitlines()], float) * [1, 1.01, 1.01]
    rows = "\n".join(" ".join(map(repr, row)) for row in scaled.tolist())
    atoms = text.index("[atoms]\n") + len("[atoms]\n")
    assert text[atoms] == "0"
    other_table = head + table + rows + "\n" + bracket + rest
    other_atom = text[:atoms] + "1" + text[atoms + 1 :]
    for spoilt in (other_table, other_atom):
        file.write_text(spoilt)
        assert not verify(loss, frame, 1, {"textbook": tmp_path}, per_term=False).passed


def test_what_it_cannot_do_is_said(frame: Trajectory, loss: AgentLoss, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="textbook computes pairs only"):
        TEXTBOOK.export(with_channels(loss), start_from(frame), tmp_path)
    with pytest.raises(InputError) as caught:
        run(loss, frame, "textbook", tmp_path / "run", NVE, Device(precision="mixed"))
    assert str(caught.value) == (
        "the precision is a setting of OpenMM's platforms; Textbook computes in double"
    )
    with pytest.raises(EngineError, match="textbook knows nve only, not nvt"):
        run(loss, frame, "textbook", tmp_path / "run", MD(time_ps=0.01, every_fs=1.0))
    assert read_record(tmp_path / "run").finished is False


# --- run ------------------------------------------------------------------------------------------


def test_it_runs_and_is_reported(
    frame: Trajectory, loss: AgentLoss, undrawn: None, tmp_path: Path
) -> None:
    """Energy is kept, and positions are those that LAMMPS gets from the same start."""
    trajectory = run(loss, frame, "textbook", tmp_path / "textbook", NVE, minimize=True)
    log = read_log(tmp_path / "textbook")
    assert trajectory.step.tolist() == list(range(0, 61, 2)) == log["step"].tolist()
    assert trajectory.energy == pytest.approx(log["potential_eV"])
    assert trajectory.temperature() == pytest.approx(log["temperature_K"], rel=1e-5)
    assert np.ptp(log["total_eV"]) < 0.05 * np.ptp(log["potential_eV"])
    assert read_record(tmp_path / "textbook").engine == "textbook"
    other = run(loss, frame, "lammps", tmp_path / "lammps", NVE, minimize=True)
    moved = np.abs(trajectory.positions - other.positions)
    assert moved.max() < 2e-3 < 0.1 < np.abs(np.diff(trajectory.positions[[0, -1]], axis=0)).max()
    assert trajectory.cell == pytest.approx(other.cell, abs=1e-4)
    study = compare_runs(other, [tmp_path / "textbook"])
    page = write_report(tmp_path / "report", study).read_text(encoding="utf-8")
    assert list(study.runs) == ["textbook"] and "Textbook" in page


def test_it_goes_on_after_a_kill(frame: Trajectory, loss: AgentLoss, tmp_path: Path) -> None:
    settings = MD(**{**vars(NVE), "checkpoint_ps": 0.0075})
    whole = run(loss, frame, "textbook", tmp_path / "whole", settings)

    def stop(what: str, done: int, total: int) -> None:
        if done >= 40:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(loss, frame, "textbook", tmp_path / "cut", settings, progress=stop)
    assert read_run(tmp_path / "cut").step[-1] == 40
    again = run(loss, frame, "textbook", tmp_path / "cut", settings, resume=True)
    assert not (tmp_path / "cut" / SESSION).exists()
    assert np.array_equal(again.step, whole.step)
    assert np.array_equal(again.positions, whole.positions)
    assert again.velocities is not None and whole.velocities is not None
    assert np.array_equal(again.velocities, whole.velocities)


# --- listed ---------------------------------------------------------------------------------------


def test_it_is_listed() -> None:
    assert engine_named("textbook") is TEXTBOOK and find_engine("textbook") == {}
    with pytest.raises(InputError) as caught:
        engine_named("gromacs")
    assert str(caught.value) == "the engine is 'gromacs'; known: openmm, lammps, textbook"
    assert fastest().name == "openmm" and fastest(("openmm", "textbook")).name == "openmm"
    with pytest.raises(
        InputError, match=r"holds no log of an engine \(log\.csv, log\.lammps, log\.textbook\)"
    ):
        read_log(SHORT)


SCRIPT = """
import sys
sys.path.insert(0, {tests!r})
from new_engine import TEXTBOOK
from mld_ff.engines.registry import ENGINES
ENGINES["textbook"] = TEXTBOOK
from mld_ff.cli import main
sys.argv = ["mld-ff", *{words!r}]
main()
"""


def test_the_command_line_runs_it(power_water: AgentLoss, tmp_path: Path) -> None:
    """In a process of its own, which lists engines when it loads the command line."""
    power_water.save(tmp_path / "model.json")
    command = (
        f"run {tmp_path}/model.json --engine textbook --cp2k {SHORT} -o {tmp_path}/run"
        " --ensemble nve --time 0.001 --every 0.5 --json"
    )
    script = SCRIPT.format(tests=str(Path(__file__).parent), words=command.split())
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["engine"] == "textbook" and told["device"] == {} and told["frames"] == 3
