"""Walls: what a fitted term does where the data hold nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from mld_ff.geometry.histogram import Histogram
from mld_ff.geometry.pairs import BIN_A
from mld_ff.loss.densities import CollectiveTerm
from mld_ff.loss.terms import BondTerm, FreeTerm, PairTerm, SplineTerm, wall_stiffness

WALL_DEPTH_A = 0.1
"""Walls begin this far outside the shortest sampled distance, so that they push back by the time it
is reached.
"""
WALL_PUSHES_BACK = 0.7
"""... namely from this fraction of the way on."""
WALL_PAIRS = 20
"""... and not before this many pairs have been seen inside."""
LEAST_STIFFNESS = 10.0
"""[eV/Å³] of every wall."""
PULL_DEPTH_A = 0.4
"""This far inside, a wall outweighs whatever channels of a collective loss can do."""


def with_walls(
    term: PairTerm, seen: Histogram, channels: Sequence[CollectiveTerm] = ()
) -> PairTerm:
    """The term with walls outside of the distances seen, stiff enough for what it and channels do
    there.
    """
    if isinstance(term, FreeTerm):
        if not seen.n:  # nobody came within the cutoff, and nobody shall
            return replace(
                term, wall_edge_A=term.cutoff_A, wall_stiffness_eV_per_A3=LEAST_STIFFNESS
            )
        # on the grid of BIN_A, where exported tables have their points
        edge = math.ceil(
            max(seen.shortest + WALL_DEPTH_A, seen.distance_below(min(WALL_PAIRS, seen.n))) / BIN_A
        )
        edge_A = round(min(edge * BIN_A, term.cutoff_A - BIN_A), 6)
        wall = replace(term, wall_edge_A=edge_A).walls[0]
        depth = WALL_PUSHES_BACK * max(edge_A - seen.shortest, BIN_A)
        least = max(
            LEAST_STIFFNESS, _strongest_pull(channels, term.species, edge_A) / (3 * PULL_DEPTH_A**2)
        )
        stiffness = wall_stiffness(wall.force, wall.curvature, depth, least)
        return _without_hidden(
            replace(term, wall_edge_A=edge_A, wall_stiffness_eV_per_A3=stiffness)
        )
    assert isinstance(term, BondTerm)
    low, high = math.floor(seen.shortest / BIN_A), math.ceil(seen.longest / BIN_A)
    ends = (round(low * BIN_A, 6), round(high * BIN_A, 6))
    walls = replace(term, range_A=ends).walls
    low_wall, high_wall = (
        wall_stiffness(w.force, w.curvature, WALL_DEPTH_A, LEAST_STIFFNESS) for w in walls
    )
    return replace(term, range_A=ends, wall_stiffness_eV_per_A3=(low_wall, high_wall))


def _strongest_pull(
    channels: Sequence[CollectiveTerm], pair: tuple[str, str], edge_A: float
) -> float:
    """Upper limit [eV/Å] of what channels can do to a pair below the edge of its wall: all at the
    steepest of their embedding, all the same way.
    """
    r = np.arange(BIN_A, edge_A, BIN_A)
    pull = np.zeros(len(r))
    for centre, neighbour in (pair, pair[::-1]):
        for t in channels:
            if t.species[0] == centre:
                steepest = np.abs(
                    t.embedding(np.array([t.range[0] - t.fade, t.range[1] + t.fade]))[1]
                ).max()
                pull += steepest * np.abs(t.density(neighbour, r, 1))
    return float(pull.max())


def _without_hidden(term: FreeTerm) -> FreeTerm:
    """Drop the spline functions that end before the wall's edge: few data determine them, and they
    change nothing.
    """
    if not isinstance(term, SplineTerm):
        return term
    hidden = max(int(np.searchsorted(term.knots, term.wall_edge_A, side="right")) - 4, 0)
    kept, errors = term.coefficients[hidden:], term.coefficient_errors[hidden:]
    return replace(term, coefficients=kept, coefficient_errors=errors)
