"""Inference: from a stream of frames to the loss, by linear least squares on normal equations.

Forces are linear in the coefficients: F_i = Σ_k c_k X_ik. Blocks of contiguous frames and species are kept apart,
so one pass over the data serves training, testing, cross-validation, jack-knife, the reciprocal fit (one function
per kind of pair: all species together) and the agent fit (every species its own).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import qr
from scipy.sparse import csr_array

from mld_ff.errors import InputError
from mld_ff.invariants import Pairs, half_width
from mld_ff.loss import AgentLoss, BondTerm, FreeTerm, PowerTerm, SplineTerm, Term, wall_stiffness
from mld_ff.survey import BIN_A, Histogram, Progress, Survey, default_cutoff, no_progress
from mld_ff.topology import Topology, find_topology
from mld_ff.trajectory import Floats, FrameSource, Trajectory
from mld_ff.units import EV_TO_MEV

Indices = NDArray[np.integer[Any]]

N_BLOCKS = 10
TEST_EVERY = 5
"""Every fifth block is for testing."""
MOST_CHANGED = 0.1
"""More frames than this fraction with broken bonds: no force field with fixed bonds describes the system."""
RIDGES = (1e-7, 1e-6, 1e-5, 1e-4, 1e-3)
RIDGE_SLACK = 1.002
"""The strongest ridge is taken whose cross-validated squared error is within this factor of the least one."""
RANK_TOLERANCE = 1e-11
WALL_DEPTH_A = 0.1
"""Walls begin this far outside the shortest sampled distance, so that they push back by the time it is reached."""
WALL_PUSHES_BACK = 0.7
"""... namely from this fraction of the way on."""
WALL_PAIRS = 20
"""... and not before this many pairs have been seen inside."""
LEAST_STIFFNESS = 10.0
"""[eV/Å³] of every wall."""
LONGEST_CUTOFF_A = 5.5
"""Beyond this, pairs cost time and add nothing to water: 5.5 and 6.2 Å give the same errors and the same structure."""
INNERMOST_A = 0.6
"""Splines are laid out from here and trimmed to the sampled range afterwards."""


@dataclass(frozen=True)
class Basis:
    """Which functions to fit."""

    kind: str = "spline"
    """`spline` or `power`: the free terms."""
    exponents: tuple[float, ...] = (3.0,)
    """Of the invariants q_n of power terms."""
    spacing_A: float = 0.2
    """Of the knots of spline terms."""
    bond_degree: int = 4
    """Of the polynomials of bonded terms; 2 is harmonic."""
    cutoff_A: float | None = None
    """Of free terms; None: 5.5 Å, or half the smallest width of the cell if that is shorter."""

    def __post_init__(self) -> None:
        if self.kind not in ("spline", "power"):
            raise InputError(f"the basis is {self.kind!r}; known: spline, power")
        if self.kind == "power" and (not self.exponents or len(set(self.exponents)) < len(self.exponents)):
            raise InputError(f"the exponents are {list(self.exponents)}: at least one is needed, each once")
        if 0.0 in self.exponents:
            raise InputError("the exponent 0 is no invariant: r^0 is the same for every pair")
        if not 1 <= self.bond_degree <= 8:
            raise InputError(f"the degree of bonded terms is {self.bond_degree}; expected 1 to 8")
        if not BIN_A <= self.spacing_A <= 1:
            raise InputError(f"the knot spacing is {self.spacing_A} Å; expected {BIN_A} to 1 Å")

    def terms(self, frame: Trajectory, topology: Topology) -> tuple[Term, ...]:
        """Terms with zero coefficients for every kind of pair of the system."""
        cutoff = round(round((self.cutoff_A or default_cutoff(frame.cell, LONGEST_CUTOFF_A)) / BIN_A) * BIN_A, 6)
        bonded: list[Term] = []
        for (path, name), pairs in zip(topology.bonded_names.items(), _bonded(topology, frame), strict=True):
            r0 = round(float(pairs.r.mean()), 4)
            zeros = (0.0,) * self.bond_degree
            bonded.append(BondTerm(name=name, species=(path[0], path[-1]), coefficients=zeros, path=path, r0_A=r0))
        return (*bonded, *(self._free(f"free:{a}-{b}", (a, b), cutoff) for a, b in topology.free))

    def _free(self, name: str, species: tuple[str, str], cutoff: float) -> FreeTerm:
        if self.kind == "spline":
            n = int((cutoff - INNERMOST_A) / self.spacing_A)
            spacing = round(round(self.spacing_A / BIN_A) * BIN_A, 6)
            return SplineTerm(name=name, species=species, coefficients=(0.0,) * n, cutoff_A=cutoff, spacing_A=spacing)
        m = len(self.exponents)
        zeros = (0.0,) * (m + m * (m + 1) // 2)
        return PowerTerm(name=name, species=species, coefficients=zeros, cutoff_A=cutoff, exponents=self.exponents)


def _bonded(topology: Topology, frame: Trajectory) -> list[Pairs]:
    """Bonded pairs of the first frame, in the order of `bonded_names`."""
    found = dict(topology.pairs(frame.positions[0], frame.cell[0], 1.0))
    return [found[name] for name in topology.bonded_names.values()]


@dataclass
class NormalEquations:
    """Sums over frames that determine the least-squares solution; they add up over blocks and trajectories.

    b blocks, s species, k coefficients.
    """

    gram_bskk: Floats
    """Σ XᵀX [the product of two functions' forces]."""
    moment_bsk: Floats
    """Σ XᵀF."""
    power_bs: Floats
    """Σ F² [eV²/Å²]."""
    number_bs: Floats
    """Force components."""

    @classmethod
    def zeros(cls, blocks: int, species: int, functions: int) -> NormalEquations:
        return cls(
            np.zeros((blocks, species, functions, functions)),
            np.zeros((blocks, species, functions)),
            np.zeros((blocks, species)),
            np.zeros((blocks, species)),
        )

    def add(self, block: int, design: Floats, forces: Floats, rows: Sequence[Indices]) -> None:
        """Add a frame: design (3N, K), forces (3N,), rows of every species."""
        for s, row in enumerate(rows):
            x, f = design[row], forces[row]
            self.gram_bskk[block, s] += x.T @ x
            self.moment_bsk[block, s] += x.T @ f
            self.power_bs[block, s] += f @ f
            self.number_bs[block, s] += len(f)

    def select(self, functions: Indices) -> NormalEquations:
        """The same data for some of the functions."""
        gram = self.gram_bskk[:, :, functions][:, :, :, functions]
        return NormalEquations(gram, self.moment_bsk[:, :, functions], self.power_bs, self.number_bs)

    def residual(self, blocks: Sequence[int], coefficients: Floats) -> Floats:
        """Σ |F_fit - F_ref|² per species (S,) over the given blocks."""
        b = list(blocks)
        gram, moment = self.gram_bskk[b].sum(axis=0), self.moment_bsk[b].sum(axis=0)
        square = np.einsum("k,skl,l->s", coefficients, gram, coefficients)
        return np.asarray(np.maximum(self.power_bs[b].sum(axis=0) - 2 * moment @ coefficients + square, 0))

    def solve(self, blocks: Sequence[int], species: Sequence[int], penalty: Floats, ridge: float) -> Floats:
        """Coefficients (K,) from some blocks and species; `penalty` (K, K) is weighted by ridge × mean of the Gram.

        Functions that occur in none of the data get zero.
        """
        gram = self.gram_bskk[list(blocks)][:, list(species)].sum(axis=(0, 1))
        moment = self.moment_bsk[list(blocks)][:, list(species)].sum(axis=(0, 1))
        gram = gram + ridge * np.trace(gram) / len(gram) * penalty
        occurs = np.diag(gram) > 0
        scale = np.where(occurs, 1 / np.sqrt(np.where(occurs, np.diag(gram), 1)), 0)
        solution = np.linalg.lstsq(gram * np.outer(scale, scale), moment * scale, rcond=RANK_TOLERANCE)[0]
        return np.asarray(solution * scale, dtype=np.float64)


def design_matrix(terms: Sequence[Term], pairs: dict[str, Pairs], n_atoms: int) -> Floats:
    """Forces (3N, K) [eV/Å] that unit coefficients of the terms exert in one frame."""
    blocks = []
    for term in terms:
        p = pairs[term.name]
        unit = p.vector / p.r[:, None]
        axes = np.arange(3)
        rows = np.concatenate([3 * p.i[:, None] + axes, 3 * p.j[:, None] + axes], axis=1)
        values = np.concatenate([unit, -unit], axis=1)
        columns = np.repeat(np.arange(len(p.r)), 6)
        spread = csr_array((values.ravel(), (rows.ravel(), columns)), shape=(3 * n_atoms, len(p.r)))
        blocks.append(spread @ term.basis(p.r, 1))
    return np.concatenate(blocks, axis=1)


@dataclass
class Accumulated:
    """One pass over the data."""

    terms: tuple[Term, ...]
    survey: Survey
    equations: NormalEquations
    frames_per_block: list[int]


def accumulate(source: FrameSource, basis: Basis, progress: Progress = no_progress) -> Accumulated:
    """Stream all frames once: normal equations per block and species, coverage per term, broken bonds.

    Raises InputError if the source has no forces, too few frames, or bonds that keep breaking.
    """
    n_frames = source.n_frames
    if n_frames < 4:
        raise InputError(f"{n_frames} frames are too few: at least 4 are needed to fit on some and test on others")
    n_blocks = min(N_BLOCKS, n_frames // 2)
    result: Accumulated | None = None
    number = 0
    rows: list[Indices] = []
    for frames in source.chunks():
        if frames.forces is None:
            raise InputError("the trajectory holds no forces: print &MOTION/&PRINT/&FORCES in the CP2K run")
        if result is None:
            result = _start(frames[0], basis, n_blocks)
            species = result.survey.topology.species_index
            rows = [np.flatnonzero(np.repeat(species == s, 3)) for s in range(species.max() + 1)]
        if half_width(frames.cell) < result.survey.cutoff_A:
            raise InputError(
                f"the cutoff {result.survey.cutoff_A:g} Å is longer than half the smallest width of the cell "
                f"({half_width(frames.cell):.3f} Å) in some frame: choose a shorter one"
            )
        changed = {c.step for c in result.survey.add(frames)}
        for f in range(frames.n_frames):
            block = number * n_blocks // n_frames
            number += 1
            if int(frames.step[f]) not in changed:
                _add_frame(result, block, frames.positions[f], frames.cell[f], frames.forces[f], rows)
        progress("invariants and normal equations", number, n_frames)
    assert result is not None
    left_out = number - sum(result.frames_per_block)
    if left_out > MOST_CHANGED * number:
        change = result.survey.changes[0]
        raise InputError(
            f"bonds break in {left_out} of {number} frames, first at step {change.step} ({change.time_fs:g} fs): "
            f"{change.what}. A force field with fixed bonds cannot describe this; fit a part of the run without "
            "reactions, or check that cell and positions belong together"
        )
    return result


def _start(first: Trajectory, basis: Basis, n_blocks: int) -> Accumulated:
    topology = find_topology(first.symbols, first.positions[0], first.cell[0])
    terms = basis.terms(first, topology)
    cutoff = max((t.cutoff_A for t in terms if isinstance(t, FreeTerm)), default=0.0)
    functions = sum(len(t.coefficients) for t in terms)
    equations = NormalEquations.zeros(n_blocks, len(topology.species), functions)
    return Accumulated(terms, Survey(topology, cutoff), equations, [0] * n_blocks)


def _add_frame(
    into: Accumulated, block: int, positions: Floats, cell: Floats, forces: Floats, rows: Sequence[Indices]
) -> None:
    pairs = dict(into.survey.topology.pairs(positions, cell, into.survey.cutoff_A))
    for name, p in pairs.items():
        into.survey.add_distances(name, p.r)
    design = design_matrix(into.terms, pairs, len(positions))
    into.equations.add(block, design, forces.ravel(), rows)
    into.frames_per_block[block] += 1


def fit(source: FrameSource, basis: Basis | None = None, progress: Progress = no_progress) -> AgentLoss:
    """Infer the reciprocal loss from frames with forces, and tell how good it is on frames that it has not seen.

    Two passes over the source, memory independent of the number of frames. Blocks of contiguous frames are for
    training, every fifth for testing. The errors in `provenance` are those of the exported functions, walls
    included. Raises InputError on data that cannot be used.
    """
    data = accumulate(source, basis or Basis(), progress)
    n_blocks = len(data.frames_per_block)
    test = [b for b in range(n_blocks) if b % TEST_EVERY == TEST_EVERY - 1] or [n_blocks - 1]
    train = [b for b in range(n_blocks) if b not in test]
    terms, equations = _trim(data)
    penalty = _penalty(terms, equations, train)
    every = range(equations.power_bs.shape[1])
    undetermined = _undetermined(terms, equations, train)
    kept = np.array([k for k, name in enumerate(_names(terms)) if name not in undetermined])
    reduced, penalty = equations.select(kept), penalty[np.ix_(kept, kept)]
    ridge = _choose_ridge(reduced, train, penalty)

    def expand(c: Floats) -> Floats:
        full = np.zeros(len(_names(terms)))
        full[kept] = c
        return full

    best = expand(reduced.solve(train, every, penalty, ridge))
    errors = expand(_jackknife(reduced, train, penalty, ridge))
    agent = [reduced.solve(train, [s], penalty, ridge) for s in every]
    loss = AgentLoss(data.survey.topology.species, _finish(terms, best, errors, data.survey))
    measured = _measure(loss, source, data, test, progress)
    power = equations.power_bs[test].sum(axis=0)
    agent_error = [float(np.sqrt(reduced.residual(test, c)[s] / power[s])) for s, c in enumerate(agent)]
    provenance = {
        "source": source.source,
        "frames_train": sum(data.frames_per_block[b] for b in train),
        "frames_test": sum(data.frames_per_block[b] for b in test),
        "frames_with_broken_bonds": len({c.step for c in data.survey.changes}),
        "blocks_train": train,
        "blocks_test": test,
        "n_coefficients": len(kept),
        "undetermined": undetermined,
        "weakly_determined": _weak(reduced, train, penalty, ridge, [_names(terms)[k] for k in kept]),
        "ridge": ridge,
        "condition": _condition(reduced, train),
        **measured,
        "relative_rmse_agent": dict(zip(loss.species, agent_error, strict=True)),
        "net_force_eV_per_A": data.survey.forces.net_force,
        "warnings": [text for text in [data.survey.forces.warning()] if text],
        "molecules": data.survey.topology.formulas(),
        "temperature_K": float(np.mean(data.survey.temperatures)) if data.survey.temperatures else None,
    }
    return replace(loss, provenance=provenance)


def _names(terms: Sequence[Term]) -> list[str]:
    return [f"{t.name} {c}" for t in terms for c in t.coefficient_names]


def _trim(data: Accumulated) -> tuple[list[Term], NormalEquations]:
    """Drop spline functions that lie wholly below the shortest sampled distance, where the wall rules."""
    terms: list[Term] = []
    keep: list[bool] = []
    for term in data.terms:
        n = len(term.coefficients)
        drop = 0
        shortest = data.survey.distances[term.name].shortest
        if isinstance(term, SplineTerm) and np.isfinite(shortest):
            # the wall takes value and derivatives at its edge, so all four functions there must stay
            drop = max(int(np.searchsorted(term.knots, shortest, side="right")) - 4, 0)
        terms.append(replace(term, coefficients=term.coefficients[drop:]))
        keep.extend([False] * drop + [True] * (n - drop))
    return terms, data.equations.select(np.flatnonzero(keep))


def _penalty(terms: Sequence[Term], equations: NormalEquations, train: Sequence[int]) -> Floats:
    """What the ridge weighs, (K, K), in units of the mean diagonal of the Gram matrix.

    Splines: second differences of neighbouring coefficients, beyond the cutoff zero (smoothness). Power laws: the
    diagonal of the Gram matrix, which keeps large coefficients from cancelling (engines add them in float32).
    """
    diagonal = np.diag(equations.gram_bskk[list(train)].sum(axis=(0, 1)))
    penalty, at = np.zeros((len(diagonal), len(diagonal))), 0
    for term in terms:
        n = len(term.coefficients)
        here = slice(at, at + n)
        if isinstance(term, SplineTerm):
            second = np.diff(np.eye(n + 3), 2, axis=0)[:, :n]
            penalty[here, here] = second.T @ second
        elif isinstance(term, FreeTerm):
            penalty[here, here] = np.diag(diagonal[here]) / diagonal.mean()
        at += n
    return penalty


def _normalised_gram(equations: NormalEquations, blocks: Sequence[int]) -> Floats:
    gram = equations.gram_bskk[list(blocks)].sum(axis=(0, 1))
    scale = 1 / np.sqrt(np.maximum(np.diag(gram), np.finfo(float).tiny))
    return np.asarray(gram * np.outer(scale, scale))


def _undetermined(terms: Sequence[Term], equations: NormalEquations, train: Sequence[int]) -> list[str]:
    """Names of coefficients that depend linearly on others, or whose term no data touch.

    A spline that some data touch is left to its smoothness prior.
    """
    names = _names(terms)
    term_of = np.array([k for k, t in enumerate(terms) for _ in t.coefficients])
    touched = np.einsum("bskk->k", equations.gram_bskk[list(train)]) > 0
    touched = np.array([touched[term_of == k].any() for k in range(len(terms))])[term_of]
    candidates = np.flatnonzero(touched & [not isinstance(terms[k], SplineTerm) for k in term_of])
    missing = {names[k] for k in np.flatnonzero(~touched)}
    if len(candidates):
        _, r, order = qr(_normalised_gram(equations.select(candidates), train), pivoting=True)
        dependent = np.abs(np.diag(r)) < RANK_TOLERANCE * max(abs(r[0, 0]), 1)
        missing |= {names[candidates[k]] for k in order[dependent]}
    return sorted(missing)


def _condition(equations: NormalEquations, train: Sequence[int]) -> float:
    """Ratio of the extreme singular values of the design with columns of length one."""
    values = np.linalg.eigvalsh(_normalised_gram(equations, train))
    return float(f"{np.sqrt(values[-1] / max(values[0], np.finfo(float).eps * values[-1])):.4g}")


def _choose_ridge(equations: NormalEquations, train: Sequence[int], penalty: Floats) -> float:
    """Strongest of RIDGES that cross-validation over the training blocks does not tell from the best."""
    if not penalty.any() or len(train) < 2:
        return RIDGES[0]
    every = range(equations.power_bs.shape[1])
    errors = [
        sum(
            equations.residual([b], equations.solve([t for t in train if t != b], every, penalty, ridge)).sum()
            for b in train
        )
        for ridge in RIDGES
    ]
    return max(r for r, e in zip(RIDGES, errors, strict=True) if e <= RIDGE_SLACK * min(errors))


def _jackknife(equations: NormalEquations, train: Sequence[int], penalty: Floats, ridge: float) -> Floats:
    """Standard errors of the coefficients from leaving out one block at a time; zero with a single block."""
    n = len(train)
    if n < 2:
        return np.zeros(len(penalty))
    every = range(equations.power_bs.shape[1])
    each = np.array([equations.solve([t for t in train if t != b], every, penalty, ridge) for b in train])
    return np.asarray(np.sqrt((n - 1) / n * ((each - each.mean(axis=0)) ** 2).sum(axis=0)))


def _weak(
    equations: NormalEquations, train: Sequence[int], penalty: Floats, ridge: float, names: Sequence[str]
) -> list[str]:
    """Coefficients that rest on the ridge more than on the data."""
    gram = equations.gram_bskk[list(train)].sum(axis=(0, 1))
    prior = ridge * np.trace(gram) / len(gram) * penalty
    by_data = np.diag(np.linalg.pinv(gram + prior, hermitian=True) @ gram)
    return [n for n, share, p in zip(names, by_data, np.diag(prior), strict=True) if p > 0 and share < 0.5]


def _finish(terms: Sequence[Term], best: Floats, errors: Floats, survey: Survey) -> tuple[Term, ...]:
    """Terms with coefficients, errors, coverage and walls."""
    finished, at = [], 0
    for term in terms:
        here = slice(at, at + len(term.coefficients))
        at = here.stop
        histogram = survey.distances[term.name]
        filled = replace(
            term,
            coefficients=tuple(best[here].tolist()),
            coefficient_errors=tuple(errors[here].tolist()),
            coverage=histogram.to_dict(0.1 if isinstance(term, FreeTerm) else 0.02),
        )
        finished.append(_with_walls(filled, histogram))
    return tuple(finished)


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
        return replace(term, wall_edge_A=edge_A, wall_stiffness_eV_per_A3=stiffness)
    assert isinstance(term, BondTerm)
    low, high = math.floor(seen.shortest / BIN_A), math.ceil(seen.longest / BIN_A)
    ends = (round(low * BIN_A, 6), round(high * BIN_A, 6))
    walls = replace(term, range_A=ends).walls
    low_wall, high_wall = (wall_stiffness(w.force, w.curvature, WALL_DEPTH_A, LEAST_STIFFNESS) for w in walls)
    return replace(term, range_A=ends, wall_stiffness_eV_per_A3=(low_wall, high_wall))


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
            block, done = done * n_blocks // source.n_frames, done + 1
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
