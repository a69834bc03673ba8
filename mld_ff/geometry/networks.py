"""Matter that bonds do not divide into molecules: networks, metals, salts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mld_ff.geometry.pairs import Pairs, both_ways
from mld_ff.trajectory import Ints

LARGEST_MOLECULE = 500
"""Beyond this many atoms a `molecule` is a network or a metal, for which bonded terms make no
sense.
"""
NONMETALS = frozenset(
    {"H", "He", "B", "C", "N", "O", "F", "Ne", "Si", "P", "S", "Cl",
     "Ar", "Ge", "As", "Se", "Br", "Kr", "Sb", "Te", "I", "Xe", "At", "Rn"}
)  # fmt: skip
"""Metalloids among them. Where metals are bonded to each other, the bonds do not stay."""
UNBONDED = "no two atoms are bonded"
"""Why salts, and noble gases, are no molecules."""
OWN_IMAGE_A = 0.1
"""A way along bonds that ends this far from where it began ends at a periodic image."""


def why_no_molecules(symbols: Sequence[str], molecule_index: Ints, bonds: Pairs) -> str:
    """Why atoms (N,) with these bonds are no molecules, a sentence without its end; empty where
    they are.

    molecule_index: number of the molecule that bonds make of every atom, (N,).
    """
    if not len(bonds.r):
        return UNBONDED
    endless = molecule_index[bonds.i[_to_own_image(molecule_index, bonds)]]
    if len(endless):
        atoms = int(np.isin(molecule_index, endless).sum())
        return (
            f"bonds connect {atoms} of {len(symbols)} atoms with their own periodic images, as in a"
            " network or a metal"
        )
    metal = np.array([s not in NONMETALS for s in symbols])
    if (metal[bonds.i] & metal[bonds.j]).any():
        return "metals are bonded to each other"
    largest = np.bincount(molecule_index).max()
    if largest > LARGEST_MOLECULE:
        return f"{largest} of {len(symbols)} atoms hang together by bonds"
    return ""


def _to_own_image(molecule_index: Ints, bonds: Pairs) -> np.ndarray:
    """Which of the bonds close a way along bonds that ends at a periodic image, (P,) bool."""
    at, placed = np.zeros((len(molecule_index), 3)), np.zeros(len(molecule_index), bool)
    placed[np.unique(molecule_index, return_index=True)[1]] = True
    ways = both_ways(bonds)
    while not placed.all():
        step = ways[placed[ways.i] & ~placed[ways.j]]
        at[step.j] = at[step.i] + step.vector
        placed[step.j] = True
    gap = at[bonds.j] - at[bonds.i] - bonds.vector
    return np.asarray(np.abs(gap).max(axis=1) > OWN_IMAGE_A)
