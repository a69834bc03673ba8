"""Which functions to fit."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from inspect import getattr_static
from typing import Literal, get_args

from mld_ff.errors import InputError
from mld_ff.geometry.harmonics import ORDERS
from mld_ff.geometry.histogram import Histogram
from mld_ff.geometry.networks import UNBONDED
from mld_ff.geometry.pairs import BIN_A, default_cutoff, minimum_image
from mld_ff.geometry.topology import Path, Topology, TopologyKind
from mld_ff.inference.words import (
    ACCURACIES,
    AUTO,
    DEFAULT_ACCURACY,
    LEARN,
    LEARNED,
    NONE,
    OF_SALTS,
    PRINTED,
    Accuracy,
    Stress,
    parse_charges,
)
from mld_ff.loss.bonds import BondTerm
from mld_ff.loss.densities import DensityTerm
from mld_ff.loss.limits import CUTOFFS_A, HIGHEST_POWER
from mld_ff.loss.model import KINDS
from mld_ff.loss.terms import FreeOptions, FreeTerm, PairTerm
from mld_ff.trajectory import Trajectory

LONGEST_CUTOFF_A = 5.5
"""Beyond this, pairs cost time and add nothing to water: 5.5 and 6.2 Å give the same errors and the
same structure.
"""
LONGEST_BESIDE_CHARGES_A = 6.2
"""Molten salt, unseen: 4.1 meV/Å to 5.5 Å, 1.9 to 6.2 Å."""
SHORTEST_CUTOFF_A = 2.0
SPACINGS_A = (0.05, 1.0)
SPACING_A = 0.4
"""Between knots of free pairs. Half of it lowers errors by less than 0.2 % (water, by a network and
by DFT) and changes no structure, and OpenMM's CPU platform takes longer."""
FINE_SPACING_A = 0.2
"""Where bonds are among these pairs, and beside charges: molten salt errs by 2 instead of 12
meV/Å."""
ORDER_NAMES = {1: "vector", 2: "quadrupole"}
"""Of the terms of densities by their order, where they are not of one species."""
Distances = Mapping[tuple[str, str], Histogram]
"""Of all pairs, bonded or free, by their species in the order of the topology."""
DEFAULT_KIND = "spline"
COLLECTIVE_SPACINGS_A = (0.2, 1.0)
CHANNELS_CUTOFF_A, CHANNELS_SPACING_A = 5.0, 0.5
"""Of densities of all orders together (water, two channels each, unseen: 59 meV/Å to 4 Å, 54 to 5 Å
at twice the cost)."""
SUMS_CUTOFF_A, SUMS_SPACING_A = 4.0, 0.4
"""Of densities of order 0 alone."""
NO_CHANNELS = (0, 0, 0)
MOST_PRODUCTS = 2500
"""Of functions of densities with angles. Where there are more kinds of pairs than those of water,
knots stand further apart, by WIDER_A each time: the sums over all products would not fit into
memory (four species 0.5 Å apart: 11,000 products, 1 GB for each of 20 matrices)."""
WIDER_A = 0.1
TOO_MANY_PRODUCTS = 6000
"""Their 20 matrices take 6 GB."""
INNER_FUNCTIONS = 3
"""So many functions of a density lie where only its innermost few neighbours are, which are bonded:
the bond's own stretch needs them (water, spacing 0.4 Å: 108 meV/Å with them, 187 without).
"""
Kind = Literal["spline", "power"]


@dataclass(frozen=True)
class Basis:
    """Which functions to fit."""

    kind: Kind = "spline"
    """Functions of free pairs: cubic B-splines, or power laws with a smooth end."""
    exponents: tuple[float, ...] = (3.0,)
    """n of the invariants r^-n of power laws."""
    spacing_A: float | None = None
    """Between knots of splines. If not given, 0.4 Å; 0.2 Å beside charges, and without molecules,
    where bonds are splines too.
    """
    bond_degree: int = 4
    """Of the polynomials of bonded terms; 2 is harmonic."""
    cutoff_A: float | None = None
    """Of free pairs. If not given, 5.5 Å, beside charges 6.2 Å, or half the smallest width of the
    cell if that is shorter.
    """
    collective: int = 0
    """Channels for each species of a loss quadratic in sums over neighbours, without angles and
    instead of them: a number, or auto (AUTO in Python) for those that pay, by error against
    cost; 0 for none.
    """
    collective_cutoff_A: float | None = None
    """Of densities, or half the smallest width of the cell if that is shorter. If not given, what
    `accuracy` says, 5 Å beside `channels`, 4 Å beside `collective`.
    """
    collective_spacing_A: float | None = None
    """Between knots of densities. If not given, 0.4 Å, and with angles 0.5 Å, or more where there
    are more than two species.
    """
    accuracy: Accuracy | None = None
    """Channels by a word, where neither `channels` nor `collective` are given: pairs for none,
    fast for 2,1,1 to 4 Å, balanced for 2,2,2 and best for 4,6,6 to 5 Å. If not given, balanced
    beside splines, pairs beside power laws.
    """
    topology: TopologyKind | None = None
    """Whether bonds are fixed and make molecules, or there are none and any two atoms are a pair.
    If not given, none for networks, metals and salts, and where protons change partners.
    """
    channels: tuple[int, ...] = ()
    """Channels of densities found together, instead of a collective loss: how many numbers for each
    species, vectors, and quadrupoles, as 2,2,2; the last two are the angles. If not given, what
    `accuracy` says.
    """
    charges: str = OF_SALTS
    """Charges that act at all distances, one for each element, or each type of atom where an
    element is bonded in several ways: learn, none, given ones, as Na=1,Cl=-1, or those of CP2K's
    log: mulliken, hirshfeld, lowdin, resp. molecules learns those that leave every molecule of
    several atoms neutral by itself, so that the model runs in other mixtures. salts learns them for
    splines of single atoms of several elements only (molten NaCl errs by 2 instead of 90 meV/Å).
    """
    stress: Stress = "learn"
    """Whether stress is learned beside forces where the data hold it: learn or none."""

    def __post_init__(self) -> None:
        if self.kind not in free_kinds():
            raise InputError(
                f"the basis is {self.kind!r}; those that can be fitted: {', '.join(free_kinds())}"
            )
        if self.kind == "power" and (
            not self.exponents or len(set(self.exponents)) < len(self.exponents)
        ):
            raise InputError(
                f"the exponents are {list(self.exponents)}: at least one is needed, each once"
            )
        if 0.0 in self.exponents:
            raise InputError("the exponent 0 is no invariant: r^0 is the same for every pair")
        if not 1 <= self.bond_degree <= 8:
            raise InputError(f"the degree of bonded terms is {self.bond_degree}; expected 1 to 8")
        low, high = SPACINGS_A
        if self.spacing_A is not None and not low <= self.spacing_A <= high:
            raise InputError(f"the knot spacing is {self.spacing_A} Å; expected {low} to {high} Å")
        if not all(abs(n) <= HIGHEST_POWER for n in self.exponents):
            raise InputError(
                f"the exponents are {list(self.exponents)}; expected numbers between"
                f" -{HIGHEST_POWER:g} and {HIGHEST_POWER:g}"
            )
        longest_A = CUTOFFS_A[1]
        if self.cutoff_A is not None and not SHORTEST_CUTOFF_A <= self.cutoff_A <= longest_A:
            raise InputError(
                f"the cutoff is {self.cutoff_A} Å; expected {SHORTEST_CUTOFF_A} to {longest_A} Å"
            )
        if self.collective < 0 and self.collective != AUTO:
            raise InputError(
                f"{self.collective} channels of the collective loss are asked for; expected 0 or"
                " more"
            )
        if self.topology not in (None, *get_args(TopologyKind)):
            known = ", ".join(get_args(TopologyKind))
            raise InputError(f"the topology is {self.topology!r}; known: {known}")
        if self.accuracy and self.accuracy not in ACCURACIES:
            raise InputError(f"the accuracy is {self.accuracy!r}; known: {', '.join(ACCURACIES)}")
        self._check_channels()
        self._check_densities()
        if self.charges not in (OF_SALTS, NONE) and self.collective:
            raise InputError(
                "charges come beside channels, not beside a collective loss: ask for one of the two"
            )
        if self.charges not in (OF_SALTS, NONE, *LEARNED, *PRINTED):
            parse_charges(self.charges, *LEARNED, NONE, OF_SALTS, *PRINTED)

    def _check_densities(self) -> None:
        cutoff_A, spacing_A = self.collective_cutoff_A, self.collective_spacing_A
        longest_A = CUTOFFS_A[1]
        if cutoff_A is not None and not SHORTEST_CUTOFF_A <= cutoff_A <= longest_A:
            raise InputError(
                f"the collective cutoff is {cutoff_A} Å; expected {SHORTEST_CUTOFF_A} to"
                f" {longest_A} Å"
            )
        low, high = COLLECTIVE_SPACINGS_A
        if spacing_A is not None and not low <= spacing_A <= high:
            raise InputError(f"the collective spacing is {spacing_A} Å; expected {low} to {high} Å")

    def _check_channels(self) -> None:
        whole = all(isinstance(n, int) and n >= 0 for n in self.channels)
        if self.channels and (len(self.channels) != len(ORDERS) or not whole):
            raise InputError(
                f"the channels are {list(self.channels)}; expected three whole numbers: of order"
                " 0 for each species, of order 1 and of order 2"
            )
        if self.channels and not any(self.channels):
            raise InputError("the channels are [0, 0, 0], none at all: leave them out")
        if self.channels and self.collective:
            raise InputError("channels come instead of a collective loss: ask for one of the two")

    def terms(
        self, frame: Trajectory, topology: Topology, half_width_A: float | None = None
    ) -> tuple[PairTerm, ...]:
        """Terms with zero coefficients for every kind of pair of the system.

        half_width_A: half the smallest width of the cell in any frame, None if it is that of
        `frame`.
        """
        self._check_used()
        half_width_A = frame.half_width if half_width_A is None else half_width_A
        cutoff_A = self.pair_cutoff(topology, half_width_A)
        bonded = [self._bonded(path, frame, topology) for path in topology.bonded]
        options = FreeOptions(cutoff_A, on_grid(self.spacing(topology)), self.exponents)
        kind = free_kinds()[self.kind]
        free = [kind.blank(name, pair, options) for pair, name in topology.free_names.items()]
        return (*bonded, *free)

    def pair_cutoff(self, topology: Topology, half_width_A: float) -> float:
        """Of free pairs of a system [Å] in cells of that half width."""
        charged = self.charges_of(topology) != NONE
        longest_A = LONGEST_BESIDE_CHARGES_A if charged else LONGEST_CUTOFF_A
        return on_grid(self.cutoff_A or default_cutoff(half_width_A, longest_A))

    def _check_used(self) -> None:
        """Raise InputError for a setting that changes nothing beside the others."""
        alone = "" if self.has_densities else "is that of densities: ask for channels too"
        unused = {
            "exponents": "are those of power laws: ask for the basis `power` too"
            if self.kind == "spline"
            else "",
            "spacing_A": "is that of splines: leave it out, or ask for the basis `spline`"
            if self.kind == "power"
            else "",
            "collective_cutoff_A": alone,
            "collective_spacing_A": alone,
        }
        for own in fields(self):
            value = getattr(self, own.name)
            if unused.get(own.name) and value != own.default:
                told = list(value) if isinstance(value, tuple) else value
                raise InputError(f"{own.name} {told} {unused[own.name]}")

    def _bonded(self, path: Path, frame: Trajectory, topology: Topology) -> PairTerm:
        r = minimum_image(frame.positions[0], frame.cell[0], topology.bonded[path]).r
        return BondTerm(
            name=topology.bonded_names[path],
            species=(path[0], path[-1]),
            coefficients=(0.0,) * self.bond_degree,
            path=path,
            r0_A=round(float(r.mean()), 4),
        )

    @property
    def has_densities(self) -> bool:
        """Whether there are channels."""
        return bool(self.collective or self.channel_numbers)

    def spacing(self, topology: Topology) -> float:
        """Between knots of splines of a system [Å]."""
        if self.spacing_A is not None:
            return self.spacing_A
        charged = self.charges_of(topology) != NONE
        return FINE_SPACING_A if charged or topology.no_molecules else SPACING_A

    def charges_of(self, topology: Topology) -> str:
        """What is asked for of the charges of a system: one of LEARNED, NONE, or given ones."""
        if self.charges != OF_SALTS:
            return self.charges
        unbonded = not len(topology.bonds) and topology.no_molecules in ("", UNBONDED)
        salt = unbonded and len(topology.species) > 1
        return LEARN if salt and self.kind == DEFAULT_KIND and not self.collective else NONE

    @property
    def channel_numbers(self) -> tuple[int, ...]:
        """Of order 0 for each species, of order 1 and of order 2; empty without angles."""
        return self.channels or (() if self.collective else self._by_word[0])

    @property
    def _by_word(self) -> tuple[tuple[int, ...], float | None]:
        usual = DEFAULT_ACCURACY if self.kind == DEFAULT_KIND else "pairs"
        return ACCURACIES[self.accuracy or usual]

    def sums(self, seen: Distances, half_width_A: float) -> tuple[DensityTerm, ...]:
        """Sums of which products are accumulated, as channels of zero coefficients: one of order 0
        for every species, and where there are channels, one of each higher order.

        seen: distances to all neighbours by species, as far as `reach` says. Knots stand
        `density_spacing_A` apart, or further with many species, see MOST_PRODUCTS.
        """
        spacing_A, terms = self.density_spacing_A, self._sums_of(seen, half_width_A)
        free = self.channel_numbers and self.collective_spacing_A is None
        while free and _products(terms) > MOST_PRODUCTS and spacing_A < COLLECTIVE_SPACINGS_A[1]:
            spacing_A = on_grid(spacing_A + WIDER_A)
            terms = replace(self, collective_spacing_A=spacing_A)._sums_of(seen, half_width_A)
        if self.channel_numbers and (products := _products(terms)) > TOO_MANY_PRODUCTS:
            raise InputError(
                f"densities of so many species have {products} products, more than the"
                f" {TOO_MANY_PRODUCTS} that fit into memory: choose a shorter --collective-cutoff,"
                " or --collective instead of angles"
            )
        return terms

    def _sums_of(self, seen: Distances, half_width_A: float) -> tuple[DensityTerm, ...]:
        species = tuple(dict.fromkeys(s for pair in seen for s in pair))
        terms = []
        numbers = self.channel_numbers
        if not numbers or numbers[0]:
            for centre in species:
                distances = {t: seen.get((centre, t)) or seen[t, centre] for t in species}
                terms.append(self._sums(f"collective:{centre}", (centre,), distances, half_width_A))
        pairs = {f"{a}-{b}": distances for (a, b), distances in seen.items()}
        for order, n in enumerate(numbers):
            if order and n:
                name = ORDER_NAMES[order]
                terms.append(self._sums(name, species, pairs, half_width_A, order))
        return tuple(term for term in terms if term.coefficients)

    def _sums(
        self,
        name: str,
        centres: tuple[str, ...],
        distances: Mapping[str, Histogram],
        half_width_A: float,
        order: int = 0,
    ) -> DensityTerm:
        functions = tuple(self._n_functions(d, half_width_A) for d in distances.values())
        return DensityTerm(
            name=name,
            species=centres,
            neighbours=tuple(distances),
            functions=functions,
            coefficients=(0.0,) * sum(functions),
            spacing_A=self.density_spacing_A,
            cutoff_A=self.reach(half_width_A),
            order=order,
        )

    @property
    def density_spacing_A(self) -> float:
        """Of the knots of densities."""
        usual_A = CHANNELS_SPACING_A if self.channel_numbers else SUMS_SPACING_A
        return on_grid(self.collective_spacing_A or usual_A)

    def _n_functions(self, distances: Histogram, half_width_A: float) -> int:
        """How many functions of a density neighbours at these distances call for."""
        if not distances.n:
            return 0
        inside_A = self.reach(half_width_A) - distances.shortest
        spacings = math.ceil(inside_A / self.density_spacing_A)
        return max(spacings - 2 + INNER_FUNCTIONS, 1)

    def reach(self, half_width_A: float) -> float:
        """Cutoff [Å] of densities in cells of that half width."""
        usual_A = CHANNELS_CUTOFF_A if self.channel_numbers else SUMS_CUTOFF_A
        if not self.channels and not self.collective:
            usual_A = self._by_word[1] or usual_A
        return on_grid(default_cutoff(half_width_A, self.collective_cutoff_A or usual_A))


def _products(terms: Sequence[DensityTerm]) -> int:
    """How many products the sums of each term have with each other."""
    sizes = [len(term.coefficients) for term in terms]
    return sum(n * (n + 1) // 2 for n in sizes)


def free_kinds() -> dict[str, type[FreeTerm]]:
    """The kinds of free terms that a fit can begin with, by name."""
    kinds = {
        name: kind
        for name, kind in KINDS.items()
        if issubclass(kind, FreeTerm)
        and getattr_static(kind, "blank") is not getattr_static(FreeTerm, "blank")
    }
    return dict(sorted(kinds.items(), key=lambda item: item[0] != DEFAULT_KIND))


def on_grid(length_A: float) -> float:
    """The nearest multiple of BIN_A, on which exported tables have their points."""
    return round(round(length_A / BIN_A) * BIN_A, 6)
