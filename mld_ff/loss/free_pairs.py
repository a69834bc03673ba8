"""Free pairs, which no short path of bonds connects: power laws and splines.

- `power`  quadratic in the invariants q_n = (1 - (r/cutoff)²)³ r^-n: l = Σ_a A_a q_a + Σ_{a≤b}
  B_ab q_a q_b (arXiv:2504.10560, there without the factor that ends them at the cutoff)
- `spline` linear in cubic B-splines: the most flexible function of r
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations_with_replacement
from typing import Any, ClassVar, Self

import numpy as np

from mld_ff.errors import InputError
from mld_ff.geometry.radial import bspline_basis, power_basis
from mld_ff.loss.limits import (
    HIGHEST_POWER,
    MOST_POWERS,
    SPACINGS_A,
    check_count,
    check_range,
    functions_within,
)
from mld_ff.loss.terms import FreeOptions, FreeTerm
from mld_ff.trajectory import Floats

INNERMOST_A = 0.3
"""No two atoms of anything come closer."""
ROUNDING_A = 1e-6


@dataclass(frozen=True, kw_only=True)
class PowerTerm(FreeTerm):
    """Quadratic in q_n(r) = (1 - (r/cutoff)²)³ r^-n, which vanishes with two derivatives at the
    cutoff.
    """

    kind: ClassVar[str] = "power"
    exponents: tuple[float, ...]

    def check_loaded(self) -> None:
        super().check_loaded()
        check_count(f"exponents of {self.name}", len(self.exponents), MOST_POWERS)
        for n in self.exponents:
            check_range(f"term {self.name!r}: an exponent", n, -HIGHEST_POWER, HIGHEST_POWER)
        if len(self.coefficients) != len(self.products):
            raise InputError(
                f"term {self.name!r} has {len(self.coefficients)} coefficients for"
                f" {len(self.exponents)} exponents; expected {len(self.products)}"
            )

    @property
    def layout(self) -> tuple[Any, ...]:
        return self.cutoff_A, self.exponents

    @cached_property
    def products(self) -> tuple[tuple[float, ...], ...]:
        """Exponents multiplied in every function: (n,) for A_n q_n, (n, m) for B_nm q_n q_m."""
        return (*((n,) for n in self.exponents), *combinations_with_replacement(self.exponents, 2))

    @property
    def coefficient_names(self) -> tuple[str, ...]:
        return tuple(
            ("A_" if len(p) == 1 else "B_") + ",".join(f"{n:g}" for n in p) for p in self.products
        )

    def basis(self, r: Floats, derivative: int = 0) -> Floats:
        return power_basis(r, self.cutoff_A, [(len(p), sum(p)) for p in self.products], derivative)

    @classmethod
    def blank(cls, name: str, species: tuple[str, str], options: FreeOptions) -> Self:
        m = len(options.exponents)
        return cls(
            name=name,
            species=species,
            coefficients=(0.0,) * (m + m * (m + 1) // 2),
            cutoff_A=options.cutoff_A,
            exponents=options.exponents,
        )


@dataclass(frozen=True, kw_only=True)
class SplineTerm(FreeTerm):
    """Cubic B-splines on knots `spacing_A` apart, the last one at the cutoff.

    Functions that do not vanish with two derivatives at the cutoff are left out.
    """

    kind: ClassVar[str] = "spline"
    holds_together: ClassVar[bool] = True
    spacing_A: float

    def check_loaded(self) -> None:
        super().check_loaded()
        check_range(f"term {self.name!r}: spacing_A", self.spacing_A, *SPACINGS_A)
        most = functions_within(self.cutoff_A, self.spacing_A)
        check_count(f"coefficients of {self.name}", len(self.coefficients), most)
        whole_from_A = float(self.knots[3]) if len(self.coefficients) else 0.0
        if self.wall_edge_A < whole_from_A - ROUNDING_A and any(self.coefficients):
            raise InputError(
                f"term {self.name!r}: its wall begins at {self.wall_edge_A:g} Å and its functions"
                f" at {whole_from_A:g} Å, where the energy would jump; fits of 0.1 could end so:"
                " fit again"
            )

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
        # three more functions overlap the cutoff from beyond; their coefficients are zero by
        # construction
        n = len(self.coefficients)
        inside = np.where(r < self.cutoff_A, r, self.knots[0] - 1)
        return bspline_basis(inside, self.knots[0], self.spacing_A, n + 3, derivative)[:, :n]

    @classmethod
    def blank(cls, name: str, species: tuple[str, str], options: FreeOptions) -> Self:
        """Functions are laid out from INNERMOST_A on, and trimmed when the data are known."""
        n = math.ceil((options.cutoff_A - INNERMOST_A) / options.spacing_A - 1e-9)
        return cls(
            name=name,
            species=species,
            coefficients=(0.0,) * n,
            cutoff_A=options.cutoff_A,
            spacing_A=options.spacing_A,
        )

    def prior(self, sizes: Floats) -> Floats:
        """Smoothness: second differences of neighbours; beyond the cutoff coefficients are zero."""
        second = np.diff(np.eye(len(sizes) + 3), 2, axis=0)[:, : len(sizes)]
        return np.asarray(second.T @ second)

    def ends_before(self, r_A: float) -> int:
        # a wall takes value and derivatives at its edge, so all four functions there must stay
        return max(int(np.searchsorted(self.knots, r_A, side="right")) - 4, 0)
