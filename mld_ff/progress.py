"""How long work tells how far it is."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""Called with what is being done (after a colon: how fast), how many units are done, and how many
there are.
"""


def no_progress(what: str, done: int, total: int) -> None:
    """Says nothing."""


def within(stage: str, progress: Progress) -> Progress:
    """Tells of parts of a stage, each as a stage of its own."""
    return lambda what, done, total: progress(f"{stage} {what}", done, total)
