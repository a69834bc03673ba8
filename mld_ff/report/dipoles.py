"""Dipoles of boxes and molecules by fixed charges [e Å], and the dielectric constant that their
fluctuations tell.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import tidynamics

from mld_ff.errors import InputError
from mld_ff.geometry.topology import Topology
from mld_ff.loss.charges import NEUTRAL
from mld_ff.report.statistics import N_BLOCKS, Statistic, block_error
from mld_ff.trajectory import Floats, Ints, Trajectory
from mld_ff.units import E2_PER_A_TO_EV, FS_TO_PS, KB_EV_PER_K

FEWEST_MEMORIES = 12.0
"""A run shorter than this many times that which the correlation of the box's dipole takes to vanish
tells no dielectric constant: its standard error would be beyond 15 %, and short runs take their
memory for shorter than it is. Of runs of 1, 10, 20, 40, 80 and 200 true correlation times,
vibrations and a faster process beside, 0, 3, 26, 61, 89 and 98 % are found long enough; of those
of 40, 80 and 200, 89, 92 and 97 % are within two errors (200 runs each). 100 ps of SPC/E water, 10
times its memory by themselves, gave 35 ± 6 where 1.5 ns give 65 ± 6."""
WINDOWS = 200
"""Vibrations are averaged over such parts of a run: by them, a correlation vanishes at once."""


def charges_of_atoms(charges_e: Mapping[str, float], topology: Topology) -> Floats:
    """Charges (N,) [e] of a neutral box, by element or by type of atom. Raises InputError for atoms
    without one, and a box that is not neutral.
    """
    by_type = any("(" in owner for owner in charges_e)
    owners = topology.atom_types if by_type else topology.symbols
    if missing := sorted({*owners} - charges_e.keys()):
        raise InputError(f"charges are given of {', '.join(charges_e)}, none of {missing[0]}")
    charges = np.array([charges_e[owner] for owner in owners])
    if abs(net := float(charges.sum())) > NEUTRAL:
        raise InputError(f"with these charges the box has {net:+.4g} e; only neutral ones compare")
    return np.asarray(charges)


def are_molecules_neutral(charges: Floats, topology: Topology) -> bool:
    """Whether the dipole of the box is one of molecules, which does not grow while ions diffuse."""
    return all(abs(charges[atoms].sum()) <= NEUTRAL for atoms in topology.molecules)


def box_dipole(frames: Trajectory, topology: Topology, charges: Floats) -> Floats:
    """Σ q r of the whole box (F, 3) [e Å], without jumps where atoms cross its boundary.

    Molecules are whole in every frame. What has a charge is followed from frame to frame (the
    itinerant dipole), so that ions must not move by half a box in between; then only changes of the
    dipole mean something.
    """
    whole = topology.whole(frames.positions, frames.cell)
    first = np.array([atoms[0] for atoms in topology.molecules])
    net = np.array([charges[atoms].sum() for atoms in topology.molecules])
    lead = np.empty(topology.n_atoms, dtype=np.int64)
    for atoms in topology.molecules:
        lead[atoms] = atoms[0]
    dipole = np.einsum("p,fpc->fc", charges, whole - whole[:, lead])
    ions = np.abs(net) > NEUTRAL
    if ions.any():
        dipole += np.einsum("p,fpc->fc", net[ions], unwrapped(whole[:, first[ions]], frames.cell))
    return np.asarray(dipole)


def unwrapped(positions: Floats, cell: Floats) -> Floats:
    """Paths (F, P, 3) [Å] that go on where they leave the cell (F, 3, 3)."""
    steps = np.diff(positions, axis=0)
    steps -= np.round(steps @ np.linalg.inv(cell[1:])) @ cell[1:]
    return np.concatenate([positions[:1], positions[:1] + np.cumsum(steps, axis=0)])


def molecular_dipoles(frames: Trajectory, topology: Topology, charges: Floats) -> dict[str, Floats]:
    """Magnitudes (F, M) [e Å] by the formula of molecules that are neutral and have more than one
    atom.
    """
    whole = topology.whole(frames.positions, frames.cell)
    by_formula: dict[str, list[Floats]] = {}
    for atoms in topology.molecules:
        if len(atoms) > 1 and abs(charges[atoms].sum()) <= NEUTRAL:
            dipole = np.einsum("p,fpc->fc", charges[atoms], whole[:, atoms])
            formula = topology.formula(atoms)
            by_formula.setdefault(formula, []).append(np.linalg.norm(dipole, axis=1))
    return {formula: np.stack(each, axis=1) for formula, each in by_formula.items()}


@dataclass(frozen=True)
class Dielectric:
    """The static dielectric constant that a run tells."""

    constant: Statistic
    """Its error is nan where the run is too short to tell one."""
    memory_ps: float
    """After which the correlation of the box's dipole first vanishes."""
    length_ps: float

    @property
    def is_told(self) -> bool:
        return self.length_ps >= FEWEST_MEMORIES * self.memory_ps


def dielectric(
    dipole: Floats, stride_fs: float, volume_A3: float, temperature_K: float
) -> Dielectric:
    """ε = 1 + 4π (⟨M²⟩ - ⟨M⟩²) / (3 V kT) of the dipole M (F, 3) [e Å] of a box in a conductor, as
    Ewald's sum without a surface term has it (M. Neumann, Mol. Phys. 50, 841 (1983)).

    Fixed charges have ε of infinite frequency 1. With the autocorrelation ρ of M and the length T,
    ⟨M⟩ takes 2 ∫ρ/T off the fluctuations, which is given back. The standard error is that of five
    blocks, or of Gaussian fluctuations, √(4 ∫ρ²/(3T)), whichever is more: where T is short all
    blocks are wrong alike.
    """
    n, away = len(dipole), dipole - dipole.mean(axis=0)
    memory = _vanishes(away)
    correlation = tidynamics.acf(away)[:memory]
    correlation /= correlation[0]
    once = stride_fs * (float(correlation.sum()) - 0.5)
    squared = stride_fs * max(float((correlation**2).sum()) - 0.5, 0.5)
    length_fs = n * stride_fs
    square = _factor(volume_A3, temperature_K) * (away**2).sum(axis=1)
    value = float(square.mean()) / max(1 - 2 * once / length_fs, 0.5)
    blocks = float(block_error([b.mean() for b in np.array_split(square, N_BLOCKS)]))
    error = max(blocks, value * math.sqrt(4 * squared / (3 * length_fs)))
    lengths_ps = memory * stride_fs * FS_TO_PS, length_fs * FS_TO_PS
    found = Dielectric(Statistic(1 + value, error), *lengths_ps)
    return found if found.is_told else Dielectric(Statistic(1 + value, math.nan), *lengths_ps)


def _factor(volume_A3: float, temperature_K: float) -> float:
    """Of a square of a dipole [e² Å²], in a dielectric constant."""
    kT = KB_EV_PER_K * temperature_K
    return 4 * math.pi * E2_PER_A_TO_EV / (3 * volume_A3 * kT)


def _vanishes(away: Floats) -> int:
    """After how many frames the correlation of a series (F, 3) without mean first vanishes."""
    width = max(1, len(away) // WINDOWS)
    slow = away[: len(away) // width * width].reshape(-1, width, 3).mean(axis=1)
    below = np.flatnonzero(tidynamics.acf(slow) <= 0)
    return width * int(below[0] if len(below) else len(slow))


def so_far(
    dipole: Floats, volume_A3: float, temperature_K: float, n: int = 200
) -> tuple[Ints, Floats]:
    """The dielectric constant of the first k frames: at most n numbers k, and as many of it."""
    k = np.unique(np.linspace(2, len(dipole), min(n, len(dipole))).astype(int))
    sums, squares = np.cumsum(dipole, axis=0), np.cumsum((dipole**2).sum(axis=1))
    spread = squares[k - 1] / k - ((sums[k - 1] / k[:, None]) ** 2).sum(axis=1)
    return k, np.asarray(1 + _factor(volume_A3, temperature_K) * spread)
