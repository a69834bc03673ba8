"""What frames a file of positions, forces or velocities holds, whatever its format."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mld_ff.errors import InputError
from mld_ff.sources.cp2k.read.raw_frames import Damage
from mld_ff.trajectory import Floats, Ints


@dataclass(frozen=True, kw_only=True)
class FrameIndex(ABC):
    """M complete frames of N atoms in the order of the file."""

    path: Path
    n_atoms: int
    labels: list[bytes]
    """Of the atoms, (N,); empty where the format has none."""
    first_row: int = 1
    """Line number of the first atom of the first frame."""
    step: Ints
    time: Floats
    """[fs], (M,); NaN where the file does not say."""
    energy: Floats
    """[hartree], (M,); NaN where the file does not say."""
    cell: Floats | None = None
    """[Å], (M, 3, 3); None where the file does not say."""
    damage: Damage = field(default_factory=Damage)
    own_factor: float | None = None
    """To Å, eV/Å or Å/fs, where the format has one unit whatever the input says."""

    @abstractmethod
    def frames(self, wanted: NDArray[np.bool_]) -> Iterator[tuple[Floats, int]]:
        """The numbers of the frames for which `wanted`, (M,), is True: (N, 3) in the unit of the
        file, and the line.

        Raises InputError, with its line, for anything that is not a finite number and for atoms in
        another order.
        """

    def current(self) -> NDArray[np.bool_]:
        """Frames that no restart repeated, (M,): those whose step is below that of every later
        frame.
        """
        current = np.ones(len(self.step), dtype=bool)
        current[:-1] = self.step[:-1] < np.minimum.accumulate(self.step[:0:-1])[::-1]
        return current


def in_our_units(values: Floats, factor: float, path: Path, line: int) -> Floats:
    """Numbers of a frame that begins at a line, times the factor of their unit. Raises InputError
    where the product is beyond all numbers.
    """
    with np.errstate(over="ignore"):
        scaled = values * factor
    if not np.isfinite(scaled).all():
        raise InputError(
            f"expected numbers that eV, Å and fs can hold, found {np.abs(values).max():.3g}",
            path,
            line or None,
        )
    return scaled
