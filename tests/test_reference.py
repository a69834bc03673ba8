"""Inputs for reference data: what is written into them, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.io import write
from command_line import Done, invoke
from conftest import present, waters

from mld_ff.errors import InputError
from mld_ff.sources.cp2k.read.inputfile import Section, parse_input
from mld_ff.sources.cp2k.read.settings import read_settings
from mld_ff.sources.cp2k.run.inputs import Reference, filled, write_reference
from mld_ff.sources.extxyz import open_extxyz
from mld_ff.sources.packing import Ingredient, find_molecule, pack
from mld_ff.trajectory import Trajectory, spread_frames


def value_of(root: Section, *path: str) -> str:
    return present(root.get(*path)).value


def test_options_arrive_in_the_input(tmp_path: Path) -> None:
    reference = Reference(
        "dft", 350.0, 77, 0.25, 40.0, 7, 3, 5, "revPBE", "TZV2P-MOLOPT-GTH", 500.0, 60.0
    )
    write_reference(tmp_path, reference, waters(8))
    root = parse_input(tmp_path / "dft.inp")
    assert value_of(root, "MOTION", "MD", "STEPS") == "77"
    assert value_of(root, "MOTION", "MD", "THERMOSTAT", "NOSE", "TIMECON") == "40.0"
    for name in ("TRAJECTORY", "FORCES", "VELOCITIES", "CELL", "STRESS"):
        assert value_of(root, "MOTION", "PRINT", name, "EACH", "MD") == "7"
    assert value_of(root, "FORCE_EVAL", "STRESS_TENSOR") == "ANALYTICAL"
    assert value_of(root, "GLOBAL", "SEED") == "5"
    dft = ("FORCE_EVAL", "DFT")
    assert value_of(root, *dft, "MGRID", "CUTOFF") == "500.0"
    assert value_of(root, *dft, "MGRID", "REL_CUTOFF") == "60.0"
    assert value_of(root, *dft, "XC", "XC_FUNCTIONAL", "PBE", "PARAMETRIZATION") == "REVPBE"
    assert (
        value_of(root, *dft, "XC", "VDW_POTENTIAL", "PAIR_POTENTIAL", "REFERENCE_FUNCTIONAL")
        == "revPBE"
    )
    kind = ("FORCE_EVAL", "SUBSYS", "KIND")
    assert (value_of(root, *kind, "BASIS_SET"), value_of(root, *kind, "POTENTIAL")) == (
        "TZV2P-MOLOPT-GTH",
        "GTH-PBE",
    )
    assert "{RELAX_STEPS-3}" in (tmp_path / "relax.inc").read_text()
    read_back = read_settings(tmp_path / "dft.inp")
    assert (read_back.temperature, read_back.timestep, read_back.ensemble) == (350.0, 0.25, "NVT")
    assert read_back.cell == pytest.approx(waters(8).cell[0], abs=1e-9)


def test_the_grid_is_smooth_by_default() -> None:
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
def test_settings_that_make_no_sense(options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        Reference(**options)


def test_the_network_is_for_water(tmp_path: Path) -> None:
    methanol = pack([Ingredient(find_molecule("CH3OH"), 4)], 0.7)
    with pytest.raises(InputError, match=r"knows water only; found C: choose"):
        write_reference(tmp_path / "a", Reference(), methanol)
    assert not (tmp_path / "a").exists()


def test_nothing_is_overwritten(tmp_path: Path) -> None:
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


def test_velocities_of_the_frame_are_kept_unless_it_is_relaxed(
    tmp_path: Path, water: Trajectory
) -> None:
    write_reference(tmp_path / "kept", Reference(relax_steps=0), water[3])
    write_reference(tmp_path / "relaxed", Reference(), water[3])
    assert "&VELOCITY" in (tmp_path / "kept/system.inc").read_text()
    assert "&VELOCITY" not in (tmp_path / "relaxed/system.inc").read_text()


def test_frames_from_xyz(tmp_path: Path, water: Trajectory) -> None:
    frames = [
        Atoms(water.symbols, positions=x, cell=water.cell[0], pbc=True) for x in water.positions[:3]
    ]
    write(tmp_path / "f.xyz", frames, format="extxyz")
    read_back = open_extxyz(tmp_path / "f.xyz", require_forces=False).read()
    assert read_back.positions == pytest.approx(water.positions[:3], abs=1e-7)
    assert read_back.cell == pytest.approx(water.cell[:3])
    write(tmp_path / "plain.xyz", frames, format="xyz")
    with pytest.raises(InputError, match="need a cell"):
        open_extxyz(tmp_path / "plain.xyz", require_forces=False)
    assert spread_frames(water, 3).step.tolist() == water.step[[0, 343, 686]].tolist()


# --- the command ----------------------------------------------------------------------------------


def mld_ff(*arguments: object) -> Done:
    return invoke("reference", *arguments)


def test_the_command_labels_frames(tmp_path: Path) -> None:
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


def test_the_command_asks_for_what_it_needs(tmp_path: Path) -> None:
    done = mld_ff("-o", tmp_path, "--molecule", "CH3OH", "--count", 4)
    assert done.exit_code == 2 and "--density" in done.stderr
    done = mld_ff("-o", tmp_path, "--molecule", "CH3OH", "--density", 0.8)
    assert done.exit_code == 2 and "--count" in done.stderr
    assert list(tmp_path.iterdir()) == []
