"""Forces that products of neighbour sums exert, compiled: the loops that decide how long
accumulating a form takes.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from mld_ff.trajectory import Floats, Ints


@njit(cache=True, fastmath=True)
def add_product_forces(
    forces: Floats,
    sums: Floats,
    place: Ints,
    i: Ints,
    j: Ints,
    unit: Floats,
    slopes: Floats,
    values_per_r: Floats,
    first: int,
    harmonics: Floats,
    harmonic_slopes: Floats,
) -> None:
    """Add to `forces` (N, 3, A, A) those of Q_b·dQ_a at [a, b], of which `products` makes those of
    Q_a·Q_b.

    sums (C, M, A): Q of the centres; place (N,): which centre an atom is. Of P pairs with a centre
    i: unit (P, 3); of the functions from `first` on that the pairs have, slopes and values over r
    (P, n); harmonics (P, M) and their slopes (P, M, 3).

    The innermost loops run over contiguous numbers, which is why b comes last everywhere.
    """
    n_components, n_sums = sums.shape[1:]
    along, across = np.zeros(n_sums), np.zeros((3, n_sums))
    for p in range(len(i)):
        along[:] = 0.0
        across[:] = 0.0
        for m in range(n_components):
            q = sums[place[i[p]], m]
            for b in range(n_sums):
                along[b] += harmonics[p, m] * q[b]
            for d in range(3 if n_components > 1 else 0):
                for b in range(n_sums):
                    across[d, b] += harmonic_slopes[p, m, d] * q[b]
        for k in range(slopes.shape[1]):
            slope, value = slopes[p, k], values_per_r[p, k]
            if slope == 0.0 and value == 0.0:
                continue
            for d in range(3):
                radial = slope * unit[p, d]
                on_i, on_j = forces[i[p], d, first + k], forces[j[p], d, first + k]
                for b in range(n_sums):
                    force = radial * along[b] + value * across[d, b]
                    on_i[b] += force
                    on_j[b] -= force


@njit(cache=True)
def products(forces: Floats) -> Floats:
    """Forces (3N, A (A+1)/2) of unit coefficients of Q_a·Q_b, a ≤ b, from those (N, 3, A, A) of
    Q_b·dQ_a."""
    n, _, n_sums, _ = forces.shape
    both = np.empty((3 * n, n_sums * (n_sums + 1) // 2))
    for i in range(n):
        for d in range(3):
            number = 0
            for a in range(n_sums):
                for b in range(a, n_sums):
                    both[3 * i + d, number] = forces[i, d, a, b] + forces[i, d, b, a]
                    number += 1
    return both
