"""README's own text is what runs here: its Python lines. (Its main command, which takes minutes:
regression/test_main_command.py.)
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from documents import ROOT, commands
from documents import blocks as fenced

README = (ROOT / "README.md").read_text(encoding="utf-8")
USAGE = (ROOT / "docs" / "usage.md").read_text(encoding="utf-8")


def blocks(language: str, text: str = README) -> list[str]:
    return [block.text for block in fenced(text) if block.language == language]


def test_python_lines_run(tmp_path: Path) -> None:
    shown = blocks("python") + blocks("python", USAGE)
    assert all(len([line for line in code.splitlines() if line.strip()]) <= 12 for code in shown)
    code = "\n".join(shown)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "'O': 0.2" in done.stdout


def test_commands_shown_exist() -> None:
    """Whether the command line takes them with these options: test_docs.py."""
    shown = {words[0] for block in blocks("bash", USAGE) for words in commands(block)}
    done = subprocess.run(
        [sys.executable, "-c", "from mld_ff.cli import main; main()", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown == {
        "inspect",
        "fit",
        "verify",
        "export",
        "run",
        "report",
        "scan",
        "agents",
        "refine",
        "match",
        "reference",
        "accumulate",
        "box",
        "build",
    }
    assert all(re.search(rf"\b{verb}\b", done.stdout) for verb in shown)
