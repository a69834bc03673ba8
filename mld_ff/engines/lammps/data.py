"""A start → LAMMPS's data file."""

from __future__ import annotations

import numpy as np

from mld_ff.engines.start import Start
from mld_ff.geometry.topology import Topology
from mld_ff.loss.model import AgentLoss
from mld_ff.units import A_PER_FS_TO_A_PER_PS

TITLE = "LAMMPS data file written by mld_ff (units metal, atom_style {style})"


def atom_style(topology: Topology, loss: AgentLoss) -> str:
    """Full where atoms have charges; else atomic where nothing is bonded, which any LAMMPS knows,
    and molecular."""
    if loss.charges:
        return "full"
    return "molecular" if topology.bonded else "atomic"


def atom_types(start: Start) -> list[tuple[str, float]]:
    """Species and mass [amu] of LAMMPS's atom types 1, 2, …: isotopes are types of their own."""
    order = {s: k for k, s in enumerate(start.topology.species)}
    kinds = set(zip(start.topology.symbols, start.frame.masses.tolist(), strict=True))
    return sorted(kinds, key=lambda kind: (order[kind[0]], kind[1]))


def data_file(start: Start, loss: AgentLoss) -> str:
    """Every bonded pair is a bond of the type of its term."""
    style = atom_style(start.topology, loss)
    bonds = [
        (k, i, j)
        for k, pairs in enumerate(start.topology.bonded.values(), 1)
        for i, j in pairs.tolist()
    ]
    lines = [TITLE.format(style=style), "", *_header(start, len(bonds))]
    lines += ["", "Masses", ""]
    lines += [f"{k} {mass:.10g}  # {s}" for k, (s, mass) in enumerate(atom_types(start), 1)]
    lines += ["", f"Atoms  # {style}", "", *_atoms(start, loss)]
    lines += ["", "Velocities", "", *_velocities(start)]
    if bonds:
        lines += ["", "Bonds", ""]
        lines += [f"{n} {k} {i + 1} {j + 1}" for n, (k, i, j) in enumerate(bonds, 1)]
    return "\n".join(lines) + "\n"


def is_tilted(start: Start) -> bool:
    """Whether the cell has angles that are not right."""
    return bool(np.abs(start.frame.cell[0][[1, 2, 2], [0, 0, 1]]).max() > 0)


def _header(start: Start, n_bonds: int) -> list[str]:
    topology, cell = start.topology, start.frame.cell[0]
    lines = [f"{topology.n_atoms} atoms", f"{len(atom_types(start))} atom types"]
    if n_bonds:
        lines += [f"{n_bonds} bonds", f"{len(topology.bonded)} bond types"]
    lines += ["", *(f"0.0 {cell[k, k]:.15g} {x}lo {x}hi" for k, x in enumerate("xyz"))]
    if is_tilted(start):
        lines.append(f"{cell[1, 0]:.15g} {cell[2, 0]:.15g} {cell[2, 1]:.15g} xy xz yz")
    return lines


def _atoms(start: Start, loss: AgentLoss) -> list[str]:
    topology, frame = start.topology, start.frame
    type_of = {kind: k for k, kind in enumerate(atom_types(start), 1)}
    types = [type_of[kind] for kind in zip(topology.symbols, frame.masses.tolist(), strict=True)]
    charges = [""] * topology.n_atoms
    if loss.charges:
        charges = [f"{charge:.15g} " for charge in loss.charges.of_atoms(topology).tolist()]
    molecules = [""] * topology.n_atoms
    if atom_style(topology, loss) != "atomic":
        molecules = [f"{molecule} " for molecule in (topology.molecule_index + 1).tolist()]
    atoms = zip(molecules, types, charges, frame.positions[0], strict=True)
    return [
        f"{k} {molecule}{kind} {charge}{x:.10f} {y:.10f} {z:.10f}"
        for k, (molecule, kind, charge, (x, y, z)) in enumerate(atoms, 1)
    ]


def _velocities(start: Start) -> list[str]:
    assert start.frame.velocities is not None
    velocities = (start.frame.velocities[0] * A_PER_FS_TO_A_PER_PS).tolist()
    return [f"{k} {x:.10g} {y:.10g} {z:.10g}" for k, (x, y, z) in enumerate(velocities, 1)]
