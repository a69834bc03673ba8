"""Units that no file states, found by mechanics: forces are masses times accelerations, velocities
are what moves the atoms.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mld_ff.geometry.motion import displacements
from mld_ff.sources.cp2k.read.units import FORCE, VELOCITY, Quantity, unit_factor
from mld_ff.trajectory import Floats
from mld_ff.units import AMU_A2_PER_FS2_TO_EV

CANDIDATES: dict[str, tuple[Quantity, tuple[str, ...]]] = {
    "forces": (
        FORCE,
        (
            "hartree*bohr^-1",
            "eV*angstrom^-1",
            "eV*bohr^-1",
            "kcalmol*angstrom^-1",
            "kjmol*angstrom^-1",
            "kjmol*nm^-1",
            "mNewton",
            "Newton",
        ),
    ),
    "velocities": (
        VELOCITY,
        ("bohr*au_t^-1", "angstrom*fs^-1", "angstrom*ps^-1", "nm*ps^-1", "m*s^-1"),
    ),
}
"""By role: units that a file of it may be in, CP2K's default first. None is half of another, which
differences over steps too long would mistake for it."""
LEAST_CORRELATION = 0.95
"""Below, the frames are too far apart for accelerations to be those of positions."""
TOLERANCE = 0.2
"""Finite differences fall short of accelerations: at 0.5 fs by 1 % for the stretching of O–H, at 2
fs by 15 %."""
LOOKED_AT = 100
"""Frames among which three are sought."""
ReadFrames = Callable[[str, int, int], Floats]
"""Of a role, frames from the one to before the other, (F, N, 3)."""


@dataclass(frozen=True)
class Verdict:
    """The unit that was found."""

    unit: str | None
    """None where it is none of CANDIDATES."""
    found: float
    """Factor to eV/Å or Å/fs that fits best."""
    by: str = "the motion of the atoms"
    """What tells it."""


def unit_by_comparison(role: str, expected: Floats, values: Floats) -> Verdict | None:
    """The unit of the numbers of a file, (N, 3), of which is known what they should be, (N, 3) in
    eV/Å or Å/fs. None where the two are not alike.
    """
    product, square = float((expected * values).sum()), float((values**2).sum())
    size = float((expected**2).sum())
    if not square or not size or product / np.sqrt(square * size) < LEAST_CORRELATION:
        return None
    found = product / square
    quantity, units = CANDIDATES[role]
    factors = {unit: unit_factor(unit, quantity) for unit in units}
    unit = min(units, key=lambda unit: abs(np.log(found / factors[unit])))
    return Verdict(unit if abs(found / factors[unit] - 1) < TOLERANCE else None, found)


def expected_by_motion(
    role: str, positions: Floats, cells: Floats, masses: Floats, stride_fs: float
) -> Floats:
    """What `forces` [eV/Å] or `velocities` [Å/fs], (N, 3), move the atoms as they moved.

    positions: of three frames `stride_fs` apart, (3, N, 3) [Å]; cells: (3, 3, 3) [Å], whose changes
    carry the atoms along (NPT) and are no acceleration; masses: [amu], (N,).
    """
    before, after = displacements(positions, cells)
    if role == "forces":
        weight = AMU_A2_PER_FS2_TO_EV * masses[:, np.newaxis]
        return np.asarray(weight * (after - before) / stride_fs**2)
    return np.asarray((after + before) / (2 * stride_fs))


def find_unit(
    role: str, read: ReadFrames, time: Floats, cells: Floats, masses: Floats
) -> Verdict | None:
    """The unit of a file by the motion of the atoms; None where frames are too far apart.

    read: positions [Å], or numbers of a role in the unit of its file. time: [fs], (F,); cells: [Å],
    (F, 3, 3).
    """
    first = _closest(time)
    if first is None:
        return None
    three = slice(first, first + 3)
    stride_fs = float(time[first + 1] - time[first])
    positions = read("positions", first, first + 3)
    expected = expected_by_motion(role, positions, cells[three], masses, stride_fs)
    return unit_by_comparison(role, expected, read(role, first + 1, first + 2)[0])


def factor_and_sentence(role: str, verdict: Verdict | None) -> tuple[float, str | None]:
    """The factor to eV/Å or Å/fs of a unit that no file states, and what to say of it; nothing
    where it is CP2K's default.
    """
    quantity, (default, *_) = CANDIDATES[role]
    usual = unit_factor(default, quantity)
    if verdict is not None and verdict.unit == default:
        return usual, None
    to_be_sure = "Put the input beside them to be sure."
    if verdict is not None and verdict.unit is not None:
        return unit_factor(verdict.unit, quantity), (
            f"No file says the unit of {role}; by {verdict.by} it is {verdict.unit}, not CP2K's"
            f" default, {default}. {to_be_sure}"
        )
    why = (
        "(frames are too far apart in time to tell it by the motion of the atoms)"
        if verdict is None
        else f"though by {verdict.by} they would be {verdict.found / usual:.3g} times as large"
    )
    return usual, (
        f"No file says the unit of {role}: CP2K's default, {default}, was taken {why}. {to_be_sure}"
    )


def _closest(time: Floats) -> int | None:
    """The first of three frames that are equally far apart, as close as any; among the first."""
    strides = np.diff(time[:LOOKED_AT])
    same = np.flatnonzero(np.isclose(strides[1:], strides[:-1]) & (strides[1:] > 0))
    return int(same[np.argmin(strides[same])]) if len(same) else None
