"""The tutorials, one page after the other in one directory, as a reader goes through them, and
what the pages of examples mark as quick.

pytest -n 0 -m regression tests/regression/test_tutorials.py
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
from documents import ROOT, blocks, run_commands

from mld_ff.errors import InputError
from mld_ff.sources.cp2k.run.launch import find_cp2k

pytestmark = pytest.mark.regression
PAGES = ("own-data", "accuracy", "salt", "refining", "cluster", "openmm", "ase", "partners")
"""The first leaves the model that those after it use."""

EXAMPLES = ("acid", "cluster", "methanol", "water-dft")

PARTNERS = ("ipi", "openmmml")


def missing(page: str) -> str | None:
    """What the page needs beside mld_ff and is not here."""
    if page == "refining":
        try:
            find_cp2k()
        except InputError:
            return "CP2K is not installed (apt-get install cp2k)"
    absent = [name for name in PARTNERS if importlib.util.find_spec(name) is None]
    if page == "partners" and absent:
        return f"{' and '.join(absent)} not installed (pip install '.[partners]')"
    return None


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("tutorials")
    for name in ("examples", "tests"):
        (where / name).symlink_to(ROOT / name)
    return where


def test_pages_are_these() -> None:
    assert {p.stem for p in (ROOT / "docs" / "tutorials").glob("*.md")} == {*PAGES}
    marked = [p.parent.name for p in (ROOT / "examples").glob("*/README.md") if commands_of(p)]
    assert sorted(marked) == [*EXAMPLES]


def commands_of(page: Path) -> list[str]:
    """What it marks to be run."""
    shown = blocks(page.read_text(encoding="utf-8"))
    return [block.text for block in shown if block.language == "bash run"]


@pytest.mark.parametrize("example", EXAMPLES)
def test_example_runs(example: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    for text in commands_of(ROOT / "examples" / example / "README.md"):
        run_commands(text)


@pytest.mark.parametrize("page", PAGES)
def test_tutorial_runs(page: str, desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if reason := missing(page):
        pytest.skip(reason)
    monkeypatch.chdir(desk)
    # where `i-pi` is, unless the environment was activated
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    file = ROOT / "docs" / "tutorials" / f"{page}.md"
    for text in commands_of(file):
        run_commands(text)
    shown = blocks(file.read_text(encoding="utf-8"))
    code = "\n".join(block.text for block in shown if block.language == "python")
    if code:
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=desk, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
