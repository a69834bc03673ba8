"""Directions as numbers: harmonic polynomials of a unit vector, orthonormal tensors by components.

Order 0 is a number, order 1 the vector r̂, order 2 the traceless part of r̂r̂. Components are such
that the sum of products over them is the tensors' own: (a·b)⁰ = 1, cos θ, cos² θ - ⅓.
"""

from __future__ import annotations

import numpy as np

from mld_ff.trajectory import Floats

ORDERS = (0, 1, 2)
"""Known."""
_SQRT2, _SQRT6 = np.sqrt(2.0), np.sqrt(6.0)


def components(order: int) -> int:
    """How many numbers M a tensor of an order has: 1, 3 or 5."""
    return 2 * order + 1


def harmonics(unit: Floats, order: int) -> Floats:
    """Components (P, M) of the tensors of unit vectors (P, 3)."""
    if order == 0:
        return np.ones((len(unit), 1))
    if order == 1:
        return unit
    x, y, z = unit.T
    return np.stack(
        [
            _SQRT2 * x * y,
            _SQRT2 * y * z,
            _SQRT2 * z * x,
            (x**2 - y**2) / _SQRT2,
            (2 * z**2 - x**2 - y**2) / _SQRT6,
        ],
        axis=1,
    )


def harmonic_slopes(unit: Floats, order: int) -> Floats:
    """How they change with the direction alone, (P, M, 3): over a vector's length, its gradient.

    h(r⃗/r) has the gradient (∂h - l h r̂) / r, where ∂h are the derivatives of the polynomial of
    degree l, because h(r⃗/r) = h(r⃗) / r^l.
    """
    slopes = np.zeros((len(unit), components(order), 3))
    if order == 0:
        return slopes
    if order == 1:
        slopes[:] = np.eye(3)
    else:
        x, y, z = unit.T
        slopes[:, 0, 0], slopes[:, 0, 1] = _SQRT2 * y, _SQRT2 * x
        slopes[:, 1, 1], slopes[:, 1, 2] = _SQRT2 * z, _SQRT2 * y
        slopes[:, 2, 2], slopes[:, 2, 0] = _SQRT2 * x, _SQRT2 * z
        slopes[:, 3, 0], slopes[:, 3, 1] = _SQRT2 * x, -_SQRT2 * y
        slopes[:, 4] = unit * np.array([-2.0, -2.0, 4.0]) / _SQRT6
    return slopes - order * harmonics(unit, order)[:, :, None] * unit[:, None, :]
