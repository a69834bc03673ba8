"""Forces that products of neighbour sums exert, compiled: the one loop that decides how long
accumulating a form takes (192 atoms, 10,000 neighbours, 300 products:
15 of 63 ms under the profiler; the rest is numpy around it).
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mld_ff.trajectory import Floats, Ints


@njit(cache=True)
def add_product_forces(
    forces: Floats,
    number: NDArray[np.int64],
    sums: Floats,
    i: Ints,
    j: Ints,
    unit: Floats,
    slopes: Floats,
    values_per_r: Floats,
    first: int,
    harmonics: Floats,
    harmonic_slopes: Floats,
) -> None:
    """Add to `forces` (N, 3, products) those of unit coefficients of Q_a·Q_b, `number`ed (A, A).

    Of P pairs: sums (P, A, M) at the atoms i, unit (P, 3); of the functions from `first` on that
    the pairs have, slopes and values over r (P, n); harmonics (P, M) and their slopes (P, M, 3).
    """
    n_sums, n_components = sums.shape[1:]
    along, across = np.zeros(n_sums), np.zeros((n_sums, 3))
    for p in range(len(i)):
        along[:] = 0.0
        across[:] = 0.0
        for b in range(n_sums):
            for m in range(n_components):
                q = sums[p, b, m]
                along[b] += q * harmonics[p, m]
                for d in range(3):
                    across[b, d] += q * harmonic_slopes[p, m, d]
        on_i, on_j = forces[i[p]], forces[j[p]]
        for k in range(slopes.shape[1]):
            slope, value = slopes[p, k], values_per_r[p, k]
            if slope == 0.0 and value == 0.0:
                continue
            of_a = number[first + k]
            for d in range(3):
                radial = slope * unit[p, d]
                for b in range(n_sums):
                    force = radial * along[b] + value * across[b, d]
                    if b == first + k:
                        force *= 2.0
                    on_i[d, of_a[b]] += force
                    on_j[d, of_a[b]] -= force
