"""How much the stress counts beside forces, in a fit that learns both."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar, Protocol, TypeVar

import numpy as np

from mld_ff.inference.normal_equations import NormalEquations
from mld_ff.trajectory import Floats

WEIGHTS = tuple(10 ** (k / 2) for k in range(-4, 5))
"""Of squares of virials: with 1 what a fit to forces alone leaves of both counts alike."""
RATE = 0.1
"""The squared error of forces may grow by 1 % for every 10 % that that of virials falls. Copper, an
embedded atom potential, `fast`: 7.43 instead of 7.25 meV/Å and 340 instead of 26,500 bar; water,
pairs: 204.2 instead of 203.9 meV/Å, 872 instead of 935 bar, but 207 for 835 bar, which do not
pay."""
PRICE = 1.05
"""And to no more than this factor: 2.5 % of the error, whatever that brings."""


class Weighed(Protocol):
    """A least-squares problem, a frozen dataclass with a field `weight` of virials."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def virials(self) -> NormalEquations | None: ...

    @property
    def train(self) -> Sequence[int]: ...

    @property
    def ridge(self) -> float: ...

    def cross_validated(self, ridge: float) -> tuple[Floats, float]:
        """Squared errors over the training blocks, each of them unseen: of every kind of forces
        that is fitted (on atoms; on molecules), (N,), and of virials."""


Problem = TypeVar("Problem", bound=Weighed)


def balanced(problem: Problem) -> Problem:
    """With the weight of virials that pays most, by RATE, and costs no more than PRICE: of the kind
    of forces that loses most, as those on molecules may weigh so much that their sum tells nothing
    of those on atoms (a solution of salt, pairs and charges: 154 instead of 135 meV/Å)."""
    if problem.virials is None or len(problem.train) < 2:
        return problem

    def squared_errors(weight: float) -> tuple[Floats, float]:
        return replace(problem, weight=weight).cross_validated(problem.ridge)

    of_forces, of_virials = squared_errors(0.0)
    if not of_virials:
        return problem
    best, lowest = 0.0, 0.0
    for relative in WEIGHTS:
        weight = float(relative * of_forces.sum() / of_virials)
        forces, virials = squared_errors(weight)
        growth = float(np.max(forces[of_forces > 0] / of_forces[of_forces > 0]))
        price = math.log(growth) + RATE * math.log(virials / of_virials)
        if price >= lowest or growth > PRICE:
            break
        best, lowest = weight, price
    return replace(problem, weight=best)
