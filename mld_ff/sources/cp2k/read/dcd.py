"""What CP2K wrote as DCD (FORMAT DCD): single precision, and no word of what atoms they are."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase.geometry import cellpar_to_cell
from numpy.typing import NDArray

from mld_ff.errors import InputError
from mld_ff.sources.cp2k.read.index import FrameIndex
from mld_ff.trajectory import Floats


@dataclass(frozen=True, kw_only=True)
class DCDIndex(FrameIndex):
    """Of a file of `read_dcd_index`."""

    def frames(self, wanted: NDArray[np.bool_]) -> Iterator[tuple[Floats, int]]:
        with _opened(self.path) as dcd:
            for frame in np.flatnonzero(wanted):
                dcd.seek(int(frame))
                values = dcd.read().xyz.astype(np.float64)
                if not np.isfinite(values).all():
                    raise InputError(
                        f"frame {frame + 1}: expected finite numbers, found others", self.path
                    )
                yield values, 0


def read_dcd_index(path: Path) -> DCDIndex:
    """Find the frames of a file. CP2K tells the step of the first and how many lie between two.

    Raises InputError if it cannot be read.
    """
    with _opened(path) as dcd:
        header, n_frames, n_atoms = dcd.header, len(dcd), dcd.header["natoms"]
        if not n_frames:
            raise InputError("the file holds no complete frame; let CP2K run on", path)
        boxes = np.array([dcd.read().unitcell for _ in range(n_frames)])
    # a, gamma, b, beta, alpha, c. How a cell that is not a box lies is not told.
    lengths, angles = boxes[:, [0, 2, 5]], boxes[:, [4, 3, 1]]
    if np.abs(angles).max() <= 1:  # VMD writes cosines
        angles = np.degrees(np.arccos(angles))
    is_box = (lengths > 0).all() and np.abs(angles - 90).max() < 1e-4
    unknown = np.full(n_frames, np.nan)
    return DCDIndex(
        path=path,
        n_atoms=n_atoms,
        labels=[],
        step=header["istart"] + max(header["nsavc"], 1) * np.arange(n_frames, dtype=np.int64),
        time=unknown,
        energy=unknown,
        cell=np.array([cellpar_to_cell([*row, 90, 90, 90]) for row in lengths]) if is_box else None,
    )


def _opened(path: Path) -> Any:
    from MDAnalysis.lib.formats.libdcd import DCDFile

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return DCDFile(str(path))
    except (OSError, ValueError) as error:
        raise InputError(f"cannot be read as a DCD file: {error}", path) from None
