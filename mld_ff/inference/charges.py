"""Charges: what a fit finds, how sure it is, and what they bring."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from mld_ff.inference.channels import ChannelsProblem
from mld_ff.inference.charge_terms import means_of_printed
from mld_ff.inference.collective import CollectiveFit
from mld_ff.inference.dataset import Dataset
from mld_ff.inference.design import ChargeForm
from mld_ff.inference.ladder import errors_of_pairs
from mld_ff.inference.problem import jackknife_error
from mld_ff.loss.charges import ChargeTerm, element_of
from mld_ff.loss.provenance import ErrorsTold, Provenance
from mld_ff.trajectory import Floats

MOST_NEGATIVE = ("F", "O", "Cl", "N", "Br", "I", "S", "C", "Se")
"""By Pauling's electronegativity. Forces know charges up to a sign that all have in common: the
first of these that is there has a negative one."""
NONE_AT_ALL = 1e-4
"""[e] of the largest charge where forces ask for none: what a search leaves."""
SURE = 3.0
"""So many times as large as its error is the largest charge where data determine charges."""


@dataclass(frozen=True)
class Charges:
    """What a fit says of charges."""

    problem: ChannelsProblem
    form: ChargeForm
    fit: CollectiveFit
    printed_e: Mapping[str, dict[str, float]] = field(default_factory=dict)
    """What the program of the data says of them, by its methods, by species or type of atom."""

    @classmethod
    def of(cls, fit: CollectiveFit | None, dataset: Dataset) -> Charges | None:
        """None where there are none."""
        if fit is None or not isinstance(fit.problem, ChannelsProblem):
            return None
        form = fit.problem.forms[-1]
        if not isinstance(form, ChargeForm):
            return None
        printed = means_of_printed(form.term, dataset.sources, dataset.topologies)
        owners = form.term.owners
        each = {m: dict(zip(owners, q.tolist(), strict=True)) for m, q in printed.items()}
        return cls(fit.problem, form, fit, each)

    @cached_property
    def term(self) -> ChargeTerm:
        """With their errors by jack-knife; those of given ones are zero."""
        if self.form.given.any():
            return self.form.term
        channel = self.fit.refit.channels[-1]
        best = np.sqrt(channel.strengths[0]) * channel.vectors[:, 0]
        best = np.where(np.abs(best).max() > NONE_AT_ALL, best, 0.0)
        each = self.problem.charges_without_each(self.fit)
        errors = jackknife_error(each * np.sign(each @ best)[:, None]) if len(each) else ()
        return replace(
            self.form.term,
            coefficients=tuple((best * _sign(self.form.term.owners, best) + 0.0).tolist()),
            coefficient_errors=tuple(float(e) for e in errors),
        )

    def told(self) -> Provenance:
        """For people."""
        term, given = self.term, bool(self.form.given.any())
        here = self.problem.errors(self.problem.coefficients(self.fit.refit))
        return {
            "charges_e": term.charges_e,
            "charges": {
                "errors_e": dict(zip(term.owners, term.coefficient_errors, strict=False)),
                "given": given,
                "free_numbers": self.form.directions.shape[1],
                "determined": given or self._sure,
                "printed_e": dict(self.printed_e),
                "unseen_meV_per_A": here["unseen_meV_per_A"],
                "unseen_meV_per_A_without": self._without["unseen_meV_per_A"],
            },
        }

    @property
    def _sure(self) -> bool:
        errors = self.term.coefficient_errors
        return bool(errors) and max(map(abs, self.term.coefficients)) > SURE * max(errors)

    def warning(self) -> str | None:
        """What is to be said where data do not determine the charges."""
        if self.form.given.any() or self._sure:
            return None
        return (
            f"the data do not determine the charges ({self.term}, with errors of up to"
            f" {max(self.term.coefficient_errors, default=np.inf):.2g} e): more or more varied"
            " frames are needed, or given charges, or none"
        )

    @cached_property
    def _without(self) -> ErrorsTold:
        """Errors on the test blocks of the same without charges."""
        problem = self.problem.without_charges()
        if problem is None:
            return errors_of_pairs(self.problem)
        numbers = [0, 0, 0]
        for form, own in self.fit.densities:
            numbers[form.term.order] = max(numbers[form.term.order], len(own.strengths))
        return problem.errors(problem.coefficients(problem.minimised(numbers).refit))


def _sign(owners: Sequence[str], charges: Floats) -> float:
    elements = np.array([element_of(owner) for owner in owners])
    negative = next((s for s in MOST_NEGATIVE if s in elements), elements[0])
    return -1.0 if charges[elements == negative].sum() > 0 else 1.0
