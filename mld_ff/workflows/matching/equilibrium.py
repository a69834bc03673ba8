"""The runs in equilibrium that are to be matched: temperature, radial distributions, averages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from statistics import mean

import numpy as np
from ase.geometry import cell_to_cellpar

from mld_ff.errors import InputError
from mld_ff.geometry.pairs import default_cutoff
from mld_ff.geometry.system import MOST_CHANGED, changes
from mld_ff.geometry.topology import Topology, TopologyKind, topology_of
from mld_ff.inference.dataset import check_same_kinds
from mld_ff.loss.model import AgentLoss
from mld_ff.progress import Progress, no_progress
from mld_ff.report.observables import mean_abs_dg
from mld_ff.survey import Inspection, inspect
from mld_ff.trajectory import Floats, FrameSource, Trajectory, concatenate
from mld_ff.units import KB_EV_PER_K
from mld_ff.workflows.matching.averages import Averages, pooled

WIDTH_A = 0.05
"""Of bins of radial distributions."""
SAME_CELL = 1e-3
"""[Å and degrees]."""
SAME_TEMPERATURE = 0.03
"""Part of it that the temperatures of runs may differ by: short ones scatter by so much."""


class Equilibrium:
    """Runs of one system at one temperature in one cell; each counts by its length in time.

    Raises InputError if they do not belong together.
    """

    def __init__(
        self,
        sources: Sequence[FrameSource],
        progress: Progress = no_progress,
        kind: TopologyKind | None = None,
    ) -> None:
        """kind: whether there are molecules."""
        self.progress = progress
        contents = [_read(source) for source in sources]
        self.runs = [frames for frames, _, _ in contents]
        """Positions of every run."""
        self.topologies = [topology_of(frames, kind) for frames in self.runs]
        self.start = _sound(contents[0][1], self.topologies[0])
        """The last sound frame of the first, from which runs of a model start."""
        _check_alike(self.runs, self.topologies)
        means = [temperature for _, _, temperature in contents]
        self.temperature_K = _temperature(sources, means)
        widths = [frames.half_width for frames in (*self.runs, self.start.standard_cell())]
        self.cutoff_A = default_cutoff(min(widths))
        """To which radial distributions are compared."""

    @property
    def kT_eV(self) -> float:
        return KB_EV_PER_K * self.temperature_K

    @property
    def ideal_pressure(self) -> float:
        """[eV/Å³] of an ideal gas of these atoms, whose centre of mass is at rest."""
        volume = np.abs(np.linalg.det(self.start.cell[0]))
        return float((self.start.n_atoms - 1) * self.kT_eV / volume)

    @property
    def length_fs(self) -> float:
        """Of all runs together."""
        return float(sum(frames.time[-1] - frames.time[0] for frames in self.runs))

    @cached_property
    def weights(self) -> Floats:
        """Of the runs, by their length in time."""
        length = np.array([frames.time[-1] - frames.time[0] for frames in self.runs])
        return np.asarray(length / length.sum())

    def averages(self, loss: AgentLoss) -> Floats:
        """Means over all runs of the unit energies of a loss's pairs, (K,)."""
        every = zip(self.runs, self.topologies, strict=True)
        of_runs = [Averages.of(loss, run, of, progress=self.progress) for run, of in every]
        return pooled(of_runs, self.weights).mean

    # --- radial distributions ---------------------------------------------------------------------

    @cached_property
    def halves(self) -> tuple[dict[str, Floats], dict[str, Floats]]:
        """Radial distributions of the first halves of the runs, and of the second ones."""
        middles = [frames.n_frames // 2 for frames in self.runs]
        first = [frames[:m] for frames, m in zip(self.runs, middles, strict=True)]
        second = [frames[m:] for frames, m in zip(self.runs, middles, strict=True)]
        return self._radial(first), self._radial(second)

    def _radial(self, parts: Sequence[Trajectory]) -> dict[str, Floats]:
        each = [radial_distributions(self._inspect(part)) for part in parts]
        weighed = list(zip(self.weights, each, strict=True))
        return {name: sum(w * g[name] for w, g in weighed) for name in each[0]}

    @cached_property
    def noise(self) -> dict[str, float]:
        """Half of what the halves differ by, by kind of free pair."""
        return {name: value / 2 for name, value in _mean_abs_dg(*self.halves).items()}

    def mean_abs_dg(self, frames: Trajectory) -> dict[str, float]:
        """Mean |Δg| of a run to these, by kind of free pair."""
        first, second = self.halves
        whole = {name: (g + second[name]) / 2 for name, g in first.items()}
        return _mean_abs_dg(radial_distributions(self._inspect(frames)), whole)

    def _inspect(self, frames: Trajectory) -> Inspection:
        return inspect(frames, self.cutoff_A, self.progress, self.topologies[0].kind)


def radial_distributions(inspection: Inspection) -> dict[str, Floats]:
    """g(r) of every kind of free pair."""
    names = [name for name in inspection.survey.distances if not name.startswith("bonded:")]
    return {name: inspection.radial_distribution(name, WIDTH_A)[1] for name in names}


def _mean_abs_dg(own: dict[str, Floats], expected: dict[str, Floats]) -> dict[str, float]:
    differences = {}
    for name, g in own.items():
        if name in expected:
            r = WIDTH_A * (np.arange(len(g), dtype=np.float64) + 0.5)
            differences[name] = mean_abs_dg(r, g, expected[name])
    return differences


def check_dynamics(number: int, source: FrameSource) -> None:
    """Raise InputError unless the frames of the source, the number-th, follow each other."""
    if not source.origin.is_dynamics:
        raise InputError(
            f"run {number} holds frames that {source.origin.name} computed one by one"
            f" ({source.origin.remedies.one_by_one}), no dynamics: give them to the fit alone"
            " (--labels)"
        )


def _read(run: FrameSource) -> tuple[Trajectory, Trajectory, float | None]:
    """Positions of a run, all it has of its last frames, and its mean kinetic temperature [K] if it
    has velocities.
    """
    parts, temperatures, last = [], list[float](), None
    for frames in run.chunks():
        parts.append(replace(frames, forces=None, velocities=None, energy=None))
        if frames.velocities is not None:
            temperatures += frames.temperature().tolist()
        last = frames
    assert last is not None
    return concatenate(parts), last, mean(temperatures) if temperatures else None


def _sound(frames: Trajectory, topology: Topology) -> Trajectory:
    """The last of some frames whose bonds hold. Raises InputError."""
    for f in reversed(range(frames.n_frames)):
        if not changes(topology, frames[f]):
            return frames[f]
    raise InputError(
        "bonds are broken at the end of the first run, where runs of the model would start: cut it"
        " short"
    )


def _temperature(runs: Sequence[FrameSource], means: Sequence[float | None]) -> float:
    """What the thermostat of the first run is set to, else its mean. Raises InputError if the runs
    differ.
    """
    first: float | None = None
    for number, (run, average) in enumerate(zip(runs, means, strict=True), 1):
        kelvin = run.origin.thermostat_K or average
        if kelvin is None and run.logged_temperature is not None:
            kelvin = float(np.mean(run.logged_temperature))
        if kelvin is None:
            raise InputError(
                f"the temperature of run {number} is not known: {run.origin.remedies.temperature}"
            )
        first = first or kelvin
        if abs(kelvin / first - 1) > SAME_TEMPERATURE:
            raise InputError(
                f"run {number} is of {kelvin:.0f} K, the first of {first:.0f} K: runs are"
                " matched at one temperature; forces of another one can take part in the fit"
                " (--labels)"
            )
    assert first is not None
    return first


def _check_alike(runs: Sequence[Trajectory], topologies: Sequence[Topology]) -> None:
    """Raise InputError unless the runs are of the same molecules in one cell, which stays, and
    last.
    """
    if not topologies[0].free:
        raise InputError(
            "the system has one molecule, and no distances between molecules to match: `mld-ff"
            " fit` it"
        )
    first, expected = cell_to_cellpar(runs[0].cell[0]), topologies[0].formulas()
    for number, (frames, topology) in enumerate(zip(runs, topologies, strict=True), 1):
        if topology.formulas() != expected:
            here, there = (
                ", ".join(f"{n} {f}" for f, n in x.items()) for x in (topology.formulas(), expected)
            )
            raise InputError(
                f"run {number} holds {here}, the first {there}: only runs of one box add up"
            )
        check_same_kinds(topology, topologies[0])
        if (
            away := max(
                np.abs(cell_to_cellpar(c) - first).max() for c in np.unique(frames.cell, axis=0)
            )
        ) > SAME_CELL:
            raise InputError(
                f"the cell of run {number} is not always that of the first frame of all ({away:.3f}"
                " Å or degrees away): matching needs runs at one constant volume (NVT)"
            )
        if frames.n_frames < 4 or not frames.time[-1] > frames.time[0]:
            raise InputError(
                f"run {number} is no stretch of time: give labelled frames to the fit alone"
                " (--labels)"
            )
        broken = len({change.step for change in changes(topology, frames)})
        if broken > MOST_CHANGED * frames.n_frames:
            raise InputError(
                f"bonds are broken in {broken} of {frames.n_frames} frames of run {number}: no"
                " force field with fixed bonds describes it"
            )
