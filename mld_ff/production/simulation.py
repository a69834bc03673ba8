"""Production runs in either engine from a frame, stopped and resumed, and read back as a
Trajectory.
"""

from __future__ import annotations

import json
import re
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from mld_ff.engines.lammps.export import export_lammps
from mld_ff.engines.lammps.run import find_lmp, launch
from mld_ff.engines.openmm.export import export_openmm, openmm_system
from mld_ff.engines.openmm.run import device_of, relaxed
from mld_ff.engines.settings import MD
from mld_ff.engines.start import Start, start_from
from mld_ff.errors import EngineError, InputError
from mld_ff.files import write_atomically
from mld_ff.loss.model import AgentLoss
from mld_ff.production.results import RECORD, read_record, read_run
from mld_ff.production.sessions import (
    SESSION,
    join,
    newest_checkpoint,
)
from mld_ff.production.watch import Watch
from mld_ff.progress import Progress, no_progress
from mld_ff.subprocesses import stream
from mld_ff.trajectory import Trajectory
from mld_ff.units import FS_TO_PS

MODEL = "model.json"
MAY_CHANGE = ("time_ps", "checkpoint_ps", "on_escape")
"""Settings that a run that goes on may have otherwise."""
NPT_NOTE = (
    "the loss was inferred from forces at the density of the data alone, which do not tell the"
    " pressure: the density that this run takes is a prediction without support; compare it with"
    " that of the data, or match a pressure (`mld-ff match --pressure`)"
)
CONTACT_EV_PER_A = 10.0
"""Forces beyond this are of contacts; those of liquids at 300 K stay below 7."""
EXPORTS = {"openmm": export_openmm, "lammps": export_lammps}


def find_engine(
    engine: str, platform: str | None = None, precision: str | None = None
) -> dict[str, str]:
    """OpenMM's device, nothing for LAMMPS. Raises InputError or EngineError if a run would find
    something missing.
    """
    if engine not in EXPORTS:
        raise InputError(f"the engine is {engine!r}; known: {', '.join(EXPORTS)}")
    if engine == "openmm":
        return device_of(platform, precision)
    if precision:
        raise InputError(
            "the precision is a setting of OpenMM's platforms; LAMMPS computes in double"
        )
    find_lmp()
    return {}


def run(
    loss: AgentLoss,
    frame: Trajectory,
    engine: str,
    directory: Path | str,
    settings: MD | None = None,
    platform: str | None = None,
    progress: Progress = no_progress,
    minimize: bool | None = None,
    precision: str | None = None,
    resume: bool = False,
) -> Trajectory:
    """Molecular dynamics from one frame (positions, velocities if it has them); returns the
    trajectory.

    engine: `openmm` or `lammps`. directory: gets the exported files, trajectory.dcd, the engine's
    log and checkpoint, and run.json, with `notes` on what a user should know. platform: OpenMM's,
    None for the fastest present. precision:
    `single`, `mixed` or `double`, where the platform has the choice. minimize: as in `start_at`.
    resume: go on with the run that lies in the directory, if one does, from its last checkpoint to
    `settings.time_ps`. Raises EngineError if the engine stops or warns or its disk is full,
    CheckFailed if a pair leaves the sampled distances and
    `settings.on_escape` says stop, InputError if the model does not cover the system or the
    directory holds another run.
    """
    settings, out = settings or MD(), Path(directory)
    device = find_engine(
        engine, platform, precision
    )  # what is missing is said before anything is written
    start = start_from(frame, settings.temperature_K, settings.seed)
    record: dict[str, Any] = {
        "engine": engine,
        "finished": False,
        "device": device,
        "settings": vars(settings),
        "started_from": {**start.frame.origin.to_dict(), "step": int(frame.step[0])},
        "symbols": list(start.topology.symbols),
        "masses_amu": start.frame.masses.tolist(),
        "atom_in_source": start.order.tolist(),
        "notes": [_npt_note(loss)] if settings.ensemble == "npt" else [],
    }
    checkpoint = None
    if (out / RECORD).exists():
        if not resume:
            raise InputError(
                "a run lies here already: choose another directory, remove this one, or go on with"
                " it (--resume)",
                out,
            )
        before = read_record(out)
        _check_same(out, before, record, loss)
        if before["finished"] and MD(**before["settings"]).steps >= settings.steps:
            return read_run(out)
        join(out, engine, settings.every)
        checkpoint = newest_checkpoint(out, engine)
        record["started_from"] = before["started_from"]
    if checkpoint is None:
        start = start_at(loss, frame, settings.temperature_K, settings.seed, minimize, progress)
        record["started_from"] = {**start.frame.origin.to_dict(), "step": int(frame.step[0])}
        EXPORTS[engine](
            loss, start, out, settings.temperature_K, settings.timestep_fs, settings.damping_fs
        )
        loss.save(out / MODEL)
    _write_record(out, record)
    session = out / SESSION if checkpoint else out
    session.mkdir(exist_ok=True)
    stop = settings.on_escape == "stop"
    watch = Watch(
        out,
        session,
        engine,
        loss,
        start.topology,
        settings.steps,
        settings.every,
        settings.timestep_fs,
        stop,
        progress,
    )
    progress(engine, 0, settings.steps)
    began = time.perf_counter()
    if engine == "openmm":
        words = [
            "--platform",
            device["platform"],
            *(["--precision", precision] if precision else []),
        ]
        _run_openmm(out, session, checkpoint, settings, words, watch)
    else:
        _run_lammps(out, session, checkpoint, settings, watch)
    notes = [*record["notes"], *watch.finish()]
    join(out, engine, settings.every)
    wall = None if checkpoint else time.perf_counter() - began  # of the whole run
    _write_record(
        out,
        {
            **record,
            "finished": True,
            "notes": notes,
            "wall_s": wall,
            "ns_per_day": watch.ns_per_day,
        },
    )
    return read_run(out)


def _npt_note(loss: AgentLoss) -> str:
    matched = loss.provenance.get("matched", {})
    if "pressure_bar" not in matched:
        return NPT_NOTE
    return (
        "at the density of the data this model has {pressure_bar:.0f} ± {error_bar:.0f} bar at"
        " {temperature_K:g} K (`mld-ff match`); elsewhere its pressure is a prediction".format(
            **matched
        )
    )


def _check_same(out: Path, before: dict[str, Any], now: dict[str, Any], loss: AgentLoss) -> None:
    """Raise InputError unless the run that lies in `out` is the one that is to go on."""
    now = json.loads(json.dumps(now))
    old, new = (
        {"engine": r["engine"], **r["started_from"], **r["settings"]} for r in (before, now)
    )
    if key := next((k for k in new if k not in MAY_CHANGE and old.get(k) != new[k]), None):
        raise InputError(
            f"another run lies here: its {key} is {old.get(key)!r}, now it is {new[key]!r}; only "
            f"{', '.join(MAY_CHANGE)} may change when a run goes on",
            out,
        )
    if (out / MODEL).read_text(encoding="utf-8") != loss.dumps():
        raise InputError("the run that lies here was made with another model", out / MODEL)


def start_at(
    loss: AgentLoss,
    frame: Trajectory,
    temperature_K: float = 300.0,
    seed: int = 1,
    minimize: bool | None = None,
    progress: Progress = no_progress,
) -> Start:
    """What `start_from` makes of a frame, moved downhill first where it holds contacts.

    minimize: None leaves alone frames with velocities, which come out of dynamics, and those
    without a force beyond CONTACT_EV_PER_A. A frame that was moved says so in its source. Raises
    what `openmm_system` raises.
    """
    start = start_from(frame, temperature_K, seed)
    if minimize is False or (minimize is None and frame.velocities is not None):
        return start
    moved = relaxed(openmm_system(loss, start), start.frame, 0.0 if minimize else CONTACT_EV_PER_A)
    if moved is None:
        return start
    progress("minimize", 1, 1)
    return replace(start, frame=moved)


def _write_record(out: Path, record: dict[str, Any]) -> None:
    write_atomically(out / RECORD, json.dumps(record, indent=1) + "\n")


def _run_openmm(
    out: Path, session: Path, checkpoint: Path | None, settings: MD, device: list[str], watch: Watch
) -> None:
    def ps(steps: int) -> float:
        return steps * settings.timestep_fs * FS_TO_PS

    options: dict[str, Any] = {
        "--ensemble": settings.ensemble,
        "--pressure": settings.pressure_bar,
        "--time": settings.time_ps,
        "--every": ps(settings.every),
        "--keep": ps(settings.keep),
        "--output": session.relative_to(out),
    }
    if checkpoint:
        options["--resume"] = checkpoint.name
    command = [
        sys.executable,
        "run.py",
        *device,
        *(str(word) for option in options.items() for word in option),
    ]
    command += ["--velocities"] * settings.velocities

    def listen(line: str) -> None:
        if found := re.match(r"([\d.]+)%", line):
            watch(round(float(found[1]) / 100 * settings.steps))

    code, lines = stream(command, out, listen)
    with suppress(OSError), (out / "log.openmm").open("a", encoding="utf-8") as words:
        words.writelines(lines)
    if code:
        watch.check_place()
        last = next((line.strip() for line in reversed(lines) if line.strip()), f"exit code {code}")
        raise EngineError(f"OpenMM stopped in {out / 'run.py'}: {last}")


def _run_lammps(
    out: Path, session: Path, checkpoint: Path | None, settings: MD, watch: Watch
) -> None:
    def listen(line: str) -> None:
        if found := re.fullmatch(r"\s*(\d+)(\s+[-+.\de]+){7}\s*", line):
            watch(int(found[1]))

    to = session.relative_to(out).as_posix() + "/"
    variables: dict[str, Any] = {
        "ensemble": settings.ensemble,
        "P": settings.pressure_bar,
        "steps": settings.steps,
        "every": settings.every,
        "keep": settings.keep,
        "dump": "dcd",
        "velocities": "yes" if settings.velocities else "no",
        "start": f"read_restart {checkpoint.name}" if checkpoint else "read_data system.data",
        "to": to,
    }
    launch(out, "in.nvt", variables, listen, to + "log.lammps")
