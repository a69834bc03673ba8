"""Observables of a trajectory with block errors; one code for CP2K and for learned runs."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import MDAnalysis
import numpy as np
from ase.geometry import cell_to_cellpar
from MDAnalysis.analysis.hydrogenbonds import HydrogenBondAnalysis
from MDAnalysis.analysis.msd import EinsteinMSD
from MDAnalysis.coordinates.memory import MemoryReader
from MDAnalysis.lib.distances import calc_angles

from mld_ff.geometry.topology import Path, Topology
from mld_ff.report.observables import observables
from mld_ff.survey import Inspection, inspect
from mld_ff.trajectory import Floats, Trajectory
from mld_ff.units import FS_TO_PS

N_BLOCKS = 5
FEWEST_FRAMES = 20
"""Fewer frames than this make no block error."""
FRAMES_FOR_STRUCTURE = 2000
"""Distances and angles are measured in at most this many frames, spread evenly: more would hardly
tell more.
"""
FRAMES_FOR_BONDS = 200
"""... and hydrogen bonds counted in at most this many."""
LAG_OF_RUN = 0.25
"""Displacements are followed for at most this fraction of a run."""
DIFFUSION_FROM = 0.5
"""The diffusion constant is their slope from this fraction of the longest lag on."""
SHORTEST_DIFFUSION_PS = 1.0
"""Molecules still rattle in their cages at shorter longest lags than this, and nothing is said
about diffusion.
"""
WATER = {
    "bonded:O-H mean_A": "oh_mean_A",
    "bonded:O-H std_A": "oh_std_A",
    "angle:H-O-H mean_deg": "hoh_mean_deg",
    "angle:H-O-H std_deg": "hoh_std_deg",
    "free:O-O peak_A": "goo_peak_A",
    "free:O-O peak_height": "goo_peak_height",
    "free:O-O mean_abs_dg": "goo_mean_abs_difference",
}
"""Short names where the only molecule is water."""


@dataclass(frozen=True)
class Statistic:
    """A number with its standard error from contiguous blocks (nan where blocks do not give it)."""

    value: float
    error: float


def angles(topology: Topology, frames: Trajectory) -> dict[Path, Floats]:
    """Bond angles [degrees] by the elements A-B-C, (F, number of such angles)."""
    found: dict[Path, Floats] = {}
    for path, ends in topology.bonded.items():
        if len(path) != 3:
            continue
        centre = [
            next(k for k in topology.neighbours[i] if k in topology.neighbours[j])
            for i, j in ends.tolist()
        ]
        triples = np.column_stack([ends[:, 0], centre, ends[:, 1]])
        values = []
        for x, cell in zip(frames.positions, frames.cell, strict=True):
            a, b, c = (x[triples[:, k]].astype(np.float32) for k in range(3))
            values.append(
                np.degrees(calc_angles(a, b, c, box=cell_to_cellpar(cell).astype(np.float32)))
            )
        found[path] = np.array(values)
    return found


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
        found = EinsteinMSD(universe, select="all", fft=True).run().results.msds_by_particle
    n = min(len(paths), int(longest_ps / (interval_fs * FS_TO_PS) + 1e-6) + 1)
    return np.asarray(np.arange(n) * interval_fs * FS_TO_PS, dtype=np.float64), np.asarray(
        found[:n], dtype=np.float64
    )


def diffusion(lag_ps: Floats, msd: Floats) -> Statistic:
    """Einstein's D [Å²/ps] = slope / 6 of displacements (L, M) beyond DIFFUSION_FROM of the lags
    (L,).

    The error is that of the mean over the molecules; nan with less than three lags, and the error
    with one molecule.
    """
    late = lag_ps >= DIFFUSION_FROM * lag_ps[-1]
    if late.sum() < 3 or lag_ps[-1] < 0.9 * SHORTEST_DIFFUSION_PS:
        return Statistic(math.nan, math.nan)
    each = np.polyfit(lag_ps[late], msd[late], 1)[0] / 6
    n = len(each)
    return Statistic(
        float(each.mean()), float(each.std(ddof=1) / math.sqrt(n)) if n > 1 else math.nan
    )


def hydrogen_bonds(topology: Topology, frames: Trajectory) -> float:
    """Hydrogen bonds per molecule: donor–acceptor below 3.5 Å, angle above 150° (MDAnalysis); O and
    N take part.
    """
    heavy = [k for k, s in enumerate(topology.symbols) if s in ("O", "N")]
    hydrogens = [h for k in heavy for h in topology.neighbours[k] if topology.symbols[h] == "H"]
    if not hydrogens:
        return math.nan
    some = spread(frames, FRAMES_FOR_BONDS)
    universe = MDAnalysis.Universe.empty(topology.n_atoms, trajectory=True)
    boxes = np.array([cell_to_cellpar(c) for c in some.cell], dtype=np.float32)
    universe.load_new(
        some.positions.astype(np.float32), format=MemoryReader, order="fac", dimensions=boxes
    )
    universe.add_TopologyAttr("bonds", topology.bonds)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        analysis = HydrogenBondAnalysis(
            universe,
            donors_sel=_selection(sorted({k for h in hydrogens for k in topology.neighbours[h]})),
            hydrogens_sel=_selection(hydrogens),
            acceptors_sel=_selection(heavy),
            d_a_cutoff=3.5,
            update_selections=False,
        )
        analysis.run()
    return float(analysis.count_by_time().mean() / len(topology.molecules))


def _selection(atoms: list[int]) -> str:
    return "index " + " ".join(map(str, atoms))


def spread(frames: Trajectory, n: int) -> Trajectory:
    """At most n frames, spread evenly."""
    if frames.n_frames <= n:
        return frames
    return frames[np.linspace(0, frames.n_frames - 1, n).round().astype(int)]


def evenly_spaced(frames: Trajectory) -> bool:
    """Whether all frames are equally far apart in time: none is missing, none comes twice."""
    gaps = np.diff(frames.time)
    return bool(len(gaps) and gaps.min() > 0 and np.allclose(gaps, gaps.mean(), rtol=1e-3, atol=0))


def block_error(blocks: Sequence[Floats | float]) -> Floats:
    """Standard error of the mean of blocks, each a number or an array."""
    return np.asarray(
        np.array(blocks).std(axis=0, ddof=1) / math.sqrt(len(blocks)), dtype=np.float64
    )


def structure(
    frames: Trajectory, seen: Inspection, against: Inspection | None = None
) -> dict[str, Statistic]:
    """Observables of single frames, averaged, each with its block error; seen: the inspection of
    these frames.

    against: the reference for |Δg(r)|. Where the frames are the reference themselves, that is what
    their own noise
    makes of it: g(r) of a block deviates from that of the whole by √(N_BLOCKS - 1) times as much as
    the latter from the truth.
    """
    topology, cutoff_A = seen.survey.topology, seen.survey.cutoff_A
    whole = _values(topology, frames, seen, against)
    if frames.n_frames < FEWEST_FRAMES:
        return {name: Statistic(value, math.nan) for name, value in whole.items()}
    parts = [frames[p] for p in np.array_split(np.arange(frames.n_frames), N_BLOCKS)]
    blocks = [_values(topology, part, inspect(part, cutoff_A), against) for part in parts]
    found = {}
    for name, value in whole.items():
        each = [b.get(name, math.nan) for b in blocks]
        error = float(block_error(each))
        if against is seen and name.endswith(("mean_abs_dg", "mean_abs_difference")):
            value, error = (
                float(np.mean(each)) / math.sqrt(N_BLOCKS - 1),
                error / math.sqrt(N_BLOCKS - 1),
            )
        found[name] = Statistic(value, error)
    return found


def mean(series: Floats) -> Statistic:
    """The mean of a series (F,) with its block error."""
    if len(series) < FEWEST_FRAMES:
        return Statistic(float(series.mean()), math.nan)
    return Statistic(
        float(series.mean()),
        float(block_error([b.mean() for b in np.array_split(series, N_BLOCKS)])),
    )


def _values(
    topology: Topology, frames: Trajectory, seen: Inspection, against: Inspection | None
) -> dict[str, float]:
    found = {k: v for k, v in observables(seen, against).items() if v is not None}
    for path, degrees in angles(topology, frames).items():
        name = "angle:" + "-".join(path)
        found[f"{name} mean_deg"], found[f"{name} std_deg"] = (
            float(degrees.mean()),
            float(degrees.std()),
        )
    if not math.isnan(bonds := hydrogen_bonds(topology, frames)):
        found["hydrogen_bonds_per_molecule"] = bonds
    short = WATER if list(topology.formulas()) == ["H2O"] else {}
    return {short.get(name, name): value for name, value in found.items()}
