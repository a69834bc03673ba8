"""Which functions to fit."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from mld_ff.errors import InputError
from mld_ff.geometry.pairs import BIN_A, default_cutoff, minimum_image
from mld_ff.geometry.topology import Topology
from mld_ff.loss.densities import CollectiveTerm
from mld_ff.loss.terms import BondTerm, FreeTerm, PairTerm, PowerTerm, SplineTerm
from mld_ff.survey import Histogram
from mld_ff.trajectory import Trajectory

LONGEST_CUTOFF_A = 5.5
"""Beyond this, pairs cost time and add nothing to water: 5.5 and 6.2 Å give the same errors and the
same structure.
"""
SHORTEST_CUTOFF_A = 2.0
SPACINGS_A = (0.05, 1.0)
AUTO = -1
COLLECTIVE_SPACINGS_A = (0.2, 1.0)
INNER_FUNCTIONS = 3
"""So many functions of a density lie where only its innermost few neighbours are, which are bonded:
the bond's own stretch needs them (water, spacing 0.4 Å: 108 meV/Å with them, 187 without).
"""
INNERMOST_A = 0.3
"""Splines are laid out from here and trimmed to the sampled range afterwards."""


Kind = Literal["spline", "power"]


@dataclass(frozen=True)
class Basis:
    """Which functions to fit."""

    kind: Kind = "spline"
    """Functions of free pairs: cubic B-splines, or power laws with a smooth end."""
    exponents: tuple[float, ...] = (3.0,)
    """n of the invariants r^-n of power laws."""
    spacing_A: float = 0.4
    """Between knots of splines. Half of it lowers errors by less than 0.2 % (water, by a network
    and by DFT) and changes no structure, and OpenMM's CPU platform takes longer.
    """
    bond_degree: int = 4
    """Of the polynomials of bonded terms; 2 is harmonic."""
    cutoff_A: float | None = None
    """Of free pairs. If not given, 5.5 Å, or half the smallest width of the cell if that is
    shorter.
    """
    collective: int = 0
    """Channels for each species of a loss quadratic in sums over neighbours; 0 for pairs alone,
    AUTO (auto, or no number) for those that pay, by error against cost.
    """
    collective_cutoff_A: float = 4.0
    """Of those sums, or half the smallest width of the cell if that is shorter."""
    collective_spacing_A: float = 0.4
    """Between knots of the densities that are summed."""

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise InputError(f"the basis is {self.kind!r}; known: {', '.join(get_args(Kind))}")
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
        if not SPACINGS_A[0] <= self.spacing_A <= SPACINGS_A[1]:
            raise InputError(
                f"the knot spacing is {self.spacing_A} Å; expected {SPACINGS_A[0]} to"
                f" {SPACINGS_A[1]} Å"
            )
        if not all(math.isfinite(n) for n in self.exponents):
            raise InputError(f"the exponents are {list(self.exponents)}: finite numbers are needed")
        if self.cutoff_A is not None and not SHORTEST_CUTOFF_A <= self.cutoff_A < math.inf:
            raise InputError(
                f"the cutoff is {self.cutoff_A} Å; expected at least {SHORTEST_CUTOFF_A} Å"
            )
        if self.collective < 0 and self.collective != AUTO:
            raise InputError(
                f"{self.collective} channels of the collective loss are asked for; expected 0 or"
                " more"
            )
        if not SHORTEST_CUTOFF_A <= self.collective_cutoff_A < math.inf:
            raise InputError(
                f"the collective cutoff is {self.collective_cutoff_A} Å; expected at least"
                f" {SHORTEST_CUTOFF_A} Å"
            )
        if not COLLECTIVE_SPACINGS_A[0] <= self.collective_spacing_A <= COLLECTIVE_SPACINGS_A[1]:
            low, high = COLLECTIVE_SPACINGS_A
            raise InputError(
                f"the collective spacing is {self.collective_spacing_A} Å; expected {low} to"
                f" {high} Å"
            )

    def terms(
        self, frame: Trajectory, topology: Topology, half_width_A: float | None = None
    ) -> tuple[PairTerm, ...]:
        """Terms with zero coefficients for every kind of pair of the system.

        half_width_A: half the smallest width of the cell in any frame, None if it is that of
        `frame`.
        """
        longest = default_cutoff(
            frame.half_width if half_width_A is None else half_width_A, LONGEST_CUTOFF_A
        )
        cutoff = on_grid(self.cutoff_A or longest)
        bonded: list[PairTerm] = []
        for path, name in topology.bonded_names.items():
            r = minimum_image(frame.positions[0], frame.cell[0], topology.bonded[path]).r
            r0 = round(float(r.mean()), 4)
            zeros = (0.0,) * self.bond_degree
            bonded.append(
                BondTerm(
                    name=name, species=(path[0], path[-1]), coefficients=zeros, path=path, r0_A=r0
                )
            )
        return (*bonded, *(self._free(f"free:{a}-{b}", (a, b), cutoff) for a, b in topology.free))

    def _free(self, name: str, species: tuple[str, str], cutoff: float) -> FreeTerm:
        if self.kind == "spline":
            spacing = on_grid(self.spacing_A)
            n = math.ceil((cutoff - INNERMOST_A) / spacing - 1e-9)
            return SplineTerm(
                name=name,
                species=species,
                coefficients=(0.0,) * n,
                cutoff_A=cutoff,
                spacing_A=spacing,
            )
        m = len(self.exponents)
        zeros = (0.0,) * (m + m * (m + 1) // 2)
        return PowerTerm(
            name=name,
            species=species,
            coefficients=zeros,
            cutoff_A=cutoff,
            exponents=self.exponents,
        )

    def forms(
        self, seen: Mapping[tuple[str, str], Histogram], half_width_A: float
    ) -> tuple[CollectiveTerm, ...]:
        """For every species the invariants of its collective loss, as a channel with zero
        coefficients.

        seen: distances to all neighbours by species, as far as `reach` says.
        """
        cutoff, spacing = self.reach(half_width_A), on_grid(self.collective_spacing_A)
        species = tuple(dict.fromkeys(s for pair in seen for s in pair))
        forms = []
        for s in species:
            functions = []
            for t in species:
                distances = seen[(s, t) if (s, t) in seen else (t, s)]
                inside = (cutoff - distances.shortest) / spacing
                functions.append(
                    max(math.ceil(inside) - 2 + INNER_FUNCTIONS, 1) if distances.n else 0
                )
            if any(functions):
                forms.append(
                    CollectiveTerm(
                        name=f"collective:{s}",
                        species=(s,),
                        neighbours=species,
                        functions=tuple(functions),
                        coefficients=(0.0,) * sum(functions),
                        spacing_A=spacing,
                        cutoff_A=cutoff,
                    )
                )
        return tuple(forms)

    def reach(self, half_width_A: float) -> float:
        """Cutoff [Å] of the collective terms in cells of that half width."""
        return on_grid(default_cutoff(half_width_A, self.collective_cutoff_A))


def parse_rank(value: object) -> int:
    """Rank from what a user writes: a number, or `auto`. Raises InputError."""
    if value == "auto":
        return AUTO
    try:
        rank = int(str(value))
    except ValueError:
        rank = -1
    if rank < 0 or isinstance(value, bool):
        raise InputError(
            f"collective is the number of channels for each species, or auto; found {value!r}"
        )
    return rank


def on_grid(length_A: float) -> float:
    """The nearest multiple of BIN_A, on which exported tables have their points."""
    return round(round(length_A / BIN_A) * BIN_A, 6)
