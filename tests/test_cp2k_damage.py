"""What is wrong within files of CP2K: the place, what was expected, what was found."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import present
from cp2k_output import (
    DATA,
    edit,
    edit_line,
    frames_of,
    message,
    unpacked,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mld_ff.errors import InputError
from mld_ff.sources.cp2k import open_cp2k, read_cp2k


@pytest.fixture
def run(tmp_path: Path) -> Callable[[str], Path]:
    """Copy a run of tests/data/cp2k to where it may be changed; large files are unpacked."""
    return lambda name: unpacked(name, tmp_path)


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        (
            "NaN",
            (
                "; the run has blown up there: cut the files before this step, or make the TIMESTEP"
                " shorter"
            ),
        ),
        (
            "-Infinity",
            (
                "; the run has blown up there: cut the files before this step, or make the TIMESTEP"
                " shorter"
            ),
        ),
        (
            "*********",
            (
                "; the run has blown up there: cut the files before this step, or make the TIMESTEP"
                " shorter"
            ),
        ),
        ("0.00x", ""),
    ],
)
def test_numbers_that_are_none(run: Callable[[str], Path], token: str, reason: str) -> None:
    directory = run("water64")
    file = directory / "w64-frc-1.xyz"
    edit_line(file, 2 * 194 + 5, f"  O         0.0134807191   {token}   0.003\n")
    source = open_cp2k(directory)
    chunks = source.chunks(1)
    assert next(chunks).n_frames == next(chunks).n_frames == 1
    with pytest.raises(InputError) as caught:
        next(chunks)
    assert (
        str(caught.value)
        == f"{file}:393: step 40, atom 3: expected a finite number, found '{token}'{reason}"
    )


def test_row_with_too_few_numbers(run: Callable[[str], Path]) -> None:
    directory = run("argon")
    edit_line(directory / "argon-pos-1.xyz", 9, " Ar 1.0 2.0\n")
    assert (
        message(directory)
        == f"{directory / 'argon-pos-1.xyz'}:9: step 1, atom 2: expected a label and three numbers,"
        " found 'Ar 1.0 2.0'"
    )
    edit_line(directory / "argon-pos-1.xyz", 4, " Ar 1.0 2.0\n")
    assert "argon-pos-1.xyz:4: step 0, atom 2: expected a label and three numbers" in message(
        directory
    )


def test_order_of_atoms_changes_within_a_file(run: Callable[[str], Path]) -> None:
    directory = run("water64")
    file = directory / "w64-pos-1.xyz"
    lines = file.read_text().splitlines(keepends=True)
    lines[194 + 65], lines[194 + 66] = lines[194 + 66], lines[194 + 65]
    file.write_text("".join(lines))
    assert (
        message(directory)
        == f"{file}:260: step 20, atom 64: expected O as in the first frame, found H; "
        "the atoms must keep their order, so take all files from one run"
    )


def test_order_of_atoms_differs_between_files(run: Callable[[str], Path]) -> None:
    directory = run("water64")
    file = directory / "w64-frc-1.xyz"
    file.write_text("".join(sort_hydrogen_first(frame) for frame in frames_of(file, 192)))
    assert (
        message(directory)
        == f"{file}:3: atom 1: expected O as in w64-pos-1.xyz:3, found H; the files must come from"
        " the same run"
    )


def sort_hydrogen_first(frame: str) -> str:
    lines = frame.splitlines(keepends=True)
    return "".join(lines[:2] + lines[66:] + lines[2:66])


def test_number_of_atoms_differs(run: Callable[[str], Path]) -> None:
    directory = run("argon")
    pos, frc = directory / "argon-pos-1.xyz", directory / "argon-frc-1.xyz"
    two = "".join(
        "       2\n" + "".join(f.splitlines(keepends=True)[1:4]) for f in frames_of(frc, 3)
    )
    whole = frc.read_text()
    frc.write_text(two)
    assert (
        message(directory)
        == f"{frc}:1: expected 3 atoms as in argon-pos-1.xyz, found 2; the files must come from the"
        " same run"
    )
    frc.write_text(whole)
    pos.write_text(pos.read_text() + two)
    assert (
        message(directory) == f"{pos}:56: this frame has 2 atoms, but the frames before it have 3; "
        "put runs of different systems into different directories"
    )


def test_all_forces_zero(run: Callable[[str], Path]) -> None:
    directory = run("reftraj")
    file = directory / "reftraj-frc-1.xyz"
    frames = frames_of(file, 3)
    rows = " Ar         0.0000000000        0.0000000000        0.0000000000\n" * 3
    file.write_text("".join(frames[:2]) + "".join(frames[2].splitlines(keepends=True)[:2]) + rows)
    assert (
        message(directory)
        == f"{file}:11: step 2: all forces are zero, so CP2K did not compute them; with ENSEMBLE"
        " REFTRAJ the section &MOTION / &MD / &REFTRAJ needs EVAL ENERGY_FORCES (before release"
        " 2023.2 both EVAL_ENERGY_FORCES .TRUE. and EVAL_FORCES .TRUE.)"
    )


def test_a_perfect_crystal_begins_without_forces(run: Callable[[str], Path]) -> None:
    """By symmetry, which no later frame has, and no given frames of REFTRAJ."""
    directory = run("argon")
    file = directory / "argon-frc-1.xyz"
    frames = frames_of(file, 3)
    rows = " Ar        -0.0000000000        0.0000000000        0.0000000000\n" * 3
    still = ["".join(frame.splitlines(keepends=True)[:2]) + rows for frame in frames]
    file.write_text(still[0] + "".join(frames[1:]))
    forces = present(read_cp2k(directory).forces)
    assert not forces[0].any() and forces[1].any()
    file.write_text("".join(still[:2]) + "".join(frames[2:]))
    assert message(directory).startswith(f"{file}:1: step 0: all forces are zero")


def test_no_step_in_common(run: Callable[[str], Path]) -> None:
    directory = run("argon")
    file = directory / "argon-frc-1.xyz"
    frames = frames_of(file, 3)
    file.write_text(
        frames[0].replace("i =        0", "i =       95")
        + frames[0].replace("i =        0", "i =       99")
    )
    assert (
        message(directory)
        == f"{directory / 'argon-pos-1.xyz'}: positions and forces share no step: argon-pos-1.xyz"
        " has steps 0, 1, 2 … 8; argon-frc-1.xyz has steps 95, 99; let CP2K print them at the"
        " same steps (the same &EACH / MD under &MOTION / &PRINT) and take them from the"
        " same run"
    )


def test_not_a_file_of_cp2k(run: Callable[[str], Path]) -> None:
    directory = run("argon")
    file = directory / "argon-pos-1.xyz"
    edit_line(file, 7, "a molecule\n")
    assert (
        message(directory)
        == f"{file}:7: expected CP2K's ' i = STEP, time = …, E = …', found 'a molecule'; frames are"
        " matched between files by this step number (FORMAT XMOL, CP2K's default, prints it)"
    )
    edit_line(file, 6, "ITEM: TIMESTEP\n")
    assert (
        message(directory)
        == f"{file}:6: expected the number of atoms (3), which begins a frame, found 'ITEM:"
        " TIMESTEP'; is this an XYZ file that CP2K printed (FORMAT XMOL, its default)?"
    )
    edit_line(file, 1, "ITEM: TIMESTEP\n")
    assert f"{file}:1: expected the number of atoms, found 'ITEM: TIMESTEP'" in message(directory)


def test_file_that_shrinks_while_it_is_read(run: Callable[[str], Path]) -> None:
    directory = run("argon")
    source = open_cp2k(directory)
    file = directory / "argon-pos-1.xyz"
    file.write_text(file.read_text()[:400])
    with pytest.raises(InputError, match="has become shorter while it was read; start again"):
        source.read()


def test_unknown_element(run: Callable[[str], Path]) -> None:
    directory = run("argon")
    for name in ("argon-pos-1.xyz", "argon-frc-1.xyz"):
        file = directory / name
        file.write_text(file.read_text().replace(" Ar ", " Qq "))
    assert (
        message(directory)
        == f"{directory / 'argon-pos-1.xyz'}:3: 'Qq' is no element; say which it is in the CP2K"
        " input: &KIND Qq with ELEMENT inside, and give that input to the reader"
    )
    edit(directory / "argon.inp", "&COORD", "&KIND Qq\n ELEMENT Ar\n&END\n&COORD")
    assert open_cp2k(directory).symbols == ("Ar",) * 3


@settings(
    deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_damaged_bytes_never_give_a_traceback(tmp_path: Path, data: st.DataObject) -> None:
    """Whatever is done to a few bytes of a run, there are frames or an InputError that names a
    place.
    """
    files = {file.name: file.read_bytes() for file in (DATA / "npt").iterdir()}
    name = data.draw(st.sampled_from(sorted(files)))
    at = data.draw(st.integers(0, len(files[name]) - 1))
    length, junk = data.draw(st.integers(0, 80)), data.draw(st.binary(max_size=40))
    files[name] = files[name][:at] + junk + files[name][at + length :]
    for file, content in files.items():
        (tmp_path / file).write_bytes(content)
    try:
        trajectory = read_cp2k(tmp_path)
    except InputError as error:
        assert str(error).startswith(str(tmp_path))
    else:
        assert np.isfinite(trajectory.positions).all() and np.isfinite(trajectory.cell).all()


def test_forces_in_the_log(run: Callable[[str], Path]) -> None:
    """FILENAME __STD_OUT__: refused with the command that takes them out, which works."""
    directory = run("argon")
    file, log = directory / "argon-frc-1.xyz", directory / "LOG"
    whole = file.read_text()
    log.write_text("".join(f" MD| Step\n{frame} MD| Energy 3 4\n" for frame in frames_of(file, 3)))
    file.unlink()
    edit(directory / "argon.inp", "    &FORCES\n", "    &FORCES\n      FILENAME __STD_OUT__\n")
    said = message(directory, require_forces=True)
    command = "awk 'NF == 1 && $1 == 3 {n = 5} n-- > 0' LOG > argon-frc-1.xyz"
    assert said == (
        f"{directory}: the forces stand in the log (FILENAME __STD_OUT__), from where they are not"
        " read; if nothing else of the kind does, take them out of it with `" + command + "`"
    )
    assert any(
        "FILENAME __STD_OUT__" in note for note in open_cp2k(directory, require_forces=False).notes
    )
    subprocess.run(command, shell=True, cwd=directory, check=True)
    assert file.read_text() == whole
