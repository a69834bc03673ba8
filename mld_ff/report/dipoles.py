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

FEWEST_MEMORIES = 30.0
"""A run shorter than this many correlation times of the box's dipole tells no dielectric constant:
its standard error would be beyond 15 %, and short runs take their memory for shorter than it is. Of
runs of 10, 20, 40 and 80 true correlation times 2, 35, 94 and 100 % are found long enough; of those
of 40 and 80, 89 and 92 % are within two errors (300 runs each). With 20 instead, 29 % of runs of 10
would be told, 4 in 10 of them rightly."""


def charges_of_atoms(charges_e: Mapping[str, float], topology: Topology) -> Floats:
    """Charges (N,) [e] of a neutral box, by element or by type of atom. Raises InputError for atoms
    without one, and a box that is not neutral.
    """
    by_element = charges_e.keys() >= {*topology.species}
    owners = topology.symbols if by_element else topology.atom_types
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
    """Correlation time of the box's dipole."""
    length_ps: float

    @property
    def is_told(self) -> bool:
        return self.length_ps >= FEWEST_MEMORIES * self.memory_ps


def dielectric(
    dipole: Floats, stride_fs: float, volume_A3: float, temperature_K: float
) -> Dielectric:
    """ε = 1 + 4π (⟨M²⟩ - ⟨M⟩²) / (3 V kT) of the dipole M (F, 3) [e Å] of a box in a conductor, as
    Ewald's sum without a surface term has it (M. Neumann, Mol. Phys. 50, 841 (1983)).

    Fixed charges have ε of infinite frequency 1. The correlation time is the integral of M's
    autocorrelation to where it first vanishes. ⟨M⟩ of a run as long as n such times takes 2/n off
    the fluctuations, which is given back. The standard error is that of five blocks, or of Gaussian
    fluctuations that decay exponentially, √(2/(3n)), whichever is more: where n is small all
    blocks are wrong alike.
    """
    away = dipole - dipole.mean(axis=0)
    correlation = tidynamics.acf(away)
    length_fs = len(dipole) * stride_fs
    below = np.flatnonzero(correlation <= 0)
    until = int(below[0]) if len(below) else len(correlation)
    memory_fs = stride_fs * float(correlation[:until].sum() / correlation[0] - 0.5)
    memory_fs = max(memory_fs, stride_fs / 2)  # frames that know nothing of each other
    n = length_fs / memory_fs
    factor = 4 * math.pi * E2_PER_A_TO_EV / (3 * volume_A3 * KB_EV_PER_K * temperature_K)
    factor /= max(1 - 2 / n, 0.5)
    square = (away**2).sum(axis=1)
    value = factor * float(square.mean())
    blocks = float(block_error([b.mean() for b in np.array_split(factor * square, N_BLOCKS)]))
    error = max(blocks, value * math.sqrt(2 / (3 * n)))
    found = Dielectric(Statistic(1 + value, error), memory_fs * FS_TO_PS, length_fs * FS_TO_PS)
    if found.is_told:
        return found
    return Dielectric(Statistic(1 + value, math.nan), found.memory_ps, found.length_ps)


def so_far(
    dipole: Floats, volume_A3: float, temperature_K: float, n: int = 200
) -> tuple[Ints, Floats]:
    """The dielectric constant of the first k frames: at most n numbers k, and as many of it."""
    k = np.unique(np.linspace(2, len(dipole), min(n, len(dipole))).astype(int))
    sums, squares = np.cumsum(dipole, axis=0), np.cumsum((dipole**2).sum(axis=1))
    spread = squares[k - 1] / k - ((sums[k - 1] / k[:, None]) ** 2).sum(axis=1)
    factor = 4 * math.pi * E2_PER_A_TO_EV / (3 * volume_A3 * KB_EV_PER_K * temperature_K)
    return k, np.asarray(1 + factor * spread)
