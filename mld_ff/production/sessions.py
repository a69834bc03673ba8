"""Runs that were stopped and go on: a later session writes beside the run, and is joined to it
afterwards.

Nothing here needs an engine, and everything may itself be stopped at any moment and done again.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from mld_ff.production import dcd

SESSION = "session"
"""Directory of a later session, inside that of its run; gone once joined."""
TRAJECTORY = "trajectory.dcd"
VELOCITIES = {"openmm": "velocities.dcd", "lammps": "velocities.lammpstrj"}
"""[Å/ps], in the form of a DCD file; OpenMM's are those half a timestep before the frame. LAMMPS's
own dump.
"""
LOG = {"openmm": "log.csv", "lammps": "log.lammps"}
CHECKPOINTS = {"openmm": ("checkpoint.chk",), "lammps": ("restart.a", "restart.b", "restart.end")}
FINAL = {"openmm": "final.xml", "lammps": "final.data"}
FIRST_FRAME = {"openmm": 1, "lammps": 0}
"""OpenMM's reporters leave out the frame that a session starts from."""
_LAST_BYTES = {"openmm": b"", "lammps": b"LammpS RestartT\0"}
_ROW = re.compile(rb"\s*(\d+)(?:[,\s]\s*[-+.\deE]+){5,}\s*\n")
"""A row of thermodynamic output of either engine that begins with the step."""


def newest_checkpoint(directory: Path, engine: str) -> Path | None:
    """The last checkpoint that was written to its end."""
    mark = _LAST_BYTES[engine]
    files = [directory / name for name in CHECKPOINTS[engine] if (directory / name).exists()]
    complete = [file for file in files if file.read_bytes().endswith(mark)]
    return max(complete, key=lambda file: file.stat().st_mtime_ns, default=None)


def join(run: Path, engine: str, every: int) -> None:
    """Make the files of a run and of its later session one; what was written beyond the session's
    start is cut off.
    """
    session = run / SESSION
    if not session.is_dir():
        return
    first = first_step(session, engine)
    if first is not None:
        frames = frames_before(first, engine, every)
        _join_frames(run / TRAJECTORY, session / TRAJECTORY, frames)
        velocities = VELOCITIES[engine]
        if velocities.endswith(".dcd"):
            _join_frames(run / velocities, session / velocities, frames)
        else:
            _join_text(run / velocities, session / velocities, _dump_end(run / velocities, first))
        _join_text(run / LOG[engine], session / LOG[engine], _log_end(run / LOG[engine], first))
    last = newest_checkpoint(session, engine)
    for file in (last, session / FINAL[engine]):
        if file and file.exists():
            file.replace(run / file.name)
    shutil.rmtree(session)


def first_step(directory: Path, engine: str) -> int | None:
    """The step of the first row of a log; None if there is no row yet."""
    return next((step for _, step in _rows(directory / LOG[engine])), None)


def frames_before(step: int, engine: str, every: int) -> int:
    """How many frames a run from step 0 on has written before a step."""
    return max(-(-step // every) - FIRST_FRAME[engine], 0)


def _rows(log: Path) -> Iterator[tuple[int, int]]:
    """Position in the file and step of every complete row."""
    if not log.exists():
        return
    at = 0
    with log.open("rb") as lines:
        for line in lines:
            if found := _ROW.fullmatch(line):
                yield at, int(found[1])
            at += len(line)


def _log_end(log: Path, step: int) -> int:
    """Where the first row of `step` or later begins, or else a line that was not written to its
    end.
    """
    content = log.read_bytes() if log.exists() else b""
    return next((at for at, s in _rows(log) if s >= step), content.rfind(b"\n") + 1)


def _dump_end(dump: Path, step: int) -> int | None:
    """Where in a LAMMPS dump the first frame of `step` or later begins."""
    if not dump.exists():
        return None
    with dump.open("rb") as lines:
        while True:
            at = lines.tell()
            head = [lines.readline() for _ in range(9)]
            if not head[8].endswith(b"\n"):
                return at
            if int(head[1]) >= step:
                return at
            for _ in range(int(head[3])):
                lines.readline()


def _join_text(file: Path, more: Path, end: int | None) -> None:
    """`end`: where to cut the file off before; None: nowhere."""
    if not more.exists():
        return
    with more.open("rb") as source, file.open("ab") as target:
        if end is not None:
            target.truncate(end)
        shutil.copyfileobj(source, target)


def _join_frames(file: Path, more: Path, frames: int) -> None:
    if not dcd.complete_frames(more):
        return
    if not dcd.complete_frames(file):
        shutil.copyfile(more, file)
        return
    dcd.cut(file, frames)
    dcd.append(file, more)
