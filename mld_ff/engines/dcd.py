"""DCD trajectories as engines write them: little-endian, with cells, every frame of the same
length.

The file begins with three blocks, of numbers, titles and the number of atoms. Before and after
every block stands its length, in four bytes.
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

COUNT_AT, TITLES_AT = 8, 92
"""Where the number of frames stands, and the length of the titles."""
LEAST_HEAD = 276
"""Bytes before the first frame, if there are two titles of 80, as OpenMM and LAMMPS write them."""
TITLE, MOST_TITLES = 80, 100
"""Bytes of a title, and how many there may be."""
MOST_ATOMS = 1 << 28
COPIED = 1 << 24


def read(file: Path) -> tuple[Floats, Floats]:
    """What a DCD file holds of every atom, (F, N, 3), and the cells, (F, 3, 3). Raises InputError
    if it holds no frame, or is damaged.
    """
    try:
        file.stat()  # MDAnalysis complains of its own closing where there is no file
        frames = list(frames_from(file, 0)) if complete_frames(file) else []
    except OSError:
        frames = []
    if not frames:
        raise InputError(
            "cannot be read as a DCD file: did the run stop before its first frame?", file
        )
    positions = np.array([values for values, _ in frames])
    if not np.isfinite(positions).all():
        raise InputError("is damaged: it holds numbers that are not finite", file)
    return positions, np.array([cell for _, cell in frames])


def frames_from(file: Path, start: int, end: int | None = None) -> Iterator[tuple[Floats, Floats]]:
    """What frames `start` to before `end` hold of every atom (N, 3), and their cells (3, 3). Raises
    InputError if a frame has no cell.
    """
    from MDAnalysis.coordinates.DCD import DCDReader

    with warnings.catch_warnings():
        # of a change in MDAnalysis 3 that copies do not feel
        warnings.simplefilter("ignore", DeprecationWarning)
        reader = DCDReader(str(file))
    with reader:
        for frame in reader[start:end]:
            cell, lengths = frame.triclinic_dimensions, frame.dimensions
            if cell is None or not (np.isfinite(cell).all() and (lengths[:3] > 0).all()):
                raise InputError(f"is damaged: frame {frame.frame + 1} has no cell", file)
            yield frame.positions.astype(float), cell.astype(float)


def read_velocities(file: Path) -> Floats:
    """Velocities (F, N, 3) [Å/fs] of a file that holds them [Å/ps] in place of positions."""
    return read(file)[0] / A_PER_FS_TO_A_PER_PS


def complete_frames(file: Path) -> int:
    """Frames that are there as a whole, whatever the head of the file says."""
    size = file.stat().st_size if file.exists() else 0
    if size < LEAST_HEAD:
        return 0
    head, length = _layout(file)
    return max(size - head, 0) // length


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
    head, length = _layout(file)
    with file.open("r+b") as dcd:
        dcd.truncate(head + min(frames, complete_frames(file)) * length)
    _count(file)


def append(file: Path, more: Path) -> None:
    """Add the complete frames of another trajectory of the same atoms."""
    head, length = _layout(more)
    left = complete_frames(more) * length
    with more.open("rb") as source, file.open("ab") as target:
        source.seek(head)
        while left:
            block = source.read(min(left, COPIED))
            target.write(block)
            left -= len(block)
    _count(file)


def _layout(file: Path) -> tuple[int, int]:
    """Bytes before the first frame, and of every frame.

    Raises InputError if its head is not that of a file with cells, every frame of the same length:
    one flipped bit there lets a reader ask for all memory.
    """
    with file.open("rb") as dcd:
        head = dcd.read(TITLES_AT + 4)
        numbers = struct.unpack("<i4s20i2i", head)
        titles = numbers[-1]
        fixed_atoms, has_cell, has_fourth = (numbers[2 + k] for k in (8, 10, 11))
        whole = (numbers[0], numbers[1], numbers[-2]) == (84, b"CORD", 84)
        whole = whole and (fixed_atoms, has_cell, has_fourth) == (0, 1, 0)
        if not (whole and titles % TITLE == 4 and 0 < titles <= MOST_TITLES * TITLE + 4):
            raise InputError("is damaged, or no DCD file of an engine: its head is wrong", file)
        rest = dcd.read(titles + 16)
    if len(rest) < titles + 16:
        return len(head) + titles + 16, 1  # its head is not there as a whole
    end, before, atoms, after = struct.unpack("<4i", rest[titles:])
    if (end, before, after) != (titles, 4, 4) or not 0 < atoms <= MOST_ATOMS:
        raise InputError("is damaged, or no DCD file of an engine: its head is wrong", file)
    cell, coordinate = 4 + 6 * 8 + 4, 4 + 4 * int(atoms) + 4
    return len(head) + titles + 16, cell + 3 * coordinate


def _count(file: Path) -> None:
    with file.open("r+b") as dcd:
        dcd.seek(COUNT_AT)
        dcd.write(struct.pack("<i", complete_frames(file)))
