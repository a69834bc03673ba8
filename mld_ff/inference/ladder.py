"""What channels and charges bring, and what they cost: told beside every fit."""

from __future__ import annotations

import numpy as np

from mld_ff.geometry.harmonics import ORDERS
from mld_ff.inference.basis import CHANNELS_CUTOFF_A, NO_CHANNELS
from mld_ff.inference.channels import ChannelsProblem, by_sign
from mld_ff.inference.collective import CollectiveFit
from mld_ff.loss.provenance import ErrorsTold, Provenance, StepTold

LADDER = ((2, 1, 1), (2, 2, 2), (3, 3, 3), (4, 6, 6))
"""Channels of each order whose errors and costs are told beside those of every fit."""
COST_OF_NUMBERS, COST_OF_TENSORS = 2.4, 7.3
"""Of a style with densities to 5 Å, in units of a step of pairs to 5.5 Å (water, 192 atoms, one
core: 0.55 and 1.65 ms of 0.23 ms; to 4 Å half of that)."""


def cost(of_numbers: int, of_tensors: int, cutoff_A: float) -> float:
    """Time of a step in LAMMPS with so many styles of densities, each going over all neighbours, in
    units of that of the pairs, whose cutoff is 5.5 Å."""
    styles = COST_OF_NUMBERS * of_numbers + COST_OF_TENSORS * of_tensors
    return 1 + styles * (cutoff_A / CHANNELS_CUTOFF_A) ** 3


def told_of_channels(problem: ChannelsProblem, fit: CollectiveFit) -> Provenance:
    """How the channels of densities came about, for people; nothing where there are none."""
    if not fit.densities:
        return {}
    train = problem.pairs.train
    whole = problem.whole(problem.reduced(train, problem.ridge), train)
    beside = problem.pairs_beside(whole, train, problem.ridge)
    limit = problem.errors(np.concatenate([beside, whole]))
    return {
        "channels": {
            "numbers": {form.term.name: len(c.strengths) for form, c in fit.densities},
            "by_order": list(_by_order(fit)),
            "cutoff_A": fit.densities[0][0].term.cutoff_A,
            "ridge": problem.ridge,
            "curve": _ladder(problem, fit),
            "unseen_meV_per_A_whole_forms": limit["unseen_meV_per_A"],
            "unseen_relative_rmse_molecules_whole_forms": limit["unseen_relative_rmse_molecules"],
        }
    }


def errors_of_pairs(problem: ChannelsProblem) -> ErrorsTold:
    """On the test blocks, of pairs alone."""
    nothing = np.zeros(sum(len(form.products[0]) for form in problem.forms))
    of_pairs = problem.pairs_beside(nothing, problem.pairs.train, problem.ridge)
    return problem.errors(np.concatenate([of_pairs, nothing]))


def _ladder(problem: ChannelsProblem, fit: CollectiveFit) -> list[StepTold]:
    """Error on the test blocks over cost: pairs alone, what LADDER names, and this fit; all with
    charges if the fit has them."""
    pairs = problem.errors(problem.coefficients(problem.minimised(NO_CHANNELS).refit))
    rows: list[StepTold] = [{"channels": list(NO_CHANNELS), "cost": 1.0, **pairs}]
    own, orders = _by_order(fit), {form.term.order for form, _ in fit.densities}
    steps = [n for n in LADDER if n != own and {k for k, few in enumerate(n) if few} <= orders]
    fits: dict[tuple[int, ...], CollectiveFit] = {own: fit}
    for k, step in enumerate(steps):
        problem.progress("other numbers of channels", k, len(steps))
        fits[step] = problem.minimised(step)
    problem.progress("other numbers of channels", len(steps), len(steps))
    for numbers, one in fits.items():
        errors = problem.errors(problem.coefficients(one.refit))
        rows.append({"channels": list(numbers), "cost": _cost(one), **errors})
    return sorted(rows, key=lambda row: row["cost"])


def _cost(fit: CollectiveFit) -> float:
    """One style for every channel of order 0, of all species together, and one for a vector and a
    quadrupole of one sign together."""
    numbers = 0
    tensors = np.zeros(2, np.int64)  # of either sign
    for form, channels in fit.densities:
        if form.term.order == 0:
            numbers = max(numbers, len(channels.strengths))
        else:
            of_signs = [len(places) for places in by_sign(channels.strengths)]
            tensors = np.maximum(tensors, of_signs)
    return cost(numbers, int(tensors.sum()), fit.densities[0][0].term.cutoff_A)


def _by_order(fit: CollectiveFit) -> tuple[int, ...]:
    most = [0 for _ in ORDERS]
    for form, channels in fit.densities:
        most[form.term.order] = max(most[form.term.order], len(channels.strengths))
    return tuple(most)
