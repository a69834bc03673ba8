"""Observables of a trajectory with block errors; one code for CP2K and for learned runs."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

import MDAnalysis
import numpy as np
from ase.geometry import cell_to_cellpar
from MDAnalysis.analysis.hydrogenbonds import HydrogenBondAnalysis
from MDAnalysis.analysis.msd import EinsteinMSD
from MDAnalysis.coordinates.memory import MemoryReader
from MDAnalysis.lib.distances import calc_angles

from mld_ff.report.observables import observables
from mld_ff.survey import Inspection, inspect
from mld_ff.topology import Path, Topology, find_topology
from mld_ff.trajectory import Floats, Ints, Trajectory
from mld_ff.units import FS_TO_PS

N_BLOCKS = 5
FEWEST_FRAMES = 20
"""Fewer frames than this make no block error."""
FRAMES_FOR_BONDS = 200
"""Hydrogen bonds are counted in at most this many frames."""
MSD_FIT = (0.2, 0.5)
"""The diffusion constant is the slope of the mean-square displacement between these fractions of the longest lag."""
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
        centre = [next(k for k in topology.neighbours[i] if k in topology.neighbours[j]) for i, j in ends.tolist()]
        triples = np.column_stack([ends[:, 0], centre, ends[:, 1]])
        values = []
        for x, cell in zip(frames.positions, frames.cell, strict=True):
            a, b, c = (x[triples[:, k]].astype(np.float32) for k in range(3))
            values.append(np.degrees(calc_angles(a, b, c, box=cell_to_cellpar(cell).astype(np.float32))))
        found[path] = np.array(values)
    return found


def molecule_paths(topology: Topology, frames: Trajectory) -> dict[str, Floats]:
    """Centres of mass without jumps at boundaries, (F, M, 3) [Å], by chemical formula; drift of the box removed."""
    steps = np.diff(frames.positions, axis=0)
    inverse = np.linalg.inv(frames.cell[1:])
    steps -= np.einsum("fpc,fcd->fpd", np.round(np.einsum("fpc,fcd->fpd", steps, inverse)), frames.cell[1:])
    start = topology.whole(frames.positions[0], frames.cell[0])
    x = np.concatenate([start[None], start + np.cumsum(steps, axis=0)])
    x -= (np.einsum("fpc,p->fc", x, frames.masses) / frames.masses.sum())[:, None]
    by_formula: dict[str, list[Floats]] = {}
    for atoms in topology.molecules:
        mass = frames.masses[atoms]
        centre = np.einsum("fpc,p->fc", x[:, atoms], mass) / mass.sum()
        by_formula.setdefault(topology.formula(atoms), []).append(centre)
    return {formula: np.stack(paths, axis=1) for formula, paths in by_formula.items()}


def mean_square_displacement(paths: Floats, interval_fs: float) -> tuple[Floats, Floats]:
    """Lag times [ps] and mean-square displacement [Å²] of paths (F, M, 3), up to half the run (MDAnalysis)."""
    universe = MDAnalysis.Universe.empty(paths.shape[1], trajectory=True)
    universe.load_new(paths.astype(np.float32), format=MemoryReader, order="fac")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = EinsteinMSD(universe, select="all", fft=True).run().results.timeseries
    n = len(paths) // 2
    return np.asarray(np.arange(n) * interval_fs * FS_TO_PS, dtype=np.float64), np.asarray(found[:n], dtype=np.float64)


def diffusion(lag_ps: Floats, msd: Floats) -> float:
    """Einstein's D [Å²/ps] = slope / 6 over MSD_FIT of the lags; nan with fewer than three of them."""
    low, high = (int(f * len(lag_ps)) for f in MSD_FIT)
    return float(np.polyfit(lag_ps[low:high], msd[low:high], 1)[0] / 6) if high - low >= 3 else math.nan


def hydrogen_bonds(topology: Topology, frames: Trajectory) -> float:
    """Hydrogen bonds per molecule: donor–acceptor below 3.5 Å, angle above 150° (MDAnalysis); O and N take part."""
    heavy = [k for k, s in enumerate(topology.symbols) if s in ("O", "N")]
    hydrogens = [h for k in heavy for h in topology.neighbours[k] if topology.symbols[h] == "H"]
    if not hydrogens:
        return math.nan
    some = frames[np.linspace(0, frames.n_frames - 1, min(frames.n_frames, FRAMES_FOR_BONDS)).astype(int)]
    universe = MDAnalysis.Universe.empty(topology.n_atoms, trajectory=True)
    boxes = np.array([cell_to_cellpar(c) for c in some.cell], dtype=np.float32)
    universe.load_new(some.positions.astype(np.float32), format=MemoryReader, order="fac", dimensions=boxes)
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


def statistics(
    frames: Trajectory, cutoff_A: float, temperature: Floats | None, against: Inspection | None = None
) -> dict[str, Statistic]:
    """Every observable of a trajectory with its block error.

    temperature (F,) [K] of the frames, None if unknown. against: the reference for |Δg(r)|.
    """
    whole = _values(frames, cutoff_A, temperature, against)
    if frames.n_frames < FEWEST_FRAMES:
        return {name: Statistic(value, math.nan) for name, value in whole.items()}
    pieces: list[Ints] = np.array_split(np.arange(frames.n_frames), N_BLOCKS)
    blocks = [_values(frames[p], cutoff_A, None if temperature is None else temperature[p], against) for p in pieces]

    def error(name: str) -> float:
        values = np.array([b.get(name, math.nan) for b in blocks])
        return float(values.std(ddof=1) / math.sqrt(N_BLOCKS))

    return {name: Statistic(value, error(name)) for name, value in whole.items()}


def _values(
    frames: Trajectory, cutoff_A: float, temperature: Floats | None, against: Inspection | None
) -> dict[str, float]:
    topology = find_topology(frames.symbols, frames.positions[0], frames.cell[0])
    found: dict[str, float] = {} if temperature is None else {"temperature_K": float(temperature.mean())}
    found |= {k: v for k, v in observables(inspect(frames, cutoff_A), against).items() if v is not None}
    for path, degrees in angles(topology, frames).items():
        name = "angle:" + "-".join(path)
        found[f"{name} mean_deg"], found[f"{name} std_deg"] = float(degrees.mean()), float(degrees.std())
    if not math.isnan(bonds := hydrogen_bonds(topology, frames)):
        found["hydrogen_bonds_per_molecule"] = bonds
    paths = molecule_paths(topology, frames)
    interval = float(np.diff(frames.time).mean()) if frames.n_frames > 1 else math.nan
    for formula, path_of_formula in paths.items():
        name = "diffusion_A2_per_ps" if len(paths) == 1 else f"diffusion_A2_per_ps {formula}"
        found[name] = diffusion(*mean_square_displacement(path_of_formula, interval))
    short = WATER if list(topology.formulas()) == ["H2O"] else {}
    return {short.get(name, name): value for name, value in found.items()}
