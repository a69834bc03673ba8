"""Structure files of other programs: one frame of whatever they start from.

PDB, GRO, PSF and AMBER prmtop are read by MDAnalysis, mmCIF and AMBER restarts by OpenMM, LAMMPS
data, extended XYZ, CIF and the rest by ASE. An element is what the file says it is, else what the
mass says, else what the name says.
"""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ase.io
import ase.units
import MDAnalysis
import numpy as np
from ase.data import atomic_masses, atomic_numbers, chemical_symbols
from ase.geometry import cellpar_to_cell
from MDAnalysis.guesser.default_guesser import DefaultGuesser
from openmm import app, unit

from mld_ff.errors import InputError
from mld_ff.origin import Origin
from mld_ff.trajectory import Floats, Trajectory
from mld_ff.units import A_PER_FS_TO_A_PER_PS

MDANALYSIS = {
    ".pdb": "PDB",
    ".ent": "PDB",
    ".gro": "GRO",
    ".psf": "PSF",
    **dict.fromkeys((".prmtop", ".parm7"), "TOP"),
}
WITHOUT_COORDINATES = (".psf", ".prmtop", ".parm7")
AMBER_RESTARTS = (".rst7", ".inpcrd", ".restrt", ".ncrst")
TRAJECTORIES = (".dcd", ".xtc", ".trr", ".nc", ".ncdf", ".coor")
LAMMPS_DATA = re.compile(r"^\s*\d+\s+atoms\b.*^[^\n]*\bxlo\s+xhi\b", re.DOTALL | re.MULTILINE)
LAMMPS_UNITS = re.compile(r"\bunits\s*=?\s*(\w+)")
HEAD = 10_000
"""Characters in which a LAMMPS data file has told its box."""
EXTRA_POINTS = frozenset({"M", "MW", "EP", "EPW", "EP1", "EP2", "LP", "LP1", "LP2", "DUM", "DUMMY"})
"""Names of sites that are no atoms."""
HEAVIEST_HYDROGEN_AMU = 3.5
"""Isotopes, and hydrogens that were given mass of their neighbours."""
MASS_TOLERANCE = 0.03
BOX_REMEDY = (
    "give one: the CRYST1 record of a PDB, the last line of a GRO, --coordinates that hold one"
)


@dataclass(frozen=True)
class _Content:
    """What one file holds, in Å, fs and amu; the rest is None."""

    symbols: tuple[str, ...] | None = None
    masses: Floats | None = None
    positions: Floats | None = None
    cell: Floats | None = None
    velocities: Floats | None = None


def read_structure(file: Path | str, coordinates: Path | str | None = None) -> Trajectory:
    """One frame, the last, of a structure file: PDB, mmCIF, GRO, LAMMPS data, extended XYZ, CIF, …,
    PSF and prmtop.

    coordinates: a second file (AMBER restart, PDB, GRO, DCD, …) that positions, box and velocities
    are taken from; PSF and prmtop hold none themselves. Velocities of a LAMMPS data file are taken
    where it names its units. Raises InputError if a file cannot be read, an element is not known,
    or coordinates or box are missing.
    """
    file = Path(file)
    content = _read(file)
    symbols, where = content.symbols, file
    if symbols is None:
        raise InputError(
            "holds coordinates but no atoms: give it beside the file that does (PSF, prmtop)", file
        )
    if coordinates is not None:
        where = Path(coordinates)
        second = _read(where, len(symbols))
        n = None if second.positions is None else len(second.positions)
        if n != len(symbols):
            raise InputError(
                f"holds coordinates of {n or 'no'} atoms, {file.name} {len(symbols)} atoms", where
            )
        content = replace(
            content,
            positions=second.positions,
            velocities=second.velocities,
            cell=content.cell if second.cell is None else second.cell,
        )
    if content.positions is None:
        raise InputError(
            "holds no coordinates: give a second file that does (restart, PDB, GRO, DCD, …) as"
            " --coordinates",
            file,
        )
    if content.cell is None or not abs(np.linalg.det(content.cell)) > 0:
        raise InputError(f"holds no periodic box; {BOX_REMEDY}", where)
    for name in ("positions", "cell", "velocities", "masses"):
        numbers = getattr(content, name)
        if numbers is not None and not np.isfinite(numbers).all():
            raise InputError(f"holds {name} that are no finite numbers", where)
    velocities = content.velocities
    if velocities is not None and not np.any(velocities):
        velocities = None  # writers without velocities leave zeros; nobody starts at 0 K
    return Trajectory(
        symbols=symbols,
        masses=_standard_masses(symbols) if content.masses is None else content.masses,
        positions=content.positions[None],
        cell=content.cell[None],
        time=np.zeros(1),
        step=np.zeros(1, np.int64),
        velocities=None if velocities is None else velocities[None],
        origin=Origin(files=tuple(f.name for f in dict.fromkeys((file, where)))),
    )


def _standard_masses(symbols: tuple[str, ...]) -> Floats:
    return np.asarray(atomic_masses[[atomic_numbers[s] for s in symbols]])


def _read(file: Path, n_atoms: int = 0) -> _Content:
    """A file by its suffix or its content; n_atoms: how many a file of coordinates is expected to
    hold.
    """
    if file.is_dir():
        raise InputError("is a directory; a frame of a CP2K run is asked for by --cp2k", file)
    if not file.is_file():
        raise InputError("no such file", file)
    suffix = file.suffix.lower()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of records that nobody asks for here
            if suffix in AMBER_RESTARTS:
                return _amber_restart(file)
            if suffix in TRAJECTORIES and n_atoms:
                return _coordinates(file, n_atoms)
            if suffix in MDANALYSIS:
                return _mdanalysis(file, MDANALYSIS[suffix])
            if suffix in TRAJECTORIES:
                return _Content()
            with file.open(encoding="utf-8", errors="replace") as text:
                head = text.read(HEAD)
            if LAMMPS_DATA.search(head):
                return _lammps(file, head)
            if suffix in (".cif", ".mmcif", ".pdbx") and "_atom_site.Cartn_x" in file.read_text(
                encoding="utf-8"
            ):
                return _mmcif(file)
    except InputError:
        raise
    except UnicodeDecodeError:
        raise InputError("cannot be read: it is not UTF-8", file) from None
    except Exception as error:  # parsers raise whatever their parsing hits
        raise InputError(f"cannot be read: {type(error).__name__}: {error}", file) from None
    return _ase(file)


# --- readers --------------------------------------------------------------------------------------


def _mdanalysis(file: Path, kind: str) -> _Content:
    universe = MDAnalysis.Universe(str(file), topology_format=kind, to_guess=())
    atoms = universe.atoms
    masses = np.array(atoms.masses, dtype=float) if hasattr(atoms, "masses") else None
    symbols = _symbols(
        file, list(atoms.names), list(atoms.resnames), list(getattr(atoms, "elements", [])), masses
    )
    if file.suffix.lower() in WITHOUT_COORDINATES:
        return _Content(symbols, masses)
    return replace(_timestep(universe.trajectory[-1]), symbols=symbols, masses=masses)


def _coordinates(file: Path, n_atoms: int) -> _Content:
    """The last frame of a trajectory."""
    return _timestep(MDAnalysis.Universe.empty(n_atoms).load_new(str(file)).trajectory[-1])


def _timestep(step: Any) -> _Content:
    velocities = (
        np.array(step.velocities, dtype=float) / A_PER_FS_TO_A_PER_PS
        if step.has_velocities
        else None
    )
    cell = None if step.dimensions is None else cellpar_to_cell(step.dimensions.astype(float))
    return _Content(None, None, np.array(step.positions, dtype=float), cell, velocities)


def _amber_restart(file: Path) -> _Content:
    restart = app.AmberInpcrdFile(str(file))
    positions = np.array(restart.positions.value_in_unit(unit.angstrom))
    velocities = cell = None
    if restart.velocities is not None:
        velocities = np.array(restart.velocities.value_in_unit(unit.angstrom / unit.femtosecond))
    if restart.boxVectors is not None:
        cell = np.array(restart.boxVectors.value_in_unit(unit.angstrom))
    return _Content(None, None, positions, cell, velocities)


def _mmcif(file: Path) -> _Content:
    pdbx = app.PDBxFile(str(file))
    atoms = list(pdbx.topology.atoms())
    elements = ["" if atom.element is None else atom.element.symbol for atom in atoms]
    symbols = _symbols(
        file, [a.name for a in atoms], [a.residue.name for a in atoms], elements, None
    )
    vectors = pdbx.topology.getPeriodicBoxVectors()
    cell = None if vectors is None else np.array(vectors.value_in_unit(unit.angstrom))
    return _Content(
        symbols, None, pdbx.getPositions(asNumpy=True).value_in_unit(unit.angstrom), cell
    )


def _lammps(file: Path, head: str) -> _Content:
    units = LAMMPS_UNITS.search(head.partition("\n")[0])
    try:
        atoms = ase.io.read(str(file), format="lammps-data", units=units[1] if units else "metal")
    except (ValueError, RuntimeError) as error:
        remedy = "does the heading name the atom style, `Atoms # full`?"
        raise InputError(f"cannot be read as a LAMMPS data file: {error}; {remedy}", file) from None
    if not atoms.has("masses"):
        raise InputError("has no section Masses, which tell the elements of its atom types", file)
    masses = atoms.get_masses()
    types = [f"type {k}" for k in atoms.arrays["type"]]
    symbols = _symbols(file, types, [""] * len(types), [], masses)
    velocities = atoms.get_velocities() * ase.units.fs if units and atoms.has("momenta") else None
    return _Content(symbols, masses, atoms.positions, np.array(atoms.cell), velocities)


def _ase(file: Path) -> _Content:
    """Extended XYZ, CIF, POSCAR and all else that ASE reads."""
    try:
        atoms = ase.io.read(str(file))
    except Exception as error:  # ASE's parsers raise whatever their parsing hits
        raise InputError(
            f"ASE cannot read it: {type(error).__name__}: {error}; give PDB, mmCIF, GRO, LAMMPS"
            " data, extended XYZ or CIF with a cell (`mld-ff box` writes some)",
            file,
        ) from None
    if atoms.cell.rank < 3:
        raise InputError(
            'frames need a cell: write extended XYZ, with Lattice="ax ay az bx …" in Å', file
        )
    velocities = atoms.get_velocities() * ase.units.fs if atoms.has("momenta") else None
    symbols = tuple(atoms.get_chemical_symbols())
    return _Content(symbols, atoms.get_masses(), atoms.positions, np.array(atoms.cell), velocities)


# --- elements -------------------------------------------------------------------------------------


def _symbols(
    file: Path, names: list[str], residues: list[str], elements: list[str], masses: Floats | None
) -> tuple[str, ...]:
    """The element of every atom: the one given, else the one of its mass, else the one of its
    name.
    """
    given = elements or [""] * len(names)
    weights = [None] * len(names) if masses is None else masses.tolist()
    known: dict[tuple[Any, ...], str] = {}
    symbols = []
    for k, key in enumerate(zip(names, residues, given, weights, strict=True)):
        if key not in known:
            known[key] = _symbol(file, k, *key)
        symbols.append(known[key])
    return tuple(symbols)


def _symbol(
    file: Path, index: int, name: str, residue: str, element: str, mass: float | None
) -> str:
    what = f"atom {index + 1} ({name}{' of ' + residue if residue else ''})"
    if element.capitalize() in chemical_symbols[1:]:
        return element.capitalize()
    if mass == 0 or (mass is None and name.upper() in EXTRA_POINTS):
        raise InputError(
            f"{what} is a site without an element (of TIP4P, say); the model's molecules are made"
            " of atoms: remove it",
            file,
        )
    if mass is not None:
        if mass < HEAVIEST_HYDROGEN_AMU:
            return "H"
        number = 1 + int(np.argmin(np.abs(atomic_masses[1:] - mass)))
        if abs(atomic_masses[number] / mass - 1) > MASS_TOLERANCE:
            raise InputError(f"the mass of {what}, {mass:g} amu, is that of no element", file)
        return str(chemical_symbols[number])
    guess = (
        name if name == residue else str(DefaultGuesser(None).guess_atom_element(name))
    )  # CA of CA is calcium
    guess = guess.strip("+-0123456789").capitalize()
    if guess not in chemical_symbols[1:]:
        raise InputError(
            f"the element of {what} is not known: give the element column of a PDB", file
        )
    return guess
