"""Normal equations, accumulated while frames stream by.

Forces are linear in the coefficients: F_i = Σ_k c_k X_ik. Blocks of contiguous frames and species
are kept apart, so one pass over the data serves training, testing, cross-validation, jack-knife,
the reciprocal fit (one function
per kind of pair: all species together) and the agent fit (every species its own).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mld_ff.errors import InputError
from mld_ff.geometry.pairs import both_ways, check_cutoff, neighbour_pairs
from mld_ff.geometry.topology import Topology
from mld_ff.inference.blocks import WHOLE, Part, Runs, Source, check_same_kinds
from mld_ff.inference.design import Form, _on_molecules, design_matrix
from mld_ff.inference.normal_equations import Indices, NormalEquations
from mld_ff.loss.densities import CollectiveTerm
from mld_ff.loss.terms import FreeTerm, PairTerm
from mld_ff.progress import Progress, no_progress
from mld_ff.survey import Survey
from mld_ff.trajectory import Floats, Trajectory

Layout = Callable[[Trajectory, Topology, float], tuple[PairTerm, ...]]
"""Gives the terms to fit, for the first frame, its topology, and half the smallest width of the
cell in any frame.
"""

Centred = tuple[CollectiveTerm, Floats]
"""The sums of a collective term, and their means (A,)."""

MOST_CHANGED = 0.1
"""More frames than this fraction with broken bonds: no force field with fixed bonds describes the
system.
"""
MOLECULE_WEIGHT = 3.0
"""Of squared errors of forces on whole molecules beside those of forces on atoms, where a
collective loss is fitted.
Forces inside molecules are the largest, but those on whole molecules make the structure of a
liquid: with this weight the relative error of net forces in water falls from 0.37 to 0.33 and that
of torques from 0.41 to 0.40, that of the forces on atoms stays, and the second shell of g_OO comes
to lie where it should.
"""


@dataclass(frozen=True)
class Share:
    """Which frames were accumulated: a part of these runs."""

    runs: tuple[Mapping[str, Any], ...]
    """`source` of each, with its number of `frames` and its `first_step`."""
    part: Part = WHOLE


@dataclass
class Accumulated:
    """What frames say about the coefficients of `terms`: sums, which add up over parts and runs."""

    terms: tuple[PairTerm, ...]
    survey: Survey
    equations: NormalEquations
    frames_per_block: list[int]
    forms: tuple[Form, ...] = ()
    together: NormalEquations | None = None
    """Where there are forms: of the terms of pairs and after them the forms. In place of species:
    the forces on all atoms, and what they do to molecules as a whole (`_on_molecules`), weighed by
    MOLECULE_WEIGHT.
    """
    frames: int = 0
    """Seen; those with broken bonds are in no block."""
    shares: tuple[Share, ...] = ()

    def design(self, positions: Floats, cell: Floats) -> Floats:
        """Forces (3N, K) [eV/Å] that unit coefficients of pairs, and after them of the forms, exert
        in one frame.
        """
        topology = self.survey.topology
        pairs = dict(topology.pairs(positions, cell, self.survey.cutoff_A))
        designs = [design_matrix(self.terms, pairs, len(positions))]
        if self.forms:
            both = both_ways(
                neighbour_pairs(positions, cell, max(f.term.cutoff_A for f in self.forms))
            )
            designs += [form.design(topology, both)[0] for form in self.forms]
        return np.concatenate(designs, axis=1)

    def merge(self, other: Accumulated, first_block: int = 0) -> None:
        """Add other frames, whose blocks are those from `first_block` on."""
        self.survey.merge(other.survey)
        self.equations.merge(other.equations, first_block)
        for form, more in zip(self.forms, other.forms, strict=True):
            form.merge(more, first_block)
        if self.together is not None and other.together is not None:
            self.together.merge(other.together, first_block)
        for b, n in enumerate(other.frames_per_block, first_block):
            self.frames_per_block[b] += n
        self.frames += other.frames
        self.shares += other.shares

    @property
    def left_out(self) -> int:
        """Frames with broken bonds."""
        return self.frames - sum(self.frames_per_block)

    def check_reactions(self) -> None:
        """Raise InputError if bonds break in so many frames that no force field with fixed bonds
        describes them.
        """
        if self.left_out > MOST_CHANGED * self.frames:
            change = self.survey.changes[0]
            raise InputError(
                f"bonds break in {self.left_out} of {self.frames} frames, first at step"
                f" {change.step} ({change.time_fs:g} fs): {change.what}. A force field with fixed"
                " bonds cannot describe this; fit a part of the run without reactions, or check"
                " that cell and positions belong together"
            )


def accumulate(
    source: Source,
    layout: Layout | Accumulated,
    progress: Progress = no_progress,
    processes: int = 1,
    part: Part = WHOLE,
    forms: Sequence[Centred] = (),
) -> Accumulated:
    """Stream all frames once: normal equations per block and species, coverage per term, broken
    bonds.

    source: one run, or several of one system. layout: gives the terms; or what was accumulated
    before, to go on with its terms. part: only these frames, in the blocks of the whole. forms:
    sums of collective terms and their means, to accumulate quadratic forms of. Sums are the same,
    bit by bit, for any number of processes. Raises InputError if runs have no forces, too few
    frames or bonds that keep breaking, or are not of one system.
    """
    runs = Runs.of(source, progress, processes)
    total = _start(runs, layout, forms)
    shared = total.terms, total.survey.cutoff_A, tuple(forms)
    what, ranges, n_blocks = (
        "invariants and normal equations",
        runs.part(part),
        len(total.frames_per_block),
    )
    for block, piece in runs.over(ranges, n_blocks, what, _accumulate, shared):
        total.merge(piece, block)
    told = [
        {**run.origin.to_dict(), "frames": run.n_frames, "first_step": int(frame.step[0])}
        for run, frame in zip(runs.sources, runs.firsts, strict=True)
    ]
    total.shares = (Share(tuple(told), part),)
    if part == WHOLE:
        total.check_reactions()
    return total


def _start(runs: Runs, layout: Layout | Accumulated, forms: Sequence[Centred]) -> Accumulated:
    n_blocks, topology, half_width = runs.n_blocks, runs.topologies[0], runs.half_width
    if isinstance(layout, Accumulated):
        terms, n_blocks = layout.terms, len(layout.frames_per_block)
        check_same_kinds(topology, layout.survey.topology)
    else:
        terms = layout(runs.firsts[0], topology, half_width)
    cutoff = max((t.cutoff_A for t in terms if isinstance(t, FreeTerm)), default=0.0)
    if cutoff:
        check_cutoff(cutoff, half_width)
    return _blank(terms, Survey(topology, cutoff), n_blocks, forms)


def _blank(
    terms: tuple[PairTerm, ...], survey: Survey, n_blocks: int, forms: Sequence[Centred]
) -> Accumulated:
    functions = sum(len(t.coefficients) for t in terms)
    equations = NormalEquations.zeros(n_blocks, len(survey.topology.species), functions)
    blank = Accumulated(terms, survey, equations, [0] * n_blocks)
    if forms:
        blank.forms = tuple(Form.of(term, mean, n_blocks) for term, mean in forms)
        functions += sum(len(f.products[0]) for f in blank.forms)
        blank.together = NormalEquations.zeros(n_blocks, 2, functions)
    return blank


def _accumulate(
    shared: tuple[tuple[PairTerm, ...], float, tuple[Centred, ...]],
    topology: Topology,
    frames: Trajectory,
) -> Accumulated:
    """What frames add to their block."""
    terms, cutoff, forms = shared
    piece = _blank(terms, Survey(topology, cutoff), 1, forms)
    piece.frames = frames.n_frames
    rows = [
        np.flatnonzero(np.repeat(topology.species_index == s, 3))
        for s in range(len(topology.species))
    ]
    changed = {c.step for c in piece.survey.add(frames)}
    assert frames.forces is not None
    for f in range(frames.n_frames):
        if int(frames.step[f]) not in changed:
            _add_frame(piece, 0, frames.positions[f], frames.cell[f], frames.forces[f], rows)
    return piece


def _add_frame(
    into: Accumulated,
    block: int,
    positions: Floats,
    cell: Floats,
    forces: Floats,
    rows: Sequence[Indices],
) -> None:
    pairs = dict(into.survey.topology.pairs(positions, cell, into.survey.cutoff_A))
    for name, p in pairs.items():
        into.survey.add_distances(name, p.r)
    design = design_matrix(into.terms, pairs, len(positions))
    into.equations.add(block, design, forces.ravel(), rows)
    if into.together is not None:
        _add_forms(into, block, positions, cell, forces, design)
    into.frames_per_block[block] += 1


def _add_forms(
    into: Accumulated, block: int, positions: Floats, cell: Floats, forces: Floats, of_pairs: Floats
) -> None:
    assert into.together is not None
    pairs = both_ways(neighbour_pairs(positions, cell, max(f.term.cutoff_A for f in into.forms)))
    designs = [of_pairs]
    for form in into.forms:
        design, deviation = form.design(into.survey.topology, pairs)
        designs.append(design)
        form.second_baa[block] += deviation.T @ deviation
        form.number_b[block] += len(deviation)
    design, weight = np.concatenate(designs, axis=1), np.sqrt(MOLECULE_WEIGHT)
    whole = _on_molecules(into.survey.topology, positions, cell)
    both = np.concatenate([forces.ravel(), weight * (whole @ forces.ravel())])
    rows = [np.arange(forces.size), np.arange(forces.size, len(both))]
    into.together.add(block, np.concatenate([design, weight * (whole @ design)]), both, rows)
