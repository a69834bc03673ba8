"""Frames as text that CP2K reads, and frames that a user hands us as XYZ."""

from __future__ import annotations

import numpy as np

from mld_ff.trajectory import Floats, Trajectory
from mld_ff.units import BOHR_PER_AU_TIME_TO_A_PER_FS


def system(frame: Trajectory, with_velocities: bool) -> str:
    """The inside of &SUBSYS: cell and atoms."""
    cell = "\n".join(
        f"  {name} {_numbers(row)}" for name, row in zip("ABC", frame.cell[0], strict=True)
    )
    text = (
        f"&CELL\n{cell}\n&END CELL\n&COORD\n{_rows(frame.symbols, frame.positions[0])}&END COORD\n"
    )
    if with_velocities and frame.velocities is not None:
        rows = "".join(
            f"  {_numbers(v / BOHR_PER_AU_TIME_TO_A_PER_FS)}\n" for v in frame.velocities[0]
        )
        text += f"&VELOCITY\n{rows}&END VELOCITY\n"
    return text


def _rows(symbols: tuple[str, ...], positions: Floats) -> str:
    return "".join(f"  {s:<2} {_numbers(x)}\n" for s, x in zip(symbols, positions, strict=True))


def _numbers(values: Floats) -> str:
    return " ".join(f"{x:18.10f}" for x in values)


def xyz(frames: Trajectory) -> str:
    """Frames as CP2K prints them: REFTRAJ reads the step off the comment line, by columns."""
    return "".join(
        f"{frames.n_atoms}\n i = {k:8d}, time = {frames.time[k - 1]:12.3f}, E = {0:20.10f}\n"
        + _rows(frames.symbols, frames.positions[k - 1])
        for k in range(1, frames.n_frames + 1)
    )


def cell_table(frames: Trajectory) -> str:
    """The cell of every frame, in CP2K's own format."""
    rows = [
        f"{k:8d} {frames.time[k - 1]:11.3f} {_numbers(cell.ravel())}"
        f" {abs(np.linalg.det(cell)):24.10f}\n"
        for k, cell in enumerate(frames.cell, 1)
    ]
    return "".join(
        [
            "#   Step   Time [fs]   Ax Ay Az Bx By Bz Cx Cy Cz [Angstrom]   Volume [Angstrom^3]\n",
            *rows,
        ]
    )
