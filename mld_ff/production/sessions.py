"""Runs that were stopped and go on: a later session writes beside the run, and is joined to it
afterwards.

Nothing here needs an engine, and everything may itself be stopped at any moment and done again.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from mld_ff.engines import dcd
from mld_ff.engines.engine import TRAJECTORY, Engine

SESSION = "session"
"""Directory of a later session, inside that of its run; gone once joined."""
_ROW = re.compile(rb"\s*(\d+)(?:[,\s]\s*[-+.\deE]+){5,}\s*\n")
"""A row of numbers in the log of any engine; it begins with the step."""


def newest_checkpoint(directory: Path, engine: Engine) -> Path | None:
    """The last checkpoint that was written to its end."""
    files = [directory / name for name in engine.files.checkpoints]
    complete = [
        file
        for file in files
        if file.exists() and file.read_bytes().endswith(engine.files.checkpoint_end)
    ]
    return max(complete, key=lambda file: file.stat().st_mtime_ns, default=None)


def join(run: Path, engine: Engine, every: int) -> None:
    """Make the files of a run and of its later session one; what was written beyond the session's
    start is cut off.
    """
    session, files = run / SESSION, engine.files
    if not session.is_dir():
        return
    first = first_step(session, engine)
    if first is not None:
        frames = frames_before(first, engine, every)
        dcd.join(run / TRAJECTORY, session / TRAJECTORY, frames)
        if (session / files.velocities).exists():
            files.join_velocities(run / files.velocities, session / files.velocities, frames)
        _join_logs(run / files.log, session / files.log, first)
    last = newest_checkpoint(session, engine)
    for file in (last, session / files.final):
        if file and file.exists():
            file.replace(run / file.name)
    shutil.rmtree(session)


def first_step(directory: Path, engine: Engine) -> int | None:
    """The step of the first row of a log; None if there is no row yet."""
    return next((step for _, step in _rows(directory / engine.files.log)), None)


def frames_before(step: int, engine: Engine, every: int) -> int:
    """How many frames a run from step 0 on has written before a step."""
    return max(-(-step // every) - engine.files.first_frame, 0)


def _rows(log: Path) -> Iterator[tuple[int, int]]:
    """Position in the file and step of every complete row."""
    if not log.exists():
        return
    at = 0
    with log.open("rb") as lines:
        for line in lines:
            if row := _ROW.fullmatch(line):
                yield at, int(row[1])
            at += len(line)


def _join_logs(log: Path, more: Path, first: int) -> None:
    """Cut a log off before the row of step `first`, and add another."""
    if not more.exists():
        return
    end = _end_before(log, first)
    with more.open("rb") as source, log.open("ab") as target:
        target.truncate(end)
        shutil.copyfileobj(source, target)


def _end_before(log: Path, step: int) -> int:
    """Where the first row of `step` or later begins, or else a line that was not written to its
    end.
    """
    content = log.read_bytes() if log.exists() else b""
    return next((at for at, s in _rows(log) if s >= step), content.rfind(b"\n") + 1)
