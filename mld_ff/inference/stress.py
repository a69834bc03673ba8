"""How much the stress counts beside forces, in a fit that learns both."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence

from mld_ff.inference.normal_equations import NormalEquations

WEIGHTS = tuple(10 ** (k / 2) for k in range(-4, 5))
"""Of squares of virials: with 1 all of them together count as much as all of forces."""
PRICE = 1.02
"""The strongest weight is taken with which the cross-validated squared error of forces is within
this factor of that without: 1 % of the error."""


def strongest_weight(
    forces: NormalEquations,
    virials: NormalEquations,
    blocks: Sequence[int],
    squared_error: Callable[[float], float],
) -> float:
    """The strongest weight of virials that costs forces hardly anything; 0 if none does.

    squared_error: of forces, cross-validated over the blocks, with a weight; it is taken to grow
    with the weight.
    """
    of_forces, of_virials = (e.power_bs[list(blocks)].sum() for e in (forces, virials))
    if not of_virials:
        return 0.0
    weights = [0.0, *(weight * float(of_forces / of_virials) for weight in WEIGHTS)]
    most = PRICE * squared_error(0.0)
    return weights[bisect_left(weights, 1, lo=1, key=lambda w: int(squared_error(w) > most)) - 1]
