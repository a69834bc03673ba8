"""Match: run what was learned, and move it until distances occur as often as in CP2K, as far as
forces allow.

A fit to forces alone leaves combinations of coefficients almost free that the structure of a liquid
depends on; the frames that the forces belong to tell those too, by how often they show a distance
(`inference.averages`). A round is a run of the model at the temperature of the CP2K run, and a step
of the coefficients of pairs that the difference of averages asks for. Labels of frames (`refine`)
and runs without forces, which are cheaper to keep, can take part.

What was matched is not predicted: radial distributions at this temperature and density no longer
prove the model.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
from ase.geometry import cell_to_cellpar

from mld_ff.engines.registry import fastest, find_engine
from mld_ff.engines.settings import MD, Device
from mld_ff.errors import CheckFailed, InputError, check_positive
from mld_ff.files import to_json, write_atomically
from mld_ff.geometry.pairs import default_cutoff
from mld_ff.geometry.system import changes
from mld_ff.geometry.topology import Topology, topology_of
from mld_ff.inference import Basis, Dataset, fit
from mld_ff.inference.accumulation import MOST_CHANGED
from mld_ff.inference.dataset import check_same_kinds
from mld_ff.inference.errors import measure
from mld_ff.inference.fitting import Fit
from mld_ff.loss.model import AgentLoss
from mld_ff.progress import Progress, no_progress
from mld_ff.report.observables import mean_abs_dg
from mld_ff.survey import Inspection, inspect
from mld_ff.trajectory import Floats, FrameSource, Trajectory, concatenate
from mld_ff.units import EV_PER_A3_TO_BAR, FS_TO_PS, KB_EV_PER_K
from mld_ff.workflows.matching.averages import (
    Averages,
    pair_coefficients,
    pooled,
    with_pair_coefficients,
)
from mld_ff.workflows.matching.valley import Valley
from mld_ff.workflows.rounds import begin, frames_of_run, run_once

STATE = "match.json"
MODEL = "model.json"
FORMAT, VERSION = "mld_ff matching", 1
PRICE = 0.02
SHORT = 0.25
"""A step shorter than this (see `Averages.length`) is hardly more than the noise of a run: the
model stays.
"""
EQUILIBRATION = 0.1
"""First fraction of a run that is left out."""
STRETCHES = 5
"""Of a run: from what their pressures differ by comes its error."""
WIDTH_A = 0.05
"""Of bins of radial distributions."""
SAME_CELL = 1e-3
"""[Å and degrees]."""
SAME_TEMPERATURE = 0.03
"""Part of it that the temperatures of runs may differ by: short ones scatter by so much."""


@dataclass(frozen=True)
class Settings:
    """What matching does in every round."""

    basis: Basis = field(default_factory=Basis)
    md: MD = field(default_factory=lambda: MD(time_ps=50.0, every_fs=20.0))
    """Of every run, at the temperature of the CP2K run."""
    engine: str = fastest().name
    """That runs the models."""
    platform: str | None = None
    """Of engines that have a choice. If not given, the fastest present."""
    price: float = PRICE
    """By how much, at most, the squared error of forces may grow for structure: 0.02 is 1 % of the
    error.
    """
    pressure_bar: float | None = None
    """That the cell of the CP2K run shall have, at any price, so that runs at that pressure keep
    its density. If not given, it is left as it comes out: forces do not tell it.
    """

    def __post_init__(self) -> None:
        check_positive(price=self.price)
        frames = int((1 - EQUILIBRATION) * (self.md.steps // self.md.every))
        if frames < 2 * STRETCHES:
            raise InputError(
                f"runs of {self.md.time_ps:g} ps with a frame every {self.md.every_fs:g} fs leave"
                f" {frames} frames to average over, and {2 * STRETCHES} are the least: run longer"
            )
        if self.pressure_bar is not None and not math.isfinite(self.pressure_bar):
            raise InputError(f"pressure_bar is {self.pressure_bar}; it must be a number")
        if self.md.ensemble != "nvt":
            raise InputError(
                "runs are matched at constant volume and temperature; the ensemble is"
                f" {self.md.ensemble}"
            )


@dataclass(frozen=True)
class Matching:
    """What `match` came to."""

    loss: AgentLoss
    rounds: tuple[dict[str, Any], ...]
    """By round: `rmse_meV_per_A` and `relative_rmse` of its model on unseen frames, `price`
    (`Valley.price`),
    `mean_abs_dg` of its run to CP2K by kind of free pair, its `pressure_bar` with its `error_bar`
    where one was asked for, the length of the `step` that all runs so far ask for
    (`Averages.length`), and whether it is `done`: no step is worth taking.
    """
    noise: dict[str, float]
    """Of `mean_abs_dg`: half of what the halves of the CP2K runs differ by."""
    finished: bool
    """Whether the last round asked for no step worth taking."""

    def to_dict(self) -> dict[str, Any]:
        error = {k: self.loss.provenance[k] for k in ("rmse_meV_per_A", "relative_rmse")}
        return {
            "finished": self.finished,
            **error,
            "noise": self.noise,
            "rounds": list(self.rounds),
        }


def match(
    sources: FrameSource | Sequence[FrameSource],
    directory: Path | str,
    settings: Settings | None = None,
    rounds: int = 5,
    labels: Sequence[FrameSource] = (),
    progress: Progress = no_progress,
) -> Matching:
    """At most `rounds` rounds, or what is left of them in `directory`; model.json there is the last
    model, as it ran.

    sources: runs in equilibrium, of one system at one temperature and in one cell, with or without
    forces. Each counts by its length in time. labels: frames with forces that are no run in
    equilibrium, for the fit alone: beside the forces of the runs they only train, but where no run
    has forces they are all there is. Raises InputError if runs do not belong together or the
    directory holds something else, CheckFailed if a model fails, and what fits and runs raise.
    """
    runs = tuple(sources) if isinstance(sources, Sequence) else (sources,)
    settings, out = settings or Settings(), Path(directory)
    check_positive(rounds=rounds)
    # what is missing is said before the fit
    find_engine(settings.engine, Device(settings.platform))
    work = _Work(runs, tuple(labels), settings, progress)
    data = {
        "runs": [_frames_in(run) for run in runs],
        "labels": [_frames_in(frames) for frames in labels],
    }
    state = begin(out / STATE, FORMAT, VERSION, {"settings": asdict(settings), "data": data})
    for k in range(1, max(rounds, len(state["rounds"])) + 1):
        where = out / f"round-{k}"
        if k > len(state["rounds"]):
            row, following = _round(k, _model(k, where, work), where, work)
            if following:
                following.save(out / f"round-{k + 1}" / MODEL)
            state["rounds"].append(row)
            write_atomically(out / STATE, to_json(state, indent=1))
        if state["rounds"][k - 1]["done"]:
            break
    done = tuple(state["rounds"])
    loss = _told(AgentLoss.load(where / MODEL), runs, work, done)
    loss.save(out / MODEL)
    return Matching(loss, done, work.noise, bool(done[-1]["done"]))


def _frames_in(source: FrameSource) -> dict[str, Any]:
    """What tells whether it is the same."""
    first = next(source.chunks(1))
    return {
        "sha256": source.origin.sha256,
        "frames": source.n_frames,
        "first_step": int(first.step[0]),
    }


class _Work:
    """What every round needs of the CP2K runs, computed when it is asked for."""

    def __init__(
        self,
        runs: tuple[FrameSource, ...],
        labels: tuple[FrameSource, ...],
        settings: Settings,
        progress: Progress,
    ) -> None:
        self.settings, self.progress = settings, progress
        if not runs:
            raise InputError("give at least one run to match")
        for number, run in enumerate(runs, 1):
            if not run.origin.is_dynamics:
                raise InputError(
                    f"run {number} holds frames that {run.origin.name} computed one by one"
                    f" ({run.origin.remedies.one_by_one}), no dynamics: give them to the fit alone"
                    " (--labels)"
                )
        with_forces = tuple(run for run in runs if next(run.chunks(1)).forces is not None)
        if not with_forces + labels:
            raise InputError(
                f"no run has forces: {runs[0].origin.remedies.forces}, or give labelled frames"
                " (--labels)"
            )
        self.dataset = Dataset(with_forces or labels, progress)
        if with_forces and labels:
            self.dataset = Dataset((*with_forces, *labels), progress, only_train=len(labels))
        found = [_read(run) for run in runs]
        self.read = [frames for frames, _, _ in found]
        """Positions of every run."""
        self.topologies = [topology_of(frames) for frames in self.read]
        self.start = _sound(found[0][1], self.topologies[0])
        """Of every run of a model."""
        _check_alike(self.read, self.topologies)
        self.temperature_K = _temperature(runs, [temperature for _, _, temperature in found])
        widths = [frames.half_width for frames in (*self.read, self.start.standard_cell())]
        self.cutoff_A = default_cutoff(min(widths))
        """To which radial distributions are compared."""
        self.seen = dict[int, _Seen]()
        """By round."""

    @cached_property
    def fit(self) -> Fit:
        return fit(self.dataset, self.settings.basis)

    @cached_property
    def valley(self) -> Valley:
        return Valley.around(self.fit)

    @property
    def kT_eV(self) -> float:
        return KB_EV_PER_K * self.temperature_K

    @property
    def ideal(self) -> float:
        """Pressure [eV/Å³] of an ideal gas of these atoms, whose centre of mass is at rest."""
        return float(
            (self.start.n_atoms - 1) * self.kT_eV / np.abs(np.linalg.det(self.start.cell[0]))
        )

    @cached_property
    def weights(self) -> Floats:
        """Of the runs, by their length in time."""
        length = np.array([frames.time[-1] - frames.time[0] for frames in self.read])
        return np.asarray(length / length.sum())

    @cached_property
    def wanted(self) -> Floats:
        """Means over all runs, for the models of all rounds: what these differ by does not touch
        unit energies.
        """
        found = [
            Averages.of(self.fit.loss, frames, topology, progress=self.progress)
            for frames, topology in zip(self.read, self.topologies, strict=True)
        ]
        return pooled(found, self.weights).mean

    @cached_property
    def halves(self) -> list[dict[str, Floats]]:
        """Radial distributions of the first halves of the runs, and of the second ones."""
        found = []
        for half in (0, 1):
            parts = [
                frames[half * (n := frames.n_frames // 2) : n + half * frames.n_frames]
                for frames in self.read
            ]
            each = [_radial(inspect(part, self.cutoff_A, self.progress)) for part in parts]
            found.append(
                {
                    name: sum(w * g[name] for w, g in zip(self.weights, each, strict=True))
                    for name in each[0]
                }
            )
        return found

    @cached_property
    def noise(self) -> dict[str, float]:
        return {name: value / 2 for name, value in _differences(*self.halves).items()}

    def differences(self, frames: Trajectory) -> dict[str, float]:
        """Mean |Δg| of a run to CP2K's, by kind of free pair."""
        first, second = self.halves
        whole = {name: (g + second[name]) / 2 for name, g in first.items()}
        return _differences(_radial(inspect(frames, self.cutoff_A, self.progress)), whole)


def _read(run: FrameSource) -> tuple[Trajectory, Trajectory, float | None]:
    """Positions of a run, all it has of its last frames, and its mean kinetic temperature [K] if it
    has velocities.
    """
    parts, temperatures, last = [], list[float](), None
    for frames in run.chunks():
        parts.append(replace(frames, forces=None, velocities=None, energy=None))
        if frames.velocities is not None:
            temperatures += frames.temperature().tolist()
        last = frames
    assert last is not None
    return concatenate(parts), last, mean(temperatures) if temperatures else None


def _sound(frames: Trajectory, topology: Topology) -> Trajectory:
    """The last of some frames whose bonds hold. Raises InputError."""
    for f in reversed(range(frames.n_frames)):
        if not changes(topology, frames[f]):
            return frames[f]
    raise InputError(
        "bonds are broken at the end of the first run, where runs of the model would start: cut it"
        " short"
    )


def _temperature(runs: Sequence[FrameSource], means: Sequence[float | None]) -> float:
    """What the thermostat of the first run is set to, else its mean. Raises InputError if the runs
    differ.
    """
    first: float | None = None
    for number, (run, average) in enumerate(zip(runs, means, strict=True), 1):
        kelvin = run.origin.thermostat_K or average
        if kelvin is None and run.logged_temperature is not None:
            kelvin = float(np.mean(run.logged_temperature))
        if kelvin is None:
            raise InputError(
                f"the temperature of run {number} is not known: {run.origin.remedies.temperature}"
            )
        first = first or kelvin
        if abs(kelvin / first - 1) > SAME_TEMPERATURE:
            raise InputError(
                f"run {number} is of {kelvin:.0f} K, the first of {first:.0f} K: runs are"
                " matched at one temperature; forces of another one can take part in the fit"
                " (--labels)"
            )
    assert first is not None
    return first


def _model(k: int, where: Path, work: _Work) -> AgentLoss:
    """What lies there, from the round before; the fit, for the first."""
    if k > 1 or (where / MODEL).exists():
        return AgentLoss.load(where / MODEL)
    work.fit.loss.save(where / MODEL)
    return work.fit.loss


def _round(
    k: int, loss: AgentLoss, where: Path, work: _Work
) -> tuple[dict[str, Any], AgentLoss | None]:
    """What the round of a model says, and the model that follows unless no step is worth taking."""

    def tell(what: str, done: int, total: int) -> None:
        work.progress(f"round {k} {what}", done, total)

    settings = work.settings
    md = replace(settings.md, temperature_K=work.temperature_K)
    if stopped := run_once(
        where / "run", loss, work.start, md, settings.engine, tell, Device(settings.platform)
    ):
        raise CheckFailed(
            f"the run of round {k} stopped in {where / 'run'}: {stopped}. If it is the model that"
            " fails, learn more frames (`mld-ff refine`), or begin in another directory with a"
            " smaller price"
        )
    for j in range(1, k + 1):
        if j not in work.seen:
            work.seen[j] = _seen(where.parent / f"round-{j}", work, tell)
    frames, now, target = _settled(where, work), pair_coefficients(loss), settings.pressure_bar
    found, error_bar = _combined(list(work.seen.values()), now, work.kT_eV)
    push, quiet = None, True
    if target is not None:
        push = target / EV_PER_A3_TO_BAR - work.ideal - float(found.mean[len(now)])
        quiet = abs(push) * EV_PER_A3_TO_BAR < 2 * error_bar
    step = work.valley.step(now, work.wanted, found, work.kT_eV, settings.price, push)
    done = step.length < SHORT and quiet
    row = {
        "round": k,
        **{key: loss.provenance[key] for key in ("rmse_meV_per_A", "relative_rmse")},
        "price": work.valley.price(now),
        "mean_abs_dg": work.differences(frames),
        **work.seen[k].pressure,
        "step": step.length,
        "done": done,
    }
    if done:
        return row, None
    following = with_pair_coefficients(loss, step.coefficients, work.fit.data)
    errors = measure(work.dataset, following, work.fit.problem.test)
    return row, replace(following, provenance={**loss.provenance, **errors.to_dict()})


@dataclass(frozen=True)
class _Seen:
    """What the run of a round shows."""

    coefficients: Floats
    averages: Averages
    pressure: dict[str, float]
    """`pressure_bar` and `error_bar`, where one is asked for."""


def _seen(where: Path, work: _Work, progress: Progress) -> _Seen:
    loss, frames = AgentLoss.load(where / MODEL), _settled(where, work)
    cuts, told = np.arange(STRETCHES + 1) * frames.n_frames // STRETCHES, dict[str, float]()
    with_pressure, now = work.settings.pressure_bar is not None, pair_coefficients(loss)
    topology = topology_of(work.start)
    try:
        each = [
            Averages.of(loss, frames[a:b], topology, with_pressure, progress)
            for a, b in pairwise(cuts)
        ]
    except InputError as error:
        raise CheckFailed(
            f"the run in {where / 'run'} cannot be averaged ({error}): learn more frames (`mld-ff"
            " refine`)"
        ) from None
    whole = pooled(each, [one.frames for one in each])
    if with_pressure:
        bar, *bars = [
            (float(one.mean[len(now)]) + work.ideal) * EV_PER_A3_TO_BAR for one in (whole, *each)
        ]
        told = {"pressure_bar": bar, "error_bar": stdev(bars) / math.sqrt(STRETCHES)}
    return _Seen(now, whole, told)


def _combined(seen: Sequence[_Seen], now: Floats, kT_eV: float) -> tuple[Averages, float]:
    """Averages with coefficients `now` from all runs so far, and the error of their pressure [bar]
    (0: not known).

    A run of other coefficients counts by what part of its frames would, were they weighed by their
    probability: exp(-length²) for energies that are normally distributed.
    """
    lengths = np.array([one.averages.length(now - one.coefficients, kT_eV) for one in seen])
    weights = np.exp(lengths.min() ** 2 - lengths**2)
    moved = [one.averages.moved(now - one.coefficients, kT_eV) for one in seen]
    errors = np.array([one.pressure.get("error_bar", 0.0) for one in seen])
    return pooled(moved, weights), float(np.sqrt(weights**2 @ errors**2) / weights.sum())


def _settled(where: Path, work: _Work) -> Trajectory:
    """The frames of a round's run that count."""
    frames = frames_of_run(where / "run", work.start)
    return frames[int(EQUILIBRATION * frames.n_frames) :]


def _told(
    loss: AgentLoss, runs: Sequence[FrameSource], work: _Work, rounds: Sequence[dict[str, Any]]
) -> AgentLoss:
    """The model, with where its structure comes from."""
    ps, last = (
        float(sum(frames.time[-1] - frames.time[0] for frames in work.read)) * FS_TO_PS,
        rounds[-1],
    )
    matched: dict[str, Any] = {
        "temperature_K": work.temperature_K,
        "time_ps": ps,
        "runs": [run.origin.to_dict() for run in runs],
        **{
            key: last[key]
            for key in ("price", "mean_abs_dg", "pressure_bar", "error_bar")
            if key in last
        },
        "noise": work.noise,
        "note": (
            f"distances were matched to {ps:.3g} ps of CP2K at {work.temperature_K:g} K (`mld-ff"
            " match`): radial distributions at this temperature and density were learned, not"
            " predicted"
        ),
    }
    return replace(loss, provenance={**loss.provenance, "matched": matched})


def _check_alike(runs: Sequence[Trajectory], topologies: Sequence[Topology]) -> None:
    """Raise InputError unless the runs are of the same molecules in one cell, which stays, and
    last.
    """
    if not topologies[0].free:
        raise InputError(
            "the system has one molecule, and no distances between molecules to match: `mld-ff"
            " fit` it"
        )
    first, expected = cell_to_cellpar(runs[0].cell[0]), topologies[0].formulas()
    for number, (frames, topology) in enumerate(zip(runs, topologies, strict=True), 1):
        if topology.formulas() != expected:
            here, there = (
                ", ".join(f"{n} {f}" for f, n in x.items()) for x in (topology.formulas(), expected)
            )
            raise InputError(
                f"run {number} holds {here}, the first {there}: only runs of one box add up"
            )
        check_same_kinds(topology, topologies[0])
        if (
            away := max(
                np.abs(cell_to_cellpar(c) - first).max() for c in np.unique(frames.cell, axis=0)
            )
        ) > SAME_CELL:
            raise InputError(
                f"the cell of run {number} is not always that of the first frame of all ({away:.3f}"
                " Å or degrees away): matching needs runs at one constant volume (NVT)"
            )
        if frames.n_frames < 4 or not frames.time[-1] > frames.time[0]:
            raise InputError(
                f"run {number} is no stretch of time: give labelled frames to the fit alone"
                " (--labels)"
            )
        broken = len({change.step for change in changes(topology, frames)})
        if broken > MOST_CHANGED * frames.n_frames:
            raise InputError(
                f"bonds are broken in {broken} of {frames.n_frames} frames of run {number}: no"
                " force field with fixed bonds describes it"
            )


def _radial(inspection: Inspection) -> dict[str, Floats]:
    names = [name for name in inspection.survey.distances if name.startswith("free:")]
    return {name: inspection.radial_distribution(name, WIDTH_A)[1] for name in names}


def _differences(found: dict[str, Floats], expected: dict[str, Floats]) -> dict[str, float]:
    return {
        name: mean_abs_dg(WIDTH_A * (np.arange(len(g), dtype=np.float64) + 0.5), g, expected[name])
        for name, g in found.items()
        if name in expected
    }
