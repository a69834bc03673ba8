"""Frames pressed into walls: where no frame of data goes, and an engine must be right as well."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from mld_ff.geometry.pairs import NO_PAIRS, Pairs, minimum_image
from mld_ff.geometry.slabs import in_one_piece
from mld_ff.geometry.system import System
from mld_ff.loss.bonds import BondTerm
from mld_ff.loss.model import AgentLoss
from mld_ff.loss.terms import FreeTerm, PairTerm
from mld_ff.trajectory import Floats, Ints, Trajectory

SHALLOW_A, BOND_DEEP_A = 0.1, 0.3
"""Depths in walls. Free pairs go down to half of where their wall begins as well, where nobody ever
gets; bonds less deep, as their tables end."""
NEAREST_A = 0.5
"""No two atoms are brought closer: nuclei never are, and tables of angles end at 0.4 Å."""
FARTHEST_MOVE_A = 0.8
"""Of an atom from those that it is bonded to, whose tables go 1 Å beyond the sampled distances."""
SHORTEST_BONDED = 0.6
"""... and down to half of the shortest."""
MOST_TRIED = 30
"""Pairs of a kind, the nearest first."""
MOST_ATOMS = 10_000
"""Of all frames together, but for ..."""
LEAST_FRAMES = 10
"""... that a large box has, where two or three do: a small molecule needs one for every bond."""
ASIDE = np.concatenate([np.eye(3), -np.eye(3), np.array(list(product((-1, 1), repeat=3))) / 3**0.5])
"""Directions (14, 3) from which to come where something is in the way."""


@dataclass(frozen=True)
class Pressed:
    """One frame over and over, each time with other pairs pressed into their walls."""

    frames: Trajectory
    unvisited: tuple[str, ...]
    """Terms into whose walls no pair could be moved without meeting another atom."""


@dataclass(frozen=True)
class _Aim:
    """A distance that a pair of a term shall have."""

    term: PairTerm
    r_A: float


def press(loss: AgentLoss, system: System, frame: Trajectory) -> Pressed:
    """Frames in which pairs of every term of a system lie in its walls, near the edge and deep.

    system: `frame`, with a reach of the loss's cutoff. A molecule is moved towards another until
    two of their atoms are as near as is wanted, or an atom away from or towards one it is bonded
    to; every atom of a frame takes part once at most, so that each pair lies in one wall.
    """
    aims, positions = (_deep(loss, system), _shallow(loss, system)), list[Floats]()
    left, most = list[_Aim](), max(MOST_ATOMS // len(system.positions), LEAST_FRAMES)
    for wanted in aims:  # of their own, as forces deep in walls hide those near the edge
        while wanted and len(positions) < most:
            moves = _Moves(loss, system)
            later = [aim for aim in wanted if not moves.reach(aim)]
            if len(later) == len(wanted):
                break
            positions.append(moves.positions)
            wanted = later
        left += wanted
    frames = frame[np.zeros(len(positions), dtype=int)]
    if loss.charges and loss.charges.slab:  # whose dipole engines take of positions as they are
        positions = [in_one_piece(system.topology, x, system.cell) for x in positions]
    if positions:
        frames = replace(frames, positions=np.array(positions), forces=None)
    return Pressed(frames, tuple(dict.fromkeys(aim.term.name for aim in left)))


def _deep(loss: AgentLoss, system: System) -> list[_Aim]:
    aims = list[_Aim]()
    for term in loss.terms_of(system.topology).values():
        if isinstance(term, FreeTerm) and term.wall_edge_A > NEAREST_A + SHALLOW_A:
            aims.append(_Aim(term, max(term.wall_edge_A / 2, NEAREST_A)))
        if isinstance(term, BondTerm):
            low, high = term.range_A
            near = max(low - BOND_DEEP_A, SHORTEST_BONDED * low, NEAREST_A)
            aims.append(_Aim(term, min(near, low)))
            aims.append(_Aim(term, high + BOND_DEEP_A))
    return aims


def _shallow(loss: AgentLoss, system: System) -> list[_Aim]:
    return [
        _Aim(term, term.wall_edge_A - SHALLOW_A)
        for term in loss.terms_of(system.topology).values()
        if isinstance(term, FreeTerm) and term.wall_edge_A > NEAREST_A + SHALLOW_A
    ]


class _Moves:
    """One frame, in which one pair after the other is moved."""

    def __init__(self, loss: AgentLoss, system: System) -> None:
        self.system, self.positions = system, system.positions.copy()
        self._used = np.zeros(system.topology.n_atoms, dtype=bool)
        self._bonds = [
            (term, system.topology.bonded[term.path])
            for term in loss.terms_of(system.topology).values()
            if isinstance(term, BondTerm)
        ]

    def reach(self, aim: _Aim) -> bool:
        """Move a pair to where it is wanted, if any can be."""
        pairs = _candidates(self.system, aim.term)
        nearest = np.argsort(np.abs(pairs.r - aim.r_A), kind="stable")
        unused = nearest[~(self._used[pairs.i] | self._used[pairs.j])[nearest]]
        tried = np.array_split(unused[:MOST_TRIED], min(len(unused), MOST_TRIED) or 1)
        return any(len(k) > 0 and self._move(pairs[k], aim) for k in tried)

    def _move(self, pair: Pairs, aim: _Aim) -> bool:
        i, j = int(pair.i[0]), int(pair.j[0])
        molecule = self.system.topology.molecule_index
        if is_bond := isinstance(aim.term, BondTerm):
            moved, touched = np.array([j]), molecule == molecule[j]
        else:
            moved = np.flatnonzero(molecule == molecule[j])
            touched = (molecule == molecule[j]) | (molecule == molecule[i])
        if self._used[touched].any():
            return False
        along = pair.unit if is_bond else np.concatenate([pair.unit, ASIDE])
        for direction in along:
            there = self.positions.copy()
            there[moved] += direction * aim.r_A - pair.vector[0]
            if self._is_free(there, moved) and self._holds(there, moved):
                self.positions, self._used = there, self._used | touched
                return True
        return False

    def _is_free(self, positions: Floats, moved: Ints) -> bool:
        """Whether what was moved lies upon nothing."""
        others = np.setdiff1d(np.arange(len(positions)), moved)
        pairs = np.array(np.meshgrid(moved, others)).reshape(2, -1).T
        near = minimum_image(positions, self.system.cell, pairs)
        return bool(near.r.min(initial=np.inf) > NEAREST_A - 1e-6)

    def _holds(self, positions: Floats, moved: Ints) -> bool:
        """Whether bonded pairs stay where tables of engines reach."""
        for term, pairs in self._bonds:
            own = pairs[np.isin(pairs, moved).any(axis=1)]
            r = minimum_image(positions, self.system.cell, own).r
            low, high = term.range_A
            if (r > high + FARTHEST_MOVE_A).any() or (r < SHORTEST_BONDED * low - 1e-6).any():
                return False
        return True


def _candidates(system: System, term: PairTerm) -> Pairs:
    """Pairs of a term that may be moved: free ones are of two molecules."""
    topology = system.topology
    if isinstance(term, BondTerm):
        return term.pairs_of(system)
    for pairs in (term.pairs_of(system), _anywhere(system, term)):  # few may be within the cutoff
        between = pairs[topology.molecule_index[pairs.i] != topology.molecule_index[pairs.j]]
        if len(between.r):
            break
    return between


def _anywhere(system: System, term: PairTerm) -> Pairs:
    """Pairs of the first atom of one species with those of the other, at any distance."""
    symbols = np.array(system.topology.symbols)
    first, second = (np.flatnonzero(symbols == s) for s in term.species)
    if not (len(first) and len(second)):
        return NO_PAIRS
    atoms = np.array([(first[0], j) for j in second if j != first[0]]).reshape(-1, 2)
    return minimum_image(system.positions, system.cell, atoms)
