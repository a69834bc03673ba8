"""A session of molecular dynamics by the exported run.py, in a process of its own, and its log."""

from __future__ import annotations

import os
import re
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np

from mld_ff.engines.engine import Session
from mld_ff.engines.openmm.neighbours import MODULES
from mld_ff.engines.openmm.platforms import platform_named
from mld_ff.errors import EngineError, InputError
from mld_ff.files import template_path
from mld_ff.subprocesses import stream
from mld_ff.trajectory import Floats
from mld_ff.units import EV_TO_KJ_PER_MOL, FS_TO_PS

WORDS = "log.openmm"
"""What run.py printed."""
COLUMNS = (
    "step",
    "time_ps",
    "potential_kJ_per_mol",
    "kinetic_kJ_per_mol",
    "total_kJ_per_mol",
    "temperature_K",
    "density_g_per_cm3",
    "conserved_kJ_per_mol",
)
"""Of the log that run.py writes; the last is not in those of 0.1.0."""
LEAST_COLUMNS = len(COLUMNS) - 1


def run_session(session: Session) -> None:
    """Run `run.py`. Raises EngineError with its last line if it stops."""
    settings = session.settings

    def listen(line: str) -> None:
        if progress := re.match(r"([\d.]+)%", line):
            session.at_step(round(float(progress[1]) / 100 * settings.steps))

    code, lines = stream(_command(session), session.files, listen, environment=_own_modules())
    with suppress(OSError), (session.files / WORDS).open("a", encoding="utf-8") as words:
        words.writelines(lines)
    if code:
        last = next((line.strip() for line in reversed(lines) if line.strip()), f"exit code {code}")
        raise EngineError(f"OpenMM stopped in {session.files / 'run.py'}: {last}")


def _own_modules() -> dict[str, str]:
    """With `python -P`, which leaves out the directory of run.py, its modules of sums come
    from our templates: numba compiles them once, and not, for 4 s, in the directory of every run.
    """
    places = [str(template_path(MODULES[0]).parent), os.environ.get("PYTHONPATH", "")]
    return {"PYTHONPATH": os.pathsep.join(filter(None, places))}


def _command(session: Session) -> list[str]:
    settings, device = session.settings, session.device

    def ps(steps: int) -> float:
        return steps * settings.timestep_fs * FS_TO_PS

    options: dict[str, object] = {"--platform": platform_named(device.platform).getName()}
    if device.precision:
        options["--precision"] = device.precision
    if device.many_body:
        options["--many-body"] = device.many_body
    options |= {
        "--ensemble": settings.ensemble,
        "--pressure": settings.pressure_bar,
        "--time": settings.time_ps,
        "--every": ps(settings.every),
        "--keep": ps(settings.keep),
        "--output": session.output.relative_to(session.files),
    }
    if session.checkpoint:
        options["--resume"] = session.checkpoint.name
    words = [str(word) for option in options.items() for word in option]
    return [sys.executable, "-P", "run.py", *words, *(["--velocities"] * settings.velocities)]


def read_log(log: Path) -> dict[str, Floats]:
    """Columns of run.py's log (`RunFiles.read_log`); a line that is not complete is left out."""
    try:
        text = log.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", log) from None
    complete = text[: text.rfind("\n") + 1].splitlines()
    try:
        rows = [
            [float(x) for x in line.split(",")] for line in complete if not line.startswith("#")
        ]
        # a run that an earlier version began has fewer columns there
        fewest = min(map(len, rows), default=0)
        columns = dict(zip(COLUMNS, np.array([row[:fewest] for row in rows]).T, strict=False))
    except ValueError as error:
        raise InputError(f"is damaged: {error}", log) from None
    if len(columns) < LEAST_COLUMNS:
        raise InputError("holds no thermodynamic output", log)
    conserved = columns.get("conserved_kJ_per_mol")
    more = {} if conserved is None else {"conserved_eV": conserved / EV_TO_KJ_PER_MOL}
    return {
        "step": columns["step"],
        "time_ps": columns["time_ps"],
        "temperature_K": columns["temperature_K"],
        "potential_eV": columns["potential_kJ_per_mol"] / EV_TO_KJ_PER_MOL,
        "total_eV": columns["total_kJ_per_mol"] / EV_TO_KJ_PER_MOL,
        "density_g_per_cm3": columns["density_g_per_cm3"],
        **more,
    }
