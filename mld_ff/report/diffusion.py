"""Displacements of molecules and their diffusion constants."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping

import MDAnalysis
import numpy as np
from MDAnalysis.analysis.msd import EinsteinMSD
from MDAnalysis.coordinates.memory import MemoryReader

from mld_ff.geometry.topology import Topology, TopologyKind, topology_of
from mld_ff.report.comparison import Comparison
from mld_ff.report.plots import Band
from mld_ff.report.statistics import UNKNOWN, Statistic, evenly_spaced
from mld_ff.report.style import subject
from mld_ff.trajectory import Floats, Trajectory
from mld_ff.units import FS_TO_PS

LAG_OF_RUN = 0.25
"""Displacements are followed for at most this fraction of a run."""
DIFFUSION_FROM = 0.5
"""The diffusion constant is their slope from this fraction of the longest lag on."""
SHORTEST_DIFFUSION_PS = 1.0
"""Molecules still rattle in their cages at shorter longest lags than this, and nothing is said
about diffusion.
"""
CAPTION = (
    "Mean-square displacement of centres of mass, with the error of the mean over the molecules"
    " (bands). D is a sixth of the slope from {start:.2g} to {end:.2g} ps. Molecules that still"
    " rattle in their cages have no constant slope there, and lags of many picoseconds are needed"
    " for the diffusive regime. D is that of this box: a cube of L has D smaller than a large box"
    " by 2.837 kT / (6πηL) (Yeh and Hummer, J. Phys. Chem. B 108, 15873, 2004), which is not"
    " added."
)


def compare_diffusion(frames: Mapping[str, Trajectory], kind: TopologyKind) -> Comparison:
    """Over the same lags: displacements are not yet proportional to the time in runs as short as
    the reference's.
    """
    comparison = Comparison()
    if uneven := [subject(name) for name, t in frames.items() if not evenly_spaced(t)]:
        comparison.notes.append(
            f"Diffusion is left out: frames of {' and '.join(uneven)} are not equally far apart in"
            " time."
        )
        return comparison
    longest_ps = LAG_OF_RUN * FS_TO_PS * min(float(t.time[-1] - t.time[0]) for t in frames.values())
    if longest_ps < SHORTEST_DIFFUSION_PS:
        comparison.notes.append(
            f"Diffusion is left out: displacements can be followed for {longest_ps:.2g} ps only, a"
            f" quarter of the shortest run; {SHORTEST_DIFFUSION_PS:g} ps are needed."
        )
    curves: dict[str, list[Band]] = {name: [] for name in frames}
    formulas: list[str] = []
    for name, t in frames.items():
        paths = molecule_paths(topology_of(t, kind), t)
        formulas = list(paths)
        statistics = comparison.statistics.setdefault(name, {})
        for formula, path in paths.items():
            observable = "diffusion_A2_per_ps" + (f" {formula}" if len(paths) > 1 else "")
            lag, msd = mean_square_displacement(path, float(np.diff(t.time).mean()), longest_ps)
            constant = diffusion_constant(lag, msd)
            if constant.value < 0:
                comparison.notes.append(
                    f"No diffusion constant is told of {formula} in {subject(name)}: displacements"
                    " do not grow, as in a solid, or in too short a run."
                )
                constant = UNKNOWN
            statistics[observable] = constant
            n = msd.shape[1]
            error = msd.std(axis=1, ddof=1) / math.sqrt(n) if n > 1 else np.full(len(lag), np.nan)
            curves[name].append((lag, msd.mean(axis=1), error))
    caption = CAPTION.format(start=DIFFUSION_FROM * longest_ps, end=longest_ps)
    comparison.draw("displacement", caption, formulas, curves, ("lag [ps]", "MSD [Å²]"))
    return comparison


def molecule_paths(topology: Topology, frames: Trajectory) -> dict[str, Floats]:
    """Centres of mass without jumps at boundaries, (F, M, 3) [Å], by chemical formula; drift of the
    box removed.
    """
    steps = np.diff(frames.positions, axis=0)
    inverse = np.linalg.inv(frames.cell[1:])
    steps -= np.einsum(
        "fpc,fcd->fpd", np.round(np.einsum("fpc,fcd->fpd", steps, inverse)), frames.cell[1:]
    )
    start = topology.whole(frames.positions[0], frames.cell[0])
    x = np.concatenate([start[None], start + np.cumsum(steps, axis=0)])
    x -= (np.einsum("fpc,p->fc", x, frames.masses) / frames.masses.sum())[:, None]
    by_formula: dict[str, list[Floats]] = {}
    for atoms in topology.molecules:
        mass = frames.masses[atoms]
        centre = np.einsum("fpc,p->fc", x[:, atoms], mass) / mass.sum()
        by_formula.setdefault(topology.formula(atoms), []).append(centre)
    return {formula: np.stack(paths, axis=1) for formula, paths in by_formula.items()}


def mean_square_displacement(
    paths: Floats, interval_fs: float, longest_ps: float
) -> tuple[Floats, Floats]:
    """Lag times (L,) [ps] up to the longest, and mean-square displacement (L, M) [Å²] of M paths
    (MDAnalysis).

    paths (F, M, 3), interval_fs apart.
    """
    universe = MDAnalysis.Universe.empty(paths.shape[1], trajectory=True)
    universe.load_new(paths.astype(np.float32), format=MemoryReader, order="fac")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        msd = EinsteinMSD(universe, select="all", fft=True).run().results.msds_by_particle
    n = min(len(paths), int(longest_ps / (interval_fs * FS_TO_PS) + 1e-6) + 1)
    lag = np.arange(n) * interval_fs * FS_TO_PS
    return np.asarray(lag, dtype=np.float64), np.asarray(msd[:n], dtype=np.float64)


def diffusion_constant(lag_ps: Floats, msd: Floats) -> Statistic:
    """Einstein's D [Å²/ps] = slope / 6 of displacements (L, M) beyond DIFFUSION_FROM of the lags
    (L,).

    The error is that of the mean over the molecules; nan with less than three lags, and the error
    with one molecule.
    """
    late = lag_ps >= DIFFUSION_FROM * lag_ps[-1]
    if late.sum() < 3 or lag_ps[-1] < 0.9 * SHORTEST_DIFFUSION_PS:
        return UNKNOWN
    each = np.polyfit(lag_ps[late], msd[late], 1)[0] / 6
    n = len(each)
    return Statistic(
        float(each.mean()), float(each.std(ddof=1) / math.sqrt(n)) if n > 1 else math.nan
    )
