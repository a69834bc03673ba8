"""Radial functions: what invariants are made of, with their derivatives."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.polynomial.polynomial import polyder

from mld_ff.trajectory import Floats

PIECES = np.array([[1, -3, 3, -1], [4, 0, -6, 3], [1, 3, 3, -3], [0, 0, 0, 1]]) / 6
"""Of the cubic B-splines that overlap between two knots, the outermost first: coefficients of the
powers of x, which goes from 0 to 1."""


ROUNDING = 1e-9
"""Of a distance upon a knot, in spacings: walls begin on grids that knots can lie on."""


def bspline_basis(
    r: Floats, start_A: float, spacing_A: float, n: int, derivative: int = 0
) -> Floats:
    """n cubic B-splines (P, n), or a derivative of them, at r (P,) [Å].

    The k-th lies between start + k spacing and start + (k + 4) spacing. Where fewer than four
    overlap, all are 0.
    """
    along = (r - start_A) / spacing_A
    inside = (along >= 3 - ROUNDING) & (along <= n)
    first = np.clip(along, 3, n - 1).astype(np.int64)  # the knot before r
    pieces = polyder(PIECES, derivative, axis=1) / spacing_A**derivative
    powers = np.vander(along - first, pieces.shape[1], increasing=True) * inside[:, None]
    dense = np.zeros((len(r), n))
    places = n * np.arange(len(r)) + first - 3
    dense.reshape(-1)[places[:, None] + np.arange(4)] = powers @ pieces.T
    return dense


def tail_splines(
    r: Floats, cutoff_A: float, spacing_A: float, n: int, derivative: int = 0
) -> Floats:
    """n cubic B-splines (P, n) that end at the cutoff, or a derivative of them; the first goes on
    inwards as 1.

    r (P,) [Å]; knots `spacing_A` apart, the last at `cutoff_A`; functions in the order of distance.
    All are twice differentiable everywhere, constant below cutoff - (n + 2) spacing, and zero from
    the cutoff on.
    """
    start_A = cutoff_A - (n + 6) * spacing_A
    clipped = np.clip(r, start_A + 3.5 * spacing_A, cutoff_A)
    functions = bspline_basis(clipped, start_A, spacing_A, n + 6, derivative)
    for further_in in range(3):
        functions[:, 3] += functions[:, further_in]
    functions[r >= cutoff_A] = 0.0  # which they are but for rounding
    return functions[:, 3:-3]


def power_basis(
    r: Floats, cutoff_A: float, functions: Sequence[tuple[int, float]], derivative: int = 0
) -> Floats:
    """Products of m invariants whose exponents add up to p, S^m r^-p with S = (1 - (r/cutoff)²)³.

    r (P,) [Å], functions K pairs (m, p). Returns values (P, K), or first or second derivatives.
    """
    s = 1 - np.minimum(r / cutoff_A, 1) ** 2
    s1, s2 = -2 * r / cutoff_A**2, -2 / cutoff_A**2
    columns = []
    for factors, p in functions:
        m = 3 * factors
        f, f1, f2 = r**-p, -p * r ** (-p - 1), p * (p + 1) * r ** (-p - 2)
        g, g1, g2 = (
            s**m,
            m * s ** (m - 1) * s1,
            m * (m - 1) * s ** (m - 2) * s1**2 + m * s ** (m - 1) * s2,
        )
        columns.append((f * g, f1 * g + f * g1, f2 * g + 2 * f1 * g1 + f * g2)[derivative])
    return np.stack(columns, axis=1)
