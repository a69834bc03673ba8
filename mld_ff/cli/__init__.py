"""The command line."""

from mld_ff.cli.commands import app, main

__all__ = ["app", "main"]
