"""CP2K output as a stream of frames: join the files of a run on the step number, check and convert
every frame.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mld_ff.errors import InputError, check_not_negative
from mld_ff.origin import Origin
from mld_ff.sources.cp2k.read.advice import FORCES_SECTION, REMEDIES
from mld_ff.sources.cp2k.read.discover import RunFiles
from mld_ff.sources.cp2k.read.index import FrameIndex
from mld_ff.sources.cp2k.read.join import Join, join_frames
from mld_ff.sources.cp2k.read.kinds import resolve_atoms
from mld_ff.sources.cp2k.read.opening import open_indices
from mld_ff.sources.cp2k.read.runinfo import (
    calculations_by_step,
    cp2k_version,
    find_settings,
    logs_of_run,
    read_logs,
    resolve_cell,
    with_logs,
)
from mld_ff.sources.cp2k.read.settings import RunSettings
from mld_ff.sources.cp2k.read.tables import read_energies, read_seconds, read_temperatures
from mld_ff.sources.source import CHUNK, FileSource
from mld_ff.sources.textfiles import sha256
from mld_ff.trajectory import Floats, Ints, Trajectory, half_width
from mld_ff.units import HARTREE_TO_EV

StrPath = str | os.PathLike[str]

_CP2K_TIMESTEP = 0.5


class CP2KSource(FileSource):
    """The frames of a CP2K run, streamed; made by `open_cp2k`.

    Memory is that of one chunk, besides some tens of bytes for every frame (its step, time, energy,
    cell).
    """

    def __init__(
        self,
        files: RunFiles,
        require_forces: bool | None,
        explicit: frozenset[str],
        skip_fs: float = 0.0,
    ) -> None:
        self.notes = []
        self._files = files
        settings = find_settings(files, self.notes)
        self._logs = logs_of_run(read_logs(files), files, settings, self.notes)
        self._settings = with_logs(settings, self._logs)
        self._indices: dict[str, FrameIndex] = open_indices(files, self._logs, self.notes)
        if require_forces is None:
            require_forces = "forces" in self._indices
        if require_forces and "forces" not in self._indices:
            raise InputError(
                f"positions are there, but no forces ({files.project or 'PROJ'}-frc-1.xyz); CP2K"
                f" prints them if its input has\n{FORCES_SECTION}\n(or name the file with"
                " --file forces=FILE)",
                files.where,
            )
        self.symbols, self.masses = resolve_atoms(
            self._indices, self._settings.kinds or {}, self.notes
        )
        self._calculations = calculations_by_step(self._logs)
        positions = self._indices["positions"]
        printed = None if positions.cell is None else (positions.step, positions.cell)
        cells = resolve_cell(files, self._settings, printed, self._logs, self.notes)
        must_join = (
            {"positions"}
            | (explicit & self._indices.keys())
            | ({"forces"} if require_forces else set())
        )
        unconverged = {s for s, c in self._calculations.items() if not c.converged}
        self._join: Join = join_frames(self._indices, must_join, cells, unconverged, self.notes)
        self._cells = cells
        self._time, self._energy = self._times_and_energies()
        if skip_fs:
            self._skip(skip_fs)
        self.origin = self._describe()

    @property
    def n_frames(self) -> int:
        return len(self._join.step)

    @cached_property
    def seconds_per_step(self) -> float | None:
        """Median wall time of an MD step by CP2K's own timing in the .ener file; None without
        one.
        """
        if "energies" not in self._files.one:
            return None
        seconds = read_seconds(self._files.one["energies"])
        return float(np.median(seconds[seconds > 0])) if (seconds > 0).any() else None

    @cached_property
    def logged_temperature(self) -> Floats | None:
        """Kinetic temperature [K] of every frame (F,) by the .ener file; None where it does not
        hold all of them.
        """
        if "energies" not in self._files.one:
            return None
        steps, values = read_temperatures(self._files.one["energies"])
        of_frames = _filled(np.full(self.n_frames, np.nan), self._join.step, steps, values)
        return of_frames if np.isfinite(of_frames).all() else None

    @cached_property
    def half_width(self) -> float:
        """Half the smallest width of the cell in any frame [Å]: the longest cutoff allowed."""
        return half_width(self._cells.at(self._join.step))

    def chunks(
        self, size: int = CHUNK, start: int = 0, stop: int | None = None
    ) -> Iterator[Trajectory]:
        """Successive trajectories of at most `size` of the frames from `start` to before `stop`,
        each read and checked as it is asked for; those before are passed over, which takes a tenth
        of the time.

        Raises InputError, with file and line, for numbers that are not finite, atoms in another
        order, and frames whose forces are all zero.
        """
        if size < 1:
            raise ValueError(f"size must be at least 1, found {size}")
        stop = self.n_frames if stop is None else stop
        streams = {
            role: self._frames(role, wanted, start, stop)
            for role, wanted in self._join.wanted.items()
        }
        for first in range(start, stop, size):
            some = slice(first, min(first + size, stop))
            arrays = {
                role: np.array(list(islice(stream, some.stop - first)))
                for role, stream in streams.items()
            }
            yield self._trajectory(some, arrays)

    def _trajectory(self, frames: slice, arrays: dict[str, Floats]) -> Trajectory:
        step = self._join.step[frames]
        return Trajectory(
            symbols=self.symbols,
            masses=self.masses,
            positions=arrays["positions"],
            cell=self._cells.at(step),
            time=self._time[frames],
            step=step,
            forces=arrays.get("forces"),
            velocities=arrays.get("velocities"),
            energy=None if self._energy is None else self._energy[frames],
            origin=self.origin,
        )

    def _frames(
        self, role: str, wanted: NDArray[np.bool_], start: int, stop: int
    ) -> Iterator[Floats]:
        """One property of the joined frames from `start` to before `stop`, each (N, 3), in eV, Å,
        fs.
        """
        index = self._indices[role]
        factor = index.own_factor or self._settings.factor(role)
        here = np.zeros_like(wanted)
        here[np.flatnonzero(wanted)[start:stop]] = True
        for (values, line), step in zip(
            index.frames(here), self._join.step[start:stop], strict=True
        ):
            if role == "forces" and not values.any():
                raise InputError(
                    f"step {step}: all forces are zero, so CP2K did not compute them; with ENSEMBLE"
                    " REFTRAJ the section &MOTION / &MD / &REFTRAJ needs both EVAL_ENERGY_FORCES"
                    " .TRUE. and EVAL_FORCES .TRUE.",
                    index.path,
                    line or None,
                )
            yield values * factor

    def _times_and_energies(self) -> tuple[Floats, Floats | None]:
        """Times [fs] and potential energies [eV]: comment lines first, then .ener, then step times
        TIMESTEP.
        """
        index, wanted = self._indices["positions"], self._join.wanted["positions"]
        time, energy = index.time[wanted], index.energy[wanted] * HARTREE_TO_EV
        if "energies" in self._files.one and not (
            np.isfinite(time).all() and np.isfinite(energy).all()
        ):
            table_step, table_time, table_energy = read_energies(self._files.one["energies"])
            time = _filled(time, self._join.step, table_step, table_time)
            energy = _filled(energy, self._join.step, table_step, table_energy)
        if not np.isfinite(time).all():
            timestep = self._settings.timestep
            if timestep is None:
                self.notes.append(
                    "No file says the time of every frame; CP2K's default TIMESTEP of 0.5 fs is"
                    " assumed."
                )
            time = np.asarray(self._join.step * (timestep or _CP2K_TIMESTEP), dtype=np.float64)
        if not np.isfinite(energy).all():
            self.notes.append("The potential energy is not known for every frame and was left out.")
            return time, None
        return time, energy

    def _skip(self, skip_fs: float) -> None:
        """Leave out the frames of the first `skip_fs`."""
        check_not_negative(skip_fs=skip_fs)
        keep = self._time >= self._time[0] + skip_fs
        if not keep.any():
            raise InputError(
                f"nothing is left: {skip_fs:g} fs are to be skipped, the frames span "
                f"{self._time[-1] - self._time[0]:g} fs",
                self._files.where,
            )
        wanted = {role: mask.copy() for role, mask in self._join.wanted.items()}
        for mask in wanted.values():
            mask[np.flatnonzero(mask)[~keep]] = False
        dropped = {**self._join.dropped, "skipped as equilibration": int((~keep).sum())}
        self._join = Join(self._join.step[keep], wanted, dropped)
        self._time = self._time[keep]
        self._energy = None if self._energy is None else self._energy[keep]

    def _describe(self) -> Origin:
        used = [*self._files.one.values(), *self._files.inputs]
        settings: RunSettings = self._settings
        return Origin(
            files=tuple(_relative(file, self._files.where) for file in used),
            sha256=sha256(used),
            program="CP2K",
            version=cp2k_version(self._logs),
            project=settings.project or self._files.project,
            ensemble=settings.ensemble,
            timestep_fs=settings.timestep,
            temperature_K=settings.temperature,
            frames_dropped=self._join.dropped,
            is_dynamics=settings.ensemble != "REFTRAJ",
            remedies=REMEDIES,
        )


def open_cp2k(
    path: StrPath | Iterable[StrPath] | None,
    *,
    positions: StrPath | None = None,
    forces: StrPath | None = None,
    velocities: StrPath | None = None,
    energies: StrPath | None = None,
    cells: StrPath | None = None,
    input: StrPath | None = None,
    log: StrPath | None = None,
    require_forces: bool | None = True,
    skip_fs: float = 0.0,
) -> CP2KSource:
    """Open the output of a CP2K run; positions and forces of the same steps are matched.

    Parameters
    ----------
    path: a directory, or files, recognised by their names (`PROJ-pos-1.xyz`, `-frc-`, `-vel-`, each
        also .dcd, positions also .pdb; `PROJ-1.ener`, `PROJ-1.cell`, `PROJ-1.restart`; each also
        .gz, .bz2, .xz) or, input and log, by what stands in them; None if the files are named
        below.
    positions, forces, velocities, energies, cells, input, log: a file by any name, instead of the
        one recognised. Velocities that cover only some of the frames are left out, and notes say
        so; named here, they keep only the frames that have velocities. The same holds of forces if
        they are not required.
    require_forces: whether a run without forces is an error; None: use forces where there is a file
        of them.
    skip_fs: frames of this first stretch of time are left out (equilibration).

    Raises InputError for whatever cannot be used, with file, line and remedy. Numbers are checked
    while reading.
    """
    given = {
        "positions": positions,
        "forces": forces,
        "velocities": velocities,
        "energies": energies,
        "cells": cells,
        "input": input,
        "log": log,
    }
    named = {role: Path(file) for role, file in given.items() if file is not None}
    place: Path | list[Path] | None
    if path is None or isinstance(path, (str, os.PathLike)):
        place = None if path is None else Path(path)
    else:
        place = [Path(file) for file in path]
    return CP2KSource(RunFiles(place, named), require_forces, frozenset(named), skip_fs)


def read_cp2k(path: StrPath | Iterable[StrPath] | None, **options: Any) -> Trajectory:
    """All frames of a CP2K run in memory; parameters and errors as `open_cp2k`."""
    return open_cp2k(path, **options).read()


def _filled(values: Floats, steps: Ints, table_step: Ints, table_values: Floats) -> Floats:
    """`values` with the NaN among them replaced by those of a table that has the step."""
    if not len(table_step):
        return values
    place = np.minimum(np.searchsorted(table_step, steps), len(table_step) - 1)
    usable = np.isnan(values) & (table_step[place] == steps)
    return np.where(usable, table_values[place], values)


def _relative(file: Path, where: Path | None) -> str:
    return str(file.relative_to(where)) if where and file.is_relative_to(where) else file.name
