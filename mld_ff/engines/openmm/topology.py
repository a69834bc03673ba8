"""Molecules as OpenMM's Topology, by which it names atoms in PDB, mmCIF and force fields."""

from __future__ import annotations

from io import StringIO

import openmm
from openmm import app, unit

from mld_ff.engines.residues import atom_names, names_of_residues
from mld_ff.engines.start import Start
from mld_ff.geometry.topology import Topology
from mld_ff.trajectory import Floats
from mld_ff.units import A_TO_NM


def openmm_topology(topology: Topology, cell: Floats) -> app.Topology:
    """One chain with a residue per molecule.

    cell (3, 3) [Å]. Atoms of a molecule must be contiguous (`Topology.molecule_order`), else
    ValueError.
    """
    made, names = app.Topology(), atom_names(topology)
    chain, atoms = made.addChain(), []
    for name, molecule in zip(names_of_residues(topology), topology.molecules, strict=True):
        residue = made.addResidue(name, chain)
        for i in molecule.tolist():
            element = app.Element.getBySymbol(topology.symbols[i])
            atoms.append(made.addAtom(names[i], element, residue))
    for i, j in topology.bonds.tolist():
        made.addBond(atoms[i], atoms[j])
    made.setPeriodicBoxVectors([openmm.Vec3(*row) for row in cell * A_TO_NM])
    return made


def structure_text(start: Start, writer: type[app.PDBFile] | type[app.PDBxFile]) -> str:
    """What a PDB or mmCIF file of the frame holds."""
    frame, text = start.frame, StringIO()
    topology = openmm_topology(start.topology, frame.cell[0])
    writer.writeFile(topology, frame.positions[0] * unit.angstrom, text)
    return text.getvalue()
