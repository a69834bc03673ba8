"""What to say of data that contradict themselves, with the likely cause."""

from __future__ import annotations

import numpy as np

from mld_ff.consistency.mechanics import Comparison, Mechanics
from mld_ff.origin import Origin
from mld_ff.units import BOHR_PER_AU_TIME_TO_A_PER_FS as AU_VELOCITY
from mld_ff.units import EV_TO_KJ_PER_MOL, HARTREE_TO_EV
from mld_ff.units import HARTREE_PER_BOHR_TO_EV_PER_A as AU_FORCE

ALIKE = 1.15
"""Factors closer than this are taken for each other; none of those below are, of one unit."""
KCAL, KJ = 4.184 / EV_TO_KJ_PER_MOL, 1 / EV_TO_KJ_PER_MOL
FORCES = {
    "hartree/bohr": AU_FORCE,
    "eV/Å": 1.0,
    "kcal/mol/Å": KCAL,
    "kJ/mol/Å": KJ,
    "kJ/mol/nm": KJ / 10,
}
ENERGIES = {"hartree": HARTREE_TO_EV, "eV": 1.0, "kcal/mol": KCAL, "kJ/mol": KJ}
VELOCITIES = {"bohr per atomic unit of time": AU_VELOCITY, "Å/fs": 1.0, "Å/ps": 1e-3, "nm/ps": 1e-2}
TIMES = {"fs": 1.0, "ps": 1e3, "atomic units": 0.02418884}


def lies(mechanics: Mechanics, origin: Origin) -> list[str]:
    """Of a stretch of frames, a sentence each."""
    work, pull, speed = mechanics.work, mechanics.accelerations, mechanics.velocities
    found = []
    if _times_lie(work, pull, speed):
        factor = 1 / np.sqrt(pull.factor)  # accelerations go with the square
        found.append(
            f"times are {_sized(factor)}: masses times accelerations are {1 / pull.factor:.3g}"
            f" times the forces, which do the work that the energy tells{_unit(factor, TIMES)}"
        )
    elif work.off and not (pull.off or pull.unchecked):
        found.append(
            f"energies are not those of these forces: {_of_energies(work)}, while masses times"
            " accelerations are the forces"
        )
    elif work.off:
        found.append(f"{_of('forces', work, FORCES)}, by the change of the potential energy")
    elif pull.off:
        found.append(f"{_of('forces', pull, FORCES)}, by the motion of the atoms")
    if speed.off and not _times_lie(work, pull, speed):
        found.append(f"{_of('velocities', speed, VELOCITIES)}, by the motion of the atoms")
    return [f"{sentence}. {origin.remedies.inconsistent}" for sentence in found]


def _times_lie(work: Comparison, pull: Comparison, speed: Comparison) -> bool:
    """Where the energy has nothing against forces, or velocities against times alike."""
    if not pull.is_scaled or pull.is_rough or pull.is_reversed or pull.shift:
        return False
    if not work.unchecked:
        return not work.off
    by_velocity = speed.off and not (speed.is_reversed or speed.shift)
    return by_velocity and 1 / 1.3 < speed.factor**2 / pull.factor < 1.3


def _of(what: str, comparison: Comparison, units: dict[str, float]) -> str:
    """What is wrong with forces or velocities."""
    if comparison.is_unrelated:
        assert comparison.proportion is not None
        return (
            f"{what} are not those of these positions (a correlation of"
            f" {comparison.proportion.correlation:.2f} with the energy: of other frames, atoms in"
            " another order, axes exchanged? Or is the energy not the potential energy?)"
        )
    sign = " and have the wrong sign" if comparison.is_reversed else ""
    if comparison.shift:
        which = "next" if comparison.shift > 0 else "previous"
        return f"every frame has the {what} of the {which} one{sign}"
    if not comparison.is_scaled:
        return f"{what} have the wrong sign"
    if comparison.is_rough:
        size = "large" if comparison.factor > 1 else "small"
        return f"{what} are far too {size}{sign} (frames are too far apart to tell the factor)"
    return f"{what} are {_sized(comparison.factor)}{sign}{_unit(comparison.factor, units)}"


def _of_energies(work: Comparison) -> str:
    if work.shift:
        return f"every frame has that of the {'previous' if work.shift > 0 else 'next'} one"
    if work.is_reversed and not work.is_scaled:
        return "they rise where the forces do work"
    factor = 1 / work.factor
    return (
        f"they change {factor:.3g} times as much as the work of the forces{_unit(factor, ENERGIES)}"
    )


def _sized(factor: float) -> str:
    return f"{factor:.3g} times too large" if factor > 1 else f"{1 / factor:.3g} times too small"


def _unit(factor: float, units: dict[str, float]) -> str:
    """What was taken for what, if a factor between two units is as large."""
    guesses = [
        f"{there} taken for {taken}"
        for taken, large in units.items()
        for there, own in units.items()
        if there != taken and 1 / ALIKE < large / own / factor < ALIKE
    ]
    return f" (as {' or '.join(guesses)} would be)" if guesses else ""
