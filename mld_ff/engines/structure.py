"""A frame → structure files, with the residue and atom names of the exported force field."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory

import ase.io
import MDAnalysis
from ase import Atoms
from ase.geometry import cell_to_cellpar
from openmm import app

from mld_ff.engines.openmm.topology import structure_text
from mld_ff.engines.residues import atom_names, names_of_residues
from mld_ff.engines.start import Start
from mld_ff.errors import InputError
from mld_ff.files import write_atomically


def write_structure(start: Start, file: Path | str) -> None:
    """Write atoms, molecules and box as PDB, mmCIF, GRO or extended XYZ, by the suffix; no
    velocities.

    Raises InputError for other suffixes.
    """
    file = Path(file)
    suffix = file.suffix.lower()
    if suffix not in FORMATS:
        raise InputError(f"the suffix is {file.suffix!r}; known: {', '.join(FORMATS)}", file)
    write_atomically(file, FORMATS[suffix](start))


def _gro(start: Start) -> str:
    """By MDAnalysis, as ASE always writes velocities."""
    topology, names = start.topology, names_of_residues(start.topology)
    universe = MDAnalysis.Universe.empty(
        topology.n_atoms, len(names), atom_resindex=topology.molecule_index, trajectory=True
    )
    universe.add_TopologyAttr("names", atom_names(topology))
    universe.add_TopologyAttr("resnames", names)
    universe.add_TopologyAttr("resids", range(1, len(names) + 1))
    universe.atoms.positions = start.frame.positions[0]
    universe.dimensions = cell_to_cellpar(start.frame.cell[0])
    with TemporaryDirectory() as directory:
        file = Path(directory) / "frame.gro"
        universe.atoms.write(file)
        return file.read_text(encoding="utf-8")


def _xyz(start: Start) -> str:
    frame, text = start.frame, StringIO()
    atoms = Atoms(frame.symbols, frame.positions[0], cell=frame.cell[0], pbc=True)
    ase.io.write(text, atoms, format="extxyz")
    return text.getvalue()


FORMATS: dict[str, Callable[[Start], str]] = {
    ".pdb": partial(structure_text, writer=app.PDBFile),
    ".cif": partial(structure_text, writer=app.PDBxFile),
    ".gro": _gro,
    ".xyz": _xyz,
}
"""What a file holds, by its suffix."""
