"""What users write in one word: accuracy, channels, charges, stress."""

from __future__ import annotations

from typing import Literal

from mld_ff.errors import InputError
from mld_ff.loss.charges import LARGEST_CHARGE

Accuracy = Literal["pairs", "fast", "balanced", "best"]
Stress = Literal["learn", "none"]
ACCURACIES: dict[str, tuple[tuple[int, ...], float | None]] = {
    "pairs": ((), None),
    "fast": ((2, 1, 1), 4.0),
    "balanced": ((2, 2, 2), 5.0),
    "best": ((4, 6, 6), 5.0),
}
"""Channels of order 0 for each species, of order 1 and of order 2, and cutoff of densities [Å], by
a word. There are as many quadrupoles as vectors, since LAMMPS takes one of each in the time of one.
Water, unseen, by a network: 69, 54 and 46 meV/Å; by DFT 75, 62 and 55.
"""
DEFAULT_ACCURACY = "balanced"
AUTO = -1
NONE, LEARN, MOLECULES, OF_SALTS = "none", "learn", "molecules", "salts"
"""What may be asked for in place of charges."""
PRINTED = ("mulliken", "hirshfeld", "lowdin", "resp")
"""Charges that the reference's program printed."""
LEARNED = (LEARN, MOLECULES)


def parse_rank(value: object) -> int:
    """Rank from what a user writes: a number, or `auto`. Raises InputError."""
    if value == "auto":
        return AUTO
    try:
        rank = int(str(value))
    except ValueError:
        rank = -1
    if rank < 0 or isinstance(value, bool):
        raise InputError(
            f"collective is the number of channels for each species, or auto; found {value!r}"
        )
    return rank


def parse_channels(value: object) -> tuple[int, ...]:
    """Channels of order 0, 1 and 2 from what a user writes, `2,2,2`. Raises InputError."""
    try:
        return tuple(int(word) for word in str(value).split(","))
    except ValueError:
        raise InputError(
            "channels are three numbers, of order 0 for each species, of order 1 and of order 2:"
            f" 2,2,2; found {value!r}"
        ) from None


def parse_charges(text: str, *instead: str) -> dict[str, float]:
    """Charges [e] by species from what a user writes, `Na=1,Cl=-1`. Raises InputError, which names
    what else may be asked for.
    """
    items = [item.partition("=") for item in text.split(",")]
    try:
        given = {species.strip(): float(charge) for species, _, charge in items}
    except ValueError:
        given = {}
    if not any(given.values()) or not all(abs(q) <= LARGEST_CHARGE for q in given.values()):
        words = f"{', '.join(instead)}, or " if instead else ""
        raise InputError(f"charges are {words}one for each element, as Na=1,Cl=-1; found {text!r}")
    return given
