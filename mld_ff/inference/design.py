"""The design: forces that unit coefficients exert on the atoms and molecules of a system."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from scipy.linalg import block_diag, null_space
from scipy.sparse import csr_array

from mld_ff.errors import InputError
from mld_ff.geometry.system import System
from mld_ff.geometry.topology import Topology
from mld_ff.inference.normal_equations import Indices
from mld_ff.loss.charges import ChargeTerm, ownership, product_features
from mld_ff.loss.densities import DensityTerm, NeighbourSums, summed
from mld_ff.loss.terms import PairTerm
from mld_ff.trajectory import Floats


def design_matrix(terms: Sequence[PairTerm], system: System) -> Floats:
    """Forces (3N, K) [eV/Å] that unit coefficients of the terms exert in one frame."""
    return np.concatenate([term.features(system) for term in terms], axis=1)


def virials_matrix(terms: Sequence[PairTerm], system: System) -> Floats:
    """Derivatives by strain (3, 3, K) [eV] of the energies of unit coefficients of the terms."""
    return np.concatenate([term.virials(system) for term in terms], axis=2)


def rows_of_virials(virials: Floats) -> Floats:
    """The six numbers (6, …) that symmetric ones (3, 3, …) are made of."""
    return virials[np.triu_indices(3)]


@dataclass(frozen=True)
class Features:
    """What unit coefficients of a form do in one frame."""

    forces: Floats
    """(3N, A (A+1)/2) [eV/Å]."""
    sums: Floats
    """δQ at the C centres, M components each, (C, A, M)."""
    virials: Floats | None
    """Derivatives by strain (3, 3, A (A+1)/2) [eV]; None where those of the frame are not known."""


@dataclass
class Form(ABC):
    """Quadratic form of A sums: Σ_{a≤b} B_ab × what the product of sums a and b exerts.

    A loss has few channels in its place, each a combination of the sums, squared.
    """

    term: DensityTerm | ChargeTerm
    """Whose sums these are."""
    mean: Floats
    """(A,), about which they are taken."""
    second_baa: Floats
    """Σ δQ δQᵀ per block of frames."""
    number_b: Floats
    """Agents."""

    def blank(self, blocks: int) -> Self:
        """Nothing seen yet."""
        n = len(self.mean)
        return replace(self, second_baa=np.zeros((blocks, n, n)), number_b=np.zeros(blocks))

    def merge(self, other: Form, first_block: int = 0) -> None:
        """Add what was seen in other frames, whose blocks are those from `first_block` on."""
        for own, more in ((self.second_baa, other.second_baa), (self.number_b, other.number_b)):
            own[first_block : first_block + len(more)] += more

    @property
    def products(self) -> tuple[Indices, Indices]:
        """(a, b) of every function of the form."""
        return np.triu_indices(len(self.mean))

    @property
    @abstractmethod
    def differences(self) -> Floats:
        """Differences of coefficients of a channel that shall be small, (D, A)."""

    @property
    @abstractmethod
    def directions(self) -> Floats:
        """What the coefficients of a channel may be made of, (A, D)."""

    @abstractmethod
    def features(self, system: System) -> Features:
        """Of unit coefficients in one frame."""


@dataclass
class DensityForm(Form):
    """Of the sums over neighbours of one term: Σ_{a≤b} B_ab δQ_a·δQ_b, summed over its centres.

    About the means, because what is linear in the sums is a function of pairs, and pairs have their
    own terms. Sums of order 1 and 2 are not shifted: no direction is special.
    """

    term: DensityTerm
    """Its coefficients are zero."""

    @classmethod
    def of(cls, term: DensityTerm, mean: Floats) -> Self:
        """Without any block."""
        return cls(term, mean, np.zeros((0, len(mean), len(mean))), np.zeros(0))

    @property
    def differences(self) -> Floats:
        """Second ones of neighbouring functions. Inwards a density goes on as a constant, beyond
        the cutoff it is zero."""
        rows = []
        for n in self.term.functions:
            continued = np.concatenate([np.eye(n)[:1], np.eye(n), np.zeros((2, n))])
            rows.append(np.diff(continued, 2, axis=0))
        return np.asarray(block_diag(*rows))

    @property
    def directions(self) -> Floats:
        return np.eye(len(self.mean))

    def features(self, system: System) -> Features:
        from mld_ff.inference.product_forces import add_product_forces, products

        sums, n_sums = NeighbourSums(self.term, system), len(self.mean)
        deviation = sums.values() - self.mean[:, None]
        forces = np.zeros((system.topology.n_atoms, 3, n_sums, n_sums))
        for neighbour, near in sums.neighbours.items():
            add_product_forces(
                forces,
                np.ascontiguousarray(deviation.transpose(0, 2, 1)),
                sums.place,
                near.i,
                near.j,
                near.unit,
                sums.basis(neighbour, 1),
                sums.basis(neighbour) / near.r[:, None],
                self.term.slices[neighbour].start,
                sums.harmonics(neighbour),
                sums.harmonic_slopes(neighbour),
            )
        virials = None if system.virial is None else self._virials(sums, deviation)
        return Features(products(forces), deviation, virials)

    def _virials(self, sums: NeighbourSums, deviation: Floats) -> Floats:
        """Of the products: every pair's vector times what it does to Q_a, times Q_b."""
        n_sums = len(self.mean)
        virials = np.zeros((3, 3, n_sums, n_sums))
        for neighbour, near in sums.neighbours.items():
            own, at_centre = self.term.slices[neighbour], deviation[sums.place[near.i]]
            slopes, values_per_r = sums.basis(neighbour, 1), sums.basis(neighbour) / near.r[:, None]
            along = np.einsum("pm,pbm->pb", sums.harmonics(neighbour), at_centre)
            across = np.einsum("pmd,pbm->dpb", sums.harmonic_slopes(neighbour), at_centre)
            for c, d in np.ndindex(3, 3):
                radial = (near.vector[:, c] * near.unit[:, d])[:, None] * slopes
                turned = near.vector[:, c, None] * values_per_r
                virials[c, d, own] += radial.T @ along + turned.T @ across[d]
        a, b = self.products
        return np.asarray(virials[:, :, a, b] + virials[:, :, b, a])


@dataclass
class ChargeForm(Form):
    """Of charges: Σ_{a≤b} B_ab of ½ Σ 1/r over the atoms of owners a and b.

    Its one channel has the charges of species or types of atoms as coefficients, and the sign +.
    What stands for a sum is whether an atom is one of them.
    """

    term: ChargeTerm
    """Its coefficients are zero, or the charges that are given."""
    neutral: Floats
    """(A, D), see `directions`."""

    @classmethod
    def of(cls, term: ChargeTerm, topologies: Sequence[Topology], molecules: bool = False) -> Self:
        """Without any block. Raises InputError as `neutral_directions`."""
        n, neutral = len(term.owners), neutral_directions(term, topologies, molecules)
        for topology in topologies:
            if any(term.coefficients):
                term.of_atoms(topology)
        return cls(term, np.zeros(n), np.zeros((0, n, n)), np.zeros(0), neutral)

    @property
    def given(self) -> Floats:
        """Charges (A,) that are not to be learned, or zeros."""
        return np.array(self.term.coefficients)

    @property
    def differences(self) -> Floats:
        return np.zeros((0, len(self.mean)))

    @property
    def directions(self) -> Floats:
        """Those that leave the systems neutral, at right angles; none where charges are given."""
        return self.neutral[:, :0] if self.given.any() else self.neutral

    def features(self, system: System) -> Features:
        forces, virials = product_features(self.term, system)
        return Features(forces, ownership(self.term, system.topology)[:, :, None], virials)


def neutral_directions(
    term: ChargeTerm, topologies: Sequence[Topology], molecules: bool = False
) -> Floats:
    """Charges (A, D) that leave systems neutral and, if wanted, all of their molecules but single
    atoms, at right angles. Raises InputError if none but zero do.
    """
    counts = []
    for topology in topologies:
        own = ownership(term, topology)
        counts.append(own.sum(axis=0))
        kinds = [atoms for atoms in topology.kinds if molecules and len(atoms) > 1]
        counts += [own[atoms].sum(axis=0) for atoms in kinds]
    neutral = null_space(np.array(counts))
    if not neutral.size:
        raise InputError(
            f"no charges of {', '.join(term.owners)} but zero leave everything neutral that has to"
            " be: use --charges none"
        )
    return np.asarray(neutral)


def molecules_matrix(system: System) -> csr_array:
    """Takes forces (3N,) on atoms to those on M molecules (6M,): net force, and torque over the
    diameter.

    A molecule's diameter is twice its radius of gyration: the torque is told as the forces at its
    two ends.
    """
    molecule = system.topology.molecule_index
    count = np.bincount(molecule)
    x = system.topology.whole(system.positions, system.cell)
    x = x - (summed(x, molecule, len(count)) / count[:, None])[molecule]
    diameter = 2 * np.sqrt(np.bincount(molecule, (x**2).sum(axis=1)) / count)
    arm = x / np.where(diameter > 0, diameter, 1)[molecule][:, None]
    net = 6 * molecule[:, None] + np.arange(3)
    atom = 3 * np.arange(len(x))[:, None] + np.arange(3)
    rows, columns, values = [net], [atom], [np.ones(atom.shape)]
    for sign, forward, back in ((1, 1, 2), (-1, 2, 1)):  # (a × F)_k = a_k+1 F_k+2 - a_k+2 F_k+1
        rows.append(net + 3)
        columns.append(np.roll(atom, -back, axis=1))
        values.append(sign * np.roll(arm, -forward, axis=1))
    entries = (np.concatenate(rows).ravel(), np.concatenate(columns).ravel())
    return csr_array((np.concatenate(values).ravel(), entries), shape=(6 * len(count), 3 * len(x)))
