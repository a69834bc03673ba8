"""What every source that reads files shares, and the record by which one is chosen."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from mld_ff.origin import Origin
from mld_ff.trajectory import Floats, PrintedCharges, PrintedDipole, Trajectory, concatenate

CHUNK = 64
"""Frames that are in memory at a time."""


class FileSource(ABC):
    """Frames of one system in files, streamed; satisfies `mld_ff.trajectory.FrameSource`."""

    symbols: tuple[str, ...]
    """Element of every atom, (N,)."""
    masses: Floats
    """[amu], (N,)."""
    origin: Origin
    notes: list[str]
    """What was decided while opening, one sentence each: frames dropped and why, and so on."""

    @property
    @abstractmethod
    def n_frames(self) -> int: ...

    @property
    @abstractmethod
    def half_width(self) -> float:
        """Half the smallest width of the cell in any frame [Å]: the longest cutoff allowed."""

    @abstractmethod
    def chunks(
        self, size: int = CHUNK, start: int = 0, stop: int | None = None
    ) -> Iterator[Trajectory]:
        """Successive trajectories of at most `size` of the frames from `start` to before `stop`,
        each read and checked as it is asked for. Raises InputError with file and line.
        """

    @property
    def seconds_per_step(self) -> float | None:
        """Wall time of an MD step by the source's own account; None without one."""
        return None

    @property
    def logged_temperature(self) -> Floats | None:
        """Kinetic temperature [K] of every frame (F,) by the source's own account; None without
        one.
        """
        return None

    @property
    def printed_dipole(self) -> PrintedDipole | None:
        """Dipole of the box by the source's program; None without one."""
        return None

    @property
    def printed_charges(self) -> Mapping[str, PrintedCharges]:
        """Charges of atoms by the source's program, by method; none by default."""
        return {}

    def read(self) -> Trajectory:
        """All frames at once."""
        return concatenate(list(self.chunks()))


@dataclass(frozen=True)
class SourceKind:
    """One kind of source: how it is recognised and opened."""

    name: str
    """As a message names it."""
    recognises: Callable[[Path], bool]
    """Whether a path is of this kind, by its name; nothing is read."""
    open: Callable[..., FileSource]
    """Called with the path, `require_forces`, `skip_fs`, and what files of `roles` were named.

    require_forces: True refuses a source without forces and leaves out frames that lack them, False
    keeps all frames, None is True for a source that has forces and False for one that has none.
    skip_fs: a first stretch of time to leave out.
    """
    roles: tuple[str, ...] = ()
    """What files of it may be named one by one (`--file ROLE=FILE`)."""
