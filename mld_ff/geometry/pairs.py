"""Pairs of atoms: neighbours within a cutoff, given pairs at their nearest image."""

from __future__ import annotations

import math
from collections.abc import Sequence
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


LONGEST_EDGE_A = 1e5
"""Of a cell; in one thirty times as long, vesin's numbers of cells of its grid overflow, and the
process is killed."""
FARTHEST_A = 1e7
"""Unwrapped positions beyond it would have lost their digits."""
MOST_PER_A3 = 20.0
"""Atoms; iron in the middle of the earth has 0.15. In far smaller cells neighbours are so many that
searching them never ends."""
CLOSEST_A = 0.1
"""Atoms, whose nuclei never come closer than 0.5 Å."""


def check_searchable(positions: Floats, cell: Floats) -> None:
    """Raise InputError unless neighbours can be searched: a library would hang or crash."""
    if not (np.isfinite(positions).all() and np.isfinite(cell).all()):
        raise InputError("the positions or the cell are not finite numbers")
    if np.abs(positions).max(initial=0.0) > FARTHEST_A:
        raise InputError(f"an atom is farther than {FARTHEST_A:g} Å from the origin: damaged?")
    longest = float(np.linalg.norm(cell, axis=1).max())
    if longest > LONGEST_EDGE_A:
        raise InputError(
            f"a cell vector is {longest:.3g} Å long, and at most {LONGEST_EDGE_A:g} Å is taken: is"
            " the cell in Å?"
        )
    volume = abs(float(np.linalg.det(cell)))
    if len(positions) > MOST_PER_A3 * volume:
        raise InputError(
            f"{len(positions)} atoms lie in a cell of {volume:.3g} Å³: is the cell in Å?"
        )


def check_apart(pairs: Pairs, symbols: Sequence[str]) -> None:
    """Raise InputError if two atoms lie upon each other: no force between them has a direction."""
    k = int(np.argmin(pairs.r)) if len(pairs.r) else 0
    if len(pairs.r) and pairs.r[k] < CLOSEST_A:
        i, j = int(pairs.i[k]), int(pairs.j[k])
        raise InputError(
            f"{symbols[i]}{i + 1} and {symbols[j]}{j + 1} lie upon each other, {pairs.r[k]:.3g} Å"
            " apart: an atom given twice, or other units of length or another cell than the"
            " frame's?"
        )


def neighbour_pairs(positions: Floats, cell: Floats, cutoff: float) -> Pairs:
    """Every pair closer than `cutoff` [Å] once, all periodic images.

    positions (N, 3) [Å], cell (3, 3) [Å]. Raises InputError if they cannot be searched.
    """
    check_searchable(positions, cell)
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
