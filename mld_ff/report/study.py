"""The study: a learned run beside the CP2K run that it was learned from, number by number with
errors.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from mld_ff.errors import InputError
from mld_ff.geometry.pairs import minimum_image
from mld_ff.geometry.topology import find_topology
from mld_ff.inference import Scan
from mld_ff.loss.model import AgentLoss
from mld_ff.origin import Origin
from mld_ff.production.record import read_record
from mld_ff.production.results import read_log, read_run
from mld_ff.progress import Progress, no_progress
from mld_ff.report.plots import (
    Band,
    kinetic_energy_per_kelvin,
    plot_bonded,
    plot_kinetic_energy,
    plot_lines,
    plot_radial_distributions,
)
from mld_ff.report.recomputed import compare_forces
from mld_ff.report.spectrum import longest_stride, spectra
from mld_ff.report.statistics import (
    DIFFUSION_FROM,
    FEWEST_FRAMES,
    FRAMES_FOR_STRUCTURE,
    LAG_OF_RUN,
    SHORTEST_DIFFUSION_PS,
    Statistic,
    angles,
    diffusion,
    evenly_spaced,
    mean,
    mean_square_displacement,
    molecule_paths,
    spread,
    structure,
)
from mld_ff.report.style import REFERENCE, label_of
from mld_ff.survey import Inspection, inspect
from mld_ff.trajectory import Floats, FrameSource, Ints, Trajectory
from mld_ff.units import FS_TO_PS

EQUILIBRATION = 0.1
"""First fraction of a learned run that is left out."""
WITHIN = 2.0
"""Learned and reference agree where they differ by at most this many of their joint standard
errors.
"""
DENSITY_TOLERANCE = 0.01
RAREST_ANGLES = 1e-4
"""This fraction of the angles at either end is not drawn."""
RANDOM_HYDROGENS = 4
SAME_START_FS = 200.0
UNKNOWN = Statistic(math.nan, math.nan)


@dataclass(frozen=True)
class Compared:
    """One observable of the learned run beside CP2K's; errors are standard errors. What is not
    known is nan.
    """

    learned: float
    learned_error: float
    reference: float
    reference_error: float
    is_distance: bool = False
    """From the reference, whose own is its noise: less is no disagreement."""

    @property
    def within(self) -> bool | None:
        """Whether both agree within their errors; None where one has no error."""
        joint = math.hypot(self.learned_error, self.reference_error)
        away = self.learned - self.reference
        return (
            None
            if math.isnan(joint)
            else (away if self.is_distance else abs(away)) <= WITHIN * joint
        )

    def to_dict(self) -> dict[str, Any]:
        """Both values with their errors, and the verdict."""
        names = ("learned", "learned_error", "reference", "reference_error")
        return {**{name: getattr(self, name) for name in names}, "within": self.within}


@dataclass
class Study:
    """Everything that the report shows."""

    engine: str
    loss: AgentLoss
    speed: dict[str, float]
    origin: Origin = field(default_factory=Origin)
    """Of the reference."""
    scan: Scan | None = None
    recomputed: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What `compare_forces` says of each run that holds forces of the same frames, by its name."""
    observables: dict[str, Compared] = field(default_factory=dict)
    figures: dict[str, tuple[str, Figure]] = field(default_factory=dict)
    """Caption and figure by file name."""
    series: dict[str, Any] = field(default_factory=dict)
    """Every number drawn."""
    notes: list[str] = field(default_factory=list)
    """What was left out, and why."""

    def compare(self, statistics: Mapping[str, Mapping[str, Statistic]]) -> None:
        """Add observables, by the label of their trajectory."""
        learned, expected = statistics.get(self.engine, {}), statistics.get(REFERENCE, {})
        for name in dict.fromkeys([*expected, *learned]):
            ours, theirs = learned.get(name, UNKNOWN), expected.get(name, UNKNOWN)
            is_distance = name.endswith(("mean_abs_dg", "mean_abs_difference"))
            self.observables[name] = Compared(
                ours.value, ours.error, theirs.value, theirs.error, is_distance
            )

    def draw(
        self,
        name: str,
        caption: str,
        titles: Sequence[str],
        data: Mapping[str, Sequence[Band]],
        axes: tuple[str, str],
        **style: Any,
    ) -> None:
        """Add a figure with a panel per title, for which every label of `data` has a curve, and its
        numbers.
        """
        self.figures[name] = (caption, plot_lines(titles, data, axes, **style))
        self.series[name] = {
            label: {title: _rounded(curve) for title, curve in zip(titles, curves, strict=True)}
            for label, curves in data.items()
        }


def study(
    source: FrameSource,
    run: Path | str,
    cutoff_A: float | None = None,
    seed: int = 1,
    scan: Scan | None = None,
    recomputed: Mapping[str, Trajectory] | None = None,
    progress: Progress = no_progress,
) -> Study:
    """Analyse a CP2K run and a learned run (`mld-ff run`) by the same code.

    scan: of the exponents of the same data, to be shown too. recomputed: some of the frames with
    forces that CP2K computed again, by name; they tell the noise of its forces. Raises InputError
    if they do not hold the same molecules at the same density.
    """
    run = Path(run)
    record, trajectory, log = read_record(run).to_dict(), read_run(run), read_log(run)
    reference = source.read()
    engine = str(record["engine"])
    _same_system(reference, trajectory, run)
    loss = AgentLoss.load(run / "model.json")
    frames = {REFERENCE: reference, engine: trajectory[int(EQUILIBRATION * trajectory.n_frames) :]}
    again = {name: compare_forces(reference, frames) for name, frames in (recomputed or {}).items()}
    found = Study(engine, loss, _speeds(source, record), source.origin, scan, again)
    if matched := loss.provenance.get("matched"):
        found.notes.append(f"The model's {matched['note']}.")
    _check_scan(found)
    _too_short(found, frames)
    _compare_structure(found, frames, cutoff_A, progress)
    heat = {engine: (log["time_ps"], log["temperature_K"])}
    origin = source.origin
    if not origin.is_dynamics:
        found.notes.append(
            f"{origin.name[0].upper() + origin.name[1:]} computed its frames one by one"
            f" ({origin.remedies.one_by_one}), not as"
            " dynamics: temperature, diffusion, density of states and everything against time are"
            " left out, and its structure is that of whatever made the frames."
        )
        return found
    temperature = (
        source.logged_temperature if reference.velocities is None else reference.temperature()
    )
    if temperature is not None:
        heat = {REFERENCE: ((reference.time - reference.time[0]) * FS_TO_PS, temperature), **heat}
    _compare_heat(found, frames, heat, float(record["settings"]["temperature_K"]))
    _draw_bond_in_time(found, frames)
    _draw_same_start(found, reference, trajectory, record, seed)
    progress("dynamics", 1, 3)
    _compare_diffusion(found, frames)
    progress("dynamics", 2, 3)
    _compare_spectra(found, frames, source, record)
    progress("dynamics", 3, 3)
    return found


def _same_system(reference: Trajectory, learned: Trajectory, run: Path) -> None:
    ours, theirs = (
        find_topology(t.symbols, t.positions[0], t.cell[0]) for t in (learned, reference)
    )
    kinds = [{f: n / len(t.molecules) for f, n in t.formulas().items()} for t in (ours, theirs)]
    if kinds[0] != kinds[1]:
        raise InputError(
            f"holds {ours.formulas()}, the reference {theirs.formulas()}: nothing to compare", run
        )
    densities = [
        t.masses.sum() / np.abs(np.linalg.det(t.cell)).mean() for t in (learned, reference)
    ]
    if abs(densities[0] / densities[1] - 1) > DENSITY_TOLERANCE:
        raise InputError(
            f"its density is {densities[0] / densities[1]:.3f} times that of the reference:"
            " structure and dynamics of different densities are not comparable; run at the"
            " reference's cell",
            run,
        )


def _speeds(source: FrameSource, record: Mapping[str, Any]) -> dict[str, float]:
    """Steps per second and ns/day of CP2K (its own timing) and of the learned run, and their
    ratio.
    """
    speed = {}
    seconds, timestep = source.seconds_per_step, source.origin.timestep_fs
    if seconds and timestep:
        speed["cp2k_steps_per_s"] = 1 / seconds
        speed["cp2k_ns_per_day"] = 86400 / seconds * timestep * 1e-6
    if wall := record.get("wall_s"):
        settings = record["settings"]
        speed["learned_steps_per_s"] = (
            settings["time_ps"] / (settings["timestep_fs"] * FS_TO_PS) / wall
        )
        speed["learned_ns_per_day"] = 86.4 * settings["time_ps"] / wall
    if "cp2k_ns_per_day" in speed and "learned_ns_per_day" in speed:
        speed["ratio"] = speed["learned_ns_per_day"] / speed["cp2k_ns_per_day"]
    return speed


def _check_scan(found: Study) -> None:
    if (scan := found.scan) is None:
        return
    if set(scan.species) != set(found.loss.species):
        raise InputError(
            f"the scan is of {', '.join(scan.species)}, the model of"
            f" {', '.join(found.loss.species)}: scan the data that the model was fitted to"
        )
    if scan.source.get("sha256") != found.loss.provenance.get("source", {}).get("sha256"):
        found.notes.append(
            "The scan over exponents is of other data than those that the model was fitted to."
        )


def _too_short(found: Study, frames: Mapping[str, Trajectory]) -> None:
    for label, t in frames.items():
        if t.n_frames < FEWEST_FRAMES:
            found.notes.append(
                f"{_name(label)} has only {t.n_frames} frames: its numbers have no errors, and"
                f" nothing can be said about agreement ({FEWEST_FRAMES} frames are needed)."
            )


def _compare_structure(
    found: Study, frames: Mapping[str, Trajectory], cutoff_A: float | None, progress: Progress
) -> None:
    some = {label: spread(t, FRAMES_FOR_STRUCTURE) for label, t in frames.items()}
    reference = inspect(some[REFERENCE], cutoff_A, progress)
    cutoff_A = reference.survey.cutoff_A
    seen = {
        label: reference if label == REFERENCE else inspect(t, cutoff_A, progress)
        for label, t in some.items()
    }
    statistics = {}
    for done, (label, t) in enumerate(some.items()):
        progress("structure", done, len(some))
        statistics[label] = structure(t, seen[label], reference)
    progress("structure", len(some), len(some))
    found.compare(statistics)
    for label, inspection in seen.items():
        found.notes += [f"{_name(label)}: {warning}" for warning in inspection.warnings()]
        if some[label].n_frames < frames[label].n_frames:
            found.notes.append(
                f"Distances and angles of {_name(label)} are those of {some[label].n_frames}"
                f" frames, spread evenly over {frames[label].n_frames}."
            )
    _draw_structure(found, some, seen)


def _draw_structure(
    found: Study, frames: Mapping[str, Trajectory], seen: Mapping[str, Inspection]
) -> None:
    names = [n for n in seen[REFERENCE].survey.distances if n.startswith("free:")]
    if names:
        found.figures["rdf"] = ("Radial distribution functions.", plot_radial_distributions(seen))
        found.series["rdf"] = {
            k: {n: _rounded(i.radial_distribution(n)) for n in names} for k, i in seen.items()
        }
    if (bonded := plot_bonded(seen)) is not None:
        found.figures["bonded"] = ("Distances inside molecules.", bonded)
        found.series["bonded"] = {
            k: {
                n: h.to_dict(0.01) for n, h in i.survey.distances.items() if n.startswith("bonded:")
            }
            for k, i in seen.items()
        }
    values = {label: angles(i.survey.topology, frames[label]) for label, i in seen.items()}
    curves: dict[str, list[Band]] = {label: [] for label in frames}
    for path in values[REFERENCE]:
        every = np.concatenate([v[path].ravel() for v in values.values()])
        low, high = np.quantile(every, (RAREST_ANGLES, 1 - RAREST_ANGLES)).tolist()
        bins = np.linspace(low, high, 61)
        for label, v in values.items():
            curves[label].append(
                ((bins[1:] + bins[:-1]) / 2, np.histogram(v[path], bins, density=True)[0])
            )
    if titles := ["–".join(p) for p in values[REFERENCE]]:
        found.draw("angles", "Bond angles.", titles, curves, ("angle [°]", "density [1/°]"))


def _compare_heat(
    found: Study,
    frames: Mapping[str, Trajectory],
    heat: Mapping[str, tuple[Floats, Floats]],
    target_K: float,
) -> None:
    """heat: time [ps] and temperature [K] of either trajectory."""
    settled = {label: t for label, t in heat.items()}
    time, temperature = heat[found.engine]
    settled[found.engine] = time, temperature[time >= frames[found.engine].time[0] * FS_TO_PS]
    found.compare(
        {label: {"temperature_K": mean(temperature)} for label, (_, temperature) in settled.items()}
    )
    n_atoms = {label: t.n_atoms for label, t in frames.items()}
    caption = (
        "Kinetic energy against time (thin) and its running mean (thick); dotted: what the"
        " thermostat is set to."
    )
    found.figures["kinetic_energy"] = (caption, plot_kinetic_energy(heat, n_atoms, target_K))
    found.series["kinetic_energy_eV_per_atom"] = {
        label: _rounded((time, temperature * kinetic_energy_per_kelvin(n_atoms[label])))
        for label, (time, temperature) in heat.items()
    }
    if REFERENCE not in heat:
        found.notes.append(
            f"{REFERENCE}'s kinetic energy is not known: {found.origin.remedies.kinetic_energy}."
        )


def _draw_bond_in_time(found: Study, frames: Mapping[str, Trajectory]) -> None:
    first = frames[REFERENCE]
    bonds = [
        p
        for p in find_topology(first.symbols, first.positions[0], first.cell[0]).bonded
        if len(p) == 2
    ]
    if not bonds:
        return
    shown = ("O", "H") if ("O", "H") in bonds else bonds[-1]
    curves: dict[str, list[Band]] = {}
    common = min(float(t.time[-1] - t.time[0]) for t in frames.values())
    for label, every in frames.items():
        t = every[every.time - every.time[0] <= common]
        pairs = find_topology(t.symbols, t.positions[0], t.cell[0]).bonded[shown]
        r = np.array(
            [minimum_image(x, c, pairs).r for x, c in zip(t.positions, t.cell, strict=True)]
        )
        time = (t.time - t.time[0]) * FS_TO_PS
        curves[label] = [(time, r.mean(axis=1)), (time, r.std(axis=1))]
    bond = "–".join(shown)
    titles = [f"mean {bond}", f"deviation of {bond}"]
    caption = (
        f"Mean and deviation of all {bond} bonds against time (thin) and their running means"
        " (thick)."
    )
    found.draw(
        "bond_in_time", caption, titles, curves, ("time [ps]", "[Å]"), running_mean=True, ls="-"
    )


def _compare_diffusion(found: Study, frames: Mapping[str, Trajectory]) -> None:
    """Over the same lags: displacements are not yet proportional to the time in runs as short as
    CP2K's.
    """
    if uneven := [_name(label) for label, t in frames.items() if not evenly_spaced(t)]:
        found.notes.append(
            f"Diffusion is left out: frames of {' and '.join(uneven)} are not equally far apart in"
            " time."
        )
        return
    longest = LAG_OF_RUN * FS_TO_PS * min(float(t.time[-1] - t.time[0]) for t in frames.values())
    statistics: dict[str, dict[str, Statistic]] = {}
    curves: dict[str, list[Band]] = {}
    formulas: list[str] = []
    for label, t in frames.items():
        paths = molecule_paths(find_topology(t.symbols, t.positions[0], t.cell[0]), t)
        formulas = list(paths)
        statistics[label], curves[label] = {}, []
        for formula, path in paths.items():
            name = "diffusion_A2_per_ps" if len(paths) == 1 else f"diffusion_A2_per_ps {formula}"
            lag, msd = mean_square_displacement(path, float(np.diff(t.time).mean()), longest)
            statistics[label][name] = diffusion(lag, msd)
            n = msd.shape[1]
            error = msd.std(axis=1, ddof=1) / math.sqrt(n) if n > 1 else np.full(len(lag), np.nan)
            curves[label].append((lag, msd.mean(axis=1), error))
    found.compare(statistics)
    if longest < SHORTEST_DIFFUSION_PS:
        found.notes.append(
            f"Diffusion is left out: displacements can be followed for {longest:.2g} ps only, a"
            f" quarter of the shorter run; {SHORTEST_DIFFUSION_PS:g} ps are needed."
        )
    caption = (
        "Mean-square displacement of centres of mass. The diffusion constant is a sixth of its"
        f" slope from {DIFFUSION_FROM:g} of the longest lag on, with the error of the mean over the"
        " molecules (bands)."
    )
    found.draw("displacement", caption, formulas, curves, ("lag [ps]", "MSD [Å²]"))


def _compare_spectra(
    found: Study, frames: Mapping[str, Trajectory], source: FrameSource, record: Mapping[str, Any]
) -> None:
    def run_again(stride_fs: float) -> str:
        timestep = record["settings"]["timestep_fs"]
        every = max(1, int(stride_fs / timestep)) * timestep if math.isfinite(stride_fs) else 10.0
        return f"Run it with `mld-ff run … --velocities --every {every:g}`."

    shown, against = spectra(
        {_name(label): t for label, t in frames.items()},
        float(record["settings"]["temperature_K"]),
        {REFERENCE: source.origin.denser, _name(found.engine): run_again},
    )
    found.notes += against
    if not shown:
        return
    by_label = {label: shown[_name(label)] for label in frames}
    found.compare({label: s.numbers for label, s in by_label.items()})
    species = list(by_label[REFERENCE].density)
    curves = {
        label: [(s.per_cm, s.density[x], s.error[x]) for x in species]
        for label, s in by_label.items()
    }
    caption = (
        "Vibrational density of states: power spectrum of the velocities of each species, its"
        f" integral 1, with block errors (bands); lines are {by_label[REFERENCE].width_per_cm:.0f}"
        " cm⁻¹ wide."
    )
    found.draw("spectrum", caption, species, curves, ("wavenumber [cm⁻¹]", "density [1/cm⁻¹]"))


def _name(label: str) -> str:
    return label_of(label)


def _rounded(curve: Sequence[Floats]) -> list[list[float]]:
    return [[float(f"{x:.7g}") for x in np.asarray(c, dtype=float).tolist()] for c in curve]


def _draw_same_start(
    found: Study, reference: Trajectory, learned: Trajectory, record: Mapping[str, Any], seed: int
) -> None:
    """The paper's figure 5: bonds to hydrogens drawn at random, both runs from the same positions
    and velocities.
    """
    began = np.flatnonzero(reference.step == record["started_from"]["step"])
    after = reference[int(began[0]) :] if len(began) else reference[:0]
    same_files = record["started_from"].get("sha256") == reference.origin.sha256
    if not same_files or after.n_frames < 10:
        found.notes.append(
            "Bonds from the same start are left out: the learned run did not start from a frame of"
            " this CP2K run with frames after it (start one with `mld-ff run … --cp2k … --frame"
            " 0`)."
        )
        return
    topology = find_topology(reference.symbols, reference.positions[0], reference.cell[0])
    bonds = [
        (h, topology.neighbours[h][0])
        for h, s in enumerate(topology.symbols)
        if s == "H" and topology.neighbours[h]
    ]
    if not bonds:
        return
    chosen = np.random.default_rng(seed).choice(
        len(bonds), min(RANDOM_HYDROGENS, len(bonds)), replace=False
    )
    pairs = np.array([bonds[k] for k in chosen])
    place = np.argsort(record["atom_in_source"])
    end = min(SAME_START_FS, float(after.time[-1] - after.time[0]), float(learned.time[-1]))

    def curves(every: Trajectory, atoms: Ints, start_fs: float) -> list[Band]:
        t = every[every.time - start_fs <= end]
        r = np.array(
            [minimum_image(x, c, atoms).r for x, c in zip(t.positions, t.cell, strict=True)]
        )
        return [((t.time - start_fs) * FS_TO_PS, of_one) for of_one in r.T]

    data = {
        REFERENCE: curves(after, pairs, float(after.time[0])),
        found.engine: curves(learned, place[pairs], 0.0),
    }
    titles = [f"{topology.symbols[x]}{x + 1}–H{h + 1}" for h, x in pairs.tolist()]
    caption = (
        f"Bonds of {len(titles)} hydrogens drawn at random, from the same positions and velocities."
    )
    resolved = longest_stride(after, float(record["settings"]["temperature_K"]))
    strides = {REFERENCE: after, found.engine: learned}
    coarse = {label for label, t in strides.items() if float(np.diff(t.time).mean()) > resolved}
    if coarse:
        caption += (
            f" Points where frames are further apart than the {resolved:.1f} fs that the vibration"
            " asks for: lines between them would be wrong."
        )
    found.draw(
        "same_start", caption, titles, data, ("time [ps]", "r [Å]"), points=coarse, ls="-", lw=1.0
    )
