"""The report: a learned run beside the CP2K run that it was learned from, number by number with errors."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from mld_ff.cp2k import CP2KSource
from mld_ff.errors import InputError
from mld_ff.files import read_template, to_json, write_atomically
from mld_ff.invariants import minimum_image
from mld_ff.loss import AgentLoss, CollectiveTerm
from mld_ff.production import read_log, read_record, read_run
from mld_ff.report.plots import plot_bonded, plot_radial_distributions, plot_temperature
from mld_ff.report.statistics import (
    Statistic,
    angles,
    mean_square_displacement,
    molecule_paths,
    statistics,
)
from mld_ff.report.style import LABELS, REFERENCE, STYLES, panels, save_figure
from mld_ff.report.summary import embedded, table
from mld_ff.survey import Inspection, Progress, inspect, no_progress
from mld_ff.topology import Topology, find_topology
from mld_ff.trajectory import Floats, Trajectory
from mld_ff.units import FS_TO_PS

EQUILIBRATION = 0.1
"""First fraction of a learned run that is left out."""
WITHIN = 2.0
"""Learned and reference agree where they differ by at most this many of their joint standard errors."""
DENSITY_TOLERANCE = 0.01
RANDOM_HYDROGENS = 4
SAME_START_FS = 1000.0


@dataclass(frozen=True)
class Compared:
    """One observable of the learned run beside CP2K's; errors are standard errors from blocks."""

    learned: float
    learned_error: float
    reference: float
    reference_error: float

    @property
    def within(self) -> bool | None:
        """Whether both agree within their errors; None where one has no error."""
        joint = math.hypot(self.learned_error, self.reference_error)
        return None if math.isnan(joint) else abs(self.learned - self.reference) <= WITHIN * joint


@dataclass
class Study:
    """Everything that the report shows."""

    engine: str
    observables: dict[str, Compared]
    speed: dict[str, float]
    loss: AgentLoss
    figures: dict[str, tuple[str, Figure]] = field(default_factory=dict)
    """Caption and figure by file name."""
    series: dict[str, Any] = field(default_factory=dict)
    """Every number drawn."""
    notes: list[str] = field(default_factory=list)
    """What was left out, and why."""


def study(
    source: CP2KSource, run: Path | str, cutoff_A: float | None = None, seed: int = 1, progress: Progress = no_progress
) -> Study:
    """Analyse a CP2K run and a learned run (`mld-ff run`) by the same code.

    Raises InputError if they do not hold the same molecules at the same density.
    """
    run = Path(run)
    record, trajectory, log = read_record(run), read_run(run), read_log(run)
    reference = source.read()
    engine = str(record["engine"])
    _same_system(reference, trajectory, run)
    seen = {REFERENCE: inspect(reference, cutoff_A, progress)}
    skip = int(EQUILIBRATION * trajectory.n_frames)
    settled, cutoff = trajectory[skip:], seen[REFERENCE].survey.cutoff_A
    seen[engine] = inspect(settled, cutoff, progress)
    progress("statistics", 0, 2)
    temperature = reference.temperature() if reference.velocities is not None else None
    expected = statistics(reference, cutoff, temperature, seen[REFERENCE])
    progress("statistics", 1, 2)
    hot = np.interp(settled.step, log["step"], log["temperature_K"])
    learned = statistics(settled, cutoff, hot, seen[REFERENCE])
    progress("statistics", 2, 2)
    found = Study(engine, _side_by_side(learned, expected), _speeds(source, record), AgentLoss.load(run / "model.json"))
    times = {REFERENCE: (reference.time - reference.time[0]) * FS_TO_PS, engine: log["time_ps"]}
    heat = {} if temperature is None else {REFERENCE: (times[REFERENCE], temperature)}
    heat[engine] = (times[engine], log["temperature_K"])
    _draw(found, {REFERENCE: reference, engine: settled}, seen, heat, float(record["settings"]["temperature_K"]))
    _draw_same_start(found, reference, trajectory, record, seed)
    return found


def _same_system(reference: Trajectory, learned: Trajectory, run: Path) -> None:
    ours, theirs = (find_topology(t.symbols, t.positions[0], t.cell[0]) for t in (learned, reference))
    kinds = [{f: n / len(t.molecules) for f, n in t.formulas().items()} for t in (ours, theirs)]
    if kinds[0] != kinds[1]:
        raise InputError(f"holds {ours.formulas()}, the reference {theirs.formulas()}: nothing to compare", run)
    densities = [t.masses.sum() / np.abs(np.linalg.det(t.cell)).mean() for t in (learned, reference)]
    if abs(densities[0] / densities[1] - 1) > DENSITY_TOLERANCE:
        raise InputError(
            f"its density is {densities[0] / densities[1]:.3f} times that of the reference: structure and dynamics of "
            "different densities are not comparable; run at the reference's cell",
            run,
        )


def _side_by_side(learned: Mapping[str, Statistic], expected: Mapping[str, Statistic]) -> dict[str, Compared]:
    return {
        name: Compared(learned[name].value, learned[name].error, e.value, e.error)
        for name, e in expected.items()
        if name in learned
    }


def _speeds(source: CP2KSource, record: Mapping[str, Any]) -> dict[str, float]:
    """Steps per second and ns/day of CP2K (its own timing) and of the learned run, and their ratio."""
    speed = {}
    seconds, timestep = source.seconds_per_step, source.source["timestep_fs"]
    if seconds and timestep:
        speed["cp2k_steps_per_s"] = 1 / seconds
        speed["cp2k_ns_per_day"] = 86400 / seconds * timestep * 1e-6
    if wall := record.get("wall_s"):
        settings = record["settings"]
        speed["learned_steps_per_s"] = settings["time_ps"] / (settings["timestep_fs"] * FS_TO_PS) / wall
        speed["learned_ns_per_day"] = 86.4 * settings["time_ps"] / wall
    if "cp2k_ns_per_day" in speed and "learned_ns_per_day" in speed:
        speed["ratio"] = speed["learned_ns_per_day"] / speed["cp2k_ns_per_day"]
    return speed


def _draw(
    found: Study,
    frames: Mapping[str, Trajectory],
    seen: Mapping[str, Inspection],
    heat: Mapping[str, tuple[Floats, Floats]],
    target_K: float,
) -> None:
    names = [n for n in seen[REFERENCE].survey.distances if n.startswith("free:")]
    found.figures["temperature"] = ("Kinetic temperature against time.", plot_temperature(heat, target_K))
    found.figures["rdf"] = ("Radial distribution functions.", plot_radial_distributions(seen))
    found.series["rdf"] = {k: {n: _rounded(i.radial_distribution(n)) for n in names} for k, i in seen.items()}
    found.series["temperature"] = {k: _rounded(v) for k, v in heat.items()}
    if (bonded := plot_bonded(seen)) is not None:
        found.figures["bonded"] = ("Distances inside molecules.", bonded)
        found.series["bonded"] = {
            k: {n: h.to_dict(0.01) for n, h in i.survey.distances.items() if n.startswith("bonded:")}
            for k, i in seen.items()
        }
    topologies = {k: find_topology(t.symbols, t.positions[0], t.cell[0]) for k, t in frames.items()}
    _draw_bond_in_time(found, frames, topologies)
    _draw_angles(found, frames, topologies)
    _draw_displacement(found, frames, topologies)


Curve = tuple[Floats, Floats]


def _draw_lines(
    found: Study,
    name: str,
    caption: str,
    titles: list[str],
    data: Mapping[str, list[Curve]],
    axes: tuple[str, str],
    **line: Any,
) -> None:
    """A panel per title; every series of `data` has (x, y) for each. line: drawn differently from STYLES."""
    figure, panel = panels(len(titles))
    for k, (axis, title) in enumerate(zip(panel, titles, strict=True)):
        for label, curves in data.items():
            axis.plot(*curves[k], **{**STYLES[label], **line}, label=LABELS.get(label, label))
        axis.set(title=title, xlabel=axes[0], ylabel=axes[1])
    panel[0].legend(frameon=False, fontsize=8)
    found.figures[name] = (caption, figure)
    found.series[name] = {
        label: {title: _rounded(curve) for title, curve in zip(titles, curves, strict=True)}
        for label, curves in data.items()
    }


def _rounded(curve: tuple[Floats, Floats]) -> list[list[float]]:
    return [np.round(np.asarray(c, dtype=float), 6).tolist() for c in curve]


def _draw_bond_in_time(found: Study, frames: Mapping[str, Trajectory], topologies: Mapping[str, Topology]) -> None:
    paths = [p for p in topologies[REFERENCE].bonded if len(p) == 2]
    if not paths:
        return
    shown = next((p for p in paths if p == ("O", "H")), paths[-1])
    curves: dict[str, list[Curve]] = {}
    common = min(float(t.time[-1] - t.time[0]) for t in frames.values()) * FS_TO_PS
    for label, t in frames.items():
        topology = topologies[label]
        pairs = topology.bonded[shown]
        r = np.array([minimum_image(x, c, pairs).r for x, c in zip(t.positions, t.cell, strict=True)])
        time = (t.time - t.time[0]) * FS_TO_PS
        seen = time <= common
        curves[label] = [(time[seen], r.mean(axis=1)[seen]), (time[seen], r.std(axis=1)[seen])]
    bond = "–".join(shown)
    titles = [f"mean {bond}", f"deviation of {bond}"]
    caption = f"Mean and deviation of all {bond} bonds against time."
    _draw_lines(found, "bond_in_time", caption, titles, curves, ("time [ps]", "[Å]"), lw=0.7, ls="-")


def _draw_angles(found: Study, frames: Mapping[str, Trajectory], topologies: Mapping[str, Topology]) -> None:
    values = {label: angles(topologies[label], t) for label, t in frames.items()}
    paths = list(values[REFERENCE])
    if not paths:
        return
    curves: dict[str, list[Curve]] = {label: [] for label in frames}
    for path in paths:
        every = np.concatenate([v[path].ravel() for v in values.values()])
        bins = np.linspace(every.min(), every.max(), 61)
        for label, v in values.items():
            curves[label].append(((bins[1:] + bins[:-1]) / 2, np.histogram(v[path], bins, density=True)[0]))
    titles = ["–".join(p) for p in paths]
    _draw_lines(found, "angles", "Bond angles.", titles, curves, ("angle [°]", "density [1/°]"))


def _draw_displacement(found: Study, frames: Mapping[str, Trajectory], topologies: Mapping[str, Topology]) -> None:
    curves: dict[str, list[Curve]] = {}
    titles: list[str] = []
    for label, t in frames.items():
        paths = molecule_paths(topologies[label], t)
        titles = list(paths)
        interval = float(np.diff(t.time).mean())
        curves[label] = [mean_square_displacement(p, interval) for p in paths.values()]
    caption = "Mean-square displacement of centres of mass."
    _draw_lines(found, "displacement", caption, titles, curves, ("lag [ps]", "MSD [Å²]"))


def _draw_same_start(
    found: Study, reference: Trajectory, learned: Trajectory, record: Mapping[str, Any], seed: int
) -> None:
    """The paper's figure 5: bonds to hydrogens drawn at random, both runs from the same positions and velocities."""
    began = np.flatnonzero(reference.step == record["started_from"]["step"])
    after = reference[int(began[0]) :] if len(began) else reference[:0]
    same_files = record["started_from"].get("sha256") == reference.source.get("sha256")
    if not same_files or after.n_frames < 10:
        found.notes.append(
            "Bonds from the same start are left out: the learned run did not start from a frame of this CP2K run with "
            "frames after it (start one with `mld-ff run … --frame 0`)."
        )
        return
    topology = find_topology(reference.symbols, reference.positions[0], reference.cell[0])
    bonds = [
        (h, topology.neighbours[h][0]) for h, s in enumerate(topology.symbols) if s == "H" and topology.neighbours[h]
    ]
    chosen = np.random.default_rng(seed).choice(len(bonds), min(RANDOM_HYDROGENS, len(bonds)), replace=False)
    place = np.argsort(record["atom_in_source"])
    end = min(SAME_START_FS, float(after.time[-1] - after.time[0]), float(learned.time[-1]))

    def curve(t: Trajectory, i: int, j: int) -> tuple[Floats, Floats]:
        d = t.positions[:, i] - t.positions[:, j]
        inverse = np.linalg.inv(t.cell)
        d -= np.einsum("fc,fcd->fd", np.round(np.einsum("fc,fcd->fd", d, inverse)), t.cell)
        time = t.time - (after.time[0] if t is after else 0.0)
        return time[time <= end] * FS_TO_PS, np.linalg.norm(d, axis=1)[time <= end]

    data = {
        REFERENCE: [curve(after, *bonds[k]) for k in chosen],
        found.engine: [curve(learned, place[bonds[k][0]], place[bonds[k][1]]) for k in chosen],
    }
    titles = [f"{topology.symbols[bonds[k][1]]}{bonds[k][1] + 1}–H{bonds[k][0] + 1}" for k in chosen]
    caption = (
        f"Bonds of {len(titles)} hydrogens drawn at random, from the same positions and velocities; "
        f"frames are {np.diff(after.time).mean():g} fs apart."
    )
    _draw_lines(found, "same_start", caption, titles, data, ("time [ps]", "r [Å]"), lw=1.0)


def write_report(out: Path, found: Study) -> Path:
    """report.html (self-contained), report.json (every number drawn) and figures as PNG and SVG; returns the page."""
    observables = {n: {**vars(c), "within": c.within} for n, c in found.observables.items()}
    data = {
        "engine": found.engine,
        "observables": observables,
        "speed": found.speed,
        "fit": {k: v for k, v in found.loss.provenance.items() if k != "source"},
        "notes": found.notes,
        "series": found.series,
    }
    write_atomically(out / "report.json", to_json(data))
    images = []
    for name, (caption, figure) in found.figures.items():
        figure.savefig(out / f"{name}.svg")
        images.append(embedded(caption, save_figure(figure, out / f"{name}.png")))
    plt.close("all")
    page = Template(read_template("report.html")).substitute(
        style=read_template("style.css"),
        engine=LABELS.get(found.engine, found.engine),
        observables=_observables(found.observables),
        speed=_speed_sentence(found),
        errors=_errors(found.loss),
        coefficients=_coefficients(found.loss),
        notes="".join(f"<p class=note>{escape(n)}</p>" for n in found.notes),
        figures="".join(images),
    )
    write_atomically(out / "report.html", page)
    return out / "report.html"


def _observables(compared: Mapping[str, Compared]) -> str:
    verdict = {True: "yes", False: "no", None: "–"}
    rows = [
        [
            name,
            f"{c.learned:.4g} ± {c.learned_error:.2g}",
            f"{c.reference:.4g} ± {c.reference_error:.2g}",
            verdict[c.within],
        ]
        for name, c in compared.items()
    ]
    return table(["observable", "learned", REFERENCE, "agree"], rows)


def _speed_sentence(found: Study) -> str:
    s = found.speed
    if "ratio" not in s:
        return "The speed of CP2K is not known: no .ener file with its timing."
    return (
        f"CP2K {s['cp2k_steps_per_s']:.3g} steps/s ({s['cp2k_ns_per_day']:.3g} ns/day by its own timing), learned "
        f"{s['learned_steps_per_s']:.3g} steps/s ({s['learned_ns_per_day']:.3g} ns/day): {s['ratio']:.3g} times faster."
    )


def _errors(loss: AgentLoss) -> str:
    p = loss.provenance
    pairs = p.get("relative_rmse_pairs", p["relative_rmse"])
    head = ["species", "reciprocal", "agents", "price of reciprocity"]
    if loss.channels:
        head = ["species", "with channels", "pairs alone, reciprocal", "pairs alone, agents", "price of reciprocity"]
    rows = []
    for s in loss.species:
        values = [pairs[s], p["relative_rmse_agent"][s], pairs[s] - p["relative_rmse_agent"][s]]
        first = [p["relative_rmse"][s]] if loss.channels else []
        rows.append([s, *(f"{x:.4f}" for x in (*first, *values))])
    return table(head, rows)


def _coefficients(loss: AgentLoss) -> str:
    """The paper's table 1."""
    rows = []
    for term in loss.terms:
        if isinstance(term, CollectiveTerm):
            rows += [
                [term.name, "strength", f"{term.strength_eV:.6g}", ""],
                [term.name, "rest", f"{term.rest:.6g}", ""],
            ]
        errors = term.coefficient_errors or (math.nan,) * len(term.coefficients)
        for name, value, error in zip(term.coefficient_names, term.coefficients, errors, strict=True):
            rows.append([term.name, name, f"{value:.6g}", f"{error:.2g}"])
    return table(["term", "coefficient", "value [eV, Å]", "standard error"], rows)
