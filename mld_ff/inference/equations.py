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
from mld_ff.inference.runs import WHOLE, Part, Runs, Source, check_same_kinds
from mld_ff.invariants import Pairs, both_ways, neighbour_pairs
from mld_ff.loss import CollectiveTerm, FreeTerm, PairTerm, summed
from mld_ff.survey import Progress, Survey, check_cutoff, no_progress
from mld_ff.topology import Topology
from mld_ff.trajectory import Floats, Trajectory

Indices = NDArray[np.integer[Any]]
Layout = Callable[[Trajectory, Topology, float], tuple[PairTerm, ...]]
"""Gives the terms to fit, for the first frame, its topology, and half the smallest width of the cell in any frame."""

Centred = tuple[CollectiveTerm, Floats]
"""The sums of a collective term, and their means (A,)."""

MOST_CHANGED = 0.1
"""More frames than this fraction with broken bonds: no force field with fixed bonds describes the system."""
RANK_TOLERANCE = 1e-11
MOLECULE_WEIGHT = 3.0
"""Of squared errors of forces on whole molecules beside those of forces on atoms, where a collective loss is fitted.
Forces inside molecules are the largest, but those on whole molecules make the structure of a liquid: with this weight
the relative error of net forces in water falls from 0.37 to 0.33 and that of torques from 0.41 to 0.40, that of the
forces on atoms stays, and the second shell of g_OO comes to lie where it should."""


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


def design_matrix(terms: Sequence[PairTerm], pairs: dict[str, Pairs], n_atoms: int) -> Floats:
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
class Form:
    """Quadratic form of one species: Σ_{a≤b} B_ab δQ_a δQ_b of the A sums of a collective term about their means.

    About the means, because what is linear in the sums is a function of pairs, and pairs have their own terms.
    """

    term: CollectiveTerm
    """Its sums; coefficients are zero."""
    mean: Floats
    """(A,)."""
    second_baa: Floats
    """Σ δQ δQᵀ per block of frames."""
    number_b: Floats
    """Agents."""

    @classmethod
    def of(cls, term: CollectiveTerm, mean: Floats, blocks: int) -> Form:
        return cls(term, mean, np.zeros((blocks, len(mean), len(mean))), np.zeros(blocks))

    def merge(self, other: Form, first_block: int = 0) -> None:
        """Add what was seen in other frames, whose blocks are those from `first_block` on."""
        for own, more in ((self.second_baa, other.second_baa), (self.number_b, other.number_b)):
            own[first_block : first_block + len(more)] += more

    @property
    def products(self) -> tuple[Indices, Indices]:
        """(a, b) of every function of the form."""
        return np.triu_indices(len(self.mean))

    def design(self, topology: Topology, pairs: Pairs) -> tuple[Floats, Floats]:
        """Forces (3N, A (A+1)/2) [eV/Å] that unit coefficients exert in one frame, and δQ (C, A) at the C centres.

        pairs: every pair both ways, at least as far as the term's cutoff.
        """
        n, size = topology.n_atoms, len(self.mean)
        at_centre = np.array(topology.symbols) == self.term.species[0]
        local = np.cumsum(at_centre) - 1
        sums = np.zeros((int(at_centre.sum()), size))
        entries: list[tuple[Floats, Indices, Indices]] = []
        for t, here in self.term.slices.items():
            if t not in topology.species:
                continue
            of_kind = at_centre[pairs.i] & (topology.species_index[pairs.j] == topology.species.index(t))
            near = pairs[of_kind & (pairs.r < self.term.cutoff_A)]
            sums[:, here] = summed(self.term.basis(t, near.r), local[near.i], len(sums))
            slope = self.term.basis(t, near.r, 1)
            p, a = np.nonzero(slope)
            on_i = slope[p, a][:, None] * near.vector[p] / near.r[p][:, None]
            for atoms, force in ((near.i, on_i), (near.j, -on_i)):
                rows = 3 * ((here.start + a) * n + atoms[p])[:, None] + np.arange(3)
                entries.append((force.ravel(), rows.ravel(), np.repeat(local[near.i[p]], 3)))
        values, rows, columns = (np.concatenate(parts) for parts in zip(*entries, strict=True))
        gradient = csr_array((values, (rows, columns)), shape=(3 * n * size, len(sums)))
        deviation = sums - self.mean
        first, second = self.products
        half = (gradient @ deviation).reshape(size, 3 * n, size)
        return (half[first, :, second] + half[second, :, first]).T, deviation


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
    """Where there are forms: of the terms of pairs and after them the forms. In place of species: the forces on all
    atoms, and what they do to molecules as a whole (`_on_molecules`), weighed by MOLECULE_WEIGHT."""
    frames: int = 0
    """Seen; those with broken bonds are in no block."""
    shares: tuple[Share, ...] = ()

    def design(self, positions: Floats, cell: Floats) -> Floats:
        """Forces (3N, K) [eV/Å] that unit coefficients of pairs, and after them of the forms, exert in one frame."""
        topology = self.survey.topology
        pairs = dict(topology.pairs(positions, cell, self.survey.cutoff_A))
        designs = [design_matrix(self.terms, pairs, len(positions))]
        if self.forms:
            both = both_ways(neighbour_pairs(positions, cell, max(f.term.cutoff_A for f in self.forms)))
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
        """Raise InputError if bonds break in so many frames that no force field with fixed bonds describes them."""
        if self.left_out > MOST_CHANGED * self.frames:
            change = self.survey.changes[0]
            raise InputError(
                f"bonds break in {self.left_out} of {self.frames} frames, first at step {change.step} "
                f"({change.time_fs:g} fs): {change.what}. A force field with fixed bonds cannot describe this; fit a "
                "part of the run without reactions, or check that cell and positions belong together"
            )


def accumulate(
    source: Source,
    layout: Layout | Accumulated,
    progress: Progress = no_progress,
    processes: int = 1,
    part: Part = WHOLE,
    forms: Sequence[Centred] = (),
) -> Accumulated:
    """Stream all frames once: normal equations per block and species, coverage per term, broken bonds.

    source: one run, or several of one system. layout: gives the terms; or what was accumulated before, to go on with
    its terms. part: only these frames, in the blocks of the whole. forms: sums of collective terms and their means, to
    accumulate quadratic forms of. Sums are the same, bit by bit, for any number of processes. Raises InputError if runs
    have no forces, too few frames or bonds that keep breaking, or are not of one system.
    """
    runs = Runs.of(source, progress, processes)
    total = _start(runs, layout, forms)
    shared = total.terms, total.survey.cutoff_A, tuple(forms)
    what, ranges, n_blocks = "invariants and normal equations", runs.part(part), len(total.frames_per_block)
    for block, piece in runs.over(ranges, n_blocks, what, _accumulate, shared):
        total.merge(piece, block)
    told = [
        {**run.source, "frames": run.n_frames, "first_step": int(frame.step[0])}
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


def _blank(terms: tuple[PairTerm, ...], survey: Survey, n_blocks: int, forms: Sequence[Centred]) -> Accumulated:
    functions = sum(len(t.coefficients) for t in terms)
    equations = NormalEquations.zeros(n_blocks, len(survey.topology.species), functions)
    blank = Accumulated(terms, survey, equations, [0] * n_blocks)
    if forms:
        blank.forms = tuple(Form.of(term, mean, n_blocks) for term, mean in forms)
        functions += sum(len(f.products[0]) for f in blank.forms)
        blank.together = NormalEquations.zeros(n_blocks, 2, functions)
    return blank


def _accumulate(
    shared: tuple[tuple[PairTerm, ...], float, tuple[Centred, ...]], topology: Topology, frames: Trajectory
) -> Accumulated:
    """What frames add to their block."""
    terms, cutoff, forms = shared
    piece = _blank(terms, Survey(topology, cutoff), 1, forms)
    piece.frames = frames.n_frames
    rows = [np.flatnonzero(np.repeat(topology.species_index == s, 3)) for s in range(len(topology.species))]
    changed = {c.step for c in piece.survey.add(frames)}
    assert frames.forces is not None
    for f in range(frames.n_frames):
        if int(frames.step[f]) not in changed:
            _add_frame(piece, 0, frames.positions[f], frames.cell[f], frames.forces[f], rows)
    return piece


def _add_frame(
    into: Accumulated, block: int, positions: Floats, cell: Floats, forces: Floats, rows: Sequence[Indices]
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


def _on_molecules(topology: Topology, positions: Floats, cell: Floats) -> csr_array:
    """Takes forces (3N,) on atoms to those on M molecules (6M,): net force, and torque over the diameter.

    A molecule's diameter is twice its radius of gyration: the torque is told as the forces at its two ends.
    """
    molecule, count = topology.molecule_index, np.bincount(topology.molecule_index)
    x = topology.whole(positions, cell)
    x = x - (summed(x, molecule, len(count)) / count[:, None])[molecule]
    diameter = 2 * np.sqrt(np.bincount(molecule, (x**2).sum(axis=1)) / count)
    arm = x / np.where(diameter > 0, diameter, 1)[molecule][:, None]
    net = 6 * molecule[:, None] + np.arange(3)
    atom = 3 * np.arange(len(x))[:, None] + np.arange(3)
    rows, columns, values = [net], [atom], [np.ones(atom.shape)]
    for forward, back in ((1, 2), (2, 1)):  # (a × F)_k = a_k+1 F_k+2 - a_k+2 F_k+1
        rows.append(net + 3)
        columns.append(np.roll(atom, -back, axis=1))
        values.append((1 if forward == 1 else -1) * np.roll(arm, -forward, axis=1))
    entries = (np.concatenate(rows).ravel(), np.concatenate(columns).ravel())
    return csr_array((np.concatenate(values).ravel(), entries), shape=(6 * len(count), 3 * len(x)))
