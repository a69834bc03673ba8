"""Stress of every frame, without the motion of the atoms: the log's, or that of PROJ-1.stress."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mld_ff.sources.cp2k.read.log import Calculation
from mld_ff.sources.cp2k.read.tables import read_stresses
from mld_ff.trajectory import Floats, Ints
from mld_ff.units import AMU_A2_PER_FS2_TO_EV


@dataclass(frozen=True)
class Stresses:
    """Of all frames."""

    pressure: Floats
    """As CP2K prints it, positive under pressure [eV/Å³], (F, 3, 3)."""
    holds_motion: bool
    """Whether Σ m v v / V, which no potential gives, is part of it."""

    def of(self, frames: slice, cell: Floats, masses: Floats, velocities: Floats | None) -> Floats:
        """Of some frames, in ASE's sign (F, 3, 3); `velocities` [Å/fs] must be there if the motion
        is part of it."""
        pressure = self.pressure[frames]
        if self.holds_motion:
            assert velocities is not None
            motion = np.einsum("p,fpc,fpd->fcd", masses, velocities, velocities)
            volume = np.abs(np.linalg.det(cell))[:, np.newaxis, np.newaxis]
            pressure = pressure - AMU_A2_PER_FS2_TO_EV * motion / volume
        return np.asarray(-pressure)


def find_stresses(
    file: Path | None,
    calculations: Mapping[int, Calculation],
    steps: Ints,
    moves: bool,
    has_velocities: bool,
    constrained: bool,
    notes: list[str],
) -> Stresses | None:
    """The stresses of the frames at `steps`; None where they are not known of all of them.

    The log's tables (`FORCE_EVAL / PRINT / STRESS_TENSOR`) are those of the potential alone. In
    dynamics (`moves`) the file has the motion of the atoms in it as well, and the pressure of the
    log is a third of its trace: it is of use where velocities tell that motion. The forces of
    constraints are in it too, and nothing tells those.
    """
    of_log = [c.stress for s in steps.tolist() if (c := calculations.get(s)) is not None]
    known = [stress for stress in of_log if stress is not None]
    if len(known) == len(steps):
        return _finite(Stresses(np.array(known), False), notes)
    if file is None:
        return None
    table_steps, table = read_stresses(file)
    if not np.isin(steps, table_steps).all():
        notes.append(f"{file.name}: left out, it does not have every frame.")
        return None
    if not table.any():
        notes.append(
            f"{file.name}: left out, it holds nothing but zeros. CP2K computes the stress if"
            " &FORCE_EVAL has STRESS_TENSOR ANALYTICAL; of given frames (ENSEMBLE REFTRAJ) only the"
            " log has it, with &FORCE_EVAL / &PRINT / &STRESS_TENSOR."
        )
        return None
    if moves and constrained:
        notes.append(
            f"{file.name}: left out, for the forces of constraints are part of the stress in it;"
            " the log's STRESS_TENSOR is without them."
        )
        return None
    if moves and not has_velocities:
        notes.append(
            f"{file.name}: left out, for the motion of the atoms is part of the stress in it, and"
            " there are no velocities of every frame to take that out."
        )
        return None
    return _finite(Stresses(table[np.searchsorted(table_steps, steps)], moves), notes)


def _finite(stresses: Stresses, notes: list[str]) -> Stresses | None:
    if np.isfinite(stresses.pressure).all():
        return stresses
    notes.append("The stress is no number in some frames and was left out.")
    return None
