"""Charges: one for every species or type of atom, which act on each other at all distances."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

from mld_ff.errors import InputError
from mld_ff.geometry.pairs import Pairs
from mld_ff.geometry.slabs import in_one_piece
from mld_ff.geometry.system import System
from mld_ff.geometry.topology import Topology
from mld_ff.loss.densities import summed
from mld_ff.loss.evaluation import Evaluation
from mld_ff.loss.ewald import WIDTHS, WIDTHS_OF_FEATURES, Far, far, near, own, slab, splitting
from mld_ff.loss.limits import CUTOFFS_A, check_range
from mld_ff.loss.terms import Term
from mld_ff.loss.walls import PULL_DEPTH_A
from mld_ff.names import check_atom_types, shown
from mld_ff.trajectory import Floats
from mld_ff.units import E2_PER_A_TO_EV

LARGEST_CHARGE = 20.0
NEUTRAL = 1e-6
"""[e] of a whole system: printed digits lose so much. LAMMPS warns beyond 1e-5."""


@dataclass(frozen=True, kw_only=True)
class ChargeTerm(Term):
    """½ Σ q_i q_j / r_ij over all pairs but the bonded ones, and over all of their images.

    Bonded pairs have functions of their own, in which 1/r would be lost, and every engine leaves
    out what its other forces leave out.
    """

    kind: ClassVar[str] = "charge"
    cutoff_A: float
    """Where what is near ends, for numpy and engines; the energy does not depend on it."""
    atom_types: tuple[str, ...] = ()
    """Whose charges these are (`Topology.atom_types`); empty where they are those of species."""
    slab: bool = False
    """Whether they are those of a slab, which its images along c do nothing to."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_atom_types(self.atom_types)
        if len(self.coefficients) != len(self.owners):
            raise InputError(
                f"term {self.name!r} has {len(self.coefficients)} charges for"
                f" {len(self.owners)} {'types of atoms' if self.atom_types else 'species'}"
            )

    @property
    def owners(self) -> tuple[str, ...]:
        """Types of atoms, or species, in the order of the charges."""
        return self.atom_types or self.species

    def check_loaded(self) -> None:
        super().check_loaded()
        check_range(f"term {self.name!r}: cutoff_A", self.cutoff_A, *CUTOFFS_A)
        if not isinstance(self.slab, bool):
            raise InputError(
                f"term {self.name!r}: slab is {shown(self.slab)}; expected true or false"
            )
        for charge in self.coefficients:
            check_range(f"term {self.name!r}: a charge", charge, -LARGEST_CHARGE, LARGEST_CHARGE)

    @property
    def coefficient_names(self) -> tuple[str, ...]:
        return self.owners

    @property
    def layout(self) -> tuple[Any, ...]:
        return (self.cutoff_A, self.atom_types, self.slab)

    @property
    def reach_A(self) -> float:
        return self.cutoff_A

    @property
    def charges_e(self) -> dict[str, float]:
        """By type of atom, or species."""
        return dict(zip(self.owners, self.coefficients, strict=True))

    def of_atoms(self, topology: Topology) -> Floats:
        """Charges (N,) [e]. Raises InputError unless they add up to nothing."""
        charges = ownership(self, topology) @ np.array(self.coefficients)
        if abs(net := float(charges.sum())) > NEUTRAL:
            formulas = ", ".join(f"{n} {formula}" for formula, n in topology.formulas().items())
            raise InputError(
                f"the system ({formulas}) has a charge of {net:+.6g} e with the model's charges"
                f" ({self}); only neutral boxes have an energy: change the numbers of"
                " molecules, or fit charges on such a system"
            )
        return np.asarray(charges)

    def __str__(self) -> str:
        return ", ".join(f"{s} {q:+.4f} e" for s, q in self.charges_e.items())

    def cancelling_eV(self, topology: Topology) -> float:
        """What its energy is the small rest of: half the waves that charges feel of their own."""
        q = self.of_atoms(topology)
        return E2_PER_A_TO_EV / 2 * own(splitting(self.cutoff_A)) * float(q @ q)

    @property
    def keeps_walls_outside(self) -> bool:
        return True

    def pull(self, pair: tuple[str, str], r: Floats) -> Floats:
        """Of opposite charges, as far inside as a wall has to outweigh it: it has no bound."""
        one, other = (
            [q for owner, q in self.charges_e.items() if element_of(owner) == species] or [0.0]
            for species in pair
        )
        inside = np.maximum(r, r[-1:] - PULL_DEPTH_A)
        strongest = max(max(-a * b for a in one for b in other), 0.0)
        return np.asarray(strongest * E2_PER_A_TO_EV / inside**2)

    @classmethod
    def add_alike(cls, terms: Sequence[Self], system: System, total: Evaluation) -> None:
        for term in terms:
            if any(term.coefficients):
                term._add(system, total)

    def _add(self, system: System, total: Evaluation) -> None:
        q, alpha = self.of_atoms(system.topology), splitting(self.cutoff_A)
        energy = 0.0
        for pairs, value, slope in _of_pairs(system, self.cutoff_A, alpha):
            both = E2_PER_A_TO_EV * q[pairs.i] * q[pairs.j]
            energy += float(both @ value)
            total.add_pairs(pairs, both * slope)
        waves = self.waves(system, q[:, None], alpha)
        at_own_place = waves.potential[:, 0] - own(alpha) * q
        energy += E2_PER_A_TO_EV / 2 * float(q @ at_own_place)
        total.energies[self.name] += energy
        total.forces -= E2_PER_A_TO_EV * q[:, None] * waves.gradient[:, 0]
        total.virial += E2_PER_A_TO_EV * waves.virial[0, 0]

    def waves(self, system: System, charges: Floats, alpha: float, widths: float = WIDTHS) -> Far:
        """What is far of charges (N, A), and what a slab has of it."""
        of_cell = far(system.positions, system.cell, charges, alpha, widths)
        if not self.slab:
            return of_cell
        whole = in_one_piece(system.topology, system.positions, system.cell)
        return of_cell + slab(whole, system.cell, charges)


def element_of(owner: str) -> str:
    """Of a type of atom, or a species, which is one."""
    return owner.partition("(")[0]


def ownership(term: ChargeTerm, topology: Topology) -> Floats:
    """Which atoms have which of the term's charges, ones and zeros (N, A).

    Raises InputError if some have none.
    """
    mine = topology.atom_types if term.atom_types else topology.symbols
    place = {owner: k for k, owner in enumerate(term.owners)}
    if missing := sorted({*mine} - place.keys()):
        raise InputError(
            f"the model has charges of {', '.join(term.owners)}, none of {', '.join(missing)}"
        )
    return np.asarray(np.eye(len(place))[[place[owner] for owner in mine]])


def product_features(term: ChargeTerm, system: System) -> tuple[Floats, Floats]:
    """Forces (3N, A (A+1)/2) [eV/Å] that ½ q_a q_b Σ 1/r exerts, over the atoms of owners a and b,
    where q_a q_b is one, and its derivative by strain (3, 3, A (A+1)/2) [eV]; a ≤ b. Whatever the
    charges of the term are."""
    sets, widths = ownership(term, system.topology), WIDTHS_OF_FEATURES
    alpha = splitting(term.cutoff_A, widths)
    waves = term.waves(system, sets, alpha, widths)
    gradient, virial = waves.gradient, waves.virial
    (n, n_sets), kind = sets.shape, sets.argmax(axis=1)
    for pairs, _, slope in _of_pairs(system, term.cutoff_A, alpha):
        along = (slope / pairs.r)[:, None] * pairs.vector
        for here, there, sign in ((pairs.i, pairs.j, -1), (pairs.j, pairs.i, 1)):
            place = here * n_sets + kind[there]
            for d in range(3):
                more = np.bincount(place, along[:, d], n * n_sets)
                gradient[:, :, d] += sign * more.reshape(n, n_sets)
        kinds = kind[pairs.i] * n_sets + kind[pairs.j]
        strained = along[:, :, None] * pairs.vector[:, None, :] / 2
        of_kinds = summed(strained.reshape(-1, 9), kinds, n_sets**2).reshape(virial.shape)
        virial += of_kinds + of_kinds.swapaxes(0, 1)
    a, b = np.triu_indices(n_sets)
    felt = sets[:, a, None] * gradient[:, b] + sets[:, b, None] * gradient[:, a]
    forces = -E2_PER_A_TO_EV / 2 * felt.transpose(0, 2, 1).reshape(3 * n, len(a))
    return np.asarray(forces), E2_PER_A_TO_EV * virial[a, b].transpose(1, 2, 0)


def _of_pairs(system: System, cutoff_A: float, alpha: float) -> list[tuple[Pairs, Floats, Floats]]:
    """Pairs, 1/r or what is near of it, and its derivative: all within the cutoff, and the bonded
    ones, whose nearest image is taken out again."""
    close = system.within(cutoff_A)
    parts = [(close, *near(close.r, alpha))]
    parts += [(bonded, -1 / bonded.r, 1 / bonded.r**2) for bonded in system.bonded.values()]
    return parts
