"""What a trajectory holds and how good it is, before anything is fitted: coverage, temperature,
force noise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from mld_ff.errors import InputError
from mld_ff.geometry.histogram import Histogram
from mld_ff.geometry.pairs import BIN_A, check_cutoff, default_cutoff
from mld_ff.geometry.system import Change, System, lasting_topology, systems
from mld_ff.geometry.topology import Topology, TopologyKind
from mld_ff.origin import Remedies
from mld_ff.progress import Progress, no_progress
from mld_ff.trajectory import Floats, FrameSource, Ints, Trajectory
from mld_ff.units import AMU_PER_A3_TO_G_PER_CM3

BROKEN_LISTED = 20
TEMPERATURE_LIMIT = 0.1
"""A mean temperature off by more than this fraction is worth a warning."""
LARGEST_FORCE = 1e5
"""[eV/Å] Nuclei upon each other are driven apart by less."""
PARTS = ("forces", "velocities", "energy", "stress")
"""Of frames, beside positions."""
NOISE_LIMIT = 0.05
"""Force noise is worth a warning beyond this fraction of the force itself."""


@dataclass
class ForceQuality:
    """How far the net force on the box is from zero: the noise that the reference leaves."""

    squares: Floats = field(default_factory=lambda: np.zeros(2))
    """Sum of squared force components of hydrogen and of all other atoms."""
    numbers: Ints = field(default_factory=lambda: np.zeros(2, np.int64))
    net_squares: float = 0.0
    net_absolute: float = 0.0
    n_net: int = 0
    n_heavy: int = 0
    remedy: str = Remedies().force_noise
    """What the source of the frames advises."""

    def add(self, frames: Trajectory) -> None:
        """Raises InputError where forces are none."""
        if frames.forces is None:
            return
        _check_size(frames, frames.forces)
        self.remedy = frames.origin.remedies.force_noise
        hydrogen = np.array([s == "H" for s in frames.symbols])
        fixed = frames.fixed if frames.fixed is not None else np.zeros((len(hydrogen), 3), bool)
        for k, chosen in enumerate((hydrogen, ~hydrogen)):
            self.squares[k] += np.sum(frames.forces[:, chosen] ** 2)
            self.numbers[k] += frames.n_frames * (~fixed[chosen]).sum()
        if fixed.any():  # what holds the atoms takes up the net force
            return
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
        if other.n_net:
            self.remedy = other.remedy

    @property
    def net_force(self) -> float | None:
        """Mean |ΣF| per frame and component [eV/Å]; None where atoms were fixed."""
        return self.net_absolute / self.n_net if self.n_net else None

    @property
    def noise(self) -> float | None:
        """Noise per component of a heavy atom's force [eV/Å], if the noise of different atoms is
        independent; None where atoms were fixed.
        """
        if not self.n_net:
            return None
        return float(np.sqrt(self.net_squares / self.n_net / max(self.n_heavy, 1)))

    @property
    def heavy_rms(self) -> float:
        """Root mean square force component of the atoms other than hydrogen (of all, where there is
        only hydrogen).
        """
        k = 1 if self.numbers[1] else 0
        return float(np.sqrt(self.squares[k] / max(self.numbers[k], 1)))

    def warning(self) -> str | None:
        """A sentence with the remedy when the noise matters for a fit, else None."""
        if self.noise is None or self.noise <= NOISE_LIMIT * self.heavy_rms:
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
            f" which no fit can learn. {self.remedy}"
        )


def _check_size(frames: Trajectory, forces: Floats) -> None:
    largest = np.abs(forces).max(axis=(1, 2), initial=0.0)
    if not (largest < LARGEST_FORCE).all():
        f = int(np.argmin(largest < LARGEST_FORCE))
        raise InputError(
            f"step {frames.step[f]}: a force of {largest[f]:.3g} eV/Å; expected less than"
            f" {LARGEST_FORCE:g}: is the file damaged, or in other units?"
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

    def add_distances(self, system: System) -> None:
        """Count the distances of a frame."""
        for name, pairs in system.pairs(self.cutoff_A):
            self.distances.setdefault(name, Histogram()).add(pairs.r)

    def add(self, frames: Trajectory) -> None:
        """Note force quality, times and temperatures of a chunk."""
        self.forces.add(frames)
        self.times.extend(frames.time.tolist())
        if frames.velocities is not None:
            self.temperatures.extend(frames.temperature().tolist())

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
    """Whether the frames hold what PARTS names."""
    target_K: float | None = None
    """Temperature [K] that the source says its run was set to."""
    charges_e: Mapping[str, Mapping[str, tuple[float, float]]] = field(default_factory=dict)
    """That the source's program printed: by method, by element or type of atom, mean and deviation
    over atoms and frames [e]."""

    def radial_distribution(self, name: str, width_A: float = 0.05) -> tuple[Floats, Floats]:
        """r (B,) [Å] and g(r) (B,) of a free term up to the cutoff; 1 where pairs are as dense as
        in an ideal gas.
        """
        topology = self.survey.topology
        n = round(self.survey.cutoff_A / BIN_A) // round(width_A / BIN_A)
        counts = self.survey.distances[name].binned(width_A, n)
        edges = width_A * np.arange(n + 1)
        a, b = name.partition(":")[2].split("-")
        n_a, n_b = topology.symbols.count(a), topology.symbols.count(b)
        pairs = n_a * (n_a - 1) / 2 if a == b else n_a * n_b
        shell = 4 / 3 * np.pi * np.diff(edges**3)
        return (edges[1:] + edges[:-1]) / 2, counts / (self.frames * pairs * shell / self.volume)

    def to_dict(self) -> dict[str, Any]:
        survey, topology = self.survey, self.survey.topology
        t, quality = survey.temperatures, survey.forces if self.has["forces"] else None
        return {
            "frames": self.frames,
            "time_fs": list(self.time_fs),
            "atoms": {s: topology.symbols.count(s) for s in topology.species},
            "molecules": {} if topology.no_molecules else topology.formulas(),
            "no_molecules": topology.no_molecules,
            "cell_A": self.cell.tolist(),
            "density_g_per_cm3": self.density,
            "has": self.has,
            "temperature_K": (
                None if not t else {"mean": float(np.mean(t)), "std": float(np.std(t))}
            ),
            "cutoff_A": survey.cutoff_A,
            "distances_A": {
                name: histogram.summary()
                for name, histogram in survey.distances.items()
                if histogram.n
            },
            "charges_e": {
                method: {owner: {"mean": mean, "std": std} for owner, (mean, std) in each.items()}
                for method, each in self.charges_e.items()
            },
            "net_force_eV_per_A": quality and quality.net_force,
            "force_noise_eV_per_A": quality and quality.noise,
            "force_rms_heavy_eV_per_A": quality and quality.heavy_rms,
            "broken_bonds": [vars(c) for c in survey.changes[:BROKEN_LISTED]],
            "frames_with_broken_bonds": len({c.step for c in survey.changes}),
            "warnings": self.warnings(),
        }

    def warnings(self) -> list[str]:
        """What a user should know before a fit, one sentence each."""
        of_forces = self.survey.forces.warning() if self.has["forces"] else None
        every = (of_forces, self._temperature_warning(), self._changes_warning())
        return [warning for warning in every if warning]

    def _temperature_warning(self) -> str | None:
        if not self.survey.temperatures or not self.target_K:
            return None
        mean = float(np.mean(self.survey.temperatures))
        if abs(mean / self.target_K - 1) <= TEMPERATURE_LIMIT:
            return None
        return (
            f"the mean temperature is {mean:.0f} K, the thermostat was set to {self.target_K:g}"
            " K: leave out the equilibration (--skip)"
        )

    def _changes_warning(self) -> str | None:
        if not self.survey.changes:
            return None
        first = self.survey.changes[0]
        frames = len({change.step for change in self.survey.changes})
        return (
            f"bonds of the first frame break in {frames} of {self.frames} frames, first at step"
            f" {first.step} ({first.time_fs:g} fs): {first.what}. A fit leaves such frames out"
        )


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
    topology: Topology | TopologyKind | None = None,
) -> Inspection:
    """Read all frames once and tell what is there. Raises InputError on anything that cannot be
    read.

    topology: that of the run, where the source is a part of it; or whether there are molecules,
    None to find out, which reads the frames once more.
    """
    survey: Survey | None = None
    done, volume, first = 0, 0.0, None
    for frames in source.chunks():
        if survey is None:
            first = frames[0]
            if not isinstance(topology, Topology):
                topology = lasting_topology(source, topology)
            survey = Survey(
                topology, default_cutoff(source.half_width) if cutoff_A is None else cutoff_A
            )
            check_cutoff(survey.cutoff_A, source.half_width)
        survey.add(frames)
        for system in systems(survey.topology, frames, survey.cutoff_A):
            survey.changes += system.changes
            survey.add_distances(system)
        volume += float(np.abs(np.linalg.det(frames.cell)).sum())
        done += frames.n_frames
        progress("inspect", done, source.n_frames)
    if survey is None or first is None:
        raise InputError("the trajectory holds no frames")
    density = float(first.masses.sum()) / (volume / done) * AMU_PER_A3_TO_G_PER_CM3
    has = {name: getattr(first, name) is not None for name in PARTS}
    return Inspection(
        survey=survey,
        frames=done,
        time_fs=(survey.times[0], survey.times[-1]),
        cell=first.cell[0],
        volume=volume / done,
        density=density,
        has=has,
        target_K=source.origin.temperature_K,
        charges_e=_printed_charges(source, survey.topology),
    )


def _printed_charges(
    source: FrameSource, topology: Topology
) -> dict[str, dict[str, tuple[float, float]]]:
    """By element; where one is bonded in several ways, by type of atom."""
    several = len({*topology.atom_types}) > len(topology.species)
    owners = np.array(topology.atom_types if several else topology.symbols)
    told: dict[str, dict[str, tuple[float, float]]] = {}
    for method, printed in source.printed_charges.items():
        for owner in sorted({*owners.tolist()}):
            mean, deviation = printed.mean[owners == owner], printed.deviation[owners == owner]
            spread = float(np.sqrt(mean.var() + (deviation**2).mean()))
            told.setdefault(method, {})[owner] = float(mean.mean()), spread
    return told
