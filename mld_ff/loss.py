"""The loss: terms, the model file, and the numpy energy and forces that every engine is held against.

A term of pairs is one function of one invariant, the distance r of a pair of given species and relation:

- `power`  quadratic in the invariants q_n = (1 - (r/cutoff)²)³ r^-n: l = Σ_a A_a q_a + Σ_{a≤b} B_ab q_a q_b
           (arXiv:2504.10560, there without the factor that ends them at the cutoff)
- `spline` linear in cubic B-splines: the most flexible function of r
- `bond`   polynomial in r - r0; degree 2 is quadratic in the invariant r, degree 4 in the invariants r and r²

Outside the sampled distances every term of pairs goes on as a `Wall`: the Taylor parabola at the edge plus a cubic
that drives the pair back.

A collective term is quadratic in sums of invariants over all neighbours of an agent, ½ Q·B·Q with Q_a = Σ_j f_a(r_j).
Diagonalised, it is a few channels, each a term of its own:

- `collective` strength × (ρ - rest)², with the density ρ = Σ_j φ(r_j): embedded atoms, many-body and still isotropic
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import combinations_with_replacement
from pathlib import Path as FilePath
from typing import Any, ClassVar, Self

import numpy as np
from scipy.sparse import csr_array

from mld_ff.errors import InputError
from mld_ff.files import write_atomically
from mld_ff.invariants import Pairs, both_ways, bspline_basis, neighbour_pairs, tail_splines
from mld_ff.topology import Topology
from mld_ff.trajectory import Floats, Ints

NOT_NUMBERS = ("name", "species", "path", "neighbours", "coverage")
FORMAT, VERSION = "mld_ff agent loss", 1
_LIST_OF_SCALARS = re.compile(r"\[\n\s*([^\[\]{}]*?)\n\s*\]")
UNITS = {"energy": "eV", "length": "angstrom"}


@dataclass(frozen=True)
class Wall:
    """Continuation of a term beyond an edge of its sampled range.

    With depth x = |r - edge|:  u(r) = energy - force x + ½ curvature x² + stiffness x³, where `energy`, `force`
    (towards the sampled range) and `curvature` are the term's own at the edge, so u is twice differentiable there.
    """

    edge_A: float
    stiffness_eV_per_A3: float
    energy: float
    force: float
    curvature: float
    inward: int
    """+1 where the sampled range lies at larger r than the edge, -1 where it lies at smaller r."""

    def evaluate(self, r: Floats) -> tuple[Floats, Floats]:
        """Energy [eV] and derivative du/dr [eV/Å] at depth; r (P,) must lie beyond the edge."""
        x = np.abs(r - self.edge_A)
        c, k = self.stiffness_eV_per_A3, self.curvature
        energy = self.energy + x * (self.force + x * (k / 2 + x * c))
        return energy, -self.inward * (self.force + x * (k + 3 * c * x))


def wall_stiffness(force: float, curvature: float, depth: float, least: float) -> float:
    """Smallest cubic coefficient [eV/Å³], at least `least`, that pushes back everywhere beyond `depth` [Å].

    force [eV/Å] and curvature [eV/Å²] are those at the edge, positive when they push back.
    """
    return max(least, -force / (3 * depth**2), -curvature / (3 * depth), -(force + curvature * depth) / (3 * depth**2))


@dataclass(frozen=True, kw_only=True)
class Term:
    """A part of the loss that has a name; all parts add up."""

    kind: ClassVar[str]
    name: str
    """`relation:species`, e.g. `free:O-H`; the same in the model file, in every engine and in every report."""
    species: tuple[str, ...]
    """Of the agents that it ties together, or of the agent at the centre."""
    coefficients: tuple[float, ...]
    """[eV and Å]; see `coefficient_names`."""
    coefficient_errors: tuple[float, ...] = ()
    """Standard errors by jack-knife over contiguous blocks; empty if not estimated."""
    coverage: Mapping[str, Any] = field(default_factory=dict)
    """What the data sampled. Distances: `shortest_A`, `longest_A`, a histogram of `counts` in bins `width_A` wide from
    `start_A` on, and in the middle of each the standard error of the function, `errors_eV`, by the same jack-knife.
    Densities: `lowest`, `highest`, and `counts` in bins of equal width between."""

    @property
    def coefficient_names(self) -> tuple[str, ...]:
        raise NotImplementedError

    def zeroed(self) -> Self:
        """The same term, but nothing comes from it."""
        return replace(self, coefficients=(0.0,) * len(self.coefficients))

    def to_dict(self) -> dict[str, Any]:
        own: dict[str, Any] = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {"kind": self.kind, **{k: list(v) if isinstance(v, tuple) else v for k, v in own.items()}}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        known = set(cls.__dataclass_fields__)
        if unknown := set(data) - known - {"kind"}:
            raise InputError(f"term {data.get('name')!r} has fields that this version does not know: {sorted(unknown)}")
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items() if k != "kind"}
        for name, value in values.items():
            if name not in NOT_NUMBERS:
                _check_numbers(f"term {data.get('name')!r}: {name}", value)
        if not values["coefficients"]:
            raise InputError(f"term {data.get('name')!r} has no coefficients")
        return cls(**values)


@dataclass(frozen=True, kw_only=True)
class PairTerm(Term):
    """One function of the distance of one kind of pair; linear in its coefficients."""

    species: tuple[str, str]

    def basis(self, r: Floats, derivative: int = 0) -> Floats:
        """Functions (P, K), or their first or second derivative, whose linear combination is the energy."""
        raise NotImplementedError

    @cached_property
    def walls(self) -> tuple[Wall, ...]:
        return ()

    @property
    def sampled_A(self) -> tuple[float, float]:
        """Shortest and longest distance that the data sampled."""
        return 0.0, math.inf

    def evaluate(self, r: Floats) -> tuple[Floats, Floats]:
        """Energy [eV] and derivative du/dr [eV/Å] of pairs at distance r (P,) [Å], walls included."""
        c = np.array(self.coefficients)
        energy, slope = self.basis(r) @ c, self.basis(r, 1) @ c
        for wall in self.walls:
            beyond = (wall.edge_A - r) * wall.inward > 0
            energy[beyond], slope[beyond] = wall.evaluate(r[beyond])
        return energy, slope

    def _wall(self, edge_A: float, stiffness: float, inward: int) -> Wall:
        c, edge = np.array(self.coefficients), np.array([edge_A])
        energy, slope, curvature = (float((self.basis(edge, d) @ c)[0]) for d in range(3))
        return Wall(edge_A, stiffness, energy, -inward * slope, curvature, inward)


@dataclass(frozen=True, kw_only=True)
class FreeTerm(PairTerm):
    """A term of pairs that no short path of bonds connects: zero beyond the cutoff, a wall below the sampled range."""

    cutoff_A: float
    wall_edge_A: float = 0.0
    wall_stiffness_eV_per_A3: float = 0.0

    @cached_property
    def walls(self) -> tuple[Wall, ...]:
        return (self._wall(self.wall_edge_A, self.wall_stiffness_eV_per_A3, 1),)

    @property
    def sampled_A(self) -> tuple[float, float]:
        """The wall begins a little further out than the shortest distance, and is all there is if nobody was seen."""
        return self.coverage.get("shortest_A") or self.wall_edge_A, math.inf

    @property
    def layout(self) -> tuple[Any, ...]:
        """Terms of the same layout are combinations of the same functions: an engine computes those once."""
        return (self.cutoff_A,)

    def zeroed(self) -> Self:
        return replace(super().zeroed(), wall_stiffness_eV_per_A3=0.0)


def power_basis(r: Floats, cutoff_A: float, functions: Sequence[tuple[int, float]], derivative: int = 0) -> Floats:
    """Products of m invariants whose exponents add up to p, S^m r^-p with S = (1 - (r/cutoff)²)³.

    r (P,) [Å], functions K pairs (m, p). Returns values (P, K), or first or second derivatives.
    """
    s = 1 - np.minimum(r / cutoff_A, 1) ** 2
    s1, s2 = -2 * r / cutoff_A**2, -2 / cutoff_A**2
    columns = []
    for factors, p in functions:
        m = 3 * factors
        f, f1, f2 = r**-p, -p * r ** (-p - 1), p * (p + 1) * r ** (-p - 2)
        g, g1, g2 = s**m, m * s ** (m - 1) * s1, m * (m - 1) * s ** (m - 2) * s1**2 + m * s ** (m - 1) * s2
        columns.append((f * g, f1 * g + f * g1, f2 * g + 2 * f1 * g1 + f * g2)[derivative])
    return np.stack(columns, axis=1)


@dataclass(frozen=True, kw_only=True)
class PowerTerm(FreeTerm):
    """Quadratic in q_n(r) = (1 - (r/cutoff)²)³ r^-n, which vanishes with two derivatives at the cutoff."""

    kind: ClassVar[str] = "power"
    exponents: tuple[float, ...]

    @property
    def layout(self) -> tuple[Any, ...]:
        return self.cutoff_A, self.exponents

    @cached_property
    def products(self) -> tuple[tuple[float, ...], ...]:
        """Exponents multiplied in every function: (n,) for A_n q_n, (n, m) for B_nm q_n q_m."""
        return (*((n,) for n in self.exponents), *combinations_with_replacement(self.exponents, 2))

    @property
    def coefficient_names(self) -> tuple[str, ...]:
        return tuple(("A_" if len(p) == 1 else "B_") + ",".join(f"{n:g}" for n in p) for p in self.products)

    def basis(self, r: Floats, derivative: int = 0) -> Floats:
        return power_basis(r, self.cutoff_A, [(len(p), sum(p)) for p in self.products], derivative)


@dataclass(frozen=True, kw_only=True)
class SplineTerm(FreeTerm):
    """Cubic B-splines on knots `spacing_A` apart, the last one at the cutoff.

    Functions that do not vanish with two derivatives at the cutoff are left out.
    """

    kind: ClassVar[str] = "spline"
    spacing_A: float

    @property
    def layout(self) -> tuple[Any, ...]:
        return self.cutoff_A, self.spacing_A

    @cached_property
    def knots(self) -> Floats:
        """(K + 4,) [Å], increasing, ending at the cutoff."""
        return self.cutoff_A - self.spacing_A * np.arange(len(self.coefficients) + 3, -1, -1.0)

    @property
    def coefficient_names(self) -> tuple[str, ...]:
        return tuple(f"{centre:.2f}" for centre in self.knots[2:-2])

    def basis(self, r: Floats, derivative: int = 0) -> Floats:
        # three more functions overlap the cutoff from beyond; their coefficients are zero by construction
        beyond = self.knots[-1] + self.spacing_A * np.arange(1, 4)
        knots = np.concatenate([self.knots, beyond])
        inside = np.where(r < self.cutoff_A, r, self.knots[0] - 1)
        return bspline_basis(inside, knots, derivative)[:, : len(self.coefficients)]


@dataclass(frozen=True, kw_only=True)
class BondTerm(PairTerm):
    """Polynomial in r - r0 without constant, degree = number of coefficients; a wall beyond either end."""

    kind: ClassVar[str] = "bond"
    path: tuple[str, ...]
    """Elements along the shortest path of bonds."""
    r0_A: float
    range_A: tuple[float, float] = (0.0, np.inf)
    wall_stiffness_eV_per_A3: tuple[float, float] = (0.0, 0.0)

    @property
    def sampled_A(self) -> tuple[float, float]:
        return self.range_A

    @property
    def coefficient_names(self) -> tuple[str, ...]:
        return tuple(f"k{m}" for m in range(1, len(self.coefficients) + 1))

    def basis(self, r: Floats, derivative: int = 0) -> Floats:
        x = (r - self.r0_A)[:, None]
        m = np.arange(1, len(self.coefficients) + 1)
        factor = np.prod([m - d for d in range(derivative)], axis=0) if derivative else np.ones(len(m))
        return np.asarray(factor * x ** np.maximum(m - derivative, 0))

    @cached_property
    def walls(self) -> tuple[Wall, ...]:
        ends = zip(self.range_A, self.wall_stiffness_eV_per_A3, (1, -1), strict=True)
        return tuple(self._wall(edge, stiffness, inward) for edge, stiffness, inward in ends)

    def zeroed(self) -> Self:
        return replace(super().zeroed(), wall_stiffness_eV_per_A3=(0.0, 0.0))


@dataclass(frozen=True, kw_only=True)
class CollectiveTerm(Term):
    """One channel of a loss that is quadratic in sums: strength (ρ_i - rest)² for every atom i of one species.

    ρ_i = Σ_j φ_t(r_ij) over all atoms closer than the cutoff, bonded or free; φ_t, one function for each species t of
    neighbours, is linear in the invariants `tail_splines`. Beyond the sampled range of ρ the curvature of the embedding
    fades within `fade`, and it goes on linearly: no excursion meets a stiff wall, nor a parabola that falls for ever.

    Densities of higher order (a vector ρ_i = Σ_j φ(r_ij) r̂_ij, a quadrupole, …) would be one more invariant of this
    kind: components of ρ_i in a last axis, their sum of squares in place of ρ², and the order as one more field.
    """

    kind: ClassVar[str] = "collective"
    species: tuple[str]
    """Of the agent at the centre."""
    neighbours: tuple[str, ...]
    functions: tuple[int, ...]
    """Number of functions, and so of coefficients, for each species of neighbours; there may be none."""
    spacing_A: float
    cutoff_A: float
    strength_eV: float = 0.0
    rest: float = 0.0
    """Density that costs nothing; the mean of the data, so that pairs carry all that is linear in ρ."""
    range: tuple[float, float] = (-math.inf, math.inf)
    """Densities that the data sampled."""
    fade: float = 1.0

    def __post_init__(self) -> None:
        if sum(self.functions) != len(self.coefficients) or len(self.functions) != len(self.neighbours):
            raise InputError(
                f"term {self.name!r} has {len(self.coefficients)} coefficients for {list(self.functions)} functions of "
                f"{list(self.neighbours)}"
            )

    @property
    def coefficient_names(self) -> tuple[str, ...]:
        """Neighbour and the distance where its function is largest; the innermost goes on to zero."""
        every = zip(self.neighbours, self.functions, strict=True)
        ends = ((t, self.cutoff_A - self.spacing_A * (k + 1)) for t, n in every for k in range(n, 0, -1))
        return tuple(f"{t} {centre:.2f}" for t, centre in ends)

    @property
    def layout(self) -> tuple[Any, ...]:
        """Channels of the same layout are sums of the same invariants."""
        return self.species, self.neighbours, self.functions, self.spacing_A, self.cutoff_A

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
        """Invariants (P, n) of neighbours of one species at r (P,) [Å], or a derivative; their sums make densities."""
        here = self.slices[neighbour]
        if here.start == here.stop:
            return np.zeros((len(r), 0))
        return tail_splines(r, self.cutoff_A, self.spacing_A, here.stop - here.start, derivative)

    def density(self, neighbour: str, r: Floats, derivative: int = 0) -> Floats:
        """What one neighbour at r (P,) [Å] adds to the density, or a derivative [1/Å]."""
        return np.asarray(self.basis(neighbour, r, derivative) @ self.coefficients[self.slices[neighbour]])

    def embedding(self, rho: Floats) -> tuple[Floats, Floats]:
        """Energy [eV] and derivative with respect to the density of atoms with densities rho (P,)."""
        inside = np.clip(rho, *self.range)
        beyond = rho - inside
        out = np.abs(beyond)
        fading = np.minimum(out, self.fade)
        x = inside - self.rest
        energy = x**2 + 2 * x * beyond + fading**2 - fading**3 / (3 * self.fade) + (out - fading) * self.fade
        slope = 2 * x + np.sign(beyond) * (2 * fading - fading**2 / self.fade)
        return self.strength_eV * energy, self.strength_eV * slope

    def zeroed(self) -> Self:
        return replace(self, strength_eV=0.0)


@dataclass(frozen=True)
class Escape:
    """A pair outside of the distances that the data sampled."""

    term: str
    atoms: tuple[str, str]
    """Element and number from 1."""
    r_A: float
    limit_A: float
    """The shortest or longest sampled."""

    @property
    def outside_A(self) -> float:
        return abs(self.r_A - self.limit_A)

    def __str__(self) -> str:
        which = "shorter" if self.r_A < self.limit_A else "longer"
        return f"{self.term}, {' and '.join(self.atoms)}: {self.r_A:.3f} Å, {which} than {self.limit_A:.3f} Å"


KINDS: dict[str, type[Term]] = {t.kind: t for t in (PowerTerm, SplineTerm, BondTerm, CollectiveTerm)}


@dataclass(frozen=True)
class AgentLoss:
    """The learned loss: what the model file holds."""

    species: tuple[str, ...]
    terms: tuple[Term, ...]
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """Data hash, frames, ridge, rank, errors per species: how the coefficients came about."""
    agents: Mapping[str, tuple[Term, ...]] = field(default_factory=dict)
    """The loss of each species on its own, inferred from the forces on that species alone (agent fit). Not
    reciprocal, so no potential energy and never exported; the paper's own dynamics follow it."""

    @property
    def cutoff_A(self) -> float:
        """The longest distance at which agents that no bonds connect interact."""
        return max((t.cutoff_A for t in self.terms if isinstance(t, (FreeTerm, CollectiveTerm))), default=0.0)

    @property
    def free_terms(self) -> tuple[FreeTerm, ...]:
        return tuple(t for t in self.terms if isinstance(t, FreeTerm))

    @property
    def bond_terms(self) -> tuple[BondTerm, ...]:
        return tuple(t for t in self.terms if isinstance(t, BondTerm))

    @property
    def channels(self) -> tuple[CollectiveTerm, ...]:
        return tuple(t for t in self.terms if isinstance(t, CollectiveTerm))

    def channels_of(self, topology: Topology) -> list[dict[str, CollectiveTerm]]:
        """Channels of a system by species at the centre: the first of every species, the second, … together.

        An engine sums all densities of one such set at once, as every atom is the centre of one. Those of a set have
        the same grid; channels without strength, and those of species that are not there, are left out.
        """
        found: list[dict[str, CollectiveTerm]] = []
        for t in self.channels:
            if t.strength_eV and t.species[0] in topology.species:
                fits = (f for f in found if t.species[0] not in f and next(iter(f.values())).grid == t.grid)
                if (together := next(fits, None)) is None:
                    found.append(together := {})
                together[t.species[0]] = t
        return found

    def only(self, *names: str) -> AgentLoss:
        """The same model with every term but the named ones set to zero."""
        return replace(self, terms=tuple(t if t.name in names else t.zeroed() for t in self.terms))

    def agent(self, species: str) -> AgentLoss:
        """The loss that agents of one species minimise; its forces are meant for atoms of that species only.

        Raises InputError if the model was written without it.
        """
        if species not in self.agents:
            raise InputError(
                f"the model holds no loss of {species}'s own: fit it again with `mld-ff fit`, without --collective"
            )
        return replace(self, terms=self.agents[species], agents={})

    def terms_of(self, topology: Topology, agent: str | None = None) -> dict[str, PairTerm]:
        """The term of every kind of pair of a system, by the name that Topology.pairs gives it.

        With `agent`, a species: the terms of its own loss, for the pairs that it takes part in. Raises InputError if
        the system has species or pairs for which the model has no term.
        """
        if unknown := [s for s in topology.species if s not in self.species]:
            raise InputError(f"the system holds {', '.join(unknown)}; the model knows only {', '.join(self.species)}")
        loss = self if agent is None else self.agent(agent)
        by_path = {t.path: t for t in loss.bond_terms}
        by_name = {t.name: t for t in loss.free_terms}
        found: dict[str, PairTerm | None] = {
            name: by_path.get(p) for p, name in topology.bonded_names.items() if agent in (None, p[0], p[-1])
        }
        free = [f"free:{a}-{b}" for a, b in topology.free if agent in (None, a, b)]
        found |= {name: by_name.get(name) for name in free}
        if missing := [name for name, term in found.items() if term is None]:
            molecules = ", ".join(f"{n} {formula}" for formula, n in topology.formulas().items())
            raise InputError(
                f"the system ({molecules}) has pairs for which the model has no term: {', '.join(missing)}. "
                f"Terms of the model: {', '.join(t.name for t in loss.terms)}"
            )
        return {name: term for name, term in found.items() if term is not None}

    def evaluate(
        self, topology: Topology, positions: Floats, cell: Floats, virial: Floats | None = None
    ) -> tuple[dict[str, float], Floats]:
        """Energy per term [eV] and forces (N, 3) [eV/Å] of one frame: positions (N, 3) [Å], cell (3, 3) [Å].

        virial: (3, 3) [eV], to which the derivative of the energy with respect to strain is added if it is given;
        divided by the volume that is the stress. Raises InputError as `terms_of` does.
        """
        forces = np.zeros((topology.n_atoms, 3))
        energies = {t.name: 0.0 for t in self.terms}
        terms = self.terms_of(topology)
        for name, pairs in topology.pairs(positions, cell, self.cutoff_A):
            energies[terms[name].name] += _add_term(terms[name], pairs, forces, virial)
        for sums in self._sums(topology, positions, cell):
            energies |= sums.add(forces, virial)
        return energies, forces

    def densities(self, topology: Topology, positions: Floats, cell: Floats) -> dict[str, Floats]:
        """The density of every channel at all of its centres, (C,): positions (N, 3) [Å], cell (3, 3) [Å]."""
        every = self._sums(topology, positions, cell)
        return {t.name: rho for sums in every for t, rho in zip(sums.channels, sums.densities.T, strict=True)}

    def escapes(self, topology: Topology, positions: Floats, cell: Floats) -> list[Escape]:
        """Of each term the pair that is farthest outside of the distances that the data sampled.

        positions (N, 3) [Å], cell (3, 3) [Å]. Raises InputError as `terms_of` does.
        """
        found = []
        terms = self.terms_of(topology)
        reach = max((t.sampled_A[0] for t in self.free_terms), default=0.0)
        for name, pairs in topology.pairs(positions, cell, reach):
            low, high = terms[name].sampled_A
            outside = np.maximum(low - pairs.r, pairs.r - high)
            if len(outside) and outside.max() > 0:
                k = int(np.argmax(outside))
                i, j = (f"{topology.symbols[a[k]]}{a[k] + 1}" for a in (pairs.i, pairs.j))
                r = float(pairs.r[k])
                found.append(Escape(terms[name].name, (i, j), r, low if r < low else high))
        return found

    def _sums(self, topology: Topology, positions: Floats, cell: Floats) -> Iterator[Sums]:
        """The channels of the system, those of the same layout together."""
        alike: dict[tuple[Any, ...], list[CollectiveTerm]] = {}
        for t in self.channels:
            if t.species[0] in topology.species:
                alike.setdefault(t.layout, []).append(t)
        if alike:
            pairs = both_ways(neighbour_pairs(positions, cell, max(t.cutoff_A for t in self.channels)))
            yield from (Sums(channels, topology, pairs) for channels in alike.values())

    def evaluate_agents(self, topology: Topology, positions: Floats, cell: Floats) -> Floats:
        """Forces (N, 3) [eV/Å] of one frame by which every atom follows the gradient of its own species' loss.

        They are not reciprocal, so they do not add up to zero and belong to no energy. positions (N, 3) [Å],
        cell (3, 3) [Å]. Raises InputError as `terms_of` and `agent` do.
        """
        terms = [self.terms_of(topology, s) for s in topology.species]
        cutoff = max(self.agent(s).cutoff_A for s in topology.species)
        forces = np.zeros((len(terms), topology.n_atoms, 3))
        for name, pairs in topology.pairs(positions, cell, cutoff):
            for own, on_all in zip(terms, forces, strict=True):
                if name in own:
                    _add_term(own[name], pairs, on_all)
        return np.asarray(forces[topology.species_index, np.arange(topology.n_atoms)])

    def save(self, file: FilePath | str) -> None:
        """Write the model file (JSON); never half-written."""
        write_atomically(FilePath(file), self.dumps())

    def dumps(self) -> str:
        data = {
            "format": FORMAT,
            "version": VERSION,
            "units": UNITS,
            "species": list(self.species),
            "terms": [t.to_dict() for t in self.terms],
            "agents": {s: [t.to_dict() for t in terms] for s, terms in self.agents.items()},
            "provenance": dict(self.provenance),
        }
        text = json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False)
        return _LIST_OF_SCALARS.sub(lambda found: "[" + re.sub(r",\n\s*", ", ", found[1]) + "]", text) + "\n"

    @classmethod
    def load(cls, file: FilePath | str) -> AgentLoss:
        """Read a model file. Raises InputError if it is not one, or is of an unknown version or kind of term."""
        try:
            data = json.loads(FilePath(file).read_text(encoding="utf-8"))
        except OSError as error:
            raise InputError(f"cannot be read: {error.strerror}", file) from None
        except ValueError as error:
            raise InputError(f"is not a model file: {error}", file, getattr(error, "lineno", None)) from None
        try:
            return cls._from_data(data)
        except InputError as error:
            raise InputError(str(error), file) from None
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(f"is not a complete model file: {type(error).__name__}: {error}", file) from None

    @classmethod
    def _from_data(cls, data: dict[str, Any]) -> AgentLoss:
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            raise InputError(f'is not a model file: "format" should be {FORMAT!r}; write one with `mld-ff fit`')
        if data["version"] != VERSION:
            raise InputError(f"has version {data['version']!r}; this mld_ff reads version {VERSION}: fit again")
        if data["units"] != UNITS:
            raise InputError(f"has units {data['units']}; expected {UNITS}")
        agents = {species: terms_from(terms) for species, terms in data["agents"].items()}
        return cls(tuple(data["species"]), terms_from(data["terms"]), data["provenance"], agents)


def terms_from(data: list[dict[str, Any]]) -> tuple[Term, ...]:
    """Terms from what `Term.to_dict` gives. Raises InputError if one is of an unknown kind, or comes twice."""
    for term in data:
        if term["kind"] not in KINDS:
            raise InputError(f"term {term['name']!r} is of unknown kind {term['kind']!r}; known: {', '.join(KINDS)}")
    names = [term["name"] for term in data]
    if twice := {name for name in names if names.count(name) > 1}:
        raise InputError(f"terms occur more than once: {', '.join(sorted(twice))}")
    return tuple(KINDS[term["kind"]].from_dict(term) for term in data)


def _check_numbers(what: str, value: Any) -> None:
    for number in value if isinstance(value, tuple) else (value,):
        if isinstance(number, bool) or not isinstance(number, (int, float)) or not math.isfinite(number):
            raise InputError(f"{what} should hold finite numbers; found {number!r}")


class Sums:
    """Densities of K channels of the same layout at their C centres, and the forces that come of them."""

    def __init__(self, channels: Sequence[CollectiveTerm], topology: Topology, pairs: Pairs) -> None:
        """pairs: every pair both ways, at least as far as the cutoff."""
        first = channels[0]
        self.channels = channels
        self.neighbours: dict[str, Pairs] = {}
        """Pairs whose first atom is at the centre, by the species of the second."""
        self.centres = np.flatnonzero(np.array(topology.symbols) == first.species[0])
        at_centre = np.isin(pairs.i, self.centres) & (pairs.r < first.cutoff_A)
        coefficients = np.array([t.coefficients for t in channels]).T
        self.densities: Floats = np.zeros((len(self.centres), len(channels)))
        self.slopes: dict[str, Floats] = {}
        """dφ/dr of every pair (P, K) [1/Å]."""
        for t, here in first.slices.items():
            if t in topology.species:
                near = pairs[at_centre & (topology.species_index[pairs.j] == topology.species.index(t))]
                self.neighbours[t] = near
                self.densities += (
                    summed(first.basis(t, near.r), near.i, topology.n_atoms)[self.centres] @ coefficients[here]
                )
                self.slopes[t] = first.basis(t, near.r, 1) @ coefficients[here]

    def add(self, forces: Floats, virial: Floats | None = None) -> dict[str, float]:
        """Energy [eV] of every channel; their forces are added to `forces` (N, 3), and to `virial` if it is given."""
        found = [t.embedding(rho) for t, rho in zip(self.channels, self.densities.T, strict=True)]
        on_density = np.zeros((len(forces), len(self.channels)))
        on_density[self.centres] = np.array([slope for _, slope in found]).T
        for t, near in self.neighbours.items():
            slope = (on_density[near.i] * self.slopes[t]).sum(axis=1)
            on_i = (slope / near.r)[:, None] * near.vector
            forces += summed(on_i, near.i, len(forces)) - summed(on_i, near.j, len(forces))
            if virial is not None:
                virial += near.vector.T @ on_i
        return {t.name: float(energy.sum()) for t, (energy, _) in zip(self.channels, found, strict=True)}


def summed(values: Floats, at: Ints, n: int) -> Floats:
    """Sums (n, K) of values (P, K) that belong to the places `at` (P,)."""
    ones = csr_array((np.ones(len(at)), (at, np.arange(len(at)))), shape=(n, len(at)))
    return np.asarray(ones @ values)


def _add_term(term: PairTerm, pairs: Pairs, forces: Floats, virial: Floats | None = None) -> float:
    """Energy of a term; its forces are added to `forces` (N, 3), and to `virial` (3, 3) if it is given."""
    if isinstance(term, FreeTerm):
        pairs = pairs[pairs.r < term.cutoff_A]
    energy, slope = term.evaluate(pairs.r)
    on_i = (slope / pairs.r)[:, None] * pairs.vector
    for c in range(3):
        forces[:, c] += np.bincount(pairs.i, on_i[:, c], len(forces)) - np.bincount(pairs.j, on_i[:, c], len(forces))
    if virial is not None:
        virial += pairs.vector.T @ on_i
    return float(energy.sum())
