"""One model of a table, for pages and terminals alike."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

GAP = "  "
"""Between the columns of a table on a terminal."""


@dataclass(frozen=True)
class Table:
    """Rows of text under a head; pages render it by the macro of `templates/table.html`."""

    head: Sequence[str]
    """Of every column, (C,); all empty: rows alone."""
    rows: Sequence[Sequence[str]]
    """(R, C)."""
    align: str = ""
    """A letter per column, as in LaTeX: `l` or `r`; empty: all but the first to the right."""
    caption: str = ""
    """A sentence below: what the columns mean."""

    def __post_init__(self) -> None:
        if any(len(row) != len(self.head) for row in (*self.rows, self.align or self.head)):
            raise ValueError(f"every row needs {len(self.head)} cells, as the head has")

    @property
    def alignment(self) -> str:
        """A letter for every column."""
        return self.align or "l" + "r" * (len(self.head) - 1)

    @property
    def text(self) -> str:
        """Columns as wide as their longest cell; the same on a terminal and in a pipe."""
        lines = [self.head, *self.rows] if any(self.head) else self.rows
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]

        def aligned(cell: str, width: int, side: str) -> str:
            return cell.ljust(width) if side == "l" else cell.rjust(width)

        rendered = [GAP.join(map(aligned, line, widths, self.alignment)).rstrip() for line in lines]
        return "\n".join([*rendered, self.caption] if self.caption else rendered)


def number(value: float | None, form: str = ".4g") -> str:
    """A number as text; a dash where there is none."""
    return "–" if value is None or math.isnan(value) else format(value, form)


def with_error(value: float, error: float) -> str:
    """A number ± its standard error, rounded to two digits of that; a question mark where the error
    is not known.
    """
    if math.isnan(value):
        return "–"
    if math.isnan(error):
        return f"{value:.4g} ± ?"
    if error == 0:
        return f"{value:.6g} ± 0"
    exponent = math.floor(math.log10(float(f"{error:.1e}")))
    if not -7 < exponent < 6:
        return f"{value:.4g} ± {error:.1e}"
    digits = 1 - exponent
    value, error = round(value, digits), round(error, digits)
    return f"{value:.{max(digits, 0)}f} ± {error:.{max(digits, 0)}f}"
