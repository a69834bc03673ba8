"""What a loaded file may hold: values of which an evaluation, a table or an expression can be made.

Far beyond what fits make, and far below what takes all memory or all time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from mld_ff.errors import InputError
from mld_ff.names import shown

MOST_TERMS = 5000
MOST_COEFFICIENTS = 10_000
"""Of one term."""
MOST_BINS = 100_000
"""Of a histogram of what the data sampled."""
MOST_POWERS = 50
HIGHEST_POWER = 50.0
"""Exponents of power laws, either sign."""
HIGHEST_DEGREE = 32
"""Of the polynomials of bonded terms."""
CUTOFFS_A = (0.5, 50.0)
SPACINGS_A = (0.02, 5.0)
LONGEST_BONDED_A = 20.0
STIFFEST = 1e6
"""Of walls [eV/Å³]; those of fits stay below a thousandth of it."""
MORE_FUNCTIONS = 3
"""Splines may begin so many knots inside of r = 0."""


def check_range(what: str, value: float, lowest: float, highest: float) -> None:
    """Raise InputError unless lowest ≤ value ≤ highest."""
    if not lowest <= value <= highest:
        raise InputError(f"{what} is {value!r}; expected {lowest:g} to {highest:g}")


def check_count(what: str, found: int, most: int) -> None:
    """Raise InputError if there are more than `most` of something."""
    if found > most:
        raise InputError(f"{found} {what}; expected at most {most}")


def functions_within(cutoff_A: float, spacing_A: float) -> int:
    """The most splines on knots `spacing_A` apart that a cutoff has room for."""
    return math.ceil(cutoff_A / spacing_A - 1e-9) + MORE_FUNCTIONS


def check_numbers(what: str, value: Any) -> None:
    """Raise InputError unless it is a finite number, or a tuple or list of such."""
    for number in value if isinstance(value, (tuple, list)) else (value,):
        if not is_number(number):
            raise InputError(f"{what} should hold finite numbers; found {shown(number)}")


def check_coverage(what: str, coverage: Any) -> None:
    """Raise InputError unless it is a table of numbers and lists of numbers; null: not known."""
    if not isinstance(coverage, Mapping):
        raise InputError(f"{what} should be a table; found {shown(coverage)}")
    for value in coverage.values():
        if isinstance(value, list):
            check_count(f"{what} values", len(value), MOST_BINS)
        if value is not None:
            check_numbers(what, value)


def is_number(value: Any) -> bool:
    """Whether it is a finite number that a float can hold; true and false are none."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number of hundreds of digits
        return False
