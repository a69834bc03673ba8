"""Single points (RUN_TYPE ENERGY_FORCE), each in a log of its own, as the frames of one source."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from mld_ff.errors import InputError
from mld_ff.origin import UNCONVERGED, Origin
from mld_ff.sources.cp2k.read.advice import FORCES_SECTION, REMEDIES, UNKNOWN_ENERGIES
from mld_ff.sources.cp2k.read.content import role_by_content
from mld_ff.sources.cp2k.read.coordinates import Coordinates, coordinates_of_input
from mld_ff.sources.cp2k.read.discover import RunFiles, role_of
from mld_ff.sources.cp2k.read.index import in_our_units
from mld_ff.sources.cp2k.read.kinds import resolve_label
from mld_ff.sources.cp2k.read.log import Calculation, Log, read_log
from mld_ff.sources.cp2k.read.logtables import (
    Table,
    force_tables,
    read_coordinates,
    tables_of_files,
)
from mld_ff.sources.cp2k.read.runinfo import Cells, cp2k_version, with_vacuum
from mld_ff.sources.cp2k.read.settings import RunSettings, read_settings
from mld_ff.sources.source import CHUNK, FileSource
from mld_ff.sources.textfiles import sha256
from mld_ff.trajectory import Floats, Trajectory, half_width
from mld_ff.units import HARTREE_TO_EV

_PRINTED_A = 2e-3
"""A cell of the input that agrees with the log so well is the same, with more decimals."""
MOST_WITHOUT = 1000
"""Directories that are looked through for a first single point: `/` or a home have millions."""
_FORCES = FORCES_SECTION.replace("&MOTION", "&FORCE_EVAL").replace("END MOTION", "END FORCE_EVAL")


@dataclass(frozen=True)
class Point:
    """One single point."""

    log: Log
    calculation: Calculation
    cell: Floats
    """[Å], (3, 3)."""
    table: Table | None
    """Of its forces."""
    input: Path | None
    """Of which the atoms are, where the log does not print them."""
    settings: RunSettings
    """What the input says."""

    def coordinates(self) -> Coordinates:
        """Labels (N,) and positions (N, 3) [Å]. Raises InputError where neither log nor input has
        them."""
        if self.calculation.coordinates_line:
            return read_coordinates(self.log.path, self.calculation.coordinates_line)
        found = None if self.input is None else coordinates_of_input(self.input)
        if found is None:
            raise InputError(
                "this log does not print the atoms, and no input beside it has them: keep the input"
                " and the file that it names (or let CP2K print them: PRINT_LEVEL MEDIUM)",
                self.log.path,
            )
        return found


def find_points(files: RunFiles) -> list[Point]:
    """The single points in a directory and in those below it, in the order of their names; none if
    files were named in place of a directory, or the first MOST_WITHOUT directories have none.
    """
    points = list[Point]()
    if files.where is None or not files.where.is_dir():
        return points
    for number, place in enumerate(_places(files.where), 1):
        with suppress(OSError):  # not ours to read, or gone by now
            points += _points_in(place)
        if number >= MOST_WITHOUT and not points:
            break
    return points


def _places(directory: Path) -> Iterator[Path]:
    """It and those below it."""
    yield directory
    below = list[Path]()
    with suppress(OSError):
        below = [p for p in directory.iterdir() if p.is_dir() and not p.is_symlink()]
    for place in sorted(below, key=_natural):
        yield from _places(place)


def _natural(path: Path) -> list[tuple[int, str]]:
    """So that task.10 comes after task.9."""
    parts = re.split(r"(\d+)", str(path))
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


def _points_in(place: Path) -> Iterator[Point]:
    present = sorted((f for f in place.iterdir() if f.is_file() and not role_of(f)), key=_natural)
    roles = {file: role_by_content(file) for file in present}
    logs = list[Log]()
    for file in present:
        if roles[file] == "log":
            with suppress(InputError):  # a damaged log must not keep the others from us
                logs.append(read_log(file))
    tables = tables_of_files([file for file in present if roles[file] == "tables"])
    inputs = [f for f in place.iterdir() if f.is_file() and "input" in (role_of(f), roles.get(f))]
    for log in logs:
        done = [c for c in log.calculations if c.step is None]
        named = [file for file in inputs if file.name == log.input_name] or inputs
        given = named[0] if len(named) == 1 else None
        settings = _settings_of(given)
        cell = settings.cell
        if not done or (cell is None and log.cell is None):
            continue
        # runs that follow each other in one log are told apart if each prints its atoms
        for point in done if all(c.coordinates_line for c in done) else done[-1:]:
            table = None
            if point.forces_line:
                table = Table(log.path, point.forces_line, 0, point.energy)
            elif len(logs) == len(done) == 1 and tables:
                table = tables[-1]
            own = log.cell if point.cell is None else point.cell
            if cell is not None and (own is None or np.allclose(cell, own, atol=_PRINTED_A)):
                own = cell
            assert own is not None
            yield Point(log, point, own, table, given, settings)


def _settings_of(file: Path | None) -> RunSettings:
    if file is not None:
        with suppress(InputError):  # what it says of the run may not be needed
            return read_settings(file)
    return RunSettings()


class CP2KPoints(FileSource):
    """Single points as frames; made by `open_cp2k`.

    Frames are numbered from 0 in the order of their directories' names, and have no times.
    """

    def __init__(
        self,
        points: Sequence[Point],
        files: RunFiles,
        require_forces: bool | None,
        skip_fs: float = 0.0,
    ) -> None:
        self.notes = []
        self._where, self._dropped = files.where, dict[str, int]()
        if skip_fs:
            raise InputError(
                "no stretch of time can be skipped: these are single points", self._where
            )
        if require_forces is None:
            require_forces = any(point.table for point in points)
        self._points = _with_vacuum(self._usable(points, require_forces), self.notes)
        self._has_forces = all(point.table for point in self._points)
        calculations = [point.calculation for point in self._points]
        self._has_stresses = all(c.stress is not None for c in calculations)
        self._has_energies = bool(np.isfinite([c.energy for c in calculations]).all())
        if not self._has_energies:
            self.notes.append(UNKNOWN_ENERGIES)
        first = self._points[0]
        if len({point.settings.is_slab for point in self._points}) > 1:
            raise InputError(
                "of these single points some are periodic along c, and others are slabs (PERIODIC"
                " XY or SURFACE_DIPOLE_CORRECTION), where charges act in another way: put them"
                " into directories of their own",
                self._where,
            )
        labels, _ = first.coordinates()
        self._labels = labels
        self.symbols, self.masses = _atoms(labels, first, self.notes)
        logs = [point.log for point in self._points]
        self.origin = Origin(
            files=tuple(_relative(log.path, self._where) for log in logs),
            sha256=sha256([log.path for log in logs]),
            program="CP2K",
            version=cp2k_version(logs),
            project=logs[0].project,
            frames_dropped=self._dropped,
            is_dynamics=False,
            slab=first.settings.is_slab,
            remedies=replace(
                REMEDIES, one_by_one="single points", forces=f"print\n{_FORCES}\nin the CP2K runs"
            ),
        )

    def _usable(self, points: Sequence[Point], require_forces: bool) -> list[Point]:
        kept = [point for point in points if point.table or not require_forces]
        if not kept:
            raise InputError(
                f"{len(points)} single points are there, but no forces; CP2K prints them if its"
                f" input has\n{_FORCES}",
                self._where,
            )
        self._lose(len(points) - len(kept), "no forces", "whose log has no table of forces")
        sound = [point for point in kept if point.calculation.converged]
        if not sound:
            raise InputError(
                f"by CP2K's log the self-consistent field converged in none of {len(kept)} single"
                " points, so their forces are no forces; raise &SCF MAX_SCF or change its minimizer"
                " and run again",
                self._where,
            )
        self._lose(
            len(kept) - len(sound),
            UNCONVERGED,
            "whose self-consistent field did not converge",
        )
        return sound

    def _lose(self, count: int, reason: str, why: str) -> None:
        if count:
            self._dropped[reason] = count
            self.notes.append(f"{count} of the single points dropped {why}.")

    @property
    def n_frames(self) -> int:
        return len(self._points)

    @cached_property
    def half_width(self) -> float:
        return half_width(np.array([point.cell for point in self._points]))

    def chunks(
        self, size: int = CHUNK, start: int = 0, stop: int | None = None
    ) -> Iterator[Trajectory]:
        """Successive trajectories of at most `size` of the frames from `start` to before `stop`.

        Raises InputError, with file and line, for atoms that are not those of the first.
        """
        if size < 1:
            raise ValueError(f"size must be at least 1, found {size}")
        stop = self.n_frames if stop is None else stop
        for first in range(start, stop, size):
            yield self._trajectory(first, self._points[first : min(first + size, stop)])

    def _trajectory(self, first: int, points: Sequence[Point]) -> Trajectory:
        energies = [point.calculation.energy for point in points]
        stresses = [s for point in points if (s := point.calculation.stress) is not None]
        return Trajectory(
            symbols=self.symbols,
            masses=self.masses,
            positions=np.array([self._positions(point) for point in points]),
            cell=np.array([point.cell for point in points]),
            time=np.zeros(len(points)),
            step=first + np.arange(len(points), dtype=np.int64),
            forces=np.array([_forces(point) for point in points]) if self._has_forces else None,
            energy=np.array(energies) * HARTREE_TO_EV if self._has_energies else None,
            stress=-np.array(stresses) if self._has_stresses else None,
            origin=self.origin,
        )

    def _positions(self, point: Point) -> Floats:
        labels, positions = point.coordinates()
        if labels != self._labels:
            first = _relative(self._points[0].log.path, self._where)
            raise InputError(
                f"expected the {len(self._labels)} atoms of {first} in the same order, found"
                f" {len(labels)} atoms or others; put other systems into another directory",
                point.log.path,
                point.calculation.coordinates_line or None,
            )
        return positions


def _with_vacuum(points: Sequence[Point], notes: list[str]) -> list[Point]:
    """In cells so wide that images are not felt, in directions that are not periodic."""
    wide, told = list[Point](), list[str]()
    for point in points:
        cells = Cells(None, point.cell[None], "")
        if point.settings.vacuum_along:
            _, positions = point.coordinates()
            cells = with_vacuum(cells, point.settings, positions, told)
        wide.append(replace(point, cell=cells.cell[0]))
    notes += told[:1]
    return wide


def _forces(point: Point) -> Floats:
    assert point.table is not None
    index = force_tables([point.table])
    values, line = next(index.frames(np.ones(1, dtype=bool)))
    return in_our_units(values, index.own_factor or 1.0, index.path, line)


def _atoms(labels: list[bytes], point: Point, notes: list[str]) -> tuple[tuple[str, ...], Floats]:
    kinds, log = point.settings.kinds or {}, point.log
    line = point.calculation.coordinates_line
    of = {
        label: resolve_label(label.decode("utf-8", "replace"), kinds, log.path, line, notes)
        for label in dict.fromkeys(labels)
    }
    return tuple(of[label].element for label in labels), np.array(
        [of[label].mass for label in labels]
    )


def _relative(file: Path, where: Path | None) -> str:
    return str(file.relative_to(where)) if where and file.is_relative_to(where) else file.name
