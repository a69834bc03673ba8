"""Starting coordinates of a liquid: rigid molecules on a lattice, turned at random, then pushed
apart; or copies.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from itertools import combinations_with_replacement
from pathlib import Path

import numpy as np
from ase.atoms import Atoms
from ase.build import molecule
from ase.collections import g2
from ase.data import vdw_radii
from ase.io import read
from scipy.spatial.transform import Rotation

from mld_ff.errors import InputError, check_seed
from mld_ff.geometry.pairs import Pairs, neighbour_pairs
from mld_ff.origin import Origin
from mld_ff.progress import Progress, no_progress
from mld_ff.trajectory import Floats, Ints, Trajectory
from mld_ff.units import AMU_PER_A3_TO_G_PER_CM3

CONTACT = 0.85
"""Atoms of different molecules keep this fraction of the sum of their van der Waals radii apart …
"""
HYDROGEN_BOND = 0.65
"""… and a hydrogen this fraction from an atom that may accept it: 1.77 Å from oxygen."""
ACCEPTORS = frozenset({"N", "O", "F", "S", "Cl"})
UNKNOWN_RADIUS_A = 2.0
MOST_ATOMS = 10_000_000
"""Of a box: far more than engines run by these models."""
_MARGIN = 1.04
"""The pushing aims a little beyond the limit, or it would approach it for ever."""
_ROUNDS = 500
_ATTEMPTS = 3


@dataclass(frozen=True)
class Ingredient:
    """So many molecules of one kind."""

    molecule: Atoms
    count: int


def find_molecule(name: str) -> Atoms:
    """A molecule by its name in ase.build.molecule (H2O, CH3OH, NH3, …), or from a structure file
    that ASE reads.

    Raises InputError if the name is neither.
    """
    if name in g2.names:
        return molecule(name)
    if not Path(name).is_file():
        near = get_close_matches(name, g2.names, n=5) or ["H2O", "NH3", "CH3OH", "CH3CN", "C6H6"]
        raise InputError(
            f"the molecule {name!r} is neither a file nor a name that ase.build.molecule knows; "
            f"names look like {', '.join(near)}"
        )
    try:
        atoms = read(name)
    except Exception as error:  # ASE's parsers raise whatever their parsing hits
        raise InputError(
            f"ASE cannot read a molecule from it: {type(error).__name__}: {error}", name
        ) from None
    return Atoms(atoms.get_chemical_symbols(), atoms.get_positions())


def pack(
    ingredients: Sequence[Ingredient],
    density: float,
    seed: int = 1,
    progress: Progress = no_progress,
) -> Trajectory:
    """One frame of a cubic box filled with molecules at `density` [g/cm³]; no two of them touch
    (`contact_limit`).

    The same seed gives the same frame. Raises InputError if they do not fit.
    """
    if not density > 0 or not ingredients or any(i.count < 1 for i in ingredients):
        raise InputError(
            "a box needs at least one molecule and a positive density; found "
            f"{sum(i.count for i in ingredients)} molecules at {density:g} g/cm³"
        )
    check_seed(seed)
    _check_atoms(sum(len(i.molecule) * i.count for i in ingredients))
    bodies = [i.molecule for i in ingredients for _ in range(i.count)]
    atoms = Atoms(np.concatenate([b.numbers for b in bodies]))
    masses = atoms.get_masses()
    cell = np.cbrt(masses.sum() * AMU_PER_A3_TO_G_PER_CM3 / density) * np.eye(3)
    body = np.repeat(np.arange(len(bodies)), [len(b) for b in bodies])
    for attempt in range(_ATTEMPTS):
        start = _lattice(bodies, cell, np.random.default_rng([seed, attempt]))
        positions, closest = _pushed_apart(
            start, body, atoms.get_chemical_symbols(), cell, progress
        )
        if closest >= 1:
            return _frame(atoms, positions, cell)
    raise InputError(
        f"{len(bodies)} molecules do not fit into a cube of {cell[0, 0]:.2f} Å ({density:g} g/cm³):"
        f" two atoms stay at {100 * closest:.0f} % of their contact distance; lower the density"
    )


def _check_atoms(number: int) -> None:
    if number > MOST_ATOMS:
        raise InputError(f"{number:.3g} atoms are asked for; a box holds at most {MOST_ATOMS:.0e}")


def contact_limit(a: str, b: str) -> float:
    """The shortest distance [Å] at which atoms of these elements, in different molecules, are
    placed.
    """
    radii = [
        r if np.isfinite(r := vdw_radii[Atoms(s).numbers[0]]) else UNKNOWN_RADIUS_A for s in (a, b)
    ]
    bonded = "H" in (a, b) and bool(ACCEPTORS & {a, b})
    return float((HYDROGEN_BOND if bonded else CONTACT) * sum(radii))


def _frame(atoms: Atoms, positions: Floats, cell: Floats) -> Trajectory:
    return Trajectory(
        symbols=tuple(atoms.get_chemical_symbols()),
        masses=atoms.get_masses(),
        positions=positions[None],
        cell=cell[None],
        time=np.zeros(1),
        step=np.zeros(1, np.int64),
        origin=Origin(packed=True),
    )


def _lattice(bodies: Sequence[Atoms], cell: Floats, rng: np.random.Generator) -> Floats:
    """Positions (N, 3) [Å]: each molecule, turned at random, on a random site of a simple cubic
    lattice.
    """
    n = int(np.ceil(np.cbrt(len(bodies)) - 1e-9))
    sites = (
        np.stack(np.meshgrid(*[np.arange(n) / n] * 3, indexing="ij"), axis=-1).reshape(-1, 3) @ cell
    )
    chosen = sites[rng.permutation(len(sites))[: len(bodies)]]
    turns = Rotation.random(len(bodies), rng)
    return np.concatenate(
        [
            turn.apply(b.positions - b.positions.mean(axis=0)) + site
            for b, turn, site in zip(bodies, turns, chosen, strict=True)
        ]
    )


def _pushed_apart(
    x: Floats, body: Ints, symbols: Sequence[str], cell: Floats, progress: Progress
) -> tuple[Floats, float]:
    """Positions (N, 3) [Å] and their closest contact, as a fraction of the limit.

    Atoms that are too close move apart, then every molecule takes back its shape (shape matching):
    both in turn until nothing is too close.
    """
    kinds, kind = np.unique(np.array(symbols), return_inverse=True)
    limits = np.zeros((len(kinds), len(kinds)))
    for a, b in combinations_with_replacement(range(len(kinds)), 2):
        limits[a, b] = limits[b, a] = contact_limit(str(kinds[a]), str(kinds[b]))
    shape = x
    groups = [np.stack(g) for g in _same_size(body)]
    for done in range(_ROUNDS):
        near = _between_molecules(x, body, cell, _MARGIN * float(limits.max()))
        limit = limits[kind[near.i], kind[near.j]]
        closest = float((near.r / limit).min(initial=_MARGIN))
        if closest >= 1:
            break
        overlap = np.maximum(_MARGIN * limit - near.r, 0)
        push = (overlap / (2 * near.r))[:, None] * near.vector
        moved = x.copy()
        np.subtract.at(moved, near.i, push)
        np.add.at(moved, near.j, push)
        x = moved.copy()
        for group in groups:
            x[group] = _superposed(shape[group], moved[group])
        progress("packing, rounds at most", done + 1, _ROUNDS)
    return x, closest


def _same_size(body: Ints) -> list[list[Ints]]:
    """Atom indices of the molecules, those with equally many atoms together."""
    by_size: dict[int, list[Ints]] = {}
    for atoms in np.split(np.arange(len(body)), np.flatnonzero(np.diff(body)) + 1):
        by_size.setdefault(len(atoms), []).append(atoms)
    return list(by_size.values())


def _between_molecules(x: Floats, body: Ints, cell: Floats, cutoff: float) -> Pairs:
    """Pairs of different molecules, a molecule and its own periodic image included."""
    near = neighbour_pairs(x, cell, cutoff)
    inside = (body[near.i] == body[near.j]) & np.isclose(
        near.vector, x[near.j] - x[near.i], atol=1e-6
    ).all(axis=1)
    return near[~inside]


def _superposed(shape: Floats, target: Floats) -> Floats:
    """Rigid copies of `shape` laid upon `target`, both (M, n, 3), by least squares (Kabsch)."""
    centre = target.mean(axis=1, keepdims=True)
    body = shape - shape.mean(axis=1, keepdims=True)
    u, _, vt = np.linalg.svd(np.einsum("mnc,mnd->mcd", body, target - centre))
    u[:, :, 2] *= np.linalg.det(u @ vt)[:, None]  # a rotation, never a mirror image
    return np.asarray(body @ (u @ vt) + centre)


def replicate(frame: Trajectory, times: tuple[int, int, int]) -> Trajectory:
    """One frame repeated so many times along its three cell vectors, without velocities.

    Raises InputError if a number is less than one, or there are too many atoms.
    """
    if min(times) < 1:
        raise InputError(
            f"a box is repeated at least once along each vector; found {' '.join(map(str, times))}"
        )
    _check_atoms(math.prod(times) * frame.n_atoms)
    atoms = Atoms(
        frame.symbols, frame.positions[0], cell=frame.cell[0], masses=frame.masses
    ).repeat(times)
    return replace(
        _frame(atoms, atoms.positions, atoms.cell.array),
        origin=replace(frame.origin, repeated=times),
    )
