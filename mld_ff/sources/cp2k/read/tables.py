"""The tables that CP2K writes beside a trajectory: PROJ-1.cell, PROJ-1.ener, PROJ-1.stress."""

from __future__ import annotations

from array import array
from pathlib import Path

import numpy as np

from mld_ff.errors import InputError
from mld_ff.sources.textfiles import open_binary
from mld_ff.trajectory import Floats, Ints
from mld_ff.units import EV_PER_A3_TO_BAR, HARTREE_TO_EV

_CELL_COLUMNS = tuple(range(2, 11))
_TIME, _TEMPERATURE, _POTENTIAL, _SECONDS = 1, 3, 4, 6
_ENERGIES = "step, time, kinetic, K, potential, conserved, seconds"


def read_cells(path: Path) -> tuple[Ints, Floats]:
    """Steps (K,) and cells [Å] (K, 3, 3) of a .cell file. Raises InputError for rows that are not
    numbers.
    """
    steps, values = _read_table(
        path, _CELL_COLUMNS, "step, time, nine cell components and the volume", 12
    )
    cells = values.reshape(-1, 3, 3)
    flat = np.flatnonzero(np.abs(np.linalg.det(cells)) <= 0)
    if len(flat):
        raise InputError(f"step {steps[flat[0]]}: this cell has no volume", path)
    return steps, cells


def read_stresses(path: Path) -> tuple[Ints, Floats]:
    """Steps (K,) and stresses as CP2K prints them [eV/Å³] (K, 3, 3) of a .stress file. Raises
    InputError as `read_cells`.
    """
    meaning = "step, time and nine components of the stress"
    steps, values = _read_table(path, _CELL_COLUMNS, meaning, 11)
    return steps, values.reshape(-1, 3, 3) / EV_PER_A3_TO_BAR


def read_energies(path: Path) -> tuple[Ints, Floats, Floats]:
    """Steps, times [fs], potential energies [eV] of an .ener file, (K,) each. Raises InputError as
    `read_cells`.
    """
    steps, values = _read_table(path, (_TIME, _POTENTIAL), _ENERGIES, 6)
    return steps, values[:, 0], values[:, 1] * HARTREE_TO_EV


def read_seconds(path: Path) -> Floats:
    """Wall time [s] of every step of an .ener file, (K,)."""
    return _read_table(path, (_SECONDS,), _ENERGIES, 7)[1][:, 0]


def read_temperatures(path: Path) -> tuple[Ints, Floats]:
    """Steps and kinetic temperatures [K] of an .ener file, (K,) each."""
    steps, values = _read_table(path, (_TEMPERATURE,), _ENERGIES, 6)
    return steps, values[:, 0]


def _read_table(
    path: Path, columns: tuple[int, ...], meaning: str, width: int
) -> tuple[Ints, Floats]:
    """Steps, increasing, and the columns wanted; of a step that a restart repeated the last row
    counts.
    """
    steps, values = array("q"), array("d")
    with open_binary(path) as stream:
        for number, row in enumerate(stream, 1):
            if row.lstrip().startswith(b"#") or not row.strip():
                continue
            tokens = row.split()
            try:
                numbers = [float(tokens[c]) for c in columns]
                step = int(tokens[0])
                usable = (
                    len(tokens) >= width and abs(step) < 10**18 and bool(np.isfinite(numbers).all())
                )
            except (ValueError, IndexError):
                usable = False
            if not row.endswith(b"\n"):
                break  # the run is going on and this row may lack its end
            if not usable:
                text = row.decode("utf-8", "replace").strip()
                raise InputError(f"expected {meaning}, found '{text[:60]}'", path, number)
            steps.append(step)
            values.extend(numbers)
    kept, last = np.unique(np.array(steps, dtype=np.int64)[::-1], return_index=True)
    table = np.array(values, dtype=np.float64).reshape(-1, len(columns))
    return kept, table[::-1][last]
