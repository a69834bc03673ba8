"""Units as CP2K writes them (`hartree*bohr^-1`, `angstrom*fs^-1`), as factors to eV, Å, fs, amu, K
and degrees.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from pathlib import Path

from scipy.constants import physical_constants

from mld_ff.errors import InputError
from mld_ff.units import (
    AU_TIME_TO_FS,
    BOHR_TO_A,
    CM_TO_FS,
    EV_PER_A3_TO_BAR,
    EV_TO_KJ_PER_MOL,
    HARTREE_PER_BOHR_TO_EV_PER_A,
    HARTREE_TO_EV,
    KB_EV_PER_K,
)

_ELECTRON_AMU: float = physical_constants["electron mass in u"][0]
_NEWTON_TO_EV_PER_A: float = physical_constants["joule-electron volt relationship"][0] * 1e-10
_PER_CM_TO_EV: float = 100 * physical_constants["inverse meter-electron volt relationship"][0]
_KG_TO_AMU: float = physical_constants["kilogram-atomic mass unit relationship"][0]

LENGTH, ENERGY, TIME, MASS, ANGLE, TEMPERATURE = (
    "length",
    "energy",
    "time",
    "mass",
    "angle",
    "temperature",
)
Quantity = str | tuple[str, dict[str, int]]
"""A name above, or a name for people and the powers of those above."""
FORCE = ("energy/length", {ENERGY: 1, LENGTH: -1})
NUMBER: Quantity = ("plain numbers", {})
PRESSURE = ("pressure", {ENERGY: 1, LENGTH: -3})
VELOCITY = ("length/time", {LENGTH: 1, TIME: -1})

_UNITS: dict[str, tuple[dict[str, int], float]] = {
    "angstrom": ({LENGTH: 1}, 1.0),
    "bohr": ({LENGTH: 1}, BOHR_TO_A),
    "au_l": ({LENGTH: 1}, BOHR_TO_A),
    "nm": ({LENGTH: 1}, 10.0),
    "pm": ({LENGTH: 1}, 0.01),
    "m": ({LENGTH: 1}, 1e10),
    "hartree": ({ENERGY: 1}, HARTREE_TO_EV),
    "au_e": ({ENERGY: 1}, HARTREE_TO_EV),
    "wavenumber_e": ({ENERGY: 1}, _PER_CM_TO_EV),
    "k_e": ({ENERGY: 1}, KB_EV_PER_K),
    "ry": ({ENERGY: 1}, HARTREE_TO_EV / 2),
    "ev": ({ENERGY: 1}, 1.0),
    "kev": ({ENERGY: 1}, 1e3),
    "kjmol": ({ENERGY: 1}, 1 / EV_TO_KJ_PER_MOL),
    "kcalmol": ({ENERGY: 1}, 4.184 / EV_TO_KJ_PER_MOL),
    "joule": ({ENERGY: 1}, _NEWTON_TO_EV_PER_A * 1e10),
    "fs": ({TIME: 1}, 1.0),
    "ps": ({TIME: 1}, 1e3),
    "s": ({TIME: 1}, 1e15),
    "au_t": ({TIME: 1}, AU_TIME_TO_FS),
    "wavenumber_t": ({TIME: 1}, CM_TO_FS),
    "au_f": (FORCE[1], HARTREE_PER_BOHR_TO_EV_PER_A),
    "newton": (FORCE[1], _NEWTON_TO_EV_PER_A),
    "n": (FORCE[1], _NEWTON_TO_EV_PER_A),
    "mnewton": (FORCE[1], _NEWTON_TO_EV_PER_A * 1e-3),
    "mn": (FORCE[1], _NEWTON_TO_EV_PER_A * 1e-3),
    "bar": (PRESSURE[1], 1 / EV_PER_A3_TO_BAR),
    "atm": (PRESSURE[1], 1.01325 / EV_PER_A3_TO_BAR),
    "kbar": (PRESSURE[1], 1e3 / EV_PER_A3_TO_BAR),
    "pa": (PRESSURE[1], 1e-5 / EV_PER_A3_TO_BAR),
    "mpa": (PRESSURE[1], 10 / EV_PER_A3_TO_BAR),
    "gpa": (PRESSURE[1], 1e4 / EV_PER_A3_TO_BAR),
    "au_p": (PRESSURE[1], HARTREE_TO_EV / BOHR_TO_A**3),
    "amu": ({MASS: 1}, 1.0),
    "m_e": ({MASS: 1}, _ELECTRON_AMU),
    "au_m": ({MASS: 1}, _ELECTRON_AMU),
    "kg": ({MASS: 1}, _KG_TO_AMU),
    "deg": ({ANGLE: 1}, 1.0),
    "rad": ({ANGLE: 1}, 180 / math.pi),
    "k": ({TEMPERATURE: 1}, 1.0),
    "k_temp": ({TEMPERATURE: 1}, 1.0),
    "au_temp": ({TEMPERATURE: 1}, HARTREE_TO_EV / KB_EV_PER_K),
}
_ATOMIC = {
    LENGTH: BOHR_TO_A,
    ENERGY: HARTREE_TO_EV,
    TIME: AU_TIME_TO_FS,
    MASS: _ELECTRON_AMU,
    ANGLE: 180 / math.pi,
    TEMPERATURE: HARTREE_TO_EV / KB_EV_PER_K,
}
"""Factors of atomic units, which `internal_cp2k` and the names of quantities (`[length]`) stand
for."""
_UNITS |= {name: ({name: 1}, factor) for name, factor in _ATOMIC.items()}

_TERM = re.compile(r"\s*([*/]?)\s*([A-Za-z_]+)\s*(?:\^\s*([+-]?\d)(?!\d))?")


def unit_factor(
    text: str, quantity: Quantity, file: Path | None = None, line: int | None = None
) -> float:
    """Factor from a unit in CP2K's notation to eV, Å, fs, amu, degrees, K.

    Parameters
    ----------
    text: such as `hartree*bohr^-1`; letter case does not matter.
    quantity: what the unit must measure: a name (`length`), or FORCE or VELOCITY of this module.
    file, line: where the unit was written, for the error.

    Raises InputError if the unit is not known (the message lists those known) or measures something
    else.
    """
    name, wanted = (quantity, {quantity: 1}) if isinstance(quantity, str) else quantity
    factor, dimensions, at = 1.0, Counter[str](), 0
    text = text.strip("'\" ")
    if text.lower() == "internal_cp2k":
        return math.prod(_ATOMIC[dimension] ** power for dimension, power in wanted.items())
    while at < len(text):
        term = _TERM.match(text, at)
        if term is None or term[2].lower() not in _UNITS:
            unknown = text if term is None else term[2]
            raise InputError(
                f"unit '{unknown}' is not known; those known are {', '.join(_UNITS)}, "
                "joined by * and /, with powers of one digit after ^",
                file,
                line,
            )
        power = int(term[3] or 1) * (-1 if term[1] == "/" else 1)
        unit_dimensions, unit = _UNITS[term[2].lower()]
        factor *= unit**power
        dimensions.update({dimension: power * p for dimension, p in unit_dimensions.items()})
        at = term.end()
    if {d: p for d, p in dimensions.items() if p} != wanted:
        raise InputError(f"unit '{text}' is not one of {name}", file, line)
    return factor
