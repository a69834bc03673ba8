"""Energies, forces and virial of a system, to which the terms of a loss add."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mld_ff.geometry.pairs import Pairs
from mld_ff.trajectory import Floats


@dataclass
class Evaluation:
    """What a loss says of a system of N atoms; terms add to it."""

    energies: dict[str, float]
    """By term [eV]."""
    forces: Floats
    """(N, 3) [eV/Å]."""
    virial: Floats
    """Derivative of the energy with respect to strain, (3, 3) [eV]: the stress times the volume."""

    @classmethod
    def nothing(cls, names: Sequence[str], n_atoms: int) -> Evaluation:
        return cls(dict.fromkeys(names, 0.0), np.zeros((n_atoms, 3)), np.zeros((3, 3)))

    @property
    def energy(self) -> float:
        """Of all terms [eV]."""
        return sum(self.energies.values())

    def add_pairs(self, pairs: Pairs, slope: Floats) -> None:
        """Add the forces of pairs (P,) whose energy has the derivative `slope` (P,) [eV/Å]."""
        self.add_vectors(pairs, (slope / pairs.r)[:, None] * pairs.vector)

    def add_vectors(self, pairs: Pairs, on_i: Floats) -> None:
        """Add forces (P, 3) on the first atoms of pairs and their opposites on the second: the
        derivatives of the energy with respect to the pairs' vectors."""
        n = len(self.forces)
        for c in range(3):
            at_i, at_j = (np.bincount(atom, on_i[:, c], n) for atom in (pairs.i, pairs.j))
            self.forces[:, c] += at_i - at_j
        self.virial += pairs.vector.T @ on_i
