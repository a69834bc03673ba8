"""System: one frame of some atoms, who is bonded to whom, and their pairs, searched once.

Whoever needs pairs (terms, densities, a fit, the watch over bonds) asks the system.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mld_ff.errors import InputError
from mld_ff.geometry.pairs import (
    NO_PAIRS,
    Pairs,
    both_ways,
    check_apart,
    minimum_image,
    neighbour_pairs,
)
from mld_ff.geometry.topology import (
    Path,
    Topology,
    TopologyKind,
    topology_of,
    without_molecules,
)
from mld_ff.trajectory import Floats, FrameSource, Trajectory, spread_frames

FRAMES_FOR_PARTNERS = 100
"""So many frames, spread evenly, tell whether protons change their partners."""
MOST_CHANGED = 0.1
"""In more frames than this fraction bonds are not those of the first: no force field with fixed
bonds describes the system."""
HANDED_ON = MOST_CHANGED / 2
"""In more of these frames than this fraction protons are with new partners where there are no
molecules: half of what a fit with bonds refuses, as samples scatter (an acid that changes in 13 %
of its frames did so in 10 of 100) ..."""
FEW_HANDED_ON = 4
"""... and in more than so many, if that is not more than a fit refuses."""


@dataclass(frozen=True)
class Change:
    """A bond of the first frame that a later frame does not have."""

    step: int
    time_fs: float
    atoms: tuple[int, ...]
    """Indices from 0."""
    what: str


@dataclass(frozen=True)
class System:
    """One frame with its topology; its pairs are searched when somebody first asks for them."""

    topology: Topology
    positions: Floats
    """[Å], (N, 3), wrapped or not."""
    cell: Floats
    """[Å], (3, 3); rows are the cell vectors."""
    reach_A: float
    """The longest distance at which anybody will ask for pairs."""
    forces: Floats | None = None
    """[eV/Å], (N, 3)."""
    step: int = 0
    time_fs: float = 0.0
    free_components: np.ndarray | None = None
    """Which of the forces are known, (3N,) bool; None if all are."""
    virial: Floats | None = None
    """Derivative of the energy by strain, (3, 3) [eV]: the stress times the volume, without the
    motion of the atoms."""

    @cached_property
    def neighbours(self) -> Pairs:
        """Every pair closer than the reach once, bonded or not: the one search. Raises InputError
        if it cannot be done, or atoms lie upon each other.
        """
        try:
            pairs = neighbour_pairs(self.positions, self.cell, self.searched_A)
            check_apart(pairs, self.topology.symbols)
        except InputError as error:
            raise InputError(f"step {self.step}: {error}") from None
        return pairs

    @property
    def searched_A(self) -> float:
        """The reach, or as far as bonds reach that still hold, whichever is longer."""
        return max(self.reach_A, self.topology.longest_bond_A)

    def within(self, cutoff_A: float) -> Pairs:
        """Every pair closer than `cutoff_A` once, bonded or not.

        Raises ValueError beyond what was searched.
        """
        if cutoff_A > self.searched_A:
            raise ValueError(f"pairs are known to {self.searched_A:g} Å; asked for {cutoff_A:g} Å")
        if cutoff_A == self.searched_A:
            return self.neighbours
        return self.neighbours[self.neighbours.r < cutoff_A]

    @cached_property
    def ordered(self) -> Pairs:
        """Every pair closer than the reach both ways: each atom with all of its neighbours."""
        return both_ways(self.within(self.reach_A))

    @cached_property
    def free(self) -> dict[tuple[str, str], Pairs]:
        """Free pairs within the reach by species, in the order of `Topology.free`."""
        topology = self.topology
        if not topology.free or self.reach_A <= 0:
            return {}
        pairs = self.within(self.reach_A)
        pairs = pairs[~topology.is_bonded(pairs.i, pairs.j)]
        index_i, index_j = topology.species_index[pairs.i], topology.species_index[pairs.j]
        low, high = np.minimum(index_i, index_j), np.maximum(index_i, index_j)
        code = low * len(topology.species) + high
        place = {s: k for k, s in enumerate(topology.species)}
        return {
            (a, b): pairs[code == place[a] * len(topology.species) + place[b]]
            for a, b in topology.free
        }

    @cached_property
    def bonded(self) -> dict[Path, Pairs]:
        """Bonded pairs at any distance, by the elements along their shortest path of bonds."""
        return {
            path: minimum_image(self.positions, self.cell, atoms)
            for path, atoms in self.topology.bonded.items()
        }

    def free_within(self, species: tuple[str, str], cutoff_A: float) -> Pairs:
        """Free pairs of two species closer than `cutoff_A`; none if there are no such pairs."""
        pairs = self.free.get(species, NO_PAIRS)
        return pairs if cutoff_A >= self.reach_A else pairs[pairs.r < cutoff_A]

    def pairs(self, cutoff_A: float) -> Iterator[tuple[str, Pairs]]:
        """All pairs by name: `bonded:…` at any distance, `free:A-B` or `any:A-B` closer than
        `cutoff_A`.
        """
        for path, pairs in self.bonded.items():
            yield self.topology.bonded_names[path], pairs
        for species in self.free if cutoff_A > 0 else ():
            yield self.topology.free_names[species], self.free_within(species, cutoff_A)

    # --- bonds that break -------------------------------------------------------------------------

    @cached_property
    def bonds(self) -> Pairs:
        """The bonds themselves, (B,)."""
        return minimum_image(self.positions, self.cell, self.topology.bonds)

    @cached_property
    def broken(self) -> np.ndarray:
        """Which of the bonds are stretched beyond what a bond holds, (B,) bool."""
        return np.asarray(self.bonds.r > self.topology.breaking_lengths_A)

    @cached_property
    def changes(self) -> list[Change]:
        """Bonds that this frame breaks: overstretched ones, and protons nearer to a new partner."""
        if not len(self.topology.bonds):
            return []
        events = [*self._stretched(), *self._handed_on()]
        return [Change(self.step, self.time_fs, atoms, what) for atoms, what in events]

    def _stretched(self) -> Iterator[tuple[tuple[int, ...], str]]:
        atom = self.topology.atom_name
        for b in np.flatnonzero(self.broken):
            i, j, r = int(self.bonds.i[b]), int(self.bonds.j[b]), self.bonds.r[b]
            yield (i, j), f"the bond {atom(i)}–{atom(j)} is stretched to {r:.2f} Å"

    def _handed_on(self) -> Iterator[tuple[tuple[int, ...], str]]:
        topology, bonds, atom = self.topology, self.bonds, self.topology.atom_name
        hydrogen = topology.is_hydrogen
        to_heavy = hydrogen[bonds.i] != hydrogen[bonds.j]
        if not to_heavy.any():
            return
        own_length = np.zeros(topology.n_atoms)
        hydrogen_of_bond = np.where(hydrogen[bonds.i], bonds.i, bonds.j)
        np.maximum.at(own_length, hydrogen_of_bond[to_heavy], bonds.r[to_heavy])
        # a longer bond is broken already, whoever the proton is with now
        near = self.within(min(float(own_length.max()), self.searched_A))
        near = near[hydrogen[near.i] != hydrogen[near.j]]
        h = np.where(hydrogen[near.i], near.i, near.j)
        heavy = np.where(hydrogen[near.i], near.j, near.i)
        for k in np.flatnonzero((near.r < own_length[h]) & (own_length[h] > 0)):
            proton, new_partner = int(h[k]), int(heavy[k])
            if new_partner in topology.neighbours[proton]:
                continue
            partner = topology.neighbours[proton][0]
            yield (
                (proton, partner, new_partner),
                f"the proton {atom(proton)} left {atom(partner)} ({own_length[proton]:.2f} Å) "
                f"for {atom(new_partner)} ({near.r[k]:.2f} Å)",
            )


def systems(topology: Topology, frames: Trajectory, reach_A: float = 0.0) -> Iterator[System]:
    """Every frame of a trajectory of these atoms as a system, in their order.

    What holds atoms in place takes up a part of the stress: it is left out where some are fixed.
    """
    free = None if frames.fixed is None else ~frames.fixed.ravel()
    virials = None
    if frames.stress is not None and free is None:
        virials = frames.stress * np.abs(np.linalg.det(frames.cell))[:, None, None]
    for f in range(frames.n_frames):
        yield System(
            topology,
            frames.positions[f],
            frames.cell[f],
            reach_A,
            None if frames.forces is None else frames.forces[f],
            int(frames.step[f]),
            float(frames.time[f]),
            free,
            None if virials is None else virials[f],
        )


def changes(topology: Topology, frames: Trajectory) -> list[Change]:
    """All bonds of `topology` that the frames break."""
    return [change for system in systems(topology, frames) for change in system.changes]


def lasting_topology(source: FrameSource, kind: TopologyKind | None = None) -> Topology:
    """Of the first frame, if molecules last: none where protons change their partners in more than
    HANDED_ON of the frames, and no other bond breaks, as it would in frames that do not belong
    together. kind: None to find out. Reads the source once, or only its beginning where that tells.
    Raises InputError as `find_topology`.
    """
    topology = topology_of(next(source.chunks(1)), kind)
    if kind is not None or topology.no_molecules or not topology.is_hydrogen.any():
        return topology
    handed = other = 0
    frames = spread_frames(source, FRAMES_FOR_PARTNERS)
    for system in systems(topology, frames):
        protons = {c.atoms[0] for c in system.changes if len(c.atoms) == 3}
        stretched = [c for c in system.changes if len(c.atoms) == 2]
        handed += bool(protons)
        other += any(not protons & set(change.atoms) for change in stretched)
    n = frames.n_frames
    if other or handed <= max(HANDED_ON * n, min(FEW_HANDED_ON, MOST_CHANGED * n)):
        return topology
    why = f"protons are with new partners in {handed} of {n} frames"
    return without_molecules(topology.symbols, why)
