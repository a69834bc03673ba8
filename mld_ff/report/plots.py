"""Figures of the learned loss, and of runs beside the CP2K reference."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from mld_ff.loss import AgentLoss
from mld_ff.report.style import LABELS, PANEL, REFERENCE, STYLES, panels
from mld_ff.survey import Inspection
from mld_ff.topology import find_topology
from mld_ff.trajectory import Floats, Trajectory


def plot_pair_functions(loss: AgentLoss) -> Figure:
    """Every free term over distance: where data were (shaded), the learned function, and its wall."""
    figure, axes = panels(len(loss.free_terms))
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
    figure, axes = panels(len(loss.species))
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
    figure, axes = panels(len(names))
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
    figure, axes = panels(len(names))
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
