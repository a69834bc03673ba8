"""What is new in a run, by the leverage of its forces and by the ranges that it leaves."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import cholesky, solve_triangular

from mld_ff.geometry.system import System, systems
from mld_ff.inference.fitting import Fit
from mld_ff.inference.problem import Problem
from mld_ff.loss.escapes import NEW_A
from mld_ff.progress import Progress, no_progress
from mld_ff.trajectory import Floats, FrameSource, Trajectory
from mld_ff.units import FS_TO_PS
from mld_ff.workflows.refining.round import RunSeen

PERCENTILE = 99.0
"""A frame is new where its leverage exceeds this percentile of the frames of the reference, each
block of them judged by a fit without it ...
"""
LEAST_LEVERAGE = 0.05
"""... and where more data would matter: below this the fit's own error hides what little data leave
uncertain.
"""
CALIBRATION_FRAMES = 200
EXACT = 100.0
"""A frame chosen counts as so many, while others are chosen."""
UNSOUND_A = 0.2
"""A frame is unsound where a distance lies further than this beyond the sampled ones: twice the
width of a wall.
"""


# --- what is new ----------------------------------------------------------------------------------


class Leverage:
    """How little the data of a fit determine the forces of a frame."""

    def __init__(self, fit: Fit, blocks: Sequence[int]) -> None:
        """Some blocks of the data count.

        All functions that were accumulated take part, those too that no data touch and that the fit
        dropped: there it is the ridge that limits the variance. Of a collective loss these are the
        whole forms, from which its channels were chosen.
        """
        self._data = data = fit.data
        every = np.arange(data.equations.gram_bskk.shape[2])
        problem = Problem(data.terms, data.equations, tuple(blocks), (), every)
        equations, functions = data.equations, problem.kept
        if data.together is not None:
            equations = data.together
            functions = np.concatenate(
                [functions, np.arange(len(every), equations.gram_bskk.shape[2])]
            )
        gram: Floats = equations.gram_bskk[list(blocks)].sum(axis=0)
        # `together` holds the forces on all atoms first, and those on molecules, which are no data
        # of their own, after
        gram = gram.sum(axis=0) if data.together is None else gram[0]
        touched = (np.diag(gram)[functions] > 0) | (functions < len(every))
        self._functions = functions[touched]
        self._gram = gram[np.ix_(self._functions, self._functions)]
        n = len(problem.kept)
        of_pairs, of_forms = self._gram[:n, :n], np.diag(self._gram)[n:]
        self._gram[:n, :n] += fit.problem.ridge * np.trace(of_pairs) / n * problem.penalty
        if fit.collective is not None:
            forms = range(n, len(self._gram))
            self._gram[forms, forms] += fit.collective.problem.ridge * of_forms
        self._factorise()

    def learn(self, system: System) -> None:
        """Count a frame as data, and as known exactly: labels have no noise that seeing it twice
        would lower."""
        x = self._design(system)
        self._gram = self._gram + EXACT * x.T @ x
        self._factorise()

    def of_atoms(self, system: System) -> Floats:
        """Of every atom of a frame (N,), summed over the components of its force."""
        x = self._design(system) * self._scale
        half = solve_triangular(self._factor, x.T, lower=True, check_finite=False)
        return np.asarray((half**2).sum(axis=0).reshape(-1, 3).sum(axis=1))

    def _design(self, system: System) -> Floats:
        return self._data.design(system)[:, self._functions]

    def _factorise(self) -> None:
        self._scale = 1 / np.sqrt(np.diag(self._gram))
        gram = self._gram * np.outer(self._scale, self._scale)
        self._factor = cholesky(
            gram + np.finfo(float).eps * len(gram) * np.eye(len(gram)), lower=True
        )


@dataclass(frozen=True)
class Range:
    """What the data sampled of a distance [Å] or of a channel's density, and beyond what it is
    new.
    """

    low: float
    high: float
    new_low: float
    new_high: float

    def beyond(self, values: Floats) -> float:
        """How far the furthest of some values lies outside of what was sampled."""
        if not len(values):
            return 0.0
        return max(self.low - float(values.min()), float(values.max()) - self.high, 0.0)

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
    """By term: how far it leaves what was sampled [Å, or units of a density]; only those that do.
    """
    unsound: str | None = None
    """Why it is no state of matter."""


class Judge:
    """Tells new and unsound frames from those that a fit has seen."""

    def __init__(self, fit: Fit, source: FrameSource, progress: Progress = no_progress) -> None:
        """source: what the data of the fit begin with; the threshold comes from its frames."""
        self.loss, self.topology = fit.loss, fit.data.survey.topology
        self.reach_A = max(fit.loss.cutoff_A, fit.data.reach_A)
        self.leverage = Leverage(fit, fit.problem.train)
        self.ranges: dict[str, Range] = {}
        for name, term in fit.loss.terms_of(self.topology).items():
            low, high = term.range_seen(fit.data.survey.distances[name])
            self.ranges[name] = Range(low, high, low - NEW_A, high + NEW_A)
        for channel in fit.loss.channels:
            low, high = channel.range
            self.ranges[channel.name] = Range(low, high, low - channel.fade, high + channel.fade)
        self.threshold, self.largest_force = self._calibrate(fit, source, progress)

    def systems(self, frames: Trajectory) -> Iterator[System]:
        """Frames as `judge` and the leverage want them."""
        return systems(self.topology, frames, self.reach_A)

    def _calibrate(self, fit: Fit, source: FrameSource, progress: Progress) -> tuple[float, float]:
        """Leverage beyond which a frame is new, and the largest force [eV/Å] of the source."""
        n_blocks, train = len(fit.data.frames_per_block), fit.problem.train
        stride = -(-source.n_frames // CALIBRATION_FRAMES)
        leverages, number, largest = list[float](), 0, 0.0
        without_block, current = self.leverage, -1
        for frames in source.chunks():
            for system in self.systems(frames):
                assert system.forces is not None
                block = number * n_blocks // source.n_frames
                if block != current:
                    current, others = block, [b for b in train if b != block]
                    tested = len(others) == len(train)
                    without_block = self.leverage if tested else Leverage(fit, others)
                if not system.changes:
                    largest = max(largest, largest_force(system.forces))
                    if number % stride == 0:
                        leverages.append(float(without_block.of_atoms(system).max()))
                number += 1
            progress("what is new", number, source.n_frames)
        threshold = float(np.percentile(leverages, PERCENTILE))
        return max(threshold, LEAST_LEVERAGE), largest

    def judge(self, frame: Trajectory) -> Verdict:
        """Judge one frame."""
        if not np.isfinite(frame.positions).all():
            return Verdict(np.inf, True, {}, "positions are not finite")
        (system,) = self.systems(frame)
        values = {name: pairs.r for name, pairs in system.pairs(self.loss.cutoff_A)}
        values |= self.loss.densities(system)
        depths = {name: self.ranges[name].beyond(x) for name, x in values.items()}
        beyond = {name: depth for name, depth in depths.items() if depth > 0}
        for name in self.loss.terms_of(self.topology):
            if beyond.get(name, 0.0) > UNSOUND_A:
                why = f"{name} is {beyond[name]:.2f} Å beyond the distances sampled"
                return Verdict(np.inf, True, beyond, why)
        if system.changes:
            return Verdict(np.inf, True, beyond, system.changes[0].what)
        novelty = self.novelty(system)
        leaves = any(self.ranges[name].is_new(x) for name, x in values.items())
        return Verdict(novelty, novelty > 1 or leaves, beyond)

    def novelty(self, system: System) -> float:
        """Largest leverage of an atom over the threshold."""
        return float(self.leverage.of_atoms(system).max()) / self.threshold


@dataclass(frozen=True)
class Look:
    """What a run shows: its sound frames, in the order of the atoms of the reference."""

    frames: Trajectory
    verdicts: tuple[Verdict, ...]
    """Of every frame."""
    stopped: str | None = None
    """Why the run does not count to its end."""

    @property
    def new(self) -> list[int]:
        """The frames that are new."""
        return [f for f, verdict in enumerate(self.verdicts) if verdict.new]

    def seen(self) -> RunSeen:
        """The run in numbers."""
        worst: dict[str, float] = {}
        for verdict in self.verdicts:
            worst |= {
                name: max(depth, worst.get(name, 0.0)) for name, depth in verdict.beyond.items()
            }
        novelties = [verdict.novelty for verdict in self.verdicts]
        return RunSeen(
            frames=self.frames.n_frames,
            new=len(self.new),
            median_novelty=float(np.median(novelties)) if novelties else None,
            frames_beyond_range=sum(bool(verdict.beyond) for verdict in self.verdicts),
            beyond_range_A=worst,
            stopped=self.stopped,
        )


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
    """Run and frame of at most `count` of the new frames, each of largest leverage once those
    before are data.

    The last sound frame of a run that did not count to its end stands first: what went wrong began
    there.
    """
    chosen: list[tuple[int, int]] = []
    last = [
        (k, one.frames.n_frames - 1)
        for k, one in enumerate(looks)
        if one.stopped and one.frames.n_frames
    ]
    # what a frame tells only shrinks as others are counted, so an old value bounds the new one from
    # above
    heap = [(-np.inf, *place) for place in last]
    heap += [
        (-one.verdicts[f].novelty, k, f)
        for k, one in enumerate(looks)
        for f in one.new
        if (k, f) not in last
    ]
    heapq.heapify(heap)
    while heap and len(chosen) < count:
        before, k, f = heapq.heappop(heap)
        (system,) = judge.systems(looks[k].frames[f])
        if before > -np.inf:
            now = -judge.novelty(system)
            if heap and now > heap[0][0]:
                heapq.heappush(heap, (now, k, f))
                continue
        chosen.append((k, f))
        judge.leverage.learn(system)
    return chosen


def largest_force(forces: Floats) -> float:
    return float(np.linalg.norm(forces, axis=-1).max())
