"""Scores of MLIPAudit for runs of water (github.com/instadeepai/mlipaudit, `scoring.py` and
`benchmarks`; read in November 2026).

The experiment is the benchmark's own, Skinner's of 2013, or another: Soper's, of the same year.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp
from pathlib import Path

import numpy as np
from ase.geometry import cell_to_cellpar
from MDAnalysis.lib.distances import capped_distance, self_capped_distance

from mld_ff.trajectory import Floats, Trajectory

DATA = Path(__file__).parent / "data"
OWN = "Skinner 2013"
EXPERIMENTS = {OWN: "goo-skinner2013.txt", "Soper 2013": "goo-soper2013.txt"}
STEEPNESS = 3.0
FIRST_PEAK_A, MOST_RMSE = 2.80, 0.1
RANGE_A = (2.5, 10.0)
BIN_A = 0.02
LOST_A = 2.5
"""From all atoms of other elements than hydrogen: a hydrogen that left."""
HOTTER_K, JUMP = 10_000.0, 100.0
"""Above the temperature of the run, or so many times that of the frame before: an explosion."""


@dataclass(frozen=True)
class WaterScore:
    r_A: Floats
    g: Floats
    """O–O, (R,) at `r_A`, centres of bins."""
    end_A: float
    """As far as the box goes, or 10 Å."""

    def rmse(self, name: str = OWN) -> float:
        """Against an experiment, from 2.5 Å."""
        grid, measured = experiment(name)
        inside = grid < self.end_A - BIN_A
        error = np.interp(grid[inside], self.r_A, self.g) - measured[inside]
        return float(np.sqrt((error**2).mean()))

    @property
    def peak_A(self) -> float:
        return float(self.r_A[np.argmax(self.g)])

    @property
    def score(self) -> float:
        """As the benchmark has it, 0 to 1."""
        return score_of(self.peak_A, self.rmse())


def score_of(peak_A: float, rmse: float) -> float:
    """Mean of what the place of the first peak and the curve get, 0 to 1."""
    place = exp(-STEEPNESS * abs(peak_A - FIRST_PEAK_A) / FIRST_PEAK_A)
    return (place + soft(rmse, MOST_RMSE)) / 2


def soft(value: float, threshold: float) -> float:
    """1 up to the threshold, and beyond it an exponential of how far."""
    return 1.0 if value <= threshold else exp(-STEEPNESS * (value - threshold) / threshold)


def experiment(name: str) -> tuple[Floats, Floats]:
    """Distances [Å] every 0.03 Å, and g_OO."""
    r, g = np.loadtxt(DATA / EXPERIMENTS[name], unpack=True)
    grid = np.arange(2.52, RANGE_A[1], 0.03)
    return grid, np.interp(grid, r, g)


def water_score(frames: Trajectory) -> WaterScore:
    oxygens = np.array([s == "O" for s in frames.symbols])
    end = min(RANGE_A[1], frames.half_width)
    edges = np.arange(2.0, end, BIN_A)
    counts, volume = np.zeros(len(edges) - 1), 0.0
    for x, cell in zip(frames.positions[:, oxygens], frames.cell, strict=True):
        _, r = self_capped_distance(x, end, min_cutoff=2.0, box=box_of(cell))
        counts += np.histogram(r, edges)[0]
        volume += abs(float(np.linalg.det(cell)))
    n = int(oxygens.sum())
    shells = 4 / 3 * np.pi * np.diff(edges**3)
    ideal = frames.n_frames * n * (n - 1) / 2 * shells / (volume / frames.n_frames)
    return WaterScore((edges[1:] + edges[:-1]) / 2, counts / ideal, end)


def box_of(cell: Floats) -> Floats:
    """A cell of three vectors as lengths and angles, which MDAnalysis asks for."""
    return np.asarray(cell_to_cellpar(cell), dtype=np.float32)


def first_explosion(temperature_K: Floats, set_K: float) -> int:
    """Of frames by their temperatures (F,): the first that exploded, -1 if none did."""
    hot = np.flatnonzero(temperature_K > set_K + HOTTER_K)
    jumped = np.flatnonzero(temperature_K[1:] > JUMP * temperature_K[:-1]) + 1
    return int(hot[0] if len(hot) else jumped[0] if len(jumped) else -1)


def first_drift(frames: Trajectory) -> int:
    """The first frame from which on a hydrogen is farther than 2.5 Å from every heavier atom, -1 if
    there is none.
    """
    hydrogens = np.array([s == "H" for s in frames.symbols])
    lost = np.ones((frames.n_frames, int(hydrogens.sum())), dtype=bool)
    for k, (x, cell) in enumerate(zip(frames.positions, frames.cell, strict=True)):
        near = capped_distance(x[hydrogens], x[~hydrogens], LOST_A, box=box_of(cell))[0]
        lost[k, near[:, 0]] = False
    for_good = np.logical_and.accumulate(lost[::-1])[::-1].any(axis=1)
    return int(np.argmax(for_good)) if for_good.any() else -1


def stability_score(exploded: int, drifted: int, n_frames: int) -> float:
    """1 for a run that stayed together, 0.5 to 1 by when a hydrogen left, 0 to 0.5 by when it
    exploded.
    """
    if exploded >= 0:
        return 0.5 * exploded / n_frames
    return 1.0 if drifted < 0 else 0.5 + 0.5 * drifted / n_frames
