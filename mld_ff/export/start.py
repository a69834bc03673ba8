"""The frame that exported files start from, as both engines want it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import parmed
from ase.geometry import cellpar_to_cell

from mld_ff.cp2k.frames import read_xyz
from mld_ff.errors import InputError
from mld_ff.loss import AgentLoss
from mld_ff.survey import check_cutoff
from mld_ff.topology import Topology, find_topology
from mld_ff.trajectory import Floats, Ints, Trajectory
from mld_ff.units import A_PER_FS_TO_A_PER_PS, AMU_A2_PER_FS2_TO_EV, KB_EV_PER_K


@dataclass(frozen=True)
class Start:
    """One frame with its topology: atoms grouped by molecule, molecules whole, cell reduced, velocities given."""

    topology: Topology
    frame: Trajectory
    """One frame; velocities are never None."""
    order: Ints
    """Index in the source of every atom here, (N,)."""

    def engine_frames(self, frames: Trajectory) -> Trajectory:
        """Frames of the same source in the form of `frame`: order of atoms, cell, whole molecules."""
        return _engine_form(frames, self.order, self.topology)

    def check(self, loss: AgentLoss) -> None:
        """Raise InputError unless the model covers the system and its cutoff fits into the cell."""
        loss.terms_of(self.topology)
        if loss.cutoff_A:
            check_cutoff(loss.cutoff_A, self.frame.half_width)

    @property
    def structure(self) -> parmed.Structure:
        """ParmEd Structure of the frame."""
        assert self.frame.velocities is not None
        return self.topology.structure(
            self.frame.positions[0], self.frame.cell[0], self.frame.masses, self.frame.velocities[0]
        )


def start_from(frame: Trajectory, temperature_K: float = 300.0, seed: int = 1) -> Start:
    """Bring one frame of any source into the form that engines want.

    Velocities are drawn from the Maxwell–Boltzmann distribution at `temperature_K` where the frame has none; their
    centre of mass is set at rest.
    """
    found = find_topology(frame.symbols, frame.positions[0], frame.cell[0])
    order = found.molecule_order
    topology = found.select(order)
    frame = _engine_form(frame, order, topology)
    velocities = frame.velocities
    if velocities is None:
        velocities = _maxwell_boltzmann(frame.masses, temperature_K, seed)[None]
    at_rest = velocities - np.einsum("fpc,p->fc", velocities, frame.masses)[:, None] / frame.masses.sum()
    return Start(topology, replace(frame, velocities=at_rest), order)


def _engine_form(frames: Trajectory, order: Ints, topology: Topology) -> Trajectory:
    frames = frames.select_atoms(order).standard_cell()
    whole = [topology.whole(p, c) for p, c in zip(frames.positions, frames.cell, strict=True)]
    return replace(frames, positions=np.array(whole))


def _maxwell_boltzmann(masses: Floats, temperature_K: float, seed: int) -> Floats:
    """Velocities (N, 3) [Å/fs] of masses (N,) [amu]."""
    width = np.sqrt(KB_EV_PER_K * temperature_K / (masses * AMU_A2_PER_FS2_TO_EV))
    return np.asarray(np.random.default_rng(seed).normal(size=(len(masses), 3)) * width[:, None])


def read_structure(file: Path | str) -> Trajectory:
    """One frame from any structure file that ParmEd (PDB, mmCIF, GRO, …) or else ASE (CIF, extended XYZ, …) reads.

    Raises InputError if the file cannot be read, or holds no coordinates or no box.
    """
    if not Path(file).is_file():
        raise InputError("no such file", file)
    try:
        structure = parmed.load_file(str(file), structure=True)
    except Exception as error:  # parsers raise whatever their parsing hits
        refusal = str(error)
        try:
            return read_xyz(file)[0]
        except InputError as neither:
            raise InputError(f"{neither}; nor can ParmEd ({refusal})") from None
    if getattr(structure, "coordinates", None) is None:
        raise InputError("holds no coordinates: give a file that does (PDB, mmCIF, GRO)", file)
    if structure.box is None:
        raise InputError("holds no periodic box: give one (the CRYST1 record of a PDB, the last line of a GRO)", file)
    numbers = [atom.atomic_number for atom in structure.atoms]
    if unknown := [atom.name for atom in structure.atoms if atom.atomic_number < 1]:
        raise InputError(f"the element of atom {unknown[0]!r} is not known: give the element column", file)
    symbols = tuple(parmed.periodic_table.Element[n] for n in numbers)
    velocities = structure.velocities
    if velocities is not None and not np.any(velocities):
        velocities = None  # writers without velocities leave zeros; nobody starts at 0 K
    return Trajectory(
        symbols=symbols,
        masses=np.array([atom.mass for atom in structure.atoms]),
        positions=np.array(structure.coordinates, dtype=float)[None],
        cell=cellpar_to_cell(structure.box)[None],
        time=np.zeros(1),
        step=np.zeros(1, np.int64),
        velocities=None if velocities is None else np.reshape(velocities, (1, -1, 3)) / A_PER_FS_TO_A_PER_PS,
        source={"files": [Path(file).name]},
    )
