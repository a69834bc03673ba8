"""Names that go into files which engines read: a pattern for each kind, checked by whatever takes
one.

LAMMPS runs every line of its input, and OpenMM's expressions know no quotes. A name that fits its
pattern is one word in all their languages, so nothing that writes has to quote it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from mld_ff.errors import InputError

SPECIES = re.compile(r"[A-Za-z][A-Za-z0-9_+]{0,31}")
"""An element, or a label such as O1, H_w, Na+; `-` stands between two of them."""
ATOM_TYPE = re.compile(r"[A-Za-z][A-Za-z0-9_+()]{0,199}")
"""An element and, in brackets, its neighbours, each with its own: O(HH), H(O(H))."""
TERM = re.compile(r"[A-Za-z][A-Za-z0-9_+:.-]{0,199}")
"""`relation:species`, such as free:O-H or collective:O:1."""
WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_+*().,/-]{0,79}")
"""A value in CP2K's input, such as the name of a basis set: DZVP-MOLOPT-SR-GTH, 6-31G*."""
SHOWN = 60
"""So much of a text that cannot be used is shown."""


def shown(text: Any) -> str:
    """Any value on one line, without characters that a terminal obeys."""
    printed = ascii(text)
    return printed if len(printed) <= SHOWN else f"{printed[:SHOWN]}…"


def check_species(names: Iterable[Any]) -> None:
    """Raise InputError unless every name is that of a species."""
    for name in set(names):
        if not _is(SPECIES, name):
            raise InputError(
                f"{shown(name)} is no name of a species: expected an element, or a label of"
                " letters, digits, _ and + such as O1, H_w or Na+"
            )


def check_atom_types(names: Iterable[Any]) -> None:
    """Raise InputError unless every name is that of an atom type."""
    for name in names:
        if not _is(ATOM_TYPE, name):
            raise InputError(
                f"{shown(name)} is no atom type: expected an element and its neighbours in"
                " brackets, such as O(HH) or H(O(H))"
            )


def check_term(name: Any) -> None:
    """Raise InputError unless the name is that of a term."""
    if not _is(TERM, name):
        raise InputError(
            f"{shown(name)} is no name of a term: expected letters, digits and _ + : . - such as"
            " free:O-H"
        )


def check_word(what: str, value: Any) -> None:
    """Raise InputError unless the value is one word of CP2K's input."""
    if not _is(WORD, value):
        raise InputError(
            f"{what} is {shown(value)}; expected one word of letters, digits and _ + * ( ) . , / -"
        )


def _is(pattern: re.Pattern[str], name: Any) -> bool:
    return isinstance(name, str) and pattern.fullmatch(name) is not None
