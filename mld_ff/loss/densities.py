"""Terms of densities: sums over the neighbours of an agent, and what they cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
from scipy.sparse import csr_array

from mld_ff.errors import InputError
from mld_ff.geometry.pairs import BIN_A, Pairs
from mld_ff.geometry.radial import tail_splines
from mld_ff.geometry.system import System
from mld_ff.loss.evaluation import Evaluation
from mld_ff.loss.terms import Term
from mld_ff.trajectory import Floats, Ints


@dataclass(frozen=True, kw_only=True)
class DensityTerm(Term):
    """One channel of a loss that is quadratic in sums: strength (ρ_i - rest)² for every atom i of
    one species.

    ρ_i = Σ_j φ_t(r_ij) over all atoms closer than the cutoff, bonded or free; φ_t, one function for
    each species t of neighbours, is linear in the invariants `tail_splines`. Beyond the sampled
    range of ρ the curvature of the embedding fades within `fade`, and it goes on linearly: no
    excursion meets a stiff wall, nor a parabola that falls for ever.

    `order` is that of the tensor that is summed: 0, a number. (1, a vector Σ_j φ(r_ij) r̂_ij, and 2,
    a quadrupole, would be one more axis of `NeighbourSums.values`, with their square as ρ².)
    """

    kind: ClassVar[str] = "collective"
    species: tuple[str]
    """Of the agent at the centre."""
    neighbours: tuple[str, ...]
    functions: tuple[int, ...]
    """Number of functions, and so of coefficients, for each species of neighbours, or none."""
    spacing_A: float
    cutoff_A: float
    strength_eV: float = 0.0
    rest: float = 0.0
    """Density that costs nothing: the mean of the data, so that pairs carry what is linear in ρ."""
    range: tuple[float, float] = (-math.inf, math.inf)
    """Densities that the data sampled."""
    fade: float = 1.0
    order: int = 0

    def __post_init__(self) -> None:
        if self.order != 0:
            raise InputError(
                f"term {self.name!r} is a density of order {self.order}; this version knows order 0"
            )
        together = sum(self.functions), len(self.functions)
        if together != (len(self.coefficients), len(self.neighbours)):
            raise InputError(
                f"term {self.name!r} has {len(self.coefficients)} coefficients for"
                f" {list(self.functions)} functions of {list(self.neighbours)}"
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
        return self.species, self.neighbours, self.functions, self.spacing_A, self.cutoff_A

    @property
    def reach_A(self) -> float:
        return self.cutoff_A

    @classmethod
    def densities(cls, terms: Sequence[Self], sums: NeighbourSums) -> Floats:
        """Of terms of one layout, (C, K)."""
        return np.asarray(sums.values() @ np.array([t.coefficients for t in terms]).T)

    @classmethod
    def add_alike(cls, terms: Sequence[Self], system: System, total: Evaluation) -> None:
        sums = NeighbourSums(terms[0], system)
        if not len(sums.centres):
            return
        coefficients = np.array([t.coefficients for t in terms]).T
        on_density = np.zeros((system.topology.n_atoms, len(terms)))
        densities = cls.densities(terms, sums)
        for k, (term, rho) in enumerate(zip(terms, densities.T, strict=True)):
            energy, on_density[sums.centres, k] = term.embedding(rho)
            total.energies[term.name] += float(energy.sum())
        for t, near in sums.neighbours.items():
            slopes = sums.slopes(t) @ coefficients[terms[0].slices[t]]
            total.add_pairs(near, (on_density[near.i] * slopes).sum(axis=1))

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

    def embedding(self, rho: Floats) -> tuple[Floats, Floats]:
        """Energy [eV] of atoms with densities rho (P,), and its derivative with respect to them."""
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

    def zeroed(self) -> Self:
        return replace(self, strength_eV=0.0)


class NeighbourSums:
    """Sums over neighbours at the C centres of one system: A of them, Q_a = Σ_j f_a(r_j).

    An evaluation combines them into densities; a fit accumulates their products.
    """

    def __init__(self, term: DensityTerm, system: System) -> None:
        """term: tells centres, neighbours and functions; its coefficients do not matter."""
        topology, pairs = system.topology, system.ordered
        self.term = term
        self.centres = np.flatnonzero(np.array(topology.symbols) == term.species[0])
        """Indices of the atoms that have them, (C,)."""
        self.place = np.full(topology.n_atoms, -1)
        """Which of the centres an atom is, (N,)."""
        self.place[self.centres] = np.arange(len(self.centres))
        self.neighbours: dict[str, Pairs] = {}
        """Pairs whose first atom is a centre, by the species of the second."""
        at_centre = (self.place[pairs.i] >= 0) & (pairs.r < term.cutoff_A)
        for t in term.neighbours:
            if t in topology.species:
                of_species = topology.species_index[pairs.j] == topology.species.index(t)
                self.neighbours[t] = pairs[at_centre & of_species]

    def values(self) -> Floats:
        """(C, A)."""
        sums = np.zeros((len(self.centres), len(self.term.coefficients)))
        for t, near in self.neighbours.items():
            functions = self.term.basis(t, near.r)
            sums[:, self.term.slices[t]] = summed(functions, self.place[near.i], len(sums))
        return sums

    def slopes(self, t: str) -> Floats:
        """Derivatives of the functions of neighbours of species t at each of the pairs, (P, n)."""
        return self.term.basis(t, self.neighbours[t].r, 1)

    def gradient(self, n_atoms: int) -> csr_array:
        """What moving the atoms does to the sums, as forces: (A N 3, C), the sums' number first."""
        entries: list[tuple[Floats, Ints, Ints]] = []
        for t, near in self.neighbours.items():
            first, slope = self.term.slices[t].start, self.slopes(t)
            p, a = np.nonzero(slope)
            on_i = slope[p, a][:, None] * near.vector[p] / near.r[p][:, None]
            centre = np.repeat(self.place[near.i[p]], 3)
            for atoms, force in ((near.i, on_i), (near.j, -on_i)):
                rows = 3 * ((first + a) * n_atoms + atoms[p])[:, None] + np.arange(3)
                entries.append((force.ravel(), rows.ravel(), centre))
        values, rows, columns = (np.concatenate(parts) for parts in zip(*entries, strict=True))
        shape = (3 * n_atoms * len(self.term.coefficients), len(self.centres))
        return csr_array((values, (rows, columns)), shape=shape)


def summed(values: Floats, at: Ints, n: int) -> Floats:
    """Sums (n, K) of values (P, K) that belong to the places `at` (P,)."""
    ones = csr_array((np.ones(len(at)), (at, np.arange(len(at)))), shape=(n, len(at)))
    return np.asarray(ones @ values)


def strongest_pull(terms: Sequence[DensityTerm], pair: tuple[str, str], edge_A: float) -> float:
    """The most [eV/Å] that densities can do to a pair closer than `edge_A` [Å].

    All of them at the steepest of their embedding, all the same way.
    """
    r = np.arange(BIN_A, edge_A, BIN_A)
    pull = np.zeros(len(r))
    for centre, neighbour in (pair, pair[::-1]):
        for term in terms:
            if term.species[0] == centre:
                ends = np.array([term.range[0] - term.fade, term.range[1] + term.fade])
                steepest = np.abs(term.embedding(ends)[1]).max()
                pull += steepest * np.abs(term.density(neighbour, r, 1))
    return float(pull.max())
