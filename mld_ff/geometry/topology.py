"""Molecules, bonds and the relations between pairs of atoms, found from distances.

A pair is `bonded` when at most three bonds connect it inside a molecule, and `free` otherwise.
Where molecules do not stay, or there are none, nothing is bonded, and `any` two atoms are a pair.
Bonded pairs are told apart by the elements along the shortest path of bonds: ("O", "H") is a bond,
("H", "O", "H") the two hydrogens of a water.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations_with_replacement
from typing import Literal

import numpy as np
from ase.data import atomic_numbers, covalent_radii
from ase.formula import Formula
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from mld_ff.errors import InputError
from mld_ff.geometry.networks import LARGEST_MOLECULE, why_no_molecules
from mld_ff.geometry.pairs import Pairs, check_apart, neighbour_pairs
from mld_ff.names import check_species, shown
from mld_ff.trajectory import Floats, Ints, Trajectory

Path = tuple[str, ...]
TopologyKind = Literal["molecules", "none"]
"""Whether bonds are fixed and make molecules, or there are none."""

BOND_FACTOR = 1.25
"""Two atoms of the first frame are bonded below this multiple of the sum of their covalent radii
(1.21 Å for O–H; Cordero et al., Dalton Trans. 2008, 2832, as tabulated by ASE)."""
DIHYDROGEN_A = 0.95
"""Two hydrogens without a heavy atom in reach are bonded below this; their covalent radii are too
short for H₂.
"""
IONS = frozenset({"Li", "Na", "K", "Rb", "Cs", "Mg", "Ca", "Sr", "Ba"})
"""Elements that are ions in everything a force field with fixed bonds describes, and bind to
nothing: their covalent radii reach the first shell of a solution.
"""
BROKEN_FACTOR = 1.6
"""A bond is reported as broken beyond this multiple of the sum of the covalent radii."""
TYPE_BONDS = 2
"""So many bonds around it make the type of an atom."""
MAX_BONDS_APART = 3


def _rank(symbol: str) -> tuple[bool, str]:
    return symbol == "H", symbol


def _ranks(path: Path) -> list[tuple[bool, str]]:
    return [_rank(symbol) for symbol in path]


@dataclass(frozen=True)
class Topology:
    """Who is bonded to whom; immutable, the same for all frames."""

    symbols: tuple[str, ...]
    bonds: Ints
    """(B, 2), i < j."""
    no_molecules: str = ""
    """Why molecules are not told apart, a sentence without its end; then there are no bonds."""

    def __post_init__(self) -> None:
        check_species(self.symbols)

    @property
    def kind(self) -> TopologyKind:
        """Whether there are molecules that stay."""
        return "none" if self.no_molecules else "molecules"

    @property
    def n_atoms(self) -> int:
        return len(self.symbols)

    @cached_property
    def species(self) -> tuple[str, ...]:
        """Elements in the order that names use, whatever that of the atoms: alphabetical, hydrogen
        last.
        """
        return tuple(sorted(set(self.symbols), key=_rank))

    @cached_property
    def species_index(self) -> Ints:
        """Index into `species` of every atom, (N,)."""
        order = {s: k for k, s in enumerate(self.species)}
        return np.array([order[s] for s in self.symbols])

    @cached_property
    def neighbours(self) -> list[list[int]]:
        """Bonded partners of every atom."""
        partners: list[list[int]] = [[] for _ in self.symbols]
        for i, j in self.bonds:
            partners[i].append(int(j))
            partners[j].append(int(i))
        return partners

    @cached_property
    def atom_types(self) -> tuple[str, ...]:
        """Element of every atom (N,) and, in brackets, its neighbours in alphabetical order, each
        with its own: `O(HH)` and `H(O(H))` in water, `H(C(HHO))` and `H(O(C))` in methanol.
        """
        return tuple(self._surroundings(i, i, TYPE_BONDS) for i in range(self.n_atoms))

    def _surroundings(self, atom: int, origin: int, bonds: int) -> str:
        others = [k for k in self.neighbours[atom] if k != origin] if bonds else []
        each = sorted(self._surroundings(k, atom, bonds - 1) for k in others)
        return self.symbols[atom] + (f"({''.join(each)})" if each else "")

    @cached_property
    def molecule_index(self) -> Ints:
        """Molecule number of every atom, (N,), numbered by first atom."""
        ones = np.ones(len(self.bonds))
        graph = coo_array(
            (ones, (self.bonds[:, 0], self.bonds[:, 1])), shape=(self.n_atoms, self.n_atoms)
        )
        _, labels = connected_components(graph, directed=False)
        first_seen = {label: k for k, label in enumerate(dict.fromkeys(labels.tolist()))}
        return np.array([first_seen[label] for label in labels.tolist()])

    @cached_property
    def molecules(self) -> list[Ints]:
        """Atom indices of every molecule."""
        order = np.argsort(self.molecule_index, kind="stable")
        return np.split(order, np.flatnonzero(np.diff(self.molecule_index[order])) + 1)

    @cached_property
    def kinds(self) -> list[Ints]:
        """Atom indices of the first molecule of every kind: those of one kind agree in elements and
        bonds, in order.
        """
        of_bond = self.molecule_index[self.bonds[:, 0]]
        ends = np.cumsum(np.bincount(of_bond, minlength=len(self.molecules)))
        bonds = np.split(self.bonds[np.argsort(of_bond, kind="stable")], ends[:-1])
        first: dict[tuple[tuple[str, ...], bytes], Ints] = {}
        for atoms, own in zip(self.molecules, bonds, strict=True):
            first.setdefault(
                (tuple(self.symbols[i] for i in atoms), (own - atoms[0]).tobytes()), atoms
            )
        return list(first.values())

    def select(self, atoms: Ints) -> Topology:
        """The given atoms, in that order, and the bonds among them."""
        place = np.full(self.n_atoms, -1)
        place[atoms] = np.arange(len(atoms))
        bonds = np.sort(place[self.bonds], axis=1).reshape(-1, 2)
        bonds = bonds[bonds[:, 0] >= 0]
        return Topology(
            tuple(self.symbols[i] for i in atoms),
            bonds[np.lexsort((bonds[:, 1], bonds[:, 0]))],
            self.no_molecules,
        )

    def formulas(self) -> dict[str, int]:
        """Number of molecules by chemical formula (Hill order), e.g. {"H2O": 64}."""
        return dict(Counter(self.formula(atoms) for atoms in self.molecules))

    def formula(self, atoms: Ints) -> str:
        """Chemical formula (Hill order) of some atoms."""
        return str(Formula.from_list([self.symbols[i] for i in atoms]).format("hill"))

    @cached_property
    def bonded(self) -> dict[Path, Ints]:
        """Bonded pairs (P, 2), i < j, by the elements along their shortest path of bonds."""
        pairs: dict[Path, list[tuple[int, int]]] = {}
        for start in range(self.n_atoms):
            for end, path in self._shortest_paths(start).items():
                if end > start:
                    pairs.setdefault(self._elements(path), []).append((start, end))
        return {
            path: np.array(sorted(pairs[path]))
            for path in sorted(pairs, key=lambda p: (len(p), _ranks(p)))
        }

    def _shortest_paths(self, start: int) -> dict[int, tuple[int, ...]]:
        """Shortest path from `start` to every atom at most MAX_BONDS_APART bonds away; ties by
        element order.
        """
        paths: dict[int, tuple[int, ...]] = {start: (start,)}
        front = [start]
        for _ in range(MAX_BONDS_APART):
            farther: dict[int, tuple[int, ...]] = {}
            for atom in front:
                for partner in self.neighbours[atom]:
                    if partner in paths:
                        continue
                    path = (*paths[atom], partner)
                    rival = farther.get(partner)
                    if rival is None or self._elements(path) < self._elements(rival):
                        farther[partner] = path
            paths |= farther
            front = list(farther)
        return paths

    def _elements(self, path: tuple[int, ...]) -> Path:
        """Elements along a path of atoms, in the one of its two directions that names use."""
        elements = tuple(self.symbols[k] for k in path)
        return min(elements, elements[::-1], key=_ranks)

    @cached_property
    def bonded_names(self) -> dict[Path, str]:
        """Term name of every bonded path: `bonded:H-H`, or `bonded:H-O-H` where the ends alone are
        ambiguous.
        """
        ends = Counter((path[0], path[-1]) for path in self.bonded)
        return {
            p: "bonded:" + "-".join((p[0], p[-1]) if ends[p[0], p[-1]] == 1 else p)
            for p in self.bonded
        }

    @cached_property
    def free(self) -> list[tuple[str, str]]:
        """Species pairs that can meet as free pairs, in the order of `species`."""
        count = Counter(self.symbols)
        same = {s: count[s] * (count[s] - 1) // 2 for s in self.species}
        bonded = Counter(
            frozenset((p[0], p[-1])) for p, pairs in self.bonded.items() for _ in range(len(pairs))
        )
        return [
            (a, b)
            for a, b in combinations_with_replacement(self.species, 2)
            if (same[a] if a == b else count[a] * count[b]) > bonded[frozenset((a, b))]
        ]

    @cached_property
    def free_names(self) -> dict[tuple[str, str], str]:
        """Term name of every pair of species in `free`: `free:O-H`, or `any:O-H` without
        molecules."""
        return {pair: self.free_name(*pair) for pair in self.free}

    def free_name(self, a: str, b: str) -> str:
        """Term name of two species in their order in `species`, whether such pairs are there or
        not."""
        return f"{'any' if self.no_molecules else 'free'}:{a}-{b}"

    @cached_property
    def bonded_codes(self) -> Ints:
        """Sorted i * N + j of all bonded pairs, for exclusion by binary search."""
        pairs = [p for p in self.bonded.values()]
        return (
            np.sort(np.concatenate([p[:, 0] * self.n_atoms + p[:, 1] for p in pairs]))
            if pairs
            else np.zeros(0, int)
        )

    def is_bonded(self, i: Ints, j: Ints) -> np.ndarray:
        """Whether the pairs (i, j) are bonded, (P,) bool."""
        code = np.minimum(i, j) * self.n_atoms + np.maximum(i, j)
        if not len(self.bonded_codes):
            return np.zeros(len(code), bool)
        place = np.minimum(np.searchsorted(self.bonded_codes, code), len(self.bonded_codes) - 1)
        return np.asarray(self.bonded_codes[place] == code)

    def atom_name(self, i: int) -> str:
        """Element and number from 1."""
        return f"{self.symbols[i]}{i + 1}"

    @cached_property
    def is_hydrogen(self) -> np.ndarray:
        """(N,) bool."""
        return np.array([s == "H" for s in self.symbols])

    @cached_property
    def breaking_lengths_A(self) -> Floats:
        """Of every bond the length beyond which it is broken, (B,)."""
        radii = _radii(self.symbols)
        return np.asarray(BROKEN_FACTOR * (radii[self.bonds[:, 0]] + radii[self.bonds[:, 1]]))

    @cached_property
    def longest_bond_A(self) -> float:
        """Length at which the longest kind of bond is broken; 0 where there are none."""
        return float(self.breaking_lengths_A.max(initial=0.0))

    @cached_property
    def molecule_order(self) -> Ints:
        """Atom indices molecule by molecule: the order of atoms in exported files, where residues
        are contiguous.
        """
        return np.concatenate(self.molecules)

    def whole(self, positions: Floats, cell: Floats) -> Floats:
        """Positions (…, N, 3) [Å] with every molecule in one piece, its first atom inside the cell
        (…, 3, 3) [Å]. Bonds are shorter than half the cell's width.
        """
        placed = np.zeros(self.n_atoms, bool)
        first = np.array([atoms[0] for atoms in self.molecules])
        out, inverse = np.array(positions), np.linalg.inv(cell)
        out[..., first, :] -= np.floor(out[..., first, :] @ inverse) @ cell
        placed[first] = True
        both_ways = np.concatenate([self.bonds, self.bonds[:, ::-1]])
        while not placed.all():
            i, j = both_ways[placed[both_ways[:, 0]] & ~placed[both_ways[:, 1]]].T
            step = out[..., j, :] - out[..., i, :]
            out[..., j, :] = out[..., i, :] + step - np.round(step @ inverse) @ cell
            placed[j] = True
        return out


def _radii(symbols: Sequence[str]) -> Floats:
    if unknown := sorted({*symbols} - atomic_numbers.keys()):
        raise InputError(f"{shown(unknown[0])} is no element")
    return np.asarray(covalent_radii[[atomic_numbers[s] for s in symbols]])


def _hydrogens_bind_once(near: Pairs, hydrogen: np.ndarray) -> np.ndarray:
    """Which of the pairs (P,) remain when every hydrogen keeps only the pair that it prefers."""
    pair = np.tile(np.arange(len(near.r)), 2)
    atom, partner = np.concatenate([near.i, near.j]), np.concatenate([near.j, near.i])
    pair, atom, partner = (a[hydrogen[atom]] for a in (pair, atom, partner))
    order = np.lexsort((near.r[pair], hydrogen[partner], atom))
    atoms, first = np.unique(atom[order], return_index=True)
    preferred = np.full(len(hydrogen), -1)
    preferred[atoms] = pair[order][first]
    number = np.arange(len(near.r))
    happy = [~hydrogen[end] | (preferred[end] == number) for end in (near.i, near.j)]
    return np.asarray(happy[0] & happy[1])


def without_molecules(symbols: Sequence[str], why: str) -> Topology:
    """Atoms that nothing bonds. why: as in `Topology.no_molecules`."""
    _radii(symbols)  # which no other than elements have
    return Topology(tuple(symbols), np.zeros((0, 2), np.int64), why)


def find_topology(
    symbols: Sequence[str], positions: Floats, cell: Floats, kind: TopologyKind | None = None
) -> Topology:
    """Bonds and molecules of one frame from distances.

    symbols (N,), positions (N, 3) [Å], cell (3, 3) [Å]. A hydrogen has one bond: to the nearest
    heavy atom, or to a hydrogen where there is none. The IONS have no bond. kind: None to find
    out; networks, metals and salts have no molecules. Raises InputError where molecules are asked
    for and there is one of more than LARGEST_MOLECULE atoms.
    """
    if kind == "none":
        return without_molecules(symbols, "they were not asked for")
    near = _bonds(symbols, positions, cell)
    bonds = np.sort(np.stack([near.i, near.j], axis=1), axis=1)
    bonds = bonds[np.lexsort((bonds[:, 1], bonds[:, 0]))]
    topology = Topology(tuple(symbols), bonds.astype(np.int64).reshape(-1, 2))
    if kind is None:
        why = why_no_molecules(symbols, topology.molecule_index, near)
        return without_molecules(symbols, why) if why else topology
    largest = max(len(atoms) for atoms in topology.molecules)
    if largest > LARGEST_MOLECULE:
        raise InputError(
            f"{largest} of {len(symbols)} atoms hang together by bonds shorter than {BOND_FACTOR}"
            f" times the sum of covalent radii (at most {LARGEST_MOLECULE} are taken for a"
            " molecule): a network or a metal has no molecules, and bonded terms would make no"
            " sense for it; choose --topology none"
        )
    return topology


def _bonds(symbols: Sequence[str], positions: Floats, cell: Floats) -> Pairs:
    """The pairs that are bonds."""
    radii = _radii(symbols)
    reach = max(2 * BOND_FACTOR * float(radii.max()), DIHYDROGEN_A)
    near = neighbour_pairs(positions, cell, reach)
    check_apart(near, symbols)
    hydrogen = np.array([s == "H" for s in symbols])
    limit = np.where(
        hydrogen[near.i] & hydrogen[near.j],
        DIHYDROGEN_A,
        BOND_FACTOR * (radii[near.i] + radii[near.j]),
    )
    near = near[near.r < limit]
    ion = np.array([s in IONS for s in symbols])
    near = near[~ion[near.i] & ~ion[near.j]]
    return near[_hydrogens_bind_once(near, hydrogen)]


def topology_of(frames: Trajectory, kind: TopologyKind | None = None) -> Topology:
    """Of the first frame; see `find_topology`."""
    return find_topology(frames.symbols, frames.positions[0], frames.cell[0], kind)
