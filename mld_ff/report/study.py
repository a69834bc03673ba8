"""The study: learned runs beside the reference that they were learned from, number by number with
errors.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mld_ff.errors import InputError, check_seed
from mld_ff.geometry.topology import TopologyKind, topology_of
from mld_ff.inference import ExponentScan
from mld_ff.loss.model import AgentLoss
from mld_ff.loss.provenance import tells_of_a_fit
from mld_ff.origin import Origin
from mld_ff.progress import Progress, no_progress
from mld_ff.report.bonds import compare_bonds, compare_same_start
from mld_ff.report.comparison import DISTANCES, Compared, Comparison, Drawing
from mld_ff.report.diffusion import compare_diffusion
from mld_ff.report.distributions import compare_structure
from mld_ff.report.electrostatics import compare_electrostatics
from mld_ff.report.forces import compare_forces_of_loss
from mld_ff.report.heat import compare_heat
from mld_ff.report.methods import Simulated
from mld_ff.report.movies import Movie, compare_frames
from mld_ff.report.partners import compare_partners
from mld_ff.report.recomputed import RecomputedForces, compare_forces
from mld_ff.report.runs import (
    LearnedRun,
    check_comparable,
    mass_by_element,
    read_learned_runs,
)
from mld_ff.report.speed import Speed, compare_speeds
from mld_ff.report.statistics import FEWEST_FRAMES, UNKNOWN, Statistic
from mld_ff.report.style import REFERENCE, label_of, subject
from mld_ff.report.vibrations import compare_vibrations
from mld_ff.trajectory import FrameSource, Trajectory
from mld_ff.verification import Verification

MASS_TOLERANCE = 0.01
"""Part of it that the mean mass of an element may differ by: 0.5 % of a wavenumber."""

NOTEBOOK_HEIGHT_PX = 700


@dataclass
class Study:
    """Everything that the report shows; in a notebook it shows itself."""

    loss: AgentLoss
    """The model of all runs."""
    runs: dict[str, Path]
    """Directories by the names of the runs."""
    speeds: dict[str, Speed]
    """By the reference and the names of the runs, where it is known."""
    origin: Origin = field(default_factory=Origin)
    """Of the reference."""
    verification: Verification | None = None
    """The engines against numpy, where they were held against it."""
    scan: ExponentScan | None = None
    """Errors over exponents, where they were scanned."""
    recomputed: dict[str, RecomputedForces] = field(default_factory=dict)
    """What `compare_forces` says of each run that holds forces of the same frames, by its name."""
    statistics: dict[str, dict[str, Statistic]] = field(default_factory=dict)
    """Observables by the reference and the names of the runs."""
    drawings: dict[str, Drawing] = field(default_factory=dict)
    """By file name."""
    series: dict[str, Any] = field(default_factory=dict)
    """Every curve drawn, by figure and trajectory."""
    movies: dict[str, Movie] = field(default_factory=dict)
    """Frames to look at, of the reference and the runs."""
    simulated: dict[str, Simulated] = field(default_factory=dict)
    """What the reference and the runs are of."""
    notes: list[str] = field(default_factory=list)
    """What was left out, and why."""

    def __post_init__(self) -> None:
        if not self.tells_its_fit:
            self.notes.append("The model does not tell how it was fitted, nor how well.")
        if matched := self.loss.provenance.get("matched"):
            self.notes.append(f"The model's {matched.get('note', 'distances were matched')}.")

    @property
    def tells_its_fit(self) -> bool:
        """Whether the loss was fitted, and not written by hand."""
        return tells_of_a_fit(self.loss.provenance, self.loss.species)

    @property
    def is_matched(self) -> bool:
        """Whether distances were matched to those of the reference."""
        return "matched" in self.loss.provenance

    def add(self, comparison: Comparison) -> None:
        """Add what one kind of observable says."""
        for name, statistics in comparison.statistics.items():
            self.statistics.setdefault(name, {}).update(statistics)
        self.drawings |= comparison.drawings
        self.series |= comparison.series
        self.movies |= comparison.movies
        self.notes += comparison.notes

    @property
    def observables(self) -> dict[str, dict[str, Compared]]:
        """Every observable of every run beside the reference's, by observable and run."""
        expected = self.statistics.get(REFERENCE, {})
        every = [expected, *(self.statistics.get(name, {}) for name in self.runs)]
        return {
            observable: {
                name: Compared(
                    self.statistics.get(name, {}).get(observable, UNKNOWN),
                    expected.get(observable, UNKNOWN),
                    observable.endswith(DISTANCES),
                )
                for name in self.runs
            }
            for observable in dict.fromkeys(key for of_one in every for key in of_one)
        }

    def _repr_html_(self) -> str:
        """How Jupyter shows it: the light page, in a frame of its own as its styles are its own."""
        from mld_ff.report.page import light_page  # which draws studies

        return (
            f'<iframe srcdoc="{html.escape(light_page(self))}" title="Report" width="100%"'
            f' height="{NOTEBOOK_HEIGHT_PX}" style="border: 0"></iframe>'
        )

    def to_dict(self) -> dict[str, Any]:
        """What report.json holds."""
        return {**self.summary(), "series": self.series}

    def summary(self) -> dict[str, Any]:
        """The same without the curves."""
        return {
            "runs": {name: str(directory) for name, directory in self.runs.items()},
            "observables": {
                observable: _as_dict(compared) for observable, compared in self.observables.items()
            },
            "speed": {name: vars(speed) for name, speed in self.speeds.items()},
            "fit": {k: v for k, v in self.loss.provenance.items() if k != "source"},
            "terms": {t.name: {"coverage": dict(t.coverage)} for t in self.loss.terms},
            "verify": None if self.verification is None else self.verification.to_dict(),
            "scan": None if self.scan is None else self.scan.to_dict(),
            "recomputed": {name: vars(again) for name, again in self.recomputed.items()},
            "notes": self.notes,
        }


def _as_dict(compared: Mapping[str, Compared]) -> dict[str, Any]:
    """One observable: value and error of the reference and of every run, and the verdict on it."""
    reference = next(iter(compared.values())).reference
    return {
        REFERENCE: vars(reference),
        **{name: {**vars(c.learned), "within": c.within} for name, c in compared.items()},
    }


def compare_runs(
    source: FrameSource,
    directories: Sequence[Path | str],
    cutoff_A: float | None = None,
    seed: int = 1,
    scan: ExponentScan | None = None,
    recomputed: Mapping[str, Trajectory] | None = None,
    charges_e: Mapping[str, float] | None = None,
    verification: Verification | None = None,
    progress: Progress = no_progress,
) -> Study:
    """Analyse a reference run and learned runs (`mld-ff run`) of one model by the same code.

    cutoff_A: of distances between molecules; None for the default. seed: draws the hydrogens whose
    bonds are shown. scan: of the exponents of the same data, to be shown too. recomputed: some of
    the frames with forces that were computed again, by name; they tell the noise of its forces.
    charges_e: by element, for dipoles; None for the model's.
    verification: of the same model, to be shown too. Raises InputError if a run does not hold the
    molecules of the reference at its density, or the runs are of different models.
    """
    check_seed(seed)
    runs, loss = read_learned_runs(directories)
    reference = source.read()
    topology = topology_of(reference, loss.topology_kind)
    for run in runs:
        check_comparable(run, reference, topology)
    study = Study(
        loss,
        {run.name: run.directory for run in runs},
        compare_speeds(source.seconds_per_step, source.origin.timestep_fs, reference.n_atoms, runs),
        source.origin,
        verification,
        scan,
        {name: compare_forces(reference, again) for name, again in (recomputed or {}).items()},
    )
    if scan is not None:
        study.notes += _check_scan(scan, loss)
    frames = {REFERENCE: reference} | {run.name: run.settled for run in runs}
    study.simulated = {REFERENCE: Simulated.of(reference, topology)} | {
        run.name: Simulated.of(
            run.frames, topology_of(run.frames, loss.topology_kind), run.settings
        )
        for run in runs
    }
    study.notes += _too_short(frames)
    study.notes += [note for note in source.notes if "half-written" in note]
    study.add(compare_structure(frames, cutoff_A, topology.kind, progress))
    if not source.origin.is_dynamics:
        study.notes.append(_one_by_one(source.origin))
    else:
        charges_e = charges_e or (loss.charges.charges_e if loss.charges else None)
        _add_dynamics(study, source, reference, runs, seed, charges_e, progress)
    progress("frames and forces", 0, 2)
    study.add(compare_frames(loss, frames, source.origin.is_dynamics))
    progress("frames and forces", 1, 2)
    study.add(compare_forces_of_loss(loss, reference))
    progress("frames and forces", 2, 2)
    return study


def _add_dynamics(
    study: Study,
    source: FrameSource,
    reference: Trajectory,
    runs: Sequence[LearnedRun],
    seed: int,
    charges_e: Mapping[str, float] | None,
    progress: Progress,
) -> None:
    """What only consecutive frames tell; how fast atoms move, only where masses are the same."""
    progress("dynamics", 0, 3)
    frames = {REFERENCE: reference} | {run.name: run.settled for run in runs}
    study.add(compare_heat(reference, source.logged_temperature, runs))
    kind = study.loss.topology_kind
    study.add(compare_partners(frames) if kind == "none" else compare_bonds(frames, kind))
    if different := _different_masses(reference, runs):
        study.notes.append(different)
        progress("dynamics", 3, 3)
        return
    study.add(compare_same_start(reference, runs, kind, seed))
    progress("dynamics", 1, 3)
    study.add(compare_diffusion(frames, kind))
    progress("dynamics", 2, 3)
    study.add(compare_vibrations(reference, runs))
    if charges_e:
        study.add(_electrostatics(source, reference, runs, kind, charges_e))
    progress("dynamics", 3, 3)


def _electrostatics(
    source: FrameSource,
    reference: Trajectory,
    runs: Sequence[LearnedRun],
    kind: TopologyKind,
    charges_e: Mapping[str, float],
) -> Comparison:
    kelvin = reference.temperature() if reference.velocities is not None else None
    kelvin = source.logged_temperature if kelvin is None else kelvin
    mean_K = source.origin.temperature_K if kelvin is None else float(kelvin.mean())
    return compare_electrostatics(reference, runs, kind, charges_e, source.printed_dipole, mean_K)


def _different_masses(reference: Trajectory, runs: Sequence[LearnedRun]) -> str | None:
    """What to note where a run's elements are not as heavy as the reference's."""
    expected = mass_by_element(reference)
    for run in runs:
        for element, mass in mass_by_element(run.frames).items():
            if abs(mass / expected[element] - 1) > MASS_TOLERANCE:
                return (
                    f"{element} weighs {expected[element]:.4g} amu in the reference,"
                    f" {mass:.4g} amu in the run of {label_of(run.name)}: diffusion, density of"
                    " states, dipoles and bonds from the same start are left out. Structure does"
                    " not depend on masses."
                )
    return None


def _one_by_one(origin: Origin) -> str:
    who = origin.name[0].upper() + origin.name[1:]
    return (
        f"{who} computed its frames one by one ({origin.remedies.one_by_one}), not as dynamics:"
        " temperature, diffusion, density of states and everything against time are left out, and"
        " its structure is that of whatever made the frames."
    )


def _check_scan(scan: ExponentScan, loss: AgentLoss) -> list[str]:
    """What to note of a scan. Raises InputError if it is of other species."""
    if set(scan.species) != set(loss.species):
        raise InputError(
            f"the scan is of {', '.join(scan.species)}, the model of"
            f" {', '.join(loss.species)}: scan the data that the model was fitted to"
        )
    if scan.source.get("sha256") == loss.provenance.get("source", {}).get("sha256"):
        return []
    return ["The scan over exponents is of other data than those that the model was fitted to."]


def _too_short(frames: Mapping[str, Trajectory]) -> list[str]:
    return [
        f"There are only {t.n_frames} frames of {subject(name)}: its numbers have no errors, and"
        f" nothing can be said about agreement ({FEWEST_FRAMES} frames are needed)."
        for name, t in frames.items()
        if t.n_frames < FEWEST_FRAMES
    ]
