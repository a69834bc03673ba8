"""Labels: forces that the reference program computes for frames that were picked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from mld_ff.errors import CheckFailed, InputError
from mld_ff.progress import Progress, no_progress
from mld_ff.sources.cp2k import open_cp2k
from mld_ff.sources.cp2k.run.inputs import Reference, write_labels
from mld_ff.sources.cp2k.run.launch import find_cp2k
from mld_ff.sources.cp2k.run.resume import run_reference
from mld_ff.trajectory import FrameSource, Trajectory

FORCE_CAP = 2.0
"""Labels with a force larger than this times the largest of the CP2K run are left out."""
SAME_METHOD = 0.05
"""Of the rms force: what CP2K's forces on a frame of the run may differ from those that the run
holds.
"""


Labeller = Callable[[Path, Reference, Trajectory, Progress], FrameSource]
"""Gives the frames with forces; may keep its files in the directory, and is asked again after an
interruption.
"""


def label_with_cp2k(
    directory: Path, reference: Reference, frames: Trajectory, progress: Progress = no_progress
) -> FrameSource:
    """Write the input for the frames, run it or go on with it, and read what CP2K computed.

    Raises InputError that tells how to go on where CP2K is not installed and the labels are not
    there yet.
    """
    write_labels(directory, reference, frames)
    try:
        run_reference(directory, progress)
    except InputError as error:
        if _cp2k_is_there():
            raise
        raise InputError(
            f"{frames.n_frames} frames wait for their forces in {directory}: {error}. Or let CP2K"
            " compute them elsewhere: copy that directory there, run `cp2k.psmp -i"
            f" {reference.main} -o label.out` in it, copy it back, and give this command again"
        ) from None
    return open_cp2k(directory)


def _cp2k_is_there() -> bool:
    try:
        return bool(find_cp2k())
    except InputError:
        return False


def check_labels(where: Path, asked: Trajectory, labelled: Trajectory, known: Trajectory) -> None:
    """Raise unless these are forces of the frames asked for, by the method of the source."""
    if labelled.forces is None or labelled.n_frames != asked.n_frames:
        raise InputError(
            f"holds {labelled.n_frames} frames with forces; {asked.n_frames} were to be labelled",
            where,
        )
    if np.abs(labelled.positions - asked.positions).max() > 1e-4:
        raise InputError(
            "holds labels of other frames than those asked for: remove it, or label them again",
            where,
        )
    assert known.forces is not None
    difference, size = (
        float(np.sqrt((x**2).mean()))
        for x in (labelled.forces[0] - known.forces[0], known.forces[0])
    )
    if not difference <= SAME_METHOD * size:
        raise CheckFailed(
            f"the forces computed in {where} on the first frame of the CP2K run differ from those"
            f" of that run by {difference:.3f} eV/Å rms ({100 * difference / size:.0f} % of the"
            f" force; at most {100 * SAME_METHOD:g} % is allowed): labels must come from the method"
            " and the settings of the run"
        )
