"""CP2K takes the inputs that are written for it; its runs are read back, made longer, go on when
killed, and label frames.

pytest -n 0 -m regression tests/regression/test_cp2k.py
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import present, waters
from test_cp2k_run import needs_cp2k

from mld_ff.sources.cp2k import open_cp2k, read_cp2k
from mld_ff.sources.cp2k.run.inputs import METHODS, Method, Reference, write_labels, write_reference
from mld_ff.sources.cp2k.run.launch import check
from mld_ff.sources.cp2k.run.resume import LABELS, REST, prepare, run_reference
from mld_ff.sources.packing import Ingredient, find_molecule, pack
from mld_ff.trajectory import Trajectory

pytestmark = [pytest.mark.regression, needs_cp2k]


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def test_a_short_run_is_read_back_and_can_be_made_longer(tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    write_reference(tmp_path, Reference(steps=3, every=1, relax_steps=2), waters(6))
    assert prepare(tmp_path, True, lambda *p: seen.append(p)).frames == 4
    assert ("relax", 1, 1) in seen and seen[-1] == ("cp2k", 3, 3)
    run = read_cp2k(tmp_path)
    assert run.step.tolist() == [0, 1, 2, 3]
    assert run.velocities is not None and run.energy is not None
    assert (run.cell == run.cell[0]).all()
    assert any("finished already" in n for n in prepare(tmp_path, True).notes)
    longer = (tmp_path / "md.inc").read_text().replace("{STEPS-3}", "{STEPS-5}")
    (tmp_path / "md.inc").write_text(longer)
    assert vars(run_reference(tmp_path)) == {"project": "md", "total": 5, "before": 3}
    assert read_cp2k(tmp_path).step.tolist() == [0, 1, 2, 3, 4, 5]


def test_packed_water_does_not_blow_up(tmp_path: Path) -> None:
    write_reference(tmp_path, Reference(steps=40, every=10, relax_steps=15), waters(12))
    run_reference(tmp_path)
    temperature = np.loadtxt(tmp_path / "md-1.ener")[:, 3]
    assert temperature.max() < 600
    assert open_cp2k(tmp_path).n_frames == 5


def test_labels_are_the_forces_of_the_original(tmp_path: Path, water: Trajectory) -> None:
    frames = water[np.array([5, 600])]
    write_labels(tmp_path, Reference(), frames)
    assert prepare(tmp_path, True).frames == 2
    labels = read_cp2k(tmp_path)
    assert labels.forces is not None and frames.forces is not None and frames.energy is not None
    assert np.abs(labels.forces).max() > 1
    assert np.abs(labels.forces - frames.forces).max() < 1e-6 * np.abs(frames.forces).max()
    assert labels.energy == pytest.approx(frames.energy, rel=1e-9)
    assert labels.positions == pytest.approx(frames.positions, abs=1e-9)


def test_labels_go_on_after_an_interruption_and_follow_the_cell(tmp_path: Path) -> None:
    boxes = [waters(4, density) for density in np.linspace(0.8, 1.0, 5)]
    frames = Trajectory(
        symbols=boxes[0].symbols,
        masses=boxes[0].masses,
        positions=np.concatenate([b.positions for b in boxes]),
        cell=np.concatenate([b.cell for b in boxes]),
        time=np.zeros(5),
        step=np.arange(5),
    )
    write_labels(tmp_path, Reference(), frames)
    run_reference(tmp_path)
    whole = read_cp2k(tmp_path)
    assert whole.cell == pytest.approx(frames.cell, abs=1e-8)
    for name in LABELS:  # as if it had been killed within the third frame
        text = (tmp_path / name).read_text()
        third = (
            text.index(" i =        3")
            if name.endswith("xyz")
            else text.index("\n         3" if "ener" in name else "\n       3")
        )
        (tmp_path / name).write_text(text[: third + 30])
    assert run_reference(tmp_path).before == 2
    again = read_cp2k(tmp_path)
    assert again.step.tolist() == [1, 2, 3, 4, 5]
    assert np.array_equal(present(again.forces), present(whole.forces))
    assert not (tmp_path / REST).exists()


@pytest.mark.parametrize("method", METHODS)
def test_cp2k_accepts_every_stage(tmp_path: Path, method: Method) -> None:
    frame = waters(4)
    if method != "nnp":
        frame = pack(
            [Ingredient(find_molecule("H2O"), 4), Ingredient(find_molecule("CH3OH"), 2)], 0.8
        )
    write_reference(tmp_path / "md", Reference(method), frame)
    check(tmp_path / "md")
    write_labels(tmp_path / "label", Reference(method), frame)
    check(tmp_path / "label")


def start(directory: Path) -> subprocess.Popen[bytes]:
    """The run as a user starts it, in a process group of its own."""
    command = [
        sys.executable,
        "-c",
        "from mld_ff.cli import main; main()",
        "reference",
        "-o",
        str(directory),
    ]
    return subprocess.Popen(
        [*command, "--resume"], start_new_session=True, stderr=subprocess.DEVNULL
    )


def kill_when(process: subprocess.Popen[bytes], ready: Callable[[], bool]) -> None:
    """As a power cut: the whole group dies at once."""
    end = time.monotonic() + 60
    while not ready() and process.poll() is None and time.monotonic() < end:
        time.sleep(0.02)
    assert process.poll() is None, "it was over before it could be killed"
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def test_a_killed_run_goes_on(tmp_path: Path) -> None:
    write_reference(tmp_path, Reference(steps=10000, every=2, relax_steps=0), waters(4))
    table = tmp_path / "md-1.ener"
    kill_when(start(tmp_path), lambda: table.exists() and table.read_text().count("\n") > 8)
    done = len(np.loadtxt(table))
    inc = (tmp_path / "md.inc").read_text()
    (tmp_path / "md.inc").write_text(re.sub(r"{STEPS-\d+}", f"{{STEPS-{done + 6}}}", inc))
    outcome = run_reference(tmp_path)
    assert 0 < outcome.before <= done < outcome.total
    run = read_cp2k(tmp_path)
    assert run.step.tolist() == list(range(0, done + 7, 2))
    twice = np.loadtxt(table)
    assert twice[-1, 0] == done + 6
    assert (
        np.abs(np.diff(twice[:, 5])).max() < 1e-3
    )  # what the thermostat conserves knows of no interruption
