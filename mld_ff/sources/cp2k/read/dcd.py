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
from mld_ff.trajectory import Floats, Ints

_HEAD = 92
"""Bytes of the first record, 84 between two that say so."""
_LONGEST_TITLE = 100_000
"""Bytes."""


@dataclass(frozen=True)
class _Layout:
    """Of a file: whole frames of one size behind a head."""

    path: Path
    offset: int
    """Where the first begins [bytes]."""
    n_atoms: int
    first_step: int
    stride: int
    """Steps between two."""

    @property
    def record(self) -> np.dtype[np.void]:
        """Of a frame: blocks between two numbers that say how long they are."""
        blocks = [("box", "<f8", (6,)), *((axis, "<f4", (self.n_atoms,)) for axis in "xyz")]
        fields: list[tuple[str, str] | tuple[str, str, tuple[int]]] = []
        for name, kind, shape in blocks:
            fields += [(f"{name} begin", "<i4"), (name, kind, shape), (f"{name} end", "<i4")]
        return np.dtype(fields)

    @property
    def n_frames(self) -> int:
        return max((self.path.stat().st_size - self.offset) // self.record.itemsize, 0)

    def frames(self, wanted: Ints) -> Iterator[np.void]:
        """Raises InputError for damaged ones, and where the file ends by now."""
        record = self.record
        with self.path.open("rb") as stream:
            for frame in wanted.tolist():
                stream.seek(self.offset + frame * record.itemsize)
                read = np.fromfile(stream, record, 1)
                if not len(read):
                    raise InputError("has become shorter while it was read; start again", self.path)
                for name in ("box", *"xyz"):
                    length = record[name].itemsize
                    if not read[f"{name} begin"] == read[f"{name} end"] == length:
                        raise InputError(f"frame {frame + 1} is damaged", self.path)
                yield read[0]


@dataclass(frozen=True, kw_only=True)
class DCDIndex(FrameIndex):
    """Of a file of `read_dcd_index`."""

    layout: _Layout

    def frames(self, wanted: NDArray[np.bool_]) -> Iterator[tuple[Floats, int]]:
        frames = np.flatnonzero(wanted)
        for frame, read in zip(frames, self.layout.frames(frames), strict=True):
            values = np.stack([read[axis] for axis in "xyz"], axis=1).astype(np.float64)
            if not np.isfinite(values).all():
                raise InputError(
                    f"frame {frame + 1}: expected finite numbers, found others", self.path
                )
            yield values, 0


def read_dcd_index(path: Path) -> DCDIndex:
    """Find the frames of a file. CP2K tells the step of the first and how many lie between two.

    Raises InputError if it cannot be read.
    """
    layout = _layout(path)
    n_frames = layout.n_frames
    if not n_frames:
        raise InputError("the file holds no complete frame; let CP2K run on", path)
    boxes = np.array([read["box"] for read in layout.frames(np.arange(n_frames))])
    # a, gamma, b, beta, alpha, c. How a cell that is not a box lies is not told.
    lengths, angles = boxes[:, [0, 2, 5]], boxes[:, [4, 3, 1]]
    if np.abs(angles).max() <= 1:  # VMD writes cosines
        angles = np.degrees(np.arccos(angles))
    is_box = (lengths > 0).all() and np.abs(angles - 90).max() < 1e-4
    unknown = np.full(n_frames, np.nan)
    return DCDIndex(
        path=path,
        layout=layout,
        n_atoms=layout.n_atoms,
        labels=[],
        step=layout.first_step + max(layout.stride, 1) * np.arange(n_frames, dtype=np.int64),
        time=unknown,
        energy=unknown,
        cell=np.array([cellpar_to_cell([*row, 90, 90, 90]) for row in lengths]) if is_box else None,
    )


def _layout(path: Path) -> _Layout:
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
    if 12 * n_atoms > path.stat().st_size:  # nor has numpy a type of as many bytes
        raise InputError("the file holds no complete frame; let CP2K run on", path)
    return _Layout(path, _HEAD + 8 + title + 12, n_atoms, first_step, stride)
