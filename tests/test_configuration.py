"""Configurations that are proposed for data, described by a schema, and looked at before they run.
(What is refused in one: test_build.py.)
"""

from __future__ import annotations

import json
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from command_line import invoke
from conftest import EXAMPLE, present

from mld_ff.configuration.proposal import propose
from mld_ff.configuration.schema import schema
from mld_ff.configuration.toml import SECTIONS, read_config
from mld_ff.origin import Origin
from mld_ff.trajectory import Trajectory

DFT = EXAMPLE.parents[1] / "water-dft/cp2k"
SHIPPED = sorted(EXAMPLE.parents[1].glob("*/build.toml"))


# --- proposed -------------------------------------------------------------------------------------


def test_init_looks_at_the_data_and_says_why(late_water: Path, tmp_path: Path) -> None:
    """What it writes is a configuration that can be read, with a reason on every line."""
    file = tmp_path / "build.toml"
    done = invoke("init", late_water, "-o", file, "--skip", 0.1)
    assert done.exit_code == 0, done.stderr
    text = file.read_text(encoding="utf-8")
    assert "64 H2O" in text and "0.993 g/cm³" in text
    keys = [line for line in text.splitlines() if line and line[0] not in "#["]
    assert len(keys) == 10 and all(" # " in line for line in keys)
    config = read_config(file)
    assert config.cp2k.resolve() == late_water.resolve()
    assert (config.md.temperature_K, config.md.timestep_fs) == (300.0, 0.5)
    assert (config.basis.accuracy, config.basis.cutoff_A) == ("balanced", 5.5)
    again = invoke("init", late_water, "-o", file)
    assert again.exit_code == 2 and "or replace it (--overwrite)" in again.stderr
    (tmp_path / "run.sh").write_text("#!/bin/sh\n")  # begins with # too
    other = invoke("init", late_water, "-o", tmp_path / "run.sh", "--overwrite")
    assert other.exit_code == 2 and "is a file of another kind, and stays" in other.stderr


def test_what_has_not_settled_is_left_out(few: Trajectory, tmp_path: Path) -> None:
    """Four times as hot in the first of ten parts: only that part goes."""
    long = few[np.arange(few.n_frames).repeat(4)]
    every = 10.0 * np.arange(long.n_frames, dtype=np.float64)
    factor = np.where(np.arange(long.n_frames) < long.n_frames // 10, 2.0, 1.0)
    velocities = present(long.velocities) * factor[:, None, None]
    unsettled = replace(long, time=every, velocities=velocities)
    proposed = tomllib.loads(propose(unsettled, tmp_path, tmp_path))
    first = np.array_split(every, 10)[1][0] / 1000
    assert proposed["skip_ps"] == pytest.approx(first, abs=0.01)
    settled = tomllib.loads(propose(replace(long, time=every), tmp_path, tmp_path))
    assert settled["skip_ps"] == 0.0


def test_what_is_not_known_is_said(few: Trajectory, tmp_path: Path) -> None:
    """Nothing tells the temperature of frames without velocities and settings."""
    text = propose(replace(few, velocities=None, origin=Origin()), tmp_path, tmp_path)
    assert "not known from the data: check it" in text
    assert "no temperatures tell whether the beginning has settled" in text
    assert f"warning: {few.n_frames} frames are few" in text


# --- described ------------------------------------------------------------------------------------


def test_the_schema_describes_every_key_and_no_other() -> None:
    done = invoke("schema")
    told = json.loads(done.stdout)
    assert told == schema() and told["required"] == ["cp2k"]
    run = told["properties"]["run"]["properties"]
    assert run["ensemble"]["enum"] == ["nve", "nvt", "npt"]
    assert run["time_ps"] == {
        "description": "Length of the run.",
        "type": "number",
        "default": 20.0,
    }
    assert told["properties"]["fit"]["properties"]["channels"]["items"] == {"type": "integer"}
    assert told["properties"]["fit"]["properties"]["collective"]["anyOf"][1] == {"const": "auto"}
    assert all(told["properties"][name]["additionalProperties"] is False for name in SECTIONS)


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.parent.name)
def test_shipped_configurations_keep_to_the_schema(file: Path) -> None:
    told, shipped = schema(), tomllib.loads(file.read_text(encoding="utf-8"))
    assert set(shipped) <= set(told["properties"])
    for name in SECTIONS:
        assert set(shipped.get(name, {})) <= set(told["properties"][name]["properties"])


# --- looked at ------------------------------------------------------------------------------------


def test_a_dry_run_says_what_takes_how_long_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "build.toml").write_text(
        f"cp2k = '{DFT}'\nengines = ['lammps']\n[fit]\nkind = 'power'\n"
        "exponents = [3.0]\ncutoff_A = 4.0\n[run]\ntime_ps = 1000.0\n"
    )
    done = invoke("build", tmp_path / "build.toml", "--dry-run", "--json")
    assert done.exit_code == 0, done.stderr
    fitted, ran = json.loads(done.stdout)["steps"]
    assert fitted["what"] == "fit" and "81 frames" in fitted["said"]
    assert ran["what"] == "run by LAMMPS" and ran["said"] == "1000 ps of 192 atoms"
    assert ran["seconds"] > 60 > fitted["seconds"] > 0  # 2,000,000 steps
    assert [file.name for file in tmp_path.iterdir()] == ["build.toml"]
