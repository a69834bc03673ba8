"""The verbs that the documentation shows. (README's main command and Python lines, which take
minutes: regression/test_main_command.py.)
"""

from __future__ import annotations

import re
import subprocess
import sys

from documents import ROOT, blocks, commands

USAGE = (ROOT / "docs" / "usage.md").read_text(encoding="utf-8")


def test_commands_shown_exist() -> None:
    """Whether the command line takes them with these options: test_docs.py."""
    shown = {words[0] for block in blocks(USAGE) for words in commands(block.text)}
    done = subprocess.run(
        [sys.executable, "-c", "from mld_ff.cli import main; main()", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown == {
        "doctor",
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
        "init",
        "schema",
    }
    assert all(re.search(rf"\b{verb}\b", done.stdout) for verb in shown)
