"""From quadratic forms in sums of invariants to a few channels: staged fit, diagonalisation, choice
of the rank.

1. Pairs are fitted alone (Problem). 2. The forms are fitted to what the pairs leave. 3. Each form
is diagonalised in the metric of the second moment of its sums, so that every channel's density has
variance one and its strength tells what it contributes; those of largest strength are kept. 4.
Pairs and strengths are fitted again together, held near their staged values. A fit in one stage has
lower errors, and collapses in molecular dynamics: pairs and forms can cancel each other where data
are few.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
from scipy.linalg import block_diag, solve

from mld_ff.inference.accumulation import Accumulated
from mld_ff.inference.design import DensityForm, Form
from mld_ff.inference.normal_equations import NormalEquations
from mld_ff.inference.problem import RIDGE_SLACK, Problem
from mld_ff.inference.stress import balanced
from mld_ff.inference.words import AUTO
from mld_ff.loss.densities import DensityTerm
from mld_ff.loss.provenance import Provenance, RankTold
from mld_ff.trajectory import Floats
from mld_ff.units import EV_TO_MEV

RIDGES = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2)
TOWARDS_STAGED = 1e-2
"""Ridge of the last stage, in units of the normalised Gram matrix."""
RANKS = (1, 2, 3, 4, 6, 8, 12, 16, 24)
COST = 1.3
"""Time that one channel of every species adds to a step of LAMMPS, in units of that of pairs."""
RANK_SLACK = 1.02
"""The smallest rank is chosen whose cross-validated error is within this factor of the least one:
cost grows with every channel, the error hardly falls any more."""
HARDLY_VARIES = 1e-6
"""Combinations of sums whose variance is below this part of the largest make no channel: a few
contacts alone move them, and elsewhere they would be far outside their range.
"""


@dataclass(frozen=True)
class Channels:
    """The channels of one form, K of them, strongest first; A sums."""

    strengths: Floats
    """(K,) [eV]."""
    vectors: Floats
    """Density as a combination of the sums, (A, K); its variance is one."""

    def products(self, form: Form) -> Floats:
        """The squared densities as combinations of the form's functions (A (A+1)/2, K)."""
        a, b = form.products
        return np.asarray(self.vectors[a] * self.vectors[b] * np.where(a == b, 1, 2)[:, None])


@dataclass(frozen=True)
class Refit:
    """Everything after the last stage, for some rank."""

    pairs: Floats
    """Coefficients of the kept functions of the Problem."""
    channels: tuple[Channels, ...]
    """Of every form."""


@dataclass(frozen=True)
class CollectiveFit:
    """Channels of one rank, and where they come from."""

    problem: CollectiveProblem
    rank: int
    """Channels of every form, at most."""
    refit: Refit
    jackknife: Floats
    """Coefficients of pairs by the last stage without each training block in turn, (B, P)."""

    @property
    def densities(self) -> list[tuple[DensityForm, Channels]]:
        """The forms of densities and their channels."""
        forms = zip(self.problem.forms, self.refit.channels, strict=True)
        return [(form, own) for form, own in forms if isinstance(form, DensityForm)]


@dataclass(frozen=True)
class CollectiveProblem:
    """Forms beside the terms of a Problem: P coefficients of pairs, Q of the forms."""

    pairs: Problem
    forms: tuple[Form, ...]
    equations: NormalEquations
    """P functions of pairs, then Q of the forms; for atoms and for molecules, see Accumulated."""
    virials: NormalEquations | None = None
    """Of the same functions, see Accumulated; None where stress is not learned."""
    weight: float = 0.0
    """Of their squares beside those of forces."""

    @classmethod
    def of(cls, data: Accumulated, pairs: Problem) -> Self:
        assert data.together is not None
        of_pairs = pairs.accumulated[pairs.kept]
        of_forms = np.arange(data.equations.gram_bskk.shape[2], data.together.gram_bskk.shape[2])
        every = np.concatenate([of_pairs, of_forms])
        virials = data.virials and data.virials.select(every)
        return balanced(cls(pairs, data.forms, data.together.select(every), virials))

    @property
    def train(self) -> tuple[int, ...]:
        return self.pairs.train

    def cross_validated(self, ridge: float) -> tuple[Floats, float]:
        """Squared errors of forces on atoms and (weighed) on molecules, (2,), and of virials over
        the training blocks, each of them unseen."""
        of_forces, of_virials = np.zeros(2), 0.0
        for b in self.train:
            found = self.left_out(b, ridge)
            of_forces += self.equations.residual([b], found)
            if self.virials is not None:
                of_virials += self.virials.residual([b], found).sum()
        return of_forces, of_virials

    def left_out(self, block: int, ridge: float) -> Floats:
        """Coefficients (P + Q,) from the other training blocks."""
        return self.coefficients(self.staged(self.pairs.without(block), ridge))

    @property
    def ridge_of_pairs(self) -> float:
        """That the pairs were fitted with."""
        return self.pairs.ridge

    @property
    def gram_of_pairs(self) -> Floats:
        """Of their functions, from the training blocks, as these were fitted, (P, P)."""
        gram, _ = self._summed(self.pairs.train)
        return gram[: self.n_pairs, : self.n_pairs]

    @property
    def n_pairs(self) -> int:
        return len(self.pairs.kept)

    @cached_property
    def full(self) -> Refit:
        """The staged fit to the training blocks."""
        return self.staged(self.pairs.train)

    @property
    def most(self) -> int:
        """The highest rank: all channels of the largest form."""
        return max(len(c.strengths) for c in self.full.channels)

    # --- stages -----------------------------------------------------------------------------------

    def staged(self, blocks: Sequence[int], ridge: float | None = None) -> Refit:
        """Stages 1 to 3 from some blocks, every channel kept."""
        pairs = self._of_pairs.solve(
            blocks, range(self._of_pairs.power_bs.shape[1]), self.pairs.penalty, self.pairs.ridge
        )
        quadratic = self._quadratic(pairs, blocks, self.ridge if ridge is None else ridge)
        forms = zip(self.forms, quadratic, strict=True)
        return Refit(pairs, tuple(diagonal(form, q, blocks) for form, q in forms))

    def refit(self, staged: Refit, blocks: Sequence[int], rank: int) -> Refit:
        """Stage 4 with the strongest `rank` channels of every form: pairs and strengths."""
        kept = [Channels(c.strengths[:rank], c.vectors[:, :rank]) for c in staged.channels]
        gram, moment = self._projected(kept, blocks)
        start = np.concatenate([staged.pairs, *(c.strengths for c in kept)])
        prior = TOWARDS_STAGED * np.diag(np.diag(gram))
        change = _ridge(gram, moment - gram @ start, prior)
        sizes = [self.n_pairs, *(len(c.strengths) for c in kept)]
        pairs, *strengths = parts(start + change, sizes)
        channels = (replace(c, strengths=s) for c, s in zip(kept, strengths, strict=True))
        return Refit(pairs, tuple(channels))

    def squares(self, fitted: Refit, blocks: Sequence[int]) -> Floats:
        """Σ |F_fit - F_ref|² over blocks, of atoms and (weighed) of molecules, (2,)."""
        return self.equations.residual(blocks, self.coefficients(fitted))

    def coefficients(self, fitted: Refit) -> Floats:
        """Of the P functions of pairs and the Q of the forms, (P + Q,)."""
        forms = zip(self.forms, fitted.channels, strict=True)
        return np.concatenate([fitted.pairs, *(c.products(f) @ c.strengths for f, c in forms)])

    def rmse(self, squares: Floats, blocks: Sequence[int]) -> float:
        """Error of a force component of atoms [meV/Å]."""
        number = self.equations.number_bs[list(blocks), 0].sum()
        return float(np.sqrt(squares[0] / number) * EV_TO_MEV)

    # --- choices, by cross-validation over the training blocks ------------------------------------

    @cached_property
    def ridge(self) -> float:
        """Strongest of RIDGES that cross-validation does not tell from the best."""
        train = self.pairs.train
        if len(train) < 2:
            return RIDGES[-1]
        errors = [self.cross_validated(ridge)[0].sum() for ridge in RIDGES]
        return max(r for r, e in zip(RIDGES, errors, strict=True) if e <= RIDGE_SLACK * min(errors))

    @cached_property
    def curve(self) -> list[RankTold]:
        """Over the rank: cost, and error [meV/Å], cross-validated over the training blocks and on
        the test blocks.
        """
        train, test = self.pairs.train, self.pairs.test
        ranks = sorted({min(rank, self.most) for rank in (*RANKS, self.most)})
        left_out = [(b, self.pairs.without(b)) for b in train if len(train) > 1]
        power = self.equations.power_bs[list(test)].sum(axis=0)
        staged = [(b, others, self.staged(others)) for b, others in left_out]
        rows: list[RankTold] = []
        for rank in ranks:
            validated = sum(
                (self.squares(self.refit(s, others, rank), [b]) for b, others, s in staged),
                np.zeros(2),
            )
            fitted = self.refit(self.full, train, rank)
            unseen = self.squares(fitted, test)
            rows.append(
                {
                    "rank": rank,
                    "channels": sum(len(c.strengths) for c in fitted.channels),
                    "cost": 1 + COST * rank,
                    "cross_validated_meV_per_A": self.rmse(validated, train) if staged else None,
                    "unseen_meV_per_A": self.rmse(unseen, test),
                    "unseen_relative_rmse_molecules": float(np.sqrt(unseen[1] / power[1])),
                }
            )
        return rows

    def rank(self, wanted: int) -> int:
        """The rank wanted, or for AUTO the smallest whose cross-validated error comes near the
        least one.
        """
        if wanted != AUTO:
            return min(wanted, self.most)
        errors: dict[int, Any] = {
            row["rank"]: row["cross_validated_meV_per_A"] for row in self.curve
        }
        if None in errors.values():
            return min(errors)
        return min(
            rank for rank, error in errors.items() if error <= RANK_SLACK * min(errors.values())
        )

    def fit(self, wanted: int) -> CollectiveFit:
        """With the rank wanted, see `rank`."""
        train, rank = self.pairs.train, self.rank(wanted)
        refit = self.refit(self.full, train, rank)
        if len(train) < 2:
            return CollectiveFit(self, rank, refit, refit.pairs[None])
        each = [self.refit(self.full, self.pairs.without(b), rank).pairs for b in train]
        return CollectiveFit(self, rank, refit, np.array(each))

    def told(self, fit: CollectiveFit) -> Provenance:
        """How the channels came about, for people."""
        return {"collective": {"rank": fit.rank, "ridge": self.ridge, "curve": self.curve}}

    # --- linear algebra ---------------------------------------------------------------------------

    @cached_property
    def _of_pairs(self) -> NormalEquations:
        return self.solved.select(np.arange(self.n_pairs))

    @property
    def solved(self) -> NormalEquations:
        """Of atoms and molecules, and what virials add."""
        if self.virials is None or not self.weight:
            return self.equations
        return self.equations.beside(self.virials, self.weight)

    @cached_property
    def _by_block(self) -> tuple[Floats, Floats]:
        """Gram matrices and moments, atoms, molecules and virials together."""
        gram, moment = self.equations.gram_bskk.sum(axis=1), self.equations.moment_bsk.sum(axis=1)
        if self.virials is not None and self.weight:
            gram += self.weight * self.virials.gram_bskk[:, 0]
            moment += self.weight * self.virials.moment_bsk[:, 0]
        return gram, moment

    def _summed(self, blocks: Sequence[int]) -> tuple[Floats, Floats]:
        gram, moment = np.zeros_like(self._by_block[0][0]), np.zeros_like(self._by_block[1][0])
        for b in blocks:  # one by one, as copies of large matrices are what takes the time
            gram += self._by_block[0][b]
            moment += self._by_block[1][b]
        return gram, moment

    def _quadratic(self, pairs: Floats, blocks: Sequence[int], ridge: float) -> list[Floats]:
        """Coefficients of every form, fitted to what the pairs leave."""
        n = self.n_pairs
        gram, moment = self._summed(blocks)
        gram, moment = gram[n:, n:], moment[n:] - gram[n:, :n] @ pairs
        solution = _ridge(gram, moment, ridge * self._prior(gram))
        return parts(solution, [len(f.products[0]) for f in self.forms])

    def _prior(self, gram: Floats) -> Floats:
        """What the ridge of the forms weighs, (Q, Q): every function by its own size in `gram`, and
        neighbouring functions of a density alike."""
        smooth, sizes = self._smoothness, np.diag(gram)
        compared = np.diag(smooth) > 0
        rough = sizes[compared].sum() / max(np.trace(smooth), np.finfo(float).tiny) * smooth
        return np.asarray(np.diag(sizes) + rough)

    @cached_property
    def _smoothness(self) -> Floats:
        return np.asarray(block_diag(*(_smoothness(form) for form in self.forms)))

    def _projected(self, kept: Sequence[Channels], blocks: Sequence[int]) -> tuple[Floats, Floats]:
        """Gram matrix and moment of the pairs' functions and the squared densities."""
        gram, moment = self._summed(blocks)
        products = [c.products(form) for c, form in zip(kept, self.forms, strict=True)]
        projection = block_diag(np.eye(self.n_pairs), *products)
        return projection.T @ gram @ projection, projection.T @ moment


def channel_terms(form: DensityForm, channels: Channels) -> list[DensityTerm]:
    """Terms of the channels, strongest first: `collective:O:1`, …; their sampled ranges are still
    to be found.
    """
    terms = []
    for k, (strength, vector) in enumerate(
        zip(channels.strengths, channels.vectors.T, strict=True), 1
    ):
        vector = vector * np.sign(vector[np.argmax(np.abs(vector))])
        terms.append(
            replace(
                form.term,
                name=f"{form.term.name}:{k}",
                coefficients=tuple(vector.tolist()),
                strength_eV=float(strength),
                rest=float(vector @ form.mean),
            )
        )
    return terms


def parts(values: Floats, lengths: Sequence[int]) -> list[Floats]:
    return np.split(values, np.cumsum(lengths)[:-1])


def _ridge(gram: Floats, moment: Floats, prior: Floats) -> Floats:
    """Least squares with a prior; functions that occur in none of the data get zero."""
    occurs = np.flatnonzero(np.diag(gram) > 0)
    solution = np.zeros(len(moment))
    matrix = (gram + prior)[np.ix_(occurs, occurs)]
    scale = 1 / np.sqrt(np.diag(matrix))
    solution[occurs] = scale * solve(
        matrix * np.outer(scale, scale), moment[occurs] * scale, assume_a="pos"
    )
    return solution


def symmetric(form: Form, coefficients: Floats) -> Floats:
    """B (A, A) with δQ·B·δQ = Σ_{a≤b} c_ab δQ_a δQ_b."""
    a, b = form.products
    half = np.zeros((len(form.mean), len(form.mean)))
    half[a, b] = coefficients / 2
    return np.asarray(half + half.T)


def variance(form: Form, blocks: Sequence[int]) -> Floats:
    """Second moment of the sums about their means, (A, A)."""
    b = list(blocks)
    return np.asarray(form.second_baa[b].sum(axis=0) / form.number_b[b].sum())


def unit_variance(form: Form, blocks: Sequence[int]) -> tuple[Floats, Floats]:
    """Densities of variance one, as combinations of the sums, (A, R), made of the directions that
    the form leaves them, and the sums as combinations of these, (A, R): δQ = back z, z = unitᵀ δQ.
    """
    second, directions = variance(form, blocks), form.directions
    share, axes = np.linalg.eigh(directions.T @ second @ directions)
    varies = share > HARDLY_VARIES * share.max(initial=0.0)
    unit = directions @ axes[:, varies] / np.sqrt(share[varies])
    return unit, second @ unit


def diagonal(form: Form, coefficients: Floats, blocks: Sequence[int]) -> Channels:
    """Channels of a form in the metric of the second moment of its sums: δQ = L z with z of unit
    variance.
    """
    unit, outer = unit_variance(form, blocks)
    strengths, rotation = np.linalg.eigh(outer.T @ symmetric(form, coefficients) @ outer)
    vectors = unit @ rotation
    order = np.argsort(-np.abs(strengths))
    return Channels(strengths[order], vectors[:, order])


def _smoothness(form: Form) -> Floats:
    """Squared differences of neighbouring functions along B, weighed by how the other sum varies; a
    matrix for the form's functions.
    """
    units = np.array([symmetric(form, unit) for unit in np.eye(len(form.products[0]))])
    weight = np.sqrt(np.diagonal(form.second_baa.sum(axis=0)))
    rough = (form.differences @ units * weight).reshape(len(units), -1)
    return np.asarray(rough @ rough.T)
