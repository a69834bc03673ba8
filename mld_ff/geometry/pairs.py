"""Pairs of atoms: neighbours within a cutoff, given pairs at their nearest image."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from vesin import NeighborList

from mld_ff.errors import InputError
from mld_ff.trajectory import Floats, Ints


@dataclass(frozen=True)
class Pairs:
    """P pairs of atoms of one frame."""

    i: Ints
    j: Ints
    vector: Floats
    """From i to j, (P, 3) [Å]."""
    r: Floats
    """(P,) [Å]."""

    @property
    def unit(self) -> Floats:
        """Directions from i to j, (P, 3)."""
        return np.asarray(self.vector / self.r[:, None])

    def __getitem__(self, index: NDArray[Any]) -> Pairs:
        return Pairs(self.i[index], self.j[index], self.vector[index], self.r[index])


NO_PAIRS = Pairs(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, 3)), np.zeros(0))


def neighbour_pairs(positions: Floats, cell: Floats, cutoff: float) -> Pairs:
    """Every pair closer than `cutoff` [Å] once, all periodic images.

    positions (N, 3) [Å], cell (3, 3) [Å].
    """
    i, j, vector, r = NeighborList(cutoff=cutoff, full_list=False).compute(
        points=np.ascontiguousarray(positions),
        box=np.ascontiguousarray(cell),
        periodic=True,
        quantities="ijDd",
    )
    return Pairs(i.astype(np.int64), j.astype(np.int64), vector, r)


def minimum_image(positions: Floats, cell: Floats, pairs: Ints) -> Pairs:
    """The given pairs (P, 2) at their nearest image.

    Exact below half the smallest width of the cell.
    """
    vector = positions[pairs[:, 1]] - positions[pairs[:, 0]]
    vector -= np.round(vector @ np.linalg.inv(cell)) @ cell
    return Pairs(pairs[:, 0], pairs[:, 1], vector, np.linalg.norm(vector, axis=1))


def both_ways(pairs: Pairs) -> Pairs:
    """Every pair (P,) also from j to i, (2P,)."""
    i, j = np.concatenate([pairs.i, pairs.j]), np.concatenate([pairs.j, pairs.i])
    return Pairs(i, j, np.concatenate([pairs.vector, -pairs.vector]), np.tile(pairs.r, 2))


LONGEST_A = 6.2
"""Distances are surveyed to here, or to half the smallest width of the cell."""
BIN_A = 0.01


def default_cutoff(half_width_A: float, longest_A: float = LONGEST_A) -> float:
    """`longest_A` or half the smallest width of the cell, whichever is shorter, to 0.01 Å."""
    return min(longest_A, round(math.floor(half_width_A / BIN_A - 1e-9) * BIN_A, 6))


def check_cutoff(cutoff_A: float, half_width_A: float) -> None:
    """Raise InputError unless a cutoff is positive and at most half the cell's smallest width."""
    if not 0 < cutoff_A <= half_width_A:
        raise InputError(
            f"the cutoff is {cutoff_A:g} Å; it must be positive and at most half the smallest width"
            f" of the cell, {half_width_A:.3f} Å: choose a shorter one, or a larger box"
        )
