"""What every potential owes whatever its data: diatomics, locality and extensivity of a loss.

They are computed and judged as ML-PEG does (github.com/ddmms/ml-peg, "Physicality"; read in
November 2026), with elements of the model in place of its acetone, neon and slabs of metal.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase.build import molecule
from scipy.signal import find_peaks
from scipy.stats import spearmanr

from mld_ff.geometry.system import System
from mld_ff.geometry.topology import find_topology
from mld_ff.loss.evaluation import Evaluation
from mld_ff.loss.model import AgentLoss
from mld_ff.trajectory import Floats

GRID_A = np.linspace(0.18, 6.0, 100)
BOX_A = 20.0
"""Of pairs: none sees its image, up to cutoffs of 10 Å."""
SHELL_A = (20.0, 50.0)
"""Where the lone atom is, from the centre of the molecule."""
APART_A = 100.0
"""Between the halves of what is to be extensive."""
LEAST_FORCE, LEAST_CURVATURE, LEAST_DEPTH = 1e-2, 0.5, 0.1
"""[eV/Å, eV/Å², eV] of what counts as a flip, an inflection, a minimum."""


@dataclass(frozen=True)
class Diatomic:
    """Two atoms over their distance; (D,) each."""

    r_A: Floats
    energy_eV: Floats
    force_eV_per_A: Floats
    """Positive where they repel each other."""

    @property
    def force_flips(self) -> int:
        return sign_changes(self.force_eV_per_A, LEAST_FORCE)

    @property
    def energy_minima(self) -> int:
        return len(find_peaks(-self.energy_eV, prominence=LEAST_DEPTH, width=1)[0])

    @property
    def inflections(self) -> int:
        slope = np.gradient(self.energy_eV, self.r_A)
        return sign_changes(np.gradient(slope, self.r_A), LEAST_CURVATURE)

    @property
    def falls_and_rises(self) -> tuple[float, float]:
        """Rank correlation of energy and distance up to the lowest point and beyond it: -1 and 1
        for one well; nan for a side where nothing changes.
        """
        well = int(np.argmin(self.energy_eV))
        return self._rank(slice(well + 1)), self._rank(slice(well + 1, None))

    def _rank(self, side: slice) -> float:
        energy = self.energy_eV[side]
        if len(energy) < 2 or np.ptp(energy) < LEAST_DEPTH:
            return float("nan")
        return float(spearmanr(self.r_A[side], self.energy_eV[side]).statistic)


def diatomic(
    loss: AgentLoss, pair: tuple[str, str], bonded: bool = False, r_A: Floats = GRID_A
) -> Diatomic:
    """A pair of elements alone in the box, as atoms that no bond connects, or as a molecule."""
    cell, start = BOX_A * np.eye(3), np.zeros((2, 3))
    start[1, 0] = 1.0 if bonded else BOX_A / 2
    topology = find_topology(pair, start, cell, loss.topology_kind)
    energies, forces = [], []
    for r in r_A:
        x = np.array([[0.0, 0, 0], [r, 0, 0]])
        result = loss.evaluate(System(topology, x, cell, loss.cutoff_A))
        energies.append(result.energy)
        forces.append(result.forces[1, 0])
    return Diatomic(r_A, np.array(energies), np.array(forces))


def sign_changes(values: Floats, least: float) -> int:
    """How often values change their sign, small ones left out."""
    signs = np.sign(values[np.abs(values) > least])
    return int((signs[1:] != signs[:-1]).sum())


def largest_influence(loss: AgentLoss, name: str, element: str, trials: int = 30) -> float:
    """Of a lone atom, 20 to 50 Å from a molecule (name of ase.build.molecule), on the forces of the
    molecule [eV/Å]; the largest of all trials.
    """
    one = molecule(name)
    symbols, x = one.get_chemical_symbols(), one.positions - one.positions.mean(axis=0)
    cell = 2 * SHELL_A[1] * np.eye(3)
    alone = evaluated(loss, symbols, x, cell).forces
    rng, differences = np.random.default_rng(42), []
    for _ in range(trials):
        direction = rng.normal(size=3)
        far = rng.uniform(*SHELL_A) * direction / np.linalg.norm(direction)
        both = evaluated(loss, [*symbols, element], np.vstack([x, far]), cell)
        differences.append(np.abs(both.forces[: len(x)] - alone).max())
    return float(max(differences))


def not_extensive(
    loss: AgentLoss, symbols: list[str] | tuple[str, ...], x: Floats, cell: Floats
) -> float:
    """Of a slab and the same slab 100 Å away in one tall cell: its energy less twice that of one
    alone [eV].
    """
    tall = cell.copy()
    tall[2] += (2 * APART_A + np.linalg.norm(cell[2])) * cell[2] / np.linalg.norm(cell[2])
    away = x + (APART_A + np.linalg.norm(cell[2])) * cell[2] / np.linalg.norm(cell[2])
    one = evaluated(loss, symbols, x, tall).energy
    both = evaluated(loss, [*symbols, *symbols], np.vstack([x, away]), tall).energy
    return both - 2 * one


def evaluated(
    loss: AgentLoss, symbols: list[str] | tuple[str, ...], x: Floats, cell: Floats
) -> Evaluation:
    topology = find_topology(tuple(symbols), x, cell, loss.topology_kind)
    return loss.evaluate(System(topology, x, cell, loss.cutoff_A))
