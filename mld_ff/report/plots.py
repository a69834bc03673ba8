"""Figures of the learned loss, and of runs beside the CP2K reference."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from operator import mul
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mld_ff.geometry.system import systems
from mld_ff.geometry.topology import topology_of
from mld_ff.loss.bonds import BondTerm
from mld_ff.loss.model import AgentLoss
from mld_ff.loss.terms import PairTerm
from mld_ff.report.style import (
    REFERENCE,
    label_of,
    legend_above,
    panels,
    style_of,
    wide_panels,
)
from mld_ff.survey import Inspection
from mld_ff.trajectory import Floats, Trajectory
from mld_ff.units import KB_EV_PER_K

Band = tuple[Floats, ...]
"""x and y of a curve, and the standard error of y where it is known."""
SMOOTHED = 0.025
"""Running means are taken over this fraction of a series."""
COVERAGE_HEIGHT = 0.4
"""Bars of coverage fill so much of a panel."""
ERRORS_DRAWN = 2.0
"""Half the width of bands, in standard errors."""


def plot_pair_functions(loss: AgentLoss) -> Figure:
    """Every free term over distance: the learned function with its error and its wall, and how many
    pairs were seen.
    """
    return _plot_terms(loss.free_terms)


def plot_bonded_functions(loss: AgentLoss) -> Figure | None:
    """The same for the bonded terms; None where there are none."""
    return _plot_terms(loss.bond_terms) if loss.bond_terms else None


def _plot_terms(terms: Sequence[PairTerm]) -> Figure:
    figure, axes = panels(len(terms))
    for axis, term in zip(axes, terms, strict=True):
        axis.set(title=term.name, xlabel="r [Å]", ylabel="loss [eV]")
        low, high = term.learned_A
        if not term.coverage["counts"]:
            axis.text(0.5, 0.5, "no pairs seen", ha="center", transform=axis.transAxes)
            continue
        room = 0.1 * (high - low)
        r = np.linspace(
            max(low - room, 0.1), high + (room if isinstance(term, BondTerm) else 0), 600
        )
        learned = (low <= r) & (r <= high)
        u, _ = term.evaluate(r)
        _draw_coverage(axis, term)
        axis.plot(r[learned], u[learned], color="C0", label="learned")
        for outside in (r < r[learned][0], r > r[learned][-1]):
            axis.plot(
                r[outside], u[outside], color="C3", ls=":", label="wall" if outside[0] else None
            )
        bottom, top = float(u[learned].min()), float(u[learned].max())
        room = 0.12 * (top - bottom)
        axis.set(ylim=(bottom - room, top + room), xlim=(r[0], r[-1]))
    legend_above(figure, axes[0])
    return figure


def _draw_coverage(axis: Axes, term: PairTerm) -> None:
    """Pairs seen (bars, on an axis of their own) and the jack-knife error of the function
    (band).
    """
    seen = np.array(term.coverage["counts"], float)
    width = term.coverage["width_A"]
    left = term.coverage["start_A"] + width * np.arange(len(seen))
    counts = axis.twinx()
    counts.bar(left, seen, width, align="edge", color="0.88")
    decades = math.ceil(math.log10(seen.max())) + 0.3
    counts.set(
        yscale="log",
        ylim=(0.5, 10 ** (decades / COVERAGE_HEIGHT)),
        yticks=10.0 ** np.arange(0, decades, 2),
    )
    counts.minorticks_off()
    counts.tick_params(axis="y", labelsize=7, colors="0.55")
    counts.set_ylabel("pairs seen", color="0.55", fontsize=8, loc="bottom")
    axis.set_zorder(counts.get_zorder() + 1)
    axis.patch.set_visible(False)
    if errors := term.coverage.get("errors_eV"):
        centre, band = left + width / 2, ERRORS_DRAWN * np.array(errors)
        u, _ = term.evaluate(centre)
        low, high = term.learned_A
        learned = ((low <= centre) & (centre <= high)).tolist()
        axis.fill_between(
            centre, u - band, u + band, learned, color="C0", alpha=0.3, lw=0, label="± 2 errors"
        )


def plot_forces(loss: AgentLoss, frames: Trajectory) -> Figure:
    """Learned against reference force components, a panel per species."""
    every = systems(topology_of(frames), frames, loss.cutoff_A)
    assert frames.forces is not None
    learned = np.array([loss.evaluate(system).forces for system in every])
    figure, axes = panels(len(loss.species))
    for axis, species in zip(axes, loss.species, strict=True):
        mine = np.array([s == species for s in frames.symbols])
        x, y = frames.forces[:, mine].ravel(), learned[:, mine].ravel()
        end = float(np.quantile(np.abs(x), 0.999)) * 1.05
        axis.hexbin(
            x, y, gridsize=60, extent=(-end, end, -end, end), bins="log", mincnt=1, cmap="viridis"
        )
        axis.plot([-end, end], [-end, end], color="0.4", lw=0.8)
        axis.set(
            title=f"forces on {species}",
            xlabel="CP2K [eV/Å]",
            ylabel="learned [eV/Å]",
            aspect="equal",
        )
    return figure


def plot_radial_distributions(inspections: Mapping[str, Inspection]) -> Figure:
    """g(r) of every free term, reference and runs."""
    names = [n for n in inspections[REFERENCE].survey.distances if n.startswith("free:")]
    figure, axes = panels(len(names))
    for axis, name in zip(axes, names, strict=True):
        for label, inspection in inspections.items():
            if name in inspection.survey.distances:
                axis.plot(
                    *inspection.radial_distribution(name),
                    **style_of(label),
                    label=label_of(label),
                )
        axis.axhline(1, color="0.8", lw=0.8, zorder=0)
        axis.set(
            title=name,
            xlabel="r [Å]",
            ylabel="g(r)",
            ylim=(0, None),
            xlim=(1, inspections[REFERENCE].survey.cutoff_A),
        )
    legend_above(figure, axes[0])
    return figure


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
        axis.set(title=name, xlabel="r [Å]", ylabel="density [1/Å]", ylim=(0, None))
    legend_above(figure, axes[0])
    return figure


def plot_kinetic_energy(
    heat: Mapping[str, tuple[Floats, Floats]], n_atoms: Mapping[str, int], target_K: float
) -> Figure:
    """Kinetic energy per atom over time [ps], from the temperature [K] of every run, and its
    running mean.
    """
    figure, axes = wide_panels(len(heat), 1.7, sharey=True)
    for axis, (label, (time_ps, temperature)) in zip(axes, heat.items(), strict=True):
        per_kelvin = kinetic_energy_per_kelvin(n_atoms[label])
        energy = temperature * per_kelvin
        color = style_of(label)["color"]
        axis.plot(time_ps, energy, color=color, lw=0.6, alpha=0.4)
        axis.plot(*_running_mean(time_ps, energy), color=color, lw=1.6)
        axis.axhline(target_K * per_kelvin, color="C3", lw=0.9, ls=":")
        axis.set_title(label_of(label), fontsize=9, loc="left")
        axis.set(xlabel="time [ps]", ylabel="E$_{kin}$ [eV/atom]", xlim=(time_ps[0], time_ps[-1]))
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
    return np.convolve(x, window / len(window), "valid"), np.convolve(
        y, window / len(window), "valid"
    )


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
        axis.set(title=title, xlabel=axes[0], ylabel=axes[1])
        axis.ticklabel_format(axis="y", scilimits=(-3, 4))
    legend_above(figure, panel[0])
    return figure


def plot_errors(loss: AgentLoss) -> Figure:
    """Relative RMSE of every species on unseen frames: one reciprocal loss, a loss of each species'
    own, channels.
    """
    figure, (axis,) = panels(1)
    fits = {"reciprocal": "relative_rmse", "agents": "relative_rmse_agent"}
    if loss.channels:
        fits = {
            "pairs": "relative_rmse_pairs",
            "pairs, agents": "relative_rmse_agent",
            "channels": "relative_rmse",
        }
    x, width = np.arange(len(loss.species)), 0.8 / len(fits)
    for k, (label, name) in enumerate(fits.items()):
        values = [loss.provenance[name][s] for s in loss.species]
        offset = (k - (len(fits) - 1) / 2) * width
        bars = axis.bar(x + offset, values, 0.9 * width, color=("C0", "0.6", "C1")[k], label=label)
        axis.bar_label(bars, fmt="%.3f", fontsize=7)
    axis.set(xticks=x, xticklabels=loss.species, ylabel="relative RMSE of forces")
    axis.margins(y=0.1)
    legend_above(figure, axis)
    return figure
