"""Densities summed over neighbours, of orders 0, 1 and 2, for OpenMM's PythonForce.

system.xml refers to the class below; run.py needs this file beside it, numba and vesin, and no
mld_ff. Lengths here are in angstrom, energies in eV.
"""

import numpy as np
from numba import njit
from vesin import NeighborList

NM_TO_A, EV_TO_KJ_PER_MOL = 10.0, 96.48533212331
SKIN_A = 0.6
"""Neighbours are listed so far beyond the cutoff, until an atom has moved by half of it."""


class Densities:
    """Energy and forces of K channels, as a function of an OpenMM State.

    kind (N,): species of every atom. order, spacing, cutoff (K,): of every channel. table
    (K, S, S, M, 4): what a neighbour of the second species adds at a centre of the first, cubic
    polynomials of t in interval m, where m + t = (cutoff - r) / spacing. embedding (K, S, 5):
    strength, rest, lowest and highest density, fade, of centres of a species.
    """

    def __init__(self, kind, order, spacing, cutoff, table, embedding):
        self.parameters = kind, order, spacing, cutoff, table, embedding
        self.reach = float(max(cutoff)) + SKIN_A
        self._listed = None

    def __getstate__(self):
        return {**vars(self), "_listed": None}

    def __call__(self, state):
        positions = state.getPositions(asNumpy=True)._value * NM_TO_A
        cell = np.array(state.getPeriodicBoxVectors(asNumpy=True)._value) * NM_TO_A
        energy, forces = self.evaluate(np.ascontiguousarray(positions), cell)
        return energy * EV_TO_KJ_PER_MOL, forces * EV_TO_KJ_PER_MOL * NM_TO_A

    def evaluate(self, positions, cell):
        """Energy [eV] and forces (N, 3) [eV/angstrom]."""
        if not np.isfinite(positions).all():
            return np.nan, np.full_like(positions, np.nan)
        i, j, shift = self._pairs(positions, cell)
        return _energy_and_forces(positions, i, j, shift @ cell, *self.parameters)

    def _pairs(self, positions, cell):
        if self._listed is not None:
            then, old_cell, pairs = self._listed
            moved = ((positions - then) ** 2).sum(axis=1).max()
            if moved < (SKIN_A / 2) ** 2 and (cell == old_cell).all():
                return pairs
        search = NeighborList(cutoff=self.reach, full_list=False)
        i, j, shift = search.compute(points=positions, box=cell, periodic=True, quantities="ijS")
        pairs = i.astype(np.int64), j.astype(np.int64), shift.astype(np.float64)
        self._listed = positions.copy(), cell.copy(), pairs
        return pairs


@njit(cache=True)
def _energy_and_forces(positions, i, j, shift, kind, order, spacing, cutoff, table, embedding):
    n, n_channels = len(positions), len(order)
    sums = np.zeros((n, n_channels, 5))
    slopes = np.zeros((n, n_channels, 5))
    forces = np.zeros((n, 3))
    harmonics, gradients = np.zeros((3, 5)), np.zeros((3, 5, 3))
    reach = cutoff.max()
    vector, unit = np.zeros(3), np.zeros(3)
    for p in range(len(i)):
        r = _vector(positions, i[p], j[p], shift[p], vector)
        if r >= reach:
            continue
        unit[:] = vector / r
        _harmonics(unit, harmonics)
        a, b = kind[i[p]], kind[j[p]]
        for k in range(n_channels):
            if r >= cutoff[k]:
                continue
            at_i, _ = _function(table[k, a, b], cutoff[k], spacing[k], r)
            at_j, _ = _function(table[k, b, a], cutoff[k], spacing[k], r)
            back = -at_j if order[k] == 1 else at_j
            for m in range(2 * order[k] + 1):
                sums[i[p], k, m] += at_i * harmonics[order[k], m]
                sums[j[p], k, m] += back * harmonics[order[k], m]
    energy = 0.0
    for atom in range(n):
        for k in range(n_channels):
            strength, rest, low, high, fade = embedding[k, kind[atom]]
            if strength == 0.0:
                continue
            if order[k] == 0:
                cost, slope = _embedding(sums[atom, k, 0], rest, low, high, fade)
                energy += strength * cost
                slopes[atom, k, 0] = strength * slope
            else:
                for m in range(2 * order[k] + 1):
                    energy += strength * sums[atom, k, m] ** 2
                    slopes[atom, k, m] = 2 * strength * sums[atom, k, m]
    force = np.zeros(3)
    for p in range(len(i)):
        r = _vector(positions, i[p], j[p], shift[p], vector)
        if r >= reach:
            continue
        unit[:] = vector / r
        _harmonics(unit, harmonics)
        _gradients(unit, harmonics, gradients)
        a, b = kind[i[p]], kind[j[p]]
        radial = 0.0
        force[:] = 0.0
        for k in range(n_channels):
            if r >= cutoff[k]:
                continue
            value_i, slope_i = _function(table[k, a, b], cutoff[k], spacing[k], r)
            value_j, slope_j = _function(table[k, b, a], cutoff[k], spacing[k], r)
            sign = -1.0 if order[k] == 1 else 1.0
            for m in range(2 * order[k] + 1):
                on_i, on_j = slopes[i[p], k, m], sign * slopes[j[p], k, m]
                radial += (slope_i * on_i + slope_j * on_j) * harmonics[order[k], m]
                across = (value_i * on_i + value_j * on_j) / r
                if order[k] > 0:
                    for d in range(3):
                        force[d] += across * gradients[order[k], m, d]
        for d in range(3):
            total = force[d] + radial * unit[d]
            forces[i[p], d] += total
            forces[j[p], d] -= total
    return energy, forces


@njit(cache=True)
def _vector(positions, i, j, shift, vector):
    square = 0.0
    for d in range(3):
        vector[d] = positions[j, d] - positions[i, d] + shift[d]
        square += vector[d] * vector[d]
    return np.sqrt(square)


@njit(cache=True)
def _function(polynomials, cutoff, spacing, r):
    """Value and derivative."""
    t = (cutoff - r) / spacing
    m = min(int(t), len(polynomials) - 1)
    t -= m
    c0, c1, c2, c3 = polynomials[m]
    return c0 + t * (c1 + t * (c2 + t * c3)), -(c1 + t * (2 * c2 + t * 3 * c3)) / spacing


@njit(cache=True)
def _embedding(rho, rest, low, high, fade):
    """A parabola whose curvature fades beyond the range; cost and slope for a strength of one."""
    inside = min(max(rho, low), high)
    beyond = rho - inside
    out = abs(beyond)
    fading = min(out, fade)
    x = inside - rest
    cost = x * (x + 2 * beyond) + fading**2 * (1 - fading / (3 * fade)) + (out - fading) * fade
    slope = 2 * x + np.sign(beyond) * (2 * fading - fading**2 / fade)
    return cost, slope


@njit(cache=True)
def _harmonics(u, values):
    """Components of the tensors of a direction, by order."""
    x, y, z = u
    values[0, 0] = 1.0
    values[1, 0], values[1, 1], values[1, 2] = x, y, z
    root = np.sqrt(2.0)
    values[2, 0], values[2, 1], values[2, 2] = root * x * y, root * y * z, root * z * x
    values[2, 3] = (x * x - y * y) / root
    values[2, 4] = (2 * z * z - x * x - y * y) / np.sqrt(6.0)


@njit(cache=True)
def _gradients(u, values, slopes):
    """How they change with the direction alone."""
    x, y, z = u
    root, six = np.sqrt(2.0), np.sqrt(6.0)
    slopes[1:] = 0.0
    for d in range(3):
        slopes[1, d, d] = 1.0
    slopes[2, 0, 0], slopes[2, 0, 1] = root * y, root * x
    slopes[2, 1, 1], slopes[2, 1, 2] = root * z, root * y
    slopes[2, 2, 2], slopes[2, 2, 0] = root * x, root * z
    slopes[2, 3, 0], slopes[2, 3, 1] = root * x, -root * y
    slopes[2, 4, 0], slopes[2, 4, 1], slopes[2, 4, 2] = -2 * x / six, -2 * y / six, 4 * z / six
    for order in (1, 2):
        for m in range(2 * order + 1):
            for d in range(3):
                slopes[order, m, d] -= order * values[order, m] * u[d]
