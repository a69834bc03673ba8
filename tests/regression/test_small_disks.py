"""Disks that fill anywhere in what takes long: the cause is named, and what lies there is whole.

pytest -n 0 -s -m regression tests/regression/test_small_disks.py
"""

from __future__ import annotations

from pathlib import Path

import pytest
from cp2k_output import DATA
from disks import on_a_disk

from mld_ff.inference import Basis, fit
from mld_ff.sources.cp2k import read_cp2k

NACL = DATA / "nacl"
BASIS = ["--accuracy", "pairs", "--cutoff", "5", "--spacing", "0.5", "--force"]
CONFIG = f"""\
cp2k = "{NACL}"
output = "x"
engines = ["lammps"]
[fit]
accuracy = "pairs"
cutoff_A = 5.0
spacing_A = 0.5
[run]
time_ps = 1.0
timestep_fs = 2.0
every_fs = 2.0
"""
SIZES_KB = (12, 60, 150, 400, 800, 1600)


@pytest.mark.regression
@pytest.mark.parametrize("size_kB", SIZES_KB)
def test_every_verb_names_a_full_disk(size_kB: int, tmp_path: Path) -> None:
    model, config = tmp_path / "model.json", tmp_path / "build.toml"
    basis = Basis(cutoff_A=5.0, spacing_A=0.5, accuracy="pairs")
    fit(read_cp2k(NACL), basis, force=True).loss.save(model)
    config.write_text(CONFIG)
    md = ["--time", "1", "--timestep", "2"]
    place = tmp_path / "disk" / "results"
    verbs: dict[str, list[object]] = {
        "fit": [NACL, *BASIS],
        "accumulate": [NACL],
        "scan": [NACL, "--cutoff", "4"],
        "run": [model, "--engine", "lammps", "--cp2k", NACL, "--force", "--every", "2", *md],
        "match": [NACL, *BASIS, "--engine", "lammps", "--rounds", "1", *md],
        "refine": [NACL, *BASIS, "--engine", "lammps", "--rounds", "1", *md],
        "build": [config, "--force"],
    }
    commands = [
        [verb, *words, "-o", place.with_suffix(".npz") if verb == "accumulate" else place]
        for verb, words in verbs.items()
    ]
    for verb, one in zip(verbs, on_a_disk(tmp_path, commands, size_kB), strict=True):
        print(size_kB, verb, one.exit_code, one.stderr.strip().splitlines()[-1:], flush=True)
        assert "unexpected" not in one.stderr and "Traceback" not in one.stderr, (verb, one)
        assert one.exit_code == 0 or "No space left" in one.stderr or "is full" in one.stderr
        halves = [f for f in one.files if Path(f).name.startswith(".") and "lock" not in f]
        assert not halves, (verb, halves)
