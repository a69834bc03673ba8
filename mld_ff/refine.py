"""Refine: run what was learned, let CP2K label what is new there, fit again, until nothing new is seen.

A round is a fit, a run at every temperature, a choice of frames and their labels. What is new is told by the leverage
of a force: x (XᵀX + Λ)⁻¹ xᵀ with x its row of the design and Λ the ridge, which is the variance that little data leave
in it, in units of the fit's own squared error (Bishop, Pattern Recognition and Machine Learning, 2006, eq. 3.59). It
needs no labels, and grows wherever the data end. Frames are chosen one by one, each of largest leverage once the ones
before are counted as data, so that neighbours in time are not chosen twice (as in D-optimal design; for potentials
Podryabinkin and Shapeev, Comput. Mater. Sci. 140, 171 (2017)).

A run counts up to its first unsound frame: one whose bonds break, or that goes further beyond the sampled distances
than walls let pass. What follows is an error of the model, not a state of matter, and is never learned from.

Everything lies in files, each written whole, so a refinement that was killed goes on where it was.
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.linalg import cholesky, solve_triangular

from mld_ff.cp2k import open_cp2k
from mld_ff.cp2k.reference import Reference, write_labels
from mld_ff.engines.cp2k import find_cp2k
from mld_ff.engines.reference import run_reference
from mld_ff.errors import CheckFailed, InputError, check_positive
from mld_ff.files import to_json, write_atomically
from mld_ff.inference import Accumulated, Basis, Problem, Runs, fit, gather
from mld_ff.inference.fit import LEAST_STIFFNESS
from mld_ff.inference.runs import blocks_for_training
from mld_ff.loss import AgentLoss, FreeTerm
from mld_ff.production import MD
from mld_ff.rounds import begin, frames_of_run, run_once
from mld_ff.survey import Progress, no_progress
from mld_ff.topology import find_topology
from mld_ff.trajectory import Floats, FrameSource, Trajectory, concatenate
from mld_ff.units import EV_TO_MEV, FS_TO_PS
from mld_ff.verify import spread_frames

STATE = "refine.json"
MODEL = "model.json"
PICKED = "picked.json"
LABELS = "labels"
FORMAT, VERSION = "mld_ff refinement", 1

PERCENTILE = 99.0
"""A frame is new where its leverage exceeds this percentile of the frames of the CP2K run, each block of them judged
by a fit without it ..."""
LEAST_LEVERAGE = 0.05
"""... and where more data would matter: below this the fit's own error hides what little data leave uncertain."""
NEW_A = 0.03
"""A frame is new, too, where a distance lies further than this beyond the sampled ones, or a channel where its
embedding has become straight."""
QUIET = 0.02
"""Nothing new is seen if in no run more of the frames than this are new: hardly more than within the CP2K run itself.
"""
CALIBRATION_FRAMES = 200
EXACT = 100.0
"""A frame chosen counts as so many, while others are chosen."""
EXPLORED_A = 0.1
UNSOUND_A = 0.2
"""A frame is unsound where a distance lies further than this beyond the sampled ones: twice the width of a wall."""
FORCE_CAP = 2.0
"""Labels with a force larger than this times the largest of the CP2K run are left out."""
SAME_METHOD = 0.05
"""Of the rms force: what CP2K's forces on a frame of the run may differ from those that the run holds."""
STARTS = 10
"""Runs start from one of so many frames spread over the CP2K run, in every round from another one."""


@dataclass(frozen=True)
class Settings:
    """What a refinement does in every round."""

    basis: Basis = field(default_factory=Basis)
    reference: Reference = field(default_factory=Reference)
    """Method of the labels; it must be that of the CP2K run."""
    nvt: MD = field(default_factory=lambda: MD(time_ps=5.0))
    """Of every run; the first temperature is this one's."""
    hot_K: tuple[float, ...] = (400.0,)
    """Temperatures of further runs."""
    frames_per_round: int = 20
    """To label at most."""
    engine: str = "lammps"

    def __post_init__(self) -> None:
        check_positive(frames_per_round=self.frames_per_round, **{f"hot_K {t!r}": t for t in self.hot_K})

    @property
    def temperatures_K(self) -> tuple[float, ...]:
        return tuple(dict.fromkeys((self.nvt.temperature_K, *self.hot_K)))

    def to_dict(self) -> dict[str, Any]:
        """Everything that labels, runs and fits depend on."""
        reference = {"method": self.reference.method, **{k.lower(): v for k, v in self.reference.method_values.items()}}
        data: dict[str, Any] = {**asdict(self), "reference": reference}
        plain: dict[str, Any] = json.loads(json.dumps(data))
        return plain


Labeller = Callable[[Path, Reference, Trajectory, Progress], FrameSource]
"""Gives the frames with forces; may keep its files in the directory, and is asked again after an interruption."""


def label_with_cp2k(
    directory: Path, reference: Reference, frames: Trajectory, progress: Progress = no_progress
) -> FrameSource:
    """Write the input for the frames, run it or go on with it, and read what CP2K computed.

    Raises InputError that tells how to go on where CP2K is not installed and the labels are not there yet.
    """
    write_labels(directory, reference, frames)
    try:
        run_reference(directory, progress)
    except InputError as error:
        if _cp2k_is_there():
            raise
        raise InputError(
            f"{frames.n_frames} frames wait for their forces in {directory}: {error}. Or let CP2K compute them "
            f"elsewhere: copy that directory there, run `cp2k.psmp -i {reference.main} -o label.out` in it, copy it "
            "back, and give this command again"
        ) from None
    return open_cp2k(directory)


def _cp2k_is_there() -> bool:
    try:
        return bool(find_cp2k())
    except InputError:
        return False


# --- what is new -----------------------------------------------------------------------------------------------------


class Leverage:
    """How little the data of a fit determine the forces of a frame."""

    def __init__(self, data: Accumulated, loss: AgentLoss, blocks: Sequence[int]) -> None:
        """data: some blocks of them count. loss: what was fitted to them, for its ridges.

        All functions that were accumulated take part, those too that no data touch and that the fit dropped: there it
        is the ridge that limits the variance. Of a collective loss these are the whole forms, from which its channels
        were chosen.
        """
        self._data = data
        every = np.arange(data.equations.gram_bskk.shape[2])
        problem = Problem(data.terms, data.equations, tuple(blocks), (), every)
        equations, functions = data.equations, problem.kept
        if data.together is not None:
            equations = data.together
            functions = np.concatenate([functions, np.arange(len(every), equations.gram_bskk.shape[2])])
        gram: Floats = equations.gram_bskk[list(blocks)].sum(axis=0)
        # `together` holds the forces on all atoms first, and those on molecules, which are no data of their own, after
        gram = gram.sum(axis=0) if data.together is None else gram[0]
        touched = (np.diag(gram)[functions] > 0) | (functions < len(every))
        self._functions = functions[touched]
        self._gram = gram[np.ix_(self._functions, self._functions)]
        n = len(problem.kept)
        of_pairs, of_forms = self._gram[:n, :n], np.diag(self._gram)[n:]
        self._gram[:n, :n] += loss.provenance["ridge"] * np.trace(of_pairs) / n * problem.penalty
        if data.together is not None:
            self._gram[range(n, len(self._gram)), range(n, len(self._gram))] += (
                loss.provenance["collective"]["ridge"] * of_forms
            )
        self._factorise()

    def learn(self, positions: Floats, cell: Floats) -> None:
        """Count a frame as data, and as known exactly: labels have no noise that seeing it twice would lower."""
        x = self._design(positions, cell)
        self._gram = self._gram + EXACT * x.T @ x
        self._factorise()

    def of_atoms(self, positions: Floats, cell: Floats) -> Floats:
        """Of every atom of a frame (N,), summed over the components of its force. positions (N, 3) [Å], cell [Å]."""
        x = self._design(positions, cell) * self._scale
        half = solve_triangular(self._factor, x.T, lower=True, check_finite=False)
        return np.asarray((half**2).sum(axis=0).reshape(-1, 3).sum(axis=1))

    def _design(self, positions: Floats, cell: Floats) -> Floats:
        return self._data.design(positions, cell)[:, self._functions]

    def _factorise(self) -> None:
        self._scale = 1 / np.sqrt(np.diag(self._gram))
        gram = self._gram * np.outer(self._scale, self._scale)
        self._factor = cholesky(gram + np.finfo(float).eps * len(gram) * np.eye(len(gram)), lower=True)


@dataclass(frozen=True)
class Range:
    """What the data sampled of a distance [Å] or of a channel's density, and beyond what it is new."""

    low: float
    high: float
    new_low: float
    new_high: float

    def beyond(self, values: Floats) -> float:
        """How far the furthest of some values lies outside of what was sampled."""
        return max(self.low - float(values.min()), float(values.max()) - self.high, 0.0) if len(values) else 0.0

    def is_new(self, values: Floats) -> bool:
        return bool(((values < self.new_low) | (values > self.new_high)).any())


@dataclass(frozen=True)
class Verdict:
    """What a judge says of a frame."""

    novelty: float
    """Largest leverage of an atom over the threshold."""
    new: bool
    """By leverage, or by what leaves the ranges."""
    beyond: dict[str, float]
    """By term: how far it leaves what was sampled [Å, or units of a density]; only those that do."""
    unsound: str | None = None
    """Why it is no state of matter."""


class Judge:
    """Tells new and unsound frames from those that a fit has seen."""

    def __init__(
        self, loss: AgentLoss, data: Accumulated, source: FrameSource, progress: Progress = no_progress
    ) -> None:
        """loss: the fit to `data`. source: what they begin with; the threshold comes from its frames."""
        self.loss, self.topology = loss, data.survey.topology
        n_blocks = len(data.frames_per_block)
        train = list(blocks_for_training(n_blocks))
        self.leverage = Leverage(data, loss, train)
        self.ranges: dict[str, Range] = {}
        for name, term in loss.terms_of(self.topology).items():
            seen = data.survey.distances[name]
            # a kind of free pair that nobody saw has its wall at the cutoff
            low, high = seen.shortest, seen.longest
            if isinstance(term, FreeTerm):
                low, high = min(low, term.cutoff_A), np.inf
            self.ranges[name] = Range(low, high, low - NEW_A, high + NEW_A)
        for channel in loss.channels:
            low, high = channel.range
            self.ranges[channel.name] = Range(low, high, low - channel.fade, high + channel.fade)
        self.threshold, self.largest_force = self._calibrate(data, source, train, progress)

    def _calibrate(
        self, data: Accumulated, source: FrameSource, train: list[int], progress: Progress
    ) -> tuple[float, float]:
        """Leverage beyond which a frame is new, and the largest force [eV/Å] of the source."""
        n_blocks, stride = len(data.frames_per_block), -(-source.n_frames // CALIBRATION_FRAMES)
        found, number, largest = list[float](), 0, 0.0
        own, own_block = self.leverage, -1
        for frames in source.chunks():
            assert frames.forces is not None
            broken = {change.step for change in self.topology.changes(frames)}
            for f in range(frames.n_frames):
                if int(frames.step[f]) not in broken:
                    largest = max(largest, _largest_force(frames.forces[f]))
                block = number * n_blocks // source.n_frames
                if block != own_block:
                    others = [b for b in train if b != block]
                    own_block, own = block, self.leverage if others == train else Leverage(data, self.loss, others)
                if number % stride == 0 and int(frames.step[f]) not in broken:
                    found.append(float(own.of_atoms(frames.positions[f], frames.cell[f]).max()))
                number += 1
            progress("what is new", number, source.n_frames)
        return max(float(np.percentile(found, PERCENTILE)), LEAST_LEVERAGE), largest

    def judge(self, frame: Trajectory) -> Verdict:
        """Judge one frame."""
        x, cell = frame.positions[0], frame.cell[0]
        if not np.isfinite(x).all():
            return Verdict(np.inf, True, {}, "positions are not finite")
        values = list(self._values(x, cell))
        beyond = {name: depth for name, r in values if (depth := self.ranges[name].beyond(r)) > 0}
        for name in self.loss.terms_of(self.topology):
            if beyond.get(name, 0.0) > UNSOUND_A:
                return Verdict(np.inf, True, beyond, f"{name} is {beyond[name]:.2f} Å beyond the distances sampled")
        if change := next(iter(self.topology.changes(frame)), None):
            return Verdict(np.inf, True, beyond, change.what)
        novelty = self.novelty(x, cell)
        return Verdict(novelty, novelty > 1 or any(self.ranges[name].is_new(r) for name, r in values), beyond)

    def novelty(self, positions: Floats, cell: Floats) -> float:
        """Largest leverage of an atom over the threshold."""
        return float(self.leverage.of_atoms(positions, cell).max()) / self.threshold

    def _values(self, positions: Floats, cell: Floats) -> Iterator[tuple[str, Floats]]:
        for name, pairs in self.topology.pairs(positions, cell, self.loss.cutoff_A):
            yield name, pairs.r
        yield from self.loss.densities(self.topology, positions, cell).items()


@dataclass(frozen=True)
class Look:
    """What a run shows: its sound frames, in the order of the atoms of the CP2K run."""

    frames: Trajectory
    verdicts: tuple[Verdict, ...]
    """Of every frame."""
    stopped: str | None = None
    """Why the run does not count to its end."""

    @property
    def new(self) -> list[int]:
        """The frames that are new."""
        return [f for f, verdict in enumerate(self.verdicts) if verdict.new]

    def to_dict(self) -> dict[str, Any]:
        worst: dict[str, float] = {}
        for verdict in self.verdicts:
            worst |= {name: max(depth, worst.get(name, 0.0)) for name, depth in verdict.beyond.items()}
        return {
            "frames": self.frames.n_frames,
            "new": len(self.new),
            "median_novelty": float(np.median([v.novelty for v in self.verdicts])) if self.verdicts else None,
            "frames_beyond_range": sum(bool(v.beyond) for v in self.verdicts),
            "beyond_range_A": worst,
            "stopped": self.stopped,
        }


def look(judge: Judge, frames: Trajectory, stopped: str | None = None) -> Look:
    """Judge the frames of a run in turn, up to the first unsound one.

    stopped: why the run itself ended early, if it did.
    """
    verdicts: list[Verdict] = []
    for f in range(frames.n_frames):
        verdict = judge.judge(frames[f])
        if verdict.unsound is not None:
            stopped = f"at {frames.time[f] * FS_TO_PS:g} ps: {verdict.unsound}"
            break
        verdicts.append(verdict)
    return Look(frames[: len(verdicts)], tuple(verdicts), stopped)


def pick(judge: Judge, looks: Sequence[Look], count: int) -> list[tuple[int, int]]:
    """Run and frame of at most `count` of the new frames, each of largest leverage once those before are data.

    The last sound frame of a run that did not count to its end stands first: what went wrong began there.
    """
    chosen: list[tuple[int, int]] = []
    last = [(k, one.frames.n_frames - 1) for k, one in enumerate(looks) if one.stopped and one.frames.n_frames]
    # what a frame tells only shrinks as others are counted, so an old value bounds the new one from above
    heap = [(-np.inf, *place) for place in last]
    heap += [(-one.verdicts[f].novelty, k, f) for k, one in enumerate(looks) for f in one.new if (k, f) not in last]
    heapq.heapify(heap)
    while heap and len(chosen) < count:
        before, k, f = heapq.heappop(heap)
        x, cell = looks[k].frames.positions[f], looks[k].frames.cell[f]
        if before > -np.inf:
            now = -judge.novelty(x, cell)
            if heap and now > heap[0][0]:
                heapq.heappush(heap, (now, k, f))
                continue
        chosen.append((k, f))
        judge.leverage.learn(x, cell)
    return chosen


# --- rounds ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Refinement:
    """What `refine` came to."""

    loss: AgentLoss
    rounds: tuple[dict[str, Any], ...]
    """By round: `rmse_meV_per_A` and `relative_rmse` of its model on the test frames of the CP2K run, `runs`, what part
    of their frames is new (`new_fraction`), `quiet`, and unless it was quiet `labelled`, `left_out`, and
    `rmse_on_new_meV_per_A` of its model on the frames labelled after it."""
    finished: bool
    """Whether the last round saw nothing new."""

    def to_dict(self) -> dict[str, Any]:
        error = {k: self.loss.provenance[k] for k in ("rmse_meV_per_A", "relative_rmse")}
        return {"finished": self.finished, **error, "rounds": list(self.rounds)}


def refine(
    source: FrameSource,
    directory: Path | str,
    settings: Settings | None = None,
    rounds: int = 3,
    label: Labeller = label_with_cp2k,
    progress: Progress = no_progress,
) -> Refinement:
    """At most `rounds` rounds, or what is left of them in `directory`; model.json there is the last model.

    Test frames are those of the source alone, and no label is ever among them, so the errors of all rounds compare.
    Every label counts as much as a frame of the source. Raises InputError if the directory holds a refinement with
    other settings or of another run, and what fits, runs and labels raise; CheckFailed if CP2K's forces on a frame of
    the source are not those of the source, or a model fails before it gives anything to learn from.
    """
    settings, out = settings or Settings(), Path(directory)
    mine = {"settings": settings.to_dict(), "data": source.source.get("sha256")}
    state = begin(out / STATE, FORMAT, VERSION, mine)
    labels: list[Trajectory] = []
    check_positive(rounds=rounds)
    starts = spread_frames(source, STARTS)
    for k in range(1, rounds + 1):
        where = out / f"round-{k}"
        if k > len(state["rounds"]):
            state["rounds"].append(_round(k, where, source, labels, settings, label, progress))
            write_atomically(out / STATE, to_json(state, indent=1))
        if state["rounds"][k - 1]["quiet"]:
            break
        learned, _ = _labels(k, where, starts, settings.reference, label, progress)
        labels += [learned] if learned.n_frames else []
    finished = bool(state["rounds"][k - 1]["quiet"])
    loss = AgentLoss.load(where / MODEL) if finished else fit(_runs(source, labels, progress), settings.basis)
    loss.save(out / MODEL)
    return Refinement(loss, tuple(state["rounds"][:k]), finished)


def _round(
    k: int,
    where: Path,
    source: FrameSource,
    labels: list[Trajectory],
    settings: Settings,
    label: Labeller,
    progress: Progress,
) -> dict[str, Any]:
    def tell(what: str, done: int, total: int) -> None:
        progress(f"round {k}: {what}", done, total)

    runs, data = _runs(source, labels, tell), None
    if (where / MODEL).exists():
        loss = AgentLoss.load(where / MODEL)
    else:
        loss = fit(runs, settings.basis, data=(data := gather(runs, settings.basis)))
        loss.save(where / MODEL)
    starts = spread_frames(source, STARTS)
    if not (where / PICKED).exists():
        judge = Judge(loss, data or gather(runs, settings.basis), source, tell)
        frame = _start(starts, k)
        nvt = replace(settings.nvt, seed=settings.nvt.seed + k)
        looks = {}
        for t in settings.temperatures_K:
            there = where / _name(t)
            stopped = run_once(there, explorer(loss), frame, replace(nvt, temperature_K=t), settings.engine, tell)
            looks[_name(t)] = look(judge, frames_of_run(there, frame), stopped)
        write_atomically(where / PICKED, to_json(_picked(judge, looks, settings.frames_per_round), indent=1))
    picked = json.loads((where / PICKED).read_text(encoding="utf-8"))
    told: dict[str, Any] = {
        "round": k,
        **{key: loss.provenance[key] for key in ("rmse_meV_per_A", "relative_rmse")},
        **{key: picked[key] for key in ("runs", "new_fraction", "quiet")},
    }
    if picked["quiet"]:
        return told
    learned, left_out = _labels(k, where, starts, settings.reference, label, tell)
    before = _rmse(loss, learned, starts[0]) * EV_TO_MEV if learned.n_frames else None
    return told | {"labelled": learned.n_frames, "left_out": left_out, "rmse_on_new_meV_per_A": before}


def _runs(source: FrameSource, labels: Sequence[Trajectory], progress: Progress) -> Runs:
    return Runs((source, *labels), progress, only_train=len(labels))


def _start(starts: Trajectory, k: int) -> Trajectory:
    """The frame that the runs of a round start from; velocities are drawn anew."""
    return replace(starts[-1 - (k - 1) % starts.n_frames], velocities=None)


def _name(temperature_K: float) -> str:
    return f"run-{temperature_K:g}K"


def explorer(loss: AgentLoss) -> AgentLoss:
    """The model with softer walls between free pairs, which push back only EXPLORED_A beyond the sampled distances.

    Behind a wall lies what the data did not show, attraction of hydrogen bonds for one; runs of the model itself would
    never see it, and refinement never move the wall.
    """
    return replace(loss, terms=tuple(_softened(t) if isinstance(t, FreeTerm) else t for t in loss.terms))


def _softened(term: FreeTerm) -> FreeTerm:
    depth = term.wall_edge_A - (term.coverage["shortest_A"] or term.wall_edge_A)
    softer = term.wall_stiffness_eV_per_A3 * (depth / (depth + EXPLORED_A)) ** 2
    return replace(term, wall_stiffness_eV_per_A3=max(softer, LEAST_STIFFNESS))


def _picked(judge: Judge, looks: dict[str, Look], count: int) -> dict[str, Any]:
    """What the runs of a round showed, and which frames of them to label."""
    total, new = sum(one.frames.n_frames for one in looks.values()), sum(len(one.new) for one in looks.values())
    if not total:
        why = "; ".join(f"{name}: {one.stopped}" for name, one in looks.items())
        raise CheckFailed(
            f"the model fails at once and gives nothing to learn from ({why}): begin with more frames, or at a lower "
            "temperature"
        )
    quiet = not any(one.stopped or len(one.new) > QUIET * one.frames.n_frames for one in looks.values())
    names, every = list(looks), list(looks.values())
    chosen = [] if quiet else pick(judge, every, count)
    return {
        "quiet": quiet,
        "new_fraction": new / total,
        "threshold": judge.threshold,
        "largest_force_eV_per_A": judge.largest_force,
        "runs": {name: one.to_dict() for name, one in looks.items()},
        "frames": [
            {
                "run": names[k],
                "frame": f,
                "time_ps": every[k].frames.time[f] * FS_TO_PS,
                "novelty": every[k].verdicts[f].novelty,
                "beyond": every[k].verdicts[f].beyond,
            }
            for k, f in chosen
        ],
    }


def _labels(
    k: int, where: Path, starts: Trajectory, reference: Reference, label: Labeller, progress: Progress
) -> tuple[Trajectory, list[str]]:
    """The labelled frames of a round that can be learned from, and why others cannot.

    The first frame of the source is labelled too, and its forces are held against those that the source has.
    """
    picked = json.loads((where / PICKED).read_text(encoding="utf-8"))
    known = replace(starts[0], velocities=None, energy=None)
    parts = [replace(known, forces=None)]
    for row in picked["frames"]:
        frame = frames_of_run(where / row["run"], _start(starts, k))[row["frame"]]
        parts.append(replace(frame, forces=None, energy=None))
    asked = concatenate(parts)
    found = concatenate(list(label(where / LABELS, reference, asked, progress).chunks()))
    _check_labels(where / LABELS, asked, found, known)
    topology = find_topology(known.symbols, known.positions[0], known.cell[0])
    keep, left_out = [], []
    for f in range(1, found.n_frames):
        assert found.forces is not None
        force, cap = _largest_force(found.forces[f]), FORCE_CAP * picked["largest_force_eV_per_A"]
        what = next((c.what for c in topology.changes(found[f])), None)
        if force > cap:
            what = f"a force of {force:.1f} eV/Å, more than {FORCE_CAP:g} times the largest of the CP2K run"
        if what is None:
            keep.append(f)
        else:
            row = picked["frames"][f - 1]
            left_out.append(f"{row['run']} at {row['time_ps']:g} ps: {what}")
    return replace(found, velocities=None)[np.array(keep, np.int64)], left_out


def _check_labels(where: Path, asked: Trajectory, found: Trajectory, known: Trajectory) -> None:
    """Raise unless these are forces of the frames asked for, by the method of the source."""
    if found.forces is None or found.n_frames != asked.n_frames:
        raise InputError(f"holds {found.n_frames} frames with forces; {asked.n_frames} were to be labelled", where)
    if np.abs(found.positions - asked.positions).max() > 1e-4:
        raise InputError("holds labels of other frames than those asked for: remove it, or label them again", where)
    assert known.forces is not None
    difference, size = (float(np.sqrt((x**2).mean())) for x in (found.forces[0] - known.forces[0], known.forces[0]))
    if not difference <= SAME_METHOD * size:
        raise CheckFailed(
            f"the forces computed in {where} on the first frame of the CP2K run differ from those of that run by "
            f"{difference:.3f} eV/Å rms ({100 * difference / size:.0f} % of the force; at most "
            f"{100 * SAME_METHOD:g} % is allowed): labels must come from the method and the settings of the run"
        )


def _largest_force(forces: Floats) -> float:
    return float(np.linalg.norm(forces, axis=-1).max())


def _rmse(loss: AgentLoss, frames: Trajectory, first: Trajectory) -> float:
    """Of the forces [eV/Å]; `first` is the frame that tells who is bonded to whom."""
    topology = find_topology(first.symbols, first.positions[0], first.cell[0])
    forces = [loss.evaluate(topology, x, cell)[1] for x, cell in zip(frames.positions, frames.cell, strict=True)]
    assert frames.forces is not None
    return float(np.sqrt(((np.array(forces) - frames.forces) ** 2).mean()))
