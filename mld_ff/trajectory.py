"""Trajectory: the one type that every source is read into and that runs are read back into."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from ase.cell import Cell
from numpy.typing import NDArray

from mld_ff.names import check_species
from mld_ff.origin import Origin
from mld_ff.units import AMU_A2_PER_FS2_TO_EV, KB_EV_PER_K

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
_PER_FRAME = ("positions", "cell", "time", "step", "forces", "velocities", "energy", "stress")


@dataclass(frozen=True)
class PrintedDipole:
    """The dipole of the box that a source's program printed, at times of its own.

    Only changes mean something: a periodic box has a dipole up to multiples of its vectors.
    """

    time: Floats
    """[fs], (D,)."""
    dipole: Floats
    """[e Å], (D, 3), without jumps by those multiples."""

    @property
    def stride_fs(self) -> float | None:
        """Between two of them; None where they are not equally far apart."""
        gaps = np.diff(self.time)
        even = len(gaps) > 0 and gaps.min() > 0 and np.allclose(gaps, gaps.mean(), rtol=1e-3)
        return float(gaps.mean()) if even else None


@dataclass(frozen=True)
class PrintedCharges:
    """Charges of atoms by one method, that a source's program printed in so many tables."""

    mean: Floats
    """[e], (N,)."""
    deviation: Floats
    """[e], (N,)."""
    tables: int


class FrameSource(Protocol):
    """Frames of one system: a Trajectory in memory, or files that are read piece by piece.

    Files do best to inherit from `mld_ff.sources.source.FileSource`, which knows what follows from
    the rest.
    """

    @property
    def symbols(self) -> tuple[str, ...]: ...

    @property
    def masses(self) -> Floats: ...

    @property
    def origin(self) -> Origin: ...

    @property
    def notes(self) -> list[str]:
        """What was decided while opening, one sentence each."""

    @property
    def n_frames(self) -> int: ...

    @property
    def half_width(self) -> float:
        """Half the smallest width of the cell in any frame [Å]."""

    @property
    def seconds_per_step(self) -> float | None:
        """Wall time of an MD step by the source's own account."""

    @property
    def logged_temperature(self) -> Floats | None:
        """Kinetic temperature [K] of every frame (F,) by the source's own account, which may know
        it of frames without velocities.
        """

    @property
    def printed_dipole(self) -> PrintedDipole | None:
        """Of the electrons too, where the source's program printed it."""

    @property
    def printed_charges(self) -> Mapping[str, PrintedCharges]:
        """By method (`mulliken`, `hirshfeld`, …), where the source's program printed them."""

    def chunks(
        self, size: int = ..., start: int = ..., stop: int | None = ...
    ) -> Iterator[Trajectory]: ...

    def read(self) -> Trajectory:
        """All frames at once."""


@dataclass(frozen=True)
class Trajectory:
    """Frames of one system, in eV, Å, fs, amu.

    F frames of N atoms; what the source does not hold is None.
    """

    symbols: tuple[str, ...]
    """Element of every atom, (N,)."""
    masses: Floats
    """[amu], (N,)."""
    positions: Floats
    """[Å], (F, N, 3), as the source gives them (wrapped or not)."""
    cell: Floats
    """[Å], (F, 3, 3); rows are the cell vectors."""
    time: Floats
    """[fs], (F,)."""
    step: Ints
    """MD step number of the source, (F,)."""
    forces: Floats | None = None
    """[eV/Å], (F, N, 3)."""
    velocities: Floats | None = None
    """[Å/fs], (F, N, 3)."""
    energy: Floats | None = None
    """Potential energy [eV], (F,)."""
    stress: Floats | None = None
    """[eV/Å³], (F, 3, 3); positive where the cell would shrink (ASE's sign)."""
    fixed: NDArray[np.bool_] | None = None
    """Components that the source kept from moving, (N, 3): what it holds as their forces, zero, is
    none. None where all atoms are free.
    """
    origin: Origin = field(default_factory=Origin)

    def __post_init__(self) -> None:
        check_species(self.symbols)

    @property
    def notes(self) -> list[str]:
        return []

    @property
    def seconds_per_step(self) -> None:
        return None

    @property
    def logged_temperature(self) -> None:
        return None

    @property
    def printed_dipole(self) -> None:
        return None

    @property
    def printed_charges(self) -> Mapping[str, PrintedCharges]:
        return {}

    @property
    def n_frames(self) -> int:
        return len(self.positions)

    @property
    def n_atoms(self) -> int:
        return len(self.symbols)

    @property
    def species(self) -> tuple[str, ...]:
        """Elements present, in order of first appearance."""
        return tuple(dict.fromkeys(self.symbols))

    @property
    def half_width(self) -> float:
        """Half the smallest width of the cell in any frame [Å]: the longest cutoff allowed."""
        return half_width(self.cell)

    def __len__(self) -> int:
        return self.n_frames

    def __getitem__(self, index: int | slice | NDArray[Any]) -> Trajectory:
        """The frames that a numpy index along the first axis selects (an integer keeps the
        axis).
        """
        if isinstance(index, (int, np.integer)):
            i = range(self.n_frames)[index]
            index = slice(i, i + 1)
        picked: dict[str, Any] = {}
        for name in _PER_FRAME:
            array = getattr(self, name)
            picked[name] = None if array is None else array[index]
        return replace(self, **picked)

    def select_atoms(self, order: Ints) -> Trajectory:
        """The given atoms (indices) of every frame, in that order."""

        def pick(array: Floats | None) -> Floats | None:
            return None if array is None else array[:, order]

        return replace(
            self,
            symbols=tuple(self.symbols[i] for i in order),
            masses=self.masses[order],
            positions=self.positions[:, order],
            forces=pick(self.forces),
            velocities=pick(self.velocities),
            fixed=None if self.fixed is None else self.fixed[order],
        )

    def standard_cell(self) -> Trajectory:
        """The same frames rotated so that a lies along x and b in the xy plane, with the cell in
        reduced form.

        What OpenMM and LAMMPS ask of a cell; one that already is so comes back unchanged, bit for
        bit.
        """
        cells, rotations = np.empty_like(self.cell), np.empty_like(self.cell)
        for f, cell in enumerate(self.cell):
            cells[f], rotations[f] = _reduced(cell)

        if (rotations == np.eye(3)).all():
            return replace(self, cell=cells)

        def turn(vectors: Floats | None) -> Floats | None:
            if vectors is None:
                return None
            return np.asarray(np.einsum("fpc,fcd->fpd", vectors, rotations))

        stress = self.stress
        if stress is not None:
            stress = np.asarray(np.einsum("fac,fab,fbd->fcd", rotations, stress, rotations))
        positions = turn(self.positions)
        assert positions is not None
        return replace(
            self,
            cell=cells,
            positions=positions,
            forces=turn(self.forces),
            velocities=turn(self.velocities),
            stress=stress,
            # along the new axes a component is free only if all are
            fixed=None
            if self.fixed is None
            else self.fixed.any(axis=1, keepdims=True).repeat(3, 1),
        )

    def chunks(
        self, size: int = 64, start: int = 0, stop: int | None = None
    ) -> Iterator[Trajectory]:
        """Successive views of at most `size` of the frames from `start` to before `stop`."""
        stop = self.n_frames if stop is None else stop
        for first in range(start, stop, size):
            yield self[first : min(first + size, stop)]

    def read(self) -> Trajectory:
        """Itself."""
        return self

    def temperature(self) -> Floats:
        """Kinetic temperature [K] per frame, (F,); 3N - 3 degrees of freedom (the centre of mass is
        at rest).

        Raises ValueError without velocities.
        """
        if self.velocities is None:
            raise ValueError("this trajectory holds no velocities")
        twice_kinetic = AMU_A2_PER_FS2_TO_EV * np.einsum(
            "fpc,fpc,p->f", self.velocities, self.velocities, self.masses
        )
        return np.asarray(twice_kinetic) / ((3 * self.n_atoms - 3) * KB_EV_PER_K)


def half_width(cell: Floats) -> float:
    """Half the smallest distance between opposite faces of the cell(s) (…, 3, 3) [Å]: the longest
    cutoff allowed.
    """
    widths = 1 / np.linalg.norm(np.linalg.inv(cell), axis=-2)
    return float(widths.min()) / 2


def _reduced(cell: Floats) -> tuple[Floats, Floats]:
    """Lower-triangular reduced cell (3, 3) and the rotation (3, 3) that takes row vectors into its
    frame.
    """
    if (
        np.linalg.det(cell) < 0
    ):  # a left-handed cell spans the same lattice with one vector reversed
        cell = cell * np.array([[1.0], [1.0], [-1.0]])
    if np.allclose(cell, np.tril(cell), atol=1e-12) and (np.diag(cell) > 0).all():
        a, b, c = np.array(cell)
        rotation = np.eye(3)
    else:
        standard, rotation = Cell(cell).standard_form()
        (a, b, c), rotation = np.array(standard), rotation.T
    c = c - b * np.round(c[1] / b[1])
    c = c - a * np.round(c[0] / a[0])
    b = b - a * np.round(b[0] / a[0])
    return np.array([a, b, c]), rotation


def concatenate(parts: list[Trajectory]) -> Trajectory:
    """Join trajectories of the same atoms along the frames; what one of them lacks is left out."""

    def join(name: str) -> Any:
        arrays = [getattr(part, name) for part in parts]
        return None if any(a is None for a in arrays) else np.concatenate(arrays)

    return replace(parts[0], **{name: join(name) for name in _PER_FRAME})


def spread_frames(source: FrameSource, n: int) -> Trajectory:
    """At most n frames spread evenly over a source, read in one pass."""
    wanted = set(
        np.linspace(0, source.n_frames - 1, min(n, source.n_frames)).round().astype(int).tolist()
    )
    parts, at = [], 0
    for frames in source.chunks():
        here = [k - at for k in sorted(wanted) if at <= k < at + frames.n_frames]
        if here:
            parts.append(frames[np.array(here)])
        at += frames.n_frames
    return concatenate(parts)
