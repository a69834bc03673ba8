"""Figures of the learned loss: its functions, and how well it does on forces."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mld_ff.loss.bonds import BondTerm
from mld_ff.loss.densities import DensityTerm
from mld_ff.loss.model import AgentLoss
from mld_ff.loss.terms import PairTerm
from mld_ff.report.style import REFERENCE, legend_above, panels
from mld_ff.trajectory import Floats
from mld_ff.units import EV_TO_MEV

COVERAGE_HEIGHT = 0.4
"""Bars of coverage fill so much of a panel."""
ERRORS_DRAWN = 2.0
"""Half the width of bands, in standard errors."""


NEAREST_A = 1.0
"""Densities are drawn from here on where no data tell how near neighbours come."""


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
        if "counts" in term.coverage and not term.coverage["counts"]:
            axis.text(0.5, 0.5, "no pairs seen", ha="center", transform=axis.transAxes)
            continue
        room = 0.1 * (high - low)
        r = np.linspace(
            max(low - room, 0.1), high + (room if isinstance(term, BondTerm) else 0), 600
        )
        learned = (low <= r) & (r <= high)
        u, _ = term.evaluate(r)
        if term.coverage:
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


def plot_channels(loss: AgentLoss) -> Figure | None:
    """Every channel over distance: what a neighbour of each kind adds to its density, and dotted,
    closer than any neighbour that was seen; None where there are none."""
    if not loss.channels:
        return None
    figure, axes = panels(len(loss.channels))
    kinds = list(dict.fromkeys(kind for t in loss.channels for kind in _kinds(loss, t)))
    for axis, term in zip(axes, loss.channels, strict=True):
        for neighbour, kind in zip(term.neighbours, _kinds(loss, term), strict=True):
            nearest_A = _nearest(loss, kind)
            r = np.linspace(min(nearest_A, term.cutoff_A) - 0.3, term.cutoff_A, 400)
            density, color = term.density(neighbour, r), f"C{kinds.index(kind)}"
            seen = r >= nearest_A
            axis.plot(r, density, color=color, ls=":")
            axis.plot(r[seen], density[seen], color=color, label="–".join(kind))
        axis.axhline(0, color="0.8", lw=0.8, zorder=0)
        strength = f"{EV_TO_MEV * term.strength_eV:+.3g} meV"
        axis.set(title=f"{term.name}, {strength}", xlabel="r [Å]", ylabel="φ(r)")
    legend_above(figure, max(axes, key=lambda axis: len(axis.get_legend_handles_labels()[1])))
    return figure


def _kinds(loss: AgentLoss, term: DensityTerm) -> list[tuple[str, ...]]:
    """Species of centre and neighbour for each function of a channel, in the order of the loss."""
    if term.order:
        pairs = [tuple(neighbour.split("-")) for neighbour in term.neighbours]
    else:
        pairs = [(*term.species, neighbour) for neighbour in term.neighbours]
    return [tuple(sorted(pair, key=loss.species.index)) for pair in pairs]


def _nearest(loss: AgentLoss, kind: tuple[str, ...]) -> float:
    """The shortest distance [Å] between these species, bonded or free, that was seen."""
    of_kind = [t for t in loss.pair_terms if sorted(t.species) == sorted(kind)]
    seen = [t.coverage["shortest_A"] for t in of_kind if t.coverage.get("shortest_A")]
    return min(seen, default=NEAREST_A)


def plot_forces(pairs: Mapping[str, tuple[Floats, Floats]]) -> Figure:
    """Learned against reference force components [eV/Å]: both of every species, (n,) each."""
    figure, axes = panels(len(pairs))
    for axis, (species, (reference, learned)) in zip(axes, pairs.items(), strict=True):
        end = float(np.quantile(np.abs(reference), 0.999)) * 1.05
        square = (-end, end, -end, end)
        axis.hexbin(
            reference, learned, gridsize=60, extent=square, bins="log", mincnt=1, cmap="viridis"
        )
        axis.plot([-end, end], [-end, end], color="0.4", lw=0.8)
        axis.set(
            title=f"forces on {species}",
            xlabel=f"{REFERENCE} [eV/Å]",
            ylabel="learned [eV/Å]",
            aspect="equal",
        )
    return figure


def plot_errors(loss: AgentLoss) -> Figure:
    """Relative RMSE of every species on unseen frames: one reciprocal loss, a loss of each species'
    own, channels.
    """
    figure, (axis,) = panels(1)
    fits = {"reciprocal": "relative_rmse", "agents": "relative_rmse_agent"}
    if "relative_rmse_pairs" in loss.provenance:
        fits = {
            "pairs": "relative_rmse_pairs",
            "pairs, agents": "relative_rmse_agent",
            "channels" if loss.channels else "charges": "relative_rmse",
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
