"""DCD trajectories as engines write them: little-endian, with cells, every frame of the same
length.
"""

from __future__ import annotations

import shutil
import struct
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mld_ff.errors import InputError
from mld_ff.trajectory import Floats
from mld_ff.units import A_PER_FS_TO_A_PER_PS

HEAD = 276
"""Bytes before the first frame: 84 of numbers, two titles of 80, the number of atoms."""
COUNT_AT, ATOMS_AT = 8, 268
COPIED = 1 << 24


def read(file: Path) -> tuple[Floats, Floats]:
    """What a DCD file holds of every atom, (F, N, 3), and the cells, (F, 3, 3)."""
    try:
        file.stat()  # MDAnalysis complains of its own closing where there is no file
        frames = list(frames_from(file, 0))
    except OSError:
        frames = []
    if not frames:
        raise InputError(
            "cannot be read as a DCD file: did the run stop before its first frame?", file
        )
    return np.array([values for values, _ in frames]), np.array([cell for _, cell in frames])


def frames_from(file: Path, start: int, end: int | None = None) -> Iterator[tuple[Floats, Floats]]:
    """What frames `start` to before `end` hold of every atom (N, 3), and their cells (3, 3)."""
    from MDAnalysis.coordinates.DCD import DCDReader

    with warnings.catch_warnings():
        # of a change in MDAnalysis 3 that copies do not feel
        warnings.simplefilter("ignore", DeprecationWarning)
        reader = DCDReader(str(file))
    with reader:
        for frame in reader[start:end]:
            yield frame.positions.astype(float), frame.triclinic_dimensions.astype(float)


def read_velocities(file: Path) -> Floats:
    """Velocities (F, N, 3) [Å/fs] of a file that holds them [Å/ps] in place of positions."""
    return read(file)[0] / A_PER_FS_TO_A_PER_PS


def complete_frames(file: Path) -> int:
    """Frames that are there as a whole, whatever the head of the file says."""
    size = file.stat().st_size if file.exists() else 0
    return 0 if size < HEAD else (size - HEAD) // _frame_bytes(file)


def join(file: Path, more: Path, frames: int) -> None:
    """Make `file` its first `frames` frames and then those of `more`."""
    if not complete_frames(more):
        return
    if not complete_frames(file):
        shutil.copyfile(more, file)
        return
    cut(file, frames)
    append(file, more)


def cut(file: Path, frames: int) -> None:
    """Leave only the first `frames` frames."""
    length = _frame_bytes(file)
    with file.open("r+b") as dcd:
        dcd.truncate(HEAD + min(frames, complete_frames(file)) * length)
    _count(file)


def append(file: Path, more: Path) -> None:
    """Add the complete frames of another trajectory of the same atoms."""
    left = complete_frames(more) * _frame_bytes(more)
    with more.open("rb") as source, file.open("ab") as target:
        source.seek(HEAD)
        while left:
            block = source.read(min(left, COPIED))
            target.write(block)
            left -= len(block)
    _count(file)


def _frame_bytes(file: Path) -> int:
    with file.open("rb") as dcd:
        dcd.seek(ATOMS_AT)
        (atoms,) = struct.unpack("<i", dcd.read(4))
    return 48 + 3 * 4 * int(atoms) + 4 * 8


def _count(file: Path) -> None:
    with file.open("r+b") as dcd:
        dcd.seek(COUNT_AT)
        dcd.write(struct.pack("<i", complete_frames(file)))
