"""Do the engines compute what the model file says? Same frames, numpy against OpenMM and LAMMPS."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mld_ff.engines.lammps import run as lammps_engine
from mld_ff.engines.lammps.export import export_lammps
from mld_ff.engines.openmm import run as openmm_engine
from mld_ff.engines.openmm.export import export_openmm
from mld_ff.engines.start import Start, start_from
from mld_ff.errors import InputError
from mld_ff.geometry.system import systems
from mld_ff.loss.evaluation import Evaluation
from mld_ff.loss.model import AgentLoss
from mld_ff.progress import Progress, no_progress
from mld_ff.trajectory import Floats, FrameSource, Trajectory, spread_frames

ENGINES = ("openmm", "lammps")
FORCE_TOLERANCE_EV_PER_A = {"openmm": 1e-4, "lammps": 2e-4}
"""OpenMM's CPU platform computes nonbonded forces in float32: 6e-8 of positions of some nm, times
curvatures of at most some 100 eV/Å², gives 1e-5 eV/Å; ten times that is allowed. LAMMPS computes in
float64 but looks tables up: its spline in r² through points 0.001 Å apart errs by less than 1e-6
eV/Å, and at extrema of a force, where the file holds the slope of the energy instead, by up to
1e-4.
"""
ENERGY_TOLERANCE = 1e-5
"""Relative to the sum of the magnitudes of the terms; float32 sums of some 10⁴ pairs lose about
1e-6.
"""


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
    terms_force_difference_eV_per_A: dict[str, float] = field(default_factory=dict)
    """The largest of every term on the first frame, from the same exports."""

    @property
    def passed(self) -> bool:
        largest = max(
            self.max_force_difference_eV_per_A, *self.terms_force_difference_eV_per_A.values(), 0.0
        )
        return (
            largest <= FORCE_TOLERANCE_EV_PER_A[self.engine]
            and self.relative_energy_difference <= ENERGY_TOLERANCE
        )

    def to_dict(self) -> dict[str, Any]:
        return {
            **vars(self),
            "passed": self.passed,
            "force_tolerance_eV_per_A": FORCE_TOLERANCE_EV_PER_A[self.engine],
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
    platform: str = "CPU",
    precision: str | None = None,
    per_term: bool = True,
    progress: Progress = no_progress,
) -> Verification:
    """Evaluate frames with numpy and with files exported for each engine, and compare energies and
    forces.

    source: frames to evaluate (forces in it are not used). directories: exported files to check, by
    engine name; an engine without one is checked with a fresh export. Compared are energies and
    forces; masses, thermostat and run settings of exported files are not. Raises EngineError if an
    engine is missing, stops or warns.
    """
    if not source.n_frames or n_frames < 1:
        raise InputError(
            f"{min(source.n_frames, n_frames)} frames are asked for; at least one is needed"
        )
    frames = spread_frames(source, n_frames)
    start = start_from(frames[0])
    frames = start.engine_frames(frames)
    expected = [loss.evaluate(s) for s in systems(start.topology, frames, loss.cutoff_A)]
    results = {}
    names = list(directories) if directories else list(ENGINES)
    for k, name in enumerate(names):
        progress("verify", k, len(names))
        results[name] = _check(
            name,
            loss,
            start,
            frames,
            expected,
            (directories or {}).get(name),
            platform,
            precision,
            per_term,
        )
    progress("verify", len(names), len(names))
    first = expected[0]
    return Verification(frames.n_frames, first.energy, first.energies, results)


def _check(
    engine: str,
    loss: AgentLoss,
    start: Start,
    frames: Trajectory,
    expected: list[Evaluation],
    directory: Path | None,
    platform: str,
    precision: str | None,
    per_term: bool,
) -> EngineResult:
    def compute(
        model: AgentLoss, of: Trajectory, ready: Path | None = None
    ) -> tuple[Floats, Floats]:
        with tempfile.TemporaryDirectory() as folder:
            where = ready or Path(folder)
            if engine == "openmm":
                if ready is None:
                    export_openmm(model, start, where)
                return openmm_engine.evaluate(where, of, platform, precision)
            if ready is None:
                export_lammps(model, start, where)
            return lammps_engine.evaluate(where, of)

    energies, forces = compute(loss, frames, directory)
    size = np.array([sum(abs(e) for e in one.energies.values()) for one in expected])
    total = np.array([one.energy for one in expected])
    difference = _difference(forces, np.array([one.forces for one in expected]))
    f, p = np.unravel_index(np.argmax(difference), difference.shape)
    where = f"{start.topology.symbols[p]}{start.order[p] + 1} in step {frames.step[f]}"
    relative = np.abs(energies - total) / np.maximum(size, np.finfo(float).tiny)
    terms, terms_difference = {}, {}
    for name in [t.name for t in loss.terms] if per_term else []:
        alone = loss.only(name)
        energy, force = compute(alone, frames[0])
        terms[name] = float(energy[0])
        (first,) = systems(start.topology, frames[0], loss.cutoff_A)
        wanted = alone.evaluate(first).forces
        terms_difference[name] = float(_difference(force[0], wanted).max())
    return EngineResult(
        engine=engine,
        max_force_difference_eV_per_A=float(difference.max()),
        worst_atom=where,
        relative_energy_difference=float(np.nan_to_num(relative, nan=np.inf).max()),
        energy_eV=float(energies[0]),
        terms_eV=terms,
        terms_force_difference_eV_per_A=terms_difference,
    )


def _difference(forces: Floats, expected: Floats) -> Floats:
    """Lengths (…, N) of the differences of forces (…, N, 3); infinite where there is no number."""
    return np.asarray(np.nan_to_num(np.linalg.norm(forces - expected, axis=-1), nan=np.inf))
