"""Fit: from a stream of frames to the loss, with its walls and its errors on frames that it has not
seen.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from mld_ff.geometry.histogram import Histogram
from mld_ff.geometry.pairs import BIN_A
from mld_ff.geometry.topology import Topology
from mld_ff.inference.accumulation import Accumulated, Centred, accumulate
from mld_ff.inference.basis import Basis
from mld_ff.inference.blocks import WHOLE, Runs, Source
from mld_ff.inference.collective import CollectiveProblem, channel_terms
from mld_ff.inference.problem import Problem, jackknife_error
from mld_ff.inference.walls import with_walls
from mld_ff.loss.densities import CollectiveTerm
from mld_ff.loss.model import AgentLoss
from mld_ff.loss.terms import FreeTerm, PairTerm
from mld_ff.progress import Progress, no_progress
from mld_ff.survey import Survey, neighbour_distances
from mld_ff.trajectory import Floats, Trajectory
from mld_ff.units import EV_TO_MEV

FADE = 0.05
"""The embedding of a channel becomes straight within this part of the sampled range of densities,
outside of it.
"""
DENSITY_BIN = 0.25


def gather(
    source: Source, basis: Basis, progress: Progress = no_progress, processes: int = 1
) -> Accumulated:
    """What `fit` solves: one pass over the runs, two with a collective loss."""
    runs = Runs.of(source, progress, processes)
    return accumulate(runs, basis.terms, forms=_forms(runs, basis) if basis.collective else [])


def fit(
    source: Source,
    basis: Basis | None = None,
    progress: Progress = no_progress,
    processes: int = 1,
    data: Accumulated | None = None,
) -> AgentLoss:
    """Infer the reciprocal loss from frames with forces, and tell how good it is on frames that it
    has not seen.

    source: one run, or several of one system. Two passes over them, four with a collective loss;
    memory independent of the number of frames, numbers independent of that of processes. Blocks of
    contiguous frames are for training, every fifth for testing; only coverage, from which walls and
    ranges come, is that of all frames. The errors in
    `provenance` are those of the exported functions, walls included. The agent fit, every species
    its own loss, comes along in `agents` where pairs are all there is. data: what `gather` found,
    if that has been done. Raises InputError on data that cannot be used.
    """
    basis, runs = basis or Basis(), Runs.of(source, progress, processes)
    data = data or gather(runs, basis)
    problem = Problem.of(data)
    loss, told = (
        _with_channels(runs, data, problem, basis.collective)
        if data.forms
        else (_pairs(data, problem), {})
    )
    return _with_provenance(loss, data, problem, told | measure(runs, loss, problem.test))


def solve(data: Accumulated) -> AgentLoss:
    """The loss of pairs that `fit` infers, from accumulated frames alone (`read_shards`).

    The errors in `provenance` are those of the fitted functions without walls, as normal equations
    know them.
    """
    problem = Problem.of(data)
    loss, test = _pairs(data, problem), list(problem.test)
    square = problem.equations.residual(test, problem.coefficients())
    power, number = (
        a[test].sum(axis=0) for a in (data.equations.power_bs, data.equations.number_bs)
    )
    return _with_provenance(
        loss, data, problem, _errors(loss.species, square, power, number, walls=False)
    )


def _pairs(data: Accumulated, problem: Problem) -> AgentLoss:
    """The loss where pairs are all there is."""
    species = data.survey.topology.species
    terms = _finish(problem, problem.coefficients(), problem.jackknife(), None, data.survey)
    agents = {
        name: _finish(problem, problem.coefficients(s), problem.jackknife(s), s, data.survey)
        for s, name in enumerate(species)
    }
    return AgentLoss(species, terms, agents=agents)


def _with_provenance(
    loss: AgentLoss, data: Accumulated, problem: Problem, told: dict[str, Any]
) -> AgentLoss:
    species = loss.species
    agent_errors = [
        float(problem.relative_rmse(problem.coefficients(s))[s]) for s in range(len(species))
    ]
    exported = {f"{t.name} {c}" for t in loss.terms for c in t.coefficient_names} - set(
        problem.undetermined
    )
    provenance: dict[str, Any] = {
        "source": _source(data),
        "frames_train": sum(data.frames_per_block[b] for b in problem.train),
        "frames_test": sum(data.frames_per_block[b] for b in problem.test),
        "frames_with_broken_bonds": data.left_out,
        "blocks_train": list(problem.train),
        "blocks_test": list(problem.test),
        "n_coefficients": len(exported),
        "n_functions": len(problem.names),
        "rank": problem.rank,
        "undetermined": list(problem.undetermined),
        "weakly_determined": [name for name in problem.weakly_determined if name in exported],
        "ridge": problem.ridge,
        "condition": problem.condition,
        **told,
        "relative_rmse_agent": dict(zip(species, agent_errors, strict=True)),
        "net_force_eV_per_A": data.survey.forces.net_force,
        "force_noise_eV_per_A": data.survey.forces.noise,
        "warnings": [text for text in [data.survey.forces.warning()] if text],
        "molecules": data.survey.topology.formulas(),
        "temperature_K": (
            float(np.mean(data.survey.temperatures)) if data.survey.temperatures else None
        ),
    }
    if hopeless := [s for s, e in provenance["relative_rmse"].items() if e >= 1]:
        provenance["warnings"].append(
            "on frames that the fit has not seen it is worse than no force at all for"
            f" {', '.join(hopeless)}: more or more varied frames are needed, or a simpler basis"
        )
    return replace(loss, provenance=provenance)


def _source(data: Accumulated) -> dict[str, Any]:
    """Where the frames come from: the run, or all files and the runs one by one."""
    runs = {
        json.dumps(run, sort_keys=True): dict(run) for share in data.shares for run in share.runs
    }
    if len(runs) == 1:
        return next(iter(runs.values()))
    return {
        "files": [file for run in runs.values() for file in run.get("files", [])],
        "runs": list(runs.values()),
    }


def _forms(runs: Runs, basis: Basis) -> list[Centred]:
    """The sums of the collective loss of every species, and their means, from the distances of all
    frames.
    """
    reach = basis.reach(runs.half_width)
    seen: dict[tuple[str, str], Histogram] = {}
    for _, found in runs.over(
        runs.part(WHOLE), runs.n_blocks, "distances", neighbour_distances, reach
    ):
        for pair, histogram in found.items():
            seen.setdefault(pair, Histogram()).merge(histogram)
    forms = []
    for term in basis.forms(seen, runs.half_width):
        centres = sum(run.symbols.count(term.species[0]) * run.n_frames for run in runs.sources)
        mean = np.zeros(len(term.coefficients))
        for t, here in term.slices.items():
            pair = (term.species[0], t)
            counts = seen[pair if pair in seen else pair[::-1]].counts * (
                2 if len(set(pair)) == 1 else 1
            )
            r = np.asarray(BIN_A * (np.arange(len(counts)) + 0.5), dtype=np.float64)
            mean[here] = counts @ term.basis(t, r) / centres
        forms.append((term, mean))
    return forms


def _with_channels(
    runs: Runs, data: Accumulated, problem: Problem, wanted: int
) -> tuple[AgentLoss, dict[str, Any]]:
    """The loss with `wanted` channels for each species, and what the model file tells of how they
    came about.
    """
    collective = CollectiveProblem.of(data, problem)
    rank = collective.rank(wanted)
    fitted, each = collective.solution(rank)
    channels = [
        t for f, c in zip(data.forms, fitted.channels, strict=True) for t in channel_terms(f, c)
    ]
    channels = _with_ranges(channels, runs)
    pairs = _finish(
        problem, problem.expand(fitted.pairs), problem.expand(each), None, data.survey, channels
    )
    pairs_alone = problem.relative_rmse(problem.coefficients())
    species = data.survey.topology.species
    told = {
        "relative_rmse_pairs": dict(zip(species, pairs_alone.tolist(), strict=True)),
        "collective": {"rank": rank, "ridge": collective.ridge, "curve": collective.curve},
    }
    return AgentLoss(species, (*pairs, *channels)), told


def _with_ranges(channels: Sequence[CollectiveTerm], runs: Runs) -> list[CollectiveTerm]:
    """Channels with the range of densities that the frames sampled."""
    loss = AgentLoss(runs.topologies[0].species, tuple(channels))
    seen = {t.name: _Densities(t.rest) for t in channels}
    for _, found in runs.over(runs.part(WHOLE), runs.n_blocks, "densities", _densities, loss):
        for name, densities in found.items():
            seen[name].merge(densities)
    return [
        replace(
            t, range=(d.lowest, d.highest), fade=FADE * (d.highest - d.lowest), coverage=d.to_dict()
        )
        for t, d in zip(channels, seen.values(), strict=True)
    ]


@dataclass
class _Densities:
    """Densities of one channel that were seen; their deviation is about one."""

    rest: float
    lowest: float = math.inf
    highest: float = -math.inf
    bins: Counter[int] = field(default_factory=Counter)

    def add(self, rho: Floats) -> None:
        self.lowest, self.highest = (
            min(self.lowest, float(rho.min())),
            max(self.highest, float(rho.max())),
        )
        places, counts = np.unique(
            np.floor((rho - self.rest) / DENSITY_BIN).astype(int), return_counts=True
        )
        self.bins.update(dict(zip(places.tolist(), counts.tolist(), strict=True)))

    def merge(self, other: _Densities) -> None:
        self.lowest, self.highest = min(self.lowest, other.lowest), max(self.highest, other.highest)
        self.bins.update(other.bins)

    def to_dict(self) -> dict[str, Any]:
        first, last = min(self.bins), max(self.bins)
        return {
            "lowest": round(self.lowest, 6),
            "highest": round(self.highest, 6),
            "start": round(self.rest + first * DENSITY_BIN, 6),
            "width": DENSITY_BIN,
            "counts": [self.bins[k] for k in range(first, last + 1)],
        }


def _densities(loss: AgentLoss, topology: Topology, frames: Trajectory) -> dict[str, _Densities]:
    """Of every channel in frames whose bonds hold."""
    seen = {t.name: _Densities(t.rest) for t in loss.terms if isinstance(t, CollectiveTerm)}
    changed = {c.step for c in topology.changes(frames)}
    for f in range(frames.n_frames):
        if int(frames.step[f]) not in changed:
            for name, rho in loss.densities(topology, frames.positions[f], frames.cell[f]).items():
                seen[name].add(rho)
    return seen


def _finish(
    problem: Problem,
    best: Floats,
    each: Floats,
    species: int | None,
    survey: Survey,
    channels: Sequence[CollectiveTerm] = (),
) -> tuple[PairTerm, ...]:
    """Terms with coefficients, errors, coverage and walls; for an agent, those that its species
    takes part in.

    best: coefficients (K,); each: those without each of the training blocks in turn, (B, K).
    """
    errors = jackknife_error(each)
    finished = []
    for k, term in enumerate(problem.terms):
        if species is not None and survey.topology.species[species] not in term.species:
            continue
        here = problem.term_index == k
        histogram = survey.distances[term.name]
        filled = replace(
            term,
            coefficients=tuple(best[here].tolist()),
            coefficient_errors=tuple(errors[here].tolist()),
            coverage=_coverage(term, histogram, each[:, here]),
        )
        finished.append(with_walls(filled, histogram, channels))
    return tuple(finished)


def _coverage(term: PairTerm, seen: Histogram, each: Floats) -> dict[str, Any]:
    """Where the data were, and how sure the term is there; each: its coefficients without each of
    the blocks.
    """
    found = seen.to_dict(0.1 if isinstance(term, FreeTerm) else 0.02)
    r = found["start_A"] + found["width_A"] * (np.arange(len(found["counts"])) + 0.5)
    errors = jackknife_error(each @ term.basis(r).T) if len(r) else np.zeros(0)
    return {**found, "errors_eV": [float(f"{e:.4g}") for e in errors]}


def measure(runs: Runs, loss: AgentLoss, test: Sequence[int]) -> dict[str, Any]:
    """Errors of the finished loss on the test blocks, evaluated as the engines will."""
    alone, ranges = replace(loss, agents={}), runs.blocks(test, runs.n_blocks)
    square, power, number = sums = np.zeros((3, len(loss.species)))
    for _, more in runs.over(ranges, runs.n_blocks, "test on unseen frames", _deviations, alone):
        sums += more
    return _errors(loss.species, square, power, number, walls=True)


def _deviations(loss: AgentLoss, topology: Topology, frames: Trajectory) -> Floats:
    """Σ|F_fit - F_ref|², Σ|F_ref|² and force components per species, (3, S)."""
    index, n = topology.species_index, len(loss.species)
    changed = {c.step for c in topology.changes(frames)}
    assert frames.forces is not None
    sums = np.zeros((3, n))
    for f in range(frames.n_frames):
        if int(frames.step[f]) in changed:
            continue
        _, forces = loss.evaluate(topology, frames.positions[f], frames.cell[f])
        sums[0] += np.bincount(index, ((forces - frames.forces[f]) ** 2).sum(axis=1), n)
        sums[1] += np.bincount(index, (frames.forces[f] ** 2).sum(axis=1), n)
        sums[2] += 3 * np.bincount(index, minlength=n)
    return sums


def _errors(
    species: Sequence[str], square: Floats, power: Floats, number: Floats, walls: bool
) -> dict[str, Any]:
    """From Σ|F_fit - F_ref|², Σ|F_ref|² and force components of the test blocks per species,
    (S,).
    """
    per_species = np.sqrt(square / number) * EV_TO_MEV
    return {
        "relative_rmse": dict(zip(species, np.sqrt(square / power).tolist(), strict=True)),
        "rmse_meV_per_A": float(np.sqrt(square.sum() / number.sum()) * EV_TO_MEV),
        "rmse_meV_per_A_by_species": dict(zip(species, per_species.tolist(), strict=True)),
        "errors_include_walls": walls,
    }
