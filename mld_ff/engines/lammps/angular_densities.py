"""Channels of densities of order 1 and 2 → files of LAMMPS's pair style adp.

Per atom adp adds ½ μ·μ + ½ λ:λ - (tr λ)²/6, with μ = Σ_j u(r) r⃗ and λ = Σ_j w(r) r⃗ r⃗. So
u = √(2 strength) φ/r gives strength V·V, and w = √(2 strength) φ/r² gives strength T:T. One
instance takes a channel of each order; strengths below zero take a factor of -1 (hybrid/scaled).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations_with_replacement, zip_longest

import numpy as np
from ase.data import atomic_numbers

from mld_ff.engines.lammps.embedded_atoms import numbers
from mld_ff.engines.start import Start
from mld_ff.geometry.pairs import BIN_A
from mld_ff.loss.densities import DensityTerm
from mld_ff.loss.model import AgentLoss
from mld_ff.trajectory import Floats

POINTS_PER_BIN = 2
"""Of the tables of u and w, on the grid of BIN_A: LAMMPS errs by 2e-5 eV/Å with so many (water).
With 5 it errs by 5e-6 and takes up to 1.6 times as long, as the tables leave the processor's cache;
with 1 by 8e-5, which is too near to the tolerance for the tenth of the time that it would save.
"""
CONSTANT_BELOW_A = 0.4
"""u and w would go to infinity where two atoms lie upon each other; no two come so close."""
UNUSED_POINTS = 10
"""Of the embedding and of the density, which adp has too, all zero."""


@dataclass(frozen=True)
class Instance:
    """What one instance of adp computes."""

    factor: float
    """1 or -1."""
    vector: DensityTerm | None
    quadrupole: DensityTerm | None

    @property
    def channels(self) -> list[DensityTerm]:
        return [t for t in (self.vector, self.quadrupole) if t is not None]


def instances(loss: AgentLoss) -> list[Instance]:
    """As few as hold all channels of order 1 and 2, those of strength zero left out."""
    kinds: dict[tuple[float, tuple[float, float]], dict[int, list[DensityTerm]]] = {}
    for term in loss.angular_channels:
        if term.strength_eV:
            factor = float(np.sign(term.strength_eV))
            kinds.setdefault((factor, term.grid), {1: [], 2: []})[term.order].append(term)
    return [
        Instance(factor, vector, quadrupole)
        for (factor, _), by_order in kinds.items()
        for vector, quadrupole in zip_longest(by_order[1], by_order[2])
    ]


def instance_file(number: int) -> str:
    """Name of the file of the first, the second, … instance."""
    return f"angles.{number}.adp"


def angular_densities(instance: Instance, start: Start) -> str:
    """The file of one instance: no embedding, density and pair function, u and w of all pairs."""
    species, first = start.topology.species, instance.channels[0]
    points = round(first.cutoff_A / BIN_A) * POINTS_PER_BIN + 1
    r = np.linspace(0, first.cutoff_A, points)
    nothing = np.zeros(points)
    pairs = [(b, a) for a, b in combinations_with_replacement(species, 2)]
    grids = (UNUSED_POINTS, 1.0, points, first.cutoff_A / (points - 1), first.cutoff_A)
    lines = [
        "angular densities written by mld_ff (units metal)",
        " ".join(t.name for t in instance.channels),
        f"times {instance.factor:g}",
        f"{len(species)} {' '.join(species)}",
        " ".join(f"{x:.17g}" for x in grids),
    ]
    masses = dict(zip(start.topology.symbols, start.frame.masses.tolist(), strict=True))
    for s in species:
        lines.append(f"{atomic_numbers[s]} {masses[s]:.10g} 0.0 none")
        lines += [*numbers(np.zeros(UNUSED_POINTS)), *numbers(nothing)]
    for _ in pairs:
        lines += numbers(nothing)
    for term in (instance.vector, instance.quadrupole):
        for a, b in sorted(pairs, key=lambda pair: [species.index(s) for s in pair]):
            lines += numbers(nothing if term is None else _function(term, a, b, r))
    return "\n".join(lines) + "\n"


def _function(term: DensityTerm, a: str, b: str, r: Floats) -> Floats:
    """u or w at r (P,) for a pair of species."""
    own = [neighbour for neighbour in term.neighbours if term.is_of(neighbour, a, b)]
    if not own:
        return np.zeros(len(r))
    outside = np.maximum(r, CONSTANT_BELOW_A)
    strength = np.sqrt(2 * abs(term.strength_eV))
    return np.asarray(strength * term.density(own[0], outside) / outside**term.order)
