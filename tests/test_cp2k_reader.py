"""What the CP2K reader makes of real output: numbers, units, files."""

from __future__ import annotations

import gzip
import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import ase.io
import numpy as np
import pytest
from cp2k_output import (
    AU_TIME_FS,
    BOHR_A,
    DATA,
    HARTREE_EV,
    edit,
    frames_of,
    unpacked,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mld_ff.sources.cp2k import open_cp2k, read_cp2k


@pytest.fixture
def run(tmp_path: Path) -> Callable[[str], Path]:
    """Copy a run of tests/data/cp2k to where it may be changed; large files are unpacked."""
    return lambda name: unpacked(name, tmp_path)


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
    assert set(source["files"]) == {file.name for file in (DATA / "npt").iterdir()}
    assert source["sha256"] is not None and len(source["sha256"]) == 64
    assert source["sha256"] != open_cp2k(DATA / "argon").origin.sha256
    assert {
        key: source[key]
        for key in ("program", "version", "project", "ensemble", "timestep_fs", "temperature_K")
    } == {
        "program": "CP2K",
        "version": "2023.1",
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
            " velocities, name it with --file velocities=FILE."
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
    arrays = (trajectory.positions, trajectory.forces, trajectory.velocities)
    for role, factor in enumerate(units[1:]):
        assert arrays[role] == pytest.approx(numbers[role] * factor, rel=3e-6, abs=1e-8)
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
