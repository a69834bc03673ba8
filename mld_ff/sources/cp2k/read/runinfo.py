"""Facts of a run from the files around the trajectory: settings, cells, what the log says."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mld_ff.errors import InputError
from mld_ff.sources.cp2k.read.discover import RunFiles
from mld_ff.sources.cp2k.read.log import Calculation, Log, read_log
from mld_ff.sources.cp2k.read.settings import RunSettings, cell_varies, read_settings
from mld_ff.sources.cp2k.read.tables import read_cells
from mld_ff.trajectory import Floats, Ints

VACUUM_A = 12.4
"""Between images in directions that are not periodic: twice the longest cutoff that a fit chooses,
as engines know periodic cells only."""
VACUUM_OF_SLAB = 1.5
"""... and of a slab in units of its longer cell vector: what its images do to it decays as
exp(-2π vacuum / a), to 1e-4."""


_ALIGNED_A = 1e-3
"""Components of a cell below this are none."""


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


def with_vacuum(cells: Cells, settings: RunSettings, positions: Floats, notes: list[str]) -> Cells:
    """So wide in directions that are not periodic that atoms at these positions (N, 3) [Å] do not
    feel their images."""
    if not settings.vacuum_along:
        return cells
    cell = cells.cell.copy()
    place, length = positions @ np.linalg.inv(cell[0]), np.linalg.norm(cell[0], axis=1)
    periodic = [k for k in range(3) if k not in settings.vacuum_along]
    vacuum = (
        max(VACUUM_A, VACUUM_OF_SLAB * length[periodic].max()) if settings.is_slab else VACUUM_A
    )
    for k in settings.vacuum_along:
        cell[:, k] *= max(np.ptp(place[:, k]) + vacuum / length[k], 1.0)
    felt = "felt" if settings.is_slab else "felt but by charges"
    widths = " × ".join(f"{width:.1f}" for width in np.linalg.norm(cell[0], axis=1))
    notes.append(
        f"The input says PERIODIC {settings.periodic}; engines know periodic cells only: the frames"
        f" are given with one of {widths} Å, where no image is {felt}."
    )
    return replace(cells, cell=cell)


def read_logs(files: RunFiles) -> list[Log]:
    """All logs in the order of their beginning; damaged ones are left out."""
    logs = []
    for file in files.logs:
        with suppress(InputError):  # a damaged log must not keep the frames from us
            logs.append(read_log(file))
    return sorted(logs, key=lambda log: log.started)


def find_settings(files: RunFiles, logs: Sequence[Log], notes: list[str]) -> RunSettings:
    """What input and restart say, the input first.

    Of several inputs those with the PROJECT of the trajectory count, and of those that the logs
    name; afterwards `files.inputs` holds the one used. Raises InputError if several of them say
    different things.
    """
    read = {file: read_settings(file) for file in files.inputs}
    if "input" not in files.named:  # another program's may have the same suffix, and says nothing
        read = {f: s for f, s in read.items() if repr(s) != repr(RunSettings())}
    if files.project and "input" not in files.named:
        matching = {f: s for f, s in read.items() if s.is_of(files.project)}
        exact = {f: s for f, s in matching.items() if s.project is not None}
        others = {f: s.project for f, s in read.items() if f not in matching}
        notes += [
            f"{f.name}: not used, its PROJECT is {p}, not {files.project}."
            for f, p in others.items()
        ]
        read = exact or matching
        given = {log.input_name for log in logs if log.project == files.project}
        read = {f: s for f, s in read.items() if f.name in given} or read
    files.inputs = list(read)[:1]
    settings = [*read.values()]
    if any(repr(other) != repr(settings[0]) for other in settings[1:]):
        raise InputError(
            f"several inputs fit and differ: {', '.join(file.name for file in read)}; name the one"
            " with --file input=FILE",
            files.where,
        )
    merged = settings[0] if settings else RunSettings()
    if "restart" in files.one:
        merged = merged.filled_from(read_settings(files.one["restart"]))
    return merged


def logs_of_run(
    logs: Sequence[Log], files: RunFiles, settings: RunSettings, notes: list[str]
) -> list[Log]:
    """Those of the run that printed the trajectory."""
    names = {files.project, settings.project, *settings.printed_as}
    named = [log for log in logs if None in (log.project, files.project) or log.project in names]
    notes += [
        f"{log.path.name}: not used, its project is {log.project}, not {files.project}."
        for log in logs
        if log not in named
    ]
    kind = settings.run_type or next((log.run_type for log in reversed(named)), None)
    mine = [log for log in named if None in (log.run_type, kind) or log.run_type == kind]
    notes += [
        f"{log.path.name}: not used, it is of RUN_TYPE {log.run_type}, not {kind}."
        for log in named
        if log not in mine
    ]
    return mine


def with_logs(settings: RunSettings, logs: Sequence[Log]) -> RunSettings:
    """The settings, and what logs say where these are silent."""
    for log in logs:
        settings = settings.filled_from(_of_log(log))
    return settings


def _of_log(log: Log) -> RunSettings:
    return RunSettings(
        project=log.project,
        run_type=log.run_type,
        ensemble=log.ensemble,
        timestep=log.timestep,
        temperature=log.temperature,
        cell_varies=cell_varies(log.run_type, log.ensemble) if log.run_type else None,
    )


def calculations_by_step(logs: Sequence[Log]) -> dict[int, Calculation]:
    """Every step that a log tells of; of one that a restart repeated the last counts."""
    return {c.step: c for log in logs for c in log.calculations if c.step is not None}


def resolve_cell(
    files: RunFiles,
    settings: RunSettings,
    printed: tuple[Ints, Floats] | None,
    logs: Sequence[Log],
    notes: list[str],
) -> Cells:
    """The .cell file, or the fixed cell of input or restart, or the cells in the file of positions,
    or what the logs say.

    printed: steps and cells in the file of positions. Raises InputError if there is none, or it
    changes and its changes are not told.
    """
    cells = _found(files, settings, printed, logs, notes)
    positions = files.one.get("positions")
    is_dcd = positions is not None and positions.suffix.lower() == ".dcd"
    if settings.is_aligned and is_dcd and np.abs(np.triu(cells.cell, 1)).max() > _ALIGNED_A:
        raise InputError(
            "FORMAT DCD_ALIGNED_CELL turned the positions until vector a of the cell lies along x,"
            " but not the forces; print &TRAJECTORY with FORMAT DCD or XMOL",
            positions,
        )
    return cells


def _found(
    files: RunFiles,
    settings: RunSettings,
    printed: tuple[Ints, Floats] | None,
    logs: Sequence[Log],
    notes: list[str],
) -> Cells:
    if "cells" in files.one:
        file = files.one["cells"]
        step, cell = read_cells(file)
        if not len(step):
            raise InputError(
                "there is no row in this file; let CP2K run on, or remove it if the cell is fixed",
                file,
            )
        return _cells(step, cell, file.name, settings)
    if settings.cell is not None and not settings.cell_varies:
        return Cells(None, settings.cell[np.newaxis], "")
    if printed is not None:
        return _cells(*printed, files.one["positions"].name, settings)
    if settings.cell_varies:
        return _cells_of_logs(files, settings, logs, notes)
    known = [log for log in logs if log.cell is not None]
    if not known:
        raise _no_cell(files, logs)
    notes.append(f"The cell was taken from {known[-1].path.name}.")
    return Cells(None, np.array([known[-1].cell]), known[-1].path.name)


def _cells(step: Ints, cell: Floats, name: str, settings: RunSettings) -> Cells:
    is_fixed = bool((cell == cell[0]).all()) and not settings.cell_varies
    return Cells(None, cell[:1], name) if is_fixed else Cells(step, cell, name)


def _cells_of_logs(
    files: RunFiles, settings: RunSettings, logs: Sequence[Log], notes: list[str]
) -> Cells:
    cells = _cells_by_step(logs)
    if not cells and settings.cell is not None:
        logs = [read_log(log.path, settings.cell) for log in logs]
        cells = _cells_by_step(logs)
    turned = next((log.path.name for log in logs if log.is_turned), None)
    kind = f"ENSEMBLE {settings.ensemble}" if settings.ensemble else "RUN_TYPE CELL_OPT"
    if turned or not cells:
        in_log = (
            f"; {turned} has its lengths and angles only, which do not tell how it lies after so"
            " large a change"
            if turned
            else ""
        )
        raise InputError(
            f"the cell changes in this run ({kind}), and there is no PROJ-1.cell{in_log}; CP2K"
            " prints it with &MOTION / &PRINT / &CELL, as often as &TRAJECTORY (or name the file"
            " with --file cells=FILE)",
            files.where,
        )
    names = ", ".join(log.path.name for log in logs)
    notes.append(f"The cell of every step was taken from {names}.")
    steps = sorted(cells)
    return Cells(np.array(steps, dtype=np.int64), np.array([cells[s] for s in steps]), names)


def _cells_by_step(logs: Sequence[Log]) -> dict[int, Floats]:
    return {s: c.cell for s, c in calculations_by_step(logs).items() if c.cell is not None}


def _no_cell(files: RunFiles, logs: Sequence[Log]) -> InputError:
    restart = [files.one["restart"]] if "restart" in files.one else []
    looked = [f.name for f in (*files.inputs, *restart, *(log.path for log in logs))]
    return InputError(
        "no cell found: sought PROJ-1.cell, &FORCE_EVAL / &SUBSYS / &CELL in the input and"
        f" PROJ-1.restart, and CELL| in a log (read: {', '.join(looked) or 'none of them is there'}"
        "); put the CP2K input or the log beside the trajectory or name it with --file input=FILE"
        " or --file log=FILE, or let CP2K print &MOTION / &PRINT / &CELL",
        files.where,
    )


def cp2k_version(logs: Sequence[Log]) -> str | None:
    """The program version that the logs agree on."""
    versions = {log.version for log in logs if log.version}
    return versions.pop() if len(versions) == 1 else None
