"""Which frames of the files belong together: the same step in all of them, and a cell."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mld_ff.errors import InputError
from mld_ff.origin import UNCONVERGED
from mld_ff.sources.cp2k.read.index import FrameIndex
from mld_ff.sources.cp2k.read.runinfo import Cells
from mld_ff.trajectory import Ints

ENERGY_DIGIT = 1e-8
"""[hartree]; comment lines have ten decimals."""


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
    indices: dict[str, FrameIndex],
    must_join: set[str],
    cells: Cells,
    unconverged: set[int],
    notes: list[str],
) -> Join:
    """Match the frames of `indices`, by role, on their steps.

    The frames that stay are in every file of `must_join`, have a cell, and are not at a step of
    `unconverged`; another file is kept if it has them all and left out otherwise. Adds a sentence
    to `notes` for every loss. Raises InputError if nothing remains.
    """
    losses = _Losses({}, notes)
    current = {role: index.current() for role, index in indices.items()}
    for role, index in indices.items():
        _report_damage(role, index, int((~current[role]).sum()), losses)
    required = [role for role in indices if role in must_join]
    shared = _shared_steps(
        indices, {role: indices[role].step[current[role]] for role in required}, losses
    )
    sound = _converged(shared, unconverged, indices["positions"].path, losses)
    steps = _with_cell(sound, cells, indices["positions"], losses)
    wanted = {}
    for role, index in indices.items():
        here = current[role] & np.isin(index.step, steps)
        if here.sum() == len(steps):
            wanted[role] = here
        else:
            notes.append(
                f"{index.path.name}: left out, it has {int(here.sum())} of the {len(steps)} frames;"
                f" to keep only the frames that have {role}, name it with --file {role}=FILE."
            )
    return Join(steps, wanted, losses.dropped)


def _report_damage(role: str, index: FrameIndex, repeated: int, losses: _Losses) -> None:
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


def _shared_steps(indices: dict[str, FrameIndex], steps: dict[str, Ints], losses: _Losses) -> Ints:
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


def _converged(steps: Ints, unconverged: set[int], positions: Path, losses: _Losses) -> Ints:
    """Those of the steps whose self-consistent field converged."""
    failed = np.array([int(step) in unconverged for step in steps], dtype=bool)
    if failed.all():
        raise InputError(
            "by CP2K's log the self-consistent field converged in none of the frames, so their"
            " forces are no forces; raise &SCF MAX_SCF or change its minimizer and run again",
            positions,
        )
    lost = int(failed.sum())
    losses.add(
        lost,
        UNCONVERGED,
        f"{_frames(lost)} dropped whose self-consistent field did not converge, by CP2K's log.",
    )
    return np.asarray(steps[~failed])


def check_energies(index: FrameIndex, positions: FrameIndex) -> None:
    """Raise InputError unless two files of different names tell of the same run: the energies in
    their comment lines agree.
    """
    _, mine, theirs = np.intersect1d(index.step, positions.step, return_indices=True)
    apart = np.abs(index.energy[mine] - positions.energy[theirs])
    if (apart > ENERGY_DIGIT).any():
        raise InputError(
            f"its name is not that of {positions.path.name}, nor are the energies in its comment"
            " lines; put each run into its own directory, or name what belongs together with"
            " --file ROLE=FILE",
            index.path,
        )


def _with_cell(steps: Ints, cells: Cells, positions: FrameIndex, losses: _Losses) -> Ints:
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
