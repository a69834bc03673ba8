"""How good a loss is on frames that its fit has not seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from mld_ff.geometry.system import systems
from mld_ff.geometry.topology import Topology
from mld_ff.inference.dataset import Dataset
from mld_ff.loss.model import AgentLoss
from mld_ff.loss.provenance import Provenance
from mld_ff.trajectory import Floats, Trajectory
from mld_ff.units import EV_TO_MEV


@dataclass(frozen=True)
class Errors:
    """Of forces on the frames for testing."""

    relative_rmse: dict[str, float]
    """√(Σ|F_fit - F_ref|² / Σ|F_ref|²) by species."""
    rmse_meV_per_A: float
    """Of a force component of any atom."""
    rmse_meV_per_A_by_species: dict[str, float]
    errors_include_walls: bool
    """Whether the loss was evaluated as engines will, or is known by normal equations alone."""

    @classmethod
    def of_sums(
        cls,
        species: Sequence[str],
        square: Floats,
        power: Floats,
        number: Floats,
        include_walls: bool,
    ) -> Errors:
        """From Σ|F_fit - F_ref|², Σ|F_ref|² and force components per species, (S,)."""
        per_species = np.sqrt(square / number) * EV_TO_MEV
        return cls(
            relative_rmse=dict(zip(species, np.sqrt(square / power).tolist(), strict=True)),
            rmse_meV_per_A=float(np.sqrt(square.sum() / number.sum()) * EV_TO_MEV),
            rmse_meV_per_A_by_species=dict(zip(species, per_species.tolist(), strict=True)),
            errors_include_walls=include_walls,
        )

    def told(self) -> Provenance:
        """As the model file tells them."""
        return {
            "relative_rmse": self.relative_rmse,
            "rmse_meV_per_A": self.rmse_meV_per_A,
            "rmse_meV_per_A_by_species": self.rmse_meV_per_A_by_species,
            "errors_include_walls": self.errors_include_walls,
        }


def measure(dataset: Dataset, loss: AgentLoss, test: Sequence[int]) -> Errors:
    """Errors of a finished loss on the test blocks, evaluated as the engines will."""
    alone, ranges = replace(loss, agents={}), dataset.blocks(test, dataset.n_blocks)
    sums = np.zeros((3, len(loss.species)))
    what = "test on unseen frames"
    for _, more in dataset.over(ranges, dataset.n_blocks, what, _deviations, alone):
        sums += more
    square, power, number = sums
    return Errors.of_sums(loss.species, square, power, number, include_walls=True)


def _deviations(loss: AgentLoss, topology: Topology, frames: Trajectory) -> Floats:
    """Σ|F_fit - F_ref|², Σ|F_ref|² and force components per species, (3, S)."""
    index, n = topology.species_index, len(loss.species)
    sums = np.zeros((3, n))
    for system in systems(topology, frames, loss.cutoff_A):
        if system.changes:
            continue
        assert system.forces is not None
        difference = loss.evaluate(system).forces - system.forces
        free = system.free_components
        known = np.ones(difference.shape) if free is None else free.reshape(-1, 3).astype(float)
        for total, values in zip(
            sums, (known * difference**2, known * system.forces**2, known), strict=True
        ):
            total += np.bincount(index, values.sum(axis=1), n)
    return sums
