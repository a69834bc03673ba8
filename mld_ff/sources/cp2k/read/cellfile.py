"""The cell that an input names a file for (`CELL_FILE_NAME`)."""

from __future__ import annotations

from pathlib import Path

import ase.io
import numpy as np

from mld_ff.errors import InputError
from mld_ff.sources.cp2k.read.tables import read_cells
from mld_ff.trajectory import Floats

_READ_BY_ASE = {"CIF": "cif", "PDB": "proteindatabank", "EXTXYZ": "extxyz", "XYZ": "extxyz"}
FORMATS = ("CP2K", "XSC", *_READ_BY_ASE)


def read_cell_file(file: Path, format: str) -> Floats:
    """The cell [Å], (3, 3), in one of FORMATS; the last one where there are several. Raises
    InputError for a file that holds none.
    """
    if format == "CP2K":
        _, cells = read_cells(file)
        cell = cells[-1] if len(cells) else np.zeros((3, 3))
    elif format == "XSC":
        cell = _of_namd(file)
    elif format in _READ_BY_ASE:
        try:
            cell = np.array(ase.io.read(file, format=_READ_BY_ASE[format]).cell)
        except Exception as error:  # ASE's parsers raise whatever their parsing hits
            raise InputError(
                f"ASE cannot read it as {format}: {type(error).__name__}: {error}", file
            ) from None
    else:
        raise InputError(
            f"CELL_FILE_FORMAT is {format}; those known are {', '.join(FORMATS)}", file
        )
    if not abs(np.linalg.det(cell)) > 0:
        raise InputError("this file holds no cell with a volume", file)
    return cell


def _of_namd(file: Path) -> Floats:
    """NAMD's extended system: step, nine components and the origin, in the last row."""
    rows = [row.split() for row in file.read_text(errors="replace").splitlines()]
    numbers = [row for row in rows if row and not row[0].startswith("#")]
    try:
        return np.array(numbers[-1][1:10], dtype=np.float64).reshape(3, 3)
    except (ValueError, IndexError):
        return np.zeros((3, 3))
