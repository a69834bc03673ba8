"""A few channels in place of whole quadratic forms, of densities of all orders together.

Every form Σ B_ab Q_a·Q_b is to be Σ_k s_k a_k a_kᵀ with signs s_k: channel k has the coefficients
a_k. The error on the training blocks is a polynomial of the a_k that the normal
equations hold exactly, so it is minimised without another pass over the data: pairs eliminated
(variable projection), in coordinates whose unit is the standard deviation of a density, from the
eigenvectors of largest |eigenvalue| of the whole forms. Water, two channels each, unseen: the
eigenvectors more than 110 meV/Å, minimised 54, the whole forms 44.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy.linalg import block_diag, cho_factor, cho_solve
from scipy.optimize import minimize

from mld_ff.inference.collective import (
    Channels,
    CollectiveFit,
    CollectiveProblem,
    Refit,
    diagonal,
    parts,
    unit_variance,
    variance,
)
from mld_ff.inference.design import ChargeForm, DensityForm, Form
from mld_ff.inference.normal_equations import Indices
from mld_ff.inference.problem import RIDGE_SLACK, RIDGES
from mld_ff.loss.provenance import ErrorsTold
from mld_ff.progress import Progress, no_progress
from mld_ff.trajectory import Floats

OPTIONS = {"maxiter": 1500, "maxfun": 3000, "maxcor": 30, "ftol": 1e-9, "gtol": 1e-9}
"""Of L-BFGS: 4 s of one core for water. It remembers 30 steps."""
PAIRED_SLACK = 1.05
"""A vector and a quadrupole of one sign take one `adp` together, those of two signs two: by this
factor the squared error may be larger where signs are paired (water, one of each beside two
numbers: 64.6 meV/Å unseen with one sign, 64.8 with two).
"""
FLAT = 1e-10
"""Curvatures of the error below this part of the largest are none: channels of one sign and order
may turn into each other."""
LEAST_CHARGE = 0.1
"""[e] that a search begins with at least, root mean square."""
SCALE = 1e3
"""Of the error, which is in parts of that of no force at all, for these tolerances."""


@dataclass(frozen=True)
class Reduced:
    """The problem of the forms alone, after the best pairs for any of them."""

    gram: Floats
    """(Q, Q), with the ridge."""
    moment: Floats
    """(Q,)."""

    def error(self, coefficients: Floats) -> tuple[float, Floats]:
        """Half the squared error, up to a constant, and its gradient (Q,)."""
        gradient = self.gram @ coefficients - self.moment
        return float(coefficients @ (gradient - self.moment)) / 2, gradient


@dataclass(frozen=True)
class OfForm:
    """Where the channels of one form are looked for."""

    form: Form
    signs: Floats
    """(K,)."""
    unit: Floats
    """Coefficients (A, R) of R densities of variance one."""
    start: Floats
    """(K, R)."""
    offset: Floats
    """What is given of the channels' coefficients, (K, A)."""

    def vectors(self, z: Floats) -> Floats:
        """Coefficients (K, A) of channels z (K, R)."""
        return np.asarray(self.offset + z @ self.unit.T)

    def coefficients(self, z: Floats) -> Floats:
        """Of the form's products, for channels z (K, R)."""
        a, b = self.form.products
        vectors = self.vectors(z)
        return np.asarray(
            (self.signs[:, None] * vectors[:, a] * vectors[:, b]).sum(axis=0)
            * np.where(a == b, 1, 2)
        )

    def jacobian(self, z: Floats) -> Floats:
        """Of the coefficients by z, (products, K R)."""
        a, b = self.form.products
        vectors, unit = self.vectors(z), self.unit
        turned = vectors[:, a, None] * unit[b] + vectors[:, b, None] * unit[a]
        both = self.signs[:, None, None] * turned * np.where(a == b, 1, 2)[:, None]
        return np.asarray(both.transpose(1, 0, 2).reshape(len(a), -1))

    def gradient(self, z: Floats, by_coefficients: Floats) -> Floats:
        """By z (K, R), of what has a gradient by the coefficients."""
        a, b = self.form.products
        matrix = np.zeros((len(self.unit), len(self.unit)))
        matrix[a, b] = matrix[b, a] = by_coefficients
        return np.asarray(2 * self.signs[:, None] * (self.vectors(z) @ matrix @ self.unit))

    def channels(self, z: Floats, blocks: Sequence[int]) -> Channels:
        """The same form in channels whose densities have variance one and vary by themselves,
        strongest first.

        A search ends in any channels of one form. Of two that are nearly one less the other, as
        vectors of water with 106 and -76 eV, forces of 18 eV/Å cancel to 3, and what engines round
        does not.
        """
        if isinstance(self.form, DensityForm):
            own = diagonal(self.form, self.coefficients(z), blocks)
            return Channels(own.strengths[: len(z)], own.vectors[:, : len(z)])
        vectors, second = self.vectors(z), variance(self.form, blocks)
        size = np.einsum("ka,ab,kb->k", vectors, second, vectors)
        size = np.maximum(size, np.finfo(float).tiny)
        return Channels(self.signs * size, (vectors / np.sqrt(size)[:, None]).T)


@dataclass(frozen=True)
class ChannelsProblem(CollectiveProblem):
    """Forms of densities of several orders beside the terms of a Problem."""

    progress: Progress = no_progress

    @cached_property
    def ridge(self) -> float:
        """Of pairs and whole forms: the strongest of RIDGES that cross-validation does not tell
        from the best. (That of pairs alone, which explain less, is too strong: 59 instead of 54
        meV/Å.)"""
        train = self.pairs.train
        if len(train) < 2:
            return RIDGES[-1]
        errors = []
        for k, ridge in enumerate(RIDGES, 1):
            errors.append(self.cross_validated(ridge)[0].sum())
            self.progress("ridge of channels", k, len(RIDGES))
        return max(r for r, e in zip(RIDGES, errors, strict=True) if e <= RIDGE_SLACK * min(errors))

    def left_out(self, block: int, ridge: float) -> Floats:
        """... with whole forms."""
        others = self.pairs.without(block)
        forms = self.whole(self.reduced(others, ridge), others)
        return np.concatenate([self.pairs_beside(forms, others, ridge), forms])

    @property
    def ridge_of_pairs(self) -> float:
        return self.ridge

    def minimised(self, wanted: Sequence[int]) -> CollectiveFit:
        """So many channels for a form of order 0, 1, 2, those that minimise the training error."""
        train = self.pairs.train
        reduced = self.reduced(train, self.ridge)
        whole = parts(self.forms_alone(reduced), self._sizes)
        forms = list(zip(self.forms, whole, strict=True))
        own = [diagonal(form, coefficients, train) for form, coefficients in forms]
        free = [_strongest(f, c, wanted) for f, c in zip(self.forms, own, strict=True)]
        best = self._minimised(reduced, own, free)
        paired = self._paired(own, free, wanted)
        if all(map(np.array_equal, free, paired)):
            return best
        other = self._minimised(reduced, own, paired)
        errors = [self.squares(one.refit, train).sum() for one in (best, other)]
        return other if errors[1] <= PAIRED_SLACK * errors[0] else best

    def _minimised(
        self, reduced: Reduced, own: Sequence[Channels], places: Sequence[Indices]
    ) -> CollectiveFit:
        """From those of the forms' own channels that stand at these places, with their signs."""
        train = self.pairs.train
        every = [self._begin(*one, train) for one in zip(self.forms, own, places, strict=True)]
        best = zip(every, self._search(reduced, every), strict=True)
        return self._with_pairs(tuple(o.channels(z, train) for o, z in best))

    def _search(self, reduced: Reduced, every: Sequence[OfForm]) -> list[Floats]:
        """The channels (K, R) of every form with the least error, from where they begin."""
        sizes = [o.start.size for o in every]

        lengths = [len(o.form.products[0]) for o in every]

        def split(z: Floats) -> list[Floats]:
            each = zip(parts(z, sizes), every, strict=True)
            return [flat.reshape(o.start.shape) for flat, o in each]

        def error(z: Floats) -> tuple[float, Floats]:
            of_forms = list(zip(every, split(z), strict=True))
            value, slope = reduced.error(np.concatenate([o.coefficients(x) for o, x in of_forms]))
            slopes = zip(of_forms, parts(slope, lengths), strict=True)
            by_z = [o.gradient(x, own).ravel() for (o, x), own in slopes]
            return SCALE * value, SCALE * np.concatenate(by_z)

        start = np.concatenate([o.start.ravel() for o in every])
        if not start.size:
            return split(start)
        return split(minimize(error, start, jac=True, method="L-BFGS-B", options=OPTIONS).x)

    def without_charges(self) -> ChannelsProblem | None:
        """The same without charges; None if nothing but pairs is left."""
        forms = tuple(form for form in self.forms if isinstance(form, DensityForm))
        n = self.n_pairs + sum(len(form.products[0]) for form in forms)
        if not forms:
            return None
        functions = np.arange(n)
        virials = self.virials and self.virials.select(functions)
        equations = self.equations.select(functions)
        return replace(self, forms=forms, equations=equations, virials=virials)

    def charges_without_each(self, fit: CollectiveFit) -> Floats:
        """Charges (B, A) without each of the training blocks in turn, everything else free too.

        By one step of Gauss and Newton each, from the best: searches would take longer than all
        else in a fit, and are not told from it (molten salt: errors differ by less than 1 %).
        """
        train, every = self.pairs.train, []
        for form, own in zip(self.forms, fit.refit.channels, strict=True):
            every.append(self._begin(form, own, np.arange(len(own.strengths)), train))
        coefficients = np.concatenate([o.coefficients(o.start) for o in every])
        by_z = block_diag(*(o.jacobian(o.start) for o in every))
        charges = []
        for b in train if len(train) > 1 else ():
            reduced = self.reduced(self.pairs.without(b), self.ridge)
            _, slope = reduced.error(coefficients)
            curvature = by_z.T @ reduced.gram @ by_z
            step = np.linalg.pinv(curvature, rcond=FLAT, hermitian=True) @ (by_z.T @ slope)
            moved = every[-1].start - parts(step, [o.start.size for o in every])[-1]
            charges.append(every[-1].vectors(moved)[0])
        return np.array(charges)

    def reduced(self, blocks: Sequence[int], ridge: float) -> Reduced:
        """What some blocks say of the forms; in units of the power of the forces."""
        n = self.n_pairs
        gram, moment = self._summed(blocks)
        power = self.equations.power_bs[list(blocks)].sum()
        right = np.column_stack([gram[:n, n:], moment[:n]])
        best = self._pairs_for(gram[:n, :n], right, ridge)
        prior = self._prior(gram[n:, n:])
        occurs = np.diag(gram)[n:] > 0
        prior *= np.outer(occurs, occurs)  # what is in no data stays at zero
        of_forms = gram[n:, n:] - gram[n:, :n] @ best[:, :-1] + ridge * prior
        moment = moment[n:] - gram[n:, :n] @ best[:, -1]
        return Reduced((of_forms + of_forms.T) / 2 / power, moment / power)

    def errors(self, coefficients: Floats) -> ErrorsTold:
        """Of coefficients of pairs and forms on the test blocks, of atoms and of molecules, as
        normal equations know them."""
        test = self.pairs.test
        squares = self.equations.residual(test, coefficients)
        power = self.equations.power_bs[list(test)].sum(axis=0)
        return {
            "unseen_meV_per_A": self.rmse(squares, test),
            "unseen_relative_rmse_molecules": float(np.sqrt(squares[1] / power[1])),
        }

    # --- linear algebra ---------------------------------------------------------------------------

    @property
    def _sizes(self) -> list[int]:
        return [len(form.products[0]) for form in self.forms]

    def _pairs_for(self, gram: Floats, right: Floats, ridge: float) -> Floats:
        """Best coefficients of pairs (P, …) for moments (P, …)."""
        matrix = gram + ridge * np.trace(gram) / len(gram) * self.pairs.penalty
        scale = 1 / np.sqrt(np.diag(matrix))
        normal = matrix * np.outer(scale, scale)
        solution = np.linalg.lstsq(normal, scale[:, None] * right, rcond=None)[0]
        return np.asarray(scale[:, None] * solution)

    def pairs_beside(self, forms: Floats, blocks: Sequence[int], ridge: float) -> Floats:
        """Best coefficients of pairs (P,) beside given ones of the forms (Q,)."""
        n = self.n_pairs
        gram, moment = self._summed(blocks)
        left = moment[:n] - gram[:n, n:] @ forms
        return self._pairs_for(gram[:n, :n], left[:, None], ridge)[:, 0]

    def whole(self, reduced: Reduced, blocks: Sequence[int]) -> Floats:
        """Coefficients (Q,) of the whole forms of densities, and of charges as these are: as free
        products they would fit virials at no price that charges could keep (a solution of salt,
        pairs: 1 instead of 27 % of the squared error of forces)."""
        form = self.forms[-1]
        if not isinstance(form, ChargeForm):
            return self.forms_alone(reduced)
        n = len(reduced.moment) - len(form.products[0])
        gram, moment = reduced.gram, reduced.moment
        best = _solved(gram[:n, :n], np.column_stack([gram[:n, n:], moment[:n]]))
        of_charges = gram[n:, n:] - gram[n:, :n] @ best[:, :-1]
        alone = Reduced((of_charges + of_charges.T) / 2, moment[n:] - gram[n:, :n] @ best[:, -1])
        own = diagonal(form, self.forms_alone(alone), blocks)
        begin = self._begin(form, own, _strongest(form, own, ()), blocks)
        charges = begin.coefficients(self._search(alone, [begin])[0])
        return np.concatenate([best[:, -1] - best[:, :-1] @ charges, charges])

    @staticmethod
    def forms_alone(reduced: Reduced) -> Floats:
        """Coefficients of the whole forms (Q,); zero for those that occur in none of the data."""
        return _solved(reduced.gram, reduced.moment[:, None])[:, 0]

    def _paired(
        self, own: Sequence[Channels], free: Sequence[Indices], wanted: Sequence[int]
    ) -> list[Indices]:
        """Places of the strongest of the forms' own channels where every vector has a quadrupole of
        its sign, as far as there are as many: of the signs with which pairs add up to most."""
        most = max(wanted[1:])
        orders = [form.term.order if isinstance(form, DensityForm) else 0 for form in self.forms]
        together = np.zeros((2, most))
        for order, channels in zip(orders, own, strict=True):
            for s, strengths in enumerate(by_sign(channels.strengths)):
                if order and wanted[order]:
                    few = np.abs(channels.strengths[strengths[:most]])
                    together[s, : len(few)] += few
        strongest = np.argsort(-together, axis=None, kind="stable")[:most]
        numbers = np.bincount(strongest // max(most, 1), minlength=2)
        places: list[Indices] = []
        for order, channels, chosen in zip(orders, own, free, strict=True):
            if order:
                signs = zip(by_sign(channels.strengths), numbers, strict=True)
                paired = np.sort(np.concatenate([of_sign[:n] for of_sign, n in signs]))
                chosen = paired[: wanted[order]]
            places.append(chosen)
        return places

    def _begin(self, form: Form, own: Channels, places: Indices, blocks: Sequence[int]) -> OfForm:
        """From some of the channels that a whole form has, strongest first."""
        unit, back = unit_variance(form, blocks)
        strengths, vectors = own.strengths[places], own.vectors[:, places]
        if isinstance(form, ChargeForm):
            if form.given.any():
                return OfForm(form, np.ones(1), unit, np.zeros((1, 0)), form.given[None])
            strengths = np.maximum(strengths, LEAST_CHARGE**2)  # nothing leads away from none
        start = np.sqrt(np.abs(strengths))[:, None] * (vectors.T @ back)
        return OfForm(form, np.sign(strengths), unit, start, np.zeros((len(start), len(unit))))

    def _with_pairs(self, channels: tuple[Channels, ...]) -> CollectiveFit:
        """The best pairs beside channels that stay as they are, and without each block in turn."""
        train = self.pairs.train
        alone = Refit(np.zeros(self.n_pairs), channels)
        forms = self.coefficients(alone)[self.n_pairs :]
        refit = replace(alone, pairs=self.pairs_beside(forms, train, self.ridge))
        without = [self.pairs.without(b) for b in train] if len(train) > 1 else [list(train)]
        each = np.array([self.pairs_beside(forms, others, self.ridge) for others in without])
        return CollectiveFit(self, max(len(c.strengths) for c in channels), refit, each)


def _solved(gram: Floats, right: Floats) -> Floats:
    """gram⁻¹ right (Q, M); zero for what occurs in none of the data."""
    occurs = np.flatnonzero(np.diag(gram) > 0)
    scale = 1 / np.sqrt(np.diag(gram)[occurs])
    solution = np.zeros(right.shape)
    if len(occurs):
        factor = cho_factor(gram[np.ix_(occurs, occurs)] * np.outer(scale, scale))
        solution[occurs] = scale[:, None] * cho_solve(factor, scale[:, None] * right[occurs])
    return solution


def _strongest(form: Form, own: Channels, wanted: Sequence[int]) -> Indices:
    """Places of the strongest channels, so many as are wanted of that order; of charges that of the
    largest strength, as only positive ones are squares of charges."""
    every: Indices = np.arange(len(own.strengths))
    if isinstance(form, DensityForm):
        return every[: wanted[form.term.order]]
    return np.argsort(-own.strengths, kind="stable")[:1]


def by_sign(strengths: Floats) -> tuple[Indices, Indices]:
    """Places of the positive ones, and of the negative ones."""
    return np.flatnonzero(strengths > 0), np.flatnonzero(strengths < 0)
