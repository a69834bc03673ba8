"""What a run left in its directory, read back: trajectory and log."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mld_ff.engines import dcd
from mld_ff.engines.engine import TRAJECTORY, Engine
from mld_ff.engines.registry import ENGINES, engine_named
from mld_ff.engines.settings import MD
from mld_ff.errors import InputError
from mld_ff.geometry.system import systems
from mld_ff.geometry.topology import topology_of
from mld_ff.loss.model import AgentLoss
from mld_ff.origin import Origin
from mld_ff.production.record import RunRecord, read_record
from mld_ff.production.sessions import SESSION, first_step, frames_before
from mld_ff.trajectory import Floats, FrameSource, Ints, Trajectory
from mld_ff.units import FS_TO_PS


def read_run(directory: Path | str) -> Trajectory:
    """The trajectory of a run: positions, cell, time, potential energy where the log has it,
    velocities if asked for.

    Velocities of OpenMM are those half a timestep before the positions, the ones that its
    thermostat holds at the temperature and that its log counts; LAMMPS's, like CP2K's, belong to
    the positions. Either way `temperature()` is that of the log. Raises InputError if the directory
    holds no run, one without frames, or one whose record, log and frames are not of each other.
    """
    out = Path(directory)
    record = read_record(out)
    engine, settings = engine_named(record.engine), record.settings
    log = _read_log(out, engine)
    _check_log(log, record, out / engine.files.log)
    if record.finished:
        check_whole(out, record)
    positions, cells, velocities = _read_frames(out, engine, settings)
    later = first_step(out / SESSION, engine)
    if later is not None:  # the run is going on, or was stopped once more
        n = frames_before(later, engine, settings.every)
        more = _read_frames(out / SESSION, engine, settings)
        positions = np.concatenate([positions[:n], more[0]])
        cells = np.concatenate([cells[:n], more[1]])
        if velocities is not None and more[2] is not None:
            velocities = np.concatenate([velocities[:n], more[2]])
    step = settings.every * (engine.files.first_frame + np.arange(len(positions)))
    return Trajectory(
        symbols=record.symbols,
        masses=np.array(record.masses_amu),
        positions=positions,
        cell=cells,
        time=np.asarray(step * settings.timestep_fs, dtype=np.float64),
        step=step,
        velocities=velocities,
        energy=_energies_at(step, log),
        origin=Origin(files=(TRAJECTORY,), engine=record.engine, finished=record.finished),
    )


def check_whole(directory: Path, record: RunRecord) -> None:
    """Raise InputError unless trajectory and log of a run hold it from its first step on: times of
    frames are counted. No later session may be left to be joined.
    """
    engine, settings = engine_named(record.engine), record.settings
    file, frames = directory / engine.files.log, dcd.complete_frames(directory / TRAJECTORY)
    if settings.keep < settings.every and not frames and first_step(directory, engine) is None:
        return  # its checkpoint came before its first frame
    log = engine.files.read_log(file)
    _check_log(log, record, file)
    rows = len(np.unique(log["step"][log["step"] % settings.every == 0]))
    if frames < rows - 1 or log["step"][0] > settings.every:
        raise InputError(
            f"holds {frames} frames, and the log {rows} rows from step {log['step'][0]:.0f} on, of"
            f" a run that writes both every {settings.every} steps: a part of one is gone."
            " Make the run anew",
            directory / TRAJECTORY,
        )


def _check_log(log: Mapping[str, Floats], record: RunRecord, file: Path) -> None:
    """Raise InputError unless a log is that of the run which its record tells of."""
    settings, step = record.settings, log["step"]
    if not all(np.isfinite(log[name]).all() for name in ("time_ps", "temperature_K")):
        raise InputError("holds numbers that are not finite: the run has flown apart there", file)
    step_ps, last_ps = settings.timestep_fs * FS_TO_PS, float(log["time_ps"][-1])
    if abs(last_ps - step[-1] * step_ps) > step_ps:
        raise InputError(
            f"is of another run than run.json: step {step[-1]:.0f} is at {last_ps:g} ps, expected"
            f" {step[-1] * step_ps:g} ps",
            file,
        )
    if (np.diff(step) <= 0).any():
        raise InputError("is of several runs: its steps do not grow", file)
    # LAMMPS begins every session with a row more, between two of these
    if step[-1] - step[0] >= 2 * settings.every and np.diff(step).max() != settings.every:
        raise InputError(
            f"is of another run than run.json: rows are {np.diff(step).max():.0f} steps apart,"
            f" expected {settings.every}",
            file,
        )
    if record.finished and step[-1] < settings.steps - settings.every:
        raise InputError(
            f"ends at step {step[-1]:.0f}, and run.json says that the run came to its end at step"
            f" {settings.steps}: make the run anew with `mld-ff run`",
            file,
        )


def _read_frames(
    directory: Path, engine: Engine, settings: MD
) -> tuple[Floats, Floats, Floats | None]:
    """Positions, cells and velocities that one session wrote."""
    positions, cells = dcd.read(directory / TRAJECTORY)
    if not settings.velocities:
        return positions, cells, None
    velocities = engine.files.read_velocities(directory / engine.files.velocities)
    # one that was interrupted may have written one file further
    n = min(len(positions), len(velocities))
    return positions[:n], cells[:n], velocities[:n]


def _energies_at(steps: Ints, log: dict[str, Floats]) -> Floats | None:
    """Potential energies [eV] at steps (F,); None unless the log has them all."""
    row_of = {int(step): row for row, step in enumerate(log["step"])}
    rows = [row_of[int(step)] for step in steps if int(step) in row_of]
    return log["potential_eV"][rows] if len(rows) == len(steps) else None


def read_log(directory: Path | str) -> dict[str, Floats]:
    """The engine's log, whichever engine it was: `step`, `time_ps`, `temperature_K`,
    `potential_eV`, `total_eV`, and what else it tells of `density_g_per_cm3`, `pressure_bar`,
    `conserved_eV`.

    Raises InputError if there is none.
    """
    out = Path(directory)
    for engine in ENGINES.values():
        if (out / engine.files.log).exists():
            return _read_log(out, engine)
    names = ", ".join(engine.files.log for engine in ENGINES.values())
    raise InputError(f"holds no log of an engine ({names}); make a run with `mld-ff run`", out)


def _read_log(out: Path, engine: Engine) -> dict[str, Floats]:
    files = engine.files
    log = files.read_log(out / files.log)
    later = first_step(out / SESSION, engine)
    if later is None:
        return log
    more, kept = files.read_log(out / SESSION / files.log), log["step"] < later
    return {name: np.concatenate([values[kept], more[name]]) for name, values in log.items()}


@dataclass(frozen=True)
class RunOutcome:
    """What a run came to."""

    engine: str
    """Its name (`ENGINES`)."""
    device: Mapping[str, str]
    """What the engine computed on (`Engine.find`)."""
    directory: Path
    frames: int
    time_ps: float
    """Of the last line of the log."""
    mean_temperature_K: float
    """Of all lines of the log, as the means that follow."""
    mean_potential_eV: float
    mean_density_g_per_cm3: float
    ns_per_day: float | None
    """Speed of the last session."""
    notes: tuple[str, ...]
    """What a user should know."""
    excursions: Mapping[str, float]
    """See `excursions`."""

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "directory": str(self.directory)}


def outcome_of(directory: Path, loss: AgentLoss, frames: FrameSource) -> RunOutcome:
    """Of the run that lies in a directory; loss and frames are its own."""
    log, record = read_log(directory), read_record(directory)
    return RunOutcome(
        engine=record.engine,
        device=record.device,
        directory=directory,
        frames=frames.n_frames,
        time_ps=float(log["time_ps"][-1]),
        mean_temperature_K=float(log["temperature_K"].mean()),
        mean_potential_eV=float(log["potential_eV"].mean()),
        mean_density_g_per_cm3=float(log["density_g_per_cm3"].mean()),
        ns_per_day=record.ns_per_day,
        notes=record.notes,
        excursions=excursions(loss, frames),
    )


def excursions(loss: AgentLoss, source: FrameSource, most: int = 200) -> dict[str, float]:
    """Fraction of the densities of every channel outside the range that the training data sampled.

    Looks at every frame, or at `most` of them spread evenly. Empty for a loss of pairs.
    """
    outside, number = ({t.name: 0 for t in loss.channels} for _ in range(2))
    if not loss.channels:
        return {}
    every, at, topology = math.ceil(source.n_frames / most), 0, None
    by_name = {t.name: t for t in loss.channels}
    for frames in source.chunks():
        topology = topology or topology_of(frames, loss.topology_kind)
        for system in systems(topology, frames[-at % every :: every], loss.cutoff_A):
            for name, rho in loss.densities(system).items():
                outside[name] += int((by_name[name].beyond(rho) > 0).sum())
                number[name] += len(rho)
        at += frames.n_frames
    return {name: outside[name] / n for name, n in number.items() if n}
