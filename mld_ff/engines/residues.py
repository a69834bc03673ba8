"""Molecules as residues: names of atoms and residues, and a ParmEd Structure of them."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
from ase.data import atomic_masses, atomic_numbers
from ase.geometry import cell_to_cellpar

from mld_ff.errors import InputError
from mld_ff.geometry.topology import Topology
from mld_ff.trajectory import Floats
from mld_ff.units import A_PER_FS_TO_A_PER_PS

if TYPE_CHECKING:
    import parmed


def to_parmed(
    topology: Topology,
    positions: Floats,
    cell: Floats,
    masses: Floats | None = None,
    velocities: Floats | None = None,
) -> parmed.Structure:
    """ParmEd Structure with bonds, residues and box.

    positions (N, 3) [Å], cell (3, 3) [Å], masses (N,) [amu], velocities (N, 3) [Å/fs]. One residue
    per molecule; water is HOH with atoms O, H1, H2. Atoms of a molecule must be contiguous
    (`Topology.molecule_order`), else ValueError. Raises InputError where ParmEd is not installed.
    """
    try:
        import parmed  # PyPI has no wheel of it, so an installation without a compiler lacks it
    except ImportError as error:
        raise InputError(
            "ParmEd is not installed, and a ParmEd Structure needs it: pip install parmed (with a"
            " C++ compiler at hand)"
        ) from error
    residues = names_of_residues(topology)
    numbers = [atomic_numbers[s] for s in topology.symbols]
    masses = atomic_masses[numbers] if masses is None else masses
    structure = parmed.Structure()
    names = atom_names(topology)
    for i, symbol in enumerate(topology.symbols):
        molecule = int(topology.molecule_index[i])
        atom = parmed.Atom(
            atomic_number=numbers[i], name=names[i], type=symbol, mass=float(masses[i])
        )
        structure.add_atom(atom, residues[molecule], molecule + 1)
    for i, j in topology.bonds:
        structure.bonds.append(parmed.Bond(structure.atoms[i], structure.atoms[j]))
    structure.coordinates = np.asarray(positions)
    structure.box = cell_to_cellpar(cell)
    if velocities is not None:
        structure.velocities = np.asarray(velocities) * A_PER_FS_TO_A_PER_PS
    return structure


def atom_names(topology: Topology) -> list[str]:
    """Name of every atom in its molecule: its element, numbered where there are several."""
    names = [""] * topology.n_atoms
    for atoms in topology.molecules:
        several = Counter(topology.symbols[i] for i in atoms)
        count: Counter[str] = Counter()
        for i in atoms.tolist():
            symbol = topology.symbols[i]
            count[symbol] += 1
            names[i] = f"{symbol}{count[symbol]}" if several[symbol] > 1 else symbol
    return names


def names_of_residues(topology: Topology) -> list[str]:
    """Residue name of every molecule.

    Raises ValueError unless atoms of every molecule are contiguous (`Topology.molecule_order`), as
    residues are.
    """
    if (np.diff(topology.molecule_index) < 0).any():
        raise ValueError(
            "atoms of a molecule are not contiguous: select frames in Topology.molecule_order"
        )
    by_formula = residue_names(topology)
    return [by_formula[topology.formula(atoms)] for atoms in topology.molecules]


def residue_names(topology: Topology) -> dict[str, str]:
    """Residue name by formula: HOH for water, the formula where PDB's three columns hold it, else
    M01, M02, …
    """
    names = {"H2O": "HOH"}
    for formula in topology.formulas():
        short = formula.upper()
        names.setdefault(formula, short if len(short) <= 3 else f"M{len(names):02d}")
    return names
