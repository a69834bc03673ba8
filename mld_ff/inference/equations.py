"""Normal equations, accumulated while frames stream by.

Forces are linear in the coefficients: F_i = Σ_k c_k X_ik. Blocks of contiguous frames and species are kept apart,
so one pass over the data serves training, testing, cross-validation, jack-knife, the reciprocal fit (one function
per kind of pair: all species together) and the agent fit (every species its own).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from mld_ff.errors import InputError
from mld_ff.inference.processes import spread
from mld_ff.inference.runs import WHOLE, Group, Part, Runs, check_same_kinds
from mld_ff.invariants import Pairs
from mld_ff.loss import FreeTerm, Term
from mld_ff.survey import Progress, Survey, check_cutoff, no_progress
from mld_ff.topology import Topology
from mld_ff.trajectory import Floats, FrameSource, Trajectory

Indices = NDArray[np.integer[Any]]
Layout = Callable[[Trajectory, Topology, float], tuple[Term, ...]]
"""Gives the terms to fit, for the first frame, its topology, and half the smallest width of the cell in any frame."""

MOST_CHANGED = 0.1
"""More frames than this fraction with broken bonds: no force field with fixed bonds describes the system."""
RANK_TOLERANCE = 1e-11


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

    def merge(self, other: NormalEquations, first_block: int = 0) -> None:
        """Add other data, whose blocks are those from `first_block` on."""
        for name, own in vars(self).items():
            more = getattr(other, name)
            own[first_block : first_block + len(more)] += more

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


@dataclass(frozen=True)
class Share:
    """Which frames were accumulated: a part of these runs."""

    runs: tuple[Mapping[str, Any], ...]
    """`source` of each, with its number of `frames` and its `first_step`."""
    part: Part = WHOLE


@dataclass
class Accumulated:
    """What frames say about the coefficients of `terms`: sums, which add up over parts and runs."""

    terms: tuple[Term, ...]
    survey: Survey
    equations: NormalEquations
    frames_per_block: list[int]
    frames: int = 0
    """Seen; those with broken bonds are in no block."""
    shares: tuple[Share, ...] = ()

    def merge(self, other: Accumulated, first_block: int = 0) -> None:
        """Add other frames, whose blocks are those from `first_block` on."""
        self.survey.merge(other.survey)
        self.equations.merge(other.equations, first_block)
        for b, n in enumerate(other.frames_per_block, first_block):
            self.frames_per_block[b] += n
        self.frames += other.frames
        self.shares += other.shares

    @property
    def left_out(self) -> int:
        """Frames with broken bonds."""
        return self.frames - sum(self.frames_per_block)

    def check_reactions(self) -> None:
        """Raise InputError if bonds break in so many frames that no force field with fixed bonds describes them."""
        if self.left_out > MOST_CHANGED * self.frames:
            change = self.survey.changes[0]
            raise InputError(
                f"bonds break in {self.left_out} of {self.frames} frames, first at step {change.step} "
                f"({change.time_fs:g} fs): {change.what}. A force field with fixed bonds cannot describe this; fit a "
                "part of the run without reactions, or check that cell and positions belong together"
            )


def accumulate(
    source: FrameSource | Sequence[FrameSource],
    layout: Layout | Accumulated,
    progress: Progress = no_progress,
    processes: int = 1,
    part: Part = WHOLE,
) -> Accumulated:
    """Stream all frames once: normal equations per block and species, coverage per term, broken bonds.

    source: one run, or several of one system. layout: gives the terms; or what was accumulated before, to go on with
    its terms. part: only these frames, in the blocks of the whole. Sums are the same, bit by bit, for any number of
    processes. Raises InputError if runs have no forces, too few frames or bonds that keep breaking, or are not of one
    system.
    """
    runs = Runs.of(source)
    total = _start(runs, layout)
    first, last = part.range(runs.n_frames)
    shared = total.terms, total.survey.cutoff_A, runs.topologies
    for block, piece in spread(_accumulate, shared, runs.part(part, len(total.frames_per_block)), processes):
        total.merge(piece, block)
        progress("invariants and normal equations", total.frames, last - first)
    told = [
        {**run.source, "frames": run.n_frames, "first_step": int(frame.step[0])}
        for run, frame in zip(runs.sources, runs.firsts, strict=True)
    ]
    total.shares = (Share(tuple(told), part),)
    if part == WHOLE:
        total.check_reactions()
    return total


def _start(runs: Runs, layout: Layout | Accumulated) -> Accumulated:
    n_blocks, topology, half_width = runs.n_blocks, runs.topologies[0], runs.half_width
    if isinstance(layout, Accumulated):
        terms, n_blocks = layout.terms, len(layout.frames_per_block)
        check_same_kinds(topology, layout.survey.topology)
    else:
        terms = layout(runs.firsts[0], topology, half_width)
    cutoff = max((t.cutoff_A for t in terms if isinstance(t, FreeTerm)), default=0.0)
    if cutoff:
        check_cutoff(cutoff, half_width)
    return _blank(terms, Survey(topology, cutoff), n_blocks)


def _blank(terms: tuple[Term, ...], survey: Survey, n_blocks: int) -> Accumulated:
    functions = sum(len(t.coefficients) for t in terms)
    equations = NormalEquations.zeros(n_blocks, len(survey.topology.species), functions)
    return Accumulated(terms, survey, equations, [0] * n_blocks)


def _accumulate(shared: tuple[tuple[Term, ...], float, list[Topology]], group: Group) -> tuple[int, Accumulated]:
    """The block of a group of frames, and what they add to it."""
    (terms, cutoff, topologies), (run, block, frames) = shared, group
    topology = topologies[run]
    piece = _blank(terms, Survey(topology, cutoff), 1)
    piece.frames = frames.n_frames
    rows = [np.flatnonzero(np.repeat(topology.species_index == s, 3)) for s in range(len(topology.species))]
    changed = {c.step for c in piece.survey.add(frames)}
    assert frames.forces is not None
    for f in range(frames.n_frames):
        if int(frames.step[f]) not in changed:
            _add_frame(piece, 0, frames.positions[f], frames.cell[f], frames.forces[f], rows)
    return block, piece


def _add_frame(
    into: Accumulated, block: int, positions: Floats, cell: Floats, forces: Floats, rows: Sequence[Indices]
) -> None:
    pairs = dict(into.survey.topology.pairs(positions, cell, into.survey.cutoff_A))
    for name, p in pairs.items():
        into.survey.add_distances(name, p.r)
    design = design_matrix(into.terms, pairs, len(positions))
    into.equations.add(block, design, forces.ravel(), rows)
    into.frames_per_block[block] += 1
