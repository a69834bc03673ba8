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
from mld_ff.loss.pressed import press
from mld_ff.loss.terms import PairTerm
from mld_ff.progress import Progress, no_progress
from mld_ff.trajectory import Floats, FrameSource, Trajectory, concatenate, spread_frames

ENERGY_TOLERANCE = 1e-5
"""Relative to the sum of the magnitudes of the terms, and of what cancels within that of charges;
float32 sums of some 10⁴ pairs lose about 1e-6.
"""
WALL_TOLERANCE = 1e-4
"""Of forces in frames pressed into walls, relative to the largest of their frame, in cells up to
12.5 Å: measured 2.7e-5 at most, in float32 and walls of 300 eV/Å³ (1.1e-5 in the examples).
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
    walls_force_difference: float = 0.0
    """The largest in frames pressed into walls, of all terms and of pairs' alone, relative to the
    largest force of its frame."""
    walls_tolerance: float = WALL_TOLERANCE
    worst_in_walls: str = ""
    """Where it is."""

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
            and self.walls_force_difference <= self.walls_tolerance
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
    frames_in_walls: int = 0
    """Frames more, in which pairs of the first are pressed into their walls."""
    walls_not_visited: tuple[str, ...] = ()
    """Terms of which no pair could be."""

    @property
    def passed(self) -> bool:
        return all(result.passed for result in self.engines.values())

    def to_dict(self) -> dict[str, Any]:
        return {
            "passed": self.passed,
            "frames": self.frames,
            "frames_in_walls": self.frames_in_walls,
            "walls_not_visited": list(self.walls_not_visited),
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
    forces; also of the first frame with pairs pressed into their walls (`loss.pressed`).

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
    pressed = press(loss, every[0], frames[0])
    every += systems(start.topology, pressed.frames, loss.cutoff_A)
    expected = [loss.evaluate(system) for system in every]
    results, names = {}, list(directories or ENGINES)
    for k, name in enumerate(names):
        progress("verify", k, len(names))
        directory = directories[name] if directories else None
        for title, way in _ways(engine_named(name), loss, device).items():
            check = _Check(engine_named(name), start, way, stiffness, frames, pressed.frames)
            results[title] = check.result(loss, expected, directory, per_term)
    progress("verify", len(names), len(names))
    first = expected[0]
    told = pressed.frames.n_frames, pressed.unvisited
    return Verification(frames.n_frames, first.energy, first.energies, results, *told)


def _ways(engine: Engine, loss: AgentLoss, device: Device) -> dict[str, Device]:
    """What to check of an engine, by the name of the result."""
    sums = loss.channels or loss.charges
    if not sums or not engine.many_body_ways or device.many_body:
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
    frames: Trajectory
    pressed: Trajectory
    """The first of them, pressed into walls."""

    def result(
        self,
        loss: AgentLoss,
        expected: Sequence[Evaluation],
        directory: Path | None,
        per_term: bool,
    ) -> EngineResult:
        """Compare frames, with the files in a directory or (None) a fresh export.

        expected: of the frames, and then of those pressed into walls.
        """
        every = concatenate([self.frames, self.pressed])
        if directory:
            energies, forces = self.engine.evaluate(directory, every, self.device)
        else:
            energies, forces = self._evaluate_export(loss, every)
        size = np.array([sum(abs(e) for e in one.energies.values()) for one in expected])
        size += loss.charges.cancelling_eV(self.start.topology) if loss.charges else 0.0
        total = np.array([one.energy for one in expected])
        relative = np.abs(energies - total) / np.maximum(size, np.finfo(float).tiny)
        n = self.frames.n_frames
        difference = _lengths(forces[:n] - np.array([one.forces for one in expected[:n]]))
        f, atom = np.unravel_index(np.argmax(difference), difference.shape)
        terms, terms_difference, walls = self._terms(loss) if per_term else ({}, {}, {})
        walls |= {"all terms": self._in_walls(forces[n:], expected[n:])}
        worst = max(walls, key=walls.__getitem__)
        return EngineResult(
            engine=self.engine.name,
            max_force_difference_eV_per_A=float(difference.max()),
            worst_atom=f"{self._atom(int(atom))} in step {self.frames.step[f]}",
            relative_energy_difference=float(np.nan_to_num(relative, nan=np.inf).max()),
            energy_eV=float(energies[0]),
            terms_eV=terms,
            force_tolerance_eV_per_A=max(
                self.engine.force_tolerance(cell, self.stiffness_eV_per_A2)
                for cell in self.frames.cell
            ),
            terms_force_difference_eV_per_A=terms_difference,
            walls_force_difference=walls[worst],
            walls_tolerance=WALL_TOLERANCE * self._rounding,
            worst_in_walls=worst,
        )

    def _atom(self, k: int) -> str:
        return f"{self.start.topology.symbols[k]}{self.start.order[k] + 1}"

    @property
    def _rounding(self) -> float:
        """How much more than in a small cell positions are rounded."""
        engine, cell = self.engine, self.frames.cell[0]
        return engine.force_tolerance(cell) / engine.force_tolerance_eV_per_A

    def _terms(
        self, loss: AgentLoss
    ) -> tuple[dict[str, float], dict[str, float], dict[str, float]]:
        """Of every term, exported alone: energy and largest force difference of the first frame,
        and of those of pairs the difference in walls.
        """
        energies, differences, walls = {}, {}, {}
        for term in loss.terms:
            alone, frames = loss.only(term.name), self.frames[0]
            if isinstance(term, PairTerm):  # which alone have walls
                frames = concatenate([frames, self.pressed])
            energy, forces = self._evaluate_export(alone, frames)
            every = systems(self.start.topology, frames, loss.cutoff_A)
            expected = [alone.evaluate(system) for system in every]
            energies[term.name] = float(energy[0])
            differences[term.name] = float(_lengths(forces[0] - expected[0].forces).max())
            walls[term.name] = self._in_walls(forces[1:], expected[1:])
        return energies, differences, walls

    def _in_walls(self, forces: Floats, expected: Sequence[Evaluation]) -> float:
        """The largest difference, relative to the largest force of its frame. Forces of less than
        some eV/Å are held to what holds outside of walls."""
        least = self.engine.force_tolerance_eV_per_A / WALL_TOLERANCE
        return max(
            (
                float(_lengths(own - one.forces).max() / max(_lengths(one.forces).max(), least))
                for own, one in zip(forces, expected, strict=True)
            ),
            default=0.0,
        )

    def _evaluate_export(self, loss: AgentLoss, frames: Trajectory) -> tuple[Floats, Floats]:
        with tempfile.TemporaryDirectory() as folder:
            self.engine.export(loss, self.start, folder)
            return self.engine.evaluate(Path(folder), frames, self.device)


def _lengths(vectors: Floats) -> Floats:
    """Lengths (…, N) of vectors (…, N, 3); infinite where there is no number."""
    return np.asarray(np.nan_to_num(np.linalg.norm(vectors, axis=-1), nan=np.inf))
