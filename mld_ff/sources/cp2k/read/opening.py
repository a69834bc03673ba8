"""Open what CP2K left: a run, or single points."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mld_ff.sources.cp2k.read.discover import RunFiles
from mld_ff.sources.cp2k.read.points import CP2KPoints, find_points
from mld_ff.sources.cp2k.read.reader import CP2KSource
from mld_ff.sources.source import FileSource
from mld_ff.trajectory import Trajectory

StrPath = str | os.PathLike[str]


def open_cp2k(
    path: StrPath | Iterable[StrPath] | None,
    *,
    positions: StrPath | None = None,
    forces: StrPath | None = None,
    velocities: StrPath | None = None,
    energies: StrPath | None = None,
    cells: StrPath | None = None,
    stress: StrPath | None = None,
    input: StrPath | None = None,
    log: StrPath | None = None,
    require_forces: bool | None = True,
    skip_fs: float = 0.0,
) -> FileSource:
    """Open the output of a CP2K run; positions and forces of the same steps are matched. Where a
    directory has no trajectory, the single points (ENERGY_FORCE) in it and in those below it are
    the frames.

    path: a directory, or files, recognised by their names (`PROJ-pos-1.xyz`, `-frc-`, `-vel-`, each
    also .dcd, positions also .pdb; `PROJ-1.ener`, `.cell`, `.stress`, `.restart`; each also .gz,
    .bz2, .xz) or, input and log, by what stands in them; None if the files are named below.
    positions, forces, velocities, energies, cells, stress, input, log: a file by any name, instead
    of the one recognised. Velocities that cover only some of the frames are left out, and notes say
    so; named here, they keep only the frames that have velocities. The same holds of forces if they
    are not required. require_forces: whether a run without forces is an error; None: use forces
    where there is a file of them. skip_fs: frames of this first stretch of time are left out
    (equilibration).

    Raises InputError for whatever cannot be used, with file, line and remedy. Numbers are checked
    while reading.
    """
    given = {
        "positions": positions,
        "forces": forces,
        "velocities": velocities,
        "energies": energies,
        "cells": cells,
        "stress": stress,
        "input": input,
        "log": log,
    }
    named = {role: Path(file) for role, file in given.items() if file is not None}
    place: Path | list[Path] | None
    if path is None or isinstance(path, (str, os.PathLike)):
        place = None if path is None else Path(path)
    else:
        place = [Path(file) for file in path]
    files = RunFiles(place, named)
    if "positions" not in files.one and not named:
        points = find_points(files)
        if points:
            return CP2KPoints(points, files, require_forces, skip_fs)
    return CP2KSource(files, require_forces, frozenset(named), skip_fs)


def read_cp2k(path: StrPath | Iterable[StrPath] | None, **options: Any) -> Trajectory:
    """All frames of a CP2K run in memory; parameters and errors as `open_cp2k`."""
    return open_cp2k(path, **options).read()
