"""An examination of frames before anything is made of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from mld_ff.consistency import boundary, words
from mld_ff.consistency.mechanics import Comparison, Mechanics
from mld_ff.consistency.repeats import Prints, told_of
from mld_ff.progress import Progress, no_progress
from mld_ff.trajectory import FrameSource, Trajectory

STRETCH = 128
"""Frames that are compared together."""
FRAMES_FOR_CELL = 8
FORCES = "forces against "
FORCE_CHECKS = (f"{FORCES}energies", f"{FORCES}accelerations")
LARGEST = 1e12
"""Of all numbers, whose squares are taken."""


@dataclass(frozen=True)
class Examination:
    """What frames say of themselves."""

    lies: tuple[str, ...]
    """Contradictions, a sentence each with the likely cause."""
    unchecked: tuple[str, ...]
    """What could not be compared, and why."""

    prints: Prints
    """Of all frames, to tell those that are given twice."""
    method: str | None
    """That computed the forces, if the source says it."""

    @property
    def blind(self) -> list[str]:
        """Why nothing could be told of the forces; empty where something could."""
        why = [text for text in self.unchecked if text.startswith(FORCES)]
        return why if len(why) == len(FORCE_CHECKS) else []


def examine_all(
    sources: Sequence[FrameSource], progress: Progress = no_progress
) -> list[Examination]:
    """`examine` each, told as one stage."""
    total, before, examined = sum(source.n_frames for source in sources), 0, list[Examination]()
    for source in sources:

        def tell(what: str, done: int, _: int, before: int = before) -> None:
            progress(what, before + done, total)

        examined.append(examine(source, tell))
        before += source.n_frames
    return examined


def examine(source: FrameSource, progress: Progress = no_progress) -> Examination:
    """Compare forces with energies and accelerations, velocities with motion, and the cell with
    distances across its faces.

    Reads all frames once, and judges stretches of them on their own: files that were put together
    may lie in part. Raises InputError for what cannot be read.
    """
    found, unchecked = list[str](), list[str]()
    for_cell, prints = list[Trajectory](), list[Prints]()
    each = -(-FRAMES_FOR_CELL * STRETCH // max(source.n_frames, 1))
    seen = 0
    for frames in source.chunks(STRETCH):
        progress("examination", seen, source.n_frames)
        seen += frames.n_frames
        if not _is_sane(frames):
            continue  # who reads them next says what and where
        mechanics = Mechanics(frames)
        found += [lie for lie in words.lies(mechanics, source.origin) if not _said(lie, found)]
        unchecked = unchecked or _unchecked(mechanics)
        for_cell += _spread(frames, each)
        prints.append(Prints.of(frames))
    progress("examination", source.n_frames, source.n_frames)
    if not for_cell:
        return Examination((), (), Prints.joined([]), source.origin.method)
    every = max(1, len(for_cell) // FRAMES_FOR_CELL)
    of_cell = boundary.look_at(for_cell[::every])
    for vector, error, length in zip("abc", of_cell.errors_A, of_cell.lengths_A, strict=True):
        if error:
            found.append(
                f"the cell does not fit the positions: by atoms at its faces {vector}, {length:.5g}"
                f" Å, is too {'long' if error > 0 else 'short'} by {_about(abs(error))} Å."
                f" {source.origin.remedies.cell}"
            )
    return Examination(
        tuple(found),
        (*unchecked, *(f"the cell: {text}" for text in of_cell.unchecked)),
        Prints.joined(prints),
        source.origin.method,
    )


def contradictions(runs: Sequence[Examination], labels: Sequence[Examination] = ()) -> list[str]:
    """All that speaks against a fit to these runs: of each, and of them beside each other.

    labels: frames with forces that may be some of those of the runs once more.
    """
    several = len(runs) > 1
    found = [
        f"run {k}: {lie}" if several else lie for k, run in enumerate(runs, 1) for lie in run.lies
    ]
    found += [f"labels: {lie}" for one in labels for lie in one.lies]
    every = [(f"run {k}", run.method) for k, run in enumerate(runs, 1)]
    every += [("labels", one.method) for one in labels]
    methods = {method: where for where, method in reversed(every) if method}
    if len(methods) > 1:
        told = ", ".join(f"{where} {method}" for method, where in reversed(methods.items()))
        found.append(f"the runs are of several methods ({told}): give runs of one")
    return found + told_of([run.prints for run in runs])


def _is_sane(frames: Trajectory) -> bool:
    numbers = (frames.positions, frames.cell, frames.forces, frames.velocities, frames.energy)
    return all(x is None or bool((np.abs(x) < LARGEST).all()) for x in numbers)


def _spread(frames: Trajectory, number: int) -> list[Trajectory]:
    """So many frames, each with the next one if there is one."""
    last = max(frames.n_frames - 2, 0)
    starts = sorted(set(np.linspace(0, last, min(number, last + 1)).astype(int).tolist()))
    return [_alone(frames[start : start + 2]) for start in starts]


def _alone(frames: Trajectory) -> Trajectory:
    """Positions and cells by themselves: a view of them would keep the whole stretch in memory."""
    return replace(
        frames,
        positions=frames.positions.copy(),
        cell=frames.cell.copy(),
        forces=None,
        velocities=None,
        energy=None,
        stress=None,
    )


def _said(lie: str, found: list[str]) -> bool:
    """Whether the same was said of an earlier stretch, with another figure."""
    return any(lie.split(" ")[:3] == other.split(" ")[:3] for other in found)


def _unchecked(mechanics: Mechanics) -> list[str]:
    frames = mechanics.frames
    checks = dict[str, Comparison]()
    if frames.forces is not None:
        found = mechanics.work, mechanics.accelerations
        checks |= dict(zip(FORCE_CHECKS, found, strict=True))
    if frames.velocities is not None:
        checks["velocities against the motion of the atoms"] = mechanics.velocities
    return [f"{what}: {check.unchecked}" for what, check in checks.items() if check.unchecked]


def _about(length: float) -> str:
    return f"{length:.1g}" if length < 1 else f"{length:.1f}"
