"""Fit: from a stream of frames to the loss, with its walls and its errors on frames that it has not seen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from mld_ff.inference.basis import Basis
from mld_ff.inference.equations import Accumulated, accumulate, block_of
from mld_ff.inference.problem import Problem, jackknife_error
from mld_ff.loss import AgentLoss, BondTerm, FreeTerm, SplineTerm, Term, wall_stiffness
from mld_ff.survey import BIN_A, Histogram, Progress, Survey, no_progress
from mld_ff.trajectory import Floats, FrameSource
from mld_ff.units import EV_TO_MEV

WALL_DEPTH_A = 0.1
"""Walls begin this far outside the shortest sampled distance, so that they push back by the time it is reached."""
WALL_PUSHES_BACK = 0.7
"""... namely from this fraction of the way on."""
WALL_PAIRS = 20
"""... and not before this many pairs have been seen inside."""
LEAST_STIFFNESS = 10.0
"""[eV/Å³] of every wall."""


def fit(source: FrameSource, basis: Basis | None = None, progress: Progress = no_progress) -> AgentLoss:
    """Infer the reciprocal loss from frames with forces, and tell how good it is on frames that it has not seen.

    Two passes over the source, memory independent of the number of frames. Blocks of contiguous frames are for
    training, every fifth for testing; only coverage, from which walls begin, is that of all frames. The errors in
    `provenance` are those of the exported functions, walls included. The agent fit, every species its own loss, comes
    along in `agents`. Raises InputError on data that cannot be used.
    """
    data = accumulate(source, (basis or Basis()).terms, progress)
    problem = Problem.of(data)
    species = data.survey.topology.species
    terms = _finish(problem, None, data.survey)
    agents = {name: _finish(problem, s, data.survey) for s, name in enumerate(species)}
    loss = AgentLoss(species, terms, agents=agents)
    agent_errors = [float(problem.relative_rmse(problem.coefficients(s))[s]) for s in range(len(species))]
    exported = {f"{t.name} {c}" for t in terms for c in t.coefficient_names} - set(problem.undetermined)
    provenance: dict[str, Any] = {
        "source": source.source,
        "frames_train": sum(data.frames_per_block[b] for b in problem.train),
        "frames_test": sum(data.frames_per_block[b] for b in problem.test),
        "frames_with_broken_bonds": len({c.step for c in data.survey.changes}),
        "blocks_train": list(problem.train),
        "blocks_test": list(problem.test),
        "n_coefficients": len(exported),
        "n_functions": len(problem.names),
        "rank": problem.rank,
        "undetermined": list(problem.undetermined),
        "weakly_determined": [name for name in problem.weakly_determined if name in exported],
        "ridge": problem.ridge,
        "condition": problem.condition,
        **_measure(loss, source, data, problem.test, progress),
        "relative_rmse_agent": dict(zip(species, agent_errors, strict=True)),
        "net_force_eV_per_A": data.survey.forces.net_force,
        "force_noise_eV_per_A": data.survey.forces.noise,
        "warnings": [text for text in [data.survey.forces.warning()] if text],
        "molecules": data.survey.topology.formulas(),
        "temperature_K": float(np.mean(data.survey.temperatures)) if data.survey.temperatures else None,
    }
    if hopeless := [s for s, e in provenance["relative_rmse"].items() if e >= 1]:
        provenance["warnings"].append(
            f"on frames that the fit has not seen it is worse than no force at all for {', '.join(hopeless)}: more or "
            "more varied frames are needed, or a simpler basis"
        )
    return replace(loss, provenance=provenance)


def _finish(problem: Problem, species: int | None, survey: Survey) -> tuple[Term, ...]:
    """Terms with coefficients, errors, coverage and walls; for an agent, those that its species takes part in."""
    best, each = problem.coefficients(species), problem.jackknife(species)
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
        finished.append(_with_walls(filled, histogram))
    return tuple(finished)


def _coverage(term: Term, seen: Histogram, each: Floats) -> dict[str, Any]:
    """Where the data were, and how sure the term is there; each: its coefficients without each of the blocks."""
    found = seen.to_dict(0.1 if isinstance(term, FreeTerm) else 0.02)
    r = found["start_A"] + found["width_A"] * (np.arange(len(found["counts"])) + 0.5)
    errors = jackknife_error(each @ term.basis(r).T) if len(r) else np.zeros(0)
    return {**found, "errors_eV": [float(f"{e:.4g}") for e in errors]}


def _with_walls(term: Term, seen: Histogram) -> Term:
    if isinstance(term, FreeTerm):
        if not seen.n:  # nobody came within the cutoff, and nobody shall
            return replace(term, wall_edge_A=term.cutoff_A, wall_stiffness_eV_per_A3=LEAST_STIFFNESS)
        # on the grid of BIN_A, where exported tables have their points
        edge = math.ceil(max(seen.shortest + WALL_DEPTH_A, seen.distance_below(min(WALL_PAIRS, seen.n))) / BIN_A)
        edge_A = round(min(edge * BIN_A, term.cutoff_A - BIN_A), 6)
        wall = replace(term, wall_edge_A=edge_A).walls[0]
        depth = WALL_PUSHES_BACK * max(edge_A - seen.shortest, BIN_A)
        stiffness = wall_stiffness(wall.force, wall.curvature, depth, LEAST_STIFFNESS)
        return _without_hidden(replace(term, wall_edge_A=edge_A, wall_stiffness_eV_per_A3=stiffness))
    assert isinstance(term, BondTerm)
    low, high = math.floor(seen.shortest / BIN_A), math.ceil(seen.longest / BIN_A)
    ends = (round(low * BIN_A, 6), round(high * BIN_A, 6))
    walls = replace(term, range_A=ends).walls
    low_wall, high_wall = (wall_stiffness(w.force, w.curvature, WALL_DEPTH_A, LEAST_STIFFNESS) for w in walls)
    return replace(term, range_A=ends, wall_stiffness_eV_per_A3=(low_wall, high_wall))


def _without_hidden(term: FreeTerm) -> FreeTerm:
    """Drop the spline functions that end before the wall's edge: few data determine them, and they change nothing."""
    if not isinstance(term, SplineTerm):
        return term
    hidden = max(int(np.searchsorted(term.knots, term.wall_edge_A, side="right")) - 4, 0)
    kept, errors = term.coefficients[hidden:], term.coefficient_errors[hidden:]
    return replace(term, coefficients=kept, coefficient_errors=errors)


def _measure(
    loss: AgentLoss, source: FrameSource, data: Accumulated, test: Sequence[int], progress: Progress
) -> dict[str, Any]:
    """Errors of the finished loss on the test blocks, evaluated as the engines will."""
    topology, n_blocks = data.survey.topology, len(data.frames_per_block)
    changed = {c.step for c in data.survey.changes}
    square, power, number = (np.zeros(len(loss.species)) for _ in range(3))
    index, done = topology.species_index, 0
    for frames in source.chunks():
        assert frames.forces is not None
        for f in range(frames.n_frames):
            block, done = block_of(done, source.n_frames, n_blocks), done + 1
            if block not in test or int(frames.step[f]) in changed:
                continue
            _, forces = loss.evaluate(topology, frames.positions[f], frames.cell[f])
            deviation = ((forces - frames.forces[f]) ** 2).sum(axis=1)
            square += np.bincount(index, deviation, len(square))
            power += np.bincount(index, (frames.forces[f] ** 2).sum(axis=1), len(square))
            number += 3 * np.bincount(index, minlength=len(square))
        progress("test on unseen frames", done, source.n_frames)
    per_species = np.sqrt(square / number) * EV_TO_MEV
    return {
        "relative_rmse": dict(zip(loss.species, np.sqrt(square / power).tolist(), strict=True)),
        "rmse_meV_per_A": float(np.sqrt(square.sum() / number.sum()) * EV_TO_MEV),
        "rmse_meV_per_A_by_species": dict(zip(loss.species, per_species.tolist(), strict=True)),
    }
