"""DCD trajectories as both engines write them: little-endian, with cells, every frame of the same
length.
"""

from __future__ import annotations

import struct
from pathlib import Path

HEAD = 276
"""Bytes before the first frame: 84 of numbers, two titles of 80, the number of atoms."""
COUNT_AT, ATOMS_AT = 8, 268
COPIED = 1 << 24


def complete_frames(file: Path) -> int:
    """Frames that are there as a whole, whatever the head of the file says."""
    size = file.stat().st_size if file.exists() else 0
    return 0 if size < HEAD else (size - HEAD) // _frame_bytes(file)


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
