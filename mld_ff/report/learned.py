"""Figures of the learned loss: its functions, and how well it does on forces."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mld_ff.loss.bonds import BondTerm
from mld_ff.loss.densities import DensityTerm
from mld_ff.loss.model import AgentLoss
from mld_ff.loss.terms import PairTerm
from mld_ff.report.comparison import Drawing
from mld_ff.report.style import (
    BLUE,
    COLOURS,
    PURPLE,
    REFERENCE,
    VERMILION,
    legend_above,
    panels,
)
from mld_ff.trajectory import Floats
from mld_ff.units import EV_TO_MEV

COVERAGE_HEIGHT = 0.4
"""Bars of coverage fill so much of a panel."""
ERRORS_DRAWN = 2.0
"""Half the width of bands, in standard errors."""


ANGLE_GRID = 48
"""Points along each side of maps over distance and angle."""
NEAREST_A = 1.0
"""Densities are drawn from here on where no data tell how near neighbours come."""


def draw_loss(loss: AgentLoss, tells_its_fit: bool) -> dict[str, Drawing]:
    """All figures of a loss, by file name; of its errors where it tells how it was fitted."""
    drawings = {}
    told = (
        "with twice its error (band: jack-knife over contiguous blocks of frames, of the function"
        " as a whole, since errors of its coefficients are correlated); grey: how many pairs the"
        " data hold; dotted: walls, where they hold none."
    )
    if tells_its_fit:
        caption = "Relative RMSE of forces on frames that the fit has not seen."
        drawings["errors"] = Drawing(caption, plot_errors(loss))
    if loss.free_terms:
        caption = f"Learned loss of free pairs, {told}"
        drawings["pairs"] = Drawing(caption, plot_pair_functions(loss))
    if (bonded := plot_bonded_functions(loss)) is not None:
        drawings["bonds"] = Drawing(f"Learned loss of bonded pairs, {told}", bonded)
    if (maps := plot_angles(loss)) is not None:
        caption = (
            "Learned loss of angles: what all channels of orders 1 and 2 together make of two"
            " neighbours, both at r from the atom between them and at an angle. Colours end where"
            " a twentieth of the map is beyond."
        )
        drawings["three_body"] = Drawing(caption, maps)
    if (channels := plot_channels(loss)) is not None:
        caption = (
            "What a neighbour at r adds to the density of each channel, by species (dotted: closer"
            " than any neighbour in the data), and what a density one away from its mean costs; the"
            " variance of every density is one."
        )
        drawings["channels"] = Drawing(caption, channels)
    return drawings


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
        axis.plot(r[learned], u[learned], color=BLUE, label="learned")
        for outside in (r < r[learned][0], r > r[learned][-1]):
            axis.plot(
                r[outside], u[outside], color=PURPLE, ls=":", label="wall" if outside[0] else None
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
        centre = np.asarray(left + width / 2, float)
        band = ERRORS_DRAWN * np.array(errors, float)
        u, _ = term.evaluate(centre)
        low, high = term.learned_A
        learned = ((low <= centre) & (centre <= high)).tolist()
        axis.fill_between(
            centre, u - band, u + band, learned, color=BLUE, alpha=0.3, lw=0, label="± 2 errors"
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
            density, color = term.density(neighbour, r), COLOURS[kinds.index(kind) % len(COLOURS)]
            seen = r >= nearest_A
            axis.plot(r, density, color=color, ls=":")
            axis.plot(r[seen], density[seen], color=color, label="–".join(kind))
        axis.axhline(0, color="0.8", lw=0.8, zorder=0)
        strength = f"{EV_TO_MEV * term.strength_eV:+.3g} meV"
        axis.set(title=f"{term.name}, {strength}", xlabel="r [Å]", ylabel="φ(r)")
    legend_above(figure, max(axes, key=lambda axis: len(axis.get_legend_handles_labels()[1])))
    return figure


def plot_angles(loss: AgentLoss) -> Figure | None:
    """What all channels of orders 1 and 2 together make of two neighbours of one kind, both at r
    and at an angle: 2 λ φ(r)² cos θ and 2 λ φ(r)² (cos² θ - ⅓), summed; None where there are none.
    """
    channels = [term for term in loss.channels if term.order]
    kinds = [
        (centre, other)
        for centre in loss.species
        for other in loss.species
        if any(t.is_of(n, centre, other) for t in channels for n in t.neighbours)
    ]
    if not kinds:
        return None
    figure, axes = panels(len(kinds))
    for axis, (centre, other) in zip(axes, kinds, strict=True):
        nearest_A = _nearest(loss, (centre, other))
        r = np.linspace(nearest_A, max(t.cutoff_A for t in channels), ANGLE_GRID)
        degrees = np.linspace(0, 180, ANGLE_GRID)
        cosine = np.cos(np.radians(degrees))[:, None]
        energy = np.zeros((len(degrees), len(r)))
        for term in channels:
            of_kind = [n for n in term.neighbours if term.is_of(n, centre, other)]
            density = sum((term.density(n, r) for n in of_kind), np.zeros(len(r)))
            turn = cosine if term.order == 1 else cosine**2 - 1 / 3
            energy += 2 * EV_TO_MEV * term.strength_eV * density**2 * turn
        most = float(np.quantile(np.abs(energy), 0.95)) or 1.0
        look: dict[str, Any] = {"cmap": "RdBu_r", "vmin": -most, "vmax": most, "rasterized": True}
        drawn = axis.pcolormesh(r, degrees, energy, **look)
        figure.colorbar(drawn, ax=axis, label="loss [meV]", extend="both")
        axis.set(title=f"{other}–{centre}–{other}", xlabel="r [Å]", ylabel="angle [°]")
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
    seen = [t.coverage.get("shortest_A") for t in of_kind]
    return min((shortest for shortest in seen if shortest), default=NEAREST_A)


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
    told = loss.provenance
    fits = {"reciprocal": told["relative_rmse"], "agents": told["relative_rmse_agent"]}
    if "relative_rmse_pairs" in told:
        fits = {
            "pairs": told["relative_rmse_pairs"],
            "pairs, agents": told["relative_rmse_agent"],
            "channels" if loss.channels else "charges": told["relative_rmse"],
        }
    x, width = np.arange(len(loss.species)), 0.8 / len(fits)
    for k, (label, errors) in enumerate(fits.items()):
        values = [errors[s] for s in loss.species]
        offset = (k - (len(fits) - 1) / 2) * width
        bars = axis.bar(
            x + offset, values, 0.9 * width, color=(BLUE, "0.6", VERMILION)[k], label=label
        )
        axis.bar_label(bars, fmt="%.3f", fontsize=7)
    axis.set(xticks=x, xticklabels=loss.species, ylabel="relative RMSE of forces")
    axis.margins(y=0.1)
    legend_above(figure, axis)
    return figure
