"""Markdown files as the tests read them: fenced blocks, commands, links.

A fence says how its text is tested:

- `bash`      every `mld-ff` command must be accepted by the command line's own parser
- `bash run`  that, and it runs as written, in a temporary directory that holds `examples/`
- `python`    runs in such a directory too, that of docs/usage.md after README's
              (regression/test_main_command.py)

Those of docs/tutorials run one page after the other (regression/test_tutorials.py).
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cyclopts import CycloptsError, MissingArgumentError

from mld_ff.cli import app, main, with_ranks

ROOT = Path(__file__).parents[1]
NOT_OURS = {".venv", "output", "build", "dist"}
DOCUMENTS = sorted(
    path
    for place in (".", "docs", "examples", "tests")
    for path in (ROOT / place).glob("*.md" if place == "." else "**/*.md")
    if not NOT_OURS & set(path.relative_to(ROOT).parts)
)
COMMAND = "mld-ff"


@dataclass(frozen=True)
class Block:
    """A fenced block."""

    language: str
    """The words after the fence, as `bash run`; empty for a picture."""
    text: str


def blocks(text: str) -> list[Block]:
    """Fenced blocks of a Markdown text, in their order."""
    fenced = re.findall(r"^```([\w ]*)\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    return [Block(language.strip(), inside) for language, inside in fenced]


def without_blocks(text: str) -> str:
    return re.sub(r"^```[\w ]*\n.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)


def commands(script: str) -> Iterator[list[str]]:
    """Words after `mld-ff` of every such command in a shell script, quoted ones included."""
    for line in script.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars="();<>|&")
        lexer.whitespace_split = True
        own: list[str] | None = None
        for word in [*lexer, ";"]:
            if own is None and Path(word).name == COMMAND:
                own = []
            elif own is not None and set(word) <= set("();<>|&"):
                yield own
                own = None
            elif own is not None:
                own.append(word)
            elif word.startswith(f"{COMMAND} "):
                yield from commands(word)


def inline_commands(text: str) -> Iterator[list[str]]:
    """Words after `mld-ff` of every code span that begins so; it may leave arguments out."""
    for span in re.findall(r"`mld-ff ([^`]+)`", without_blocks(text)):
        yield [word for word in shlex.split(span) if word != "…"]


def refusal(words: list[str], whole: bool = True) -> str | None:
    """What the command line's parser says against a command; nothing is run.

    whole: whether arguments that the command needs must be there.
    """
    try:
        app.parse_args(with_ranks(words), exit_on_error=False, print_error=False)
    except MissingArgumentError as error:
        return str(error) if whole else None
    except CycloptsError as error:
        return str(error)
    return None


def run_commands(script: str) -> None:
    """Run a block of `mld-ff` commands, one on each line, in this directory and this process: an
    interpreter with OpenMM and MDAnalysis takes seconds to start.
    """
    lines = [line for line in script.replace("\\\n", " ").splitlines() if line.strip()]
    listed = list(commands(script))
    assert len(lines) == len(listed), "a line of such a block is one mld-ff command"
    for words in listed:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", [COMMAND, *_expanded(words)])
            try:
                main()
            except SystemExit as left:
                assert not left.code, " ".join(words)


def _expanded(words: list[str]) -> list[str]:
    """Words as a shell gives them: patterns as the files that they match."""
    return [
        path
        for word in words
        for path in (sorted(map(str, Path().glob(word))) if "*" in word else [word])
    ]


def slug(heading: str) -> str:
    """The anchor that a Markdown page gives a heading."""
    plain = re.sub(r"[`*_]|\[([^]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
    return re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")


def anchors(text: str) -> set[str]:
    return {slug(h) for h in re.findall(r"^#+ (.*)$", without_blocks(text), re.MULTILINE)}


def links(text: str) -> list[str]:
    """Targets of all links and pictures."""
    return re.findall(r"\]\(([^)\s]+)\)", without_blocks(text))


def paths_named(text: str) -> set[str]:
    """Files and folders of this repository that the text names."""
    return set(re.findall(r"(?<![\w/.-])(?:examples|tests|docs|mld_ff|templates)/[\w./-]*\w", text))
