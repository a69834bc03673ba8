"""Protons handed on: how often hydrogens change the atom that they are nearest to."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mld_ff.geometry.pairs import both_ways, neighbour_pairs
from mld_ff.report.comparison import Comparison
from mld_ff.report.statistics import evenly_spaced, mean
from mld_ff.trajectory import Floats, Ints, Trajectory
from mld_ff.units import FS_TO_PS

REACH_A = 2.5
"""No hydrogen is farther from its nearest partner."""
OBSERVABLE = "proton_changes_per_ps"


def compare_partners(frames: Mapping[str, Trajectory]) -> Comparison:
    """Changes of partner per time, of all hydrogens together, in frames as far apart as those of
    the coarsest trajectory: a proton that goes to and fro in between is not seen to.
    """
    comparison = Comparison()
    if not all(evenly_spaced(t) and {"H"} < {*t.symbols} for t in frames.values()):
        return comparison
    coarsest_fs = max(float(np.diff(t.time).mean()) for t in frames.values())
    for name, t in frames.items():
        some = t[:: max(1, round(coarsest_fs / float(np.diff(t.time).mean())))]
        if some.n_frames > 1:
            per_ps = _changes(some) / (np.diff(some.time) * FS_TO_PS)
            comparison.statistics[name] = {OBSERVABLE: mean(per_ps)}
    return comparison


def _changes(frames: Trajectory) -> Floats:
    """Hydrogens with another partner than in the frame before, (F - 1,)."""
    each = zip(frames.positions, frames.cell, strict=True)
    partners = np.array([nearest_partners(frames.symbols, x, cell) for x, cell in each])
    return np.asarray((partners[1:] != partners[:-1]).sum(axis=1), dtype=np.float64)


def nearest_partners(symbols: tuple[str, ...], positions: Floats, cell: Floats) -> Ints:
    """The nearest atom that is no hydrogen of every hydrogen (H,); -1 where none is in reach.

    positions (N, 3) [Å], cell (3, 3) [Å].
    """
    hydrogen = np.array([s == "H" for s in symbols])
    near = both_ways(neighbour_pairs(positions, cell, REACH_A))
    near = near[hydrogen[near.i] & ~hydrogen[near.j]]
    near = near[np.lexsort((near.r, near.i))]
    atoms, first = np.unique(near.i, return_index=True)
    partner = np.full(len(symbols), -1)
    partner[atoms] = near.j[first]
    return np.asarray(partner[hydrogen])
