"""A frame → structure files, with the residue and atom names of the exported force field."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import ase.io
from ase import Atoms
from openmm import app
from parmed.gromacs import GromacsGroFile

from mld_ff.engines.residues import to_parmed
from mld_ff.engines.start import Start
from mld_ff.errors import InputError
from mld_ff.files import write_atomically

FORMATS = (".pdb", ".cif", ".gro", ".xyz")


def write_structure(start: Start, file: Path | str) -> None:
    """Write atoms, molecules and box as PDB, mmCIF, GRO or extended XYZ, by the suffix; no
    velocities.

    Raises InputError for other suffixes.
    """
    file = Path(file)
    suffix = file.suffix.lower()
    if suffix not in FORMATS:
        raise InputError(f"the suffix is {file.suffix!r}; known: {', '.join(FORMATS)}", file)
    frame, text = start.frame, StringIO()
    if suffix == ".xyz":
        atoms = Atoms(frame.symbols, frame.positions[0], cell=frame.cell[0], pbc=True)
        ase.io.write(text, atoms, format="extxyz")
    else:
        structure = to_parmed(start.topology, frame.positions[0], frame.cell[0], frame.masses)
        if suffix == ".gro":
            GromacsGroFile.write(structure, text, combine="all")
        else:
            write = {".pdb": app.PDBFile.writeFile, ".cif": app.PDBxFile.writeFile}[suffix]
            write(structure.topology, structure.positions, text)
    write_atomically(file, text.getvalue())
