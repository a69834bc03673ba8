"""How much the stress counts beside forces, in a fit that learns both."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar, Protocol, TypeVar

from mld_ff.inference.normal_equations import NormalEquations

WEIGHTS = tuple(10 ** (k / 2) for k in range(-4, 5))
"""Of squares of virials: with 1 what a fit to forces alone leaves of both counts alike."""
PRICE = 1.02
"""The strongest weight is taken with which the squared error of forces is within this factor of
that without: 1 % of the error."""


class Weighed(Protocol):
    """A least-squares problem, a frozen dataclass with a field `weight` of virials."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def virials(self) -> NormalEquations | None: ...

    @property
    def train(self) -> Sequence[int]: ...

    @property
    def ridge(self) -> float: ...

    def cross_validated(self, ridge: float) -> tuple[float, float]:
        """Squared errors of forces and of virials over the training blocks, each of them unseen."""


Problem = TypeVar("Problem", bound=Weighed)


def balanced(problem: Problem) -> Problem:
    """With the strongest weight of virials that costs forces hardly anything; 0 if none does."""
    if problem.virials is None or len(problem.train) < 2:
        return problem

    def squared_errors(weight: float) -> tuple[float, float]:
        return replace(problem, weight=weight).cross_validated(problem.ridge)

    of_forces, of_virials = squared_errors(0.0)
    if not of_virials:
        return problem
    weights = [0.0, *(float(weight * of_forces / of_virials) for weight in WEIGHTS)]

    def costs(weight: float) -> bool:
        return squared_errors(weight)[0] > PRICE * of_forces

    # the error of forces grows with the weight
    return replace(problem, weight=weights[bisect_left(weights, True, lo=1, key=costs) - 1])
