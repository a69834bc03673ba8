"""Match: run what was learned, and move it until distances occur as often as in the reference, as
far as forces allow.

A fit to forces alone leaves combinations of coefficients almost free that the structure of a liquid
depends on; the frames that the forces belong to tell those too, by how often they show a distance
(`averages`). A round is a run of the model at the temperature of the reference, and a step of the
coefficients of pairs that the difference of averages asks for. Labels of frames (`refine`) and runs
without forces, which are cheaper to keep, can take part.

What was matched is not predicted: radial distributions at this temperature and density no longer
prove the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from mld_ff.engines.registry import find_engine
from mld_ff.engines.settings import Device
from mld_ff.errors import CheckFailed, InputError, check_positive
from mld_ff.geometry.topology import TopologyKind, topology_of
from mld_ff.inference import Dataset, fit
from mld_ff.inference.errors import Errors, measure
from mld_ff.inference.fitting import Fit
from mld_ff.loss.model import AgentLoss
from mld_ff.loss.provenance import MatchedTold, Provenance
from mld_ff.outputs import held
from mld_ff.progress import Progress, no_progress, within
from mld_ff.trajectory import Floats, FrameSource, Trajectory
from mld_ff.units import EV_PER_A3_TO_BAR, FS_TO_PS
from mld_ff.workflows.matching.averages import pair_coefficients, with_pair_coefficients
from mld_ff.workflows.matching.equilibrium import Equilibrium, check_dynamics
from mld_ff.workflows.matching.response import Response, combined
from mld_ff.workflows.matching.round import MatchingRound
from mld_ff.workflows.matching.settings import EQUILIBRATION, Settings
from mld_ff.workflows.matching.valley import Valley
from mld_ff.workflows.rounds import begin, check_ran, frames_of_run, run_once

STATE = "match.json"
MODEL = "model.json"
FORMAT, VERSION = "mld_ff matching", 1
SHORT = 0.25
"""A step shorter than this (see `Averages.length`) is hardly more than the noise of a run: the
model stays."""


@dataclass(frozen=True)
class Matching:
    """What `match` came to."""

    loss: AgentLoss
    rounds: tuple[MatchingRound, ...]
    noise: dict[str, float]
    """Of `mean_abs_dg`: half of what the halves of the reference differ by."""
    finished: bool
    """Whether the last round asked for no step worth taking."""

    def to_dict(self) -> dict[str, Any]:
        last = self.rounds[-1]
        return {
            "finished": self.finished,
            "rmse_meV_per_A": last.rmse_meV_per_A,
            "relative_rmse": last.relative_rmse,
            "noise": self.noise,
            "rounds": [one.to_dict() for one in self.rounds],
        }


def match(
    sources: FrameSource | Sequence[FrameSource],
    directory: Path | str,
    settings: Settings | None = None,
    rounds: int = 5,
    labels: Sequence[FrameSource] = (),
    progress: Progress = no_progress,
    force: bool = False,
) -> Matching:
    """At most `rounds` rounds, or what is left of them in `directory`; model.json there is the last
    model, as it ran.

    sources: runs in equilibrium, of one system at one temperature and in one cell, with or without
    forces. Each counts by its length in time. labels: frames with forces that are no run in
    equilibrium, for the fit alone: beside the forces of the runs they only train, but where no run
    has forces they are all there is. Raises InputError if runs do not belong together or the
    directory holds something else, CheckFailed if a model fails, and what fits and runs raise; with
    `force` what the policy has against them is a warning.
    """
    runs = tuple(sources) if isinstance(sources, Sequence) else (sources,)
    settings = settings or Settings()
    check_positive(rounds=rounds)
    # what is missing is said before the fit
    find_engine(settings.engine, Device(settings.platform))
    with held(directory, "match"):
        work = _Work(runs, tuple(labels), settings, progress, force)
        return _match(work, Path(directory), rounds)


def _match(work: _Work, out: Path, rounds: int) -> Matching:
    data = {
        "runs": [_frames_in(run) for run in work.sources],
        "labels": [_frames_in(frames) for frames in work.labels],
    }
    head = {"format": FORMAT, "version": VERSION, "settings": asdict(work.settings), "data": data}
    state = begin(out / STATE, head, MatchingRound)
    for k in range(1, max(rounds, len(state.rounds)) + 1):
        where = out / f"round-{k}"
        if k > len(state.rounds):
            one, following = _round(k, _model(k, where, work), where, work)
            if following:
                following.save(out / f"round-{k + 1}" / MODEL)
            state.add(one)
        if state.rounds[k - 1].done:
            break
    last = state.rounds[-1]
    loss = AgentLoss.load(where / MODEL)
    check_ran(where / MODEL, loss, where / "run")
    loss = _told(loss, work, last)
    loss.save(out / MODEL)
    return Matching(loss, tuple(state.rounds), work.reference.noise, last.done)


def _frames_in(source: FrameSource) -> dict[str, str | int | None]:
    """What tells whether it is the same."""
    first = next(source.chunks(1))
    return {
        "sha256": source.origin.sha256,
        "frames": source.n_frames,
        "first_step": int(first.step[0]),
    }


class _Work:
    """What the rounds share, computed when it is asked for."""

    def __init__(
        self,
        runs: Sequence[FrameSource],
        labels: Sequence[FrameSource],
        settings: Settings,
        progress: Progress = no_progress,
        force: bool = False,
    ) -> None:
        if not runs:
            raise InputError("give at least one run to match")
        for number, run in enumerate(runs, 1):
            check_dynamics(number, run)
        self.settings, self.progress, self.force = settings, progress, force
        self.sources, self.labels = tuple(runs), tuple(labels)
        self.dataset = _to_fit(runs, labels, settings.basis.topology, progress)
        self.reference = Equilibrium(runs, progress, self.dataset.topologies[0].kind)
        self.responses = dict[int, Response]()
        """By round."""
        self.errors = dict[int, Errors]()
        """Of the model of every round, on unseen frames."""

    @cached_property
    def fit(self) -> Fit:
        return fit(self.dataset, self.settings.basis, force=self.force)

    @cached_property
    def valley(self) -> Valley:
        return Valley.around(self.fit)

    @cached_property
    def wanted(self) -> Floats:
        """Averages of the reference, for the models of all rounds: what these differ by does not
        touch unit energies."""
        return self.reference.averages(self.fit.loss)

    def measured(self, k: int, loss: AgentLoss) -> Errors:
        """Errors of the model of round k."""
        if k not in self.errors:
            self.errors[k] = measure(self.dataset, loss, self.fit.problem.test)
        return self.errors[k]


def _to_fit(
    runs: Sequence[FrameSource],
    labels: Sequence[FrameSource],
    kind: TopologyKind | None,
    progress: Progress,
) -> Dataset:
    """The frames with forces: runs that have some, and labels, which only train beside them."""
    with_forces = tuple(run for run in runs if next(run.chunks(1)).forces is not None)
    if not with_forces and not labels:
        raise InputError(
            f"no run has forces: {runs[0].origin.remedies.forces}, or give labelled frames"
            " (--labels)"
        )
    if with_forces and labels:
        every = (*with_forces, *labels)
        return Dataset(every, progress, only_train=len(labels), topology=kind)
    return Dataset(with_forces or tuple(labels), progress, topology=kind)


def _model(k: int, where: Path, work: _Work) -> AgentLoss:
    """What lies there, from the round before; the fit, for the first."""
    if k > 1 or (where / MODEL).exists():
        return AgentLoss.load(where / MODEL)
    work.fit.loss.save(where / MODEL)
    work.errors[k] = work.fit.errors
    return work.fit.loss


def _round(
    k: int, loss: AgentLoss, where: Path, work: _Work
) -> tuple[MatchingRound, AgentLoss | None]:
    """What the round of a model says, and the model that follows unless no step is worth taking."""
    tell = within(f"round {k}", work.progress)
    _run_model(k, loss, where, work, tell)
    for j in range(1, k + 1):
        if j not in work.responses:
            work.responses[j] = _response(where.parent / f"round-{j}", work, tell)
    now, kT_eV = pair_coefficients(loss), work.reference.kT_eV
    averages, error_bar = combined(list(work.responses.values()), now, kT_eV)
    push, quiet = None, True
    if work.settings.pressure_bar is not None:
        target = work.settings.pressure_bar / EV_PER_A3_TO_BAR
        push = target - work.reference.ideal_pressure - float(averages.mean[len(now)])
        quiet = abs(push) * EV_PER_A3_TO_BAR < 2 * error_bar
    step = work.valley.step(now, work.wanted, averages, kT_eV, work.settings.price, push)
    done = step.length < SHORT and quiet
    errors = work.measured(k, loss)
    one = MatchingRound(
        round=k,
        rmse_meV_per_A=errors.rmse_meV_per_A,
        relative_rmse=errors.relative_rmse,
        price=work.valley.price(now),
        mean_abs_dg=work.reference.mean_abs_dg(_settled(where, work)),
        pressure_bar=work.responses[k].pressure_bar,
        error_bar=work.responses[k].error_bar,
        step=step.length,
        done=done,
    )
    if done:
        return one, None
    following = with_pair_coefficients(loss, step.coefficients, work.fit.data)
    told: Provenance = {**loss.provenance, **work.measured(k + 1, following).told()}
    return one, replace(following, provenance=told)


def _run_model(k: int, loss: AgentLoss, where: Path, work: _Work, progress: Progress) -> None:
    settings = work.settings
    md = replace(settings.md, temperature_K=work.reference.temperature_K)
    stopped = run_once(
        where / "run",
        loss,
        work.reference.start,
        md,
        settings.engine,
        progress,
        Device(settings.platform),
        work.force,
    )
    if stopped:
        raise CheckFailed(
            f"the run of round {k} stopped in {where / 'run'}: {stopped}. If it is the model that"
            " fails, learn more frames (`mld-ff refine`), or begin in another directory with a"
            " smaller price"
        )


def _response(where: Path, work: _Work, progress: Progress) -> Response:
    """Of the model that lies there, by its run."""
    loss, frames = AgentLoss.load(where / MODEL), _settled(where, work)
    asked = work.settings.pressure_bar is not None
    ideal = work.reference.ideal_pressure if asked else None
    try:
        return Response.of(
            loss, frames, topology_of(work.reference.start, loss.topology_kind), ideal, progress
        )
    except InputError as error:
        raise CheckFailed(
            f"the run in {where / 'run'} cannot be averaged ({error}): learn more frames (`mld-ff"
            " refine`)"
        ) from None


def _settled(where: Path, work: _Work) -> Trajectory:
    """The frames of a round's run that count."""
    frames = frames_of_run(where / "run", work.reference.start)
    return frames[int(EQUILIBRATION * frames.n_frames) :]


def _told(loss: AgentLoss, work: _Work, last: MatchingRound) -> AgentLoss:
    """The model of the last round, with where its structure comes from."""
    reference = work.reference
    ps = reference.length_fs * FS_TO_PS
    name = work.sources[0].origin.name
    matched: MatchedTold = {
        "temperature_K": reference.temperature_K,
        "time_ps": ps,
        "runs": [source.origin.to_dict() for source in work.sources],
        "price": last.price,
        "mean_abs_dg": dict(last.mean_abs_dg),
        "noise": reference.noise,
        "note": (
            f"distances were matched to {ps:.3g} ps of {name} at {reference.temperature_K:g} K"
            " (`mld-ff match`): radial distributions at this temperature and density were learned,"
            " not predicted"
        ),
    }
    if last.pressure_bar is not None and last.error_bar is not None:
        matched["pressure_bar"], matched["error_bar"] = last.pressure_bar, last.error_bar
    return replace(loss, provenance={**loss.provenance, "matched": matched})
