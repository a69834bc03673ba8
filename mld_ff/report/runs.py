"""Runs as a study takes them: read back once, without their first stretch, each under a name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mld_ff.engines.settings import MD
from mld_ff.errors import InputError
from mld_ff.geometry.topology import Topology, topology_of
from mld_ff.loss.model import AgentLoss
from mld_ff.production.record import RunRecord, read_record
from mld_ff.production.results import read_log, read_run
from mld_ff.trajectory import Floats, Ints, Trajectory

EQUILIBRATION = 0.1
"""First fraction of a learned run that is left out."""
DENSITY_TOLERANCE = 0.01
"""Part of it that the numbers of atoms per volume may differ by."""
MODEL = "model.json"


@dataclass(frozen=True)
class LearnedRun:
    """One run of the learned loss."""

    name: str
    """Its engine, followed by a number where that engine made several: `lammps 2`."""
    directory: Path
    settings: MD
    wall_s: float | None
    """Of the whole run; None if it was interrupted."""
    start_step: int
    """MD step of the frame that it began with, in the source of that frame."""
    start_sha256: str | None
    """Of the files of that source (`Origin`)."""
    atom_in_source: Ints
    """Which atom of that frame every atom is, (N,)."""
    frames: Trajectory
    time_ps: Floats
    """Of the engine's log, (L,)."""
    temperature_K: Floats
    """Of the engine's log, (L,)."""

    @property
    def settled(self) -> Trajectory:
        """The frames after EQUILIBRATION."""
        return self.frames[int(EQUILIBRATION * self.frames.n_frames) :]


def read_learned_runs(directories: Sequence[Path | str]) -> tuple[list[LearnedRun], AgentLoss]:
    """Runs in the order given, and the model of all of them.

    Raises InputError if a directory holds no run, or the models differ.
    """
    places = [Path(d) for d in directories]
    if not places:
        raise InputError("no run is given: at least one is needed to compare")
    records = [read_record(place) for place in places]
    losses = [AgentLoss.load(place / MODEL) for place in places]
    for place, loss in zip(places, losses, strict=True):
        if loss != losses[0]:
            raise InputError(
                f"is of another model than {places[0]}: make a report of each, a model at a time",
                place,
            )
    runs, seen = [], Counter[str]()
    for place, record in zip(places, records, strict=True):
        engine = record.engine
        seen[engine] += 1
        name = engine if seen[engine] == 1 else f"{engine} {seen[engine]}"
        runs.append(_read(name, place, record))
    return runs, losses[0]


def check_comparable(run: LearnedRun, reference: Trajectory, expected: Topology) -> None:
    """Raises InputError if a run does not hold the molecules of the reference at its density.

    expected: the topology of the reference.
    """
    frames = run.frames
    topology = topology_of(frames, expected.kind)
    if _composition(topology) != _composition(expected):
        raise InputError(
            f"holds {topology.formulas()}, the reference {expected.formulas()}: nothing to compare",
            run.directory,
        )
    ratio = _atoms_per_A3(frames) / _atoms_per_A3(reference)
    if abs(ratio - 1) > DENSITY_TOLERANCE:
        raise InputError(
            f"its density is {ratio:.3f} times that of the reference:"
            " structure and dynamics of different densities are not comparable; run at the"
            f" reference's cell{_where_it_is_the_mean(reference)}",
            run.directory,
        )


def _where_it_is_the_mean(reference: Trajectory) -> str:
    """The frame of a reference whose cell changes to begin with; nothing if it does not."""
    volumes = np.abs(np.linalg.det(reference.cell))
    nearest = int(np.abs(volumes / volumes.mean() - 1).argmin())
    if volumes.std() < DENSITY_TOLERANCE / 10 * volumes.mean():
        return ""
    return (
        f", which changes: it is the mean one in step {reference.step[nearest]}, --frame {nearest}"
        f" of the {reference.n_frames} compared"
    )


def _composition(topology: Topology) -> dict[str, float]:
    """Fraction of the molecules by formula."""
    return {f: n / len(topology.molecules) for f, n in topology.formulas().items()}


def _atoms_per_A3(frames: Trajectory) -> float:
    """Masses do not count: a reference may have hydrogens of deuterium's mass or more."""
    return float(frames.n_atoms / np.abs(np.linalg.det(frames.cell)).mean())


def mass_by_element(frames: Trajectory) -> dict[str, float]:
    """Mean over the atoms of each element [amu]."""
    symbols = np.array(frames.symbols)
    return {s: float(frames.masses[symbols == s].mean()) for s in dict.fromkeys(frames.symbols)}


def _read(name: str, directory: Path, record: RunRecord) -> LearnedRun:
    log = read_log(directory)
    return LearnedRun(
        name=name,
        directory=directory,
        settings=record.settings,
        wall_s=record.wall_s,
        start_step=record.started_from["step"],
        start_sha256=record.started_from.get("sha256"),
        atom_in_source=np.array(record.atom_in_source),
        frames=read_run(directory),
        time_ps=log["time_ps"],
        temperature_K=log["temperature_K"],
    )
