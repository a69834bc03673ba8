"""What a CP2K input or restart file says about the run: cell, kinds, units of the printed files,
ensemble.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from pathlib import Path

import numpy as np
from ase.geometry import cellpar_to_cell

from mld_ff.errors import InputError
from mld_ff.sources.cp2k.read.cellfile import read_cell_file
from mld_ff.sources.cp2k.read.inputfile import Keyword, Section, is_true, parse_input
from mld_ff.sources.cp2k.read.method import method_of
from mld_ff.sources.cp2k.read.symmetry import imposed
from mld_ff.sources.cp2k.read.units import (
    ANGLE,
    FORCE,
    LENGTH,
    MASS,
    NUMBER,
    TEMPERATURE,
    TIME,
    VELOCITY,
    Quantity,
    unit_factor,
)
from mld_ff.trajectory import Floats

_PRINTED: dict[str, tuple[str, str, Quantity]] = {
    "positions": ("TRAJECTORY", "angstrom", LENGTH),
    "forces": ("FORCES", "hartree*bohr^-1", FORCE),
    "velocities": ("VELOCITIES", "bohr*au_t^-1", VELOCITY),
}
_STD_OUT = "__STD_OUT__"
"""A FILENAME that stands for the log."""
_OPTIMIZATIONS = ("GEO_OPT", "GEOMETRY_OPTIMIZATION", "CELL_OPT")
_CONSTRAINTS = ("COLLECTIVE", "HBONDS", "G3X3", "G4X6", "VIRTUAL_SITE")
_DYNAMICS = ("MD", "TIMESTEP"), ("MD", "TEMPERATURE|TEMP_EXT|TEMPERATURE_EXTERNAL")
_PATH_INTEGRAL = ("PINT", "DT"), ("PINT", "TEMP")
"""Where timestep and temperature stand within &MOTION."""
_VARIABLE_CELL = ("NPT", "NPE", "MSST", "HYDROSTATICSHOCK")


@dataclass(frozen=True)
class Kind:
    """A &KIND section; None where it leaves CP2K's default."""

    element: str | None
    mass: float | None
    """[amu]"""
    file: Path | None = field(default=None, repr=False, compare=False)
    line: int | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class RunSettings:
    """Facts of a run; None where no file states them."""

    project: str | None = None
    printed_as: frozenset[str] = frozenset()
    """What the names of printed files begin with in place of the project (FILENAME)."""
    in_log: frozenset[str] = frozenset()
    """What is printed into the log (FILENAME __STD_OUT__): positions, forces, velocities."""
    run_type: str | None = None
    """In upper case, as the ensemble."""
    ensemble: str | None = None
    timestep: float | None = None
    """[fs]"""
    temperature: float | None = None
    """[K], of the thermostat."""
    cell: Floats | None = None
    """[Å], (3, 3); rows are the cell vectors at the start (input) or at the end (restart)."""
    cell_varies: bool | None = None
    periodic: str | None = None
    """The periodic directions, as in CP2K: XYZ, XY, NONE."""
    dipole_corrected: bool | None = None
    """Whether SURFACE_DIPOLE_CORRECTION takes out what images along c do to a slab."""
    kinds: dict[str, Kind] | None = None
    """By upper-case label."""
    units: dict[str, float] | None = None
    """Factors of the printed positions, forces, velocities to Å, eV/Å, Å/fs."""
    method: str | None = None
    """That computes energies and forces, in a few words."""
    biases: tuple[str, ...] = ()
    """What adds to the forces that the method gives."""
    is_aligned: bool | None = None
    """Whether positions are printed after turning the cell's first vectors to x and to the plane
    of x and y, which forces are not."""
    constraints: tuple[str, ...] = ()
    """What keeps distances and other coordinates from moving, fixed atoms apart."""

    @property
    def vacuum_along(self) -> tuple[int, ...]:
        """Which of the cell's vectors are none of a periodic direction."""
        if self.periodic is None:
            return ()
        return tuple(k for k, axis in enumerate("XYZ") if axis not in self.periodic)

    @property
    def is_slab(self) -> bool:
        """Whether images along c alone do nothing to a dipole across the cell."""
        periodic = not self.vacuum_along
        return self.vacuum_along == (2,) or (periodic and bool(self.dipole_corrected))

    @property
    def is_optimization(self) -> bool:
        """Whether frames are steps of a search for a minimum, not of dynamics."""
        return self.run_type in _OPTIMIZATIONS

    @property
    def is_path_integral(self) -> bool:
        """Whether springs between beads move atoms beside the forces."""
        return self.run_type == "PINT"

    def is_of(self, project: str | None) -> bool:
        """Whether the run prints files under this name; as far as is known, where it is not."""
        if project is None or self.project is None:
            return True
        return project == self.project or project in self.printed_as

    def filled_from(self, other: RunSettings) -> RunSettings:
        """These facts, and those of `other` where these are missing."""

        def is_missing(value: object) -> bool:
            return value is None or (isinstance(value, (tuple, frozenset)) and not value)

        missing = [f.name for f in fields(self) if is_missing(getattr(self, f.name))]
        return replace(self, **{name: getattr(other, name) for name in missing})

    def factor(self, role: str) -> float:
        """From the unit of the printed `positions`, `forces` or `velocities` to Å, eV/Å, Å/fs."""
        _, default, quantity = _PRINTED[role]
        return (self.units or {}).get(role, unit_factor(default, quantity))


def read_settings(path: Path) -> RunSettings:
    """Read an input or restart file. Raises InputError for numbers and units that are none."""
    root = parse_input(path)
    kinds = {
        section.parameter.upper(): _kind(section)
        for section in root.all("FORCE_EVAL", "SUBSYS", "KIND")
    }
    project = _text(root.get("GLOBAL", "PROJECT|PROJECT_NAME"))  # may begin with a directory
    run_type = _upper(root.get("GLOBAL", "RUN_TYPE|PROGRAM_RUN_TYPE"))
    timestep, temperature = _PATH_INTEGRAL if run_type == "PINT" else _DYNAMICS
    return RunSettings(
        project=Path(project).name if project else None,
        printed_as=_printed_as(root, project),
        in_log=_in_log(root),
        is_aligned=_is_aligned(_upper(root.get("MOTION", "PRINT", "TRAJECTORY", "FORMAT"))),
        run_type=run_type,
        ensemble=_upper(root.get("MOTION", "MD", "ENSEMBLE")),
        timestep=_number(root.get("MOTION", *timestep), TIME, "fs"),
        temperature=_number(root.get("MOTION", *temperature), TEMPERATURE, "k"),
        cell=first_cell(root),
        cell_varies=_cell_varies(root),
        periodic=_upper(root.get("FORCE_EVAL", "SUBSYS", "CELL", "PERIODIC")),
        dipole_corrected=_dipole_corrected(root),
        kinds=kinds or None,
        units=_printed_units(root) or None,
        method=method_of(root),
        biases=_biases(root),
        constraints=_constraints(root),
    )


ON = frozenset({"", "T", "TRUE", "Y", "YES", "ON"})
"""What switches something on, without dots; nothing at all does."""


def _is_aligned(layout: str | None) -> bool | None:
    return None if layout is None else layout == "DCD_ALIGNED_CELL"


def _dipole_corrected(root: Section) -> bool | None:
    """Along Z, as by default."""
    dft = "FORCE_EVAL", "DFT"
    if (asked := _upper(root.get(*dft, "SURFACE_DIPOLE_CORRECTION|SURFACE_DIPOLE"))) is None:
        return None
    return asked.strip(".") in ON and (_upper(root.get(*dft, "SURF_DIP_DIR")) or "Z") == "Z"


def _printed_as(root: Section, project: str | None) -> frozenset[str]:
    """CP2K puts the project before a FILENAME, unless that begins with a directory. The centroid of
    a path integral has a name of its own."""
    names = {f"{Path(project).name}-centroid"} if project and root.all("MOTION", "PINT") else set()
    for section, _, _ in _PRINTED.values():
        name = _text(root.get("MOTION", "PRINT", section, "FILENAME"))
        if name and not name.startswith("="):  # then it is all of the name
            whole = "/" in name or not project
            names.add(Path(name).name if whole else f"{Path(project or '').name}-{name}")
    return frozenset(names)


def _in_log(root: Section) -> frozenset[str]:
    names = {
        role: _text(root.get("MOTION", "PRINT", section, "FILENAME"))
        for role, (section, *_) in _PRINTED.items()
    }
    return frozenset(role for role, name in names.items() if name and name.upper() == _STD_OUT)


def _biases(root: Section) -> tuple[str, ...]:
    """Sections that are switched on and add to the forces that CP2K prints."""
    found = []
    for section in root.all("MOTION", "FREE_ENERGY", "METADYN"):
        if is_true(section.parameter):
            plumed = section.get("USE_PLUMED")
            found.append("PLUMED" if plumed and is_true(plumed.value) else "METADYN")
    for constraint in root.all("MOTION", "CONSTRAINT"):
        found += [f"RESTRAINT of {s.name}" for s in constraint.sections if s.all("RESTRAINT")]
    found += [s.name for s in root.all("FORCE_EVAL", "EXTERNAL_POTENTIAL")]
    return tuple(dict.fromkeys(found))


def _constraints(root: Section) -> tuple[str, ...]:
    return tuple(
        dict.fromkeys(
            section.name
            for constraint in root.all("MOTION", "CONSTRAINT")
            for section in constraint.sections
            if section.name in _CONSTRAINTS and not section.all("RESTRAINT")
        )
    )


def _upper(keyword: Keyword | None) -> str | None:
    return keyword.text.upper() if keyword else None


def _text(keyword: Keyword | None) -> str | None:
    return keyword.text if keyword else None


def _number(keyword: Keyword | None, quantity: Quantity, unit: str) -> float | None:
    return _vector(keyword, quantity, unit, 1)[0] if keyword else None


def _vector(keyword: Keyword, quantity: Quantity, unit: str, length: int) -> list[float]:
    numbers = keyword.numbers(quantity, unit)
    if len(numbers) != length:
        wanted = "one number" if length == 1 else f"{length} numbers"
        raise InputError(f"expected {wanted}, found '{keyword.value}'", keyword.file, keyword.line)
    return numbers


def _printed_units(root: Section) -> dict[str, float]:
    units = {}
    for role, (section, _, quantity) in _PRINTED.items():
        keyword = root.get("MOTION", "PRINT", section, "UNIT")
        if keyword:
            units[role] = unit_factor(
                keyword.text.strip("[] "), quantity, keyword.file, keyword.line
            )
    return units


def _cell_varies(root: Section) -> bool | None:
    """Whether the run changes the cell; None if the file does not say what kind of run it is."""
    run_type, ensemble = root.get("GLOBAL", "RUN_TYPE"), root.get("MOTION", "MD", "ENSEMBLE")
    if ensemble is None and run_type is None:
        return None
    if ensemble and ensemble.text.upper() == "REFTRAJ":
        from_file = root.get("MOTION", "MD", "REFTRAJ", "VARIABLE_VOLUME")
        return from_file is not None and is_true(from_file.value)
    return cell_varies(_upper(run_type), _upper(ensemble))


def cell_varies(run_type: str | None, ensemble: str | None) -> bool:
    """Whether such a run changes the cell."""
    return run_type == "CELL_OPT" or (
        run_type in (None, "MD") and (ensemble or "").startswith(_VARIABLE_CELL)
    )


def _kind(section: Section) -> Kind:
    element, mass = (
        section.get("ELEMENT|ELEMENT_SYMBOL"),
        section.get("MASS|ATOMIC_MASS|ATOMIC_WEIGHT|WEIGHT"),
    )
    where = (element.file, element.line) if element else (None, None)
    return Kind(_text(element), _number(mass, MASS, "amu"), *where)


def first_cell(root: Section) -> Floats | None:
    """The cell of the first &FORCE_EVAL that gives one, or names a file with it."""
    for subsystem in root.all("FORCE_EVAL", "SUBSYS"):
        for section in subsystem.all("CELL"):
            if (cell := _cell(section)) is not None:
                return cell
        topology = "TOPOLOGY", "COORD_FILE_NAME|COORD_FILE", "COORD_FILE_FORMAT|COORDINATE"
        name, form = (subsystem.get(topology[0], keyword) for keyword in topology[1:])
        if form is not None and _upper(form) in ("CIF", "PDB", "EXTXYZ"):
            cell = _of_file(name, form)
            if cell is not None:
                return cell
    return None


def _of_file(name: Keyword | None, form: Keyword | None) -> Floats | None:
    """The cell in a file that is named; None if there is no such file."""
    if name is None or not (file := name.file.parent / name.text).is_file():
        return None
    return read_cell_file(file, _upper(form) or "CP2K")


def _cell(section: Section) -> Floats | None:
    """Rows A, B, C [Å], or None if the section does not give them, nor a file that is there."""
    lengths, vectors = (
        section.get("ABC"),
        [keyword for name in "ABC" if (keyword := section.get(name))],
    )
    if (
        named := _of_file(section.get("CELL_FILE_NAME"), section.get("CELL_FILE_FORMAT"))
    ) is not None:
        cell = named  # goes before all else (manual of &CELL)
    elif lengths:
        cell = _cell_from_lengths(lengths, section.get("ALPHA_BETA_GAMMA|ANGLES"))
    elif len(vectors) == 3:
        cell = np.array([_vector(vector, LENGTH, "angstrom", 3) for vector in vectors])
    else:
        return None
    repeats = section.get("MULTIPLE_UNIT_CELL")
    if repeats:
        cell = cell * np.array(_vector(repeats, NUMBER, "", 3))[:, np.newaxis]
    if not abs(np.linalg.det(cell)) > 0:
        where = repeats or lengths or vectors[0]
        raise InputError("this cell has no volume", where.file, where.line)
    return imposed(cell, _upper(section.get("SYMMETRY")))


def _cell_from_lengths(lengths: Keyword, angles: Keyword | None) -> Floats:
    """As CP2K does it: A along x, B in the xy plane."""
    degrees = _vector(angles, ANGLE, "deg", 3) if angles else [90.0, 90.0, 90.0]
    parameters = [*_vector(lengths, LENGTH, "angstrom", 3), *degrees]
    try:
        return np.array(cellpar_to_cell(parameters), dtype=np.float64)
    except AssertionError:  # how ase refuses angles that fit no cell
        return np.zeros((3, 3))
