"""Normal equations: sums over frames that determine the least-squares solution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mld_ff.trajectory import Floats

Indices = NDArray[np.integer[Any]]
RANK_TOLERANCE = 1e-11


@dataclass
class NormalEquations:
    """Sums over frames that determine the least-squares solution; they add up over blocks and
    trajectories.

    b blocks, s species, k coefficients.
    """

    gram_bskk: Floats
    """Σ XᵀX [the product of two functions' forces]."""
    moment_bsk: Floats
    """Σ XᵀF."""
    power_bs: Floats
    """Σ F² [eV²/Å²]."""
    number_bs: Floats
    """Force components."""

    @classmethod
    def zeros(cls, blocks: int, species: int, functions: int) -> NormalEquations:
        return cls(
            np.zeros((blocks, species, functions, functions)),
            np.zeros((blocks, species, functions)),
            np.zeros((blocks, species)),
            np.zeros((blocks, species)),
        )

    def add(self, block: int, design: Floats, forces: Floats, rows: Sequence[Indices]) -> None:
        """Add a frame: design (3N, K), forces (3N,), rows of every species."""
        for s, row in enumerate(rows):
            self.add_rows(block, s, design[row], forces[row])

    def add_rows(self, block: int, species: int, design: Floats, forces: Floats) -> None:
        """Add R forces (R,) of one species, and their design (R, K)."""
        self.gram_bskk[block, species] += design.T @ design
        self.moment_bsk[block, species] += design.T @ forces
        self.power_bs[block, species] += forces @ forces
        self.number_bs[block, species] += len(forces)

    def merge(self, other: NormalEquations, first_block: int = 0) -> None:
        """Add other data, whose blocks are those from `first_block` on."""
        for name, own in vars(self).items():
            more = getattr(other, name)
            own[first_block : first_block + len(more)] += more

    def select(self, functions: Indices) -> NormalEquations:
        """The same data for some of the functions."""
        gram = self.gram_bskk[:, :, functions][:, :, :, functions]
        return NormalEquations(
            gram, self.moment_bsk[:, :, functions], self.power_bs, self.number_bs
        )

    def beside(self, other: NormalEquations, weight: float) -> NormalEquations:
        """The same, with what else there is of the same functions as further species, whose squares
        count `weight` times."""
        both = {
            name: np.concatenate([own, weight * getattr(other, name)], axis=1)
            for name, own in vars(self).items()
        }
        return NormalEquations(**both)

    def residual(self, blocks: Sequence[int], coefficients: Floats) -> Floats:
        """Σ |F_fit - F_ref|² per species (S,) over the given blocks."""
        error = np.zeros(self.power_bs.shape[1])
        for b in blocks:
            change = (self.gram_bskk[b] @ coefficients - 2 * self.moment_bsk[b]) @ coefficients
            error += self.power_bs[b] + change
        return np.maximum(error, 0)

    def solve(
        self, blocks: Sequence[int], species: Sequence[int], penalty: Floats, ridge: float
    ) -> Floats:
        """Coefficients (K,) from some blocks and species; `penalty` (K, K) is weighted by ridge ×
        mean of the Gram.

        Functions that occur in none of the data get zero.
        """
        gram = self.gram_bskk[list(blocks)][:, list(species)].sum(axis=(0, 1))
        moment = self.moment_bsk[list(blocks)][:, list(species)].sum(axis=(0, 1))
        gram = gram + ridge * np.trace(gram) / len(gram) * penalty
        occurs = np.diag(gram) > 0
        scale = np.where(occurs, 1 / np.sqrt(np.where(occurs, np.diag(gram), 1)), 0)
        solution = np.linalg.lstsq(
            gram * np.outer(scale, scale), moment * scale, rcond=RANK_TOLERANCE
        )[0]
        return np.asarray(solution * scale, dtype=np.float64)
