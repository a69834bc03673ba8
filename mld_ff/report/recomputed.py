"""How much forces change when the reference program computes some of the frames again."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mld_ff.errors import InputError
from mld_ff.trajectory import Floats, Trajectory

SAME_FRAME_A = 1e-3
"""Two configurations are the same if they differ by less than this, rms, after a common shift."""


@dataclass(frozen=True)
class RecomputedForces:
    """How much forces changed when some frames were computed again."""

    frames: int
    """That were found in both."""
    rms_difference_eV_per_A: dict[str, float]
    """Of force components, by species."""
    relative: dict[str, float]
    """The same divided by the rms force."""


def compare_forces(frames: Trajectory, again: Trajectory) -> RecomputedForces:
    """How much forces change when the program computes some frames again: on a denser grid, or
    shifted against it.

    A configuration moved as a whole by a fraction of the grid's spacing should keep its forces; how
    much they change is √2 times the noise of the grid. On a denser grid the change is the noise
    itself, if the denser one has none.

    again: holds any number of the configurations of `frames`, each as it is or moved as a whole.
    Raises InputError if atoms or forces do not match, or
    no configuration occurs in both.
    """
    if again.symbols != frames.symbols:
        raise InputError("the frames computed again hold other atoms, or the same in another order")
    if frames.forces is None or again.forces is None:
        raise InputError("forces are needed in both runs to tell how much they change")
    square, power, number = np.zeros(frames.n_atoms), np.zeros(frames.n_atoms), 0
    for x, cell, force in zip(again.positions, again.cell, again.forces, strict=True):
        distance = [_distance(x, cell, other) for other in frames.positions]
        best = int(np.argmin(distance))
        if distance[best] < SAME_FRAME_A and np.allclose(
            frames.cell[best], cell, atol=SAME_FRAME_A
        ):
            number += 1
            square += ((force - frames.forces[best]) ** 2).sum(axis=1)
            power += (frames.forces[best] ** 2).sum(axis=1)
    if not number:
        raise InputError(
            "none of the frames computed again is a frame of this run: positions must be the same,"
            " up to a shift of the whole box"
        )
    difference, relative = {}, {}
    for s in frames.species:
        atoms = np.array(frames.symbols) == s
        difference[s] = float(np.sqrt(square[atoms].mean() / (3 * number)))
        relative[s] = float(np.sqrt(square[atoms].sum() / power[atoms].sum()))
    return RecomputedForces(number, difference, relative)


def _distance(x: Floats, cell: Floats, other: Floats) -> float:
    """Root mean square distance [Å] of two configurations after a common shift, nearest images."""
    moved = x - other
    moved -= moved[0]
    moved -= np.round(moved @ np.linalg.inv(cell)) @ cell
    return float(np.sqrt((moved**2).sum(axis=1).mean()))
