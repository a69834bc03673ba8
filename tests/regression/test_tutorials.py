"""The tutorials, one page after the other in one directory, as a reader goes through them.

pytest -n 0 -m regression tests/regression/test_tutorials.py
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from documents import ROOT, blocks, run_commands

pytestmark = pytest.mark.regression
PAGES = ("own-data", "accuracy", "salt", "openmm", "ase")
"""The first leaves the model that those after it use."""


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("tutorials")
    for name in ("examples", "tests"):
        (where / name).symlink_to(ROOT / name)
    return where


def test_pages_are_these() -> None:
    assert {p.stem for p in (ROOT / "docs" / "tutorials").glob("*.md")} == {*PAGES}


@pytest.mark.parametrize("page", PAGES)
def test_tutorial_runs(page: str, desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(desk)
    shown = blocks((ROOT / "docs" / "tutorials" / f"{page}.md").read_text(encoding="utf-8"))
    for block in shown:
        if block.language == "bash run":
            run_commands(block.text)
    code = "\n".join(block.text for block in shown if block.language == "python")
    if code:
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=desk, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
