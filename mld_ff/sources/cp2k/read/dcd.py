"""What CP2K wrote as DCD (FORMAT DCD): single precision, and no word of what atoms they are.

Read by its layout, always the same: MDAnalysis refuses the files of velocities and forces, whose
head begins with `VEL` and `FRC` in place of `CORD`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase.geometry import cellpar_to_cell
from numpy.typing import NDArray

from mld_ff.errors import InputError
from mld_ff.sources.cp2k.read.index import FrameIndex
from mld_ff.trajectory import Floats

_HEAD = 92
"""Bytes of the first record, 84 between two that say so."""
_LONGEST_TITLE = 100_000
"""Bytes."""


@dataclass(frozen=True, kw_only=True)
class DCDIndex(FrameIndex):
    """Of a file of `read_dcd_index`."""

    def frames(self, wanted: NDArray[np.bool_]) -> Iterator[tuple[Floats, int]]:
        records, _, _ = _records(self.path)
        for frame in np.flatnonzero(wanted):
            values = np.stack([records[axis][frame] for axis in "xyz"], axis=1).astype(np.float64)
            if not np.isfinite(values).all():
                raise InputError(
                    f"frame {frame + 1}: expected finite numbers, found others", self.path
                )
            yield values, 0


def read_dcd_index(path: Path) -> DCDIndex:
    """Find the frames of a file. CP2K tells the step of the first and how many lie between two.

    Raises InputError if it cannot be read.
    """
    records, first_step, stride = _records(path)
    n_frames = len(records)
    boxes = np.array(records["box"])
    # a, gamma, b, beta, alpha, c. How a cell that is not a box lies is not told.
    lengths, angles = boxes[:, [0, 2, 5]], boxes[:, [4, 3, 1]]
    if np.abs(angles).max() <= 1:  # VMD writes cosines
        angles = np.degrees(np.arccos(angles))
    is_box = (lengths > 0).all() and np.abs(angles - 90).max() < 1e-4
    unknown = np.full(n_frames, np.nan)
    return DCDIndex(
        path=path,
        n_atoms=records.dtype["x"].shape[0],
        labels=[],
        step=first_step + max(stride, 1) * np.arange(n_frames, dtype=np.int64),
        time=unknown,
        energy=unknown,
        cell=np.array([cellpar_to_cell([*row, 90, 90, 90]) for row in lengths]) if is_box else None,
    )


def _records(path: Path) -> tuple[np.memmap, int, int]:
    """Whole frames, the step of the first, and how many steps lie between two. Reads none."""
    offset, n_atoms, first_step, stride = _head(path)
    blocks = [("box", "<f8", (6,)), *((axis, "<f4", (n_atoms,)) for axis in "xyz")]
    layout = np.dtype(
        [
            field
            for block in blocks
            for field in ((f"{block[0]} begin", "<i4"), block, (f"{block[0]} end", "<i4"))
        ]
    )
    n_frames = (path.stat().st_size - offset) // layout.itemsize
    if n_frames < 1:
        raise InputError("the file holds no complete frame; let CP2K run on", path)
    records = np.memmap(path, layout, "r", offset, (n_frames,))
    for name in ("box", *"xyz"):
        length = layout[name].itemsize
        wrong = (records[f"{name} begin"] != length) | (records[f"{name} end"] != length)
        if wrong.any():
            raise InputError(f"frame {int(wrong.argmax()) + 1} is damaged", path)
    return records, first_step, stride


def _head(path: Path) -> tuple[int, int, int, int]:
    """Where frames begin, the number of atoms, the step of the first frame, and the stride."""
    with path.open("rb") as stream:
        head = stream.read(_HEAD + _LONGEST_TITLE)
    try:
        length, _, _, first_step, stride = struct.unpack_from("<i4s3i", head)
        (title,) = struct.unpack_from("<i", head, _HEAD)
        one, n_atoms, end = struct.unpack_from("<3i", head, _HEAD + 8 + min(title, _LONGEST_TITLE))
    except struct.error:
        raise InputError("cannot be read as a DCD file: it ends in its head", path) from None
    if not (length == 84 and 0 < title < _LONGEST_TITLE and one == end == 4 and n_atoms > 0):
        raise InputError("cannot be read as a DCD file: its head is not as CP2K writes it", path)
    return _HEAD + 8 + title + 12, n_atoms, first_step, stride
