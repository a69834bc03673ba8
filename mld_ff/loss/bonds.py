"""Bonded pairs, at most a few bonds apart in one molecule.

- `bond`   polynomial in r - r0; degree 2 is quadratic in the invariant r, degree 4 in r and r²
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np

from mld_ff.errors import InputError
from mld_ff.geometry.histogram import Histogram
from mld_ff.geometry.pairs import NO_PAIRS, Pairs
from mld_ff.geometry.system import System
from mld_ff.loss.limits import (
    HIGHEST_DEGREE,
    LONGEST_BONDED_A,
    STIFFEST,
    check_count,
    check_range,
)
from mld_ff.loss.terms import PairTerm, no_pull
from mld_ff.loss.walls import (
    DEPTH_A,
    LEAST_STIFFNESS,
    Wall,
    outer_edges,
    wall_stiffness,
)
from mld_ff.names import check_species
from mld_ff.trajectory import Floats


@dataclass(frozen=True, kw_only=True)
class BondTerm(PairTerm):
    """Polynomial in r - r0 without constant, degree = number of coefficients; a wall beyond either
    end.
    """

    kind: ClassVar[str] = "bond"
    path: tuple[str, ...]
    """Elements along the shortest path of bonds."""
    r0_A: float
    range_A: tuple[float, float] = (0.0, np.inf)
    wall_stiffness_eV_per_A3: tuple[float, float] = (0.0, 0.0)

    coverage_width_A: ClassVar[float] = 0.02

    def __post_init__(self) -> None:
        super().__post_init__()
        check_species(self.path)

    def check_loaded(self) -> None:
        super().check_loaded()
        check_count(f"coefficients of {self.name}", len(self.coefficients), HIGHEST_DEGREE)
        if len(self.path) < 2 or self.species != (self.path[0], self.path[-1]):
            raise InputError(
                f"term {self.name!r} is of {', '.join(self.species)}, its path of"
                f" {', '.join(self.path)}; expected the two ends of it"
            )
        check_range(f"term {self.name!r}: r0_A", self.r0_A, 0.0, LONGEST_BONDED_A)
        low, high = self.range_A
        longest = np.inf if high == np.inf else LONGEST_BONDED_A  # a fit has not begun
        check_range(f"term {self.name!r}: the end of range_A", high, low, longest)
        check_range(f"term {self.name!r}: the beginning of range_A", low, 0.0, high)
        for stiffness in self.wall_stiffness_eV_per_A3:
            check_range(f"term {self.name!r}: wall_stiffness_eV_per_A3", stiffness, 0.0, STIFFEST)

    @property
    def layout(self) -> tuple[Any, ...]:
        return self.path, self.r0_A, len(self.coefficients)

    def pairs_of(self, system: System) -> Pairs:
        return system.bonded.get(self.path, NO_PAIRS)

    @property
    def sampled_A(self) -> tuple[float, float]:
        return self.range_A

    @property
    def learned_A(self) -> tuple[float, float]:
        return self.range_A

    def walled(
        self,
        seen: Histogram,
        strongest_pull: Callable[[float], float] = no_pull,
        outside: bool = False,
    ) -> Self:
        ends = outer_edges(seen)
        low, high = (
            wall_stiffness(wall.force, wall.curvature, DEPTH_A, LEAST_STIFFNESS)
            for wall in replace(self, range_A=ends).walls
        )
        return replace(self, range_A=ends, wall_stiffness_eV_per_A3=(low, high))

    @property
    def coefficient_names(self) -> tuple[str, ...]:
        return tuple(f"k{m}" for m in range(1, len(self.coefficients) + 1))

    def basis(self, r: Floats, derivative: int = 0) -> Floats:
        x = (r - self.r0_A)[:, None]
        m = np.arange(1, len(self.coefficients) + 1)
        factor = (
            np.prod([m - d for d in range(derivative)], axis=0) if derivative else np.ones(len(m))
        )
        return np.asarray(factor * x ** np.maximum(m - derivative, 0))

    @cached_property
    def walls(self) -> tuple[Wall, ...]:
        ends = zip(self.range_A, self.wall_stiffness_eV_per_A3, (1, -1), strict=True)
        return tuple(self._wall(edge, stiffness, inward) for edge, stiffness, inward in ends)

    def zeroed(self) -> Self:
        return replace(super().zeroed(), wall_stiffness_eV_per_A3=(0.0, 0.0))
