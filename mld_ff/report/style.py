"""One look for all figures: panels that read at half page width, a colour for CP2K and for each engine."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

REFERENCE = "CP2K"
STYLES: dict[str, dict[str, Any]] = {
    REFERENCE: {"color": "black", "lw": 1.8},
    "openmm": {"color": "C0"},
    "lammps": {"color": "C1", "ls": "--"},
}
LABELS = {"openmm": "OpenMM", "lammps": "LAMMPS"}
PANEL = (3.3, 2.7)
"""Width and height of a panel [inch]."""


def panels(n: int) -> tuple[Figure, list[Axes]]:
    """A figure of n panels, at most three beside each other."""
    columns = min(n, 3)
    rows = math.ceil(n / columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(PANEL[0] * columns, PANEL[1] * rows), squeeze=False, layout="constrained"
    )
    for axis in axes.flat[n:]:
        axis.set_visible(False)
    return figure, list(axes.flat[:n])


def save_figure(figure: Figure, file: Path) -> Path:
    """Write a PNG and release the figure."""
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=150)
    plt.close(figure)
    return file
