"""Which files of a CP2K run are taken, and what is said if it is not plain."""

from __future__ import annotations

import bz2
import gzip
import lzma
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cp2k_output import (
    DATA,
    edit,
    message,
    unpacked,
)

from mld_ff.sources.cp2k import open_cp2k, read_cp2k
from mld_ff.sources.cp2k.read import points


@pytest.fixture
def run(tmp_path: Path) -> Callable[[str], Path]:
    """Copy a run of tests/data/cp2k to where it may be changed; large files are unpacked."""
    return lambda name: unpacked(name, tmp_path)


def test_missing_forces(run: Callable[[str], Path]) -> None:
    directory = run("water64")
    (directory / "w64-frc-1.xyz").unlink()
    assert (
        message(directory)
        == f"{directory}: positions are there, but no forces (w64-frc-1.xyz); CP2K prints them if"
        " its input has\n&MOTION\n  &PRINT\n    &FORCES\n      &EACH\n        MD 1\n      &END"
        " EACH\n    &END FORCES\n  &END PRINT\n&END MOTION\n(or name the file with --file"
        " forces=FILE)"
    )


def test_missing_positions(run: Callable[[str], Path]) -> None:
    directory = run("argon")
    (directory / "argon-pos-1.xyz").rename(directory / "argon.vel")
    assert (
        message(directory)
        == f"{directory}: no positions of CP2K found: sought PROJ-pos-1.xyz, PROJ-frc-1.xyz,"
        " PROJ-vel-1.xyz, PROJ-1.ener, PROJ-1.cell, PROJ-1.restart, and inputs and logs by any name"
        " (each also .gz, .bz2, .xz; positions also .dcd, .pdb); there is argon-1.ener,"
        " argon-frc-1.xyz, argon.inp, argon.vel. CP2K prints positions with &MOTION / &PRINT /"
        " &TRAJECTORY; name a file with another name with --file positions=FILE"
    )


def test_directory_without_output(tmp_path: Path) -> None:
    assert "no positions of CP2K found: sought PROJ-pos-1.xyz" in message(tmp_path)
    assert "; there is nothing. " in message(tmp_path)


def test_runs_in_directories_below_are_named(run: Callable[[str], Path], tmp_path: Path) -> None:
    deep = tmp_path / "notes" / "deep"
    deep.mkdir(parents=True)
    (deep / "x-pos-1.xyz").touch()
    runs = [run("argon"), deep, run("npt")]
    told = ", ".join(map(str, runs))
    assert message(tmp_path) == (
        f"{tmp_path}: no positions of CP2K here, but in {told}: give one of them"
    )


def test_no_such_file(tmp_path: Path) -> None:
    assert message(tmp_path / "x") == f"{tmp_path / 'x'}: no such file or directory"
    missing = tmp_path / "y"
    assert message(None, positions=missing) == f"{missing}: no such file of positions"
    assert (
        message(None, positions=tmp_path)
        == f"{tmp_path}: this is a directory, expected a file of positions"
    )
    (tmp_path / "frames.txt").touch()
    assert message([tmp_path / "frames.txt"]).startswith(
        f"{tmp_path / 'frames.txt'}: the name does not tell what this file holds; names known are"
        " PROJ-pos-1.xyz, "
    )


def test_two_projects_in_one_directory(run: Callable[[str], Path]) -> None:
    directory = run("argon")
    shutil.copytree(DATA / "reftraj", directory, dirs_exist_ok=True)
    assert (
        message(directory)
        == f"{directory}: found the output of 2 projects (argon-pos-1.xyz, reftraj-pos-1.xyz); name"
        " the one to read, for example --file positions=argon-pos-1.xyz, or put each run into its"
        " own directory"
    )
    source = open_cp2k(directory, positions=directory / "reftraj-pos-1.xyz")
    assert list(source.origin.files) == [
        "reftraj-pos-1.xyz",
        "reftraj-frc-1.xyz",
        "reftraj-1.ener",
        "reftraj.inp",
    ]
    assert source.notes[0] == "argon.inp: not used, its PROJECT is argon, not reftraj."


def test_same_file_twice(run: Callable[[str], Path]) -> None:
    directory = run("argon")
    forces = directory / "argon-frc-1.xyz"
    forces.with_suffix(".xyz.gz").write_bytes(gzip.compress(forces.read_bytes()))
    assert (
        message(directory)
        == f"{directory}: found several files with forces: argon-frc-1.xyz, argon-frc-1.xyz.gz; "
        "name the one to read with --file forces=FILE"
    )
    assert open_cp2k(directory, forces=forces).n_frames == 9


def test_restart_backups_are_ignored(run: Callable[[str], Path]) -> None:
    directory = run("npt")
    shutil.copy(directory / "npt-1.restart", directory / "npt-1.restart.bak-1")
    assert open_cp2k(directory).n_frames == 4


def test_several_inputs(run: Callable[[str], Path]) -> None:
    directory = run("argon")
    shutil.copy(directory / "argon.inp", directory / "again.inp")
    assert open_cp2k(directory).n_frames == 9  # they say the same
    edit(directory / "again.inp", "ABC 13 13 13", "ABC 14 14 14")
    assert (
        message(directory)
        == f"{directory}: several inputs fit and differ: again.inp, argon.inp; name the one with"
        " --file input=FILE"
    )
    assert read_cp2k(directory, input=directory / "again.inp").cell[0, 0, 0] == 14


def test_of_several_inputs_the_one_that_the_log_names(run: Callable[[str], Path]) -> None:
    directory = run("argon")
    shutil.copy(directory / "argon.inp", directory / "relax.inp")
    edit(directory / "relax.inp", "ABC 13 13 13", "ABC 14 14 14")
    (directory / "orca.inp").write_text("! B3LYP def2-SVP\n* xyz 0 1\n*\n")
    (directory / "slurm-7.out").write_text(
        " CP2K| version string:                  CP2K version 2023.1\n"
        " CP2K| Input file name                            relax.inp\n"
        " GLOBAL| Project name                                 argon\n"
    )
    assert read_cp2k(directory).cell[0, 0, 0] == 14
    for name in ("argon.inp", "relax.inp"):
        (directory / name).rename(directory / f"{name[:-4]}.in")
    edit(directory / "slurm-7.out", "relax.inp", "argon.in ")
    assert read_cp2k(directory).cell[0, 0, 0] == 13


def test_a_damaged_log_keeps_nothing_from_us(run: Callable[[str], Path]) -> None:
    directory = run("npt")
    (directory / "old.log.gz").write_bytes(b"junk")
    assert open_cp2k(directory).origin.version == "2023.1"
    (directory / "older.out").write_text(" CP2K| version string:    CP2K version 8.2\n")
    assert open_cp2k(directory).origin.version is None  # two versions: which one is not known


@pytest.mark.parametrize(
    ("periodic", "widths", "felt"),
    [("none", (16.4, 16.4, 13.0), "felt but by charges"), ("XY", (13.0, 13.0, 19.7), "felt")],
)
def test_where_nothing_is_periodic_no_image_is_felt(
    run: Callable[[str], Path], periodic: str, widths: tuple[float, ...], felt: str
) -> None:
    """Three atoms, 4 Å long and wide: the cell grows as far as cutoffs may reach, for a slab
    as far as charges do."""
    directory = run("argon")
    edit(directory / "argon.inp", "ABC 13 13 13", f"ABC 13 13 13\nPERIODIC {periodic}")
    source = open_cp2k(directory)
    told = " × ".join(f"{width:.1f}" for width in widths)
    assert (
        f"The input says PERIODIC {periodic.upper()}; engines know periodic cells only: the frames"
        f" are given with one of {told} Å, where no image is {felt}."
    ) in source.notes
    assert np.diagonal(source.read().cell, axis1=1, axis2=2).tolist() == [list(widths)] * 9


def test_no_cell(run: Callable[[str], Path]) -> None:
    directory = run("argon")
    edit(directory / "argon.inp", "PROJECT argon", "PROJECT other")
    assert (
        message(directory)
        == f"{directory}: no cell found: sought PROJ-1.cell, &FORCE_EVAL / &SUBSYS / &CELL in the"
        " input and PROJ-1.restart, and CELL| in a log (read: none of them is there); put the CP2K"
        " input or the log beside the trajectory or name it with --file input=FILE or --file"
        " log=FILE, or let CP2K print &MOTION / &PRINT / &CELL"
    )


@pytest.mark.parametrize(
    ("old", "new", "kind"),
    [
        ("ENSEMBLE NVE", "ENSEMBLE NPT_I", "ENSEMBLE NPT_I"),
        ("ENSEMBLE NVE", "ENSEMBLE REFTRAJ\n&REFTRAJ\nVARIABLE_VOLUME\n&END", "ENSEMBLE REFTRAJ"),
        ("ENSEMBLE NVE\n", "\n&END MD\n&MD\n", None),
    ],
)
def test_cell_that_changes_without_cell_file(
    run: Callable[[str], Path], old: str, new: str, kind: str | None
) -> None:
    directory = run("argon")
    edit(directory / "argon.inp", old, new)
    if kind is None:
        edit(directory / "argon.inp", "RUN_TYPE MD", "RUN_TYPE CELL_OPT")
    assert (
        message(directory)
        == f"{directory}: the cell changes in this run ({kind or 'RUN_TYPE CELL_OPT'}), and there"
        " is no PROJ-1.cell; CP2K prints it with &MOTION / &PRINT / &CELL, as often as"
        " &TRAJECTORY (or name the file with --file cells=FILE)"
    )


def test_empty_and_damaged_files(run: Callable[[str], Path]) -> None:
    directory = run("water64")
    forces, cell = directory / "w64-frc-1.xyz", directory / "w64-1.cell"
    text = forces.read_bytes()
    forces.write_bytes(b"")
    assert message(directory) == f"{forces}: the file is empty; has CP2K begun to write it?"
    forces.write_bytes(text[:2000])
    assert (
        message(directory)
        == f"{forces}:1: the file ends within its first frame, which is half-written; let CP2K"
        " run on"
    )
    forces.write_bytes(text.replace(b"     192\n", b"     193\n"))
    assert (
        message(directory)
        == f"{forces}:1: no frame of this file has as many atoms as its first line says"
    )
    forces.write_bytes(text)
    cell.write_text("# nothing yet\n")
    assert (
        message(directory)
        == f"{cell}: there is no row in this file; let CP2K run on, or remove it if the cell is"
        " fixed"
    )
    cell.write_text("       0       0.000       x\n")
    assert (
        message(directory)
        == f"{cell}:1: expected step, time, nine cell components and the volume, found '0      "
        " 0.000       x'"
    )


COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".xz": lzma.compress,
    ".bz2": bz2.compress,
}


@pytest.mark.parametrize("suffix", COMPRESS)
def test_truncated_compressed_file(run: Callable[[str], Path], suffix: str) -> None:
    directory = run("water64")
    plain = directory / "w64-frc-1.xyz"
    packed = directory / f"w64-frc-1.xyz{suffix}"
    packed.write_bytes(COMPRESS[suffix](plain.read_bytes())[:-500])
    plain.unlink()
    assert (
        message(directory)
        == f"{packed}: this {suffix} file is truncated or damaged (Compressed file ended before the"
        " end-of-stream marker was reached); copy it again, or compress the file anew once CP2K"
        " has finished writing it"
    )
    packed.write_bytes(b"not compressed at all")
    assert message(directory).startswith(f"{packed}: this {suffix} file is truncated or damaged (")


def test_input_and_energies_of_another_run(run: Callable[[str], Path]) -> None:
    """Of the same PROJECT: cell and units, temperatures and seconds would be another run's."""
    directory = run("argon")
    table = directory / "argon-1.ener"
    table.write_text(table.read_text().replace(" -0.0006", " -9.0006"))
    source = open_cp2k(directory)
    assert "argon-1.ener: not used, its energies are not those of the frames." in source.notes
    assert source.seconds_per_step is None
    own = (directory / "argon.inp").read_text()
    fragment = "&FORCE_EVAL\n&SUBSYS\n&COORD\nAr 1 1 1\n&END\n&END\n&END\n"
    (directory / "argon.inp").write_text(fragment + own)  # by FORCE_EVAL_ORDER any may be the first
    assert open_cp2k(directory).n_frames == source.n_frames
    (directory / "argon.inp").write_text(own)
    edit(directory / "argon.inp", "    &END COORD", "      Ar 6 6 6\n    &END COORD")
    assert message(directory) == (
        f"{directory}/argon.inp: is the input of 4 atoms, and argon-pos-1.xyz has 3: name the run's"
        " own with --file input=FILE"
    )


def test_directories_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a home, say: files of a thousand directories tell enough."""
    for number in range(30):
        (tmp_path / f"{number}" / "deep").mkdir(parents=True)
    looked = list[Path]()

    def look(place: Path) -> list[Any]:
        looked.append(place)
        return []

    monkeypatch.setattr(points, "MOST_WITHOUT", 10)
    monkeypatch.setattr(points, "_points_in", look)
    assert "no positions of CP2K found" in message(tmp_path)
    assert [p.name for p in looked[:5]] == [tmp_path.name, "0", "deep", "1", "deep"]
    assert len(looked) == 10
