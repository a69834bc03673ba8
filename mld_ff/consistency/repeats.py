"""Frames that were given before, in the same files, in a copy, or in another run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.spatial import cKDTree

from mld_ff.trajectory import Floats, Ints, Trajectory

SUMS = 16
"""That tell frames apart; with three, finite displacements in a supercell came twice."""
ROUNDING_A = 4e-4
"""Positions that are rounded to four decimals are the same. In steps of 0.1 fs atoms at 300 K move
five times as far."""
IDENTICAL_A = 1e-6
OTHER_FORCES = 0.02
"""Relative difference by which forces at the same positions are of two methods."""
OTHER_ENERGY_EV = 1.0
"""Per atom, of the means of two runs; heating by 3,000 K takes 0.8 eV."""


@dataclass(frozen=True)
class Prints:
    """What tells frames apart, whatever images their positions are given at."""

    positions: Floats
    """Sums of cosines of fractional coordinates with weights at random, times the length that makes
    them change by as much as atoms move [Å], (F, SUMS)."""
    forces: Floats
    """Sums with such weights [eV/Å], and their size, (F, 4); no columns without forces."""
    energies: Floats
    """Per atom [eV], (F,); empty if they are not known."""
    fractions: Mapping[str, float] = field(default_factory=dict)
    """Of the elements among the atoms; total energies of other mixtures do not compare."""

    @classmethod
    def of(cls, frames: Trajectory) -> Prints:
        rng = np.random.default_rng(frames.n_atoms)
        weights = rng.normal(size=(SUMS, frames.n_atoms, 3)) / np.sqrt(frames.n_atoms)
        phases = rng.uniform(0, 2 * np.pi, size=(frames.n_atoms, 3))  # a cosine is flat at 0
        s = np.einsum("fpc,fcd->fpd", frames.positions, np.linalg.inv(frames.cell))
        length = np.abs(np.linalg.det(frames.cell)) ** (1 / 3) / (2 * np.pi)
        waves = np.cos(2 * np.pi * s + phases)
        sums = np.einsum("kpc,fpc->fk", weights, waves) * length[:, None]
        forces = np.zeros((frames.n_frames, 0))
        if (f := frames.forces) is not None:
            size = np.sqrt((f**2).mean(axis=(1, 2)))
            forces = np.column_stack([np.einsum("kpc,fpc->fk", weights[:3], f), size])
        energies = np.zeros(0) if frames.energy is None else frames.energy / frames.n_atoms
        fractions = {s: frames.symbols.count(s) / frames.n_atoms for s in frames.species}
        return cls(sums, forces, energies, fractions)

    @classmethod
    def joined(cls, parts: Sequence[Prints]) -> Prints:
        if not parts:
            return cls(np.zeros((0, 3)), np.zeros((0, 0)), np.zeros(0))
        return cls(
            np.concatenate([p.positions for p in parts]),
            np.concatenate([p.forces for p in parts]),
            np.concatenate([p.energies for p in parts]),
            parts[0].fractions,
        )


def told_of(runs: Sequence[Prints]) -> list[str]:
    """What a fit to all of these runs should not be made of, a sentence each."""
    return [*_repeated(runs), *_other_energies(runs)]


def _repeated(runs: Sequence[Prints]) -> list[str]:
    run = np.repeat(np.arange(len(runs)), [len(r.positions) for r in runs])
    frame = np.concatenate([np.arange(len(r.positions)) for r in runs])
    if not len(frame):
        return []
    positions = np.concatenate([r.positions for r in runs])
    first, second = _same(positions, run)
    others = np.zeros(len(first), bool)
    if all(r.forces.shape[1] for r in runs):
        forces = np.concatenate([r.forces for r in runs])
        apart = np.abs(forces[first] - forces[second])[:, :3].max(axis=1)
        others = apart > OTHER_FORCES * forces[first, 3]
    # of one run, other forces at nearly the same positions are small displacements
    near = np.linalg.norm(positions[first] - positions[second], axis=1)
    true = ~others | (run[first] != run[second]) | (near < IDENTICAL_A)
    first, second, others = first[true], second[true], others[true]
    if len(first) <= len(runs):  # a run that goes on begins with the frame that ended the last one
        return []
    example = f"frame {frame[first[0]] + 1} is frame {frame[second[0]] + 1}"
    if len(runs) > 1:
        where = [f"frame {frame[k] + 1} of run {run[k] + 1}" for k in (first[0], second[0])]
        example = " is ".join(where)
    found = f"{len(first)} frames are given twice ({example})"
    if others.mean() > 0.5:
        return [f"{found}, with other forces: labels of two methods; give those of one"]
    return [
        f"{found}: what errors are told on would have been fitted too; give each frame once (leave"
        " out the copy, or the run that was started again)"
    ]


def _same(positions: Floats, run: Ints) -> tuple[Ints, Ints]:
    """Indices of frames, and of an earlier one at the same positions; atoms at rest repeat none."""
    count = min(4, len(positions))
    apart, other = cKDTree(positions).query(positions, k=count, distance_upper_bound=ROUNDING_A)
    apart, other = apart.reshape(len(positions), -1), other.reshape(len(positions), -1)
    own = np.arange(len(positions))[:, None]
    other = np.where(np.isfinite(apart), other, own)
    steps = np.linalg.norm(np.diff(positions, axis=0, prepend=np.inf), axis=1)
    rests = (steps < ROUNDING_A) & (np.diff(run, prepend=-1) == 0)
    is_new = (other < own) & ~rests[:, None]
    found = is_new.any(axis=1)
    first = other[found, is_new[found].argmax(axis=1)] if found.any() else np.zeros(0, np.int64)
    return np.flatnonzero(found), np.asarray(first)


def _other_energies(runs: Sequence[Prints]) -> list[str]:
    means = {k: float(r.energies.mean()) for k, r in enumerate(runs, 1) if len(r.energies)}
    if not means:
        return []
    low, high = min(means, key=lambda k: means[k]), max(means, key=lambda k: means[k])
    if runs[low - 1].fractions != runs[high - 1].fractions:
        return []
    if means[high] - means[low] < OTHER_ENERGY_EV:
        return []
    return [
        f"the potential energies of run {low} and run {high} differ by"
        f" {means[high] - means[low]:.3g} eV per atom: they are of two methods; give runs of one"
    ]
