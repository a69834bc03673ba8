"""Charges of atoms that CP2K prints into its log: Mulliken's, Löwdin's, Hirshfeld's, and RESP."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from mld_ff.sources.textfiles import open_binary
from mld_ff.trajectory import Floats, PrintedCharges

_HEADS = {
    "mulliken": re.compile(rb"\s*(?:MULLIKEN POPULATION ANALYSIS|Mulliken Population Analysis)"),
    "lowdin": re.compile(rb"\s*(?:LOWDIN POPULATION ANALYSIS|Lowdin Population Analysis)"),
    "hirshfeld": re.compile(rb"\s*Hirshfeld Charges"),
    "resp": re.compile(rb"\s*RESP charges:"),
}
_MAY_MATTER = re.compile(rb"\s*(?:\d|RESP|#|Total|MULL|Mull|LOWD|Lowd|Hirsh)")
_END = re.compile(rb"\s*(?:# )?Total", re.IGNORECASE)
_ROW = re.compile(rb"\s*(?:RESP\s+)?(\d{1,18})\s+([A-Za-z]\w*)\s+(.+)")
_SPIN_LAST = re.compile(rb"\s*#.*Net charge\s+Spin moment", re.IGNORECASE)


def read_charges(logs: Sequence[Path], n_atoms: int) -> dict[str, PrintedCharges]:
    """By method, of all tables that hold every atom: means and deviations over them.

    Rows may stand in any order (xTB prints a kind after the other); with spin, its moment stands
    after the charge.
    """
    tables: dict[str, list[Floats]] = {}
    for log in logs:
        with open_binary(log) as stream:
            for method, charges in _tables(stream, n_atoms):
                if np.isfinite(charges).all():
                    tables.setdefault(method, []).append(charges)
    return {
        method: PrintedCharges(np.mean(each, axis=0), np.std(each, axis=0), len(each))
        for method, each in tables.items()
    }


def _tables(lines: Iterable[bytes], n_atoms: int) -> Iterator[tuple[str, Floats]]:
    """Charges (N,) that are not a number where a table holds none."""
    method, column, charges = "", -1, np.zeros(0)
    for line in lines:
        if not _MAY_MATTER.match(line):
            continue
        if begun := next((name for name, head in _HEADS.items() if head.match(line)), ""):
            method, column, charges = begun, -1, np.full(n_atoms, np.nan)
        elif method and _END.match(line):
            yield method, charges
            method = ""
        elif method and _SPIN_LAST.match(line):
            column = -2
        elif method and (row := _ROW.match(line)):
            atom, values = int(row[1]) - 1, row[3].split()
            if 0 <= atom < n_atoms and len(values) >= -column:
                charges[atom] = _number(values[column])


def _number(text: bytes) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")
