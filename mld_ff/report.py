"""Figures and a page that a person can read: the learned loss, and runs beside the CP2K reference."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import Any

import matplotlib

matplotlib.use("Agg")
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.signal import find_peaks

from mld_ff.files import read_template, write_atomically
from mld_ff.loss import AgentLoss
from mld_ff.survey import Inspection
from mld_ff.topology import find_topology
from mld_ff.trajectory import Floats, Trajectory
from mld_ff.verify import Verification

REFERENCE = "CP2K"
STYLES: dict[str, dict[str, Any]] = {
    REFERENCE: {"color": "black", "lw": 1.8},
    "openmm": {"color": "C0"},
    "lammps": {"color": "C1", "ls": "--"},
}
LABELS = {"openmm": "OpenMM", "lammps": "LAMMPS"}
PANEL = (3.3, 2.7)
COMPARED_FROM_A = 2.0
"""Radial distribution functions are compared from here to the cutoff."""


def first_peak(r: Floats, g: Floats) -> tuple[float, float] | None:
    """Place [Å] and height of the first peak of g(r) above 1, by a parabola through its top; None if there is none."""
    tops, _ = find_peaks(g, height=1.0, prominence=0.1)
    if not len(tops):
        return None
    k = int(tops[0])
    a, b, c = np.polyfit(r[k - 1 : k + 2], g[k - 1 : k + 2], 2)
    place = -b / (2 * a)
    return float(place), float(np.polyval((a, b, c), place))


def observables(inspection: Inspection, reference: Inspection | None = None) -> dict[str, float | None]:
    """Numbers to compare: mean and deviation of bonded distances, first peaks of g(r), mean |Δg| to the reference."""
    found: dict[str, float | None] = {}
    for name, histogram in inspection.survey.distances.items():
        if name.startswith("bonded:"):
            found[f"{name} mean_A"], found[f"{name} std_A"] = histogram.mean, histogram.deviation
            continue
        r, g = inspection.radial_distribution(name)
        peak = first_peak(r, g)
        found[f"{name} peak_A"], found[f"{name} peak_height"] = peak or (None, None)
        if reference is not None:
            _, g0 = reference.radial_distribution(name)
            n = min(len(g), len(g0))
            found[f"{name} mean_abs_dg"] = float(np.abs(g[:n] - g0[:n])[r[:n] > COMPARED_FROM_A].mean())
    return found


def _panels(n: int) -> tuple[Figure, list[Axes]]:
    columns = min(n, 3)
    rows = math.ceil(n / columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(PANEL[0] * columns, PANEL[1] * rows), squeeze=False, layout="constrained"
    )
    for axis in axes.flat[n:]:
        axis.set_visible(False)
    return figure, list(axes.flat[:n])


def plot_pair_functions(loss: AgentLoss) -> Figure:
    """Every free term over distance: where data were (shaded), the learned function, and its wall."""
    figure, axes = _panels(len(loss.free_terms))
    for axis, term in zip(axes, loss.free_terms, strict=True):
        seen = np.array(term.coverage["counts"], float)
        r = np.linspace(max(term.wall_edge_A - 0.3, 0.1), term.cutoff_A, 600)
        u, _ = term.evaluate(r)
        learned = r >= term.wall_edge_A
        low, high = float(u[learned].min()), float(u[learned].max())
        room = 0.12 * (high - low)
        left = term.coverage["start_A"] + term.coverage["width_A"] * np.arange(len(seen))
        height = seen / seen.max() * 0.6 * (high - low + 2 * room)
        axis.bar(left, height, term.coverage["width_A"], bottom=low - room, align="edge", color="0.9", label="sampled")
        axis.plot(r[learned], u[learned], color="C0", label="learned")
        axis.plot(r[~learned], u[~learned], color="C3", ls=":", label="wall")
        axis.set(
            title=term.name, xlabel="r [Å]", ylabel="loss [eV]", ylim=(low - room, high + room), xlim=(r[0], r[-1])
        )
    axes[0].legend(frameon=False, fontsize=8)
    return figure


def plot_forces(loss: AgentLoss, frames: Trajectory) -> Figure:
    """Learned against reference force components, a panel per species."""
    topology = find_topology(frames.symbols, frames.positions[0], frames.cell[0])
    assert frames.forces is not None
    learned = np.array([loss.evaluate(topology, p, c)[1] for p, c in zip(frames.positions, frames.cell, strict=True)])
    figure, axes = _panels(len(loss.species))
    for axis, species in zip(axes, loss.species, strict=True):
        mine = np.array([s == species for s in frames.symbols])
        x, y = frames.forces[:, mine].ravel(), learned[:, mine].ravel()
        end = float(np.quantile(np.abs(x), 0.999)) * 1.05
        axis.hexbin(x, y, gridsize=60, extent=(-end, end, -end, end), bins="log", mincnt=1, cmap="viridis")
        axis.plot([-end, end], [-end, end], color="0.4", lw=0.8)
        axis.set(title=f"forces on {species}", xlabel="CP2K [eV/Å]", ylabel="learned [eV/Å]", aspect="equal")
    return figure


def plot_radial_distributions(inspections: Mapping[str, Inspection]) -> Figure:
    """g(r) of every free term, reference and runs."""
    names = [n for n in inspections[REFERENCE].survey.distances if n.startswith("free:")]
    figure, axes = _panels(len(names))
    for axis, name in zip(axes, names, strict=True):
        for label, inspection in inspections.items():
            if name in inspection.survey.distances:
                axis.plot(*inspection.radial_distribution(name), **STYLES[label], label=LABELS.get(label, label))
        axis.axhline(1, color="0.8", lw=0.8, zorder=0)
        axis.set(
            title=name, xlabel="r [Å]", ylabel="g(r)", ylim=(0, None), xlim=(1, inspections[REFERENCE].survey.cutoff_A)
        )
    axes[0].legend(frameon=False, fontsize=8)
    return figure


def plot_bonded(inspections: Mapping[str, Inspection]) -> Figure | None:
    """Distribution of every bonded distance, reference and runs; None where there are no bonds."""
    names = [n for n in inspections[REFERENCE].survey.distances if n.startswith("bonded:")]
    if not names:
        return None
    figure, axes = _panels(len(names))
    for axis, name in zip(axes, names, strict=True):
        for label, inspection in inspections.items():
            if (histogram := inspection.survey.distances.get(name)) is None:
                continue
            data = histogram.to_dict(0.01)
            counts = np.array(data["counts"], float)
            r = data["start_A"] + 0.01 * (np.arange(len(counts)) + 0.5)
            axis.plot(r, counts / (counts.sum() * 0.01), **STYLES[label], label=LABELS.get(label, label))
        axis.set(title=name, xlabel="r [Å]", ylabel="density [1/Å]", ylim=(0, None))
    axes[0].legend(frameon=False, fontsize=8)
    return figure


def plot_temperature(series: Mapping[str, tuple[Floats, Floats]], target_K: float) -> Figure:
    """Temperature [K] over time [ps] of every run and of the reference, where it has velocities."""
    size = (2 * PANEL[0], 1.4 * len(series))
    figure, axes = plt.subplots(
        len(series), figsize=size, squeeze=False, sharex=True, sharey=True, layout="constrained"
    )
    for axis, (label, (time_ps, temperature)) in zip(axes[:, 0], series.items(), strict=True):
        axis.plot(time_ps, temperature, color=STYLES[label]["color"], lw=0.8)
        axis.axhline(target_K, color="0.5", lw=0.8, ls=":")
        axis.set_title(LABELS.get(label, label), fontsize=9, loc="left")
        axis.set_ylabel("T [K]")
    axes[-1, 0].set_xlabel("time [ps]")
    return figure


def save_figure(figure: Figure, file: Path) -> Path:
    """Write a PNG and release the figure."""
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=150)
    plt.close(figure)
    return file


def write_summary(
    out: Path,
    loss: AgentLoss,
    verification: Verification,
    compared: Mapping[str, Mapping[str, float | None]],
    speeds: Mapping[str, str],
    figures: Sequence[tuple[str, Path]],
) -> Path:
    """summary.html (self-contained) and summary.json in `out`; returns the page.

    compared: observables of the reference and of every run. speeds: a phrase per engine. figures: caption and file.
    """
    p = loss.provenance
    data: dict[str, Any] = {
        "fit": {k: v for k, v in p.items() if k != "source"},
        "verify": verification.to_dict(),
        "observables": compared,
        "speed": speeds,
    }
    write_atomically(out / "summary.json", json.dumps(data, indent=1, ensure_ascii=False) + "\n")
    page = Template(read_template("summary.html")).substitute(
        files=escape(", ".join(p["source"].get("files", []))),
        molecules=escape(", ".join(f"{n} {f}" for f, n in p["molecules"].items())),
        frames=f"{p['frames_train']} for training, {p['frames_test']} for testing",
        coefficients=p["n_coefficients"],
        warnings="".join(f"<p class=warning>{escape(w)}</p>" for w in p["warnings"]),
        errors=_errors_table(loss),
        verification=_verification_table(verification),
        observables=_observables_table(compared),
        speeds=escape("; ".join(f"{LABELS.get(k, k)} {v}" for k, v in speeds.items())),
        figures="".join(_embedded(caption, file) for caption, file in figures),
    )
    write_atomically(out / "summary.html", page)
    return out / "summary.html"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    def row(cells: Sequence[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{escape(c)}</{tag}>" for c in cells) + "</tr>"

    return f"<table>{row(head, 'th')}{''.join(row(r, 'td') for r in rows)}</table>"


def _errors_table(loss: AgentLoss) -> str:
    p = loss.provenance
    rows = [
        [
            s,
            f"{p['relative_rmse'][s]:.3f}",
            f"{p['relative_rmse_agent'][s]:.3f}",
            f"{p['rmse_meV_per_A_by_species'][s]:.0f}",
        ]
        for s in loss.species
    ]
    rows.append(["all", "", "", f"{p['rmse_meV_per_A']:.0f}"])
    return _table(["species", "relative RMSE", "without reciprocity", "RMSE [meV/Å]"], rows)


def _verification_table(verification: Verification) -> str:
    rows = [
        [
            LABELS[name],
            f"{r.max_force_difference_eV_per_A:.1e}",
            f"{r.relative_energy_difference:.1e}",
            "passed" if r.passed else "FAILED",
        ]
        for name, r in verification.engines.items()
    ]
    return _table(["engine", "largest force difference [eV/Å]", "relative energy difference", "verdict"], rows)


def _observables_table(compared: Mapping[str, Mapping[str, float | None]]) -> str:
    names = list(dict.fromkeys(name for values in compared.values() for name in values))

    def cell(value: float | None) -> str:
        return "–" if value is None else f"{value:.4g}"

    rows = [[name, *(cell(values.get(name)) for values in compared.values())] for name in names]
    return _table(["observable", *(LABELS.get(k, k) for k in compared)], rows)


def _embedded(caption: str, file: Path) -> str:
    data = base64.b64encode(file.read_bytes()).decode("ascii")
    image = f'<img alt="{escape(caption)}" src="data:image/png;base64,{data}">'
    return f"<figure>{image}<figcaption>{escape(caption)}</figcaption></figure>"
