"""What a trajectory holds and how good it is, before anything is fitted: coverage, temperature,
force noise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations_with_replacement
from typing import Any

import numpy as np

from mld_ff.errors import InputError
from mld_ff.geometry.pairs import BIN_A, check_cutoff, default_cutoff, neighbour_pairs
from mld_ff.geometry.topology import Change, Topology, find_topology
from mld_ff.progress import Progress, no_progress
from mld_ff.trajectory import Floats, FrameSource, Ints, Trajectory
from mld_ff.units import AMU_PER_A3_TO_G_PER_CM3

BROKEN_LISTED = 20
TEMPERATURE_LIMIT = 0.1
"""A mean temperature off by more than this fraction is worth a warning."""
NOISE_LIMIT = 0.05
"""Force noise is worth a warning beyond this fraction of the force itself."""


@dataclass
class Histogram:
    """Counts of distances in bins of BIN_A from 0 on."""

    counts: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    shortest: float = np.inf
    longest: float = 0.0
    total: float = 0.0
    total_squares: float = 0.0

    def add(self, r: Floats) -> None:
        if not len(r):
            return
        more = np.bincount((r / BIN_A).astype(np.int64), minlength=len(self.counts))
        more[: len(self.counts)] += self.counts
        self.counts = more
        self.shortest, self.longest = (
            min(self.shortest, float(r.min())),
            max(self.longest, float(r.max())),
        )
        self.total += float(r.sum())
        self.total_squares += float(r @ r)

    def merge(self, other: Histogram) -> None:
        """Add what another histogram counted."""
        few, many = sorted((self.counts, other.counts), key=len)
        self.counts = many.copy()
        self.counts[: len(few)] += few
        self.shortest, self.longest = (
            min(self.shortest, other.shortest),
            max(self.longest, other.longest),
        )
        self.total += other.total
        self.total_squares += other.total_squares

    @property
    def n(self) -> int:
        return int(self.counts.sum())

    @property
    def mean(self) -> float:
        return self.total / self.n if self.n else math.nan

    @property
    def deviation(self) -> float:
        return math.sqrt(max(self.total_squares / self.n - self.mean**2, 0)) if self.n else math.nan

    def distance_below(self, n: int) -> float:
        """Upper edge [Å] of the bin that holds the n-th shortest distance."""
        return float((np.searchsorted(np.cumsum(self.counts), n) + 1) * BIN_A)

    def to_dict(self, width: float) -> dict[str, Any]:
        """The histogram in bins `width` [Å] wide, from the first that holds anything; empty if
        nothing was seen.
        """
        if not self.n:
            return {
                "shortest_A": None,
                "longest_A": None,
                "start_A": 0.0,
                "width_A": width,
                "counts": [],
            }
        per_bin = round(width / BIN_A)
        padded = (
            np.pad(self.counts, (0, -len(self.counts) % per_bin)).reshape(-1, per_bin).sum(axis=1)
        )
        first = int(np.flatnonzero(padded)[0])
        return {
            "shortest_A": round(self.shortest, 6),
            "longest_A": round(self.longest, 6),
            "start_A": round(first * width, 6),
            "width_A": width,
            "counts": padded[first:].tolist(),
        }


@dataclass
class ForceQuality:
    """How far the net force on the box is from zero: what CP2K's real-space grid leaves."""

    squares: Floats = field(default_factory=lambda: np.zeros(2))
    """Sum of squared force components of hydrogen and of all other atoms."""
    numbers: Ints = field(default_factory=lambda: np.zeros(2, np.int64))
    net_squares: float = 0.0
    net_absolute: float = 0.0
    n_net: int = 0
    n_heavy: int = 0

    def add(self, frames: Trajectory) -> None:
        if frames.forces is None:
            return
        hydrogen = np.array([s == "H" for s in frames.symbols])
        for k, chosen in enumerate((hydrogen, ~hydrogen)):
            self.squares[k] += np.sum(frames.forces[:, chosen] ** 2)
            self.numbers[k] += 3 * frames.n_frames * chosen.sum()
        net = frames.forces.sum(axis=1)
        self.net_squares += float((net**2).sum())
        self.net_absolute += float(np.abs(net).sum())
        self.n_net += net.size
        self.n_heavy = int((~hydrogen).sum())

    def merge(self, other: ForceQuality) -> None:
        """Add what was seen in other frames of the same atoms."""
        self.squares += other.squares
        self.numbers += other.numbers
        self.net_squares += other.net_squares
        self.net_absolute += other.net_absolute
        self.n_net += other.n_net
        self.n_heavy = max(self.n_heavy, other.n_heavy)

    @property
    def net_force(self) -> float:
        """Mean |ΣF| per frame and component [eV/Å]."""
        return self.net_absolute / max(self.n_net, 1)

    @property
    def noise(self) -> float:
        """Noise per component of a heavy atom's force [eV/Å], if the noise of different atoms is
        independent.
        """
        return float(np.sqrt(self.net_squares / max(self.n_net, 1) / max(self.n_heavy, 1)))

    @property
    def heavy_rms(self) -> float:
        """Root mean square force component of the atoms other than hydrogen (of all, where there is
        only hydrogen).
        """
        k = 1 if self.numbers[1] else 0
        return float(np.sqrt(self.squares[k] / max(self.numbers[k], 1)))

    def warning(self) -> str | None:
        """A sentence with the remedy when the noise matters for a fit, else None."""
        if not self.n_net or self.noise <= NOISE_LIMIT * self.heavy_rms:
            return None
        if self.noise > self.heavy_rms:
            return (
                f"the net force on the box is {self.net_force:.2f} eV/Å per frame and component,"
                " where it should vanish: more than the forces themselves; do positions and forces"
                " belong to the same run?"
            )
        return (
            f"the net force on the box is {self.net_force:.2f} eV/Å per frame and component where"
            f" it should vanish: noise of about {self.noise:.2f} eV/Å on every heavy atom,"
            f" {100 * self.noise / self.heavy_rms:.0f} % of its force ({self.heavy_rms:.2f} eV/Å),"
            " which no fit can learn. It comes from CP2K's real-space grid: raise &MGRID CUTOFF"
            " (400 Ry or more, REL_CUTOFF 50), set &XC_GRID XC_DERIV NN50_SMOOTH, XC_SMOOTH_RHO"
            " NN50, then compute the forces of these frames again (ENSEMBLE REFTRAJ)."
        )


@dataclass
class Survey:
    """What was seen while a trajectory streamed by."""

    topology: Topology
    cutoff_A: float
    distances: dict[str, Histogram] = field(default_factory=dict)
    """By term name."""
    forces: ForceQuality = field(default_factory=ForceQuality)
    changes: list[Change] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    """[fs] of every frame."""
    temperatures: list[float] = field(default_factory=list)
    """[K] of every frame; empty without velocities."""

    def add_distances(self, name: str, r: Floats) -> None:
        self.distances.setdefault(name, Histogram()).add(r)

    def add(self, frames: Trajectory) -> list[Change]:
        """Note force quality, temperature and broken bonds of a chunk; returns the latter."""
        self.forces.add(frames)
        self.times.extend(frames.time.tolist())
        if frames.velocities is not None:
            self.temperatures.extend(frames.temperature().tolist())
        found = self.topology.changes(frames)
        self.changes.extend(found)
        return found

    def merge(self, other: Survey) -> None:
        """Add what was seen in other frames of such a system."""
        for name, histogram in other.distances.items():
            self.distances.setdefault(name, Histogram()).merge(histogram)
        self.forces.merge(other.forces)
        self.changes += other.changes
        self.times += other.times
        self.temperatures += other.temperatures


@dataclass(frozen=True)
class Inspection:
    """What `mld-ff inspect` tells."""

    survey: Survey
    frames: int
    time_fs: tuple[float, float]
    cell: Floats
    """Of the first frame, (3, 3) [Å]."""
    volume: float
    """Mean over the frames [Å³]."""
    density: float
    """[g/cm³]."""
    has: dict[str, bool]
    target_K: float | None = None
    """Temperature that the source's thermostat was set to."""

    def radial_distribution(self, name: str, width_A: float = 0.05) -> tuple[Floats, Floats]:
        """r (B,) [Å] and g(r) (B,) of a free term up to the cutoff; 1 where pairs are as dense as
        in an ideal gas.
        """
        topology, counts = self.survey.topology, self.survey.distances[name].counts
        per_bin = round(width_A / BIN_A)
        n = round(self.survey.cutoff_A / BIN_A) // per_bin
        binned = (
            np.pad(counts, (0, max(n * per_bin - len(counts), 0)))[: n * per_bin]
            .reshape(n, per_bin)
            .sum(axis=1)
        )
        edges = width_A * np.arange(n + 1)
        a, b = name.removeprefix("free:").split("-")
        n_a, n_b = topology.symbols.count(a), topology.symbols.count(b)
        pairs = n_a * (n_a - 1) / 2 if a == b else n_a * n_b
        shell = 4 / 3 * np.pi * np.diff(edges**3)
        return (edges[1:] + edges[:-1]) / 2, binned / (self.frames * pairs * shell / self.volume)

    def to_dict(self) -> dict[str, Any]:
        survey, topology = self.survey, self.survey.topology
        t = survey.temperatures
        return {
            "frames": self.frames,
            "time_fs": list(self.time_fs),
            "atoms": {s: topology.symbols.count(s) for s in topology.species},
            "molecules": topology.formulas(),
            "cell_A": self.cell.tolist(),
            "density_g_per_cm3": self.density,
            "has": self.has,
            "temperature_K": (
                None if not t else {"mean": float(np.mean(t)), "std": float(np.std(t))}
            ),
            "cutoff_A": survey.cutoff_A,
            "distances_A": {
                name: {
                    "shortest": h.shortest,
                    "longest": h.longest,
                    "mean": h.mean,
                    "std": h.deviation,
                    "count": h.n,
                }
                for name, h in survey.distances.items()
                if h.n
            },
            "net_force_eV_per_A": survey.forces.net_force if self.has["forces"] else None,
            "force_noise_eV_per_A": survey.forces.noise if self.has["forces"] else None,
            "force_rms_heavy_eV_per_A": survey.forces.heavy_rms if self.has["forces"] else None,
            "broken_bonds": [vars(c) for c in survey.changes[:BROKEN_LISTED]],
            "frames_with_broken_bonds": len({c.step for c in survey.changes}),
            "warnings": self.warnings(),
        }

    def warnings(self) -> list[str]:
        found = [self.survey.forces.warning()] if self.has["forces"] else []
        mean = float(np.mean(self.survey.temperatures)) if self.survey.temperatures else None
        if mean and self.target_K and abs(mean / self.target_K - 1) > TEMPERATURE_LIMIT:
            found.append(
                f"the mean temperature is {mean:.0f} K, the thermostat was set to {self.target_K:g}"
                " K: leave out the equilibration (--skip)"
            )
        if changes := self.survey.changes:
            c = changes[0]
            steps = len({x.step for x in changes})
            found.append(
                f"bonds of the first frame break in {steps} of {self.frames} frames, first at step"
                f" {c.step} ({c.time_fs:g} fs): {c.what}. A fit leaves such frames out"
            )
        return [text for text in found if text]


def neighbour_distances(
    cutoff_A: float, topology: Topology, frames: Trajectory
) -> dict[tuple[str, str], Histogram]:
    """Distances of all pairs closer than the cutoff, bonded or free, by their species in the order
    of the topology.
    """
    species, index = topology.species, topology.species_index
    kinds = list(combinations_with_replacement(range(len(species)), 2))
    found = {(species[a], species[b]): Histogram() for a, b in kinds}
    for f in range(frames.n_frames):
        pairs = neighbour_pairs(frames.positions[f], frames.cell[f], cutoff_A)
        low, high = (
            np.minimum(index[pairs.i], index[pairs.j]),
            np.maximum(index[pairs.i], index[pairs.j]),
        )
        for a, b in kinds:
            found[species[a], species[b]].add(pairs.r[(low == a) & (high == b)])
    return found


def joined(parts: Sequence[Inspection]) -> Inspection:
    """The inspection of all frames of these parts, which were inspected by one topology and to one
    cutoff, in their order.
    """
    first = parts[0]
    survey = Survey(first.survey.topology, first.survey.cutoff_A)
    for part in parts:
        survey.merge(part.survey)
    frames = sum(part.frames for part in parts)
    volume = sum(part.frames * part.volume for part in parts) / frames
    return replace(
        first,
        survey=survey,
        frames=frames,
        time_fs=(survey.times[0], survey.times[-1]),
        volume=volume,
        density=first.density * first.volume / volume,
    )


def inspect(
    source: FrameSource,
    cutoff_A: float | None = None,
    progress: Progress = no_progress,
    topology: Topology | None = None,
) -> Inspection:
    """Read all frames once and tell what is there. Raises InputError on anything that cannot be
    read.

    topology: that of the first frame of the run, where the source is a part of it.
    """
    survey: Survey | None = None
    done, volume, first = 0, 0.0, None
    for frames in source.chunks():
        if survey is None:
            first = frames[0]
            topology = topology or find_topology(first.symbols, first.positions[0], first.cell[0])
            survey = Survey(
                topology, default_cutoff(source.half_width) if cutoff_A is None else cutoff_A
            )
            check_cutoff(survey.cutoff_A, source.half_width)
        survey.add(frames)
        for f in range(frames.n_frames):
            for name, pairs in survey.topology.pairs(
                frames.positions[f], frames.cell[f], survey.cutoff_A
            ):
                survey.add_distances(name, pairs.r)
        volume += float(np.abs(np.linalg.det(frames.cell)).sum())
        done += frames.n_frames
        progress("inspect", done, source.n_frames)
    if survey is None or first is None:
        raise InputError("the trajectory holds no frames")
    density = float(first.masses.sum()) / (volume / done) * AMU_PER_A3_TO_G_PER_CM3
    has = {name: getattr(first, name) is not None for name in ("forces", "velocities", "energy")}
    return Inspection(
        survey,
        done,
        (survey.times[0], survey.times[-1]),
        first.cell[0],
        volume / done,
        density,
        has,
        source.source.get("temperature_K"),
    )
