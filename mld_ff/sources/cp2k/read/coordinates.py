"""The atoms that a calculation starts from: as its log prints them, else as its input has them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mld_ff.errors import InputError
from mld_ff.sources.cp2k.read.inputfile import Keyword, Section, is_true, parse_input
from mld_ff.sources.cp2k.read.settings import first_cell
from mld_ff.sources.cp2k.read.units import LENGTH, NUMBER, Quantity
from mld_ff.sources.textfiles import is_count
from mld_ff.trajectory import Floats

Coordinates = tuple[list[bytes], Floats]
"""Labels (N,) and positions (N, 3) [Å]."""


def coordinates_of_input(file: Path, n_atoms: int | None = None) -> Coordinates | None:
    """Of &COORD, or of the XYZ file that &TOPOLOGY names; None where the input has neither, or
    repeats the atoms it names. Raises InputError for atoms without three numbers.

    n_atoms: of several FORCE_EVAL, of which some may be fragments in any order, the first with so
    many is taken where one has.
    """
    found = list(_coordinates(parse_input(file)))
    return next((c for c in found if c and len(c[0]) == n_atoms), next(iter(found), None))


def _coordinates(root: Section) -> Iterator[Coordinates | None]:
    """Of every FORCE_EVAL that tells; None of one that repeats its atoms."""
    for subsystem in root.all("FORCE_EVAL", "SUBSYS"):
        repeats = subsystem.get("TOPOLOGY", "MULTIPLE_UNIT_CELL")
        if repeats and any(n != 1 for n in repeats.numbers(NUMBER, "")):
            yield None
            continue
        if sections := [section for section in subsystem.all("COORD") if section.rows]:
            yield _of_section(sections[0], root)
            continue
        name = subsystem.get("TOPOLOGY", "COORD_FILE_NAME|COORD_FILE")
        if name is not None and (xyz := name.file.parent / name.text).is_file():
            yield _of_xyz(xyz)


def _of_section(section: Section, root: Section) -> Coordinates:
    unit, scaled = section.get("UNIT"), section.get("SCALED")
    atoms = [(label, row) for label, row in section.rows if label.upper() not in ("UNIT", "SCALED")]
    labels = [label.encode() for label, _ in atoms]
    if scaled is None or not is_true(scaled.value):
        name = unit.text.strip("[]") if unit else "angstrom"
        return labels, np.array([_three(row, LENGTH, name) for _, row in atoms])
    cell = first_cell(root)
    if cell is None:
        raise InputError("SCALED coordinates need a cell", scaled.file, scaled.line)
    return labels, np.array([_three(row, NUMBER, "") for _, row in atoms]) @ cell


def _three(row: Keyword, quantity: Quantity, unit: str) -> list[float]:
    """A molecule's name may follow."""
    numbers = Keyword(" ".join(row.value.split()[:3]), row.file, row.line).numbers(quantity, unit)
    if len(numbers) != 3:
        raise InputError(f"expected an atom's position, found '{row.value}'", row.file, row.line)
    return numbers


def _of_xyz(file: Path) -> Coordinates | None:
    lines = file.read_text(errors="replace").splitlines()
    if not lines or not is_count(lines[0].strip().encode()):
        return None
    labels, positions = list[bytes](), list[list[float]]()
    for number, line in enumerate(lines[2 : 2 + int(lines[0])], 3):
        label, rest = [*line.split(maxsplit=1), "", ""][:2]
        labels.append(label.encode())
        positions.append(_three(Keyword(rest, file, number), LENGTH, "angstrom"))
    return labels, np.array(positions)
