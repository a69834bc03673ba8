"""Terms of densities: sums over the neighbours of an agent, and what they cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
from scipy.sparse import csr_array

from mld_ff.errors import InputError
from mld_ff.geometry.pairs import Pairs
from mld_ff.geometry.radial import tail_splines
from mld_ff.geometry.topology import Topology
from mld_ff.loss.terms import Term
from mld_ff.trajectory import Floats, Ints


@dataclass(frozen=True, kw_only=True)
class CollectiveTerm(Term):
    """One channel of a loss that is quadratic in sums: strength (ρ_i - rest)² for every atom i of
    one species.

    ρ_i = Σ_j φ_t(r_ij) over all atoms closer than the cutoff, bonded or free; φ_t, one function for
    each species t of neighbours, is linear in the invariants `tail_splines`. Beyond the sampled
    range of ρ the curvature of the embedding fades within `fade`, and it goes on linearly: no
    excursion meets a stiff wall, nor a parabola that falls for ever.

    Densities of higher order (a vector ρ_i = Σ_j φ(r_ij) r̂_ij, a quadrupole, …) would be one more
    invariant of this
    kind: components of ρ_i in a last axis, their sum of squares in place of ρ², and the order as
    one more field.
    """

    kind: ClassVar[str] = "collective"
    species: tuple[str]
    """Of the agent at the centre."""
    neighbours: tuple[str, ...]
    functions: tuple[int, ...]
    """Number of functions, and so of coefficients, for each species of neighbours; there may be
    none.
    """
    spacing_A: float
    cutoff_A: float
    strength_eV: float = 0.0
    rest: float = 0.0
    """Density that costs nothing; the mean of the data, so that pairs carry all that is linear in
    ρ.
    """
    range: tuple[float, float] = (-math.inf, math.inf)
    """Densities that the data sampled."""
    fade: float = 1.0

    def __post_init__(self) -> None:
        if sum(self.functions) != len(self.coefficients) or len(self.functions) != len(
            self.neighbours
        ):
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
        """Energy [eV] and derivative with respect to the density of atoms with densities rho
        (P,).
        """
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


class Sums:
    """Densities of K channels of the same layout at their C centres, and the forces that come of
    them.
    """

    def __init__(
        self, channels: Sequence[CollectiveTerm], topology: Topology, pairs: Pairs
    ) -> None:
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
                near = pairs[
                    at_centre & (topology.species_index[pairs.j] == topology.species.index(t))
                ]
                self.neighbours[t] = near
                self.densities += (
                    summed(first.basis(t, near.r), near.i, topology.n_atoms)[self.centres]
                    @ coefficients[here]
                )
                self.slopes[t] = first.basis(t, near.r, 1) @ coefficients[here]

    def add(self, forces: Floats, virial: Floats | None = None) -> dict[str, float]:
        """Energy [eV] of every channel; their forces are added to `forces` (N, 3), and to `virial`
        if it is given.
        """
        found = [t.embedding(rho) for t, rho in zip(self.channels, self.densities.T, strict=True)]
        on_density = np.zeros((len(forces), len(self.channels)))
        on_density[self.centres] = np.array([slope for _, slope in found]).T
        for t, near in self.neighbours.items():
            slope = (on_density[near.i] * self.slopes[t]).sum(axis=1)
            on_i = (slope / near.r)[:, None] * near.vector
            forces += summed(on_i, near.i, len(forces)) - summed(on_i, near.j, len(forces))
            if virial is not None:
                virial += near.vector.T @ on_i
        return {
            t.name: float(energy.sum()) for t, (energy, _) in zip(self.channels, found, strict=True)
        }


def summed(values: Floats, at: Ints, n: int) -> Floats:
    """Sums (n, K) of values (P, K) that belong to the places `at` (P,)."""
    ones = csr_array((np.ones(len(at)), (at, np.arange(len(at)))), shape=(n, len(at)))
    return np.asarray(ones @ values)
