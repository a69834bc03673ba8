"""What a release would upload: complete, and at work in an environment that never saw the clone.

pytest -n 0 -m regression tests/regression/test_release.py
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
from conftest import EXAMPLE
from documents import ROOT

pytestmark = pytest.mark.regression
BRIEF = """cp2k = "cp2k"
skip_ps = 4.0
platform = "CPU"
[fit]
accuracy = "fast"
[run]
time_ps = 0.5
"""
"""Two minutes of the example become half of one."""


@pytest.fixture(scope="module")
def dist() -> Path:
    command = [sys.executable, "-m", "nox", "--sessions", "release"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return ROOT / "dist"


def one(dist: Path, pattern: str) -> Path:
    (found,) = dist.glob(pattern)
    return found


def shipped() -> set[str]:
    """Files of the package as they are named once it is installed."""
    tracked = subprocess.run(
        ["git", "ls-files", "mld_ff", "templates"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    return {f"mld_ff/{name}" if name.startswith("templates/") else name for name in tracked}


def test_wheel_and_sdist_hold_the_package(dist: Path) -> None:
    with zipfile.ZipFile(one(dist, "*.whl")) as wheel:
        inside = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert inside == shipped()
    with tarfile.open(one(dist, "*.tar.gz")) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    assert {name.replace("mld_ff/templates/", "templates/") for name in inside} <= names
    assert {"LICENSE", "README.md", "pyproject.toml"} <= names


def test_notes_are_those_of_the_version(dist: Path) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert one(dist, "*.whl").name.startswith(f"mld_ff-{project['version']}-")
    notes = (dist / "notes.md").read_text(encoding="utf-8")
    assert notes in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8") + "\n"
    assert len(notes) > 100 and "\n## " not in notes


def test_wheel_runs_the_example_without_the_clone(dist: Path, tmp_path: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}

    def call(*words: str | Path) -> str:
        done = subprocess.run(
            words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    call(sys.executable, "-m", "venv", "venv")
    bin_ = tmp_path / "venv" / "bin"
    call(bin_ / "python", "-m", "pip", "install", "--quiet", one(dist, "*.whl"))
    where = call(bin_ / "python", "-c", "import mld_ff.cli; print(mld_ff.cli.__file__)")
    assert Path(where).is_relative_to(tmp_path)
    (tmp_path / "cp2k").symlink_to(EXAMPLE)
    (tmp_path / "build.toml").write_text(BRIEF, encoding="utf-8")
    call(bin_ / "mld-ff", "build", "build.toml")
    report = json.loads((tmp_path / "output" / "report.json").read_text(encoding="utf-8"))
    assert report["verify"]["passed"] is True and report["fit"]["rmse_meV_per_A"] < 80
    assert (tmp_path / "output" / "report.html").stat().st_size > 1e6
    call(bin_ / "mld-ff", "reference", "-o", "ref", "--count", "8")
    assert list((tmp_path / "ref").glob("*.inp"))
