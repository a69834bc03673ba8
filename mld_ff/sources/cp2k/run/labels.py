"""Labels: forces that CP2K computes for frames that were picked."""

from __future__ import annotations

from pathlib import Path

from mld_ff.errors import InputError
from mld_ff.progress import Progress, no_progress
from mld_ff.sources.cp2k import open_cp2k
from mld_ff.sources.cp2k.run.inputs import Reference, write_labels
from mld_ff.sources.cp2k.run.launch import find_cp2k
from mld_ff.sources.cp2k.run.resume import run_reference
from mld_ff.sources.source import FileSource
from mld_ff.trajectory import Trajectory


def label_with_cp2k(
    directory: Path, reference: Reference, frames: Trajectory, progress: Progress = no_progress
) -> FileSource:
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
            f" {reference.main} -o label.out` in it (before release 2023.2 with `-E OLD_EVAL=1`),"
            " copy it back, and give this command again"
        ) from None
    return open_cp2k(directory)


def _cp2k_is_there() -> bool:
    try:
        return bool(find_cp2k())
    except InputError:
        return False
