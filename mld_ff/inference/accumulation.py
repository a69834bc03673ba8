"""Accumulation: frames stream by, and their sums remain.

Forces are linear in the coefficients: F_i = Σ_k c_k X_ik. Blocks of contiguous frames and species
are kept apart, so one pass over the data serves training, testing, cross-validation, jack-knife,
the reciprocal fit (one function per kind of pair: all species together) and the agent fit (every
species its own).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mld_ff.errors import InputError
from mld_ff.geometry.pairs import check_cutoff
from mld_ff.geometry.system import MOST_CHANGED, System, systems
from mld_ff.geometry.topology import Topology
from mld_ff.inference.dataset import WHOLE, Dataset, Part, Source, check_same_kinds
from mld_ff.inference.design import (
    DensityForm,
    Features,
    Form,
    design_matrix,
    molecules_matrix,
    rows_of_virials,
    virials_matrix,
)
from mld_ff.inference.normal_equations import Indices, NormalEquations
from mld_ff.inference.parallel import in_one_thread
from mld_ff.loss.terms import PairTerm
from mld_ff.origin import OriginTold
from mld_ff.progress import Progress, no_progress
from mld_ff.survey import Survey
from mld_ff.trajectory import Floats, Trajectory

Layout = Callable[[Trajectory, Topology, float], tuple[PairTerm, ...]]
"""Gives the terms to fit, for the first frame, its topology, and half the smallest width of the
cell in any frame."""

MOLECULE_WEIGHT = 3.0
"""Of squared errors of forces on whole molecules beside those of forces on atoms, where a
collective loss is fitted. Forces inside molecules are the largest, but those on whole molecules
make the structure of a liquid: with this weight the relative error of net forces in water falls
from 0.37 to 0.33 and that of torques from 0.41 to 0.40, that of the forces on atoms stays, and the
second shell of g_OO comes to lie where it should."""
WEIGHT_WITHOUT_DENSITIES = 300.0
"""... where there are charges and no densities. What functions of bonded pairs miss would be laid
upon charges: a flexible water of CP2K's with 0.41 e has 0.458 e with a weight of 3, 0.420 e with
this one (with knots 0.2 Å apart 0.445 and 0.408 e), and forces on atoms err by 0.3 % more, in water
by a network by 1.4 %."""


@dataclass(frozen=True)
class Share:
    """Which frames were accumulated: a part of these runs."""

    runs: tuple[OriginTold, ...]
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
    the forces on all atoms, and what they do to molecules as a whole (`molecules_matrix`), weighed
    by MOLECULE_WEIGHT or WEIGHT_WITHOUT_DENSITIES."""
    virials: NormalEquations | None = None
    """Where stress is learned: of all these functions, in place of species the system as a whole,
    in place of forces the six numbers of its virial over √N [eV]."""
    frames: int = 0
    """Seen; those with broken bonds are in no block."""
    shares: tuple[Share, ...] = ()
    warnings: tuple[str, ...] = ()
    """What was said against these frames, and forced."""

    @classmethod
    def blank(
        cls,
        terms: tuple[PairTerm, ...],
        survey: Survey,
        n_blocks: int,
        forms: Sequence[Form] = (),
        stress: bool = False,
    ) -> Accumulated:
        """Nothing seen yet. stress: whether virials are summed too."""
        functions = sum(len(t.coefficients) for t in terms)
        equations = NormalEquations.zeros(n_blocks, len(survey.topology.species), functions)
        data = cls(terms, survey, equations, [0] * n_blocks)
        if forms:
            data.forms = tuple(form.blank(n_blocks) for form in forms)
            functions += sum(len(form.products[0]) for form in data.forms)
            data.together = NormalEquations.zeros(n_blocks, 2, functions)
        if stress:
            data.virials = NormalEquations.zeros(n_blocks, 1, functions)
        return data

    @property
    def reach_A(self) -> float:
        """How far a system must reach."""
        return max(self.survey.cutoff_A, *(form.term.cutoff_A for form in self.forms), 0.0)

    def design(self, system: System) -> Floats:
        """Forces (3N, K) [eV/Å] that unit coefficients of pairs, and after them of the forms, exert
        in one frame."""
        of_forms = [form.features(system).forces for form in self.forms]
        return np.concatenate([design_matrix(self.terms, system), *of_forms], axis=1)

    def add(self, system: System, block: int, rows: Sequence[Indices]) -> None:
        """Add a frame with forces; rows: components of the forces on every species."""
        assert system.forces is not None
        self.survey.add_distances(system)
        design = design_matrix(self.terms, system)
        if (free := system.free_components) is not None:
            rows = [row[free[row]] for row in rows]
        self.equations.add(block, design, system.forces.ravel(), rows)
        of_forms = [form.features(system) for form in self.forms]
        if self.together is not None:
            self._add_together(self.together, system, block, design, of_forms)
        if self.virials is not None and system.virial is not None:
            virials = [virials_matrix(self.terms, system)]
            virials += [features.virials for features in of_forms if features.virials is not None]
            size = np.sqrt(system.topology.n_atoms)
            rows_here = rows_of_virials(np.concatenate(virials, axis=2)) / size
            self.virials.add_rows(block, 0, rows_here, rows_of_virials(system.virial) / size)
        self.frames_per_block[block] += 1

    def _add_together(
        self,
        together: NormalEquations,
        system: System,
        block: int,
        of_pairs: Floats,
        of_forms: Sequence[Features],
    ) -> None:
        assert system.forces is not None
        designs = [of_pairs, *(features.forces for features in of_forms)]
        for form, features in zip(self.forms, of_forms, strict=True):
            sums = features.sums
            form.second_baa[block] += np.einsum("cam,cbm->ab", sums, sums, optimize=True)
            form.number_b[block] += len(sums)
        on_atoms, forces = np.concatenate(designs, axis=1), system.forces.ravel()
        densities = any(isinstance(form, DensityForm) for form in self.forms)
        weight = MOLECULE_WEIGHT if densities else WEIGHT_WITHOUT_DENSITIES
        to_molecules = np.sqrt(weight) * molecules_matrix(system)
        if (free := system.free_components) is not None:
            # what one force is not known of, the sum is not
            to_molecules = to_molecules[abs(to_molecules) @ ~free == 0][:, free]
            on_atoms, forces = on_atoms[free], forces[free]
        together.add_rows(block, 0, on_atoms, forces)
        together.add_rows(block, 1, to_molecules @ on_atoms, to_molecules @ forces)

    def merge(self, other: Accumulated, first_block: int = 0) -> None:
        """Add other frames, whose blocks are those from `first_block` on."""
        self.survey.merge(other.survey)
        self.equations.merge(other.equations, first_block)
        for form, more in zip(self.forms, other.forms, strict=True):
            form.merge(more, first_block)
        if self.together is not None and other.together is not None:
            self.together.merge(other.together, first_block)
        if other.virials is not None:
            if self.virials is None:
                n, functions = len(self.frames_per_block), other.virials.gram_bskk.shape[2]
                self.virials = NormalEquations.zeros(n, 1, functions)
            self.virials.merge(other.virials, first_block)
        for b, n in enumerate(other.frames_per_block, first_block):
            self.frames_per_block[b] += n
        self.frames += other.frames
        self.shares += other.shares
        self.warnings = tuple(dict.fromkeys((*self.warnings, *other.warnings)))

    @property
    def left_out(self) -> int:
        """Frames with broken bonds."""
        return self.frames - sum(self.frames_per_block)

    def check_reactions(self) -> None:
        """Raise InputError if bonds break in too many frames for a force field with fixed bonds."""
        if self.left_out > MOST_CHANGED * self.frames:
            change = self.survey.changes[0]
            raise InputError(
                f"bonds break in {self.left_out} of {self.frames} frames, first at step"
                f" {change.step} ({change.time_fs:g} fs): {change.what}. A force field with fixed"
                " bonds cannot describe this; fit a part of the run without reactions, or without"
                " fixed bonds (--topology none), or check that cell and positions belong together"
            )


@in_one_thread
def accumulate(
    source: Source,
    layout: Layout | Accumulated,
    progress: Progress = no_progress,
    processes: int = 1,
    part: Part = WHOLE,
    forms: Sequence[Form] = (),
    stress: bool = True,
) -> Accumulated:
    """Stream all frames once: normal equations per block and species, coverage, broken bonds.

    source: one run, or several of one system. layout: gives the terms; or what was accumulated
    before, to go on with its terms. part: only these frames, in the blocks of the whole. forms:
    those to accumulate, blank. stress: sum virials too, where frames have them. Sums are the same,
    bit by bit, for any number of processes. Raises InputError if runs have no forces, too few
    frames or bonds that keep breaking, or are not of one system.
    """
    dataset = Dataset.of(source, progress, processes)
    if isinstance(layout, Accumulated):
        dataset = replace(dataset, topology=layout.survey.topology.kind)
    stress = stress and any(first.stress is not None for first in dataset.firsts)
    total = _start(dataset, layout, forms, stress)
    shared = total.terms, total.survey.cutoff_A, tuple(forms), stress
    ranges, n_blocks = dataset.part(part), len(total.frames_per_block)
    what = "invariants and normal equations"
    for block, piece in dataset.over(ranges, n_blocks, what, _accumulate, shared):
        total.merge(piece, block)
    told: list[OriginTold] = [
        {**source.origin.to_dict(), "frames": source.n_frames, "first_step": int(frame.step[0])}
        for source, frame in zip(dataset.sources, dataset.firsts, strict=True)
    ]
    total.shares = (Share(tuple(told), part),)
    if part == WHOLE:
        total.check_reactions()
    return total


def _start(
    dataset: Dataset, layout: Layout | Accumulated, forms: Sequence[Form], stress: bool
) -> Accumulated:
    n_blocks, topology = dataset.n_blocks, dataset.topologies[0]
    if isinstance(layout, Accumulated):
        terms, n_blocks = layout.terms, len(layout.frames_per_block)
        check_same_kinds(topology, layout.survey.topology)
    else:
        terms = layout(dataset.firsts[0], topology, dataset.half_width)
        if not terms:
            raise InputError("the system is one atom, on which no other acts: nothing to fit")
    cutoff_A = max((t.reach_A for t in terms), default=0.0)
    if cutoff_A:
        check_cutoff(cutoff_A, dataset.half_width)
    return Accumulated.blank(terms, Survey(topology, cutoff_A), n_blocks, forms, stress)


def _accumulate(
    shared: tuple[tuple[PairTerm, ...], float, tuple[Form, ...], bool],
    topology: Topology,
    frames: Trajectory,
) -> Accumulated:
    """What frames add to their block."""
    terms, cutoff_A, forms, stress = shared
    piece = Accumulated.blank(terms, Survey(topology, cutoff_A), 1, forms, stress)
    piece.frames = frames.n_frames
    piece.survey.add(frames)
    of_component = np.repeat(topology.species_index, 3)
    rows = [np.flatnonzero(of_component == s) for s in range(len(topology.species))]
    for system in systems(topology, frames, piece.reach_A):
        piece.survey.changes += system.changes
        if not system.changes:
            piece.add(system, 0, rows)
    return piece
