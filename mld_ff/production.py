"""Production runs in either engine from a frame, stopped and resumed, and read back as a Trajectory."""

from __future__ import annotations

import json
import math
import re
import sys
import time
import warnings
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from MDAnalysis.coordinates.DCD import DCDReader

from mld_ff.engines.lammps import find_lmp, launch, thermo
from mld_ff.engines.openmm import device_of, relaxed
from mld_ff.engines.process import stream
from mld_ff.engines.sessions import (
    FIRST_FRAME,
    LOG,
    SESSION,
    TRAJECTORY,
    VELOCITIES,
    first_step,
    frames_before,
    join,
    newest_checkpoint,
)
from mld_ff.engines.watch import Watch
from mld_ff.errors import EngineError, InputError, check_positive
from mld_ff.export.lammps import export_lammps
from mld_ff.export.openmm import export_openmm, openmm_system
from mld_ff.export.start import Start, start_from
from mld_ff.files import write_atomically
from mld_ff.loss import AgentLoss
from mld_ff.survey import Progress, no_progress
from mld_ff.topology import find_topology
from mld_ff.trajectory import Floats, FrameSource, Trajectory
from mld_ff.units import A_PER_FS_TO_A_PER_PS, EV_TO_KJ_PER_MOL, FS_TO_PS

RECORD = "run.json"
MODEL = "model.json"
ENSEMBLES = ("nve", "nvt", "npt")
ON_ESCAPE = ("warn", "stop")
MAY_CHANGE = ("time_ps", "checkpoint_ps", "on_escape")
"""Settings that a run that goes on may have otherwise."""
NPT_NOTE = (
    "the loss was inferred from forces at the density of the data alone, which do not tell the pressure: the density "
    "that this run takes is a prediction without support; compare it with that of the data, or match a pressure "
    "(`mld-ff match --pressure`)"
)
CONTACT_EV_PER_A = 10.0
"""Forces beyond this are of contacts; those of liquids at 300 K stay below 7."""
EXPORTS = {"openmm": export_openmm, "lammps": export_lammps}


@dataclass(frozen=True)
class MD:
    """Settings of a run."""

    temperature_K: float = 300.0
    time_ps: float = 20.0
    timestep_fs: float = 0.5
    damping_fs: float = 100.0
    """Time constant of the Nosé–Hoover chain: CP2K's TIMECON, LAMMPS's Tdamp, 1 / OpenMM's collisionFrequency."""
    every_fs: float = 10.0
    """Between frames of the trajectory and lines of the log."""
    seed: int = 1
    """Of the velocities, where the starting frame has none."""
    velocities: bool = False
    """Write those of every frame too."""
    ensemble: str = "nvt"
    """`nve`, `nvt`, or `npt` (OpenMM: Monte Carlo barostat that moves molecules; LAMMPS: Nosé–Hoover barostat)."""
    pressure_bar: float = 1.0
    """Of npt."""
    checkpoint_ps: float = 10.0
    """Between checkpoints: a run that is killed loses no more."""
    on_escape: str = "warn"
    """What to do if a pair leaves the distances that the data sampled: `warn` at the end, or `stop`."""

    def __post_init__(self) -> None:
        names = ("temperature_K", "time_ps", "timestep_fs", "damping_fs", "every_fs", "checkpoint_ps")
        check_positive(**{name: getattr(self, name) for name in names})
        for name, known in {"ensemble": ENSEMBLES, "on_escape": ON_ESCAPE}.items():
            if getattr(self, name) not in known:
                raise InputError(f"{name} is {getattr(self, name)!r}; known: {', '.join(known)}")
        if not math.isfinite(self.pressure_bar):
            raise InputError(f"pressure_bar is {self.pressure_bar}; it must be a number")
        if self.steps < self.every:
            raise InputError(
                f"a run of {self.time_ps:g} ps ends before its first frame: every_fs is {self.every_fs:g}; "
                "run longer or write frames more often"
            )

    @property
    def steps(self) -> int:
        return max(1, round(self.time_ps / (self.timestep_fs * FS_TO_PS)))

    @property
    def every(self) -> int:
        """Steps between frames."""
        return max(1, round(self.every_fs / self.timestep_fs))

    @property
    def keep(self) -> int:
        """Steps between checkpoints."""
        return max(1, round(self.checkpoint_ps / (self.timestep_fs * FS_TO_PS)))


def find_engine(engine: str, platform: str | None = None, precision: str | None = None) -> dict[str, str]:
    """OpenMM's device, nothing for LAMMPS. Raises InputError or EngineError if a run would find something missing."""
    if engine not in EXPORTS:
        raise InputError(f"the engine is {engine!r}; known: {', '.join(EXPORTS)}")
    if engine == "openmm":
        return device_of(platform, precision)
    if precision:
        raise InputError("the precision is a setting of OpenMM's platforms; LAMMPS computes in double")
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
    """Molecular dynamics from one frame (positions, velocities if it has them); returns the trajectory.

    engine: `openmm` or `lammps`. directory: gets the exported files, trajectory.dcd, the engine's log and checkpoint,
    and run.json, with `notes` on what a user should know. platform: OpenMM's, None for the fastest present. precision:
    `single`, `mixed` or `double`, where the platform has the choice. minimize: as in `start_at`. resume: go on with the
    run that lies in the directory, if one does, from its last checkpoint to `settings.time_ps`. Raises EngineError if
    the engine stops or warns or its disk is full, CheckFailed if a pair leaves the sampled distances and
    `settings.on_escape` says stop, InputError if the model does not cover the system or the directory holds another
    run.
    """
    settings, out = settings or MD(), Path(directory)
    device = find_engine(engine, platform, precision)  # what is missing is said before anything is written
    start = start_from(frame, settings.temperature_K, settings.seed)
    record: dict[str, Any] = {
        "engine": engine,
        "finished": False,
        "device": device,
        "settings": vars(settings),
        "started_from": {**start.frame.source, "step": int(frame.step[0])},
        "symbols": list(start.topology.symbols),
        "masses_amu": start.frame.masses.tolist(),
        "atom_in_source": start.order.tolist(),
        "notes": [_npt_note(loss)] if settings.ensemble == "npt" else [],
    }
    checkpoint = None
    if (out / RECORD).exists():
        if not resume:
            raise InputError(
                "a run lies here already: choose another directory, remove this one, or go on with it (--resume)", out
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
        record["started_from"] = {**start.frame.source, "step": int(frame.step[0])}
        EXPORTS[engine](loss, start, out, settings.temperature_K, settings.timestep_fs, settings.damping_fs)
        loss.save(out / MODEL)
    _write_record(out, record)
    session = out / SESSION if checkpoint else out
    session.mkdir(exist_ok=True)
    stop = settings.on_escape == "stop"
    watch = Watch(
        out, session, engine, loss, start.topology, settings.steps, settings.every, settings.timestep_fs, stop, progress
    )
    progress(engine, 0, settings.steps)
    began = time.perf_counter()
    if engine == "openmm":
        words = ["--platform", device["platform"], *(["--precision", precision] if precision else [])]
        _run_openmm(out, session, checkpoint, settings, words, watch)
    else:
        _run_lammps(out, session, checkpoint, settings, watch)
    notes = [*record["notes"], *watch.finish()]
    join(out, engine, settings.every)
    wall = None if checkpoint else time.perf_counter() - began  # of the whole run
    _write_record(out, {**record, "finished": True, "notes": notes, "wall_s": wall, "ns_per_day": watch.ns_per_day})
    return read_run(out)


def _npt_note(loss: AgentLoss) -> str:
    matched = loss.provenance.get("matched", {})
    if "pressure_bar" not in matched:
        return NPT_NOTE
    return (
        "at the density of the data this model has {pressure_bar:.0f} ± {error_bar:.0f} bar at {temperature_K:g} K "
        "(`mld-ff match`); elsewhere its pressure is a prediction".format(**matched)
    )


def _check_same(out: Path, before: dict[str, Any], now: dict[str, Any], loss: AgentLoss) -> None:
    """Raise InputError unless the run that lies in `out` is the one that is to go on."""
    now = json.loads(json.dumps(now))
    old, new = ({"engine": r["engine"], **r["started_from"], **r["settings"]} for r in (before, now))
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

    minimize: None leaves alone frames with velocities, which come out of dynamics, and those without a force beyond
    CONTACT_EV_PER_A. A frame that was moved says so in its source. Raises what `openmm_system` raises.
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
    command = [sys.executable, "run.py", *device, *(str(word) for option in options.items() for word in option)]
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


def _run_lammps(out: Path, session: Path, checkpoint: Path | None, settings: MD, watch: Watch) -> None:
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


def read_record(directory: Path | str) -> dict[str, Any]:
    """What run.json says of a run: engine, settings, where it started. Raises InputError if there is none."""
    out = Path(directory)
    try:
        record: dict[str, Any] = json.loads((out / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise InputError(f"holds no run ({RECORD} is missing or broken); make one with `mld-ff run`", out) from None
    return record


def read_run(directory: Path | str) -> Trajectory:
    """The trajectory of a run: positions, cell, time, potential energy where the log has it, velocities if asked for.

    Velocities of OpenMM are those half a timestep before the positions, the ones that its thermostat holds at the
    temperature and that its log counts; LAMMPS's, like CP2K's, belong to the positions. Either way `temperature()` is
    that of the log. Raises InputError if the directory holds no run, or one without frames.
    """
    out = Path(directory)
    record = read_record(out)
    engine, settings = record["engine"], MD(**record["settings"])
    positions, cells, velocities = _read_frames(out, engine, settings)
    if (later := first_step(out / SESSION, engine)) is not None:  # the run is going on, or was stopped once more
        n = frames_before(later, engine, settings.every)
        more = _read_frames(out / SESSION, engine, settings)
        positions, cells = (np.concatenate([a[:n], b]) for a, b in zip((positions, cells), more[:2], strict=True))
        velocities = None if velocities is None else np.concatenate([velocities[:n], more[2]])
    log = read_log(out)
    step = settings.every * (FIRST_FRAME[engine] + np.arange(len(positions)))
    place = {int(s): k for k, s in enumerate(log["step"])}
    rows = [place.get(int(s)) for s in step]
    energy = None if None in rows else log["potential_eV"][[r for r in rows if r is not None]]
    return Trajectory(
        symbols=tuple(record["symbols"]),
        masses=np.array(record["masses_amu"]),
        positions=positions,
        cell=cells,
        time=np.asarray(step * settings.timestep_fs, dtype=np.float64),
        step=step,
        velocities=velocities,
        energy=energy,
        source={"files": [TRAJECTORY], "engine": record["engine"], "finished": record["finished"]},
    )


def _read_dcd(file: Path) -> tuple[Floats, Floats]:
    """What a DCD file holds of every atom, (F, N, 3), and the cells, (F, 3, 3)."""
    try:
        file.stat()  # MDAnalysis complains of its own closing where there is no file
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of a change in MDAnalysis 3 that copies do not feel
            reader = DCDReader(str(file))
        with reader:
            frames = [(ts.positions.astype(float), ts.triclinic_dimensions.astype(float)) for ts in reader]
    except OSError:
        raise InputError("cannot be read as a DCD file: did the run stop before its first frame?", file) from None
    return np.array([x for x, _ in frames]), np.array([c for _, c in frames])


def _read_velocities(file: Path) -> Floats:
    """Velocities (F, N, 3) as an engine writes them [Å/ps]; a frame that is not complete is left out."""
    if file.suffix == ".dcd":
        return _read_dcd(file)[0]
    frames: list[Floats] = []
    try:
        with file.open(encoding="ascii") as lines:
            while len(head := list(islice(lines, 9))) == 9:
                rows = list(islice(lines, int(head[3])))
                if len(rows) < int(head[3]) or not rows[-1].endswith("\n"):
                    break
                frames.append(np.fromstring("".join(rows), sep=" ").reshape(-1, 4)[:, 1:])
    except (OSError, ValueError):
        raise InputError("cannot be read as a LAMMPS dump of velocities", file) from None
    return np.array(frames)


def _read_frames(directory: Path, engine: str, settings: MD) -> tuple[Floats, Floats, Floats | None]:
    """Positions, cells and velocities that one session wrote."""
    positions, cells = _read_dcd(directory / TRAJECTORY)
    if not settings.velocities:
        return positions, cells, None
    velocities = _read_velocities(directory / VELOCITIES[engine]) / A_PER_FS_TO_A_PER_PS
    n = min(len(positions), len(velocities))  # one that was interrupted may have written one file further
    return positions[:n], cells[:n], velocities[:n]


def read_log(directory: Path | str) -> dict[str, Floats]:
    """The engine's log, whichever engine it was: `step`, `time_ps`, `temperature_K`, `potential_eV`, `total_eV`,
    `density_g_per_cm3`; of LAMMPS also `pressure_bar`.

    Raises InputError if there is none.
    """
    out = Path(directory)
    engine = "openmm" if (out / LOG["openmm"]).exists() else "lammps"
    columns = _read_columns(out / LOG[engine])
    if (later := first_step(out / SESSION, engine)) is not None:
        more, kept = _read_columns(out / SESSION / LOG[engine]), columns["Step"] < later
        columns = {name: np.concatenate([values[kept], more[name]]) for name, values in columns.items()}
    unit = EV_TO_KJ_PER_MOL if engine == "openmm" else 1.0
    log = {
        "step": columns["Step"],
        "time_ps": columns["Time"],
        "temperature_K": columns["Temp"],
        "potential_eV": columns["PotEng"] / unit,
        "total_eV": columns["TotEng"] / unit,
    }
    told = {"density_g_per_cm3": "Density", "pressure_bar": "Press"}
    return log | {name: columns[column] for name, column in told.items() if column in columns}


CSV_COLUMNS = ("Step", "Time", "PotEng", "KinEng", "TotEng", "Temp", "Density")
"""Of run.py's log, by LAMMPS's names."""


def _read_columns(log: Path) -> dict[str, Floats]:
    try:
        text = log.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", log) from None
    if log.suffix == ".csv":
        complete = text[: text.rfind("\n") + 1].splitlines()
        names = list(CSV_COLUMNS)
        rows = [[float(x) for x in line.split(",")] for line in complete if not line.startswith("#")]
    else:
        tables = list(thermo(text))
        names, rows = (tables[0][0] if tables else []), [row for _, more in tables for row in more]
    if not rows:
        raise InputError("holds no thermodynamic output", log)
    return dict(zip(names, np.array(rows).T, strict=True))


def excursions(loss: AgentLoss, source: FrameSource, most: int = 200) -> dict[str, float]:
    """Fraction of the densities of every channel outside the range that the training data sampled.

    Looks at every frame, or at `most` of them spread evenly. Empty for a loss of pairs.
    """
    outside, number = ({t.name: 0 for t in loss.channels} for _ in range(2))
    if not loss.channels:
        return {}
    every, at, topology = math.ceil(source.n_frames / most), 0, None
    ranges = {t.name: t.range for t in loss.channels}
    for frames in source.chunks():
        topology = topology or find_topology(frames.symbols, frames.positions[0], frames.cell[0])
        for f in range(-at % every, frames.n_frames, every):
            for name, rho in loss.densities(topology, frames.positions[f], frames.cell[f]).items():
                low, high = ranges[name]
                outside[name] += int(((rho < low) | (rho > high)).sum())
                number[name] += len(rho)
        at += frames.n_frames
    return {name: outside[name] / n for name, n in number.items() if n}
