"""Refine: run what was learned, let CP2K label what is new there, fit again, until nothing new is
seen.

A round is a fit, a run at every temperature, a choice of frames and their labels. What is new is
told by the leverage of a force: x (XᵀX + Λ)⁻¹ xᵀ with x its row of the design and Λ the ridge,
which is the variance that little data leave in it, in units of the fit's own squared error (Bishop,
Pattern Recognition and Machine Learning, 2006, eq. 3.59). It needs no labels, and grows wherever
the data end. Frames are chosen one by one, each of largest leverage once the ones before are
counted as data, so that neighbours in time are not chosen twice (as in D-optimal design; for
potentials Podryabinkin and Shapeev, Comput. Mater. Sci. 140, 171 (2017)).

A run counts up to its first unsound frame: one whose bonds break, or that goes further beyond the
sampled distances than walls let pass. What follows is an error of the model, not a state of matter,
and is never learned from.

Everything lies in files, each written whole, so a refinement that was killed goes on where it was.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from mld_ff.engines.registry import fastest
from mld_ff.engines.settings import MD
from mld_ff.errors import CheckFailed, check_positive
from mld_ff.geometry.system import changes, systems
from mld_ff.geometry.topology import topology_of
from mld_ff.inference import Basis, Dataset, fit
from mld_ff.loss.model import AgentLoss
from mld_ff.loss.terms import FreeTerm
from mld_ff.loss.walls import LEAST_STIFFNESS
from mld_ff.outputs import held
from mld_ff.progress import Progress, no_progress, within
from mld_ff.sources.cp2k.run.inputs import Reference
from mld_ff.sources.cp2k.run.labels import label_with_cp2k
from mld_ff.trajectory import FrameSource, Trajectory, concatenate, spread_frames
from mld_ff.units import EV_TO_MEV, FS_TO_PS
from mld_ff.workflows.refining.labels import FORCE_CAP, Labeller, check_labels
from mld_ff.workflows.refining.novelty import Judge, Look, largest_force, look, pick
from mld_ff.workflows.refining.round import Labelled, Picked, PickedFrame, RefinementRound
from mld_ff.workflows.rounds import begin, check_ran, frames_of_run, run_once

STATE = "refine.json"
MODEL = "model.json"
PICKED = "picked.json"
LABELS = "labels"
FORMAT, VERSION = "mld_ff refinement", 1
QUIET = 0.02
"""Nothing new is seen if in no run more of the frames than this are new: hardly more than within
the reference itself.
"""
EXPLORED_A = 0.1
STARTS = 10
"""Runs start from one of so many frames spread over the source, each round from another one."""


@dataclass(frozen=True)
class Settings:
    """What a refinement does in every round."""

    basis: Basis = field(default_factory=Basis)
    reference: Reference = field(default_factory=Reference)
    """Method of the labels; it must be that of the reference."""
    nvt: MD = field(default_factory=lambda: MD(time_ps=5.0, every_fs=20.0))
    """Of every run; the first temperature is this one's."""
    hot_K: tuple[float, ...] = (400.0,)
    """Temperatures of further runs, as 350,400."""
    frames_per_round: int = 20
    """To label at most."""
    engine: str = fastest().name
    """That runs the models."""

    def __post_init__(self) -> None:
        check_positive(
            frames_per_round=self.frames_per_round, **{f"hot_K {t!r}": t for t in self.hot_K}
        )

    @property
    def temperatures_K(self) -> tuple[float, ...]:
        return tuple(dict.fromkeys((self.nvt.temperature_K, *self.hot_K)))

    def to_dict(self) -> dict[str, Any]:
        """Everything that labels, runs and fits depend on."""
        reference = {
            "method": self.reference.method,
            **{k.lower(): v for k, v in self.reference.method_values.items()},
        }
        data: dict[str, Any] = {**asdict(self), "reference": reference}
        plain: dict[str, Any] = json.loads(json.dumps(data))
        return plain


# --- rounds ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Refinement:
    """What `refine` came to."""

    loss: AgentLoss
    rounds: tuple[RefinementRound, ...]
    finished: bool
    """Whether the last round saw nothing new."""
    rmse_meV_per_A: float
    """Of the loss, on the test frames of every round."""
    relative_rmse: Mapping[str, float]
    """The same by species, over the size of the force."""

    def to_dict(self) -> dict[str, Any]:
        return {
            "finished": self.finished,
            "rmse_meV_per_A": self.rmse_meV_per_A,
            "relative_rmse": self.relative_rmse,
            "rounds": [one.to_dict() for one in self.rounds],
        }


def refine(
    source: FrameSource,
    directory: Path | str,
    settings: Settings | None = None,
    rounds: int = 3,
    label: Labeller = label_with_cp2k,
    progress: Progress = no_progress,
    force: bool = False,
) -> Refinement:
    """At most `rounds` rounds, or what is left of them in `directory`; model.json there is the last
    model.

    Test frames are those of the source alone, and no label is ever among them, so the errors of all
    rounds compare. Every label counts as much as a frame of the source. Raises InputError if the
    directory holds a refinement with other settings or of another run, and what fits, runs and
    labels raise (with `force` what the policy has against them is a warning); CheckFailed if CP2K's
    forces on a frame of the source are not those of the source, or a model fails before it gives
    anything to learn from.
    """
    check_positive(rounds=rounds)
    with held(directory, "refine"):
        return _refine(
            source, Path(directory), settings or Settings(), rounds, label, progress, force
        )


def _refine(
    source: FrameSource,
    out: Path,
    settings: Settings,
    rounds: int,
    label: Labeller,
    progress: Progress,
    force: bool,
) -> Refinement:
    head = {"format": FORMAT, "version": VERSION, "settings": settings.to_dict()}
    state = begin(out / STATE, {**head, "data": source.origin.sha256}, RefinementRound)
    labels: list[Trajectory] = []
    starts = spread_frames(source, STARTS)
    for k in range(1, rounds + 1):
        where = out / f"round-{k}"
        if k > len(state.rounds):
            state.add(_round(k, where, source, labels, settings, label, progress, force))
        if state.rounds[k - 1].quiet:
            break
        learned, _ = _labels(k, where, starts, settings.reference, label, progress)
        labels += [learned] if learned.n_frames else []
    last, done = state.rounds[k - 1], tuple(state.rounds[:k])
    if last.quiet:
        loss, errors = AgentLoss.load(where / MODEL), (last.rmse_meV_per_A, last.relative_rmse)
        for name in last.runs:
            check_ran(where / MODEL, explorer(loss), where / name)
    else:
        fitted = fit(_dataset(source, labels, settings, progress), settings.basis, force=force)
        loss, of_fit = fitted.loss, fitted.errors
        errors = of_fit.rmse_meV_per_A, of_fit.relative_rmse
    loss.save(out / MODEL)
    return Refinement(loss, done, last.quiet, *errors)


def _round(
    k: int,
    where: Path,
    source: FrameSource,
    labels: list[Trajectory],
    settings: Settings,
    label: Labeller,
    progress: Progress,
    force: bool,
) -> RefinementRound:
    tell = within(f"round {k}", progress)
    # after a kill the same fit is made again: equal frames give equal numbers
    fitted = fit(_dataset(source, labels, settings, tell), settings.basis, force=force)
    loss = fitted.loss
    loss.save(where / MODEL)
    starts = spread_frames(source, STARTS)
    if not (where / PICKED).exists():
        judge = Judge(fitted, source, tell)
        frame = _start(starts, k)
        nvt = replace(settings.nvt, seed=settings.nvt.seed + k)
        looks = {}
        for t in settings.temperatures_K:
            there = where / _name(t)
            stopped = run_once(
                there,
                explorer(loss),
                frame,
                replace(nvt, temperature_K=t),
                settings.engine,
                within(_name(t), tell),
                force=force,
            )
            looks[_name(t)] = look(judge, frames_of_run(there, frame), stopped)
        _choose(judge, looks, settings.frames_per_round).write(where / PICKED)
    picked = Picked.read(where / PICKED)
    labelled = None
    if not picked.quiet:
        learned, left_out = _labels(k, where, starts, settings.reference, label, tell)
        before = _rmse(loss, learned, starts[0]) * EV_TO_MEV if learned.n_frames else None
        labelled = Labelled(learned.n_frames, tuple(left_out), before)
    return RefinementRound(
        round=k,
        rmse_meV_per_A=fitted.errors.rmse_meV_per_A,
        relative_rmse=fitted.errors.relative_rmse,
        runs=picked.runs,
        new_fraction=picked.new_fraction,
        quiet=picked.quiet,
        labels=labelled,
    )


def _dataset(
    source: FrameSource, labels: Sequence[Trajectory], settings: Settings, progress: Progress
) -> Dataset:
    kind = settings.basis.topology
    return Dataset((source, *labels), progress, only_train=len(labels), topology=kind)


def _start(starts: Trajectory, k: int) -> Trajectory:
    """The frame that the runs of a round start from; velocities are drawn anew."""
    return replace(starts[-1 - (k - 1) % starts.n_frames], velocities=None)


def _name(temperature_K: float) -> str:
    return f"run-{temperature_K:g}K"


def explorer(loss: AgentLoss) -> AgentLoss:
    """The model with softer walls between free pairs, which push back only EXPLORED_A beyond the
    sampled distances.

    Behind a wall lies what the data did not show, attraction of hydrogen bonds for one; runs of the
    model itself would never see it, and refinement never move the wall.
    """
    return replace(
        loss, terms=tuple(_softened(t) if isinstance(t, FreeTerm) else t for t in loss.terms)
    )


def _softened(term: FreeTerm) -> FreeTerm:
    depth = term.wall_edge_A - (term.coverage["shortest_A"] or term.wall_edge_A)
    softer = term.wall_stiffness_eV_per_A3 * (depth / (depth + EXPLORED_A)) ** 2
    return replace(term, wall_stiffness_eV_per_A3=max(softer, LEAST_STIFFNESS))


def _choose(judge: Judge, looks: dict[str, Look], count: int) -> Picked:
    """At most `count` frames of the runs of a round, by name. Raises CheckFailed if no run has a
    sound frame.
    """
    total, new = (
        sum(one.frames.n_frames for one in looks.values()),
        sum(len(one.new) for one in looks.values()),
    )
    if not total:
        why = "; ".join(f"{name}: {one.stopped}" for name, one in looks.items())
        raise CheckFailed(
            f"the model fails at once and gives nothing to learn from ({why}): begin with more"
            " frames, or at a lower temperature"
        )
    quiet = not any(
        one.stopped or len(one.new) > QUIET * one.frames.n_frames for one in looks.values()
    )
    names, every = list(looks), list(looks.values())
    chosen = [] if quiet else pick(judge, every, count)
    return Picked(
        quiet=quiet,
        new_fraction=new / total,
        threshold=judge.threshold,
        largest_force_eV_per_A=judge.largest_force,
        runs={name: one.seen() for name, one in looks.items()},
        frames=tuple(
            PickedFrame(
                run=names[k],
                frame=f,
                time_ps=float(every[k].frames.time[f] * FS_TO_PS),
                novelty=every[k].verdicts[f].novelty,
                beyond=every[k].verdicts[f].beyond,
            )
            for k, f in chosen
        ),
    )


def _labels(
    k: int,
    where: Path,
    starts: Trajectory,
    reference: Reference,
    label: Labeller,
    progress: Progress,
) -> tuple[Trajectory, list[str]]:
    """The labelled frames of a round that can be learned from, and why others cannot.

    The first frame of the source is labelled too, and its forces are held against those that the
    source has.
    """
    picked = Picked.read(where / PICKED)
    known = replace(starts[0], velocities=None, energy=None)
    parts = [replace(known, forces=None)]
    for one in picked.frames:
        frame = frames_of_run(where / one.run, _start(starts, k))[one.frame]
        parts.append(replace(frame, forces=None, energy=None))
    asked = concatenate(parts)
    labelled = concatenate(list(label(where / LABELS, reference, asked, progress).chunks()))
    check_labels(where / LABELS, asked, labelled, known)
    topology = topology_of(known, AgentLoss.load(where / MODEL).topology_kind)
    which, keep = (labelled.step - 1).tolist(), []
    left_out = [
        f"{one.run} at {one.time_ps:g} ps: its self-consistent field did not converge"
        for k, one in enumerate(picked.frames, 1)
        if k not in which
    ]
    for f in range(1, labelled.n_frames):
        assert labelled.forces is not None
        force, cap = largest_force(labelled.forces[f]), FORCE_CAP * picked.largest_force_eV_per_A
        what = next((change.what for change in changes(topology, labelled[f])), None)
        if force > cap:
            what = (
                f"a force of {force:.1f} eV/Å, more than {FORCE_CAP:g} times the largest of the"
                " reference"
            )
        if what is None:
            keep.append(f)
        else:
            one = picked.frames[which[f] - 1]
            left_out.append(f"{one.run} at {one.time_ps:g} ps: {what}")
    return replace(labelled, velocities=None)[np.array(keep, np.int64)], left_out


def _rmse(loss: AgentLoss, frames: Trajectory, first: Trajectory) -> float:
    """Of the forces [eV/Å]; `first` is the frame that tells who is bonded to whom."""
    every = systems(topology_of(first, loss.topology_kind), frames, loss.cutoff_A)
    forces = [loss.evaluate(system).forces for system in every]
    assert frames.forces is not None
    return float(np.sqrt(((np.array(forces) - frames.forces) ** 2).mean()))
