"""Reference data on request: boxes without overlaps, inputs that CP2K takes, runs that go on after
an interruption.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.io import write
from ase.neighborlist import neighbor_list
from command_line import Done, invoke
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mld_ff.errors import EngineError, InputError
from mld_ff.geometry.topology import find_topology
from mld_ff.sources.cp2k import open_cp2k, read_cp2k
from mld_ff.sources.cp2k.read.inputfile import parse_input
from mld_ff.sources.cp2k.read.settings import read_settings
from mld_ff.sources.cp2k.run.inputs import METHODS, Reference, filled, write_labels, write_reference
from mld_ff.sources.cp2k.run.launch import CP2K_VARIABLE, check, find_cp2k
from mld_ff.sources.cp2k.run.resume import LABELS, REST, run_reference, summarise
from mld_ff.sources.packing import Ingredient, contact_limit, find_molecule, pack
from mld_ff.sources.structures import read_xyz
from mld_ff.trajectory import Trajectory, spread_frames
from mld_ff.units import AMU_PER_A3_TO_G_PER_CM3


def installed() -> bool:
    try:
        return bool(find_cp2k())
    except InputError:
        return False


needs_cp2k = pytest.mark.skipif(
    not installed(), reason="CP2K is not installed (apt-get install cp2k)"
)


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def waters(count: int, density: float = 0.997, seed: int = 1) -> Trajectory:
    return pack([Ingredient(find_molecule("H2O"), count)], density, seed)


def contacts(frame: Trajectory, size: int) -> dict[tuple[str, str], float]:
    """ASE's shortest distance between molecules of `size` atoms, periodic images included, by
    elements.
    """
    atoms = Atoms(frame.symbols, positions=frame.positions[0], cell=frame.cell[0], pbc=True)
    i, j, r, shift = neighbor_list("ijdS", atoms, 3.5)
    apart = (i // size != j // size) | (shift != 0).any(axis=1)
    found: dict[tuple[str, str], float] = {}
    for a, b, distance in zip(i[apart], j[apart], r[apart], strict=True):
        pair = (frame.symbols[a], frame.symbols[b])
        found[pair] = min(found.get(pair, 9.0), float(distance))
    return found


# --- starting coordinates -------------------------------------------------------------------------


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.sampled_from([("H2O", 1.1), ("CH3OH", 0.85), ("NH3", 0.7), ("C6H6", 0.85), ("CH3CN", 0.8)]),
    st.integers(1, 40),
    st.floats(0.3, 1.0),
    st.integers(0, 9),
)
def test_packed_molecules_keep_count_density_shape_and_distance(liquid, count, dilution, seed):
    name, densest = liquid
    molecule = find_molecule(name)
    if name in ("C6H6", "CH3CN"):
        count = max(count, 8)  # a flat or long molecule does not fit into a cube of its own volume
    frame = pack([Ingredient(molecule, count)], densest * dilution, seed)
    assert frame.symbols == tuple(molecule.get_chemical_symbols()) * count
    volume = np.linalg.det(frame.cell[0])
    assert frame.masses.sum() / volume * AMU_PER_A3_TO_G_PER_CM3 == pytest.approx(
        densest * dilution
    )
    for (a, b), shortest in contacts(frame, len(molecule)).items():
        assert shortest >= contact_limit(a, b) - 1e-6, (a, b)
    for x in frame.positions[0].reshape(count, -1, 3):
        inner = np.linalg.norm(x[:, None] - x, axis=-1)
        assert inner == pytest.approx(molecule.get_all_distances(), abs=1e-6)


def test_packing_is_liquid_like_and_repeatable():
    frame = waters(64)
    assert find_topology(frame.symbols, frame.positions[0], frame.cell[0]).formulas() == {"H2O": 64}
    assert (frame.positions == waters(64).positions).all()
    assert (frame.positions != waters(64, seed=2).positions).any()
    assert contact_limit("O", "H") == pytest.approx(1.768)


def test_a_mixture_has_all_its_molecules(tmp_path):
    file = tmp_path / "methanol.xyz"
    write(file, find_molecule("CH3OH"))
    mixture = [Ingredient(find_molecule("H2O"), 20), Ingredient(find_molecule(str(file)), 5)]
    frame = pack(mixture, 0.9)
    topology = find_topology(frame.symbols, frame.positions[0], frame.cell[0])
    assert topology.formulas() == {"H2O": 20, "CH4O": 5}


def test_what_cannot_be_packed_is_said():
    with pytest.raises(InputError, match=r"do not fit into a cube of .* lower the density"):
        waters(8, density=4.0)
    with pytest.raises(InputError, match="CH3OH"):
        find_molecule("CH3OHH")
    with pytest.raises(InputError, match="positive density"):
        waters(8, density=0)


# --- what is written ------------------------------------------------------------------------------


def test_options_arrive_in_the_input(tmp_path):
    reference = Reference(
        "dft", 350.0, 77, 0.25, 40.0, 7, 3, 5, "revPBE", "TZV2P-MOLOPT-GTH", 500.0, 60.0
    )
    write_reference(tmp_path, reference, waters(8))
    root = parse_input(tmp_path / "dft.inp")
    assert root.get("MOTION", "MD", "STEPS").value == "77"
    assert root.get("MOTION", "MD", "THERMOSTAT", "NOSE", "TIMECON").value == "40.0"
    for name in ("TRAJECTORY", "FORCES", "VELOCITIES", "CELL"):
        assert root.get("MOTION", "PRINT", name, "EACH", "MD").value == "7"
    assert root.get("GLOBAL", "SEED").value == "5"
    dft = ("FORCE_EVAL", "DFT")
    assert root.get(*dft, "MGRID", "CUTOFF").value == "500.0"
    assert root.get(*dft, "MGRID", "REL_CUTOFF").value == "60.0"
    assert root.get(*dft, "XC", "XC_FUNCTIONAL", "PBE", "PARAMETRIZATION").value == "REVPBE"
    assert (
        root.get(*dft, "XC", "VDW_POTENTIAL", "PAIR_POTENTIAL", "REFERENCE_FUNCTIONAL").value
        == "revPBE"
    )
    kind = ("FORCE_EVAL", "SUBSYS", "KIND")
    assert (root.get(*kind, "BASIS_SET").value, root.get(*kind, "POTENTIAL").value) == (
        "TZV2P-MOLOPT-GTH",
        "GTH-PBE",
    )
    assert "{RELAX_STEPS-3}" in (tmp_path / "relax.inc").read_text()
    found = read_settings(tmp_path / "dft.inp")
    assert (found.temperature, found.timestep, found.ensemble) == (350.0, 0.25, "NVT")
    assert found.cell == pytest.approx(waters(8).cell[0], abs=1e-9)


def test_the_grid_is_smooth_by_default():
    text = filled("cp2k/dft.inp", {})
    assert "XC_DERIV NN50_SMOOTH" in text and "XC_SMOOTH_RHO NN50" in text
    assert "{CUTOFF-400.0}" in text and "{REL_CUTOFF-50.0}" in text


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"method": "mp2"}, "known: dft, nnp, xtb"),
        ({"functional": "PBE0"}, "known: BLYP, PBE, revPBE"),
        ({"steps": 0}, "steps is 0"),
        ({"relax_steps": -1}, "relax_steps is -1"),
    ],
)
def test_settings_that_make_no_sense(options, said):
    with pytest.raises(InputError, match=said):
        Reference(**options)


def test_the_network_is_for_water(tmp_path):
    methanol = pack([Ingredient(find_molecule("CH3OH"), 4)], 0.7)
    with pytest.raises(InputError, match=r"knows water only; found C: choose"):
        write_reference(tmp_path / "a", Reference(), methanol)
    assert not (tmp_path / "a").exists()


def test_nothing_is_overwritten(tmp_path):
    written = write_reference(tmp_path, Reference(), waters(8))
    assert {f.name for f in written} == {"nnp.inp", "md.inc", "relax.inc", "system.inc"}
    before = {f: f.read_bytes() for f in written}
    write_reference(tmp_path, Reference(), waters(8))  # the same again
    with pytest.raises(InputError, match=r"another input or run already \(.*md.inc.*--resume"):
        write_reference(tmp_path, Reference(steps=5), waters(9))
    assert {f: f.read_bytes() for f in written} == before
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "w64-pos-1.xyz").write_text("")
    with pytest.raises(InputError, match=r"w64-pos-1\.xyz"):
        write_reference(tmp_path / "run", Reference(), waters(8))


def test_velocities_of_the_frame_are_kept_unless_it_is_relaxed(tmp_path, water):
    write_reference(tmp_path / "kept", Reference(relax_steps=0), water[3])
    write_reference(tmp_path / "relaxed", Reference(), water[3])
    assert "&VELOCITY" in (tmp_path / "kept/system.inc").read_text()
    assert "&VELOCITY" not in (tmp_path / "relaxed/system.inc").read_text()


def test_frames_from_xyz(tmp_path, water):
    frames = [
        Atoms(water.symbols, positions=x, cell=water.cell[0], pbc=True) for x in water.positions[:3]
    ]
    write(tmp_path / "f.xyz", frames, format="extxyz")
    found = read_xyz(tmp_path / "f.xyz")
    assert found.positions == pytest.approx(water.positions[:3], abs=1e-7)
    assert found.cell == pytest.approx(water.cell[:3])
    write(tmp_path / "plain.xyz", frames, format="xyz")
    with pytest.raises(InputError, match="need a cell"):
        read_xyz(tmp_path / "plain.xyz")
    assert spread_frames(water, 3).step.tolist() == water.step[[0, 343, 686]].tolist()


# --- CP2K -----------------------------------------------------------------------------------------


def test_without_cp2k_the_input_is_written_and_the_note_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv(CP2K_VARIABLE, raising=False)
    write_reference(tmp_path / "out", Reference(), waters(8))
    told = summarise(tmp_path / "out", run=False)
    assert not told["checked"]
    assert any("not checked" in n and "apt-get install cp2k" in n for n in told["notes"])
    with pytest.raises(InputError, match="apt-get install cp2k"):
        summarise(tmp_path / "out", run=True)


@needs_cp2k
@pytest.mark.parametrize("method", METHODS)
def test_cp2k_accepts_every_stage(tmp_path, method):
    frame = waters(4)
    if method != "nnp":
        frame = pack(
            [Ingredient(find_molecule("H2O"), 4), Ingredient(find_molecule("CH3OH"), 2)], 0.8
        )
    write_reference(tmp_path / "md", Reference(method), frame)
    check(tmp_path / "md")
    write_labels(tmp_path / "label", Reference(method), frame)
    check(tmp_path / "label")


@needs_cp2k
def test_a_fault_in_the_input_is_told_in_cp2ks_words(tmp_path):
    write_reference(tmp_path, Reference(), waters(4))
    text = (tmp_path / "md.inc").read_text()
    (tmp_path / "md.inc").write_text(text.replace("ENSEMBLE NVT", "ENSEMBLE NVTT"))
    with pytest.raises(EngineError, match=r"does not accept .*NVTT"):
        check(tmp_path)


@needs_cp2k
def test_a_short_run_is_read_back_and_can_be_made_longer(tmp_path):
    seen: list[tuple[str, int, int]] = []
    write_reference(tmp_path, Reference(steps=3, every=1, relax_steps=2), waters(6))
    assert summarise(tmp_path, True, lambda *p: seen.append(p))["frames"] == 4
    assert ("relax", 1, 1) in seen and seen[-1] == ("cp2k", 3, 3)
    run = read_cp2k(tmp_path)
    assert run.step.tolist() == [0, 1, 2, 3]
    assert run.velocities is not None and run.energy is not None
    assert (run.cell == run.cell[0]).all()
    told = summarise(tmp_path, True)
    assert any("finished already" in n for n in told["notes"])
    longer = (tmp_path / "md.inc").read_text().replace("{STEPS-3}", "{STEPS-5}")
    (tmp_path / "md.inc").write_text(longer)
    assert vars(run_reference(tmp_path)) == {"project": "md", "total": 5, "before": 3}
    assert read_cp2k(tmp_path).step.tolist() == [0, 1, 2, 3, 4, 5]


@needs_cp2k
def test_packed_water_does_not_blow_up(tmp_path):
    write_reference(tmp_path, Reference(steps=40, every=10, relax_steps=15), waters(12))
    run_reference(tmp_path)
    temperature = np.loadtxt(tmp_path / "md-1.ener")[:, 3]
    assert temperature.max() < 600
    assert open_cp2k(tmp_path).n_frames == 5


def start(directory: Path) -> subprocess.Popen[bytes]:
    """The run as a user starts it, in a process group of its own."""
    command = [
        sys.executable,
        "-c",
        "from mld_ff.cli import main; main()",
        "reference",
        "-o",
        str(directory),
    ]
    return subprocess.Popen(
        [*command, "--resume"], start_new_session=True, stderr=subprocess.DEVNULL
    )


def kill_when(process: subprocess.Popen[bytes], ready: Callable[[], bool]) -> None:
    """As a power cut: the whole group dies at once."""
    end = time.monotonic() + 60
    while not ready() and process.poll() is None and time.monotonic() < end:
        time.sleep(0.02)
    assert process.poll() is None, "it was over before it could be killed"
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@needs_cp2k
def test_a_killed_run_goes_on(tmp_path):
    write_reference(tmp_path, Reference(steps=10000, every=2, relax_steps=0), waters(4))
    table = tmp_path / "md-1.ener"
    kill_when(start(tmp_path), lambda: table.exists() and table.read_text().count("\n") > 8)
    done = len(np.loadtxt(table))
    inc = (tmp_path / "md.inc").read_text()
    (tmp_path / "md.inc").write_text(re.sub(r"{STEPS-\d+}", f"{{STEPS-{done + 6}}}", inc))
    outcome = run_reference(tmp_path)
    assert 0 < outcome.before <= done < outcome.total
    run = read_cp2k(tmp_path)
    assert run.step.tolist() == list(range(0, done + 7, 2))
    twice = np.loadtxt(table)
    assert twice[-1, 0] == done + 6
    assert (
        np.abs(np.diff(twice[:, 5])).max() < 1e-3
    )  # what the thermostat conserves knows of no interruption


@needs_cp2k
def test_labels_are_the_forces_of_the_original(tmp_path, water):
    frames = water[np.array([5, 600])]
    write_labels(tmp_path, Reference(), frames)
    assert summarise(tmp_path, True)["frames"] == 2
    labels = read_cp2k(tmp_path)
    assert labels.forces is not None and frames.forces is not None and frames.energy is not None
    assert np.abs(labels.forces).max() > 1
    assert np.abs(labels.forces - frames.forces).max() < 1e-6 * np.abs(frames.forces).max()
    assert labels.energy == pytest.approx(frames.energy, rel=1e-9)
    assert labels.positions == pytest.approx(frames.positions, abs=1e-9)


@needs_cp2k
def test_labels_go_on_after_an_interruption_and_follow_the_cell(tmp_path):
    boxes = [waters(4, density) for density in np.linspace(0.8, 1.0, 5)]
    frames = Trajectory(
        symbols=boxes[0].symbols,
        masses=boxes[0].masses,
        positions=np.concatenate([b.positions for b in boxes]),
        cell=np.concatenate([b.cell for b in boxes]),
        time=np.zeros(5),
        step=np.arange(5),
    )
    write_labels(tmp_path, Reference(), frames)
    run_reference(tmp_path)
    whole = read_cp2k(tmp_path)
    assert whole.cell == pytest.approx(frames.cell, abs=1e-8)
    for name in LABELS:  # as if it had been killed within the third frame
        text = (tmp_path / name).read_text()
        third = (
            text.index(" i =        3")
            if name.endswith("xyz")
            else text.index("\n         3" if "ener" in name else "\n       3")
        )
        (tmp_path / name).write_text(text[: third + 30])
    assert run_reference(tmp_path).before == 2
    again = read_cp2k(tmp_path)
    assert again.step.tolist() == [1, 2, 3, 4, 5]
    assert (again.forces == whole.forces).all()
    assert not (tmp_path / REST).exists()


@needs_cp2k
def test_what_cp2k_says_when_it_stops(tmp_path):
    write_reference(tmp_path, Reference("xtb", steps=2, relax_steps=0), waters(2))
    text = (tmp_path / "xtb.inp").read_text()
    (tmp_path / "xtb.inp").write_text(text.replace("xTB_parameters", "no_such_file"))
    with pytest.raises(EngineError, match=r"CP2K stopped in .*md.out: .*no_such_file"):
        run_reference(tmp_path)


# --- the command ----------------------------------------------------------------------------------


def mld_ff(*arguments: object) -> Done:
    return invoke("reference", *arguments)


def test_the_command_labels_frames(tmp_path):
    box = waters(4)
    frames = [
        Atoms(box.symbols, positions=box.positions[0] + k, cell=box.cell[0], pbc=True)
        for k in range(5)
    ]
    write(tmp_path / "f.xyz", frames, format="extxyz")
    out = tmp_path / "out"
    done = mld_ff(
        "-o", out, "--method", "xtb", "--label", tmp_path / "f.xyz", "--frames", 2, "--json"
    )
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["input"] == str(out / "xtb.inp")
    text = (out / "frames.xyz").read_text()
    assert text.count(" i = ") == 2
    last = [[float(x) for x in row.split()[1:]] for row in text.splitlines()[-12:]]
    assert np.array(last) == pytest.approx(box.positions[0] + 4, abs=1e-7)


def test_the_command_asks_for_what_it_needs(tmp_path):
    done = mld_ff("-o", tmp_path, "--molecule", "CH3OH", "--count", 4)
    assert done.exit_code == 2 and "--density" in done.stderr
    done = mld_ff("-o", tmp_path, "--molecule", "CH3OH", "--density", 0.8)
    assert done.exit_code == 2 and "--count" in done.stderr
    assert list(tmp_path.iterdir()) == []
