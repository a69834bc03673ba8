"""The loss: terms, the model file, and the numpy energy and forces that every engine is held
against.

A term of pairs is one function of one invariant, the distance r of a pair of given species and
relation:

- `power`  quadratic in the invariants q_n = (1 - (r/cutoff)²)³ r^-n: l = Σ_a A_a q_a + Σ_{a≤b} B_ab
           q_a q_b (arXiv:2504.10560, there without the factor that ends them at the cutoff)
- `spline` linear in cubic B-splines: the most flexible function of r
- `bond`   polynomial in r - r0; degree 2 is quadratic in the invariant r, degree 4 in the
invariants r and r²

Outside the sampled distances every term of pairs goes on as a `Wall`: the Taylor parabola at the
edge plus a cubic that drives the pair back.

A collective term is quadratic in sums of invariants over all neighbours of an agent, ½ Q·B·Q with
Q_a = Σ_j f_a(r_j). Diagonalised, it is a few channels, each a term of its own:

- `collective` strength × (ρ - rest)², with the density ρ = Σ_j φ(r_j): embedded atoms, many-body
and still isotropic
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path as FilePath
from typing import Any

import numpy as np

from mld_ff.errors import InputError
from mld_ff.files import write_atomically
from mld_ff.geometry.pairs import Pairs, both_ways, neighbour_pairs
from mld_ff.geometry.topology import Topology
from mld_ff.loss.densities import CollectiveTerm, Sums
from mld_ff.loss.terms import BondTerm, FreeTerm, PairTerm, PowerTerm, SplineTerm, Term
from mld_ff.trajectory import Floats

FORMAT, VERSION = "mld_ff agent loss", 1
_LIST_OF_SCALARS = re.compile(r"\[\n\s*([^\[\]{}]*?)\n\s*\]")
UNITS = {"energy": "eV", "length": "angstrom"}


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
        return (
            f"{self.term}, {' and '.join(self.atoms)}: {self.r_A:.3f} Å, {which} than"
            f" {self.limit_A:.3f} Å"
        )


KINDS: dict[str, type[Term]] = {
    t.kind: t for t in (PowerTerm, SplineTerm, BondTerm, CollectiveTerm)
}


@dataclass(frozen=True)
class AgentLoss:
    """The learned loss: what the model file holds."""

    species: tuple[str, ...]
    terms: tuple[Term, ...]
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """Data hash, frames, ridge, rank, errors per species: how the coefficients came about."""
    agents: Mapping[str, tuple[Term, ...]] = field(default_factory=dict)
    """The loss of each species on its own, inferred from the forces on that species alone (agent
    fit). Not reciprocal, so no potential energy and never exported; the paper's own dynamics follow
    it.
    """

    @property
    def cutoff_A(self) -> float:
        """The longest distance at which agents that no bonds connect interact."""
        return max(
            (t.cutoff_A for t in self.terms if isinstance(t, (FreeTerm, CollectiveTerm))),
            default=0.0,
        )

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
        """Channels of a system by species at the centre: the first of every species, the second, …
        together.

        An engine sums all densities of one such set at once, as every atom is the centre of one.
        Those of a set have the same grid; channels without strength, and those of species that are
        not there, are left out.
        """
        found: list[dict[str, CollectiveTerm]] = []
        for t in self.channels:
            if t.strength_eV and t.species[0] in topology.species:
                fits = (
                    f
                    for f in found
                    if t.species[0] not in f and next(iter(f.values())).grid == t.grid
                )
                if (together := next(fits, None)) is None:
                    found.append(together := {})
                together[t.species[0]] = t
        return found

    def only(self, *names: str) -> AgentLoss:
        """The same model with every term but the named ones set to zero."""
        return replace(self, terms=tuple(t if t.name in names else t.zeroed() for t in self.terms))

    def agent(self, species: str) -> AgentLoss:
        """The loss that agents of one species minimise; its forces are meant for atoms of that
        species only.

        Raises InputError if the model was written without it.
        """
        if species not in self.agents:
            raise InputError(
                f"the model holds no loss of {species}'s own: fit it again with `mld-ff fit`,"
                " without --collective"
            )
        return replace(self, terms=self.agents[species], agents={})

    def terms_of(self, topology: Topology, agent: str | None = None) -> dict[str, PairTerm]:
        """The term of every kind of pair of a system, by the name that Topology.pairs gives it.

        With `agent`, a species: the terms of its own loss, for the pairs that it takes part in.
        Raises InputError if the system has species or pairs for which the model has no term.
        """
        if unknown := [s for s in topology.species if s not in self.species]:
            raise InputError(
                f"the system holds {', '.join(unknown)}; the model knows only"
                f" {', '.join(self.species)}"
            )
        loss = self if agent is None else self.agent(agent)
        by_path = {t.path: t for t in loss.bond_terms}
        by_name = {t.name: t for t in loss.free_terms}
        found: dict[str, PairTerm | None] = {
            name: by_path.get(p)
            for p, name in topology.bonded_names.items()
            if agent in (None, p[0], p[-1])
        }
        free = [f"free:{a}-{b}" for a, b in topology.free if agent in (None, a, b)]
        found |= {name: by_name.get(name) for name in free}
        if missing := [name for name, term in found.items() if term is None]:
            molecules = ", ".join(f"{n} {formula}" for formula, n in topology.formulas().items())
            raise InputError(
                f"the system ({molecules}) has pairs for which the model has no term:"
                f" {', '.join(missing)}. Terms of the model:"
                f" {', '.join(t.name for t in loss.terms)}"
            )
        return {name: term for name, term in found.items() if term is not None}

    def evaluate(
        self, topology: Topology, positions: Floats, cell: Floats, virial: Floats | None = None
    ) -> tuple[dict[str, float], Floats]:
        """Energy per term [eV] and forces (N, 3) [eV/Å] of one frame: positions (N, 3) [Å], cell
        (3, 3) [Å].

        virial: (3, 3) [eV], to which the derivative of the energy with respect to strain is added
        if it is given; divided by the volume that is the stress. Raises InputError as `terms_of`
        does.
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
        """The density of every channel at all of its centres, (C,): positions (N, 3) [Å], cell (3,
        3) [Å].
        """
        every = self._sums(topology, positions, cell)
        return {
            t.name: rho
            for sums in every
            for t, rho in zip(sums.channels, sums.densities.T, strict=True)
        }

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
            pairs = both_ways(
                neighbour_pairs(positions, cell, max(t.cutoff_A for t in self.channels))
            )
            yield from (Sums(channels, topology, pairs) for channels in alike.values())

    def evaluate_agents(self, topology: Topology, positions: Floats, cell: Floats) -> Floats:
        """Forces (N, 3) [eV/Å] of one frame by which every atom follows the gradient of its own
        species' loss.

        They are not reciprocal, so they do not add up to zero and belong to no energy. positions
        (N, 3) [Å], cell (3, 3) [Å]. Raises InputError as `terms_of` and `agent` do.
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
        return (
            _LIST_OF_SCALARS.sub(lambda found: "[" + re.sub(r",\n\s*", ", ", found[1]) + "]", text)
            + "\n"
        )

    @classmethod
    def load(cls, file: FilePath | str) -> AgentLoss:
        """Read a model file. Raises InputError if it is not one, or is of an unknown version or
        kind of term.
        """
        try:
            data = json.loads(FilePath(file).read_text(encoding="utf-8"))
        except OSError as error:
            raise InputError(f"cannot be read: {error.strerror}", file) from None
        except ValueError as error:
            raise InputError(
                f"is not a model file: {error}", file, getattr(error, "lineno", None)
            ) from None
        try:
            return cls._from_data(data)
        except InputError as error:
            raise InputError(str(error), file) from None
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(
                f"is not a complete model file: {type(error).__name__}: {error}", file
            ) from None

    @classmethod
    def _from_data(cls, data: dict[str, Any]) -> AgentLoss:
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            raise InputError(
                f'is not a model file: "format" should be {FORMAT!r}; write one with `mld-ff fit`'
            )
        if data["version"] != VERSION:
            raise InputError(
                f"has version {data['version']!r}; this mld_ff reads version {VERSION}: fit again"
            )
        if data["units"] != UNITS:
            raise InputError(f"has units {data['units']}; expected {UNITS}")
        agents = {species: terms_from(terms) for species, terms in data["agents"].items()}
        return cls(tuple(data["species"]), terms_from(data["terms"]), data["provenance"], agents)


def terms_from(data: list[dict[str, Any]]) -> tuple[Term, ...]:
    """Terms from what `Term.to_dict` gives. Raises InputError if one is of an unknown kind, or
    comes twice.
    """
    for term in data:
        if term["kind"] not in KINDS:
            raise InputError(
                f"term {term['name']!r} is of unknown kind {term['kind']!r}; known:"
                f" {', '.join(KINDS)}"
            )
    names = [term["name"] for term in data]
    if twice := {name for name in names if names.count(name) > 1}:
        raise InputError(f"terms occur more than once: {', '.join(sorted(twice))}")
    return tuple(KINDS[term["kind"]].from_dict(term) for term in data)


def _add_term(term: PairTerm, pairs: Pairs, forces: Floats, virial: Floats | None = None) -> float:
    """Energy of a term; its forces are added to `forces` (N, 3), and to `virial` (3, 3) if it is
    given.
    """
    if isinstance(term, FreeTerm):
        pairs = pairs[pairs.r < term.cutoff_A]
    energy, slope = term.evaluate(pairs.r)
    on_i = (slope / pairs.r)[:, None] * pairs.vector
    for c in range(3):
        forces[:, c] += np.bincount(pairs.i, on_i[:, c], len(forces)) - np.bincount(
            pairs.j, on_i[:, c], len(forces)
        )
    if virial is not None:
        virial += pairs.vector.T @ on_i
    return float(energy.sum())
