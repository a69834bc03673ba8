"""The CP2K reader on snippets of real output, and on every way in which such output can be
wrong.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import ase.io
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mld_ff.errors import InputError
from mld_ff.sources.cp2k import open_cp2k, read_cp2k

DATA = Path(__file__).parent / "data" / "cp2k"
HARTREE_EV, BOHR_A, AU_TIME_FS = 27.211386, 0.529177, 0.02418884
"""Literal on purpose: independent of mld_ff.units."""


@pytest.fixture
def run(tmp_path: Path) -> Callable[[str], Path]:
    """Copy a run of tests/data/cp2k to where it may be changed; large files are unpacked."""

    def copy(name: str) -> Path:
        directory = tmp_path / name
        shutil.copytree(DATA / name, directory)
        for packed in directory.glob("*.xz"):
            packed.with_suffix("").write_bytes(lzma.decompress(packed.read_bytes()))
            packed.unlink()
        return directory

    return copy


def edit(file: Path, old: str, new: str, count: int = 1) -> int:
    """Replace text and return the line number of its first occurrence."""
    text = file.read_text()
    assert old in text, f"{old!r} is not in {file}"
    file.write_text(text.replace(old, new, count))
    return text[: text.index(old)].count("\n") + 1


def edit_line(file: Path, number: int, new: str) -> None:
    lines = file.read_text().splitlines(keepends=True)
    lines[number - 1] = new
    file.write_text("".join(lines))


def message(*args: object, **options: object) -> str:
    """The error that opening or reading gives."""
    with pytest.raises(InputError) as caught:
        read_cp2k(*args, **options)  # type: ignore[arg-type]
    return str(caught.value)


def frames_of(file: Path, n_atoms: int) -> list[str]:
    lines = file.read_text().splitlines(keepends=True)
    return ["".join(lines[i : i + n_atoms + 2]) for i in range(0, len(lines), n_atoms + 2)]


# --- what is read, and its units ------------------------------------------------------------------


def test_water_network_run() -> None:
    source = open_cp2k(DATA / "water64")
    trajectory = source.read()
    assert source.n_frames == trajectory.n_frames == 3
    assert source.notes == []
    assert trajectory.symbols == ("O",) * 64 + ("H",) * 128
    assert trajectory.masses[[0, -1]] == pytest.approx([15.999, 1.008], abs=1e-3)
    assert trajectory.step.tolist() == [0, 20, 40]
    assert trajectory.time.tolist() == [0, 10, 20]
    assert trajectory.positions[0, 0].tolist() == [7.5387860000, 2.0562100000, 4.5207390000]
    assert trajectory.cell.shape == (3, 3, 3)
    assert trajectory.cell[2] == pytest.approx(12.444661 * np.eye(3))
    force = np.array([0.0134807191, -0.0025891445, 0.0030875953]) * HARTREE_EV / BOHR_A
    assert trajectory.forces is not None and trajectory.forces[0, 0] == pytest.approx(
        force, rel=2e-6
    )
    velocity = np.array([0.0001036925, -0.0000769152, -0.0000944530]) * BOHR_A / AU_TIME_FS
    assert trajectory.velocities is not None and trajectory.velocities[0, 0] == pytest.approx(
        velocity, rel=2e-6
    )
    assert trajectory.energy is not None and trajectory.energy[0] == pytest.approx(
        3751.2582902605 * HARTREE_EV
    )
    assert trajectory.temperature()[0] == pytest.approx(300.0, rel=1e-4)


@pytest.mark.parametrize(
    ("name", "key"), [("pos", "positions"), ("frc", "forces"), ("vel", "velocities")]
)
def test_every_number_is_the_one_that_ase_reads(
    run: Callable[[str], Path], name: str, key: str
) -> None:
    directory = run("water64")
    frames = ase.io.read(directory / f"w64-{name}-1.xyz", ":")
    factor = {"pos": 1.0, "frc": HARTREE_EV / BOHR_A, "vel": BOHR_A / AU_TIME_FS}[name]
    expected = factor * np.array([atoms.positions for atoms in frames])
    assert getattr(read_cp2k(directory), key) == pytest.approx(expected, rel=2e-6, abs=1e-12)


def test_source_says_where_frames_come_from() -> None:
    source = open_cp2k(DATA / "npt").origin.to_dict()
    assert set(source["files"]) == {file.name for file in (DATA / "npt").iterdir()} - {"npt.log"}
    assert len(source["sha256"]) == 64
    assert source["sha256"] != open_cp2k(DATA / "argon").origin.sha256
    assert {
        key: source[key]
        for key in ("cp2k_version", "project", "ensemble", "timestep_fs", "temperature_K")
    } == {
        "cp2k_version": "2023.1",
        "project": "npt",
        "ensemble": "NPT_F",
        "timestep_fs": 2.0,
        "temperature_K": 90.0,
    }
    assert source["frames_dropped"] == {"positions: no partner": 3}


def test_density_functional_reftraj_run() -> None:
    trajectory = read_cp2k(DATA / "blyp")
    assert trajectory.step.tolist() == [1, 2]
    assert trajectory.velocities is None
    assert trajectory.energy is not None
    assert trajectory.energy == pytest.approx(
        np.array([-1101.3717113974, -1101.3397920709]) * HARTREE_EV
    )


def test_triclinic_cell_that_changes_units_and_labels() -> None:
    """NPT_F with kinds Ar1 and Ne_x, forces in eV/Å every 2nd, velocities in Å/fs every 3rd
    step.
    """
    source = open_cp2k(DATA / "npt")
    trajectory = source.read()
    assert trajectory.symbols == ("Ar", "Ar", "Ne", "Ne")
    assert trajectory.masses == pytest.approx([39.948, 39.948, 21.0, 21.0], abs=1e-3)
    assert trajectory.step.tolist() == [0, 2, 4, 6]
    assert trajectory.time.tolist() == [0, 4, 8, 12]
    assert trajectory.cell[0, 2].tolist() == [1.1504558043, 2.0647507482, 12.9866568366]
    assert trajectory.cell[1, 0, 0] != trajectory.cell[0, 0, 0]
    assert trajectory.forces is not None
    assert trajectory.forces[0, 0].tolist() == [0.0059181861, 0.0039316797, 0.0003811497]
    assert trajectory.velocities is None
    assert source.notes == [
        "Labels of kinds were read as elements: Ar1 is Ar, Ne_x is Ne.",
        "npt-pos-1.xyz: 3 frames dropped whose step is not in npt-frc-1.xyz.",
        (
            "npt-vel-1.xyz: left out, it has 2 of the 4 frames; to keep only the frames that have"
            " velocities, name it with velocities=FILE."
        ),
    ]


def test_velocities_that_are_named_select_the_frames() -> None:
    source = open_cp2k(DATA / "npt", velocities=DATA / "npt" / "npt-vel-1.xyz")
    trajectory = source.read()
    assert trajectory.step.tolist() == [0, 6]
    assert trajectory.velocities is not None
    assert trajectory.velocities[0, 0].tolist() == [-0.0022393293, 0.0005401073, -0.0019179494]
    assert (
        "npt-frc-1.xyz: 2 frames dropped whose step is not in npt-pos-1.xyz and npt-vel-1.xyz."
        in source.notes
    )


def test_chunks_are_the_whole() -> None:
    source = open_cp2k(DATA / "water64")
    chunks = list(source.chunks(2))
    assert [chunk.n_frames for chunk in chunks] == [2, 1]
    assert np.array_equal(np.concatenate([c.positions for c in chunks]), source.read().positions)
    with pytest.raises(ValueError, match="size must be at least 1, found 0"):
        next(source.chunks(0))


def test_files_by_list_by_name_and_compressed(run: Callable[[str], Path], tmp_path: Path) -> None:
    directory = run("water64")
    whole = read_cp2k(directory)
    listed = read_cp2k(
        [directory / "w64-pos-1.xyz", directory / "w64-frc-1.xyz", directory / "w64-1.cell"]
    )
    assert np.array_equal(listed.positions, whole.positions)
    packed, plain = tmp_path / "a.gz", tmp_path / "b"
    packed.write_bytes(gzip.compress((directory / "w64-pos-1.xyz").read_bytes()))
    shutil.copy(directory / "w64-frc-1.xyz", plain)
    named = read_cp2k(None, positions=packed, forces=str(plain), input=directory / "nnp.inp")
    assert np.array_equal(named.positions, whole.positions)
    assert (
        named.forces is not None
        and whole.forces is not None
        and np.array_equal(named.forces, whole.forces)
    )


def test_cell_of_the_input_is_used_without_cell_file(run: Callable[[str], Path]) -> None:
    directory = run("water64")
    (directory / "w64-1.cell").unlink()
    assert read_cp2k(directory).cell[1] == pytest.approx(12.444661 * np.eye(3))


def test_cell_of_the_restart_is_used_without_input(run: Callable[[str], Path]) -> None:
    directory = run("npt")
    for name in ("npt-1.cell", "npt.inp"):
        (directory / name).unlink()
    edit(directory / "npt-1.restart", "NPT_F", "NVT")
    source = open_cp2k(directory)
    assert source.read().cell[0, 1].tolist() == [
        1.2412765169814415e00,
        8.1752422277974564e00,
        -3.2121284994629584e-01,
    ]
    assert source.masses[2] == 21.0


def test_temperature_from_ener_is_that_of_the_velocities(run: Callable[[str], Path]) -> None:
    directory = run("water64")
    source = open_cp2k(directory)
    assert source.n_frames > 1
    # CP2K's masses of O and H (15.9994, 1.00794) differ from ASE's by up to 6e-5
    assert source.logged_temperature == pytest.approx(source.read().temperature(), rel=1e-4)
    (directory / "w64-1.ener").unlink()
    assert open_cp2k(directory).logged_temperature is None


def test_energy_and_time_from_ener(run: Callable[[str], Path]) -> None:
    directory = run("water64")
    for name in ("w64-pos-1.xyz", "w64-frc-1.xyz", "w64-vel-1.xyz"):
        file = directory / name
        file.write_text(
            "\n".join(t.split(", time")[0] for t in file.read_text().splitlines()) + "\n"
        )
    trajectory = read_cp2k(directory)
    assert trajectory.time.tolist() == [0, 10, 20]
    assert trajectory.energy is not None and trajectory.energy[0] == pytest.approx(
        3751.258290261 * HARTREE_EV
    )
    (directory / "w64-1.ener").unlink()
    source = open_cp2k(directory)
    assert source.read().energy is None
    assert source.read().time.tolist() == [0, 10, 20]  # step times TIMESTEP
    assert source.notes == ["The potential energy is not known for every frame and was left out."]
    (directory / "nnp.inp").unlink()
    assert (
        open_cp2k(directory).notes[0]
        == "No file says the time of every frame; CP2K's default TIMESTEP of 0.5 fs is assumed."
    )


def test_forces_need_not_be_there_if_not_required(run: Callable[[str], Path]) -> None:
    directory = run("npt")
    assert (
        open_cp2k(directory, require_forces=False).n_frames == 7
    )  # forces of 4 of them are no reason to drop 3
    (directory / "npt-frc-1.xyz").unlink()
    assert read_cp2k(directory, require_forces=False).forces is None


def test_memory_does_not_grow_with_the_number_of_frames(run: Callable[[str], Path]) -> None:
    directory = run("water64")
    peaks = []
    for repeats in (4, 16):
        for name in ("w64-pos-1.xyz", "w64-frc-1.xyz"):
            block = "".join(frames_of(directory / name, 192)[:1])
            text = "".join(
                block.replace("i =        0", f"i = {step:8d}") for step in range(4 * repeats)
            )
            (directory / name).write_text(text)
        (directory / "w64-vel-1.xyz").unlink(missing_ok=True)
        tracemalloc.start()
        assert sum(chunk.n_frames for chunk in open_cp2k(directory).chunks(2)) == 4 * repeats
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]


# --- frames that are lost, and said so ------------------------------------------------------------


def test_restart_repeats_frames() -> None:
    """Steps 4 and 5 were run twice."""
    source = open_cp2k(DATA / "argon")
    trajectory = source.read()
    assert trajectory.step.tolist() == list(range(9))
    assert source.notes == [
        "argon-pos-1.xyz: 2 frames dropped that a restart repeated; the last of each step is kept.",
        "argon-frc-1.xyz: 2 frames dropped that a restart repeated; the last of each step is kept.",
    ]
    assert source.origin.frames_dropped == {
        "positions: repeated after a restart": 2,
        "forces: repeated after a restart": 2,
    }


def test_the_last_of_repeated_frames_is_kept(run: Callable[[str], Path]) -> None:
    directory = run("argon")
    frames = frames_of(directory / "argon-pos-1.xyz", 3)
    frames[4] = frames[4].replace("\n Ar  ", "\n Ar 9", 1)
    (directory / "argon-pos-1.xyz").write_text("".join(frames))
    assert np.array_equal(read_cp2k(directory).positions, read_cp2k(DATA / "argon").positions)


def test_frames_beyond_a_restart_are_of_another_past(run: Callable[[str], Path]) -> None:
    """Steps 0…5, then 4 again: the first 5 did not follow from the second 4."""
    directory = run("argon")
    for name in ("argon-pos-1.xyz", "argon-frc-1.xyz"):
        (directory / name).write_text("".join(frames_of(directory / name, 3)[:7]))
    assert read_cp2k(directory).step.tolist() == [0, 1, 2, 3, 4]


def test_reftraj_that_prints_step_1_twice() -> None:
    trajectory = read_cp2k(DATA / "reftraj")
    assert trajectory.step.tolist() == [1, 2]
    assert trajectory.time.tolist() == [2, 4]
    assert trajectory.forces is not None
    assert trajectory.forces[0, 0, 0] == pytest.approx(0.0001153283 * HARTREE_EV / BOHR_A, rel=2e-6)


@pytest.mark.parametrize("cut", [1, 2, 20, 60, 160])
def test_half_written_last_frame(run: Callable[[str], Path], cut: int) -> None:
    directory = run("argon")
    file = directory / "argon-pos-1.xyz"
    file.write_text(file.read_text()[:-cut])
    if cut == 1:  # only the end of the line is missing
        assert open_cp2k(directory).n_frames == 9
        return
    source = open_cp2k(directory)
    assert source.read().step.tolist() == list(range(8))
    assert (
        "argon-pos-1.xyz: the last frame (line 51) is half-written and was dropped." in source.notes
    )
    assert "argon-frc-1.xyz: 1 frame dropped whose step is not in argon-pos-1.xyz." in source.notes
    assert source.origin.frames_dropped["positions: half-written, at the end"] == 1


ARGON = frames_of(DATA / "argon" / "argon-pos-1.xyz", 3)
STEPS = [*ARGON[:4], *ARGON[6:]]
"""Steps 0…8 without repetition."""


@settings(
    deadline=None, max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(crash=st.integers(0, 7), share=st.floats(0, 1), back=st.integers(0, 2))
def test_crash_within_a_frame_then_restart(
    tmp_path: Path, crash: int, share: float, back: int
) -> None:
    """Wherever the first run stopped writing, the frames are those of a run that never stopped."""
    cut = int(share * len(STEPS[crash]))
    text = "".join(STEPS[:crash]) + STEPS[crash][:cut] + "".join(STEPS[max(0, crash - back) :])
    file = tmp_path / "a-pos-1.xyz"
    file.write_text(text)
    inputs = {"forces": DATA / "argon" / "argon-frc-1.xyz", "input": DATA / "argon" / "argon.inp"}
    trajectory = read_cp2k(None, positions=file, **inputs)
    assert trajectory.step.tolist() == list(range(9))
    assert np.array_equal(trajectory.positions, read_cp2k(DATA / "argon").positions)


@settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(cut=st.integers(len(STEPS[0]), sum(map(len, STEPS))))
def test_run_in_progress_gives_its_complete_frames(tmp_path: Path, cut: int) -> None:
    file = tmp_path / "a-pos-1.xyz"
    file.write_text("".join(STEPS)[:cut])
    complete = [
        sum(map(len, STEPS[: n + 1])) - 1 for n in range(len(STEPS))
    ]  # the last newline is not needed
    inputs = {"forces": DATA / "argon" / "argon-frc-1.xyz", "input": DATA / "argon" / "argon.inp"}
    assert open_cp2k(None, positions=file, **inputs).n_frames == sum(end <= cut for end in complete)


def test_half_written_frame_in_the_middle_is_said(run: Callable[[str], Path]) -> None:
    directory = run("argon")
    frames = frames_of(directory / "argon-pos-1.xyz", 3)
    frames[5] = frames[5][:-30]
    (directory / "argon-pos-1.xyz").write_text("".join(frames))
    source = open_cp2k(directory)
    assert source.n_frames == 9
    assert (
        "argon-pos-1.xyz: 1 frame dropped that a crash left half-written (line 26)." in source.notes
    )


def test_sparser_cell_file(run: Callable[[str], Path]) -> None:
    directory = run("npt")
    file = directory / "npt-1.cell"
    rows = file.read_text().splitlines(keepends=True)
    file.write_text("".join(rows[:4]))
    source = open_cp2k(directory)
    assert source.read().step.tolist() == [0, 2]
    assert (
        "2 frames dropped whose step is not in npt-1.cell, while the cell changes." in source.notes
    )
    fixed = run("water64")
    edit(fixed / "w64-1.cell", "      20      10.000", "       7       3.500")
    assert open_cp2k(fixed).n_frames == 3  # all rows are the same: a fixed cell
    file.write_text("".join(rows[:1]) + rows[2])
    assert (
        message(directory)
        == f"{directory / 'npt-pos-1.xyz'}: no step of the frames is in npt-1.cell; "
        "print &MOTION / &PRINT / &CELL as often as &TRAJECTORY"
    )


# --- errors: which files --------------------------------------------------------------------------


def test_missing_forces(run: Callable[[str], Path]) -> None:
    directory = run("water64")
    (directory / "w64-frc-1.xyz").unlink()
    assert (
        message(directory)
        == f"{directory}: positions are there, but no forces (w64-frc-1.xyz); CP2K prints them if"
        " its input has\n&MOTION\n  &PRINT\n    &FORCES\n      &EACH\n        MD 1\n      &END"
        " EACH\n    &END FORCES\n  &END PRINT\n&END MOTION\n(or name the file with forces=FILE)"
    )


def test_missing_positions(run: Callable[[str], Path]) -> None:
    directory = run("argon")
    (directory / "argon-pos-1.xyz").rename(directory / "argon-pos-1.dcd")
    assert (
        message(directory)
        == f"{directory}: no positions of CP2K found: sought PROJ-pos-1.xyz, PROJ-frc-1.xyz,"
        " PROJ-vel-1.xyz, PROJ-1.ener, PROJ-1.cell, PROJ-1.restart, *.inp (each also .gz, .bz2,"
        " .xz); there is argon-1.ener, argon-frc-1.xyz, argon-pos-1.dcd, argon.inp (a .dcd file"
        " cannot be read: let CP2K print FORMAT XMOL). CP2K prints positions with &MOTION /"
        " &PRINT / &TRAJECTORY; name a file with another name with positions=FILE"
    )


def test_directory_without_output(tmp_path: Path) -> None:
    assert "no positions of CP2K found: sought PROJ-pos-1.xyz" in message(tmp_path)
    assert "; there is nothing. " in message(tmp_path)


def test_no_such_file(tmp_path: Path) -> None:
    assert message(tmp_path / "x") == f"{tmp_path / 'x'}: no such file or directory"
    assert (
        message(None, positions=tmp_path / "y")
        == f"{tmp_path / 'y'}: positions=no such file or directory"
    )
    assert (
        message(None, positions=tmp_path)
        == f"{tmp_path}: positions=this is a directory, expected a file"
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
        " the one to read, for example positions=argon-pos-1.xyz, or put each run into its own"
        " directory"
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
        "name the one to read with forces=FILE"
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
        " input=FILE"
    )
    assert read_cp2k(directory, input=directory / "again.inp").cell[0, 0, 0] == 14


def test_a_damaged_log_keeps_nothing_from_us(run: Callable[[str], Path]) -> None:
    directory = run("npt")
    (directory / "old.log.gz").write_bytes(b"junk")
    assert open_cp2k(directory).origin.version == "2023.1"
    (directory / "older.out").write_text(" CP2K| version string:    CP2K version 8.2\n")
    assert open_cp2k(directory).origin.version is None  # two versions: which one is not known


def test_system_that_is_not_periodic_is_noted(run: Callable[[str], Path]) -> None:
    directory = run("argon")
    edit(directory / "argon.inp", "ABC 13 13 13", "ABC 13 13 13\nPERIODIC none")
    assert (
        open_cp2k(directory).notes[0]
        == "The input says PERIODIC NONE; the frames are given with their cell all the same."
    )


def test_no_cell(run: Callable[[str], Path]) -> None:
    directory = run("argon")
    edit(directory / "argon.inp", "PROJECT argon", "PROJECT other")
    assert (
        message(directory)
        == f"{directory}: no cell found: sought PROJ-1.cell, and &FORCE_EVAL / &SUBSYS / &CELL in"
        " *.inp and PROJ-1.restart (read: none of them is there); put the CP2K input beside the"
        " trajectory or name it with input=FILE, or let CP2K print &MOTION / &PRINT / &CELL"
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
        " &TRAJECTORY (or name the file with cells=FILE)"
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


@pytest.mark.parametrize("suffix", [".gz", ".xz", ".bz2"])
def test_truncated_compressed_file(run: Callable[[str], Path], suffix: str) -> None:
    directory = run("water64")
    plain = directory / "w64-frc-1.xyz"
    packed = directory / f"w64-frc-1.xyz{suffix}"
    pack = {".gz": gzip.compress, ".xz": lzma.compress, ".bz2": bz2.compress}[suffix]
    packed.write_bytes(pack(plain.read_bytes())[:-500])
    plain.unlink()
    assert (
        message(directory)
        == f"{packed}: this {suffix} file is truncated or damaged (Compressed file ended before the"
        " end-of-stream marker was reached); copy it again, or compress the file anew once CP2K"
        " has finished writing it"
    )
    packed.write_bytes(b"not compressed at all")
    assert message(directory).startswith(f"{packed}: this {suffix} file is truncated or damaged (")


# --- errors: what is in them ----------------------------------------------------------------------


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
        " REFTRAJ the section &MOTION / &MD / &REFTRAJ needs both EVAL_ENERGY_FORCES .TRUE. and"
        " EVAL_FORCES .TRUE."
    )


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


# --- the numbers survive --------------------------------------------------------------------------


@settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    values=st.lists(st.floats(-99, 99, allow_nan=False), min_size=36, max_size=36),
    units=st.sampled_from(
        [
            (None, 1.0, HARTREE_EV / BOHR_A, BOHR_A / AU_TIME_FS),
            (("bohr", "eV*angstrom^-1", "angstrom*fs^-1"), BOHR_A, 1.0, 1.0),
            (("nm", "Hartree/Bohr", "nm/ps"), 10.0, HARTREE_EV / BOHR_A, 0.01),
            (("pm", "kcalmol*angstrom^-1", "m*s^-1"), 0.01, 0.0433641, 1e-5),
        ]
    ),
)
def test_round_trip(
    tmp_path: Path, values: list[float], units: tuple[tuple[str, ...] | None, float, float, float]
) -> None:
    """Whatever numbers and units CP2K prints come back in Å, eV/Å, Å/fs."""
    numbers = np.array(values).reshape(3, 2, 2, 3)
    numbers[1, :, 0, 0] = 1.0  # never all zero
    text = "&MOTION\n &PRINT\n"
    for role, (key, section) in enumerate(
        (("pos", "TRAJECTORY"), ("frc", "FORCES"), ("vel", "VELOCITIES"))
    ):
        write_xyz(tmp_path / f"p-{key}-1.xyz", numbers[role])
        unit = f"   UNIT {units[0][role]}\n" if units[0] else ""
        text += f"  &{section}\n{unit}  &END\n"
    cell = "&FORCE_EVAL\n&SUBSYS\n&CELL\nABC [bohr] 10 20 30\n&END\n&END\n&END\n"
    (tmp_path / "p.inp").write_text(text + " &END\n&END\n" + cell)
    trajectory = read_cp2k(tmp_path)
    assert trajectory.cell[0] == pytest.approx(np.diag([10, 20, 30]) * BOHR_A, rel=2e-6)
    found = (trajectory.positions, trajectory.forces, trajectory.velocities)
    for role, factor in enumerate(units[1:]):
        assert found[role] == pytest.approx(numbers[role] * factor, rel=3e-6, abs=1e-8)
    assert trajectory.energy == pytest.approx(np.array([-1.5, -1.5]) * HARTREE_EV, rel=1e-7)


def write_xyz(file: Path, numbers: np.ndarray) -> None:
    """As CP2K writes it: I8, then the comment line, then 3F20.10."""
    with file.open("w") as stream:
        for step, frame in enumerate(numbers):
            stream.write(
                f"{len(frame):8d}\n i = {step:8d}, time = {step * 0.5:12.3f}, E = {-1.5:20.10f}\n"
            )
            for label, row in zip("OH", frame, strict=True):
                stream.write(f" {label:2s} " + "".join(f"{x:20.10f}" for x in row) + "\n")
