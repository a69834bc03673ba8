"""Invariants of the agents: pair distances (minimum image) and radial functions of them.

Array suffixes: p pairs, k functions, c Cartesian.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import BSpline
from vesin import NeighborList

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

    def __getitem__(self, index: NDArray[Any]) -> Pairs:
        return Pairs(self.i[index], self.j[index], self.vector[index], self.r[index])


def neighbour_pairs(positions: Floats, cell: Floats, cutoff: float) -> Pairs:
    """Every pair closer than `cutoff` [Å] once, all periodic images. positions (N, 3) [Å], cell (3, 3) [Å]."""
    found = NeighborList(cutoff=cutoff, full_list=False).compute(
        points=np.ascontiguousarray(positions), box=np.ascontiguousarray(cell), periodic=True, quantities="ijDd"
    )
    i, j, vector, r = found
    return Pairs(i.astype(np.int64), j.astype(np.int64), vector, r)


def minimum_image(positions: Floats, cell: Floats, pairs: Ints) -> Pairs:
    """The given pairs (P, 2) at their nearest image; exact below half the smallest width of the cell."""
    vector = positions[pairs[:, 1]] - positions[pairs[:, 0]]
    vector -= np.round(vector @ np.linalg.inv(cell)) @ cell
    return Pairs(pairs[:, 0], pairs[:, 1], vector, np.linalg.norm(vector, axis=1))


def bspline_basis(r: Floats, knots: Floats, derivative: int = 0) -> Floats:
    """Cubic B-splines (P, K) or a derivative of them at r (P,) on `knots` (K + 4,); 0 outside the knots."""
    n = len(knots) - 4
    inside = (r >= knots[3]) & (r <= knots[n])
    degree = 3 - derivative
    dense = np.zeros((len(r), n))
    if inside.any():
        lower = BSpline.design_matrix(r[inside], knots[derivative : len(knots) - derivative], degree)
        dense[inside] = lower @ _derivative_matrix(knots, derivative)
    return dense


def tail_splines(r: Floats, cutoff_A: float, spacing_A: float, n: int, derivative: int = 0) -> Floats:
    """n cubic B-splines (P, n) that end at the cutoff, or a derivative of them; the first goes on inwards as 1.

    r (P,) [Å]; knots `spacing_A` apart, the last at `cutoff_A`; functions in the order of distance. All are twice
    differentiable everywhere, constant below cutoff - (n + 2) spacing, and zero from the cutoff on.
    """
    knots = cutoff_A + spacing_A * np.arange(-(n + 6), 4.0)
    functions = bspline_basis(np.clip(r, knots[3] + spacing_A / 2, cutoff_A), knots, derivative)[:, :-3]
    return np.concatenate([functions[:, :4].sum(axis=1, keepdims=True), functions[:, 4:]], axis=1)


def both_ways(pairs: Pairs) -> Pairs:
    """Every pair (P,) also from j to i, (2P,)."""
    i, j = np.concatenate([pairs.i, pairs.j]), np.concatenate([pairs.j, pairs.i])
    return Pairs(i, j, np.concatenate([pairs.vector, -pairs.vector]), np.tile(pairs.r, 2))


def _derivative_matrix(knots: Floats, derivative: int) -> Floats:
    """Coefficients of the derivative in the basis of lower degree, per unit coefficient of the cubic spline."""
    matrix = np.eye(len(knots) - 4)
    degree, t = 3, knots
    for _ in range(derivative):
        n = len(t) - degree - 1
        span = t[degree + 1 : degree + n] - t[1:n]
        matrix = degree * np.diff(matrix, axis=0) / span[:, None]
        t, degree = t[1:-1], degree - 1
    return matrix
