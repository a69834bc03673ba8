"""Thermodynamic output in LAMMPS's logs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mld_ff.engines.lammps.executable import HARMLESS
from mld_ff.errors import InputError
from mld_ff.trajectory import Floats

COLUMNS = {
    "step": "Step",
    "time_ps": "Time",
    "temperature_K": "Temp",
    "potential_eV": "PotEng",
    "total_eV": "TotEng",
    "density_g_per_cm3": "Density",
    "pressure_bar": "Press",
    "conserved_eV": "Econserve",
}
"""Of in.nvt's thermo_style, whose units are metal."""


def thermo(text: str) -> Iterator[tuple[list[str], list[list[float]]]]:
    """Tables of thermodynamic output in LAMMPS's log: column names and rows."""
    text = "".join(line for line in text.splitlines(keepends=True) if not HARMLESS.search(line))
    for table in re.finditer(r"^ *(Step .*)\n((?:[ \d.eE+\-naif]+\n)*)", text, re.MULTILINE):
        yield table[1].split(), [[float(x) for x in row.split()] for row in table[2].splitlines()]


def read_log(log: Path) -> dict[str, Floats]:
    """Columns of the log of in.nvt (`RunFiles.read_log`)."""
    try:
        text = log.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", log) from None
    try:
        tables = list(thermo(text))
    except ValueError as error:
        raise InputError(f"is damaged: {error}", log) from None
    rows = [
        dict(zip(names, row, strict=True))
        for names, of_table in tables
        for row in of_table
        if len(row) == len(names)
    ]
    if not rows:
        raise InputError("holds no thermodynamic output", log)
    # a run that an earlier version began has fewer columns there
    common = set.intersection(*(set(row) for row in rows))
    return {
        name: np.array([row[theirs] for row in rows])
        for name, theirs in COLUMNS.items()
        if theirs in common
    }
