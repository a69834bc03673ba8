"""Frames of the XYZ files that CP2K prints: positions, forces, velocities.

A file is read twice, frame by frame: once for its index (what frames there are), once for the
numbers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mld_ff.errors import InputError
from mld_ff.sources.cp2k.read.raw_frames import Damage, RawFrame, scan, shorten
from mld_ff.trajectory import Floats, Ints

_STEP = re.compile(rb"\bi\s*=\s*(\d{1,18})(?!\d)")
_TIME = re.compile(rb"\btime\s*=\s*([-+.\dEe]+)")
_ENERGY = re.compile(rb"\bE\s*=\s*([-+.\dEeDd]+)")


@dataclass(frozen=True)
class XYZIndex:
    """What frames a file holds: M complete frames of N atoms in file order."""

    path: Path
    labels: list[bytes]
    """First column of the first frame, (N,)."""
    first_row: int
    """Line number of the first atom of the first frame."""
    step: Ints
    time: Floats
    """[fs], (M,); NaN where the comment line does not say."""
    energy: Floats
    """[hartree], (M,); NaN where the comment line does not say."""
    damage: Damage

    def current(self) -> NDArray[np.bool_]:
        """Frames that no restart repeated, (M,): those whose step is below that of every later
        frame.
        """
        current = np.ones(len(self.step), dtype=bool)
        current[:-1] = self.step[:-1] < np.minimum.accumulate(self.step[:0:-1])[::-1]
        return current


def read_index(path: Path) -> XYZIndex:
    """Find the frames of a file. Raises InputError as `scan` does, and if there is no complete
    frame.
    """
    damage = Damage()
    labels: list[bytes] = []
    first_row = 0
    numbers: list[tuple[int, float, float]] = []
    for frame in scan(path, damage):
        if not numbers:
            labels, first_row = _labels(frame, path), frame.line + 2
        numbers.append(_comment_numbers(frame, path))
    if not numbers:
        raise InputError(*_no_frame(path, damage))
    step, time, energy = zip(*numbers, strict=True)
    return XYZIndex(
        path,
        labels,
        first_row,
        np.array(step, dtype=np.int64),
        np.array(time),
        np.array(energy),
        damage,
    )


def _no_frame(path: Path, damage: Damage) -> tuple[str, Path, int | None]:
    if damage.middle:
        return (
            "no frame of this file has as many atoms as its first line says",
            path,
            damage.middle[0],
        )
    if damage.last is not None:
        return (
            "the file ends within its first frame, which is half-written; let CP2K run on",
            path,
            damage.last,
        )
    return "the file is empty; has CP2K begun to write it?", path, None


def _comment_numbers(frame: RawFrame, path: Path) -> tuple[int, float, float]:
    """Step, time [fs], energy [hartree] of a comment line such as ` i = 20, time = 10.000, E =
    -17.2`.
    """
    step = _STEP.search(frame.comment)
    if step is None:
        raise InputError(
            f"expected CP2K's ' i = STEP, time = …, E = …', found '{shorten(frame.comment)}';"
            " frames are matched between files by this step number (FORMAT XMOL, CP2K's default,"
            " prints it)",
            path,
            frame.line + 1,
        )
    time, energy = _TIME.search(frame.comment), _ENERGY.search(frame.comment)
    return int(step[1]), _float_or_nan(time), _float_or_nan(energy)


def _float_or_nan(match: re.Match[bytes] | None) -> float:
    try:
        return float(match[1].upper().replace(b"D", b"E")) if match else np.nan
    except ValueError:
        return np.nan


def _labels(frame: RawFrame, path: Path) -> list[bytes]:
    tokens = [row.split() for row in frame.rows]
    if any(len(row) != 4 for row in tokens):
        raise _problem(frame, [], path)
    return [row[0] for row in tokens]


def read_frames(index: XYZIndex, wanted: NDArray[np.bool_]) -> Iterator[tuple[Floats, int]]:
    """The numbers of the frames for which `wanted`, (M,), is True: (N, 3) in the unit of the file,
    and the line.

    Raises InputError, with its line, for anything that is not a finite number and for atoms in
    another order.
    """
    frames = scan(index.path, Damage())
    last = int(np.flatnonzero(wanted)[-1])
    for position in range(last + 1):
        frame = next(frames, None)
        if frame is None:
            raise InputError(
                "the file has become shorter while it was read; start again", index.path
            )
        if wanted[position]:
            yield _values(frame, index.labels, index.path), frame.line


def _values(frame: RawFrame, labels: list[bytes], path: Path) -> Floats:
    tokens = b"".join(frame.rows).split()
    if len(tokens) != 4 * len(labels) or tokens[::4] != labels:
        raise _problem(frame, labels, path)
    del tokens[::4]
    try:
        values = np.array(tokens).astype(np.float64)
    except ValueError:
        raise _problem(frame, labels, path) from None
    if not np.isfinite(values).all():
        raise _problem(frame, labels, path)
    return values.reshape(-1, 3)


def _problem(frame: RawFrame, labels: list[bytes], path: Path) -> InputError:
    """What is wrong with a frame: its first row that cannot be used."""
    step = _comment_numbers(frame, path)[0]
    rows = enumerate(frame.rows)
    atom, problem = next(
        (atom, p) for atom, row in rows if (p := _row_problem(row, labels[atom : atom + 1]))
    )
    return InputError(f"step {step}, atom {atom + 1}: {problem}", path, frame.line + 2 + atom)


def _row_problem(row: bytes, expected_label: list[bytes]) -> str:
    """What is wrong with a row; empty if nothing is."""
    tokens = row.split()
    if len(tokens) != 4:
        return f"expected a label and three numbers, found '{shorten(row)}'"
    if expected_label and tokens[0] != expected_label[0]:
        return (
            f"expected {shorten(expected_label[0])} as in the first frame, found"
            f" {shorten(tokens[0])}; the atoms must keep their order, so take all files from"
            " one run"
        )
    bad = [token for token in tokens[1:] if not _is_finite(token)]
    return f"expected a finite number, found '{shorten(bad[0])}'{_reason(bad[0])}" if bad else ""


def _is_finite(token: bytes) -> bool:
    try:
        return bool(np.isfinite(np.array([token]).astype(np.float64)).all())
    except ValueError:
        return False


def _reason(token: bytes) -> str:
    if token.startswith(b"*") or token.lower().strip(b"+-") in (b"nan", b"inf", b"infinity"):
        return (
            "; the run has blown up there: cut the files before this step, or make the TIMESTEP"
            " shorter"
        )
    return ""
