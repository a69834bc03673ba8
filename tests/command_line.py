"""`mld-ff` within the process of a test."""

from __future__ import annotations

import io
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass

from mld_ff.cli import main


@dataclass(frozen=True)
class Done:
    """What a command left."""

    exit_code: int
    stdout: str
    stderr: str


def invoke(*arguments: object) -> Done:
    """`mld-ff` with these arguments."""
    stdout, stderr, code = io.StringIO(), io.StringIO(), 0
    with redirect_stdout(stdout), redirect_stderr(stderr):
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as left:
            assert isinstance(left.code, int)
            code = left.code
    return Done(code, stdout.getvalue(), stderr.getvalue())
