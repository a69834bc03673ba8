"""Densities of orders 0, 1 and 2 summed over neighbours: energy and forces of their channels, for
`mld_ff_neighbours.py`. Lengths here are in angstrom, energies in eV.
"""

import math
from functools import cache

import numpy as np
from mld_ff_neighbours import FAST, Sums
from numba import njit


class Densities(Sums):
    """Channels that share their knots.

    kind (N,): species of every atom, of S. grid (2,): spacing of knots, and cutoff. numbers (3,):
    channels of order 0 at every atom, of order 1, of order 2: n0, n1, n2. table
    (S, S, M, 4, 2 n0 + n1 + n2): functions of a pair of two species, polynomials of t in interval
    m, where m + t = (cutoff - r) / spacing: what the second adds to the densities of order 0 of
    the first, what the first adds to those of the second, and orders 1 and 2, which both share.
    embedding (S, n0, 5): strength, rest, lowest and highest density, fade. strength (n1 + n2,).
    """

    def __init__(self, kind, grid, numbers, table, embedding, strength):
        n0, n1, n2 = map(int, numbers)
        n_species, intervals = len(embedding), table.shape[2]
        fits = (
            # the compiled loops do not look whether an index is inside
            table.shape == (n_species, n_species, intervals, 4, 2 * n0 + n1 + n2)
            and embedding.shape == (n_species, n0, 5)
            and strength.shape == (n1 + n2,)
            and min(n0, n1, n2) >= 0
            and kind.dtype.kind == "i"
            and ((kind >= 0) & (kind < n_species)).all()
            and 0 < grid[1] < 2 * grid[0] * intervals < np.inf
        )
        if not fits:
            raise ValueError("its arrays do not belong together; export it again")
        super().__init__(kind, grid[1])
        self.parameters = kind, tuple(map(float, grid)), table, embedding, strength
        self._compiled = _compiled(n0, n1, n2)

    def compute(self, positions, listed):
        return self._compiled(positions, listed, *self.parameters)


@cache
def _compiled(n0, n1, n2):
    """The function for so many channels of each order: loops of known length are unrolled, which
    saves a quarter of the time.
    """
    sum_neighbours = _summing(n0, n1, n2)
    take_cost, forces_of = _costing(n0, n1, n2), _pulling(n0, n1, n2)

    def compute(positions, listed, kind, grid, table, embedding, strength):
        sums, pairs = sum_neighbours(positions, listed, kind, grid, table)
        energy = take_cost(sums, kind, embedding, strength)
        return energy, forces_of(sums, pairs, kind, grid, table)

    return compute


def _summing(n0, n1, n2):
    at_1, at_2 = 2 * n0, 2 * n0 + n1
    vectors, quadrupoles, n_sums = n0, n0 + 3 * n1, n0 + 3 * n1 + 5 * n2

    @njit(cache=True, fastmath=FAST, nogil=True)
    def sum_neighbours(positions, listed, kind, grid, table):
        """Densities of all atoms, (N, n_sums), and the pairs within the cutoff: where those of each
        atom begin, (N + 1,), the other atom, direction and length.
        """
        first, other, image, offsets = listed
        begin, near = np.empty(len(first), np.int64), np.empty(len(other), np.int64)
        towards, lengths = np.empty((len(other), 3)), np.empty(len(other))
        sums = np.zeros((len(positions), n_sums))
        found = 0
        for i in range(len(positions)):
            begin[i] = found
            for p in range(first[i], first[i + 1]):
                j = other[p]
                x = positions[j, 0] - positions[i, 0] + offsets[image[p], 0]
                y = positions[j, 1] - positions[i, 1] + offsets[image[p], 1]
                z = positions[j, 2] - positions[i, 2] + offsets[image[p], 2]
                r = np.sqrt(x * x + y * y + z * z)
                if not r < grid[1]:
                    continue
                x, y, z = x / r, y / r, z / r
                near[found] = j
                towards[found, 0], towards[found, 1], towards[found, 2] = x, y, z
                lengths[found] = r
                found += 1
                m, t = _place(r, grid, table)
                rows = table[kind[i], kind[j], m]
                for k in range(n0):
                    sums[i, k] += _value(rows, k, t)
                    sums[j, k] += _value(rows, n0 + k, t)
                for k in range(n1):
                    value, at = _value(rows, at_1 + k, t), vectors + 3 * k
                    for c, u in enumerate((x, y, z)):
                        sums[i, at + c] += value * u
                        sums[j, at + c] -= value * u
                for k in range(n2):
                    value, at = _value(rows, at_2 + k, t), quadrupoles + 5 * k
                    for c, h in enumerate(_harmonics(x, y, z)):
                        sums[i, at + c] += value * h
                        sums[j, at + c] += value * h
        begin[len(positions)] = found
        return sums, (begin, near, towards, lengths)

    return sum_neighbours


def _costing(n0, n1, n2):
    vectors, quadrupoles, n_sums = n0, n0 + 3 * n1, n0 + 3 * n1 + 5 * n2

    @njit(cache=True, fastmath=FAST, nogil=True)
    def take_cost(sums, kind, embedding, strength):
        """What densities cost; they become its slopes."""
        energy = 0.0
        for i in range(len(sums)):
            for k in range(n0):
                cost, sums[i, k] = _embedding(sums[i, k], embedding[kind[i], k])
                energy += cost
            for c in range(n0, n_sums):
                k = (c - vectors) // 3 if c < quadrupoles else n1 + (c - quadrupoles) // 5
                energy += strength[k] * sums[i, c] ** 2
                sums[i, c] *= 2 * strength[k]
        return energy

    return take_cost


def _pulling(n0, n1, n2):
    at_1, at_2 = 2 * n0, 2 * n0 + n1
    vectors, quadrupoles = n0, n0 + 3 * n1

    @njit(cache=True, fastmath=FAST, nogil=True)
    def forces_of(slopes, pairs, kind, grid, table):
        """Forces (N, 3). A pair's vectors v and quadrupoles q of all channels are added up first,
        so that directions are turned into forces once.
        """
        begin, near, towards, lengths = pairs
        forces = np.zeros((len(slopes), 3))
        for i in range(len(slopes)):
            for p in range(begin[i], begin[i + 1]):
                j = near[p]
                x, y, z, r = towards[p, 0], towards[p, 1], towards[p, 2], lengths[p]
                h0, h1, h2, h3, h4 = _harmonics(x, y, z)
                m, t = _place(r, grid, table)
                rows = table[kind[i], kind[j], m]
                radial = 0.0
                v0 = v1 = v2 = q0 = q1 = q2 = q3 = q4 = 0.0
                for k in range(n0):
                    radial += slopes[i, k] * _slope(rows, k, t)
                    radial += slopes[j, k] * _slope(rows, n0 + k, t)
                for k in range(n1):
                    value, slope = _value(rows, at_1 + k, t), _slope(rows, at_1 + k, t)
                    at = vectors + 3 * k
                    d0 = slopes[i, at] - slopes[j, at]
                    d1 = slopes[i, at + 1] - slopes[j, at + 1]
                    d2 = slopes[i, at + 2] - slopes[j, at + 2]
                    radial += slope * (d0 * x + d1 * y + d2 * z)
                    v0, v1, v2 = v0 + value * d0, v1 + value * d1, v2 + value * d2
                for k in range(n2):
                    value, slope = _value(rows, at_2 + k, t), _slope(rows, at_2 + k, t)
                    at = quadrupoles + 5 * k
                    d0 = slopes[i, at] + slopes[j, at]
                    d1 = slopes[i, at + 1] + slopes[j, at + 1]
                    d2 = slopes[i, at + 2] + slopes[j, at + 2]
                    d3 = slopes[i, at + 3] + slopes[j, at + 3]
                    d4 = slopes[i, at + 4] + slopes[j, at + 4]
                    radial += slope * (d0 * h0 + d1 * h1 + d2 * h2 + d3 * h3 + d4 * h4)
                    q0, q1, q2 = q0 + value * d0, q1 + value * d1, q2 + value * d2
                    q3, q4 = q3 + value * d3, q4 + value * d4
                g0, g1, g2 = _gradient(x, y, z, q0, q1, q2, q3, q4)
                v0, v1, v2 = v0 + g0, v1 + g1, v2 + g2
                # t falls with r; what points along the pair turns nothing
                along = -radial / grid[0] - (v0 * x + v1 * y + v2 * z) / r
                force = along * x + v0 / r, along * y + v1 / r, along * z + v2 / r
                for d in range(3):
                    forces[i, d] += force[d]
                    forces[j, d] -= force[d]
        return forces

    return forces_of


@njit(cache=True, fastmath=FAST, nogil=True)
def _place(r, grid, table):
    """Interval between knots and place in it, of a table that begins at the cutoff."""
    t = (grid[1] - r) / grid[0]
    m = min(int(t), table.shape[2] - 1)
    return m, t - m


@njit(cache=True, fastmath=FAST, nogil=True)
def _value(rows, k, t):
    return rows[0, k] + t * (rows[1, k] + t * (rows[2, k] + t * rows[3, k]))


@njit(cache=True, fastmath=FAST, nogil=True)
def _slope(rows, k, t):
    """Over t."""
    return rows[1, k] + t * (2 * rows[2, k] + t * (3 * rows[3, k]))


@njit(cache=True, fastmath=FAST, nogil=True)
def _embedding(rho, of):
    """A parabola whose curvature fades beyond the range; cost and slope."""
    strength, rest, low, high, fade = of[0], of[1], of[2], of[3], of[4]
    inside = min(max(rho, low), high)
    beyond = rho - inside
    out = abs(beyond)
    fading = min(out, fade)
    x = inside - rest
    cost = x * (x + 2 * beyond) + fading**2 * (1 - fading / (3 * fade)) + (out - fading) * fade
    slope = 2 * x + math.copysign(2 * fading - fading**2 / fade, beyond)
    return strength * cost, strength * slope


ROOT2, ROOT6 = np.sqrt(2.0), np.sqrt(6.0)


@njit(cache=True, fastmath=FAST, nogil=True)
def _harmonics(x, y, z):
    """Components of the traceless tensor of a direction."""
    return (
        ROOT2 * x * y,
        ROOT2 * y * z,
        ROOT2 * z * x,
        (x * x - y * y) / ROOT2,
        (2 * z * z - x * x - y * y) / ROOT6,
    )


@njit(cache=True, fastmath=FAST, nogil=True)
def _gradient(x, y, z, q0, q1, q2, q3, q4):
    """Of the sum of components times q, over the direction."""
    return (
        ROOT2 * (q0 * y + q2 * z + q3 * x) - 2 / ROOT6 * q4 * x,
        ROOT2 * (q0 * x + q1 * z - q3 * y) - 2 / ROOT6 * q4 * y,
        ROOT2 * (q1 * y + q2 * x) + 4 / ROOT6 * q4 * z,
    )
