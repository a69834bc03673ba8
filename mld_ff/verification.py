"""Do the engines compute what the model file says? Same frames, numpy against every engine."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from mld_ff.engines.engine import Engine
from mld_ff.engines.registry import ENGINES, engine_named
from mld_ff.engines.settings import Device
from mld_ff.engines.start import Start, start_from
from mld_ff.errors import InputError
from mld_ff.geometry.system import systems
from mld_ff.loss.evaluation import Evaluation
from mld_ff.loss.model import AgentLoss
from mld_ff.progress import Progress, no_progress
from mld_ff.trajectory import Floats, FrameSource, Trajectory, spread_frames

ENERGY_TOLERANCE = 1e-5
"""Relative to the sum of the magnitudes of the terms; float32 sums of some 10⁴ pairs lose about
1e-6.
"""
CPU = Device("CPU")


@dataclass(frozen=True)
class EngineResult:
    """One engine against numpy."""

    engine: str
    max_force_difference_eV_per_A: float
    worst_atom: str
    relative_energy_difference: float
    energy_eV: float
    """Of the first frame."""
    terms_eV: dict[str, float]
    """Energy of every term of the first frame, from an export of that term alone."""
    force_tolerance_eV_per_A: float
    """The engine's own in the largest of the cells."""
    terms_force_difference_eV_per_A: dict[str, float] = field(default_factory=dict)
    """The largest of every term on the first frame, from the same exports."""

    @property
    def energy_tolerance(self) -> float:
        """Relative, that of all engines."""
        return ENERGY_TOLERANCE

    @property
    def passed(self) -> bool:
        largest = max(
            self.max_force_difference_eV_per_A, *self.terms_force_difference_eV_per_A.values(), 0.0
        )
        return (
            largest <= self.force_tolerance_eV_per_A
            and self.relative_energy_difference <= self.energy_tolerance
        )

    def to_dict(self) -> dict[str, Any]:
        return {
            **vars(self),
            "passed": self.passed,
        }


@dataclass(frozen=True)
class Verification:
    """The same frames in numpy and in every engine."""

    frames: int
    energy_eV: float
    """numpy's, of the first frame."""
    terms_eV: dict[str, float]
    engines: dict[str, EngineResult] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        return all(result.passed for result in self.engines.values())

    def to_dict(self) -> dict[str, Any]:
        return {
            "passed": self.passed,
            "frames": self.frames,
            "energy_eV": self.energy_eV,
            "terms_eV": self.terms_eV,
            "energy_tolerance": ENERGY_TOLERANCE,
            "engines": {name: result.to_dict() for name, result in self.engines.items()},
        }


def verify(
    loss: AgentLoss,
    source: FrameSource,
    n_frames: int = 5,
    directories: dict[str, Path] | None = None,
    device: Device = CPU,
    per_term: bool = True,
    progress: Progress = no_progress,
) -> Verification:
    """Evaluate frames with numpy and with files exported for each engine, and compare energies and
    forces.

    source: frames to evaluate (forces in it are not used). directories: exported files to check, by
    engine name; None checks every engine with a fresh export. Where an engine can compute densities
    in two ways and `device` chooses none, both are checked, the slower as `ENGINE WAY`. Compared
    are energies and forces; masses, thermostat and run settings of exported files are not. Raises
    EngineError if an engine is missing, stops or warns.
    """
    if not source.n_frames or n_frames < 1:
        raise InputError(
            f"{min(source.n_frames, n_frames)} frames are asked for; at least one is needed"
        )
    frames = spread_frames(source, n_frames)
    # whether engines agree, not whether it is wise
    start = start_from(frames[0], topology=loss.topology_kind, force=True)
    start.check(loss)
    frames = start.engine_frames(frames)
    every = list(systems(start.topology, frames, loss.cutoff_A))
    stiffness = max(loss.stiffness_eV_per_A2(system) for system in every)
    expected = [loss.evaluate(system) for system in every]
    results, names = {}, list(directories or ENGINES)
    for k, name in enumerate(names):
        progress("verify", k, len(names))
        directory = directories[name] if directories else None
        for title, way in _ways(engine_named(name), loss, device).items():
            check = _Check(engine_named(name), start, way, stiffness)
            results[title] = check.result(loss, frames, expected, directory, per_term)
    progress("verify", len(names), len(names))
    first = expected[0]
    return Verification(frames.n_frames, first.energy, first.energies, results)


def _ways(engine: Engine, loss: AgentLoss, device: Device) -> dict[str, Device]:
    """What to check of an engine, by the name of the result."""
    if not loss.channels or not engine.many_body_ways or device.many_body:
        return {engine.name: device}
    ways = [replace(device, many_body=way) for way in engine.many_body_ways(device)]
    return {f"{engine.name} {d.many_body}" if k else engine.name: d for k, d in enumerate(ways)}


@dataclass(frozen=True)
class _Check:
    """Of one engine."""

    engine: Engine
    start: Start
    device: Device
    stiffness_eV_per_A2: float
    """Of free pairs in the frames."""

    def result(
        self,
        loss: AgentLoss,
        frames: Trajectory,
        expected: Sequence[Evaluation],
        directory: Path | None,
        per_term: bool,
    ) -> EngineResult:
        """Compare frames, with the files in a directory or (None) a fresh export."""
        if directory:
            energies, forces = self.engine.evaluate(directory, frames, self.device)
        else:
            energies, forces = self._evaluate_export(loss, frames)
        size = np.array([sum(abs(e) for e in one.energies.values()) for one in expected])
        total = np.array([one.energy for one in expected])
        relative = np.abs(energies - total) / np.maximum(size, np.finfo(float).tiny)
        difference = _lengths(forces - np.array([one.forces for one in expected]))
        f, atom = np.unravel_index(np.argmax(difference), difference.shape)
        symbol, number = self.start.topology.symbols[atom], self.start.order[atom] + 1
        terms, terms_difference = self._terms(loss, frames[0]) if per_term else ({}, {})
        return EngineResult(
            engine=self.engine.name,
            max_force_difference_eV_per_A=float(difference.max()),
            worst_atom=f"{symbol}{number} in step {frames.step[f]}",
            relative_energy_difference=float(np.nan_to_num(relative, nan=np.inf).max()),
            energy_eV=float(energies[0]),
            terms_eV=terms,
            force_tolerance_eV_per_A=max(
                self.engine.force_tolerance(cell, self.stiffness_eV_per_A2) for cell in frames.cell
            ),
            terms_force_difference_eV_per_A=terms_difference,
        )

    def _terms(
        self, loss: AgentLoss, frame: Trajectory
    ) -> tuple[dict[str, float], dict[str, float]]:
        """Energy and largest force difference of every term, exported alone."""
        energies, differences = {}, {}
        (system,) = systems(self.start.topology, frame, loss.cutoff_A)
        for term in loss.terms:
            alone = loss.only(term.name)
            energy, forces = self._evaluate_export(alone, frame)
            expected = alone.evaluate(system).forces
            energies[term.name] = float(energy[0])
            differences[term.name] = float(_lengths(forces[0] - expected).max())
        return energies, differences

    def _evaluate_export(self, loss: AgentLoss, frames: Trajectory) -> tuple[Floats, Floats]:
        with tempfile.TemporaryDirectory() as folder:
            self.engine.export(loss, self.start, folder)
            return self.engine.evaluate(Path(folder), frames, self.device)


def _lengths(vectors: Floats) -> Floats:
    """Lengths (…, N) of vectors (…, N, 3); infinite where there is no number."""
    return np.asarray(np.nan_to_num(np.linalg.norm(vectors, axis=-1), nan=np.inf))
