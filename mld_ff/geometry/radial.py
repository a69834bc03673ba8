"""Radial functions: what invariants are made of, with their derivatives."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.interpolate import BSpline

from mld_ff.trajectory import Floats


def bspline_basis(r: Floats, knots: Floats, derivative: int = 0) -> Floats:
    """Cubic B-splines (P, K) or a derivative of them at r (P,) on `knots` (K + 4,); 0 outside the
    knots.
    """
    n = len(knots) - 4
    inside = (r >= knots[3]) & (r <= knots[n])
    degree = 3 - derivative
    dense = np.zeros((len(r), n))
    if inside.any():
        lower = BSpline.design_matrix(
            r[inside], knots[derivative : len(knots) - derivative], degree
        )
        dense[inside] = lower @ _derivative_matrix(knots, derivative)
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
    knots = cutoff_A + spacing_A * np.arange(-(n + 6), 4.0)
    functions = bspline_basis(np.clip(r, knots[3] + spacing_A / 2, cutoff_A), knots, derivative)[
        :, :-3
    ]
    return np.concatenate([functions[:, :4].sum(axis=1, keepdims=True), functions[:, 4:]], axis=1)


def _derivative_matrix(knots: Floats, derivative: int) -> Floats:
    """Coefficients of the derivative in the basis of lower degree, per unit coefficient of the
    cubic spline.
    """
    matrix = np.eye(len(knots) - 4)
    degree, t = 3, knots
    for _ in range(derivative):
        n = len(t) - degree - 1
        span = t[degree + 1 : degree + n] - t[1:n]
        matrix = degree * np.diff(matrix, axis=0) / span[:, None]
        t, degree = t[1:-1], degree - 1
    return matrix


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
