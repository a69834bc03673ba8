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
from mld_ff.sources.cp2k.read.index import FrameIndex
from mld_ff.sources.cp2k.read.raw_frames import Damage, RawFrame, scan, shorten
from mld_ff.trajectory import Floats

_NUMBER = rb"([-+.\dEeDd]+)"
_XMOL = (
    re.compile(rb"\bi\s*=\s*(\d{1,18})(?!\d)"),
    re.compile(rb"\btime\s*=\s*" + _NUMBER),
    re.compile(rb"\bE\s*=\s*" + _NUMBER),
)
_EXTENDED = (
    re.compile(rb"\bStep\s*=\s*\"?(\d{1,18})(?!\d)"),
    re.compile(rb"\bTime\s*=\s*\"?" + _NUMBER),
    re.compile(rb"\bEnergy\s*=\s*\"?" + _NUMBER),
)
"""Step, time, energy in the comment line of both formats."""
_LATTICE = re.compile(rb'\bLattice\s*=\s*"([^"]*)"')


class XYZIndex(FrameIndex):
    """Of a file of `read_xyz_index`."""

    def frames(self, wanted: NDArray[np.bool_]) -> Iterator[tuple[Floats, int]]:
        frames = scan(self.path, Damage())
        last = int(np.flatnonzero(wanted)[-1])
        for position in range(last + 1):
            frame = next(frames, None)
            if frame is None:
                raise InputError(
                    "the file has become shorter while it was read; start again", self.path
                )
            if wanted[position]:
                yield _values(frame, self.labels, self.path), frame.line


@dataclass(frozen=True)
class _Title:
    """What the comment line of a frame says; NaN and None where it does not."""

    step: int
    time: float
    """[fs]."""
    energy: float
    """[hartree]."""
    cell: Floats | None
    """[Å], (3, 3)."""


def read_xyz_index(path: Path) -> XYZIndex:
    """Find the frames of a file. Raises InputError as `scan` does, and if there is no complete
    frame.
    """
    damage = Damage()
    labels: list[bytes] = []
    first_row = 0
    titles: list[_Title] = []
    for frame in scan(path, damage):
        if not titles:
            labels, first_row = _labels(frame, path), frame.line + 2
        titles.append(_title(frame, path))
    if not titles:
        raise InputError(*_no_frame(path, damage))
    cells = [title.cell for title in titles if title.cell is not None]
    return XYZIndex(
        path=path,
        n_atoms=len(labels),
        labels=labels,
        first_row=first_row,
        step=np.array([title.step for title in titles], dtype=np.int64),
        time=np.array([title.time for title in titles]),
        energy=np.array([title.energy for title in titles]),
        cell=np.array(cells) if len(cells) == len(titles) else None,
        damage=damage,
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


def _title(frame: RawFrame, path: Path) -> _Title:
    """Of a comment line such as ` i = 20, time = 10.000, E = -17.2`, or since CP2K 2026.1, with
    FORMAT EXTXYZ, `Lattice="…" … Step=20 Time=10.0 Energy=-17.2`.
    """
    lattice = _LATTICE.search(frame.comment)
    step_of, time_of, energy_of = _EXTENDED if lattice else _XMOL
    step = step_of.search(frame.comment)
    if step is None:
        raise InputError(
            f"expected CP2K's ' i = STEP, time = …, E = …', found '{shorten(frame.comment)}';"
            " frames are matched between files by this step number (FORMAT XMOL, CP2K's default,"
            " prints it)",
            path,
            frame.line + 1,
        )
    time, energy = time_of.search(frame.comment), energy_of.search(frame.comment)
    cell = _cell(lattice[1], path, frame.line + 1) if lattice else None
    return _Title(int(step[1]), _float_or_nan(time), _float_or_nan(energy), cell)


def _cell(text: bytes, path: Path, line: int) -> Floats:
    try:
        cell = np.array(text.split()).astype(np.float64).reshape(3, 3)
    except ValueError:
        cell = np.zeros((3, 3))
    if not abs(np.linalg.det(cell)) > 0:
        raise InputError("expected the nine numbers of a cell after Lattice=", path, line)
    return cell


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
    step = _title(frame, path).step
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
