"""Read-only and full disks: every verb that writes names the cause, and leaves nothing half."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from conftest import invent
from cp2k_output import DATA
from disks import FULL, REFUSED, on_a_disk

from mld_ff.sources.cp2k import read_cp2k

ARGON = DATA / "argon"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("model") / "model.json"
    loss = invent(read_cp2k(ARGON)[0], cutoff=4.0, edge=3.0)
    replace(loss, agents={"Ar": loss.terms}).save(file)
    return file


def test_a_read_only_disk_is_named_before_the_work(model: Path, tmp_path: Path) -> None:
    (tmp_path / "build.toml").write_text(f'cp2k = "{ARGON}"\noutput = "x"\n')
    frame = ["--cp2k", ARGON]
    verbs: dict[str, list[object]] = {
        "fit": [ARGON],
        "accumulate": [ARGON],
        "scan": [ARGON],
        "export": [model, "--engine", "lammps", *frame],
        "run": [model, "--engine", "lammps", *frame],
        "report": ["--reference", ARGON, "--trajectory", tmp_path],
        "init": [ARGON],
        "build": [tmp_path / "build.toml"],
        "refine": [ARGON],
        "match": [ARGON],
        "agents": [model, *frame],
        "box": [],
        "reference": ["--method", "xtb", *frame],
    }
    names = {"fit": "model.json", "accumulate": "a.npz", "init": "build.toml", "box": "box.xyz"}
    commands = [
        [verb, *words, "-o", tmp_path / "disk" / names.get(verb, "results")]
        for verb, words in verbs.items()
    ]
    left = on_a_disk(tmp_path, commands, 64, read_only=True)
    for verb, one in zip(verbs, left, strict=True):
        assert (one.exit_code, one.files) == (2, []), (verb, one)
        place = tmp_path / "disk" / names.get(verb, "results")
        assert f"{place}" in one.stderr and f"cannot be written: {REFUSED}" in one.stderr, (
            verb,
            one,
        )


def test_a_full_disk_is_named_and_nothing_is_half_written(model: Path, tmp_path: Path) -> None:
    more = ["--cp2k", ARGON, "--force", "-o", tmp_path / "disk" / "results"]
    commands: list[list[object]] = [
        ["export", model, "--engine", "lammps", *more],
        ["export", model, "--engine", "openmm", *more],
        ["run", model, "--engine", "openmm", *more],
        ["box", "--count", "30", "-o", tmp_path / "disk" / "box.xyz"],
    ]
    for one in on_a_disk(tmp_path, commands, 4):
        assert (one.exit_code, one.files) == (2, []), one
        assert f"cannot be written: {FULL}" in one.stderr


def test_a_disk_that_fills_during_a_run_is_named(model: Path, tmp_path: Path) -> None:
    """Its files fit there, its trajectory does not."""
    place = tmp_path / "disk" / "run"
    words = ["--cp2k", ARGON, "--force", "--time", "4", "--timestep", "2", "--every", "2"]
    command = ["run", model, "--engine", "openmm", *words, "-o", place]
    (left,) = on_a_disk(tmp_path, [command], 100)
    assert left.exit_code == 1 and "run/run.json" in left.files
    said = f"engine: the disk of {place} is full: make room and go on with --resume\n"
    assert left.stderr.endswith(said)
