"""Facts of a run from the files around the trajectory: settings, cells, program version."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mld_ff.errors import InputError
from mld_ff.sources.cp2k.read.discover import RunFiles
from mld_ff.sources.cp2k.read.settings import RunSettings, read_settings
from mld_ff.sources.cp2k.read.tables import read_cells
from mld_ff.sources.textfiles import open_binary
from mld_ff.trajectory import Floats, Ints

_VERSION = re.compile(rb"CP2K version ([\w.]+)")
_HEAD_LINES = 200


@dataclass(frozen=True)
class Cells:
    """The cell at every step: one for all (`step` is None), or K known steps, increasing."""

    step: Ints | None
    cell: Floats
    """[Å], (1, 3, 3) or (K, 3, 3)."""
    file_name: str

    def known(self, steps: Ints) -> NDArray[np.bool_]:
        """Whether the cell is known at these steps, (F,)."""
        return np.ones(len(steps), dtype=bool) if self.step is None else np.isin(steps, self.step)

    def at(self, steps: Ints) -> Floats:
        """Cells [Å] at steps that are known, (F, 3, 3)."""
        if self.step is None:
            return np.repeat(self.cell, len(steps), axis=0)
        return self.cell[np.searchsorted(self.step, steps)]


def find_settings(files: RunFiles, notes: list[str]) -> RunSettings:
    """What input and restart say, the input first.

    Of several inputs those with the PROJECT of the trajectory count; afterwards `files.inputs`
    holds the one used. Raises InputError if several of them say different things.
    """
    read = {file: read_settings(file) for file in files.inputs}
    if files.project and "input" not in files.named:
        matching = {
            f: s for f, s in read.items() if s.project is None or s.project == files.project
        }
        exact = {f: s for f, s in matching.items() if s.project is not None}
        others = {f: s.project for f, s in read.items() if f not in matching}
        notes += [
            f"{f.name}: not used, its PROJECT is {p}, not {files.project}."
            for f, p in others.items()
        ]
        read = exact or matching
    files.inputs = list(read)[:1]
    settings = [*read.values()]
    if any(repr(other) != repr(settings[0]) for other in settings[1:]):
        raise InputError(
            f"several inputs fit and differ: {', '.join(file.name for file in read)}; name the one"
            " with input=FILE",
            files.where,
        )
    restart = read_settings(files.one["restart"]) if "restart" in files.one else RunSettings()
    merged = settings[0].filled_from(restart) if settings else restart
    if merged.periodic not in (None, "XYZ"):
        notes.append(
            f"The input says PERIODIC {merged.periodic}; the frames are given with their cell all"
            " the same."
        )
    return merged


def resolve_cell(files: RunFiles, settings: RunSettings) -> Cells:
    """The .cell file, or the fixed cell of input or restart. Raises InputError if there is none, or
    it changes.
    """
    if "cells" in files.one:
        file = files.one["cells"]
        step, cell = read_cells(file)
        if not len(step):
            raise InputError(
                "there is no row in this file; let CP2K run on, or remove it if the cell is fixed",
                file,
            )
        is_fixed = bool((cell == cell[0]).all()) and not settings.cell_varies
        return Cells(None, cell[:1], file.name) if is_fixed else Cells(step, cell, file.name)
    if settings.cell_varies:
        raise InputError(
            f"the cell changes in this run ({_kind_of_run(settings)}), and there is no PROJ-1.cell;"
            " CP2K prints it with &MOTION / &PRINT / &CELL, as often as &TRAJECTORY (or name the"
            " file with cells=FILE)",
            files.where,
        )
    if settings.cell is None:
        looked = [
            file.name
            for file in (*files.inputs, *([files.one["restart"]] if "restart" in files.one else []))
        ]
        raise InputError(
            "no cell found: sought PROJ-1.cell, and &FORCE_EVAL / &SUBSYS / &CELL in *.inp and"
            f" PROJ-1.restart (read: {', '.join(looked) or 'none of them is there'}); put the CP2K"
            " input beside the trajectory or name it with input=FILE, or let CP2K print &MOTION /"
            " &PRINT / &CELL",
            files.where,
        )
    return Cells(None, settings.cell[np.newaxis], "")


def _kind_of_run(settings: RunSettings) -> str:
    return f"ENSEMBLE {settings.ensemble}" if settings.ensemble else "RUN_TYPE CELL_OPT"


def cp2k_version(logs: list[Path]) -> str | None:
    """The program version that the heads of the log files agree on."""
    versions = set()
    for log in logs:
        with (
            suppress(InputError),
            open_binary(log) as stream,
        ):  # a damaged log must not keep the frames from us
            match = _VERSION.search(b"".join(islice(stream, _HEAD_LINES)))
            versions |= {match[1].decode()} if match else set()
    return versions.pop() if len(versions) == 1 else None
