"""Terms of densities: sums over the neighbours of an agent, and what they cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, ClassVar, Self

import numpy as np
from scipy.sparse import csr_array

from mld_ff.errors import InputError
from mld_ff.geometry.harmonics import ORDERS, components, harmonic_slopes, harmonics
from mld_ff.geometry.pairs import Pairs
from mld_ff.geometry.radial import tail_splines
from mld_ff.geometry.system import System
from mld_ff.loss.evaluation import Evaluation
from mld_ff.loss.limits import (
    CUTOFFS_A,
    SPACINGS_A,
    check_range,
    functions_within,
)
from mld_ff.loss.terms import Term
from mld_ff.names import check_species
from mld_ff.trajectory import Floats, Ints


@dataclass(frozen=True, kw_only=True)
class DensityTerm(Term):
    """One channel of a loss that is quadratic in sums over neighbours, closer than the cutoff,
    bonded or free. The sum is a tensor of some `order`, made of functions φ that are linear in the
    invariants `tail_splines`:

    - 0, a number ρ_i = Σ_j φ_t(r_ij) for every atom i of one species, one function for each species
      t of neighbours; it costs strength (ρ_i - rest)². Beyond the sampled range of ρ the curvature
      of the embedding fades within `fade`, and it goes on linearly: no excursion meets a stiff
      wall, nor a parabola that falls for ever.
    - 1, a vector V_i = Σ_j φ(r_ij) r̂_ij, and 2, a quadrupole T_i = Σ_j φ(r_ij) (r̂r̂ - ⅓), for every
      atom i, one function for each unordered pair of species (all that LAMMPS's `adp` can do); they
      cost strength V_i·V_i and strength T_i:T_i, which are sums over angles of φφ' cos θ and of
      φφ' (cos² θ - ⅓).
    """

    kind: ClassVar[str] = "collective"
    species: tuple[str, ...]
    """Of the agents at the centre: one, or from order 1 on all."""
    neighbours: tuple[str, ...]
    """What has a function: species of neighbours, or from order 1 on pairs of species `A-B`."""
    functions: tuple[int, ...]
    """Number of functions, and so of coefficients, for each of these, or none."""
    spacing_A: float
    cutoff_A: float
    strength_eV: float = 0.0
    rest: float = 0.0
    """Density that costs nothing: the mean of the data, so that pairs carry what is linear in ρ."""
    range: tuple[float, float] = (-math.inf, math.inf)
    """Densities that the data sampled; from order 1 on, lengths of the tensors."""
    fade: float = 1.0
    order: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        for neighbour in self.neighbours:
            check_species(neighbour.split("-"))
        if self.order not in ORDERS:
            raise InputError(
                f"term {self.name!r} is a density of order {self.order}; this version knows orders"
                f" {', '.join(map(str, ORDERS))}"
            )
        together = sum(self.functions), len(self.functions)
        if together != (len(self.coefficients), len(self.neighbours)):
            raise InputError(
                f"term {self.name!r} has {len(self.coefficients)} coefficients for"
                f" {list(self.functions)} functions of {list(self.neighbours)}"
            )

    def check_loaded(self) -> None:
        super().check_loaded()
        check_range(f"term {self.name!r}: cutoff_A", self.cutoff_A, *CUTOFFS_A)
        check_range(f"term {self.name!r}: spacing_A", self.spacing_A, *SPACINGS_A)
        most = functions_within(self.cutoff_A, self.spacing_A)
        for neighbour, n in zip(self.neighbours, self.functions, strict=True):
            if not isinstance(n, int):
                raise InputError(f"term {self.name!r}: {n!r} functions; expected a whole number")
            check_range(f"term {self.name!r}: functions of {neighbour}", n, 0, most)
        low, high = self.range
        check_range(f"term {self.name!r}: the end of range", high, low, math.inf)
        if not self.fade > 0:
            raise InputError(f"term {self.name!r}: fade is {self.fade!r}; it must be positive")
        if self.order == 0 and len(self.species) != 1:
            raise InputError(
                f"term {self.name!r} is a density of order 0 with {len(self.species)} species at"
                " the centre; expected 1"
            )

    @property
    def coefficient_names(self) -> tuple[str, ...]:
        """Neighbour and the distance where its function is largest; the innermost goes on to
        zero.
        """
        every = zip(self.neighbours, self.functions, strict=True)
        ends = (
            (t, self.cutoff_A - self.spacing_A * (k + 1)) for t, n in every for k in range(n, 0, -1)
        )
        return tuple(f"{t} {centre:.2f}" for t, centre in ends)

    @property
    def layout(self) -> tuple[Any, ...]:
        functions = self.neighbours, self.functions, self.spacing_A, self.cutoff_A
        return self.order, self.species, *functions

    @property
    def reach_A(self) -> float:
        return self.cutoff_A

    def is_of(self, neighbour: str, centre: str, other: str) -> bool:
        """Whether what another species adds to a centre comes from the functions `neighbour`."""
        if self.order == 0:
            return centre in self.species and other == neighbour
        return neighbour.split("-") in ([centre, other], [other, centre])

    @classmethod
    def densities(cls, terms: Sequence[Self], sums: NeighbourSums) -> Floats:
        """Of terms of one layout, tensors of M components, (C, K, M)."""
        coefficients, values = np.array([t.coefficients for t in terms]).T, sums.values()
        every = [values[:, :, m] @ coefficients for m in range(values.shape[2])]
        return np.stack(every, axis=2)

    @classmethod
    def add_alike(cls, terms: Sequence[Self], system: System, total: Evaluation) -> None:
        sums = NeighbourSums(terms[0], system)
        if not len(sums.centres):
            return
        densities = cls.densities(terms, sums)
        slopes = np.zeros_like(densities)
        for k, term in enumerate(terms):
            energy, slopes[:, k] = term.cost(densities[:, k])
            total.energies[term.name] += float(energy.sum())
        coefficients = np.array([t.coefficients for t in terms]).T
        for neighbour, near in sums.neighbours.items():
            of_kind = coefficients[terms[0].slices[neighbour]]
            at_centre = slopes[sums.place[near.i]]
            along = np.einsum("pkm,pm->pk", at_centre, sums.harmonics(neighbour))
            radial = (along * (sums.basis(neighbour, 1) @ of_kind)).sum(axis=1)
            if terms[0].order == 0:
                total.add_pairs(near, radial)
                continue
            strength = (sums.basis(neighbour) @ of_kind) / near.r[:, None]
            turned = np.einsum("pk,pkm->pm", strength, at_centre)
            across = np.einsum("pm,pmd->pd", turned, sums.harmonic_slopes(neighbour))
            total.add_vectors(near, (radial / near.r)[:, None] * near.vector + across)

    @property
    def grid(self) -> tuple[float, float]:
        """What the knots of its densities are made of."""
        return self.spacing_A, self.cutoff_A

    @property
    def slices(self) -> dict[str, slice]:
        """Where the coefficients of each species of neighbours are."""
        ends = np.cumsum((0, *self.functions)).tolist()
        return {t: slice(ends[k], ends[k + 1]) for k, t in enumerate(self.neighbours)}

    def basis(self, neighbour: str, r: Floats, derivative: int = 0) -> Floats:
        """Invariants (P, n) of neighbours of one species at r (P,) [Å], or a derivative; their sums
        make densities.
        """
        here = self.slices[neighbour]
        if here.start == here.stop:
            return np.zeros((len(r), 0))
        return tail_splines(r, self.cutoff_A, self.spacing_A, here.stop - here.start, derivative)

    def density(self, neighbour: str, r: Floats, derivative: int = 0) -> Floats:
        """What one neighbour at r (P,) [Å] adds to the density, or a derivative [1/Å]."""
        return np.asarray(
            self.basis(neighbour, r, derivative) @ self.coefficients[self.slices[neighbour]]
        )

    def cost(self, densities: Floats) -> tuple[Floats, Floats]:
        """Energy (C,) [eV] of densities (C, M), and its derivatives (C, M)."""
        if self.order == 0:
            energy, slope = self.embedding(densities[:, 0])
            return energy, slope[:, None]
        squares = np.einsum("cm,cm->c", densities, densities)
        return self.strength_eV * squares, 2 * self.strength_eV * densities

    def sizes(self, densities: Floats) -> Floats:
        """What a range is of: densities of order 0, lengths of tensors (C, M) above, (C,)."""
        return densities[:, 0] if self.order == 0 else np.linalg.norm(densities, axis=1)

    def beyond(self, sizes: Floats) -> Floats:
        """How far sizes (C,) lie outside of the sampled range; no tensor is too short."""
        low, high = self.range if self.order == 0 else (-math.inf, self.range[1])
        return np.maximum(np.maximum(low - sizes, sizes - high), 0.0)

    def embedding(self, rho: Floats) -> tuple[Floats, Floats]:
        """Energy [eV] of atoms with densities rho (P,) of order 0, and its derivative by them."""
        inside = np.clip(rho, *self.range)
        beyond = rho - inside
        out = np.abs(beyond)
        fading = np.minimum(out, self.fade)
        x = inside - self.rest
        energy = (
            x**2
            + 2 * x * beyond
            + fading**2
            - fading**3 / (3 * self.fade)
            + (out - fading) * self.fade
        )
        slope = 2 * x + np.sign(beyond) * (2 * fading - fading**2 / self.fade)
        return self.strength_eV * energy, self.strength_eV * slope

    @property
    def keeps_walls_outside(self) -> bool:
        return bool(self.order)

    def pull(self, pair: tuple[str, str], r: Floats) -> Floats:
        """At the steepest of the embedding. Orders 1 and 2 have no bound."""
        pull = np.zeros(len(r))
        ends = np.array([self.range[0] - self.fade, self.range[1] + self.fade])
        for centre, other in (pair, pair[::-1]):
            for neighbour in self.neighbours:
                if self.order == 0 and self.is_of(neighbour, centre, other):
                    steepest = np.abs(self.embedding(ends)[1]).max()
                    pull += steepest * np.abs(self.density(neighbour, r, 1))
        return pull

    def zeroed(self) -> Self:
        return replace(self, strength_eV=0.0)


class NeighbourSums:
    """Sums over neighbours at the C centres of one system: A tensors of M components each,
    Q_a = Σ_j f_a(r_j) h(r̂_j) with harmonics h of the term's order.

    An evaluation combines them into densities; a fit accumulates their products.
    """

    def __init__(self, term: DensityTerm, system: System) -> None:
        """term: tells centres, neighbours and functions; its coefficients do not matter."""
        topology, pairs = system.topology, system.ordered
        self.term = term
        self.centres = np.flatnonzero(np.isin(topology.symbols, term.species))
        """Indices of the atoms that have them, (C,)."""
        self.place = np.full(topology.n_atoms, -1)
        """Which of the centres an atom is, (N,)."""
        self.place[self.centres] = np.arange(len(self.centres))
        self.neighbours: dict[str, Pairs] = {}
        """Pairs whose first atom is a centre, by what their function belongs to."""
        near = pairs[pairs.r < term.cutoff_A]
        kinds = topology.species_index[near.i] * len(topology.species)
        kinds += topology.species_index[near.j]
        for neighbour in term.neighbours:
            own = [term.is_of(neighbour, *two) for two in product(topology.species, repeat=2)]
            if any(own):
                self.neighbours[neighbour] = near[np.array(own)[kinds]]

    def basis(self, neighbour: str, derivative: int = 0) -> Floats:
        """Radial functions at each of the pairs, or their derivatives, (P, n)."""
        return self.term.basis(neighbour, self.neighbours[neighbour].r, derivative)

    def harmonics(self, neighbour: str) -> Floats:
        """Components of the directions of the pairs, (P, M)."""
        return harmonics(self.neighbours[neighbour].unit, self.term.order)

    def harmonic_slopes(self, neighbour: str) -> Floats:
        """How these change with the direction, (P, M, 3)."""
        return harmonic_slopes(self.neighbours[neighbour].unit, self.term.order)

    def values(self) -> Floats:
        """(C, A, M)."""
        n_components = components(self.term.order)
        sums = np.zeros((len(self.centres), len(self.term.coefficients), n_components))
        for neighbour, near in self.neighbours.items():
            own, functions = self.term.slices[neighbour], self.basis(neighbour)
            of_pairs = functions[:, :, None] * self.harmonics(neighbour)[:, None, :]
            flat = of_pairs.reshape(len(near.i), functions.shape[1] * n_components)
            at_centres = summed(flat, self.place[near.i], len(sums))
            sums[:, own] = at_centres.reshape(len(sums), functions.shape[1], n_components)
        return sums


def summed(values: Floats, at: Ints, n: int) -> Floats:
    """Sums (n, K) of values (P, K) that belong to the places `at` (P,)."""
    ones = csr_array((np.ones(len(at)), (at, np.arange(len(at)))), shape=(n, len(at)))
    return np.asarray(ones @ values)
