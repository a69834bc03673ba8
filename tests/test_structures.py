"""Structure files of other programs, written by them and read back; boxes made here, and runs from
them.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import ase.io
import ase.units
import MDAnalysis
import numpy as np
import parmed
import pytest
from ase import Atoms
from conftest import TRICLINIC, evaluate, invent, liquid
from openmm import app

from mld_ff.engines.lammps.executable import find_lmp
from mld_ff.engines.lammps.export import export_lammps
from mld_ff.engines.settings import MD
from mld_ff.engines.start import Start, start_from
from mld_ff.engines.structure import FORMATS, write_structure
from mld_ff.errors import InputError
from mld_ff.geometry.pairs import minimum_image
from mld_ff.loss.model import AgentLoss
from mld_ff.production.preparation import start_at
from mld_ff.production.results import read_log
from mld_ff.production.simulation import run
from mld_ff.sources.packing import Ingredient, find_molecule, pack, replicate
from mld_ff.sources.structures import read_structure
from mld_ff.trajectory import Floats, Trajectory


@pytest.fixture(scope="module")
def cubic(few: Trajectory) -> Start:
    """64 waters of CP2K, with velocities."""
    return start_from(few[7])


@pytest.fixture(scope="module")
def triclinic() -> Start:
    return start_from(liquid(["H2O"] * 20 + ["CH3OH"] * 4 + ["Na", "Cl"], TRICLINIC, seed=4))


# --- what others write ----------------------------------------------------------------------------


def _openmm(start: Start, file: Path) -> None:
    structure = start.structure
    write = app.PDBFile.writeFile if file.suffix == ".pdb" else app.PDBxFile.writeFile
    write(structure.topology, structure.positions, str(file))


def _parmed(start: Start, file: Path) -> None:
    start.structure.save(str(file), **({"combine": "all"} if file.suffix == ".gro" else {}))


def _ase(start: Start, file: Path) -> None:
    frame = start.frame
    atoms = Atoms(frame.symbols, frame.positions[0], cell=frame.cell[0], pbc=True)
    assert frame.velocities is not None
    atoms.set_velocities(frame.velocities[0] / ase.units.fs)
    ase.io.write(file, atoms, **({"format": "extxyz"} if file.suffix == ".xyz" else {}))


def _mdanalysis(start: Start, file: Path) -> None:
    MDAnalysis.Universe(start.structure).atoms.write(str(file))


def _lammps(start: Start, file: Path) -> None:
    """LAMMPS's own write_data; this version of it may not name its units, which tell what
    velocities mean.
    """
    export_lammps(invent(start.frame, cutoff=4.0), start, file.parent)
    script = (
        "units metal\natom_style molecular\nread_data system.data\ninclude"
        " forcefield.lmp\nwrite_data written\n"
    )
    (file.parent / "in.write").write_text(script)
    command = [find_lmp(), "-in", "in.write", "-log", "none"]
    subprocess.run(command, cwd=file.parent, check=True, capture_output=True)
    first, rest = (file.parent / "written").read_text().split("\n", 1)
    file.write_text(f"{first.partition(', units')[0]}, units = metal\n{rest}")


def _amber(start: Start, file: Path) -> None:
    """A prmtop needs parameters, and those of nothing will do."""
    structure = start.structure
    types = {
        a.type: parmed.AtomType(a.type, None, a.mass, a.atomic_number) for a in structure.atoms
    }
    for atom in structure.atoms:
        atom.atom_type = types[atom.type]
        atom.atom_type.set_lj_params(0.1, 1.5)
    nothing = parmed.BondType(0, 1, list=structure.bond_types)
    structure.bond_types.append(nothing)
    for bond in structure.bonds:
        bond.type = nothing
    parmed.amber.AmberParm.from_structure(structure).write_parm(str(file))


WRITERS: dict[str, tuple[Callable[[Start, Path], None], float, bool]] = {
    "openmm.pdb": (_openmm, 6e-4, False),
    "openmm.cif": (_openmm, 6e-5, False),
    "parmed.pdb": (_parmed, 6e-4, False),
    "parmed.cif": (_parmed, 6e-5, False),
    "parmed.gro": (_parmed, 6e-3, True),
    "ase.pdb": (_ase, 6e-4, False),
    "ase.cif": (_ase, 1e-8, False),
    "ase.xyz": (_ase, 1e-8, True),
    "mdanalysis.gro": (_mdanalysis, 6e-3, False),
    "lammps.data": (_lammps, 1e-8, True),
}
"""Writer, its rounding of positions [Å], and whether it writes velocities."""


def check(read_back: Trajectory, start: Start, rounding: float, velocities: bool) -> None:
    """The same atoms, at the same places in the same lattice."""
    frame, cell = start.frame, start.frame.cell[0]
    assert read_back.symbols == frame.symbols
    assert read_back.masses == pytest.approx(frame.masses, abs=1e-3)
    assert read_back.standard_cell().cell[0] == pytest.approx(cell, abs=max(rounding, 5e-6))
    apart = (read_back.positions[0] - frame.positions[0]) @ np.linalg.inv(cell)
    assert np.abs((apart - np.round(apart)) @ cell).max() < rounding
    assert (read_back.velocities is not None) == velocities
    if read_back.velocities is not None:
        assert frame.velocities is not None
        assert read_back.velocities == pytest.approx(frame.velocities, abs=1e-5)


@pytest.mark.parametrize("name", WRITERS)
def test_structures_that_others_write(
    name: str, cubic: Start, triclinic: Start, tmp_path: Path
) -> None:
    write, rounding, velocities = WRITERS[name]
    for start in (cubic, triclinic):
        write(start, tmp_path / name)
        check(read_structure(tmp_path / name), start, rounding, velocities)
        (tmp_path / name).unlink()  # ParmEd does not write over files


@pytest.mark.parametrize("restart", ["rst7", "ncrst", "gro", "trr"])
def test_psf_and_prmtop_take_coordinates_of_a_second_file(
    restart: str, triclinic: Start, tmp_path: Path
) -> None:
    second = tmp_path / f"second.{restart}"
    (_mdanalysis if restart == "trr" else _parmed)(triclinic, second)
    for name, write in (("a.psf", _parmed), ("a.prmtop", _amber)):
        write(triclinic, tmp_path / name)
        rounding = {"gro": 6e-3, "trr": 1e-5}.get(restart, 1e-6)
        check(read_structure(tmp_path / name, second), triclinic, rounding, restart != "trr")
        with pytest.raises(InputError, match=rf"{name}: holds no coordinates: give a second file"):
            read_structure(tmp_path / name)


GRO = """t
 3
    1SOL     OW    1   0.100   0.100   0.100
    1SOL    HW1    2   0.196   0.100   0.100
    1SOL    HW2    3   0.070   0.190   0.100
   1.50000   1.50000   1.50000
"""
PDB = """CRYST1   15.000   15.000   15.000  90.00  90.00  90.00 P 1           1
ATOM      1  OH2 WAT     1       1.000   1.000   1.000
ATOM      2  H1  WAT     1       1.960   1.000   1.000
ATOM      3  H2  WAT     1       0.700   1.900   1.000
END
"""
DATA = """Water

3 atoms
2 atom types
0 15 xlo xhi
0 15 ylo yhi
0 15 zlo zhi

Masses

1 15.9994
2 1.0

Atoms # full

1 1 1 0 1 1 1
2 1 2 0 1.96 1 1
3 1 2 0 0.7 1.9 1

Velocities

1 1 0 0
2 0 1 0
3 0 0 1
"""
IONS = (
    "    2NA      NA    4   1.100   0.100   0.100\n    3CL     CL-    5   0.100   1.100   0.100\n "
    "  1.5"
)


@pytest.mark.parametrize(
    ("name", "text", "formulas"),
    [
        ("a.gro", GRO, {"H2O": 1}),
        (
            "a.gro",
            GRO.replace(" 3\n", " 5\n", 1).replace("   1.5", IONS, 1),
            {"H2O": 1, "Na": 1, "Cl": 1},
        ),
        ("a.pdb", PDB, {"H2O": 1}),
        ("data.water", DATA, {"H2O": 1}),
    ],
    ids=["OW", "ions", "WAT", "types"],
)
def test_names_and_masses_tell_elements(
    name: str, text: str, formulas: dict[str, int], tmp_path: Path
) -> None:
    """As other force fields name water; velocities without units are no velocities."""
    (tmp_path / name).write_text(text)
    frame = read_structure(tmp_path / name)
    assert start_from(frame).topology.formulas() == formulas
    assert frame.cell[0] == pytest.approx(15 * np.eye(3), abs=1e-6)
    assert frame.velocities is None


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        (
            "a.gro",
            GRO.replace("1.50000", "0.00000"),
            "holds no periodic box; give one: the CRYST1 record",
        ),
        ("a.pdb", PDB.split("\n", 1)[1], "holds no periodic box"),
        (
            "a.pdb",
            PDB.replace("H2  WAT", "MW  WAT"),
            r"atom 3 \(MW of WAT\) is a site without an element",
        ),
        (
            "a.pdb",
            PDB.replace("H2  WAT", "Q2  WAT"),
            r"the element of atom 3 \(Q2 of WAT\) is not known",
        ),
        (
            "a.data",
            DATA.replace("15.9994", "5.96"),
            r"the mass of atom 1 \(type 1\), 5.96 amu, is that of no element",
        ),
        (
            "a.data",
            DATA.replace(" # full", "").replace(" 0 1", " 1").replace(" 0 0.7", " 0.7"),
            "the atom style",
        ),
        ("a.data", DATA.replace("Masses\n\n1 15.9994\n2 1.0\n\n", ""), "has no section Masses"),
        ("a.psf", "PSF\n", r"a\.psf: cannot be read"),
        ("a.dcd", "?", "holds coordinates but no atoms"),
        ("a.xyz", "1\n\nO 0 0 0\n", "frames need a cell"),
    ],
)
def test_what_cannot_be_used_is_said(name: str, text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=said):
        read_structure(tmp_path / name)


# --- what is made here ----------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", FORMATS)
def test_box_is_read_back(suffix: str, triclinic: Start, tmp_path: Path) -> None:
    write_structure(triclinic, tmp_path / f"box{suffix}")
    check(read_structure(tmp_path / f"box{suffix}"), triclinic, 6e-3, False)


def test_unknown_suffix(cubic: Start, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"the suffix is '.mol'; known: .pdb, .cif, .gro, .xyz"):
        write_structure(cubic, tmp_path / "box.mol")


def test_copies_side_by_side(few: Trajectory) -> None:
    """Every copy feels what the one box felt."""
    one, many = few[0], replicate(few[0], (2, 1, 3))
    assert many.cell[0] == pytest.approx(np.diag([2, 1, 3]) @ one.cell[0])
    loss = invent(one, cutoff=5.0)

    def energy(frame: Trajectory) -> float:
        start = start_from(frame)
        return sum(
            evaluate(loss, start.topology, start.frame.positions[0], start.frame.cell[0])[
                0
            ].values()
        )

    assert energy(many) == pytest.approx(6 * energy(one))
    with pytest.raises(InputError, match="at least once along each vector; found 0 1 1"):
        replicate(one, (0, 1, 1))


@pytest.mark.parametrize("engine", ["openmm", "lammps"])
def test_packed_box_runs(engine: str, power_water: AgentLoss, tmp_path: Path) -> None:
    """512 molecules that never saw a thermostat, by way of a file."""
    write_structure(
        start_from(pack([Ingredient(find_molecule("H2O"), 512)], 0.997)), tmp_path / "box.pdb"
    )
    box = read_structure(tmp_path / "box.pdb")
    run(power_water, box, engine, tmp_path / "run", MD(time_ps=0.05, every_fs=5), minimize=True)
    log = read_log(tmp_path / "run")
    assert log["temperature_K"].max() < 320


def near_oxygen(frame: Trajectory) -> Floats:
    """From the first oxygen to the one next to it."""
    oxygen = np.array([k for k, s in enumerate(frame.symbols) if s == "O"])
    pairs = minimum_image(
        frame.positions[0], frame.cell[0], np.stack([0 * oxygen[1:], oxygen[1:]], axis=1)
    )
    return np.asarray(pairs.vector[np.argmin(pairs.r)])


def test_contacts_are_relaxed_before_a_run(power_water: AgentLoss, cubic: Start) -> None:
    """A molecule of a frame without velocities pushed against another one; a frame of dynamics
    stays as it is.
    """
    calm = replace(cubic.frame, velocities=None)
    x = calm.positions.copy()
    x[0, :3] += (1 - 2.1 / 2.8) * near_oxygen(calm)
    pushed = replace(calm, positions=x)

    def largest_force(frame: Trajectory) -> float:
        start = start_from(frame)
        _, forces = evaluate(
            power_water, start.topology, start.frame.positions[0], start.frame.cell[0]
        )
        return float(np.linalg.norm(forces, axis=1).max())

    assert largest_force(pushed) > 10
    moved = start_at(power_water, pushed, force=True)  # hydrogens are nearer to other oxygens
    assert moved.frame.origin.minimized is True
    assert largest_force(moved.frame) < 1
    for frame in (calm, replace(pushed, velocities=cubic.frame.velocities)):
        assert not start_at(power_water, frame, force=True).frame.origin.minimized
    kept = start_at(power_water, pushed, minimize=False, force=True)
    assert not kept.frame.origin.minimized
