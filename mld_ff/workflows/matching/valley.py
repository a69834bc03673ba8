"""The squared error of forces around a fit, and the step that structure asks for within it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mld_ff.inference.fitting import Fit
from mld_ff.inference.normal_equations import Indices
from mld_ff.trajectory import Floats
from mld_ff.workflows.matching.averages import Averages, pair_coefficients

STRONGEST = 100.0
"""The structure of a frame counts at most as much as the forces of this many."""
LONGEST = 2.0
"""Length of a step, see `Averages.length`: beyond, averages hardly respond linearly any more."""


@dataclass(frozen=True)
class Step:
    """Where to go next, and what that is expected to cost."""

    coefficients: Floats
    """(K,)."""
    length: float
    """See `Averages.length`."""
    price: float
    """By how much the squared error of forces in training exceeds that of the fit, as a fraction of
    it; with a collective loss that of forces on molecules counts too, as in its fit.
    """


@dataclass(frozen=True)
class Valley:
    """The squared error of forces around a fit, as a function of the coefficients of its pairs."""

    fitted: Floats
    """(K,)."""
    gram: Floats
    """Σ XᵀX in units of the squared error of the fit, (K, K); zero for coefficients that the fit
    left alone.
    """
    slope: Floats
    """Of the squared error at the fit, in the same units, (K,): zero if the fit had no ridge."""
    prior: Floats
    """The ridge of the pairs' fit in the same units, (K, K)."""
    components: int
    """Force components of a frame."""

    @classmethod
    def around(cls, fit: Fit) -> Valley:
        """Around the solution of a fit, with the coefficients of its loss's pairs."""
        problem, train = fit.problem, list(fit.problem.train)
        equations, solution = fit.equations, fit.solution
        square = float(equations.residual(train, solution).sum())
        gram = equations.gram_bskk[train].sum(axis=(0, 1)) / square
        moment = equations.moment_bsk[train].sum(axis=(0, 1)) / square
        slope = 2 * (gram @ solution - moment)
        n = len(problem.kept)
        prior = problem.ridge * np.trace(gram[:n, :n]) / n * problem.penalty
        here, there = _common(fit)
        size = len(pair_coefficients(fit.loss))
        whole = np.zeros((2, size, size))
        for k, matrix in enumerate((gram, prior)):
            whole[k][np.ix_(here, here)] = matrix[np.ix_(there, there)]
        slopes = np.zeros(size)
        slopes[here] = slope[there]
        components = 3 * fit.data.survey.topology.n_atoms
        return cls(pair_coefficients(fit.loss), whole[0], slopes, whole[1], components)

    def price(self, coefficients: Floats) -> float:
        """See Step."""
        away = coefficients - self.fitted
        return float(away @ self.gram @ away + self.slope @ away)

    def step(
        self,
        now: Floats,
        wanted: Floats,
        averages: Averages,
        kT_eV: float,
        price: float,
        push: float | None = None,
    ) -> Step:
        """From coefficients (K,) `now`, whose run has these averages, towards those whose run has
        `wanted` (K,).

        price: the most that structure may cost, see Step. push: what the pressure is to change by
        [eV/Å³], whatever that costs; `averages` must have the columns for it. A step that is too
        long to trust is cut short.
        """
        pull = self._pull(now, wanted, averages, kT_eV, push)
        limit = price + self.price(now + pull.change(0.0))

        def is_cheap(weight: float) -> bool:
            return self.price(now + pull.change(weight)) <= limit

        change = pull.change(_largest(is_cheap, STRONGEST / self.components))
        length = averages.length(change, kT_eV)
        if length > LONGEST:
            change, length = change * LONGEST / length, LONGEST
        return Step(now + change, length, self.price(now + change))

    def _pull(
        self, now: Floats, wanted: Floats, averages: Averages, kT_eV: float, push: float | None
    ) -> _Pull:
        n = len(now)
        moved = np.flatnonzero(np.diag(self.gram) > 0)
        errors = (self.gram + self.prior)[np.ix_(moved, moved)]
        response = np.zeros(0)
        if push is not None:
            direct, fluctuations = averages.mean[n + 1 :], averages.covariance[n, :n]
            response = (direct - fluctuations / kT_eV)[moved]
        return _Pull(
            n,
            moved,
            errors,
            averages.covariance[np.ix_(moved, moved)] / kT_eV**2,
            errors @ (now - self.fitted)[moved],
            # with errors of forces as independent as frames are, the likelihood of both has the
            # weight 1 / components
            (averages.mean[:n] - wanted)[moved] / kT_eV,
            response,
            push,
        )


@dataclass(frozen=True)
class _Pull:
    """What draws coefficients, K in all, of which M may move: force errors, structure, pressure."""

    size: int
    """K."""
    moved: Indices
    """Which of the coefficients they are, (M,)."""
    errors: Floats
    """Half the curvature of the squared error of forces with its prior, (M, M)."""
    structure: Floats
    """Curvature of the log-likelihood of the frames, (M, M)."""
    back: Floats
    """Half the slope of the squared error where the coefficients are, (M,)."""
    onwards: Floats
    """Slope of the log-likelihood, (M,)."""
    response: Floats
    """What the coefficients do to the pressure, (M,)."""
    push: float | None
    """What the pressure is to change by."""

    def change(self, weight: float) -> Floats:
        """Of all coefficients (K,), with this weight of structure beside forces."""
        matrix = self.errors + weight * self.structure
        right = weight * self.onwards - self.back
        sides = right[:, None] if self.push is None else np.stack([right, self.response], axis=1)
        scale = 1 / np.sqrt(np.diag(matrix))[:, None]
        scaled = np.linalg.lstsq(matrix * (scale * scale.T), scale * sides, rcond=1e-12)[0]
        both = scale * scaled
        change = np.zeros(self.size)
        change[self.moved] = both[:, 0]
        if self.push is not None:
            missing = self.push - self.response @ both[:, 0]
            change[self.moved] += both[:, 1] * missing / (self.response @ both[:, 1])
        return change


def _largest(is_allowed: Callable[[float], bool], most: float) -> float:
    """The largest number up to `most` that is allowed, where smaller ones are, by bisection."""
    if is_allowed(most):
        return most
    low, high = 0.0, most
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if is_allowed(middle) else (low, middle)
    return low


def _common(fit: Fit) -> tuple[list[int], list[int]]:
    """Places, among the coefficients of the loss's pairs and among the functions that were solved
    for, of those that are both: walls hide some of the latter, and some are not determined."""
    place = {name: k for k, name in enumerate(fit.problem.names)}
    solved = {int(k): n for n, k in enumerate(fit.problem.kept)}
    names = [f"{t.name} {c}" for t in fit.loss.pair_terms for c in t.coefficient_names]
    here = [k for k, name in enumerate(names) if place[name] in solved]
    return here, [solved[place[names[k]]] for k in here]
