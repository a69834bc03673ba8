"""LAMMPS's dump files: frames for it to evaluate, and the forces and velocities that it writes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from mld_ff.errors import InputError
from mld_ff.trajectory import Floats, Trajectory
from mld_ff.units import A_PER_FS_TO_A_PER_PS

HEAD_LINES, COUNT_LINE = 9, 3
"""Lines before the atoms of every frame, and the one among them that holds their number."""


def frames_text(frames: Trajectory) -> Iterator[str]:
    """Frames as a dump file; types do not matter for `rerun`."""
    for f in range(frames.n_frames):
        cell = frames.cell[f]
        image = np.floor(frames.positions[f] @ np.linalg.inv(cell)).astype(int)
        inside = frames.positions[f] - image @ cell
        yield f"ITEM: TIMESTEP\n{f}\nITEM: NUMBER OF ATOMS\n{len(inside)}\n"
        yield f"ITEM: BOX BOUNDS {_box(cell)}"
        yield "ITEM: ATOMS id x y z ix iy iz\n"
        for k, (x, i) in enumerate(zip(inside.tolist(), image.tolist(), strict=True), 1):
            yield f"{k} {x[0]:.16g} {x[1]:.16g} {x[2]:.16g} {i[0]} {i[1]} {i[2]}\n"


def _box(cell: Floats) -> str:
    """A lower triangular cell (3, 3): of a tilted one LAMMPS wants the bounds of the whole."""
    (ax, _, _), (bx, by, _), (cx, cy, cz) = cell.tolist()
    if not max(abs(bx), abs(cx), abs(cy)) > 0:
        return "pp pp pp\n" + "".join(f"0 {length:.16g}\n" for length in (ax, by, cz))
    low_x, high_x = min(0.0, bx, cx, bx + cx), ax + max(0.0, bx, cx, bx + cx)
    low_y, high_y = min(0.0, cy), by + max(0.0, cy)
    bounds = [(low_x, high_x, bx), (low_y, high_y, cx), (0.0, cz, cy)]
    return "xy xz yz pp pp pp\n" + "".join(f"{a:.16g} {b:.16g} {t:.16g}\n" for a, b, t in bounds)


def vectors(file: Path) -> Floats:
    """A vector (F, N, 3) of every atom, from lines of id and three numbers; a frame that is not
    complete is left out.
    """
    frames: list[Floats] = []
    with file.open(encoding="ascii") as lines:
        while len(head := list(islice(lines, HEAD_LINES))) == HEAD_LINES:
            n_atoms = int(head[COUNT_LINE])
            rows = list(islice(lines, n_atoms))
            if len(rows) < n_atoms or not rows[-1].endswith("\n"):
                break
            frames.append(np.fromstring("".join(rows), sep=" ").reshape(-1, 4)[:, 1:])
    return np.array(frames)


def read_velocities(file: Path) -> Floats:
    """Velocities (F, N, 3) [Å/fs] of a file that holds them in [Å/ps]. Raises InputError if it
    cannot be read.
    """
    try:
        return vectors(file) / A_PER_FS_TO_A_PER_PS
    except (OSError, ValueError):
        raise InputError("cannot be read as a LAMMPS dump of velocities", file) from None


def join(file: Path, more: Path, frames: int) -> None:
    """Make `file` its first `frames` frames and then all of `more`."""
    if not more.exists():
        return
    end = _end_of(file, frames)
    with more.open("rb") as source, file.open("ab") as target:
        target.truncate(end)
        shutil.copyfileobj(source, target)


def _end_of(file: Path, frames: int) -> int:
    """Where the first frames, as far as they are complete, end."""
    if not file.exists():
        return 0
    with file.open("rb") as lines:
        for _ in range(frames):
            start = lines.tell()
            head = [lines.readline() for _ in range(HEAD_LINES)]
            if not head[-1].endswith(b"\n"):
                return start
            rows = [lines.readline() for _ in range(int(head[COUNT_LINE]))]
            if not rows[-1].endswith(b"\n"):
                return start
        return lines.tell()
