"""The least-squares problem of accumulated data: which blocks train, what they determine, how
strong the ridge is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.linalg import qr

from mld_ff.errors import InputError
from mld_ff.inference.accumulation import Accumulated
from mld_ff.inference.dataset import blocks_for_test, blocks_for_training
from mld_ff.inference.normal_equations import RANK_TOLERANCE, Indices, NormalEquations
from mld_ff.loss.terms import PairTerm
from mld_ff.loss.walls import outside_edge
from mld_ff.trajectory import Floats

RIDGES = (1e-7, 1e-6, 1e-5, 1e-4, 1e-3)
RIDGE_SLACK = 1.002
"""The strongest ridge is taken whose cross-validated squared error is within this factor of the
least one.
"""


def jackknife_error(each: Floats) -> Floats:
    """Standard error of what was computed without each of the blocks in turn, (B, …)."""
    n = len(each)
    return np.asarray(np.sqrt((n - 1) / n * ((each - each.mean(axis=0)) ** 2).sum(axis=0)))


@dataclass(frozen=True)
class Problem:
    """K coefficients of `terms`, S species; blocks of contiguous frames for training and testing.

    A fit is reciprocal (one function per kind of pair, from the forces on all species) or, with
    `species` given, that
    of one agent: from the forces on that species alone.
    """

    terms: tuple[PairTerm, ...]
    equations: NormalEquations
    """Their functions, in the order of `names`."""
    train: tuple[int, ...]
    test: tuple[int, ...]
    accumulated: Indices
    """Which of the functions that were accumulated they are, (K,)."""
    virials: NormalEquations | None = None
    """Of the same functions, see Accumulated; None where stress is not learned."""
    weight: float = 0.0
    """Of their squares beside those of forces."""

    @classmethod
    def of(cls, data: Accumulated) -> Problem:
        """Functions wholly below where any wall begins are dropped.

        Raises InputError if the data determine nothing.
        """
        n = len(data.frames_per_block)
        terms: list[PairTerm] = []
        keep: list[bool] = []
        for term in data.terms:
            seen = data.survey.distances[term.name]
            drop = term.ends_before(outside_edge(seen)) if seen.n else 0
            terms.append(term.without_first(drop))
            keep.extend([False] * drop + [True] * (len(term.coefficients) - drop))
        chosen = np.flatnonzero(keep)
        train, test = blocks_for_training(n), blocks_for_test(n)
        virials = data.virials and data.virials.select(chosen)
        problem = cls(tuple(terms), data.equations.select(chosen), train, test, chosen, virials)
        if not len(problem.kept):
            raise InputError(
                f"no two atoms come within the cutoff of {data.survey.cutoff_A:g} Å: nothing to"
                " fit; choose a longer one"
            )
        problem.check_forces(data.survey.topology.species)
        return problem

    def check_forces(self, species: Sequence[str]) -> None:
        """Raise InputError if a species has no forces, in what trains or in what tests."""
        for blocks in (self.train, self.test):
            power = self.equations.power_bs[list(blocks)].sum(axis=0)
            number = self.equations.number_bs[list(blocks)].sum(axis=0)
            each = zip(species, power, number, strict=True)
            if none := [s for s, p, n in each if n and not p > 0]:
                raise InputError(
                    f"all forces on {' and '.join(none)} are zero, in frames to train or to test"
                    " on: atoms that were held fixed, or forces that were not computed, teach"
                    " nothing; leave such frames out, or compute their forces"
                )

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Term and coefficient, (K,)."""
        return tuple(f"{t.name} {c}" for t in self.terms for c in t.coefficient_names)

    @cached_property
    def term_index(self) -> Indices:
        """Which term each coefficient belongs to, (K,)."""
        return np.array([k for k, t in enumerate(self.terms) for _ in t.coefficients])

    @cached_property
    def undetermined(self) -> tuple[str, ...]:
        """Names of coefficients that depend linearly on others, or whose term no data touch: left
        at zero.

        A term that holds together and that some data touch is left to its prior.
        """
        occurs = np.einsum("bskk->k", self.equations.gram_bskk[list(self.train)]) > 0
        terms = range(len(self.terms))
        touched = np.array([occurs[self.term_index == k].any() for k in terms])[self.term_index]
        prior_decides = np.array([t.holds_together for t in self.terms])[self.term_index]
        candidates = np.flatnonzero(touched & ~prior_decides)
        missing = {self.names[k] for k in np.flatnonzero(~touched)}
        missing |= {self.names[k] for k in self._dependent(candidates)}
        return tuple(sorted(missing))

    def _dependent(self, functions: Indices) -> Indices:
        """Those of the functions that others of them make up, in the training data (QR with
        pivoting).
        """
        if not len(functions):
            return functions
        _, r, order = qr(self._normalised_gram(functions), pivoting=True)
        dependent = np.abs(np.diag(r)) < RANK_TOLERANCE * max(abs(r[0, 0]), 1)
        return np.asarray(functions[order[dependent]])

    @cached_property
    def kept(self) -> Indices:
        """Indices of the coefficients that are determined."""
        return np.array(
            [k for k, name in enumerate(self.names) if name not in self.undetermined],
            dtype=np.int64,
        )

    @cached_property
    def _reduced(self) -> NormalEquations:
        return self.equations.select(self.kept)

    @cached_property
    def solved(self) -> NormalEquations:
        """Of the determined functions: forces by species, and what virials add."""
        if self.virials is None or not self.weight:
            return self._reduced
        return self._reduced.beside(self.virials.select(self.kept), self.weight)

    @cached_property
    def penalty(self) -> Floats:
        """What the ridge weighs, (kept, kept), in units of the mean diagonal of the Gram matrix:
        the prior of every term."""
        diagonal = np.diag(self._gram(np.arange(len(self.names))))
        penalty = np.zeros((len(diagonal), len(diagonal)))
        for k, term in enumerate(self.terms):
            here = np.flatnonzero(self.term_index == k)
            penalty[np.ix_(here, here)] = term.prior(diagonal[here] / diagonal.mean())
        return np.asarray(penalty[np.ix_(self.kept, self.kept)])

    @cached_property
    def ridge(self) -> float:
        """Strongest of RIDGES that cross-validation over the training blocks does not tell from the
        best.
        """
        if not self.penalty.any() or len(self.train) < 2:
            return RIDGES[0]
        errors = [self.cross_validated(ridge)[0].sum() for ridge in RIDGES]
        return max(r for r, e in zip(RIDGES, errors, strict=True) if e <= RIDGE_SLACK * min(errors))

    def cross_validated(self, ridge: float) -> tuple[Floats, float]:
        """Squared errors of forces on atoms, (1,), and of virials over the training blocks, each of
        them unseen."""
        of_forces = of_virials = 0.0
        for b in self.train:
            found = self.solve(self.without(b), None, ridge)
            of_forces += self._reduced.residual([b], found).sum()
            if self.virials is not None:
                of_virials += self.virials.select(self.kept).residual([b], found).sum()
        return np.array([of_forces]), of_virials

    def coefficients(self, species: int | None = None) -> Floats:
        """Best coefficients (K,) of the reciprocal fit, or of the agent fit of one species."""
        return self.expand(self.solve(self.train, species))

    def jackknife(self, species: int | None = None) -> Floats:
        """Coefficients (B, K) fitted without each of the training blocks in turn; the best ones
        with a single block.
        """
        if len(self.train) < 2:
            return self.coefficients(species)[None]
        return self.expand(np.array([self.solve(self.without(b), species) for b in self.train]))

    def errors(self, species: int | None = None) -> Floats:
        """Standard errors (K,) by jack-knife over the training blocks; zero with a single block."""
        return jackknife_error(self.jackknife(species))

    def relative_rmse(self, coefficients: Floats) -> Floats:
        """√(Σ|F_fit - F_ref|² / Σ|F_ref|²) per species (S,) on the test blocks."""
        power = self.equations.power_bs[list(self.test)].sum(axis=0)
        return np.asarray(np.sqrt(self.equations.residual(self.test, coefficients) / power))

    @cached_property
    def agent_errors(self) -> list[float]:
        """Relative RMSE of the agent fit of every species on the forces on itself, (S,)."""
        species = range(self.equations.power_bs.shape[1])
        return [float(self.relative_rmse(self.coefficients(s))[s]) for s in species]

    @property
    def gram(self) -> Floats:
        """Of the determined functions, from the training blocks, (kept, kept)."""
        return self._gram(self.kept)

    def weakly_determined(self, gram: Floats, ridge: float) -> tuple[str, ...]:
        """Coefficients that rest on the ridge more than on the data, whose Gram matrix is `gram`
        (kept, kept)."""
        prior = ridge * np.trace(gram) / len(gram) * self.penalty
        by_data = np.diag(np.linalg.pinv(gram + prior, hermitian=True) @ gram)
        weak = (np.diag(prior) > 0) & (by_data < 0.5)
        return tuple(self.names[k] for k in self.kept[weak])

    @cached_property
    def rank(self) -> int:
        """How many of the K functions the training data tell apart, without ridge."""
        return len(self.names) - len(self._dependent(np.arange(len(self.names))))

    @cached_property
    def condition(self) -> float:
        """Ratio of the extreme singular values of the design with columns of length one."""
        values = np.linalg.eigvalsh(self._normalised_gram(self.kept))
        return float(
            f"{np.sqrt(values[-1] / max(values[0], np.finfo(float).eps * values[-1])):.4g}"
        )

    def without(self, block: int) -> list[int]:
        """The training blocks but one."""
        return [b for b in self.train if b != block]

    def solve(
        self, blocks: Sequence[int], species: int | None = None, ridge: float | None = None
    ) -> Floats:
        """Best coefficients (kept,) for some blocks."""
        equations = self.solved if species is None else self._reduced
        chosen = range(equations.power_bs.shape[1]) if species is None else [species]
        return equations.solve(blocks, chosen, self.penalty, self.ridge if ridge is None else ridge)

    def expand(self, kept: Floats) -> Floats:
        """The values (…, K) of all coefficients from those (…, kept) of the kept ones; zero for the
        others.
        """
        full = np.zeros((*kept.shape[:-1], len(self.names)))
        full[..., self.kept] = kept
        return full

    def _gram(self, functions: Indices) -> Floats:
        gram: Floats = self.equations.gram_bskk[list(self.train)].sum(axis=(0, 1))
        return np.asarray(gram[np.ix_(functions, functions)])

    def _normalised_gram(self, functions: Indices) -> Floats:
        gram = self._gram(functions)
        scale = 1 / np.sqrt(np.maximum(np.diag(gram), np.finfo(float).tiny))
        return np.asarray(gram * np.outer(scale, scale))
