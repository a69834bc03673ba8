"""The loss: its terms, the model file, and numpy's energy and forces that engines are held to.

Outside the sampled distances every term of pairs (`terms`) goes on as a wall (`walls`): the Taylor
parabola at the edge plus a cubic that drives the pair back.

A collective loss is quadratic in sums of invariants over all neighbours of an agent, ½ Q·B·Q with
Q_a = Σ_j f_a(r_j). Diagonalised, it is a few channels, each a term of its own (`densities`):
strength × (ρ - rest)², with the density ρ = Σ_j φ(r_j): embedded atoms, many-body and isotropic.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path as FilePath
from typing import Any, TypeVar

import numpy as np

from mld_ff.errors import InputError
from mld_ff.files import read_json, write_atomically
from mld_ff.geometry.system import System
from mld_ff.geometry.topology import Topology, TopologyKind
from mld_ff.loss.bonds import BondTerm
from mld_ff.loss.charges import ChargeTerm
from mld_ff.loss.densities import DensityTerm, NeighbourSums
from mld_ff.loss.escapes import Escape
from mld_ff.loss.evaluation import Evaluation
from mld_ff.loss.free_pairs import PowerTerm, SplineTerm
from mld_ff.loss.limits import MOST_TERMS, check_count
from mld_ff.loss.provenance import Domain, Provenance, check_record
from mld_ff.loss.terms import FreeTerm, PairTerm, Term
from mld_ff.names import check_species, check_term, shown
from mld_ff.trajectory import Floats, Ints
from mld_ff.version import __version__

FORMAT, VERSION = "mld_ff agent loss", 1
TermT = TypeVar("TermT", bound=Term)
_LIST_OF_SCALARS = re.compile(r"\[\n\s*([^\[\]{}]*?)\n\s*\]")
UNITS = {"energy": "eV", "length": "angstrom"}
KINDS: dict[str, type[Term]] = {
    t.kind: t for t in (PowerTerm, SplineTerm, BondTerm, DensityTerm, ChargeTerm)
}


@dataclass(frozen=True)
class AgentLoss:
    """The learned loss: what the model file holds."""

    species: tuple[str, ...]
    terms: tuple[Term, ...]
    provenance: Provenance = field(default_factory=Provenance)
    """How the coefficients came about, for people."""
    agents: Mapping[str, tuple[Term, ...]] = field(default_factory=dict)
    """The loss of each species on its own, inferred from the forces on that species alone (agent
    fit). Not reciprocal, so no potential energy and never exported; the paper's own dynamics follow
    it."""
    written_by: str = f"mld_ff {__version__}"
    """Program and version; empty in files from before 0.2."""
    domain: Domain = field(default_factory=Domain)
    """What the data held."""

    def __post_init__(self) -> None:
        check_species((*self.species, *self.agents))

    @property
    def cutoff_A(self) -> float:
        """The longest distance at which agents that no bonds connect interact."""
        return max((t.reach_A for t in self.terms), default=0.0)

    @property
    def pair_terms(self) -> tuple[PairTerm, ...]:
        return tuple(t for t in self.terms if isinstance(t, PairTerm))

    @property
    def free_terms(self) -> tuple[FreeTerm, ...]:
        return tuple(t for t in self.terms if isinstance(t, FreeTerm))

    @property
    def bond_terms(self) -> tuple[BondTerm, ...]:
        return tuple(t for t in self.terms if isinstance(t, BondTerm))

    @property
    def channels(self) -> tuple[DensityTerm, ...]:
        return tuple(t for t in self.terms if isinstance(t, DensityTerm))

    @property
    def charges(self) -> ChargeTerm | None:
        """The term of charges; None where there is none, or all of them are zero."""
        charged = (t for t in self.terms if isinstance(t, ChargeTerm) and any(t.coefficients))
        return next(charged, None)

    @property
    def angular_channels(self) -> tuple[DensityTerm, ...]:
        """Those of order 1 and 2, in which the angles are; every agent is the centre of each."""
        return tuple(t for t in self.channels if t.order)

    def stiffness_eV_per_A2(self, system: System) -> float:
        """The largest curvature of a function of free pairs at the pairs of a system."""
        return max((term.stiffness_eV_per_A2(system) for term in self.free_terms), default=0.0)

    @property
    def topology_kind(self) -> TopologyKind:
        """Of the systems that it is of: without molecules if its pairs are `any` two atoms."""
        return "none" if any(t.name.startswith("any:") for t in self.free_terms) else "molecules"

    def channels_of(self, topology: Topology) -> list[dict[str, DensityTerm]]:
        """Channels of a system by species at the centre: the first of every species, the second, …
        together.

        Of order 0: an engine sums all densities of one such set at once, as every atom is the
        centre of one. Those of a set have the same grid; channels without strength, and those of
        species that are not there, are left out.
        """
        sets: list[dict[str, DensityTerm]] = []
        for channel in self.channels:
            if channel.order:
                continue
            (centre,) = channel.species
            if not channel.strength_eV or centre not in topology.species:
                continue
            for together in sets:
                grid = next(iter(together.values())).grid
                if centre not in together and grid == channel.grid:
                    together[centre] = channel
                    break
            else:
                sets.append({centre: channel})
        return sets

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
                f"the model holds no loss of {species}'s own: fit it again with `mld-ff fit"
                " --accuracy pairs`"
            )
        return replace(self, terms=self.agents[species], agents={})

    def terms_of(self, topology: Topology, agent: str | None = None) -> dict[str, PairTerm]:
        """The term of every kind of pair of a system, by the name that System.pairs gives it.

        With `agent`, a species: the terms of its own loss, for the pairs that it takes part in.
        Raises InputError if the system has species or pairs for which the model has no term.
        """
        if unknown := [s for s in topology.species if s not in self.species]:
            raise InputError(
                f"the system holds {', '.join(unknown)}; the model knows only"
                f" {', '.join(self.species)}"
            )
        self._check_kind(topology)
        loss = self if agent is None else self.agent(agent)
        by_path = {t.path: t for t in loss.bond_terms}
        by_pair = {t.species: t for t in loss.free_terms}
        terms: dict[str, PairTerm | None] = {
            name: by_path.get(p)
            for p, name in topology.bonded_names.items()
            if agent in (None, p[0], p[-1])
        }
        terms |= {
            name: by_pair.get(pair)
            for pair, name in topology.free_names.items()
            if agent in (None, *pair)
        }
        if missing := [name for name, term in terms.items() if term is None]:
            molecules = ", ".join(f"{n} {formula}" for formula, n in topology.formulas().items())
            raise InputError(
                f"the system ({molecules}) has pairs for which the model has no term:"
                f" {', '.join(missing)}. Terms of the model:"
                f" {', '.join(t.name for t in loss.terms)}"
            )
        return {name: term for name, term in terms.items() if term is not None}

    def _check_kind(self, topology: Topology) -> None:
        """Raise InputError if either has molecules and the other none; where nothing is bonded,
        both are the same."""
        if self.topology_kind == "none" and topology.bonded:
            raise InputError(
                "the model was learned without molecules, and the system has some: take it for"
                " atoms alone (topology=loss.topology_kind)"
            )
        if self.bond_terms and topology.no_molecules:
            raise InputError(
                f"the model is of molecules, and the system has none: {topology.no_molecules}"
            )

    def evaluate(self, system: System) -> Evaluation:
        """Energy per term, forces and virial of a system, pairs in walls included.

        Its reach must be at least `cutoff_A`. Raises InputError as `terms_of` does.
        """
        self.terms_of(system.topology)
        return _evaluate(self.terms, system)

    def evaluate_agents(self, system: System) -> Floats:
        """Forces (N, 3) [eV/Å] by which every atom follows the gradient of its species' own loss.

        They are not reciprocal, so they do not add up to zero and belong to no energy. Raises
        InputError as `terms_of` and `agent` do.
        """
        topology = system.topology
        forces = np.zeros((topology.n_atoms, 3))
        for s, species in enumerate(topology.species):
            self.terms_of(topology, species)
            mine = topology.species_index == s
            forces[mine] = _evaluate(self.agents[species], system).forces[mine]
        return forces

    def densities(self, system: System) -> dict[str, Floats]:
        """The density of every channel of the system at all of its centres, (C,); of orders 1 and 2
        the length of the tensor."""
        return {term.name: sizes for term, (_, sizes) in self._densities(system)}

    def _densities(self, system: System) -> Iterator[tuple[DensityTerm, tuple[Ints, Floats]]]:
        """Of every channel its centres (C,), and their densities (C,)."""
        for alike in _alike(self.channels):
            sums = NeighbourSums(alike[0], system)
            if len(sums.centres):
                densities = alike[0].densities(alike, sums)
                for k, term in enumerate(alike):
                    yield term, (sums.centres, term.sizes(densities[:, k]))

    @property
    def shortest_reach_A(self) -> float:
        """How far a system must reach for `escapes`."""
        return max((t.sampled_A[0] for t in self.free_terms), default=0.0)

    def escapes(self, system: System) -> list[Escape]:
        """Of each term the pair that is farthest outside of the distances that the data sampled.

        Raises InputError as `terms_of` does.
        """
        terms = self.terms_of(system.topology)
        farthest = []
        for name, pairs in system.pairs(self.shortest_reach_A):
            low, high = terms[name].sampled_A
            outside = np.maximum(low - pairs.r, pairs.r - high)
            if len(outside) and outside.max() > 0:
                k = int(np.argmax(outside))
                i, j = (system.topology.atom_name(atom[k]) for atom in (pairs.i, pairs.j))
                r = float(pairs.r[k])
                farthest.append(Escape(terms[name].name, (i, j), r, low if r < low else high))
        return farthest

    def density_escapes(self, system: System) -> list[Escape]:
        """Of each channel the atom whose density is farthest outside of the sampled range, if it is
        farther than `fade`: where an embedding goes on straight. The system must reach to
        `cutoff_A`."""
        farthest = []
        for term, (centres, sizes) in self._densities(system):
            beyond = term.beyond(sizes)
            k = int(np.argmax(beyond))
            if beyond[k] > term.fade:
                low, high = term.range
                atom = system.topology.atom_name(centres[k])
                limit = high if sizes[k] > high else low
                farthest.append(Escape(term.name, (atom,), float(sizes[k]), limit))
        return farthest

    def save(self, file: FilePath | str) -> None:
        """Write the model file (JSON); never half-written."""
        write_atomically(FilePath(file), self.dumps())

    def dumps(self) -> str:
        data = {
            "format": FORMAT,
            "version": VERSION,
            **({"written_by": self.written_by} if self.written_by else {}),
            "units": UNITS,
            "species": list(self.species),
            "terms": [t.to_dict() for t in self.terms],
            "agents": {s: [t.to_dict() for t in terms] for s, terms in self.agents.items()},
            "domain": self.domain.to_dict(),
            "provenance": self.provenance,
        }
        text = json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False)
        return _LIST_OF_SCALARS.sub(_on_one_line, text) + "\n"

    @classmethod
    def load(cls, file: FilePath | str) -> AgentLoss:
        """Read a model file. Raises InputError if it is not one, or is of an unknown version or
        kind of term.
        """
        data = read_json(FilePath(file), "a model file", "mld-ff fit")
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
                f"has version {shown(data['version'])}; this mld_ff reads version {VERSION}:"
                " fit again"
            )
        if data["units"] != UNITS:
            raise InputError(f"has units {shown(data['units'])}; expected {UNITS}")
        check_record("provenance", data["provenance"], Provenance)
        if not isinstance(written_by := data.get("written_by", ""), str):
            raise InputError(f"is written by {shown(written_by)}; expected a text")
        agents = {species: terms_from(terms) for species, terms in data["agents"].items()}
        return cls(
            species=tuple(data["species"]),
            terms=terms_from(data["terms"]),
            domain=Domain.from_dict(data.get("domain", {})),
            provenance=data["provenance"],
            agents=agents,
            written_by=written_by,
        )


def _on_one_line(scalars: re.Match[str]) -> str:
    return "[" + re.sub(r",\n\s*", ", ", scalars[1]) + "]"


def terms_from(data: list[dict[str, Any]]) -> tuple[Term, ...]:
    """Terms from what `Term.to_dict` gives. Raises InputError if one is of an unknown kind, or
    comes twice.
    """
    check_count("terms", len(data), MOST_TERMS)
    for term in data:
        check_term(term["name"])
        if term["kind"] not in KINDS:
            raise InputError(
                f"term {term['name']!r} is of unknown kind {shown(term['kind'])}; known:"
                f" {', '.join(KINDS)}"
            )
    names = Counter(term["name"] for term in data)
    if twice := [name for name, number in names.items() if number > 1]:
        raise InputError(f"terms occur more than once: {', '.join(sorted(twice))}")
    return tuple(KINDS[term["kind"]].from_dict(term) for term in data)


def _alike(terms: Iterable[TermT]) -> list[list[TermT]]:
    """Terms of one class and layout together, in the order of the first of each."""
    groups: dict[Any, list[TermT]] = {}
    for term in terms:
        groups.setdefault((type(term), term.layout), []).append(term)
    return list(groups.values())


def _evaluate(terms: Sequence[Term], system: System) -> Evaluation:
    total = Evaluation.nothing([t.name for t in terms], system.topology.n_atoms)
    for alike in _alike(terms):
        alike[0].add_alike(alike, system, total)
    return total
