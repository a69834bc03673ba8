"""What a run left in its directory, read back: trajectory and log."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from mld_ff.engines import dcd
from mld_ff.engines.engine import TRAJECTORY, Engine
from mld_ff.engines.registry import ENGINES, engine_named
from mld_ff.engines.settings import MD
from mld_ff.errors import InputError
from mld_ff.geometry.system import systems
from mld_ff.geometry.topology import find_topology
from mld_ff.loss.model import AgentLoss
from mld_ff.origin import Origin
from mld_ff.production.record import read_record
from mld_ff.production.sessions import SESSION, first_step, frames_before
from mld_ff.trajectory import Floats, FrameSource, Ints, Trajectory


def read_run(directory: Path | str) -> Trajectory:
    """The trajectory of a run: positions, cell, time, potential energy where the log has it,
    velocities if asked for.

    Velocities of OpenMM are those half a timestep before the positions, the ones that its
    thermostat holds at the temperature and that its log counts; LAMMPS's, like CP2K's, belong to
    the positions. Either way `temperature()` is that of the log. Raises InputError if the directory
    holds no run, or one without frames.
    """
    out = Path(directory)
    record = read_record(out)
    engine, settings = engine_named(record.engine), record.settings
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
        energy=_energies_at(step, _read_log(out, engine)),
        origin=Origin(files=(TRAJECTORY,), engine=record.engine, finished=record.finished),
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
    `potential_eV`, `total_eV`, and what else it tells of `density_g_per_cm3`, `pressure_bar`.

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
        topology = topology or find_topology(frames.symbols, frames.positions[0], frames.cell[0])
        for system in systems(topology, frames[-at % every :: every], loss.cutoff_A):
            for name, rho in loss.densities(system).items():
                outside[name] += int((by_name[name].beyond(rho) > 0).sum())
                number[name] += len(rho)
        at += frames.n_frames
    return {name: outside[name] / n for name, n in number.items() if n}
