"""Positions, forces and velocities of a run, whatever files hold them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import ase.io
import numpy as np

from mld_ff.errors import InputError
from mld_ff.sources.cp2k.read.content import role_by_content
from mld_ff.sources.cp2k.read.coordinates import coordinates_of_input
from mld_ff.sources.cp2k.read.dcd import DCDIndex, read_dcd_index
from mld_ff.sources.cp2k.read.discover import RunFiles, role_of
from mld_ff.sources.cp2k.read.index import FrameIndex
from mld_ff.sources.cp2k.read.join import check_energies
from mld_ff.sources.cp2k.read.log import Log, read_log
from mld_ff.sources.cp2k.read.logtables import (
    ForceTables,
    force_tables,
    read_coordinates,
    tables_of_files,
    tables_of_logs,
)
from mld_ff.sources.cp2k.read.pdb import read_pdb_index
from mld_ff.sources.cp2k.read.tables import read_energies
from mld_ff.sources.cp2k.read.xyz import read_xyz_index
from mld_ff.units import HARTREE_TO_EV

OTHER_RUN = 0.05
"""[hartree]; a bias is in the energies of the frames, and may not be in those of the log."""


def open_indices(files: RunFiles, logs: list[Log], notes: list[str]) -> dict[str, FrameIndex]:
    """What frames the files hold, by role. Of the logs those are removed that tell of other frames.
    Raises InputError if there are no positions, or files cannot be of one run.
    """
    if "positions" not in files.one:
        raise files.no_positions()
    indices: dict[str, FrameIndex] = {
        role: _read_index(files.one[role])
        for role in ("positions", "forces", "velocities")
        if role in files.one
    }
    for log in [log for log in logs if _is_of_others(log, indices["positions"])]:
        logs.remove(log)
        notes.append(f"{log.path.name}: not used, its energies are not those of the frames.")
    _check_input(files, indices["positions"])
    _leave_out_energies_of_others(files, indices["positions"], notes)
    if "forces" not in indices and (tables := _tables(files, logs)):
        indices["forces"] = tables
        files.one["forces"] = tables.path
        notes.append(f"Forces were taken from the tables in {tables.path.name}.")
    for role in files.of_other_names:
        check_energies(indices[role], indices["positions"])
        notes.append(f"{files.one[role].name} was taken as {role}.")
    for role, index in indices.items():
        if isinstance(index, DCDIndex):
            indices[role] = _with_steps_and_atoms(index, indices, logs, files, notes)
    return indices


def _read_index(file: Path) -> FrameIndex:
    if file.suffix.lower() == ".dcd":
        return read_dcd_index(file)
    if ".pdb" in file.suffixes:
        return read_pdb_index(file)
    match role_by_content(file):
        case "tables":
            return force_tables(tables_of_files([file]))
        case "log":
            tables = tables_of_logs([read_log(file)])
            if not tables:
                raise InputError("this log holds no table of forces of a step", file)
            return force_tables(tables)
    return read_xyz_index(file)


def _is_of_others(log: Log, positions: FrameIndex) -> bool:
    """Whether its energies at the steps of the frames are others than theirs."""
    at = {c.step: c.energy for c in log.calculations}
    there = np.array([at.get(step, np.nan) for step in positions.step.tolist()])
    apart = np.abs(there - positions.energy)
    known = apart[np.isfinite(apart)]
    return len(known) > 0 and float(np.median(known)) > OTHER_RUN


def _check_input(files: RunFiles, positions: FrameIndex) -> None:
    """Raise InputError if the input has other atoms: cell and units would be those of another
    run."""
    for file in files.inputs:
        try:
            found = coordinates_of_input(file, positions.n_atoms)
        except InputError:  # they are not asked for otherwise
            continue
        if found and len(found[0]) != positions.n_atoms:
            raise InputError(
                f"is the input of {len(found[0])} atoms, and {positions.path.name} has"
                f" {positions.n_atoms}: name the run's own with --file input=FILE",
                file,
            )


def _leave_out_energies_of_others(files: RunFiles, positions: FrameIndex, notes: list[str]) -> None:
    """Temperatures and seconds of a step would be those of another run."""
    if "energies" not in files.one or not np.isfinite(positions.energy).any():
        return
    steps, _, energies_eV = read_energies(files.one["energies"])
    _, ours, theirs = np.intersect1d(positions.step, steps, return_indices=True)
    apart = np.abs(positions.energy[ours] - energies_eV[theirs] / HARTREE_TO_EV)
    if len(apart) and float(np.nanmedian(apart)) > OTHER_RUN:
        notes.append(
            f"{files.one.pop('energies').name}: not used, its energies are not those of the frames."
        )


def _tables(files: RunFiles, logs: Sequence[Log]) -> ForceTables | None:
    tables = tables_of_logs(logs) or tables_of_files(files.tables)
    return force_tables(tables) if tables else None


def _with_steps_and_atoms(
    index: DCDIndex,
    indices: dict[str, FrameIndex],
    logs: Sequence[Log],
    files: RunFiles,
    notes: list[str],
) -> DCDIndex:
    """DCD knows only the step it began with, which restarts and other programs spoil: where an XYZ
    file has as many frames, its steps are those of the DCD file. Atoms are those of the log, else
    of the input or of the structure files beside it, where no other file of frames has them.
    """
    others = [other for other in indices.values() if other.labels]
    same = next((o for o in others if len(o.step) == len(index.step)), None)
    if same is not None:
        index = replace(index, step=same.step, time=same.time, energy=same.energy)
    if others:
        return index
    for log in logs:
        if log.coordinates_line:
            labels, _ = read_coordinates(log.path, log.coordinates_line)
            if len(labels) == index.n_atoms:
                return replace(index, labels=labels)
    for file in files.inputs:
        found = coordinates_of_input(file, index.n_atoms)
        if found and len(found[0]) == index.n_atoms:
            return replace(index, labels=found[0])
    fitting = {
        file.name: atoms for file in files.present if len(atoms := _atoms_of(file)) == index.n_atoms
    }
    if len({tuple(atoms) for atoms in fitting.values()}) == 1:
        notes.append(f"Atoms were taken from {', '.join(fitting)}.")
        return replace(index, labels=next(iter(fitting.values())))
    return index


def _atoms_of(file: Path) -> list[bytes]:
    """Elements in a structure file; none if it is no such file."""
    if file.suffix.lower() not in (".pdb", ".xyz") or role_of(file):
        return []
    try:
        return [symbol.encode() for symbol in ase.io.read(file, index=0).symbols]
    except Exception:  # ASE's parsers raise whatever their parsing hits; another file may do
        return []
