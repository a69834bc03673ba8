"""Figures of runs beside the reference: a curve per trajectory in every panel."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from operator import mul
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from mld_ff.report.style import (
    PURPLE,
    REFERENCE,
    label_of,
    legend_above,
    panels,
    style_of,
    wide_panels,
)
from mld_ff.report.symbols import formula_of
from mld_ff.survey import Inspection
from mld_ff.trajectory import Floats
from mld_ff.units import KB_EV_PER_K

Band = tuple[Floats, ...]
"""x and y of a curve, and the standard error of y where it is known."""
HIGHEST_SHOWN = 8.0
"""Of g(r)."""
LEFT_OF_PEAKS_A = 1.0
"""g(r) is drawn from here on, in all panels with the same ranges."""
SMOOTHED = 0.025
"""Running means are taken over this fraction of a series."""


def plot_radial_distributions(inspections: Mapping[str, Inspection]) -> Figure:
    """g(r) of every free term, reference and runs; peaks of bonds among them are cut off."""
    names = [n for n in inspections[REFERENCE].survey.distances if not n.startswith("bonded:")]
    figure, axes = panels(len(names))
    highest = 0.0
    for axis, name in zip(axes, names, strict=True):
        for label, inspection in inspections.items():
            if name in inspection.survey.distances:
                r, g = inspection.radial_distribution(name)
                axis.plot(r, g, **style_of(label), label=label_of(label))
                highest = max(highest, float(g[r > LEFT_OF_PEAKS_A].max(initial=0)))
        axis.axhline(1, color="0.8", lw=0.8, zorder=0)
        axis.set(
            title=_pair(name),
            xlabel="r [Å]",
            ylabel="g(r)",
            xlim=(LEFT_OF_PEAKS_A, inspections[REFERENCE].survey.cutoff_A),
        )
    for axis in axes:
        axis.set_ylim(0, min(1.05 * highest, HIGHEST_SHOWN))
    legend_above(figure, axes[0])
    return figure


def _pair(term: str) -> str:
    """Its species."""
    return term.partition(":")[2].replace("-", "–")


def plot_bonded(inspections: Mapping[str, Inspection]) -> Figure | None:
    """Distribution of every bonded distance, reference and runs; None where there are no bonds."""
    names = [n for n in inspections[REFERENCE].survey.distances if n.startswith("bonded:")]
    if not names:
        return None
    figure, axes = panels(len(names))
    for axis, name in zip(axes, names, strict=True):
        for label, inspection in inspections.items():
            if (histogram := inspection.survey.distances.get(name)) is None:
                continue
            data = histogram.to_dict(0.01)
            counts = np.array(data["counts"], float)
            r = data["start_A"] + 0.01 * (np.arange(len(counts)) + 0.5)
            axis.plot(r, counts / (counts.sum() * 0.01), **style_of(label), label=label_of(label))
        axis.set(title=_pair(name), xlabel="r [Å]", ylabel="density [1/Å]", ylim=(0, None))
    legend_above(figure, axes[0])
    return figure


def plot_kinetic_energy(
    heat: Mapping[str, tuple[Floats, Floats]],
    n_atoms: Mapping[str, int],
    target_K: Mapping[str, float],
) -> Figure:
    """Kinetic energy per atom over time [ps], from the temperature [K] of every run, its running
    mean, and what the thermostat was set to.
    """
    figure, axes = wide_panels(len(heat), 1.7, sharey=True)
    for axis, (label, (time_ps, temperature)) in zip(axes, heat.items(), strict=True):
        per_kelvin = kinetic_energy_per_kelvin(n_atoms[label])
        energy = temperature * per_kelvin
        color = style_of(label)["color"]
        axis.plot(time_ps, energy, color=color, lw=0.6, alpha=0.4)
        axis.plot(*_running_mean(time_ps, energy), color=color, lw=1.6)
        axis.axhline(target_K[label] * per_kelvin, color=PURPLE, lw=0.9, ls=":")
        axis.set_title(label_of(label), fontsize=9, loc="left")
        axis.set(
            xlabel="time [ps]", ylabel="kinetic energy [eV/atom]", xlim=(time_ps[0], time_ps[-1])
        )
        kelvin = axis.secondary_yaxis(
            "right", functions=(partial(mul, 1 / per_kelvin), partial(mul, per_kelvin))
        )
        kelvin.set_ylabel("T [K]")
    return figure


def kinetic_energy_per_kelvin(n_atoms: int) -> float:
    """[eV/K] of an atom, where the centre of mass of all is at rest."""
    return KB_EV_PER_K * (3 * n_atoms - 3) / (2 * n_atoms)


def _running_mean(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    window = np.ones(max(1, round(SMOOTHED * len(y))))
    window /= len(window)
    return np.convolve(x, window, "valid"), np.convolve(y, window, "valid")


def plot_lines(
    titles: Sequence[str],
    data: Mapping[str, Sequence[Band]],
    axes: tuple[str, str],
    running_mean: bool = False,
    points: Collection[str] = (),
    **line: Any,
) -> Figure:
    """A panel per title, for which every label of `data` has a curve, with a band where its error
    is known.

    running_mean: draw that, and the curve itself thin. points: labels drawn as points, not lines.
    line: how lines differ from `style_of`.
    """
    figure, panel = panels(len(titles))
    for k, (axis, title) in enumerate(zip(panel, titles, strict=True)):
        for label, curves in data.items():
            style = {**style_of(label), **line}
            x, y, *error = curves[k]
            if running_mean:
                axis.plot(x, y, color=style["color"], lw=0.5, alpha=0.35, zorder=1)
                x, y = _running_mean(x, y)
            if label in points:
                style |= {"ls": "", "marker": "o", "ms": 3, "zorder": 3}
            axis.plot(x, y, **style, label=label_of(label))
            for e in error:
                axis.fill_between(x, y - e, y + e, color=style["color"], alpha=0.2, lw=0)
        axis.set(title=formula_of(title), xlabel=axes[0], ylabel=axes[1])
        axis.ticklabel_format(axis="y", scilimits=(-3, 4))
    legend_above(figure, panel[0])
    return figure
