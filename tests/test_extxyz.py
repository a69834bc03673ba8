"""Extended XYZ as a full source: the numbers of a CP2K run written by ASE, read back, and taken by
every verb.
"""

from __future__ import annotations

import gzip
import json
import lzma
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import ase.io
import ase.units
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.stress import voigt_6_to_full_3x3_stress
from command_line import invoke
from conftest import topology_of
from hypothesis import given, settings
from hypothesis import strategies as st

from mld_ff.errors import InputError
from mld_ff.inference import Basis, fit
from mld_ff.report import compare_runs
from mld_ff.sources import open_source
from mld_ff.sources.extxyz import ExtXYZSource, open_extxyz
from mld_ff.trajectory import Trajectory, concatenate

ARGON = Path(__file__).parent / "data/cp2k/argon"
BASIS = Basis("power", (3.0,), bond_degree=2, cutoff_A=4.0)
STRESS = np.array([1.0, 2.0, 3.0, 0.4, 0.5, 0.6])
"""[eV/Å³], Voigt."""
HEIGHT = 48 + 2
"""Lines of a frame."""


def atoms_of(frames: Trajectory, with_time: bool = True) -> list[Atoms]:
    """As a program that knows ASE would hand them over."""
    assert frames.forces is not None and frames.energy is not None
    images = []
    for k in range(frames.n_frames):
        atoms = Atoms(frames.symbols, frames.positions[k], cell=frames.cell[k], pbc=True)
        if frames.velocities is not None:
            atoms.set_velocities(frames.velocities[k] / ase.units.fs)
        if with_time:
            atoms.info |= {"Time": float(frames.time[k]), "Step": int(frames.step[k])}
        atoms.calc = SinglePointCalculator(
            atoms, energy=frames.energy[k], forces=frames.forces[k], stress=STRESS
        )
        images.append(atoms)
    return images


@pytest.fixture(scope="module")
def frames(water: Trajectory) -> Trajectory:
    """20 frames of 16 molecules of the example, 100 fs apart."""
    some = water[:200:10]
    return some.select_atoms(np.sort(np.concatenate(topology_of(some).molecules[:16])))


@pytest.fixture(scope="module")
def file(frames: Trajectory, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("extxyz") / "water.extxyz"
    ase.io.write(path, atoms_of(frames), format="extxyz")
    return path


@pytest.fixture(scope="module")
def timeless(frames: Trajectory, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("timeless") / "water.xyz"
    ase.io.write(path, atoms_of(replace(frames, velocities=None), False), format="extxyz")
    return path


def message(path: Path, **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        open_source(path, **options).read()
    return str(caught.value)


# --- what is read ---------------------------------------------------------------------------------


def test_numbers_are_those_that_were_written(file: Path, frames: Trajectory) -> None:
    source = open_source(file)
    read_back = source.read()
    assert isinstance(source, ExtXYZSource) and source.notes == []
    assert read_back.symbols == frames.symbols and (read_back.step == frames.step).all()
    assert read_back.time == pytest.approx(frames.time)
    assert read_back.cell == pytest.approx(frames.cell)
    assert read_back.positions == pytest.approx(frames.positions, abs=1e-8)
    assert read_back.forces == pytest.approx(frames.forces, abs=1e-8)
    assert read_back.velocities == pytest.approx(frames.velocities, abs=1e-8)
    assert read_back.energy == pytest.approx(frames.energy)
    assert read_back.stress is not None
    assert read_back.stress[3] == pytest.approx(
        np.array([[1.0, 0.6, 0.5], [0.6, 2.0, 0.4], [0.5, 0.4, 3.0]])
    )
    assert source.half_width == pytest.approx(frames.half_width)
    assert source.origin.files == ("water.extxyz",) and source.origin.is_dynamics


def test_fit_is_the_one_from_cp2k(water: Trajectory, tmp_path: Path) -> None:
    ase.io.write(tmp_path / "water.xyz", atoms_of(water[:200:10]), format="extxyz")
    stress = np.repeat(voigt_6_to_full_3x3_stress(STRESS)[None], 20, axis=0)
    learned, expected = (
        fit(open_source(tmp_path / "water.xyz"), BASIS).loss,
        fit(replace(water[:200:10], stress=stress), BASIS).loss,
    )
    for ours, theirs in zip(learned.terms, expected.terms, strict=True):
        assert ours.coefficients == pytest.approx(theirs.coefficients, rel=1e-6)
    assert learned.provenance["rmse_meV_per_A"] == pytest.approx(
        expected.provenance["rmse_meV_per_A"], rel=1e-6
    )


@pytest.mark.parametrize(("suffix", "pack"), [(".gz", gzip.compress), (".xz", lzma.compress)])
def test_compressed(
    file: Path, tmp_path: Path, suffix: str, pack: Callable[[bytes], bytes]
) -> None:
    packed = tmp_path / f"water.xyz{suffix}"
    packed.write_bytes(pack(file.read_bytes()))
    assert (open_source(packed).read().positions == open_source(file).read().positions).all()
    packed.write_bytes(pack(file.read_bytes())[:-500])
    assert f"{packed}: this {suffix} file is truncated or damaged" in message(packed)


def test_chunks_are_the_whole(file: Path) -> None:
    source = open_source(file)
    whole = source.read()
    parts = list(source.chunks(8, 3, 17))
    assert [part.n_frames for part in parts] == [8, 6]
    assert (concatenate(parts).positions == whole[3:17].positions).all()
    assert concatenate(parts).step.tolist() == whole.step[3:17].tolist()
    with pytest.raises(ValueError, match="size must be at least 1, found 0"):
        next(source.chunks(0))


def test_first_stretch_is_skipped(file: Path, frames: Trajectory) -> None:
    source = open_source(file, skip_fs=500.0)
    assert source.read().time.tolist() == frames.time[5:].tolist()
    assert source.origin.frames_dropped == {"skipped as equilibration": 5}
    assert message(file, skip_fs=1e4) == (
        f"{file}: nothing is left: 10000 fs are to be skipped, the frames span 1900 fs"
    )


def test_names_of_other_programs(file: Path, tmp_path: Path) -> None:
    text = (
        file.read_text().replace("forces:R:3", "REF_forces:R:3").replace("energy=", "REF_energy=")
    )
    (tmp_path / "a.xyz").write_text(text.replace("momenta:R:3", "velocities:R:3"))
    source = open_source(tmp_path / "a.xyz")
    read_back, expected = source.read(), open_source(file).read()
    assert source.notes == [
        "`REF_forces` was taken as forces.",
        "`velocities` was taken as velocities.",
        "`REF_energy` was taken as energy.",
    ]
    assert read_back.forces == pytest.approx(expected.forces)
    assert read_back.energy == pytest.approx(expected.energy)
    momenta = expected.masses[:, None] * np.asarray(expected.velocities) / ase.units.fs
    assert read_back.velocities == pytest.approx(momenta, abs=1e-7)


def test_frames_without_forces_are_dropped_if_forces_are_required(
    file: Path, frames: Trajectory, tmp_path: Path
) -> None:
    mixed = tmp_path / "mixed.xyz"
    atoms = atoms_of(frames[:4])
    atoms[1].calc = None
    ase.io.write(mixed, atoms, format="extxyz")
    source = open_source(mixed)
    assert source.read().step.tolist() == frames.step[[0, 2, 3]].tolist()
    assert source.notes == ["1 of 4 frames dropped that have no `forces`."]
    assert source.origin.frames_dropped == {"no forces": 1}
    every = open_source(mixed, require_forces=False)
    assert every.n_frames == 4 and every.read().forces is None
    assert "Some frames have no forces: they were left out of all." in every.notes
    assert open_source(mixed, require_forces=None).n_frames == 3


def test_half_written_last_frame_is_dropped(file: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.xyz"
    cut.write_bytes(file.read_bytes()[:-40])
    source = open_source(cut)
    assert source.read().n_frames == 19
    line = 19 * HEIGHT + 1
    assert source.notes == [
        f"cut.xyz: the last frame (line {line}) is half-written and was dropped."
    ]


# --- what is refused ------------------------------------------------------------------------------


def edited(file: Path, tmp_path: Path, line: int, old: str, new: str) -> Path:
    """The file with some text of a line replaced."""
    lines = file.read_text().splitlines(keepends=True)
    assert old in lines[line - 1]
    lines[line - 1] = lines[line - 1].replace(old, new)
    (tmp_path / "edited.xyz").write_text("".join(lines))
    return tmp_path / "edited.xyz"


def test_frames_without_a_cell(file: Path, tmp_path: Path) -> None:
    where = edited(file, tmp_path, HEIGHT + 2, "Lattice", "Box")
    assert message(where) == (
        f"{where}:{HEIGHT + 2}: frame 2: frames need a cell: write extended XYZ, with"
        ' Lattice="ax ay az bx …" in Å'
    )


def test_atoms_in_another_order(file: Path, tmp_path: Path) -> None:
    where = edited(file, tmp_path, 2 * HEIGHT + 3, "O ", "H ")
    assert message(where) == (
        f"{where}:{2 * HEIGHT + 1}: frame 3 has other atoms than the first, or in another order"
    )


def test_what_is_no_number(file: Path, tmp_path: Path) -> None:
    first = file.read_text().splitlines()[2].split()[7]
    where = edited(file, tmp_path, 3, first, "nan")
    assert message(where) == (
        f"{where}:1: frame 1: expected finite numbers, found others among its forces"
    )
    where = edited(file, tmp_path, 3, first, "x")
    assert f"{where}:1: frame 1: ASE cannot read it: ValueError" in message(where)
    for label in ("X ", "O1"):
        assert "' is no element" in message(edited(file, tmp_path, 3, "O ", label))
    where = edited(file, tmp_path, 2, "pos:R:3", "pos:R:3:a:R:9999")
    assert "more than 1000 columns" in message(where)
    where = edited(file, tmp_path, 1, "48", "oxygen")
    assert message(where) == f"{where}:1: expected the number of atoms of frame 1, found 'oxygen'"


def test_frames_without_positions(file: Path, tmp_path: Path) -> None:
    where = edited(file, tmp_path, 2, "pos:R:3", "displacement:R:3")
    assert message(where) == (
        f"{where}:2: frame 1 has no positions: its columns are species, displacement, momenta,"
        " forces"
    )


def test_file_that_shrinks_while_it_is_read(file: Path, tmp_path: Path) -> None:
    where = tmp_path / "a.xyz"
    where.write_bytes(file.read_bytes())
    source = open_source(where)
    where.write_bytes(file.read_bytes()[:9000])
    with pytest.raises(InputError, match="has become shorter while it was read; start again"):
        source.read()


def test_steps_that_tell_no_frames_apart(file: Path, tmp_path: Path) -> None:
    where = edited(file, tmp_path, HEIGHT + 2, "Step=20", "Step=0")
    assert open_source(where).read().step.tolist() == list(range(20))


def test_no_forces(file: Path, tmp_path: Path, frames: Trajectory) -> None:
    atoms = atoms_of(frames[:2])
    for one in atoms:
        one.calc = None
    where = tmp_path / "a.xyz"
    ase.io.write(where, atoms, format="extxyz")
    assert message(where) == (
        f"{where}: the frames hold no forces: write them as columns `forces` [eV/Å], as ASE does"
        " where atoms have a calculator"
    )
    assert open_source(where, require_forces=None).read().forces is None


@settings(deadline=None, max_examples=50)
@given(junk=st.binary(max_size=60), at=st.integers(0, 3000), length=st.integers(0, 60))
def test_damaged_bytes_never_give_a_traceback(
    file: Path, tmp_path_factory: pytest.TempPathFactory, junk: bytes, at: int, length: int
) -> None:
    """Frames, or an InputError that names a place."""
    two = b"".join(file.read_bytes().splitlines(keepends=True)[: 2 * HEIGHT])
    where = tmp_path_factory.mktemp("junk") / "a.xyz"
    where.write_bytes(two[:at] + junk + two[at + length :])
    try:
        read_back = open_extxyz(where).read()
    except InputError as error:
        assert str(error).startswith(str(where))
    else:
        assert np.isfinite(read_back.positions).all() and np.isfinite(read_back.cell).all()


# --- frames without times -------------------------------------------------------------------------


def test_frames_without_times_are_no_dynamics(timeless: Path, tmp_path: Path) -> None:
    source = open_source(timeless)
    assert not source.origin.is_dynamics
    assert message(timeless, skip_fs=1.0) == (
        f"{timeless}: no stretch of time can be skipped: the frames have no Time [fs] in their"
        " comment lines"
    )
    said = refused("match", timeless, "-o", tmp_path / "m", "--time", 0.25)
    assert said == (
        "error: run 1 holds frames that the reference computed one by one (no Time [fs] in their"
        " comment lines), no dynamics: give them to the fit alone (--labels)\n"
    )


def test_times_that_go_back(file: Path, tmp_path: Path) -> None:
    where = edited(file, tmp_path, HEIGHT + 2, "Time=100.0", "Time=0.0")
    assert open_source(where).origin.remedies.one_by_one == (
        "a Time that does not grow from frame to frame"
    )


# --- every verb -----------------------------------------------------------------------------------


def answered(*arguments: object) -> dict[str, Any]:
    done = invoke(*arguments, "--json")
    assert done.exit_code == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def refused(*arguments: object) -> str:
    done = invoke(*arguments)
    assert done.exit_code == 2, done.stderr
    return done.stderr


@pytest.fixture(scope="module")
def model(file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("model") / "model.json"
    answered("fit", file, "-o", out, "--basis", "power", "--bond-degree", 2, "--cutoff", 4)
    return out


def test_inspect(file: Path) -> None:
    answer = answered("inspect", file)
    assert answer["molecules"] == {"H2O": 16} and answer["frames"] == 20
    assert answer["source"]["files"] == ["water.extxyz"]
    assert answer["has"] == {"forces": True, "velocities": True, "energy": True, "stress": True}


def test_accumulate_scan_and_box(file: Path, tmp_path: Path) -> None:
    shard = tmp_path / "s.npz"
    assert answered("accumulate", file, "-o", shard, "--cutoff", 4)["frames"] == 20
    assert answered("fit", shard, "-o", tmp_path / "m.json")["frames_test"] > 0
    answer = answered("scan", file, "-o", tmp_path / "scan", "--exponents", "2,3", "--cutoff", 4)
    assert answer["source"]["files"] == ["water.extxyz"]
    boxed = answered("box", "--cp2k", file, "--replicate", "2,1,1", "-o", tmp_path / "b.xyz")
    assert boxed["molecules"] == {"H2O": 32}


def test_verify_export_and_agents(file: Path, model: Path, tmp_path: Path) -> None:
    assert answered("verify", model, file, "--frames", 1)["passed"] is True
    out = tmp_path / "lammps"
    answer = answered("export", model, "--engine", "lammps", "--cp2k", file, "-o", out)
    assert answer["molecules"] == {"H2O": 16} and (out / "system.data").exists()
    answered("agents", model, "--cp2k", file, "-o", tmp_path / "agents", "--time", 0.01)


def test_run_and_report(
    file: Path, timeless: Path, model: Path, undrawn: None, tmp_path: Path
) -> None:
    """With times everything is compared, without them structure alone."""
    run = tmp_path / "run"
    begin = ("--cp2k", file, "--frame", 0, "--time", 0.1)
    answered("run", model, "--engine", "lammps", *begin, "-o", run)
    whole = compare_runs(open_source(file), [run])
    assert {"temperature_K", "diffusion_A2_per_ps"} <= whole.observables.keys()
    assert {"same_start", "bond_in_time", "rdf"} <= whole.series.keys()
    answer = answered("report", "--trajectory", run, "--reference", timeless, "-o", tmp_path / "r")
    assert "temperature_K" not in answer["observables"] and "oh_mean_A" in answer["observables"]
    assert answer["notes"][-1].startswith(
        "The reference computed its frames one by one (no Time [fs] in their comment lines), not"
        " as dynamics"
    )


def test_match(file: Path, timeless: Path, tmp_path: Path) -> None:
    basis = ("--basis", "power", "--bond-degree", 2, "--cutoff", 4)
    run = ("--rounds", 1, "--time", 0.25, "--labels", timeless)
    answer = answered("match", file, "-o", tmp_path / "match", *basis, *run)
    assert answer["rounds"][0]["mean_abs_dg"]["free:O-O"] > 0


def test_frames_are_labelled(file: Path, tmp_path: Path) -> None:
    answered("reference", "--label", file, "--frames", 3, "-o", tmp_path / "ref")
    assert (tmp_path / "ref/frames.xyz").read_text().count(" i = ") == 3


def test_files_of_a_run_cannot_be_named(file: Path) -> None:
    assert refused("inspect", file, "--file", "forces=x") == (
        f"error: {file}: --file names files of a directory; this is extended XYZ (.xyz, .extxyz,"
        " each also .gz, .bz2, .xz): leave it out\n"
    )
