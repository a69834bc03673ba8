"""Walls: what a term of pairs does where the data hold nothing.

Nobody knows the loss there, and a fitted function may go anywhere. A wall takes value, slope and
curvature of the term at the edge and adds a cubic that drives the pair back, stiff enough to do so
before the pair comes to where nobody was seen.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from mld_ff.geometry.histogram import Histogram
from mld_ff.geometry.pairs import BIN_A
from mld_ff.trajectory import Floats

DEPTH_A = 0.1
"""Walls begin this far outside the shortest sampled distance, so that they push back by the time it
is reached."""
PUSHES_BACK = 0.7
"""... namely from this fraction of the way on."""
PAIRS_INSIDE = 20
"""... and not before this many pairs have been seen inside."""
LEAST_STIFFNESS = 10.0
"""[eV/Å³] of every wall."""
STIFF = 300.0
"""[eV/Å³] at least where walls begin outside of what was sampled: beside densities of order 1 or 2,
whose costs nothing bounds (it kept water at 300 and 450 K together for 0.5 ns), and beside
charges (walls further in would be the largest error of molten salt, 10 instead of 2 meV/Å). They
begin ..."""
OUTSIDE_A = 0.02
"""... this far outside the shortest distance."""
PULL_DEPTH_A = 0.4
"""This far inside, a wall outweighs whatever densities of other terms can do."""


@dataclass(frozen=True)
class Wall:
    """Continuation of a term beyond an edge of its sampled range.

    With depth x = |r - edge|:  u(r) = energy - force x + ½ curvature x² + stiffness x³, where
    `energy`, `force` (towards the sampled range) and `curvature` are the term's own at the edge, so
    u is twice differentiable there.
    """

    edge_A: float
    stiffness_eV_per_A3: float
    energy: float
    force: float
    curvature: float
    inward: int
    """+1 where the sampled range lies at larger r than the edge, -1 where it lies at smaller r."""

    def beyond(self, r: Floats) -> np.ndarray:
        """Which distances (P,) lie in the wall."""
        return np.asarray((self.edge_A - r) * self.inward > 0)

    def evaluate(self, r: Floats) -> tuple[Floats, Floats]:
        """Energy [eV] and derivative du/dr [eV/Å] at depth; r (P,) must lie beyond the edge."""
        x = np.abs(r - self.edge_A)
        c, k = self.stiffness_eV_per_A3, self.curvature
        energy = self.energy + x * (self.force + x * (k / 2 + x * c))
        return energy, -self.inward * (self.force + x * (k + 3 * c * x))


def wall_stiffness(force: float, curvature: float, depth: float, least: float) -> float:
    """Smallest cubic coefficient [eV/Å³], at least `least`, that pushes back everywhere beyond
    `depth` [Å].

    force [eV/Å] and curvature [eV/Å²] are those at the edge, positive when they push back.
    """
    return max(
        least,
        -force / (3 * depth**2),
        -curvature / (3 * depth),
        -(force + curvature * depth) / (3 * depth**2),
    )


def inner_edge(seen: Histogram, cutoff_A: float) -> float:
    """Where the wall below the distances seen begins [Å], on the grid of exported tables."""
    enough_inside = seen.distance_below(min(PAIRS_INSIDE, seen.n))
    edge = math.ceil(max(seen.shortest + DEPTH_A, enough_inside) / BIN_A)
    return round(min(edge * BIN_A, cutoff_A - BIN_A), 6)


def outside_edge(seen: Histogram) -> float:
    """Where a wall begins that no distance seen shall feel [Å], on the grid of exported tables."""
    return round(math.floor((seen.shortest - OUTSIDE_A) / BIN_A) * BIN_A, 6)


def outer_edges(seen: Histogram) -> tuple[float, float]:
    """The range of the distances seen [Å], on the grid of exported tables."""
    low, high = math.floor(seen.shortest / BIN_A), math.ceil(seen.longest / BIN_A)
    return round(low * BIN_A, 6), round(high * BIN_A, 6)
