"""Tables of a log: forces of every calculation, and the coordinates that a run starts from."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mld_ff.errors import InputError
from mld_ff.sources.cp2k.read.index import FrameIndex
from mld_ff.sources.cp2k.read.log import Log
from mld_ff.sources.cp2k.read.units import FORCE, LENGTH, unit_factor
from mld_ff.sources.textfiles import open_binary
from mld_ff.trajectory import Floats

_HEAD = re.compile(rb".*(?:ATOMIC FORCES in|Atomic forces) \[([^\]]+)\]")
_ROW = re.compile(rb"\s*(?:FORCES\|)?\s+\d+\s")
_STEP_OF_FILE = re.compile(r".+-\d+_(\d{1,18})\.xyz(?:\.gz|\.bz2|\.xz)?")
_END = re.compile(rb"\s*(?:FORCES\|)?\s*SUM\b", re.IGNORECASE)
_BLANK_LINES = 4
"""At most, before the first row of a table."""


@dataclass(frozen=True, slots=True)
class Table:
    """Where a table of forces begins."""

    path: Path
    line: int
    step: int
    energy: float
    """[hartree]; NaN if not known."""


@dataclass(frozen=True, kw_only=True)
class ForceTables(FrameIndex):
    """Forces of the tables in logs, or in files that `FORCE_EVAL / PRINT / FORCES` named."""

    tables: tuple[Table, ...]

    def frames(self, wanted: NDArray[np.bool_]) -> Iterator[tuple[Floats, int]]:
        chosen = [self.tables[k] for k in np.flatnonzero(wanted)]
        for path, tables in groupby(chosen, key=lambda table: table.path):
            lines = {table.line for table in tables}
            for rows, line in _tables_at(path, lines):
                forces = np.array([row[1] for row in rows])
                if len(forces) != self.n_atoms or not np.isfinite(forces).all():
                    raise InputError(
                        f"expected the forces on {self.n_atoms} atoms, found {len(forces)} rows of"
                        " numbers",
                        path,
                        line,
                    )
                yield forces, line


def tables_of_logs(logs: Sequence[Log]) -> list[Table]:
    """Those of dynamics and optimizations; of a step that a restart repeated the last."""
    found = {
        c.step: Table(log.path, c.forces_line, c.step, c.energy)
        for log in logs
        for c in log.calculations
        if c.forces_line and c.step is not None
    }
    return [found[step] for step in sorted(found)]


def tables_of_files(files: Sequence[Path]) -> list[Table]:
    """Of files such as `PROJ-forces-1_20.xyz`, whose last number is the step; one by another name
    is of step 0."""
    found = {}
    for file in files:
        match = _STEP_OF_FILE.fullmatch(file.name)
        step = int(match[1]) if match else 0
        found[step] = Table(file, _first_head(file), step, np.nan)
    return [found[step] for step in sorted(found)]


def force_tables(tables: Sequence[Table]) -> ForceTables:
    """The index of tables, of which there is one at least. Raises InputError for a unit that is not
    one of forces.
    """
    first = tables[0]
    rows, _ = next(_tables_at(first.path, {first.line}))
    return ForceTables(
        tables=tuple(tables),
        path=first.path,
        n_atoms=len(rows),
        labels=[label for label, _ in rows] if all(label for label, _ in rows) else [],
        first_row=first.line + 1,
        step=np.array([table.step for table in tables], dtype=np.int64),
        time=np.full(len(tables), np.nan),
        energy=np.array([table.energy for table in tables]),
        own_factor=_unit(first.path, first.line),
    )


Row = tuple[bytes, list[float]]
"""Element, or nothing where the table has none, and three numbers."""


def _tables_at(path: Path, lines: set[int]) -> Iterator[tuple[list[Row], int]]:
    """The rows of the tables that begin at these lines."""
    with open_binary(path) as stream:
        rows, begun = list[Row](), 0
        for number, line in enumerate(stream, 1):
            if number in lines:
                rows, begun = [], number
            elif begun and _ROW.match(line):
                rows.append(_row(line))
            elif begun and (rows or number > begun + _BLANK_LINES or _END.match(line)):
                yield rows, begun
                begun = 0
        if begun:
            yield rows, begun


def _row(line: bytes) -> Row:
    """`1 1 Co x y z`, or `FORCES| 1 x y z |f|` since CP2K 2024.2."""
    tokens = line.split()
    label, first = (b"", 2) if tokens[0] == b"FORCES|" else (b"".join(tokens[2:3]), 3)
    try:
        x, y, z = (float(token) for token in tokens[first : first + 3])
    except ValueError:  # no number, or too few
        return b"", [np.nan] * 3
    return label, [x, y, z]


def _unit(path: Path, line: int) -> float:
    with open_binary(path) as stream:
        head = next(text for number, text in enumerate(stream, 1) if number == line)
    match = _HEAD.match(head)
    text = match[1].decode("utf-8", "replace") if match else "a.u."
    return unit_factor("au_f" if text == "a.u." else text, FORCE, path, line)


def _first_head(file: Path) -> int:
    with open_binary(file) as stream:
        return next((number for number, line in enumerate(stream, 1) if _HEAD.match(line)), 1)


def read_coordinates(path: Path, head: int) -> tuple[list[bytes], Floats]:
    """Labels (N,) and positions (N, 3) [Å] in a log, of the table that begins at line `head`.

    Raises InputError for a table that cannot be read.
    """
    labels, positions, factor = list[bytes](), list[list[float]](), 1.0
    with open_binary(path) as stream:
        for number, line in enumerate(stream, 1):
            tokens = line.split()
            if number == head:
                factor = unit_factor(tokens[-1].decode("utf-8", "replace"), LENGTH, path, number)
            if number <= head or not (positions or _ROW.match(line)):
                continue
            if not _ROW.match(line):
                break
            try:
                # QS prints the atomic number after the element, FIST does not
                first = 4 if tokens[3].isdigit() else 3
                row = [float(token) for token in tokens[first : first + 3]]
            except (ValueError, IndexError):
                row = []
            if len(row) != 3 or not np.isfinite(row).all():
                text = line.decode("utf-8", "replace").strip()
                raise InputError(f"expected an atom's position, found '{text}'", path, number)
            labels.append(tokens[2])
            positions.append(row)
    return labels, factor * np.array(positions)
