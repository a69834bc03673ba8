"""Production runs: NVT in either engine from a frame, and reading them back as a Trajectory."""

from __future__ import annotations

import json
import math
import re
import sys
import time
import warnings
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from MDAnalysis.coordinates.DCD import DCDReader

from mld_ff.engines.lammps import find_lmp, launch, thermo
from mld_ff.engines.openmm import device_of, relaxed
from mld_ff.engines.process import stream
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
TRAJECTORY = "trajectory.dcd"
CONTACT_EV_PER_A = 10.0
"""Forces beyond this are of contacts; those of liquids at 300 K stay below 7."""
VELOCITIES = {"openmm": "velocities.dcd", "lammps": "velocities.lammpstrj"}
"""[Å/ps], in the form of a DCD file; OpenMM's are those half a timestep before the frame. LAMMPS's own dump."""


@dataclass(frozen=True)
class NVT:
    """Settings of a run in the canonical ensemble (Nosé–Hoover chain)."""

    temperature_K: float = 300.0
    time_ps: float = 20.0
    timestep_fs: float = 0.5
    damping_fs: float = 100.0
    """Time constant of the thermostat: CP2K's TIMECON, LAMMPS's Tdamp, 1 / OpenMM's collisionFrequency."""
    every_fs: float = 10.0
    """Between frames of the trajectory and lines of the log."""
    seed: int = 1
    """Of the velocities, where the starting frame has none."""
    velocities: bool = False
    """Write those of every frame too."""

    def __post_init__(self) -> None:
        names = ("temperature_K", "time_ps", "timestep_fs", "damping_fs", "every_fs")
        check_positive(**{name: getattr(self, name) for name in names})
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


def run(
    loss: AgentLoss,
    frame: Trajectory,
    engine: str,
    directory: Path | str,
    settings: NVT | None = None,
    platform: str | None = None,
    progress: Progress = no_progress,
    minimize: bool | None = None,
    precision: str | None = None,
) -> Trajectory:
    """NVT molecular dynamics from one frame (positions, velocities if it has them); returns the trajectory.

    engine: `openmm` or `lammps`. directory: gets the exported files, trajectory.dcd, the engine's log and checkpoint,
    and run.json. platform: OpenMM's, None for the fastest present. minimize: as in `start_at`. precision: `single`,
    `mixed` or `double`, where the platform has the choice. Raises EngineError if the engine stops or warns, InputError
    if the model does not cover the system or the directory holds another run.
    """
    settings, out = settings or NVT(), Path(directory)
    exports = {"openmm": export_openmm, "lammps": export_lammps}
    if engine not in exports:
        raise InputError(f"the engine is {engine!r}; known: {', '.join(exports)}")
    device: dict[str, str] = {}
    if engine == "openmm":
        device = device_of(platform, precision)  # what is missing is said before anything is written
    else:
        find_lmp()
        if precision:
            raise InputError("the precision is a setting of OpenMM's platforms; LAMMPS computes in double")
    if (out / RECORD).exists():
        raise InputError("a run lies here already: choose another directory or remove this one", out)
    start = start_at(loss, frame, settings.temperature_K, settings.seed, minimize, progress)
    exports[engine](loss, start, out, settings.temperature_K, settings.timestep_fs, settings.damping_fs)
    record: dict[str, Any] = {
        "engine": engine,
        "finished": False,
        "device": device,
        "settings": vars(settings),
        "started_from": {**start.frame.source, "step": int(frame.step[0])},
        "symbols": list(start.topology.symbols),
        "masses_amu": start.frame.masses.tolist(),
        "atom_in_source": start.order.tolist(),
    }
    _write_record(out, record)
    loss.save(out / "model.json")
    progress(engine, 0, settings.steps)
    began = time.perf_counter()
    if engine == "openmm":
        _run_openmm(out, settings, device["platform"], precision, progress)
    else:
        _run_lammps(out, settings, progress)
    _write_record(out, {**record, "finished": True, "wall_s": time.perf_counter() - began})
    return read_run(out)


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


def _run_openmm(out: Path, settings: NVT, platform: str, precision: str | None, progress: Progress) -> None:
    every_ps = settings.every * settings.timestep_fs * FS_TO_PS
    options = {"--platform": platform, "--time": settings.time_ps, "--every": every_ps}
    command = [sys.executable, "run.py", *(str(word) for option in options.items() for word in option)]
    command += ["--velocities"] * settings.velocities + (["--precision", precision] if precision else [])

    def listen(line: str) -> None:
        if found := re.match(r"([\d.]+)%", line):
            progress("openmm", round(float(found[1]) / 100 * settings.steps), settings.steps)

    code, lines = stream(command, out, listen)
    (out / "log.openmm").write_text("".join(lines), encoding="utf-8")
    if code:
        last = next((line.strip() for line in reversed(lines) if line.strip()), f"exit code {code}")
        raise EngineError(f"OpenMM stopped in {out / 'run.py'}: {last}")


def _run_lammps(out: Path, settings: NVT, progress: Progress) -> None:
    def listen(line: str) -> None:
        if found := re.fullmatch(r"\s*(\d+)(\s+[-+.\de]+){6}\s*", line):
            progress("lammps", int(found[1]), settings.steps)

    variables = {"steps": settings.steps, "every": settings.every, "dump": "dcd"}
    variables["velocities"] = "yes" if settings.velocities else "no"
    launch(out, "in.nvt", variables, listen)


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
    settings = NVT(**record["settings"])
    positions, cells = _read_dcd(out / TRAJECTORY)
    velocities = _read_velocities(out / VELOCITIES[record["engine"]]) if settings.velocities else None
    if velocities is not None:  # a run that was interrupted may have written one file further than the other
        n = min(len(positions), len(velocities))
        positions, cells, velocities = positions[:n], cells[:n], velocities[:n] / A_PER_FS_TO_A_PER_PS
    log = read_log(out)
    first = 0 if record["engine"] == "lammps" else 1  # OpenMM's reporters leave out the starting frame
    step = settings.every * (first + np.arange(len(positions)))
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


def read_log(directory: Path | str) -> dict[str, Floats]:
    """The engine's log, whichever engine it was: `step`, `time_ps`, `temperature_K`, `potential_eV`, `total_eV`."""
    out = Path(directory)
    if (out / "log.csv").exists():
        table = np.loadtxt(out / "log.csv", delimiter=",", comments="#", ndmin=2)
        step, time, potential, _, total, temperature = table[:, :6].T
        potential, total = potential / EV_TO_KJ_PER_MOL, total / EV_TO_KJ_PER_MOL
    else:
        text = (out / "log.lammps").read_text(encoding="utf-8", errors="replace")
        names, rows = next(iter(thermo(text)), (None, None))
        if names is None:
            raise InputError("holds no thermodynamic output", out / "log.lammps")
        columns = dict(zip(names, np.array(rows).T, strict=True))
        step, time, temperature = columns["Step"], columns["Time"], columns["Temp"]
        potential, total = columns["PotEng"], columns["TotEng"]
    return {"step": step, "time_ps": time, "temperature_K": temperature, "potential_eV": potential, "total_eV": total}


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
