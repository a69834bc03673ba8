"""One look for all figures: panels that read at half page width, a colour for the reference and for
each engine.
"""

from __future__ import annotations

import math
from io import BytesIO
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mld_ff.engines.registry import ENGINES
from mld_ff.files import write_atomically

REFERENCE = "reference"
"""What its curves and numbers are called beside the names of runs."""
PRINTED = "printed dipole"
"""What curves of a dipole are called that the reference's program printed."""
BLUE, VERMILION, GREEN, ORANGE, SKY, PURPLE = COLOURS = (
    *("#0072b2", "#d55e00", "#009e73", "#e69f00", "#56b4e9", "#cc79a7"),
)
"""Okabe and Ito's, which those who are colour-blind tell apart (https://jfly.uni-koeln.de/color/);
PURPLE marks walls and targets.
"""
MORE_COLOURS = (GREEN, ORANGE, SKY, "#999999")
"""Of the second and later runs by one engine."""
PANEL = (2.8, 2.4)
"""Width and height of a panel [inch]; two of them make a figure, which reads at half the width of a
page.
"""


def label_of(name: str) -> str:
    """How people read the name of a trajectory: `REFERENCE`, an engine, or an engine and which of
    its runs, as `lammps 2`.
    """
    engine, _, which = name.partition(" ")
    label = ENGINES[engine].label if engine in ENGINES else engine
    return f"{label} {which}".rstrip()


def subject(name: str) -> str:
    """A trajectory within a sentence."""
    return f"the {name}" if name == REFERENCE else label_of(name)


def style_of(name: str) -> dict[str, Any]:
    """How curves of this trajectory are drawn."""
    if name == REFERENCE:
        return {"color": "black", "lw": 1.8}
    if name == PRINTED:
        return {"color": "black", "ls": ":"}
    engine, _, which = name.partition(" ")
    color = MORE_COLOURS[(int(which) - 2) % len(MORE_COLOURS)] if which else ENGINES[engine].color
    return {"color": color, "ls": ENGINES[engine].linestyle}


def panels(n: int) -> tuple[Figure, list[Axes]]:
    """A figure of n panels, at most two beside each other."""
    columns = min(n, 2)
    rows = math.ceil(n / columns)
    figure = Figure(figsize=(PANEL[0] * columns, PANEL[1] * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.set_prop_cycle(color=COLOURS)
    for axis in axes.flat[n:]:
        axis.set_visible(False)
    return figure, list(axes.flat[:n])


def wide_panels(n: int, height: float, **options: Any) -> tuple[Figure, list[Axes]]:
    """A figure of n panels of some height [inch] on top of each other, each as wide as two."""
    figure = Figure(figsize=(2 * PANEL[0], n * height), layout="constrained")
    axes = figure.subplots(n, squeeze=False, **options)[:, 0]
    for axis in axes:
        axis.set_prop_cycle(color=COLOURS)
    return figure, list(axes)


def legend_above(figure: Figure, axis: Axes) -> None:
    """What the lines of one panel are, above all panels, where it hides nothing."""
    handles, labels = axis.get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside upper center", ncols=len(labels), frameon=False, fontsize=8
    )


def save_figure(figure: Figure, file: Path) -> Path:
    """Write a figure in the format that the file's name ends in."""
    content = BytesIO()
    figure.savefig(content, format=file.suffix[1:], dpi=150)
    write_atomically(file, content.getvalue())
    return file
