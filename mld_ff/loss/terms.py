"""Terms of pairs: functions of one distance, with walls outside of what the data sampled."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import combinations_with_replacement
from typing import Any, ClassVar, Self

import numpy as np

from mld_ff.errors import InputError
from mld_ff.geometry.radial import bspline_basis, power_basis
from mld_ff.trajectory import Floats

NOT_NUMBERS = ("name", "species", "path", "neighbours", "coverage")


@dataclass(frozen=True)
class Wall:
    """Continuation of a term beyond an edge of its sampled range.

    With depth x = |r - edge|:  u(r) = energy - force x + ½ curvature x² + stiffness x³, where
    `energy`, `force` (towards the sampled range) and `curvature` are the term's own at the edge, so
    u is twice differentiable there.
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
    """Smallest cubic coefficient [eV/Å³], at least `least`, that pushes back everywhere beyond
    `depth` [Å].

    force [eV/Å] and curvature [eV/Å²] are those at the edge, positive when they push back.
    """
    return max(
        least,
        -force / (3 * depth**2),
        -curvature / (3 * depth),
        -(force + curvature * depth) / (3 * depth**2),
    )


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
    coverage: Mapping[str, Any] = field(default_factory=dict)
    """What the data sampled. Distances: `shortest_A`, `longest_A`, a histogram of `counts` in bins
    `width_A` wide from
    `start_A` on, and in the middle of each the standard error of the function, `errors_eV`, by the
    same jack-knife.
    Densities: `lowest`, `highest`, and `counts` in bins of equal width between.
    """

    @property
    def coefficient_names(self) -> tuple[str, ...]:
        raise NotImplementedError

    def zeroed(self) -> Self:
        """The same term, but nothing comes from it."""
        return replace(self, coefficients=(0.0,) * len(self.coefficients))

    def to_dict(self) -> dict[str, Any]:
        own: dict[str, Any] = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {
            "kind": self.kind,
            **{k: list(v) if isinstance(v, tuple) else v for k, v in own.items()},
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        known = set(cls.__dataclass_fields__)
        if unknown := set(data) - known - {"kind"}:
            raise InputError(
                f"term {data.get('name')!r} has fields that this version does not know:"
                f" {sorted(unknown)}"
            )
        values: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in data.items() if k != "kind"
        }
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
        """Functions (P, K), or their first or second derivative, whose linear combination is the
        energy.
        """
        raise NotImplementedError

    @cached_property
    def walls(self) -> tuple[Wall, ...]:
        return ()

    @property
    def sampled_A(self) -> tuple[float, float]:
        """Shortest and longest distance that the data sampled."""
        return 0.0, math.inf

    def evaluate(self, r: Floats) -> tuple[Floats, Floats]:
        """Energy [eV] and derivative du/dr [eV/Å] of pairs at distance r (P,) [Å], walls
        included.
        """
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
    """A term of pairs that no short path of bonds connects: zero beyond the cutoff, a wall below
    the sampled range.
    """

    cutoff_A: float
    wall_edge_A: float = 0.0
    wall_stiffness_eV_per_A3: float = 0.0

    @cached_property
    def walls(self) -> tuple[Wall, ...]:
        return (self._wall(self.wall_edge_A, self.wall_stiffness_eV_per_A3, 1),)

    @property
    def sampled_A(self) -> tuple[float, float]:
        """The wall begins a little further out than the shortest distance, and is all there is if
        nobody was seen.
        """
        return self.coverage.get("shortest_A") or self.wall_edge_A, math.inf

    @property
    def layout(self) -> tuple[Any, ...]:
        """Terms of the same layout are combinations of the same functions: an engine computes those
        once.
        """
        return (self.cutoff_A,)

    def zeroed(self) -> Self:
        return replace(super().zeroed(), wall_stiffness_eV_per_A3=0.0)


@dataclass(frozen=True, kw_only=True)
class PowerTerm(FreeTerm):
    """Quadratic in q_n(r) = (1 - (r/cutoff)²)³ r^-n, which vanishes with two derivatives at the
    cutoff.
    """

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
        return tuple(
            ("A_" if len(p) == 1 else "B_") + ",".join(f"{n:g}" for n in p) for p in self.products
        )

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
        # three more functions overlap the cutoff from beyond; their coefficients are zero by
        # construction
        beyond = self.knots[-1] + self.spacing_A * np.arange(1, 4)
        knots = np.concatenate([self.knots, beyond])
        inside = np.where(r < self.cutoff_A, r, self.knots[0] - 1)
        return bspline_basis(inside, knots, derivative)[:, : len(self.coefficients)]


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

    @property
    def sampled_A(self) -> tuple[float, float]:
        return self.range_A

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


def _check_numbers(what: str, value: Any) -> None:
    for number in value if isinstance(value, tuple) else (value,):
        if (
            isinstance(number, bool)
            or not isinstance(number, (int, float))
            or not math.isfinite(number)
        ):
            raise InputError(f"{what} should hold finite numbers; found {number!r}")
