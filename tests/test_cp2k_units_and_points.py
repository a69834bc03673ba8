"""What CP2K's files do not say plainly: units, optimizations, biases, single points."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import present
from cp2k_output import AU_TIME_FS, BOHR_A, HARTREE_EV, edit, message, unpacked
from hypothesis import given, settings
from hypothesis import strategies as st

from mld_ff.sources.cp2k import open_cp2k
from mld_ff.sources.cp2k.read.accelerations import (
    CANDIDATES,
    expected_by_motion,
    unit_by_comparison,
)
from mld_ff.sources.cp2k.read.units import unit_factor

FORCE = HARTREE_EV / BOHR_A
MASSES_AMU = np.array([16.0, 1.0, 1.0])
FORCE_OF_ACCELERATION = 103.642697
"""eV/Å of 1 amu Å/fs²; literal on purpose."""


@pytest.fixture
def run(tmp_path: Path) -> Callable[[str], Path]:
    return lambda name: unpacked(name, tmp_path)


# --- units ----------------------------------------------------------------------------------------


def oscillators(directory: Path, force_unit: float, velocity_unit: float, stride_fs: float) -> None:
    """Files of three oscillators of 20 fs, without any input: positions are exact."""
    rng, times = np.random.default_rng(1), stride_fs * np.arange(6)
    middle, amplitude = 5 + 2 * rng.random((3, 3)), 0.1 * rng.standard_normal((3, 3))
    omega = 2 * np.pi / 20
    x = middle + amplitude * np.cos(omega * times)[:, None, None]
    v = -omega * amplitude * np.sin(omega * times)[:, None, None]
    f = -FORCE_OF_ACCELERATION * MASSES_AMU[:, None] * omega**2 * (x - middle)
    for name, values in (("pos", x % 9.0), ("frc", f / force_unit), ("vel", v / velocity_unit)):
        text = ""
        for k, frame in enumerate(values):
            text += f"3\n i = {k}, time = {times[k]:.3f}, E = -17.0\n"
            rows = zip(("O", "H", "H"), frame, strict=True)
            text += "".join(f"{s} {r[0]:.10f} {r[1]:.10f} {r[2]:.10f}\n" for s, r in rows)
        (directory / f"some-{name}-1.xyz").write_text(text)
    (directory / "some-1.cell").write_text("0 0 9 0 0 0 9 0 0 0 9 729\n")


@pytest.mark.parametrize(
    ("force_unit", "velocity_unit", "said"),
    [
        (FORCE, BOHR_A / AU_TIME_FS, []),
        (1.0, 1.0, ["forces; by the motion of the atoms it is eV*angstrom^-1", "velocities; by"]),
        (0.0433641, 1e-3, ["it is kcalmol*angstrom^-1", "it is angstrom*ps^-1"]),
    ],
)
def test_units_that_no_file_states_are_told_by_mechanics(
    tmp_path: Path, force_unit: float, velocity_unit: float, said: list[str]
) -> None:
    oscillators(tmp_path, force_unit, velocity_unit, 0.5)
    source = open_cp2k(tmp_path)
    notes = [note for note in source.notes if "unit" in note]
    assert len(notes) == len(said) and all(s in note for s, note in zip(said, notes, strict=True))
    frames = source.read()
    assert frames.forces is not None and frames.velocities is not None
    x = frames.positions
    expected = FORCE_OF_ACCELERATION * frames.masses[:, None] * (x[2] - 2 * x[1] + x[0]) / 0.25
    assert frames.forces[1] == pytest.approx(expected, rel=0.02, abs=0.02)
    assert frames.velocities[1] == pytest.approx((x[2] - x[0]) / 1.0, rel=0.02, abs=1e-3)


def test_frames_far_apart_do_not_tell_units(tmp_path: Path) -> None:
    """One frequency is followed even so, but falls short: no unit is taken for another."""
    oscillators(tmp_path, FORCE, BOHR_A / AU_TIME_FS, 8.0)
    source = open_cp2k(tmp_path)
    assert [note for note in source.notes if "unit of forces" in note] == [
        "No file says the unit of forces: CP2K's default, hartree*bohr^-1, was taken though by the"
        " motion of the atoms they would be 0.573 times as large. Put the input beside them to be"
        " sure."
    ]
    assert np.abs(present(source.read().forces)).max() < 30
    rng = np.random.default_rng(3)
    assert unit_by_comparison("forces", *rng.standard_normal((2, 50, 3))) is None
    (tmp_path / "orca.inp").write_text("! B3LYP def2-SVP\n* xyz 0 1\n*\n")
    assert "No file says the unit of forces" in open_cp2k(tmp_path).notes[0]
    (tmp_path / "a.inp").write_text(
        "&MOTION\n&PRINT\n&FORCES\nUNIT 'eV*angstrom^-1'\n&END\n&END\n&END"
    )
    assert not [note for note in open_cp2k(tmp_path).notes if "unit of" in note]


@given(st.sampled_from(["forces", "velocities"]), st.data(), st.floats(0.85, 1.02))
@settings(max_examples=30, deadline=None)
def test_every_unit_is_recognised(role: str, data: st.DataObject, shortfall: float) -> None:
    quantity, units = CANDIDATES[role]
    factor = unit_factor(data.draw(st.sampled_from(units)), quantity)
    expected = np.random.default_rng(0).standard_normal((5, 3))
    verdict = unit_by_comparison(role, shortfall * expected, expected / factor)
    assert verdict is not None and verdict.unit is not None
    assert unit_factor(verdict.unit, quantity) == pytest.approx(factor)


def test_a_cell_that_changes_is_no_acceleration() -> None:
    cells = np.array([1.0, 1.1, 1.2])[:, None, None] * np.eye(3) * 10
    positions = np.einsum("pc,fcd->fpd", np.random.default_rng(2).random((4, 3)), cells)
    forces = expected_by_motion("forces", positions, cells, np.ones(4), 1.0)
    assert forces == pytest.approx(np.zeros((4, 3)), abs=1e-9)


# --- not dynamics, not the method's forces --------------------------------------------------------


def test_steps_of_an_optimization_are_no_dynamics(run: Callable[[str], Path]) -> None:
    directory = run("argon")
    edit(directory / "argon.inp", "RUN_TYPE MD", "RUN_TYPE GEO_OPT")
    (directory / "argon-1.ener").unlink()
    for file in directory.glob("*.xyz"):
        lines = file.read_text().splitlines(keepends=True)
        lines = [f"{x.split(',')[0]}, {x.split(', ')[2]}" if "time" in x else x for x in lines]
        file.write_text("".join(lines))
    for remove in (False, True):  # the input says so, or no frame has a time
        if remove:
            shutil.copy(directory / "argon.inp", directory / "cell.txt")
            edit(directory / "argon.inp", "RUN_TYPE GEO_OPT", "")
            edit(directory / "argon.inp", "ENSEMBLE NVE", "")
        source = open_cp2k(directory)
        assert not source.origin.is_dynamics
        assert source.read().time.tolist() == [0.0] * 9
        run_type = "no times" if remove else "GEO_OPT"
        assert source.notes[-1] == (
            f"The frames are steps of an optimization ({run_type}), not of dynamics: they sample a"
            " way downhill, not a temperature."
        )
        assert "the frames are steps of an optimization" in message(directory, skip_fs=1.0)


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ("&FREE_ENERGY\n&METADYN\n&END\n&END", "The run was biased (METADYN), and CP2K"),
        ("&FREE_ENERGY\n&METADYN\nUSE_PLUMED .TRUE.\n&END\n&END", "The run was biased (PLUMED)"),
        ("&FREE_ENERGY\n&METADYN OFF\n&END\n&END", ""),
        (
            "&CONSTRAINT\n&COLLECTIVE\nCOLVAR 1\n&RESTRAINT\nK 0.1\n&END\n&END\n&END",
            "The run was biased (RESTRAINT of COLLECTIVE)",
        ),
        ("&CONSTRAINT\n&G3X3\n&END\n&END", "Coordinates were constrained (G3X3): the frames"),
    ],
)
def test_biases_and_constraints_are_noted(
    run: Callable[[str], Path], section: str, said: str
) -> None:
    directory = run("argon")
    before = open_cp2k(directory).notes
    edit(directory / "argon.inp", "&MOTION\n", f"&MOTION\n{section}\n")
    notes = [note for note in open_cp2k(directory).notes if note not in before]
    assert len(notes) == bool(said) and all(note.startswith(said) for note in notes)


# --- single points --------------------------------------------------------------------------------


def points(where: Path, run: Callable[[str], Path]) -> Path:
    """A directory as programs that label frames leave it: one folder per frame."""
    original = run("point")
    for k in (2, 10, 9):
        shutil.copytree(original, where / f"task.{k:03d}" if k < 9 else where / f"task.{k}")
    shutil.rmtree(original)
    return where


def test_single_points_are_frames(run: Callable[[str], Path], tmp_path: Path) -> None:
    directory = points(tmp_path / "labels", run)
    edit(
        directory / "task.9" / "output",
        "      1    1 Ar1          0.000000",
        "      1    1 Ar1          0.100000",
    )
    failed = " *** WARNING in qs_scf.F:598 :: SCF run NOT converged ***\n ENERGY| Total"
    source = open_cp2k(directory)
    frames = source.read()
    assert [name.split("/")[0] for name in source.origin.files] == ["task.002", "task.9", "task.10"]
    assert not source.origin.is_dynamics and source.origin.version == "2023.1"
    assert frames.symbols == ("Ar", "Ar", "Ne", "Ne")
    assert frames.positions[:, 0, 0].tolist() == [0.0, 0.1, 0.0]
    assert frames.positions[0, 3].tolist() == [4.0, 4.0, 4.0]
    assert frames.energy == pytest.approx([-0.000446538968895 * HARTREE_EV] * 3)
    assert frames.forces is not None and frames.stress is not None
    assert frames.forces[0, 0] == pytest.approx(
        np.array([0.00011509, 0.00007646, 0.00000741]) * FORCE, rel=1e-6
    )
    gpa = 1 / 160.2176634
    assert frames.stress[0, 0, 0] == pytest.approx(1.91227273274e-3 * gpa)
    assert frames.cell[0, 1].tolist() == pytest.approx([3.39052951, 12.65362832, 0.0])
    edit(directory / "task.9" / "output", " ENERGY| Total", failed)
    (directory / "task.002" / "point-forces-1_0.xyz").unlink()
    less = open_cp2k(directory)
    assert less.notes == [
        "1 of the single points dropped whose log has no table of forces.",
        "1 of the single points dropped whose self-consistent field did not converge.",
    ]
    assert less.n_frames == 1 and less.origin.frames_dropped["no forces"] == 1
    (directory / "task.10" / "point-forces-1_0.xyz").unlink()
    assert "the self-consistent field converged in none of 1 single points" in message(directory)
    (directory / "task.9" / "point-forces-1_0.xyz").unlink()
    assert open_cp2k(directory, require_forces=None).read().forces is None
    assert "3 single points are there, but no forces; CP2K prints them if its" in message(directory)


def test_single_points_of_a_slab(run: Callable[[str], Path], tmp_path: Path) -> None:
    """As of dynamics: a vacuum is given to engines, and no image along c acts."""
    directory = points(tmp_path / "labels", run)
    for file in directory.rglob("point.inp"):
        edit(file, "ALPHA_BETA_GAMMA 80 85 75", "ALPHA_BETA_GAMMA 80 85 75\n      PERIODIC XY")
    source = open_cp2k(directory)
    assert source.origin.slab
    assert [note.partition(";")[0] for note in source.notes] == ["The input says PERIODIC XY"]
    assert np.linalg.norm(source.read().cell[0, 2]) == pytest.approx(1.5 * 13.1 + 4, abs=0.6)
    edit(directory / "task.9" / "point.inp", "PERIODIC XY", "PERIODIC XYZ")
    assert "some are periodic along c, and others are slabs" in message(directory)


def test_runs_that_follow_each_other_in_one_log(run: Callable[[str], Path]) -> None:
    """`cp2k -o` appends: every point has the atoms and forces that stand in its own part."""
    directory = run("point")
    log, table = directory / "output", directory / "point-forces-1_0.xyz"
    one = log.read_text() + table.read_text()
    atom = "      1    1 Ar1          0.000000"
    assert one.count(atom) == 1 and one.count("0.00011509") == 1
    other = one.replace(atom, "      1    1 Ar1          0.100000")
    log.write_text(one + other.replace("0.00011509", "0.00022222"))
    table.unlink()
    frames = open_cp2k(directory).read()
    assert frames.positions[:, 0, 0].tolist() == [0.0, 0.1]
    assert present(frames.forces)[:, 0, 0] == pytest.approx(
        np.array([0.00011509, 0.00022222]) * FORCE, rel=1e-6
    )
    assert (frames.cell[0] == frames.cell[1]).all()


LOW = """\
 CP2K| version string:                                       CP2K version 2023.1
 CP2K| Input file name                                                 point.inp
 GLOBAL| Project name                                                        low
 GLOBAL| Run type                                                   ENERGY_FORCE
 ENERGY| Total FORCE_EVAL ( QS ) energy [a.u.]:              -17.200000000000000

 ATOMIC FORCES in [a.u.]

 # Atom   Kind   Element          X              Y              Z
      1      1      O           0.01000000    -0.02000000     0.00000000
      2      2      H          -0.01000000     0.02000000     0.00000000
 SUM OF ATOMIC FORCES           0.00000000     0.00000000     0.00000000     0.00000000
"""


@pytest.mark.parametrize(
    "atoms",
    [
        "&COORD\n O_w 1 2 3 WAT\n H_w 1 2 3.96 WAT\n&END",
        "&COORD\n UNIT [nm]\n O_w 0.1 0.2 0.3\n H_w 0.1 0.2 0.396\n&END",
        "&COORD\n SCALED\n O_w 1/8 1/4 3/8\n H_w 0.125 0.25 0.495\n&END",
        "&COORD\n@INCLUDE 'atoms.inc'\n&END",
        "&TOPOLOGY\n COORD_FILE_NAME atoms.xyz\n&END",
    ],
)
def test_atoms_of_the_input_where_the_log_does_not_print_them(tmp_path: Path, atoms: str) -> None:
    """PRINT_LEVEL LOW leaves out atoms and cell."""
    (tmp_path / "output").write_text(LOW)
    (tmp_path / "atoms.inc").write_text(" O_w 1.0 2.0 3.0\n H_w 1.0 2.0 3.96\n")
    (tmp_path / "atoms.xyz").write_text("2\n\nO_w 1.0 2.0 3.0\nH_w 1.0 2.0 3.96\n")
    kinds = "&KIND O_w\n ELEMENT O\n&END\n&KIND H_w\n ELEMENT H\n MASS 2.014\n&END"
    cell = "&CELL\n ABC 8 8 8\n&END"
    text = f"&FORCE_EVAL\n&SUBSYS\n{cell}\n{atoms}\n{kinds}\n&END\n&END"
    (tmp_path / "point.inp").write_text(text)
    frames = open_cp2k(tmp_path).read()
    assert frames.positions[0] == pytest.approx(np.array([[1, 2, 3], [1, 2, 3.96]]))
    assert frames.symbols == ("O", "H") and frames.masses[1] == 2.014
    assert frames.cell[0] == pytest.approx(8 * np.eye(3))
    assert present(frames.forces)[0, 0] == pytest.approx(np.array([0.01, -0.02, 0]) * FORCE)
    (tmp_path / "point.inp").write_text(text.replace(atoms, ""))
    assert "this log does not print the atoms, and no input beside" in message(tmp_path)
