"""Words of OpenMM's expressions: numbers, and values that depend on the species of two atoms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations_with_replacement

from mld_ff.units import A_TO_NM, EV_TO_KJ_PER_MOL

SPECIES_PAIR = tuple[str, str]


def number(value: float) -> str:
    """The shortest text that reads back as the same number."""
    return repr(float(value))


def kj_per_mol(value: float, per_length: float = 0) -> float:
    """A coefficient in eV Å^-per_length as kJ/mol nm^-per_length."""
    return float(value * EV_TO_KJ_PER_MOL / A_TO_NM**per_length)


def by_species(name: str, values: Mapping[SPECIES_PAIR, float], species: Sequence[str]) -> str:
    """A definition `name=value` that depends on the species of both particles.

    Every particle has one parameter per species, 1 for its own and 0 for the others; products of
    them are cheaper than a lookup and vectorise on the CPU platform.
    """
    parts = [
        f"({number(values[a, b])})*{a}{b}"
        for a, b in combinations_with_replacement(species, 2)
        if values.get((a, b))
    ]
    return f"{name}=" + ("+".join(parts) or "0")


def species_products(species: Sequence[str]) -> str:
    """Definitions of the products that `by_species` needs; they go last."""
    return "; ".join(
        f"{a}{b}={a}1*{b}2" if a == b else f"{a}{b}={a}1*{b}2+{b}1*{a}2"
        for a, b in combinations_with_replacement(species, 2)
    )
