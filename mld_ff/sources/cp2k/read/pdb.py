"""Positions that CP2K wrote as PDB (FORMAT PDB): three decimals, a cell in every frame."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase.geometry import cellpar_to_cell
from numpy.typing import NDArray

from mld_ff.errors import InputError
from mld_ff.sources.cp2k.read.index import FrameIndex
from mld_ff.sources.textfiles import open_binary
from mld_ff.trajectory import Floats

_N = r"-?(?:\d+\.?\d*|\.\d+)"
_TITLE = re.compile(
    rf"REMARK\s+Step\s+(?P<step>\d{{1,18}})(?:,\s*time\s*=\s*(?P<time>{_N}))?"
    rf",\s*E\s*=\s*(?P<E>{_N})"
)
_SAME_DEG = 1e-4


@dataclass(frozen=True, kw_only=True)
class PDBIndex(FrameIndex):
    """Of a file of `read_pdb_index`."""

    def frames(self, wanted: NDArray[np.bool_]) -> Iterator[tuple[Floats, int]]:
        last = int(np.flatnonzero(wanted)[-1])
        for number, frame in enumerate(_frames(self.path)):
            if wanted[number]:
                yield frame.positions(self), frame.line
            if number == last:
                return


@dataclass
class _Frame:
    """One frame as text."""

    line: int
    title: re.Match[str]
    box: list[float]
    """Lengths [Å] and angles [degree]; empty without a cell."""
    rows: list[str]

    def labels(self) -> list[bytes]:
        """The element of every atom, or its name where the element is not told."""
        return [(row[76:78].strip() or row[12:16].strip()).encode() for row in self.rows]

    def positions(self, index: FrameIndex) -> Floats:
        try:
            values = np.array([[float(row[k : k + 8]) for k in (30, 38, 46)] for row in self.rows])
        except ValueError:
            values = np.zeros((0, 3))
        if len(values) != index.n_atoms or self.labels() != index.labels:
            raise InputError(
                f"step {self.title['step']}: expected the {index.n_atoms} atoms of the first frame"
                " with three numbers each",
                index.path,
                self.line,
            )
        return values


def read_pdb_index(path: Path) -> PDBIndex:
    """Find the frames of a file. Raises InputError if there is none that CP2K wrote."""
    frames = list(_frames(path))
    if not frames:
        raise InputError(
            "no frame that CP2K wrote: sought REMARK Step …, time = …, E = … before the atoms", path
        )
    boxes = [frame.box for frame in frames]
    # how a cell that is not a box lies is not told
    are_boxes = all(box and np.abs(np.array(box[3:]) - 90).max() < _SAME_DEG for box in boxes)
    first, titles = frames[0], [frame.title for frame in frames]
    return PDBIndex(
        path=path,
        n_atoms=len(first.rows),
        labels=first.labels(),
        first_row=first.line + 1,
        step=np.array([int(title["step"]) for title in titles], dtype=np.int64),
        time=np.array([float(title["time"] or "nan") for title in titles]),
        energy=np.array([float(title["E"]) for title in titles]),
        cell=np.array([cellpar_to_cell(box) for box in boxes]) if are_boxes else None,
    )


def _frames(path: Path) -> Iterator[_Frame]:
    """Complete frames: each begins with its title and ends with END."""
    frame: _Frame | None = None
    with open_binary(path) as stream:
        for number, raw in enumerate(stream, 1):
            line = raw.decode("utf-8", "replace").rstrip()
            if title := _TITLE.match(line):
                frame = _Frame(number, title, [], [])
            elif frame is not None and line.startswith("CRYST1"):
                frame.box = _box(line, path, number)
            elif frame is not None and line.startswith(("ATOM", "HETATM")):
                frame.rows.append(line)
            elif frame is not None and line.startswith("END"):
                yield frame
                frame = None


def _box(line: str, path: Path, number: int) -> list[float]:
    try:
        box = [float(text) for text in line[6:54].split()]
    except ValueError:
        box = []
    if len(box) != 6 or not np.isfinite(box).all():
        raise InputError(
            f"expected three lengths and three angles of the cell, found '{line[6:54].strip()}'",
            path,
            number,
        )
    return box
