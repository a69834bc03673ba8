"""Figures and numbers of a scan over exponents (the paper's figure 2)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from mld_ff.files import to_json, write_atomically
from mld_ff.inference import ExponentScan
from mld_ff.report.comparison import Drawing
from mld_ff.report.style import PURPLE, legend_above, panels, save_figure, wide_panels

SCAN = "scan.json"


def draw_scan(scan: ExponentScan | None) -> dict[str, Drawing]:
    """All figures of a scan, by file name."""
    if scan is None:
        return {}
    return {
        "exponents": Drawing(
            "Relative RMSE over the exponent of one invariant, all else refitted.",
            plot_exponents(scan),
        ),
        "plane": Drawing(
            "Relative RMSE over the exponents of two invariants; crosses: the least. The diagonal"
            " is one exponent twice, and beyond the colours.",
            plot_plane(scan),
        ),
        "sensitivities": Drawing(
            "What each invariant, with its partners refitted, takes off the relative RMSE of each"
            " species.",
            plot_sensitivities(scan),
        ),
    }


def plot_exponents(scan: ExponentScan) -> Figure:
    """Relative RMSE over a single exponent, a panel per species: reciprocal and agent fit."""
    figure, axes = panels(len(scan.species))
    for k, (axis, species) in enumerate(zip(axes, scan.species, strict=True)):
        agents = np.einsum("nns->ns", scan.agents)[:, k]
        axis.plot(scan.exponents, scan.one[:, k], "o-", ms=3, label="reciprocal")
        axis.plot(scan.exponents, agents, "s--", ms=3, color="0.5", label="agents")
        best = scan.best_exponent[species]
        axis.axvline(best, color=PURPLE, lw=0.8, ls=":")
        axis.set(title=f"{species}: best n = {best:g}", xlabel="exponent n", ylabel="relative RMSE")
    legend_above(figure, axes[0])
    return figure


def plot_plane(scan: ExponentScan) -> Figure:
    """Relative RMSE over pairs of exponents, a map per species; the cross marks the least error."""
    figure, axes = panels(len(scan.species))
    n = np.array(scan.exponents)
    for k, (axis, species) in enumerate(zip(axes, scan.species, strict=True)):
        z = scan.plane[..., k]
        pairs = z[~np.eye(len(n), dtype=bool)]  # one exponent twice is one exponent: far worse
        low, high = (float(pairs.min()), float(pairs.max())) if pairs.size else (None, None)
        image = axis.pcolormesh(n, n, z, cmap="viridis_r", shading="nearest", vmin=low, vmax=high)
        i, j = np.unravel_index(np.argmin(z), z.shape)
        axis.plot(n[j], n[i], "x", color=PURPLE, mew=2)
        axis.set(
            title=f"{species}: least {z.min():.3f}",
            xlabel="exponent n",
            ylabel="exponent m",
            aspect="equal",
        )
        figure.colorbar(image, ax=axis, label="relative RMSE", shrink=0.7, extend="max")
    return figure


def plot_sensitivities(scan: ExponentScan) -> Figure:
    """What the error of each species gains without an invariant, everything else refitted."""
    names = [s.name for s in scan.sensitivities]
    figure, (axis,) = wide_panels(1, 0.28 * len(names) + 1)
    y = np.arange(len(names))
    for k, species in enumerate(scan.species):
        gain = [max(s.relative_rmse_gain[species], 1e-5) for s in scan.sensitivities]
        height = 0.8 / len(scan.species)
        axis.barh(y + (k - (len(scan.species) - 1) / 2) * height, gain, height, label=species)
    pair = " and ".join(f"{n:g}" for n in scan.best_pair)
    axis.set(
        yticks=y,
        yticklabels=names,
        xscale="log",
        xlim=(1e-4, None),
        xlabel="relative RMSE gained without it",
        title=f"exponents {pair}",
    )
    axis.invert_yaxis()
    legend_above(figure, axis)
    return figure


def load_scan(directory: Path) -> ExponentScan:
    """What `write_scan` left in a directory. Raises InputError if there is none."""
    return ExponentScan.load(directory / SCAN)


def write_scan(out: Path, scan: ExponentScan) -> list[Path]:
    """scan.json and the figures, as PNG; returns the files."""
    write_atomically(out / SCAN, to_json(scan.to_dict(), indent=1))
    figures = draw_scan(scan).items()
    return [out / SCAN, *(save_figure(d.figure, out / f"{name}.png") for name, d in figures)]
