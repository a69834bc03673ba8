"""The design: forces that unit coefficients exert in one frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

from mld_ff.geometry.pairs import Pairs
from mld_ff.geometry.topology import Topology
from mld_ff.inference.normal_equations import Indices
from mld_ff.loss.densities import CollectiveTerm, summed
from mld_ff.loss.terms import PairTerm
from mld_ff.trajectory import Floats


def design_matrix(terms: Sequence[PairTerm], pairs: dict[str, Pairs], n_atoms: int) -> Floats:
    """Forces (3N, K) [eV/Å] that unit coefficients of the terms exert in one frame."""
    blocks = []
    for term in terms:
        p = pairs[term.name]
        unit = p.vector / p.r[:, None]
        axes = np.arange(3)
        rows = np.concatenate([3 * p.i[:, None] + axes, 3 * p.j[:, None] + axes], axis=1)
        values = np.concatenate([unit, -unit], axis=1)
        columns = np.repeat(np.arange(len(p.r)), 6)
        spread = csr_array((values.ravel(), (rows.ravel(), columns)), shape=(3 * n_atoms, len(p.r)))
        blocks.append(spread @ term.basis(p.r, 1))
    return np.concatenate(blocks, axis=1)


@dataclass
class Form:
    """Quadratic form of one species: Σ_{a≤b} B_ab δQ_a δQ_b of the A sums of a collective term
    about their means.

    About the means, because what is linear in the sums is a function of pairs, and pairs have their
    own terms.
    """

    term: CollectiveTerm
    """Its sums; coefficients are zero."""
    mean: Floats
    """(A,)."""
    second_baa: Floats
    """Σ δQ δQᵀ per block of frames."""
    number_b: Floats
    """Agents."""

    @classmethod
    def of(cls, term: CollectiveTerm, mean: Floats, blocks: int) -> Form:
        return cls(term, mean, np.zeros((blocks, len(mean), len(mean))), np.zeros(blocks))

    def merge(self, other: Form, first_block: int = 0) -> None:
        """Add what was seen in other frames, whose blocks are those from `first_block` on."""
        for own, more in ((self.second_baa, other.second_baa), (self.number_b, other.number_b)):
            own[first_block : first_block + len(more)] += more

    @property
    def products(self) -> tuple[Indices, Indices]:
        """(a, b) of every function of the form."""
        return np.triu_indices(len(self.mean))

    def design(self, topology: Topology, pairs: Pairs) -> tuple[Floats, Floats]:
        """Forces (3N, A (A+1)/2) [eV/Å] that unit coefficients exert in one frame, and δQ (C, A) at
        the C centres.

        pairs: every pair both ways, at least as far as the term's cutoff.
        """
        n, size = topology.n_atoms, len(self.mean)
        at_centre = np.array(topology.symbols) == self.term.species[0]
        local = np.cumsum(at_centre) - 1
        sums = np.zeros((int(at_centre.sum()), size))
        entries: list[tuple[Floats, Indices, Indices]] = []
        for t, here in self.term.slices.items():
            if t not in topology.species:
                continue
            of_kind = at_centre[pairs.i] & (
                topology.species_index[pairs.j] == topology.species.index(t)
            )
            near = pairs[of_kind & (pairs.r < self.term.cutoff_A)]
            sums[:, here] = summed(self.term.basis(t, near.r), local[near.i], len(sums))
            slope = self.term.basis(t, near.r, 1)
            p, a = np.nonzero(slope)
            on_i = slope[p, a][:, None] * near.vector[p] / near.r[p][:, None]
            for atoms, force in ((near.i, on_i), (near.j, -on_i)):
                rows = 3 * ((here.start + a) * n + atoms[p])[:, None] + np.arange(3)
                entries.append((force.ravel(), rows.ravel(), np.repeat(local[near.i[p]], 3)))
        values, rows, columns = (np.concatenate(parts) for parts in zip(*entries, strict=True))
        gradient = csr_array((values, (rows, columns)), shape=(3 * n * size, len(sums)))
        deviation = sums - self.mean
        first, second = self.products
        half = (gradient @ deviation).reshape(size, 3 * n, size)
        return (half[first, :, second] + half[second, :, first]).T, deviation


def _on_molecules(topology: Topology, positions: Floats, cell: Floats) -> csr_array:
    """Takes forces (3N,) on atoms to those on M molecules (6M,): net force, and torque over the
    diameter.

    A molecule's diameter is twice its radius of gyration: the torque is told as the forces at its
    two ends.
    """
    molecule, count = topology.molecule_index, np.bincount(topology.molecule_index)
    x = topology.whole(positions, cell)
    x = x - (summed(x, molecule, len(count)) / count[:, None])[molecule]
    diameter = 2 * np.sqrt(np.bincount(molecule, (x**2).sum(axis=1)) / count)
    arm = x / np.where(diameter > 0, diameter, 1)[molecule][:, None]
    net = 6 * molecule[:, None] + np.arange(3)
    atom = 3 * np.arange(len(x))[:, None] + np.arange(3)
    rows, columns, values = [net], [atom], [np.ones(atom.shape)]
    for forward, back in ((1, 2), (2, 1)):  # (a × F)_k = a_k+1 F_k+2 - a_k+2 F_k+1
        rows.append(net + 3)
        columns.append(np.roll(atom, -back, axis=1))
        values.append((1 if forward == 1 else -1) * np.roll(arm, -forward, axis=1))
    entries = (np.concatenate(rows).ravel(), np.concatenate(columns).ravel())
    return csr_array((np.concatenate(values).ravel(), entries), shape=(6 * len(count), 3 * len(x)))
