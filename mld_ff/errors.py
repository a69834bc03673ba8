"""The errors a user can meet; every one of them says what, where, found against expected, and what
to do.
"""

from __future__ import annotations

import math
from pathlib import Path


class MldError(Exception):
    """Base of all errors that mld_ff raises on purpose."""


class InputError(MldError):
    """The user's input cannot be used: a file, a configuration, an option.

    message: what is wrong, found against expected, and the remedy. file, line: where it is (line
    counts from 1).
    """

    def __init__(
        self, message: str, file: Path | str | None = None, line: int | None = None
    ) -> None:
        self.file, self.line = file, line
        where = "" if file is None else f"{file}: " if line is None else f"{file}:{line}: "
        super().__init__(where + message)


class CheckFailed(MldError):
    """A check ran and its result is outside the tolerance (engines disagree, a run left its sampled
    range).
    """


class EngineError(MldError):
    """OpenMM or LAMMPS refused its input, warned, or crashed."""


def check_not_negative(**values: float) -> None:
    """Raise InputError unless every value is zero or a positive, finite number."""
    for name, value in values.items():
        if not (isinstance(value, (int, float)) and 0 <= value < math.inf):
            raise InputError(f"{name} is {value!r}; it must be a number, 0 or more")


def check_positive(**values: float) -> None:
    """Raise InputError unless every value is a positive, finite number."""
    for name, value in values.items():
        if not (isinstance(value, (int, float)) and 0 < value < math.inf):
            raise InputError(f"{name} is {value!r}; it must be a positive number")


MOST_SEED = 2**31 - 1
"""That CP2K and engines take."""


def check_seed(seed: int) -> None:
    """Raise InputError unless random numbers can begin with it."""
    if not 0 <= seed <= MOST_SEED:
        raise InputError(f"the seed is {seed}; it must be a whole number from 0 to {MOST_SEED}")
