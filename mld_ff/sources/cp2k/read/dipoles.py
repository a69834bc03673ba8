"""Dipoles of the box that CP2K printed: in the log, or in files that a FILENAME named."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mld_ff.sources.cp2k.read.log import DIPOLE, Calculation, dipole_of
from mld_ff.sources.textfiles import open_binary
from mld_ff.trajectory import Floats, Ints, PrintedDipole

_STEP_OF_FILE = re.compile(r".+-\d+_(\d+)\.\w+(?:\.gz|\.bz2|\.xz)?")


def find_dipoles(
    files: Sequence[Path],
    calculations: Mapping[int, Calculation],
    steps: Ints,
    time: Floats,
    cell: Floats,
    notes: list[str],
) -> PrintedDipole | None:
    """Those between the first and the last frame; None where there are fewer than three.

    steps and time (F,) [fs] of the frames, cell (3, 3) [Å]. A Berry phase is known up to the charge
    of an electron moved by a vector of the cell, and CP2K takes it as an arctangent, up to half of
    that: of a step the shortest is taken. The dipoles of CP2K 2023.1's FIST have the other sign
    (found in a box of flexible water), which neither their lengths nor their spectra tell.
    """
    by_step = {s: c.dipole for s, c in calculations.items() if c.dipole is not None}
    by_step = by_step or _of_files(files, calculations, steps, notes)
    found = np.array(sorted(s for s in by_step if steps[0] <= s <= steps[-1]), dtype=np.int64)
    if len(found) < 3 or steps[0] == steps[-1]:
        return None
    dipole, half = np.array([by_step[s] for s in found.tolist()]), cell / 2
    step = np.diff(dipole, axis=0)
    step -= np.round(step @ np.linalg.inv(half)) @ half
    path = np.concatenate([dipole[:1], dipole[:1] + np.cumsum(step, axis=0)])
    if not np.isfinite(path).all():
        notes.append("The dipoles that CP2K printed are left out: not all of them are numbers.")
        return None
    between_fs = (time[-1] - time[0]) / (steps[-1] - steps[0])
    return PrintedDipole(np.asarray(time[0] + between_fs * (found - steps[0])), path)


def _of_files(
    files: Sequence[Path], calculations: Mapping[int, Calculation], steps: Ints, notes: list[str]
) -> dict[int, Floats]:
    """By step: the last number of a name such as `PROJ-tb_dipole-1_20.data`; one after the other in
    a file that is written on (`FILENAME =dipole.dat`) of all calculations, or all frames.
    """
    if not files:
        return {}
    each = {file: _STEP_OF_FILE.fullmatch(file.name) for file in files}
    if all(each.values()):
        of_file = {int(match[1]): _read(file) for file, match in each.items() if match}
        return {step: dipoles[-1] for step, dipoles in of_file.items() if dipoles}
    names = ", ".join(file.name for file in files)
    dipoles = _read(files[0]) if len(files) == 1 else []
    for known in (sorted(calculations), steps.tolist()):
        if len(dipoles) == len(known):
            return dict(zip(known, dipoles, strict=True))
    notes.append(
        f"{names}: left out, {len(dipoles) or 'several files of'} dipoles do not tell of which of"
        f" the {len(steps)} frames they are."
    )
    return {}


def _read(file: Path) -> list[Floats]:
    pattern = re.compile(DIPOLE)
    with open_binary(file) as stream:
        lines = (line.decode("utf-8", "replace") for line in stream)
        return [dipole_of(match) for line in lines if (match := pattern.match(line))]
