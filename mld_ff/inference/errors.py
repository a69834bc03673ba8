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
from mld_ff.units import EV_PER_A3_TO_BAR, EV_TO_MEV


@dataclass(frozen=True)
class StressErrors:
    """Of the stress on the frames for testing."""

    pressure_offset_bar: float
    """Mean pressure of the fit less that of the reference."""
    pressure_rmse_bar: float
    """Of the pressure of a frame."""
    stress_rmse_bar: float
    """Of a component of its stress."""

    def told(self) -> Provenance:
        """As the model file tells them."""
        return {
            "pressure_offset_bar": self.pressure_offset_bar,
            "pressure_rmse_bar": self.pressure_rmse_bar,
            "stress_rmse_bar": self.stress_rmse_bar,
        }

    @classmethod
    def of_sums(cls, sums: Floats) -> StressErrors | None:
        """From the number of frames and over them Σ ΔP, Σ ΔP², Σ |ΔS|² [eV/Å³]; None of none."""
        n = sums[0]
        if not n:
            return None
        return cls(
            float(sums[1] / n * EV_PER_A3_TO_BAR),
            float(np.sqrt(sums[2] / n) * EV_PER_A3_TO_BAR),
            float(np.sqrt(sums[3] / (9 * n)) * EV_PER_A3_TO_BAR),
        )


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
    stress: StressErrors | None = None
    """Where frames hold it and the loss was evaluated."""

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
            **(self.stress.told() if self.stress else {}),
        }


def measure(dataset: Dataset, loss: AgentLoss, test: Sequence[int]) -> Errors:
    """Errors of a finished loss on the test blocks, evaluated as the engines will."""
    alone, ranges = replace(loss, agents={}), dataset.blocks(test, dataset.n_blocks)
    sums, of_stress = np.zeros((3, len(loss.species))), np.zeros(4)
    what = "test on unseen frames"
    for _, more in dataset.over(ranges, dataset.n_blocks, what, _deviations, alone):
        sums += more[0]
        of_stress += more[1]
    square, power, number = sums
    errors = Errors.of_sums(loss.species, square, power, number, include_walls=True)
    return replace(errors, stress=StressErrors.of_sums(of_stress))


def _deviations(loss: AgentLoss, topology: Topology, frames: Trajectory) -> tuple[Floats, Floats]:
    """Σ|F_fit - F_ref|², Σ|F_ref|² and force components per species, (3, S); and what
    `StressErrors.of_sums` takes."""
    index, n = topology.species_index, len(loss.species)
    sums, of_stress = np.zeros((3, n)), np.zeros(4)
    for system in systems(topology, frames, loss.cutoff_A):
        if system.changes:
            continue
        assert system.forces is not None
        said = loss.evaluate(system)
        if system.virial is not None:
            stress = (said.virial - system.virial) / abs(np.linalg.det(system.cell))
            pressure = -np.trace(stress) / 3
            of_stress += [1.0, pressure, pressure**2, (stress**2).sum()]
        difference = said.forces - system.forces
        free = system.free_components
        known = np.ones(difference.shape) if free is None else free.reshape(-1, 3).astype(float)
        for total, values in zip(
            sums, (known * difference**2, known * system.forces**2, known), strict=True
        ):
            total += np.bincount(index, values.sum(axis=1), n)
    return sums, of_stress
