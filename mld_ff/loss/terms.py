"""Terms: what a part of the loss knows of itself, and what all terms of pairs have in common.

A term knows what a fit and an evaluation need of it: which pairs of a system are its own, the
forces that its coefficients exert, what keeps these in place where data are few, and its walls.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np
from scipy.sparse import csr_array

from mld_ff.errors import InputError
from mld_ff.geometry.histogram import Coverage, Histogram
from mld_ff.geometry.pairs import BIN_A, Pairs
from mld_ff.geometry.system import System
from mld_ff.loss.evaluation import Evaluation
from mld_ff.loss.limits import (
    CUTOFFS_A,
    MOST_COEFFICIENTS,
    STIFFEST,
    check_count,
    check_coverage,
    check_numbers,
    check_range,
)
from mld_ff.loss.walls import (
    DEPTH_A,
    LEAST_STIFFNESS,
    PULL_DEPTH_A,
    PUSHES_BACK,
    STIFF,
    Wall,
    inner_edge,
    outside_edge,
    wall_stiffness,
)
from mld_ff.names import check_species, check_term, shown
from mld_ff.trajectory import Floats

TUPLES = {"coefficients", "coefficient_errors", "atom_types", "path", "neighbours"}
NOT_NUMBERS = ("name", "species", "atom_types", "slab", "path", "neighbours", "coverage")


@dataclass(frozen=True, kw_only=True)
class Term:
    """A part of the loss that has a name; all parts add up."""

    kind: ClassVar[str]
    name: str
    """`relation:species`, e.g. `free:O-H`; the same in the model file, in every engine and in every
    report.
    """
    species: tuple[str, ...]
    """Of the agents that it ties together, or of the agent at the centre."""
    coefficients: tuple[float, ...]
    """[eV and Å]; see `coefficient_names`."""
    coefficient_errors: tuple[float, ...] = ()
    """Standard errors by jack-knife over contiguous blocks; empty if not estimated."""
    coverage: Coverage = field(default_factory=Coverage)
    """What the data sampled; its errors are by the same jack-knife."""

    def __post_init__(self) -> None:
        check_term(self.name)
        if not isinstance(self.species, tuple):
            raise InputError(f"term {self.name!r}: species should be a list of names")
        check_species(self.species)

    def check_loaded(self) -> None:
        """Raise InputError if a file gave values that no engine could be given; a kind adds what
        is its own.
        """
        check_coverage(f"term {self.name!r}: coverage", self.coverage)
        errors = self.coefficient_errors
        if errors and (len(errors) != len(self.coefficients) or min(errors) < 0):
            raise InputError(
                f"term {self.name!r}: coefficient_errors should be as many as its coefficients,"
                f" {len(self.coefficients)}, and not negative"
            )

    def check_finite(self) -> None:
        """Raise InputError if values that may be, each by itself, make no finite energy."""

    @property
    def coefficient_names(self) -> tuple[str, ...]:
        raise NotImplementedError

    @property
    def layout(self) -> tuple[Any, ...]:
        """Terms of one class and layout are combinations of the same functions: they are evaluated
        together, and an engine computes those functions once."""
        raise NotImplementedError

    @property
    def reach_A(self) -> float:
        """How far away a pair may be that the term asks a system for; 0 for bonded ones."""
        return 0.0

    @classmethod
    def add_alike(cls, terms: Sequence[Self], system: System, total: Evaluation) -> None:
        """Add what terms of one layout say of a system."""
        raise NotImplementedError

    @property
    def keeps_walls_outside(self) -> bool:
        """Whether walls of pairs beside it begin outside of what was sampled, and are stiff."""
        return False

    def pull(self, pair: tuple[str, str], r: Floats) -> Floats:
        """The most [eV/Å] that it can do to two species at distances (P,) [Å], the last of which is
        the edge of a wall; see `strongest_pull`."""
        return np.zeros(len(r))

    def zeroed(self) -> Self:
        """The same term, but nothing comes from it."""
        return replace(self, coefficients=(0.0,) * len(self.coefficients))

    def to_dict(self) -> dict[str, Any]:
        data: dict[str, Any] = {"kind": self.kind}
        for own in fields(self):
            value = getattr(self, own.name)
            data[own.name] = list(value) if isinstance(value, tuple) else value
        return data

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        check_term(data["name"])  # which messages then tell
        known = {own.name for own in fields(cls)}
        if unknown := set(data) - known - {"kind"}:
            raise InputError(
                f"term {data.get('name')!r} has fields that this version does not know:"
                f" {shown(sorted(unknown))}"
            )
        values: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in data.items() if k != "kind"
        }
        for name, value in values.items():
            if name not in NOT_NUMBERS:
                if isinstance(value, tuple):
                    check_count(f"values of {name}", len(value), MOST_COEFFICIENTS)
                check_numbers(f"term {data.get('name')!r}: {name}", value)
        for name in TUPLES & values.keys():
            if not isinstance(values[name], tuple):
                raise InputError(f"term {data.get('name')!r}: {name} should be a list")
        if not values["coefficients"]:
            raise InputError(f"term {data.get('name')!r} has no coefficients")
        term = cls(**values)
        term.check_loaded()
        term.check_finite()
        return term


def strongest_pull(terms: Sequence[Term], pair: tuple[str, str], edge_A: float) -> float:
    """The most [eV/Å] that terms can do to a pair closer than `edge_A` [Å], all the same way."""
    r = np.arange(BIN_A, edge_A, BIN_A)
    return float(sum((term.pull(pair, r) for term in terms), np.zeros(len(r))).max())


def no_pull(edge_A: float) -> float:
    """Where pairs are all there is."""
    return 0.0


@dataclass(frozen=True, kw_only=True)
class PairTerm(Term):
    """One function of the distance of one kind of pair; linear in its coefficients."""

    species: tuple[str, str]

    def basis(self, r: Floats, derivative: int = 0) -> Floats:
        """Functions (P, K), or a derivative of them, whose linear combination is the energy."""
        raise NotImplementedError

    def check_finite(self) -> None:
        if not any(self.coefficients):  # a fit has not begun
            return
        with np.errstate(all="ignore"):
            for wall in self.walls:
                if not np.isfinite([wall.energy, wall.force, wall.curvature]).all():
                    raise InputError(
                        f"term {self.name!r} is no finite number at {wall.edge_A:g} Å, where its"
                        " wall begins"
                    )

    # --- pairs and energy -------------------------------------------------------------------------

    def pairs_of(self, system: System) -> Pairs:
        """The pairs of a system that are this term's own."""
        raise NotImplementedError

    def evaluate(self, r: Floats) -> tuple[Floats, Floats]:
        """Energy [eV] and derivative du/dr [eV/Å] of pairs at r (P,) [Å], walls included."""
        c = np.array(self.coefficients)
        energy, slope = self.basis(r) @ c, self.basis(r, 1) @ c
        for wall in self.walls:
            beyond = wall.beyond(r)
            energy[beyond], slope[beyond] = wall.evaluate(r[beyond])
        return energy, slope

    @classmethod
    def add_alike(cls, terms: Sequence[Self], system: System, total: Evaluation) -> None:
        for term in terms:
            pairs = term.pairs_of(system)
            energy, slope = term.evaluate(pairs.r)
            total.energies[term.name] += float(energy.sum())
            total.add_pairs(pairs, slope)

    # --- what a fit asks --------------------------------------------------------------------------

    coverage_width_A: ClassVar[float]
    """Of the bins that coverage is told in."""
    holds_together: ClassVar[bool] = False
    """Whether coefficients that no data touch follow from their neighbours by the prior."""

    def features(self, system: System) -> Floats:
        """Forces (3N, K) [eV/Å] that unit coefficients exert on the atoms of a system."""
        pairs, n = self.pairs_of(system), system.topology.n_atoms
        unit, axes = pairs.vector / pairs.r[:, None], np.arange(3)
        rows = np.concatenate([3 * pairs.i[:, None] + axes, 3 * pairs.j[:, None] + axes], axis=1)
        columns = np.repeat(np.arange(len(pairs.r)), 6)
        values = np.concatenate([unit, -unit], axis=1).ravel()
        spread = csr_array((values, (rows.ravel(), columns)), shape=(3 * n, len(pairs.r)))
        return np.asarray(spread @ self.basis(pairs.r, 1))

    def virials(self, system: System) -> Floats:
        """Derivatives by strain (3, 3, K) [eV] of the energies of unit coefficients."""
        pairs = self.pairs_of(system)
        along = np.einsum("pc,pd->cdp", pairs.vector / pairs.r[:, None], pairs.vector)
        return np.asarray(along @ self.basis(pairs.r, 1))

    def prior(self, sizes: Floats) -> Floats:
        """What a ridge weighs, (K, K). sizes: of the features, squared, the mean of all being 1."""
        return np.zeros((len(sizes), len(sizes)))

    def ends_before(self, r_A: float) -> int:
        """How many of the first functions end before a distance, and only there."""
        return 0

    def without_first(self, n: int) -> Self:
        """The same term without its first n functions."""
        kept, errors = self.coefficients[n:], self.coefficient_errors[n:]
        return replace(self, coefficients=kept, coefficient_errors=errors)

    # --- where the data were ----------------------------------------------------------------------

    @cached_property
    def walls(self) -> tuple[Wall, ...]:
        return ()

    @property
    def sampled_A(self) -> tuple[float, float]:
        """Shortest and longest distance that the data sampled."""
        return 0.0, math.inf

    def range_seen(self, seen: Histogram) -> tuple[float, float]:
        """Between what distances [Å] nothing is new, where these have been seen."""
        return seen.shortest, seen.longest

    @property
    def learned_A(self) -> tuple[float, float]:
        """Between its walls, where it is what was learned."""
        raise NotImplementedError

    def walled(
        self,
        seen: Histogram,
        strongest_pull: Callable[[float], float] = no_pull,
        outside: bool = False,
    ) -> Self:
        """The same term with walls about the distances seen.

        strongest_pull: the most [eV/Å] that other terms can do to such a pair below a distance [Å].
        outside: whether they shall not be felt at any of these distances.
        """
        raise NotImplementedError

    def _wall(self, edge_A: float, stiffness: float, inward: int) -> Wall:
        c, edge = np.array(self.coefficients), np.array([edge_A])
        energy, slope, curvature = (float((self.basis(edge, d) @ c)[0]) for d in range(3))
        return Wall(edge_A, stiffness, energy, -inward * slope, curvature, inward)


@dataclass(frozen=True)
class FreeOptions:
    """What a fit asks of its terms of free pairs; a kind takes what it needs."""

    cutoff_A: float
    """Where they end."""
    spacing_A: float
    """Between knots."""
    exponents: tuple[float, ...]
    """n of r^-n."""


@dataclass(frozen=True, kw_only=True)
class FreeTerm(PairTerm):
    """A term of pairs that no short path of bonds connects: zero beyond the cutoff, a wall below
    the sampled range.
    """

    cutoff_A: float
    wall_edge_A: float = 0.0
    wall_stiffness_eV_per_A3: float = 0.0

    coverage_width_A: ClassVar[float] = 0.1

    def check_loaded(self) -> None:
        super().check_loaded()
        if len(self.species) != 2:
            raise InputError(f"term {self.name!r} is of {len(self.species)} species; expected 2")
        check_range(f"term {self.name!r}: cutoff_A", self.cutoff_A, *CUTOFFS_A)
        check_range(f"term {self.name!r}: wall_edge_A", self.wall_edge_A, 0.0, self.cutoff_A)
        stiffness = self.wall_stiffness_eV_per_A3
        check_range(f"term {self.name!r}: wall_stiffness_eV_per_A3", stiffness, 0.0, STIFFEST)

    @classmethod
    def blank(cls, name: str, species: tuple[str, str], options: FreeOptions) -> Self:
        """A term to be fitted, its coefficients zero. No fit begins with a kind that lacks this."""
        raise NotImplementedError

    @property
    def layout(self) -> tuple[Any, ...]:
        return (self.cutoff_A,)

    @property
    def reach_A(self) -> float:
        return self.cutoff_A

    def pairs_of(self, system: System) -> Pairs:
        return system.free_within(self.species, self.cutoff_A)

    def prior(self, sizes: Floats) -> Floats:
        """Keeps large coefficients from cancelling each other: engines add them in float32."""
        return np.diag(sizes)

    @cached_property
    def walls(self) -> tuple[Wall, ...]:
        return (self._wall(self.wall_edge_A, self.wall_stiffness_eV_per_A3, 1),)

    @property
    def sampled_A(self) -> tuple[float, float]:
        """The wall begins a little further out than the shortest distance, and is all there is if
        nobody was seen."""
        return self.coverage.get("shortest_A") or self.wall_edge_A, math.inf

    def range_seen(self, seen: Histogram) -> tuple[float, float]:
        """A kind of pair that nobody saw has its wall at the cutoff."""
        return min(seen.shortest, self.cutoff_A), math.inf

    @property
    def learned_A(self) -> tuple[float, float]:
        return self.wall_edge_A, self.cutoff_A

    def stiffness_eV_per_A2(self, system: System) -> float:
        """Its largest curvature at the pairs of a system; in a wall, that at the wall's edge."""
        r = np.maximum(self.pairs_of(system).r, self.wall_edge_A)
        curvature = self.basis(r, 2) @ np.array(self.coefficients)
        return float(np.abs(curvature).max(initial=0.0))

    def walled(
        self,
        seen: Histogram,
        strongest_pull: Callable[[float], float] = no_pull,
        outside: bool = False,
    ) -> Self:
        if not seen.n:  # nobody came within the cutoff, and nobody shall
            return self._with_wall(self.cutoff_A, LEAST_STIFFNESS)
        edge_A = outside_edge(seen) if outside else inner_edge(seen, self.cutoff_A)
        wall = self._with_wall(edge_A, self.wall_stiffness_eV_per_A3).walls[0]
        depth = DEPTH_A if outside else PUSHES_BACK * max(edge_A - seen.shortest, BIN_A)
        least = max(LEAST_STIFFNESS, strongest_pull(edge_A) / (3 * PULL_DEPTH_A**2))
        least = max(least, STIFF) if outside else least
        stiffness = wall_stiffness(wall.force, wall.curvature, depth, least)
        # few data determine the functions that the wall hides, and they change nothing
        return self._with_wall(edge_A, stiffness).without_first(self.ends_before(edge_A))

    def _with_wall(self, edge_A: float, stiffness: float) -> Self:
        return replace(self, wall_edge_A=edge_A, wall_stiffness_eV_per_A3=stiffness)

    def zeroed(self) -> Self:
        return replace(super().zeroed(), wall_stiffness_eV_per_A3=0.0)
