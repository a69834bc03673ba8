"""Channels of densities → files of LAMMPS's pair style eam/he."""

from __future__ import annotations

from itertools import combinations_with_replacement

import numpy as np
from ase.data import atomic_numbers

from mld_ff.engines.start import Start
from mld_ff.geometry.pairs import BIN_A
from mld_ff.loss.densities import DensityTerm
from mld_ff.trajectory import Floats

DENSITY_POINTS_PER_BIN = 2
"""Of the tables of densities, on the grid of BIN_A, where their knots are: LAMMPS errs by 1e-5 eV/Å
with so many. With 5 it errs by 1e-6 and takes twice as long, as the tables leave the processor's
cache.
"""
EMBEDDING_POINTS = 401
"""Of the embedding whose range of densities is the narrowest. All species of a file share one grid,
and with so many over all of their ranges forces in SrTiO3, whose ranges lie apart, were wrong by
0.03 eV/Å."""
MOST_EMBEDDING_POINTS = 40_000
EMBEDDING_BEYOND = 4
"""Points beyond the straight ends of every embedding: LAMMPS's spline is inexact in the outermost,
and goes on straight from there.
"""
TITLE = "collective loss written by mld_ff (units metal)"
EXPLANATION = "every density is that of the atom at the centre"


def channel_file(number: int) -> str:
    """Name of the file of the first, the second, … channel of every species."""
    return f"collective.{number}.eam"


def embedded_atoms(channels: dict[str, DensityTerm], start: Start) -> str:
    """One channel of every species as a file of pair style eam/he: densities of either sign, a
    function F(ρ) for every species, and a density for every species at every other.
    """
    species = start.topology.species
    cutoff = next(iter(channels.values())).cutoff_A
    points = round(cutoff / BIN_A) * DENSITY_POINTS_PER_BIN + 1
    r, nothing = np.linspace(0, cutoff, points), np.zeros(points)
    rho, spacing = _densities(channels)
    grids = (len(rho), spacing, points, cutoff / (points - 1), cutoff, rho[-1])
    lines = [
        TITLE,
        " ".join(t.name for t in channels.values()),
        EXPLANATION,
        f"{len(species)} {' '.join(species)}",
        " ".join(f"{x:.17g}" for x in grids),
    ]
    masses = dict(zip(start.topology.symbols, start.frame.masses.tolist(), strict=True))
    for s in species:
        lines.append(f"{atomic_numbers[s]} {masses[s]:.10g} 0.0 none")
        own = channels.get(s)
        lines += numbers(own.embedding(rho)[0] if own else np.zeros(len(rho)))
        for centre in species:
            channel = channels.get(centre)
            is_near = channel is not None and s in channel.neighbours
            lines += numbers(channel.density(s, r) if channel and is_near else nothing)
    for _ in combinations_with_replacement(species, 2):  # the pair functions, which tables hold
        lines += numbers(nothing)
    return "\n".join(lines) + "\n"


def _densities(channels: dict[str, DensityTerm]) -> tuple[Floats, float]:
    """Densities ρ (R,) that every embedding is told at, and their spacing."""
    lows = np.array([t.range[0] - t.fade for t in channels.values()])
    highs = np.array([t.range[1] + t.fade for t in channels.values()])
    low, width = lows.min(), highs.max() - lows.min()
    inside = EMBEDDING_POINTS - 1 - 2 * EMBEDDING_BEYOND
    intervals = min(round(inside * width / (highs - lows).min()), MOST_EMBEDDING_POINTS)
    spacing = float(width / intervals)
    rho = low + spacing * np.arange(-EMBEDDING_BEYOND, intervals + EMBEDDING_BEYOND + 1.0)
    return np.asarray(rho, dtype=np.float64), spacing


def numbers(values: Floats) -> list[str]:
    """Five to a line; zeros short."""
    words = [f"{x:.15g}" for x in values.tolist()]
    return [" ".join(words[k : k + 5]) for k in range(0, len(words), 5)]
