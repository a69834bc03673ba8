"""Names and formats of CP2K's files beside the usual ones: FILENAME, tables, DCD, PDB, EXTXYZ."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import present
from cp2k_output import BOHR_A, DATA, HARTREE_EV, edit, message, unpacked

from mld_ff.sources.cp2k import open_cp2k, read_cp2k

FORCE = HARTREE_EV / BOHR_A
VELOCITY = BOHR_A / 0.02418884


@pytest.fixture
def run(tmp_path: Path) -> Callable[[str], Path]:
    """Copy a run of tests/data/cp2k to where it may be changed; large files are unpacked."""
    return lambda name: unpacked(name, tmp_path)


# --- names ----------------------------------------------------------------------------------------


def test_files_that_a_filename_calls_otherwise(run: Callable[[str], Path]) -> None:
    """`&FORCES FILENAME nvt.force` prints PROJ-nvt.force-frc-1.xyz."""
    directory = run("argon")
    expected = read_cp2k(directory).forces
    other = directory / "argon-nvt.force-frc-1.xyz"
    (directory / "argon-frc-1.xyz").rename(other)
    source = open_cp2k(directory)
    assert "argon-nvt.force-frc-1.xyz was taken as forces." in source.notes
    assert source.read().forces == pytest.approx(expected)
    named = open_cp2k(directory, forces=other)  # completes what is found
    assert named.read().forces == pytest.approx(expected)
    edit(other, "E = ", "E = 1", count=100)
    assert (
        message(directory)
        == f"{other}: its name is not that of argon-pos-1.xyz, nor are the energies in its comment"
        " lines; put each run into its own directory, or name what belongs together with --file"
        " ROLE=FILE"
    )


def test_input_by_any_name_and_project_by_filename(run: Callable[[str], Path]) -> None:
    directory = run("argon")
    (directory / "argon.inp").rename(directory / "cp2k.in")
    assert read_cp2k(directory).cell[0, 0, 0] == 13
    (directory / "argon-pos-1.xyz").rename(directory / "argon-traj-pos-1.xyz")
    edit(directory / "cp2k.in", "&TRAJECTORY", "&TRAJECTORY\n FILENAME traj")
    assert read_cp2k(directory).n_frames == 9


def test_tables_of_forces_in_files_of_their_own(run: Callable[[str], Path], tmp_path: Path) -> None:
    """`FORCE_EVAL / PRINT / FORCES FILENAME forces`: a file for each step."""
    table = (DATA / "point" / "point-forces-1_0.xyz").read_text()
    frame = "4\n i = {0}, time = {0}.0, E = -0.0\nAr 0 0 0\nAr 4 0 0\nNe 0 4 0\nNe 4 4 {0}\n"
    (tmp_path / "point-pos-1.xyz").write_text("".join(frame.format(n) for n in range(3)))
    (tmp_path / "point-1.cell").write_text("0 0 13 0 0 0 13 0 0 0 13 2197\n")
    for step, force in ((0, "0.00011509"), (2, "0.00033333")):
        text = table.replace("0.00011509", force)
        (tmp_path / f"point-forces-1_{step}.xyz").write_text(text)
    frames = read_cp2k(tmp_path)
    assert frames.step.tolist() == [0, 2]
    first = present(frames.forces)[:, 0, 0]
    assert first == pytest.approx(np.array([0.00011509, 0.00033333]) * FORCE, rel=1e-6)
    (tmp_path / "point-forces-1_0.xyz").rename(tmp_path / "mine.txt")
    named = read_cp2k(tmp_path, forces=tmp_path / "mine.txt")
    assert named.step.tolist() == [0] and named.forces is not None
    named = read_cp2k(
        None,
        positions=tmp_path / "point-pos-1.xyz",
        cells=tmp_path / "point-1.cell",
        forces=tmp_path / "mine.txt",
    )
    assert named.n_frames == 1


# --- other formats --------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "digits"), [("ndcd", 1e-5), ("npdb", 6e-4)])
def test_positions_as_dcd_and_pdb(name: str, digits: float) -> None:
    """Of a run at constant volume that began like that of `npti`; velocity Verlet in between."""
    frames = read_cp2k(DATA / name)
    assert frames.step.tolist() == [0, 2, 4, 6]
    assert frames.symbols == ("Ar", "Ar", "Ne", "Ne")
    assert frames.masses[2:].tolist() == [21, 21]
    assert frames.cell[0].diagonal() == pytest.approx([13, 13.1, 13.2])
    assert frames.positions[0, 3] == pytest.approx([4, 4, 4], abs=digits)
    assert frames.forces is not None
    moved = frames.positions[1] - frames.positions[0]
    assert np.abs(moved).max() < 0.1 < 1e3 * np.abs(moved).max()


def test_all_as_dcd(run: Callable[[str], Path]) -> None:
    """The same run as `ndcd`, whose forces are XYZ; atoms from the input, else from nowhere."""
    expected, frames = read_cp2k(DATA / "ndcd"), read_cp2k(DATA / "ndcds")
    assert frames.step.tolist() == list(range(7)) and frames.time[-1] == 12
    assert frames.symbols == expected.symbols and (frames.masses == expected.masses).all()
    assert present(frames.forces)[::2] == pytest.approx(present(expected.forces), abs=1e-8)
    assert present(frames.velocities)[-1, 0] == pytest.approx(
        np.array([0.0000338986, 0.0000003061, 0.0000022176]) * VELOCITY, abs=3e-9
    )
    directory = run("ndcds")
    edit(
        directory / "ndcd.inp",
        "&TRAJECTORY\n      FORMAT DCD",
        "&TRAJECTORY\n FORMAT DCD_ALIGNED_CELL",
    )
    assert read_cp2k(directory).n_frames == 7
    edit(directory / "ndcd.inp", "ABC [nm] 1.30 1.31 1.32", "A 0 13 0\nB 13.1 0 0\nC 0 0 13.2")
    assert "FORMAT DCD_ALIGNED_CELL turned the positions until vector a" in message(directory)
    edit(directory / "ndcd.inp", "DCD_ALIGNED_CELL", "DCD")
    content = bytearray((directory / "ndcd-vel-1.dcd").read_bytes())
    content[-26] ^= 1
    (directory / "ndcd-vel-1.dcd").write_bytes(content)
    assert message(directory).endswith("ndcd-vel-1.dcd: frame 7 is damaged")
    (directory / "ndcd-vel-1.dcd").write_bytes(content[:60])
    assert message(directory).endswith("cannot be read as a DCD file: it ends in its head")
    (directory / "ndcd-vel-1.dcd").unlink()
    (directory / "ndcd.inp").unlink()
    assert "this file does not say which atoms it holds" in message(directory)


def test_path_integrals(run: Callable[[str], Path]) -> None:
    """The centroid's files have a name of their own, and springs move what forces do not."""
    directory = run("argon")
    (directory / "argon.inp").write_text(
        "&GLOBAL\nPROJECT argon\nRUN_TYPE PINT\n&END\n&MOTION\n&PINT\nDT 2\nTEMP 60\n&END\n"
        "&MD\nTIMESTEP 9\nTEMPERATURE 90\n&END\n&END\n"
        "&FORCE_EVAL\n&SUBSYS\n&CELL\nABC 13 13 13\n&END\n&END\n&END\n"
    )
    for name in ("pos", "frc", "vel"):
        for file in directory.glob(f"argon-{name}-1.xyz"):
            file.rename(directory / f"argon-centroid-{name}-1.xyz")
    source = open_cp2k(directory)
    assert "argon.inp" in source.origin.files and not source.origin.is_dynamics
    assert (source.origin.timestep_fs, source.origin.temperature_K) == (2, 60)


def test_extended_xyz_of_2026(run: Callable[[str], Path]) -> None:
    """FORMAT EXTXYZ: the cell stands in the comment line, with step, time and energy."""
    directory = run("argon")
    expected = read_cp2k(directory)
    (directory / "argon.inp").unlink()
    for name, column in (("pos", "pos"), ("frc", "force")):
        file = directory / f"argon-{name}-1.xyz"
        lines = file.read_text().splitlines(keepends=True)
        for k in range(1, len(lines), 5):
            numbers = lines[k].replace(",", "").split()
            lines[k] = (
                'Lattice="13.0000000000 0.0000000000 0.0000000000 0.0000000000 13.0000000000'
                ' 0.0000000000 0.0000000000 0.0000000000 13.0000000000"'
                f' Properties=species:S:1:{column}:R:3 pbc="T T T" Step={numbers[2]}'
                f" Time={numbers[5]} Energy={numbers[8]}\n"
            )
        file.write_text("".join(lines))
    frames = read_cp2k(directory)
    assert (frames.positions == expected.positions).all()
    assert frames.forces == pytest.approx(expected.forces)
    assert (frames.cell == expected.cell).all()
    assert (frames.step == expected.step).all() and (frames.time == expected.time).all()
    assert frames.energy == pytest.approx(expected.energy)
    edit(directory / "argon-pos-1.xyz", "13.0000000000 0.0", "thirteen 0.0")
    assert "argon-pos-1.xyz:2: expected the nine numbers of a cell" in message(directory)
