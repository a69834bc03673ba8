"""The command line: every verb is a few lines around one library call."""

from __future__ import annotations

import ast
import os
import re
import shlex
import sys
from collections.abc import Sequence
from itertools import pairwise, takewhile
from pathlib import Path
from typing import Literal

from cyclopts import (
    App,
    CoercionError,
    CycloptsError,
    MissingArgumentError,
    Parameter,
    UnknownOptionError,
    UnusedCliTokensError,
)

from mld_ff.cli.plain import speak_plainly
from mld_ff.version import __version__

ROOMS = ("learning", "running", "reports", "workflows", "preparing")
"""Modules whose functions are verbs, in the order of `mld-ff --help`."""

NUMBER = re.compile(r"-?\d+(\.\d*)?,?")
RENAMED = {
    ("reference", "--basis"): "--dft-basis",
    ("reference", "--cutoff"): "--grid-cutoff",
}
"""Options of 0.1.0 by what they are called now; the most similar name is that of another."""
Shell = Literal["bash", "zsh", "fish", "powershell"]


app = App(
    name="mld-ff",
    help="From a CP2K trajectory to a force field that stock OpenMM and stock LAMMPS run.",
    version=__version__,
    help_flags=["--help", "-h"],
    help_format="plaintext",
    default_parameter=Parameter(negative=()),
    result_action="return_value",
)


def _register(room: str) -> None:
    """Make verbs of a module's functions, with their docstrings as help.

    These are read from its text, so that only the module whose verb is called is imported:
    `mld-ff --help` takes 0.3 s of CPU time instead of 4.5.
    """
    file = Path(__file__).with_name(f"{room}.py")
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            paragraphs = (ast.get_docstring(node) or "").split("\n\n")
            text = "\n\n".join(" ".join(p.split()) for p in paragraphs)
            place = (ROOMS.index(room), node.lineno)
            path = f"{__name__}.{room}:{node.name}"
            app.command(path, name=node.name, help=text, sort_key=place)


for _room in ROOMS:
    _register(_room)


@app.command(name="--install-completion")
def _install_completion(shell: Shell | None = None, /) -> None:
    """Install completion of options and files for a shell, or for the current one."""
    from mld_ff.cli.console import reporting

    with reporting(as_json=False):
        print(app.install_completion(shell=shell))


@app.command(name="--show-completion")
def _show_completion(shell: Shell | None = None, /) -> None:
    """Print what completes options and files in a shell, or in the current one."""
    from mld_ff.cli.console import reporting

    with reporting(as_json=False):
        print(app.generate_completion(shell=shell))


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of `mld-ff`. Leaves with 0 if done, 1 if a check failed, 2 for bad input."""
    speak_plainly()
    words = with_ranks(sys.argv[1:] if arguments is None else list(arguments))
    try:
        if spread := spread_list(words):
            _refuse(spread, words)
        app(words, exit_on_error=False, print_error=False)
    except CycloptsError as error:
        command = " ".join((app.name[0], *(error.command_chain or ())))
        said = _renamed(error, words) or _said(error)
        _refuse(f"{said} (`{command} --help`)", words)


def _refuse(said: str, words: Sequence[str]) -> None:
    from mld_ff.cli.console import BAD_INPUT, refuse

    refuse(f"error: {said}", BAD_INPUT, "--json" in words)


def _said(error: CycloptsError) -> str:
    """What a command lacks, or has too much of, beside all that it needs; else Cyclopts' words."""
    from cyclopts.help import format_usage

    usage = str(format_usage(app, error.command_chain or ())).strip()
    if isinstance(error, MissingArgumentError) and error.argument and not error.keyword:
        return f"{error.argument.name} is missing: {usage}"
    if isinstance(error, UnusedCliTokensError) and error.unused_tokens:
        return f"not expected here: {' '.join(error.unused_tokens)}: {usage}"
    if isinstance(error, CoercionError) and error.token and error.target_type is float:
        return f"{error.token.keyword} takes a number; found {error.token.value!r}"
    return str(error)


def _renamed(error: CycloptsError, words: Sequence[str]) -> str:
    """What to say of an option that an earlier version had; empty if it had none of that name."""
    if not isinstance(error, UnknownOptionError) or not words:
        return ""
    option = str(error.token.keyword or error.token.value).partition("=")[0]
    now = RENAMED.get((words[0], option))
    if not now:
        return ""
    meant = [now + w[len(option) :] if w.partition("=")[0] == option else w for w in words]
    return f"{option} is called {now} now: {shlex.join([app.name[0], *meant])}"


def spread_list(words: Sequence[str]) -> str:
    """What to say of a list whose numbers stand apart, as `--hot 350 400`: the second would be
    taken for something else. Empty if there is none, or a file is called so.
    """
    for at, option in enumerate(words):
        numbers = [*takewhile(NUMBER.fullmatch, words[at + 1 :])]
        if not option.startswith("--") or len(numbers) < 2 or any(map(os.path.exists, numbers)):
            continue
        try:
            arguments = app[words[0]].assemble_argument_collection()
        except (CycloptsError, KeyError):
            return ""  # no such verb
        if any(option in a.names and "," in (a.parameter.metavar or "") for a in arguments):
            given, meant = " ".join(numbers), ",".join(n.rstrip(",") for n in numbers)
            return f"{option} {given}: lists are written with commas, {option} {meant}"
    return ""


def with_ranks(arguments: list[str]) -> list[str]:
    """Arguments in which `--collective` without a rank says `auto`."""
    words: list[str] = []
    for word, following in pairwise([*arguments, ""]):
        words.append(word)
        if word == "--collective" and not re.fullmatch(r"-?\d+|auto", following):
            words.append("auto")
    return words
