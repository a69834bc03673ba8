"""The figure of the agents' own dynamics beside those of the reciprocal loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mld_ff.report.style import BLUE, GREEN, ORANGE, PURPLE, SKY, VERMILION
from mld_ff.trajectory import Floats

PANEL = (3.3, 1.7)
"""Width and height of a panel [inch]."""
COLOURS = {"reciprocal": BLUE, "agents": VERMILION}
SPECIES_COLOURS = (ORANGE, GREEN, PURPLE, SKY, "#999999")
LABELS = {"reciprocal": "reciprocal loss", "agents": "agents' own losses"}
TITLES = {"NVE": "no thermostat (NVE)", "NVT": "Nosé–Hoover chain (NVT)"}
SMOOTHED_PS = 0.1
"""Temperatures and bonds are drawn as running means over this long."""


@dataclass(frozen=True)
class Course:
    """What is drawn of one run at F moments, every array (F,)."""

    time_ps: Floats
    drift_A_per_ps: Floats
    """Speed of the centre of mass."""
    gained_meV_per_atom: Floats
    """Energy that the forces brought in from nowhere."""
    temperature_K: Mapping[str, Floats]
    """By species."""
    mean_A: Mapping[str, Floats]
    """Mean length of every kind of bond."""
    deviation_A: Mapping[str, Floats]


def plot_learning(
    courses: Mapping[tuple[str, str], Course], bonds: Sequence[str], target_K: float
) -> Figure:
    """Drift, energy gained, temperatures and bonds over time: without a thermostat (left) and with
    one (right).

    courses: by dynamics (`reciprocal`, `agents`) and ensemble (`NVE`, `NVT`). bonds: the bonded
    terms to draw.
    """
    labels = [
        "drift of the\nbox [Å/ps]",
        "energy gained\n[meV/atom]",
        "T, reciprocal\n[K]",
        "T, agents\n[K]",
        *(f"{bond.removeprefix('bonded:')}, mean and\ndeviation [Å]" for bond in bonds),
    ]
    figure = Figure(figsize=(2 * PANEL[0], len(labels) * PANEL[1]), layout="constrained")
    axes = figure.subplots(len(labels), 2, sharex=True, sharey="row")
    axes[2, 0].sharey(axes[3, 0])
    for column, (ensemble, title) in zip(axes.T, TITLES.items(), strict=True):
        column[0].set_title(title, fontsize=10)
        for dynamics, temperature in zip(LABELS, column[2:4], strict=True):
            course = courses[dynamics, ensemble]
            style = {"color": COLOURS[dynamics], "label": LABELS[dynamics], "lw": 1.2}
            column[0].plot(course.time_ps, course.drift_A_per_ps, **style)
            column[1].plot(course.time_ps, course.gained_meV_per_atom, **style)
            _draw_temperatures(temperature, course, target_K)
            for axis, bond in zip(column[4:], bonds, strict=True):
                _draw_bond(axis, course, bond, COLOURS[dynamics])
        column[-1].set_xlabel("time [ps]")
    for axis, label in zip(axes[:, 0], labels, strict=True):
        axis.set_ylabel(label)
    axes[0, 0].legend(frameon=False, fontsize=8)
    axes[2, 0].legend(frameon=False, fontsize=8, ncols=4)
    figure.align_ylabels(axes[:, 0])
    return figure


def _draw_temperatures(axis: Axes, course: Course, target_K: float) -> None:
    axis.axhline(target_K, color="0.5", lw=0.8, ls=":")
    for k, (species, values) in enumerate(course.temperature_K.items()):
        colour = SPECIES_COLOURS[k % len(SPECIES_COLOURS)]
        axis.plot(*_smoothed(course.time_ps, values), lw=1.2, color=colour, label=species)


def _draw_bond(axis: Axes, course: Course, bond: str, colour: str) -> None:
    """The mean, and a dashed line one deviation to either side."""
    mean, deviation = course.mean_A[bond], course.deviation_A[bond]
    axis.plot(*_smoothed(course.time_ps, mean), color=colour, lw=1.2)
    for edge in (mean + deviation, mean - deviation):
        axis.plot(*_smoothed(course.time_ps, edge), color=colour, lw=0.8, ls="--")


def _smoothed(time_ps: Floats, values: Floats) -> tuple[Floats, Floats]:
    """Running means over SMOOTHED_PS, at the middle of what they cover."""
    spacing = time_ps[1] - time_ps[0] if len(time_ps) > 1 else SMOOTHED_PS
    window = np.ones(min(max(1, round(SMOOTHED_PS / spacing)), len(time_ps)))
    window /= len(window)
    return np.convolve(time_ps, window, "valid"), np.convolve(values, window, "valid")
