"""Which frames of the files belong together: the same step in all of them, and a cell."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from mld_ff.errors import InputError
from mld_ff.sources.cp2k.read.runinfo import Cells
from mld_ff.sources.cp2k.read.xyz import XYZIndex
from mld_ff.trajectory import Ints


@dataclass(frozen=True)
class Join:
    """The F frames that remain."""

    step: Ints
    """Increasing, (F,)."""
    wanted: dict[str, NDArray[np.bool_]]
    """By role: which of the M complete frames of that file remain, (M,) with F True."""
    dropped: dict[str, int]
    """Reason: number of frames that were dropped."""


@dataclass(frozen=True)
class _Losses:
    """Frames dropped so far: their number by reason, and the sentences that say so."""

    dropped: dict[str, int]
    notes: list[str]

    def add(self, count: int, reason: str, sentence: str) -> None:
        if count:
            self.dropped[reason] = count
            self.notes.append(sentence)


def join_frames(
    indices: dict[str, XYZIndex], must_join: set[str], cells: Cells, notes: list[str]
) -> Join:
    """Match the frames of `indices`, by role, on their steps.

    The frames that stay are in every file of `must_join` and have a cell; another file is kept if
    it has them all and left out otherwise. Adds a sentence to `notes` for every loss. Raises
    InputError if nothing remains.
    """
    losses = _Losses({}, notes)
    current = {role: index.current() for role, index in indices.items()}
    for role, index in indices.items():
        _report_damage(role, index, int((~current[role]).sum()), losses)
    required = [role for role in indices if role in must_join]
    shared = _shared_steps(
        indices, {role: indices[role].step[current[role]] for role in required}, losses
    )
    steps = _with_cell(shared, cells, indices["positions"], losses)
    wanted = {}
    for role, index in indices.items():
        here = current[role] & np.isin(index.step, steps)
        if here.sum() == len(steps):
            wanted[role] = here
        else:
            notes.append(
                f"{index.path.name}: left out, it has {int(here.sum())} of the {len(steps)} frames;"
                f" to keep only the frames that have {role}, name it with {role}=FILE."
            )
    return Join(steps, wanted, losses.dropped)


def _report_damage(role: str, index: XYZIndex, repeated: int, losses: _Losses) -> None:
    name, damage = index.path.name, index.damage
    lines = ", ".join(str(line) for line in damage.middle[:5])
    losses.add(
        len(damage.middle),
        f"{role}: half-written, within the file",
        f"{name}: {_frames(len(damage.middle))} dropped that a crash left half-written (line"
        f" {lines}).",
    )
    losses.add(
        int(damage.last is not None),
        f"{role}: half-written, at the end",
        f"{name}: the last frame (line {damage.last}) is half-written and was dropped.",
    )
    losses.add(
        repeated,
        f"{role}: repeated after a restart",
        f"{name}: {_frames(repeated)} dropped that a restart repeated; the last of each step is"
        " kept.",
    )


def _shared_steps(indices: dict[str, XYZIndex], steps: dict[str, Ints], losses: _Losses) -> Ints:
    """The steps that all roles in `steps` have, increasing."""
    shared = reduce(np.intersect1d, steps.values())
    if not len(shared):
        ranges = "; ".join(
            f"{indices[role].path.name} has {_some(own)}" for role, own in steps.items()
        )
        raise InputError(
            f"{' and '.join(steps)} share no step: {ranges}; let CP2K print them at the same steps "
            "(the same &EACH / MD under &MOTION / &PRINT) and take them from the same run",
            indices["positions"].path,
        )
    for role, own in steps.items():
        alone = len(own) - len(shared)
        others = " and ".join(indices[other].path.name for other in steps if other != role)
        losses.add(
            alone,
            f"{role}: no partner",
            f"{indices[role].path.name}: {_frames(alone)} dropped whose step is not in {others}.",
        )
    return shared


def _with_cell(steps: Ints, cells: Cells, positions: XYZIndex, losses: _Losses) -> Ints:
    """Those of the steps whose cell is known."""
    known = cells.known(steps)
    if not known.any():
        raise InputError(
            f"no step of the frames is in {cells.file_name}; print &MOTION / &PRINT / &CELL as"
            " often as &TRAJECTORY",
            positions.path,
        )
    lost = int((~known).sum())
    losses.add(
        lost,
        "no cell",
        f"{_frames(lost)} dropped whose step is not in {cells.file_name}, while the cell changes.",
    )
    return steps[known]


def _frames(count: int) -> str:
    return f"{count} frame" if count == 1 else f"{count} frames"


def _some(steps: Ints) -> str:
    shown = ", ".join(str(step) for step in steps[:3])
    plural = "step" if len(steps) == 1 else "steps"
    return f"{plural} {shown}" if len(steps) <= 3 else f"{plural} {shown} … {steps[-1]}"
