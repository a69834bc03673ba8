"""Labels: forces that the reference program computes for frames that were picked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from mld_ff.errors import CheckFailed, InputError
from mld_ff.origin import UNCONVERGED
from mld_ff.progress import Progress
from mld_ff.sources.cp2k.run.inputs import Reference
from mld_ff.trajectory import FrameSource, Trajectory

FORCE_CAP = 2.0
"""Labels with a force larger than this times the largest of the reference are left out."""
SAME_METHOD = 0.05
"""Of the rms force: what CP2K's forces on a frame of the run may differ from those that the run
holds.
"""


Labeller = Callable[[Path, Reference, Trajectory, Progress], FrameSource]
"""Gives the frames with forces; may keep its files in the directory, and is asked again after an
interruption.
"""


def check_labels(where: Path, asked: Trajectory, labelled: Trajectory, known: Trajectory) -> None:
    """Raise unless these are forces of the frames asked for, by the method of the source.

    Labels tell by their step, from 1, of which frame they are; those may be missing whose
    self-consistent field did not converge, but for the first.
    """
    lost = labelled.origin.frames_dropped.get(UNCONVERGED, 0)
    which = labelled.step - 1
    if labelled.forces is None or labelled.n_frames + lost != asked.n_frames or which[0] != 0:
        raise InputError(
            f"holds {labelled.n_frames} frames with forces; {asked.n_frames} were to be labelled."
            " If CP2K was stopped, give this command again: it goes on with the others",
            where,
        )
    if (
        labelled.symbols != asked.symbols
        or np.abs(labelled.positions - asked.positions[which]).max() > 1e-4
    ):
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
