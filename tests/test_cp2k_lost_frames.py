"""Frames of CP2K output that are lost, and said so: restarts, crashes, runs that go on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cp2k_output import (
    BOHR_A,
    DATA,
    HARTREE_EV,
    edit,
    frames_of,
    message,
    unpacked,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mld_ff.sources.cp2k import open_cp2k, read_cp2k


@pytest.fixture
def run(tmp_path: Path) -> Callable[[str], Path]:
    """Copy a run of tests/data/cp2k to where it may be changed; large files are unpacked."""
    return lambda name: unpacked(name, tmp_path)


def test_restart_repeats_frames() -> None:
    """Steps 4 and 5 were run twice."""
    source = open_cp2k(DATA / "argon")
    trajectory = source.read()
    assert trajectory.step.tolist() == list(range(9))
    assert source.notes == [
        "argon-pos-1.xyz: 2 frames dropped that a restart repeated; the last of each step is kept.",
        "argon-frc-1.xyz: 2 frames dropped that a restart repeated; the last of each step is kept.",
    ]
    assert source.origin.frames_dropped == {
        "positions: repeated after a restart": 2,
        "forces: repeated after a restart": 2,
    }


def test_the_last_of_repeated_frames_is_kept(run: Callable[[str], Path]) -> None:
    directory = run("argon")
    frames = frames_of(directory / "argon-pos-1.xyz", 3)
    frames[4] = frames[4].replace("\n Ar  ", "\n Ar 9", 1)
    (directory / "argon-pos-1.xyz").write_text("".join(frames))
    assert np.array_equal(read_cp2k(directory).positions, read_cp2k(DATA / "argon").positions)


def test_frames_beyond_a_restart_are_of_another_past(run: Callable[[str], Path]) -> None:
    """Steps 0…5, then 4 again: the first 5 did not follow from the second 4."""
    directory = run("argon")
    for name in ("argon-pos-1.xyz", "argon-frc-1.xyz"):
        (directory / name).write_text("".join(frames_of(directory / name, 3)[:7]))
    assert read_cp2k(directory).step.tolist() == [0, 1, 2, 3, 4]


def test_reftraj_that_prints_step_1_twice() -> None:
    trajectory = read_cp2k(DATA / "reftraj")
    assert trajectory.step.tolist() == [1, 2]
    assert trajectory.time.tolist() == [2, 4]
    assert trajectory.forces is not None
    assert trajectory.forces[0, 0, 0] == pytest.approx(0.0001153283 * HARTREE_EV / BOHR_A, rel=2e-6)


@pytest.mark.parametrize("cut", [1, 2, 20, 60, 160])
def test_half_written_last_frame(run: Callable[[str], Path], cut: int) -> None:
    directory = run("argon")
    file = directory / "argon-pos-1.xyz"
    file.write_text(file.read_text()[:-cut])
    if cut == 1:  # only the end of the line is missing
        assert open_cp2k(directory).n_frames == 9
        return
    source = open_cp2k(directory)
    assert source.read().step.tolist() == list(range(8))
    assert (
        "argon-pos-1.xyz: the last frame (line 51) is half-written and was dropped." in source.notes
    )
    assert "argon-frc-1.xyz: 1 frame dropped whose step is not in argon-pos-1.xyz." in source.notes
    assert source.origin.frames_dropped["positions: half-written, at the end"] == 1


ARGON = frames_of(DATA / "argon" / "argon-pos-1.xyz", 3)
STEPS = [*ARGON[:4], *ARGON[6:]]
"""Steps 0…8 without repetition."""
BESIDE: dict[str, Any] = {
    "forces": DATA / "argon" / "argon-frc-1.xyz",
    "input": DATA / "argon" / "argon.inp",
}
"""What lies beside the positions."""


@settings(
    deadline=None, max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(crash=st.integers(0, 7), share=st.floats(0, 1), back=st.integers(0, 2))
def test_crash_within_a_frame_then_restart(
    tmp_path: Path, crash: int, share: float, back: int
) -> None:
    """Wherever the first run stopped writing, the frames are those of a run that never stopped."""
    cut = int(share * len(STEPS[crash]))
    text = "".join(STEPS[:crash]) + STEPS[crash][:cut] + "".join(STEPS[max(0, crash - back) :])
    file = tmp_path / "a-pos-1.xyz"
    file.write_text(text)
    trajectory = read_cp2k(None, positions=file, **BESIDE)
    assert trajectory.step.tolist() == list(range(9))
    assert np.array_equal(trajectory.positions, read_cp2k(DATA / "argon").positions)


@settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(cut=st.integers(len(STEPS[0]), sum(map(len, STEPS))))
def test_run_in_progress_gives_its_complete_frames(tmp_path: Path, cut: int) -> None:
    file = tmp_path / "a-pos-1.xyz"
    file.write_text("".join(STEPS)[:cut])
    complete = [
        sum(map(len, STEPS[: n + 1])) - 1 for n in range(len(STEPS))
    ]  # the last newline is not needed
    assert open_cp2k(None, positions=file, **BESIDE).n_frames == sum(end <= cut for end in complete)


def test_half_written_frame_in_the_middle_is_said(run: Callable[[str], Path]) -> None:
    directory = run("argon")
    frames = frames_of(directory / "argon-pos-1.xyz", 3)
    frames[5] = frames[5][:-30]
    (directory / "argon-pos-1.xyz").write_text("".join(frames))
    source = open_cp2k(directory)
    assert source.n_frames == 9
    assert (
        "argon-pos-1.xyz: 1 frame dropped that a crash left half-written (line 26)." in source.notes
    )


def test_sparser_cell_file(run: Callable[[str], Path]) -> None:
    directory = run("npt")
    file = directory / "npt-1.cell"
    rows = file.read_text().splitlines(keepends=True)
    file.write_text("".join(rows[:4]))
    source = open_cp2k(directory)
    assert source.read().step.tolist() == [0, 2]
    assert (
        "2 frames dropped whose step is not in npt-1.cell, while the cell changes." in source.notes
    )
    fixed = run("water64")
    edit(fixed / "w64-1.cell", "      20      10.000", "       7       3.500")
    assert open_cp2k(fixed).n_frames == 3  # all rows are the same: a fixed cell
    file.write_text("".join(rows[:1]) + rows[2])
    assert (
        message(directory)
        == f"{directory / 'npt-pos-1.xyz'}: no step of the frames is in npt-1.cell; "
        "print &MOTION / &PRINT / &CELL as often as &TRAJECTORY"
    )
