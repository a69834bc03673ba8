"""What a run left in its directory, read back: record, trajectory, log."""

from __future__ import annotations

import json
import math
import warnings
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from MDAnalysis.coordinates.DCD import DCDReader

from mld_ff.engines.lammps.run import thermo
from mld_ff.engines.settings import MD
from mld_ff.errors import InputError
from mld_ff.geometry.topology import find_topology
from mld_ff.loss.model import AgentLoss
from mld_ff.origin import Origin
from mld_ff.production.sessions import (
    FIRST_FRAME,
    LOG,
    SESSION,
    TRAJECTORY,
    VELOCITIES,
    first_step,
    frames_before,
)
from mld_ff.trajectory import Floats, FrameSource, Trajectory
from mld_ff.units import A_PER_FS_TO_A_PER_PS, EV_TO_KJ_PER_MOL

RECORD = "run.json"


def read_record(directory: Path | str) -> dict[str, Any]:
    """What run.json says of a run: engine, settings, where it started. Raises InputError if there
    is none.
    """
    out = Path(directory)
    try:
        record: dict[str, Any] = json.loads((out / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise InputError(
            f"holds no run ({RECORD} is missing or broken); make one with `mld-ff run`", out
        ) from None
    return record


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
    engine, settings = record["engine"], MD(**record["settings"])
    positions, cells, velocities = _read_frames(out, engine, settings)
    if (
        later := first_step(out / SESSION, engine)
    ) is not None:  # the run is going on, or was stopped once more
        n = frames_before(later, engine, settings.every)
        more = _read_frames(out / SESSION, engine, settings)
        positions, cells = (
            np.concatenate([a[:n], b]) for a, b in zip((positions, cells), more[:2], strict=True)
        )
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
        origin=Origin(files=(TRAJECTORY,), engine=engine, finished=record["finished"]),
    )


def _read_dcd(file: Path) -> tuple[Floats, Floats]:
    """What a DCD file holds of every atom, (F, N, 3), and the cells, (F, 3, 3)."""
    try:
        file.stat()  # MDAnalysis complains of its own closing where there is no file
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", DeprecationWarning
            )  # of a change in MDAnalysis 3 that copies do not feel
            reader = DCDReader(str(file))
        with reader:
            frames = [
                (ts.positions.astype(float), ts.triclinic_dimensions.astype(float)) for ts in reader
            ]
    except OSError:
        raise InputError(
            "cannot be read as a DCD file: did the run stop before its first frame?", file
        ) from None
    return np.array([x for x, _ in frames]), np.array([c for _, c in frames])


def _read_velocities(file: Path) -> Floats:
    """Velocities (F, N, 3) as an engine writes them [Å/ps]; a frame that is not complete is left
    out.
    """
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


def _read_frames(
    directory: Path, engine: str, settings: MD
) -> tuple[Floats, Floats, Floats | None]:
    """Positions, cells and velocities that one session wrote."""
    positions, cells = _read_dcd(directory / TRAJECTORY)
    if not settings.velocities:
        return positions, cells, None
    velocities = _read_velocities(directory / VELOCITIES[engine]) / A_PER_FS_TO_A_PER_PS
    n = min(
        len(positions), len(velocities)
    )  # one that was interrupted may have written one file further
    return positions[:n], cells[:n], velocities[:n]


def read_log(directory: Path | str) -> dict[str, Floats]:
    """The engine's log, whichever engine it was: `step`, `time_ps`, `temperature_K`,
    `potential_eV`, `total_eV`,
    `density_g_per_cm3`; of LAMMPS also `pressure_bar`.

    Raises InputError if there is none.
    """
    out = Path(directory)
    engine = "openmm" if (out / LOG["openmm"]).exists() else "lammps"
    columns = _read_columns(out / LOG[engine])
    if (later := first_step(out / SESSION, engine)) is not None:
        more, kept = _read_columns(out / SESSION / LOG[engine]), columns["Step"] < later
        columns = {
            name: np.concatenate([values[kept], more[name]]) for name, values in columns.items()
        }
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
        rows = [
            [float(x) for x in line.split(",")] for line in complete if not line.startswith("#")
        ]
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
