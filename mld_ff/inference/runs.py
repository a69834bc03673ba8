"""Runs of one system as a sequence of frames: cut into blocks for training and testing, and into parts for workers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from mld_ff.errors import InputError
from mld_ff.topology import Topology, find_topology
from mld_ff.trajectory import FrameSource, Trajectory, concatenate

N_BLOCKS = 10
GROUP = 64
"""Frames that are summed before they join the others, cut by number, so that no sum depends on how a source streams
or on how many processes there are."""
Group = tuple[int, int, Trajectory]
"""Number of the run (from 0), block, and frames of both."""


@dataclass(frozen=True)
class Part:
    """The `number`-th (from 1) of `of` contiguous parts of the frames of all runs, one run after the other."""

    number: int = 1
    of: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.of:
            raise InputError(f"there is no part {self.number}/{self.of}: parts are 1/N to N/N")

    @classmethod
    def parse(cls, text: str) -> Part:
        """From `K/N`. Raises InputError."""
        number, _, of = text.partition("/")
        if not (number.isdigit() and of.isdigit()):
            raise InputError(f"a part is K/N, 3/8 for example; found {text!r}")
        return cls(int(number), int(of))

    def range(self, n_frames: int) -> tuple[int, int]:
        """Its first frame, and the one after its last."""
        return n_frames * (self.number - 1) // self.of, n_frames * self.number // self.of


WHOLE = Part()


@dataclass(frozen=True)
class Runs:
    """One run, or several of one system (at several temperatures, say). Block b holds the b-th tenth of every run."""

    sources: tuple[FrameSource, ...]

    @classmethod
    def of(cls, source: FrameSource | Sequence[FrameSource]) -> Runs:
        return cls(tuple(source) if isinstance(source, Sequence) else (source,))

    @property
    def n_frames(self) -> int:
        return sum(run.n_frames for run in self.sources)

    @property
    def n_blocks(self) -> int:
        """Raises InputError if there are too few frames to fit on some and test on others."""
        longest = max(run.n_frames for run in self.sources)
        if longest < 4:
            raise InputError(f"{longest} frames are too few: at least 4 are needed to fit on some and test on others")
        return min(N_BLOCKS, longest // 2)

    @property
    def half_width(self) -> float:
        """Half the smallest width of the cell in any frame [Å]."""
        return min(run.half_width for run in self.sources)

    @cached_property
    def firsts(self) -> list[Trajectory]:
        """The first frame of each. Raises InputError if it has no forces."""
        firsts = [next(run.chunks(1))[0] for run in self.sources]
        if any(first.forces is None for first in firsts):
            raise InputError("the trajectory holds no forces: print &MOTION/&PRINT/&FORCES in the CP2K run")
        return firsts

    @cached_property
    def topologies(self) -> list[Topology]:
        """Of the first frame of each. Raises InputError if they have not the same kinds of pairs."""
        found = [find_topology(first.symbols, first.positions[0], first.cell[0]) for first in self.firsts]
        for topology in found:
            check_same_kinds(topology, found[0])
        return found

    def part(self, part: Part, n_blocks: int) -> Iterator[Group]:
        """The frames of a part in groups."""
        first, last = part.range(self.n_frames)
        before = 0
        for number, run in enumerate(self.sources):
            yield from self._groups(number, n_blocks, max(first - before, 0), min(last - before, run.n_frames))
            before += run.n_frames

    def blocks(self, blocks: Iterable[int], n_blocks: int) -> Iterator[Group]:
        """The frames of some blocks in groups."""
        for number, run in enumerate(self.sources):
            for block in blocks:
                yield from self._groups(number, n_blocks, *_block_range(block, run.n_frames, n_blocks))

    def _groups(self, number: int, n_blocks: int, start: int, stop: int) -> Iterator[Group]:
        """The frames of a run from `start` to before `stop`."""
        run = self.sources[number]
        held: list[Trajectory] = []
        at = start
        for frames in run.chunks(GROUP, start, stop):
            while frames.n_frames:
                block = at * n_blocks // run.n_frames
                low, high = _block_range(block, run.n_frames, n_blocks)
                end = min(low + ((at - low) // GROUP + 1) * GROUP, high, stop)
                held.append(frames[: end - at])
                frames = frames[end - at :]
                at += held[-1].n_frames
                if at == end:
                    yield number, block, concatenate(held)
                    held = []


def _block_range(block: int, n_frames: int, n_blocks: int) -> tuple[int, int]:
    """First frame of a block of a run, and the one after its last."""
    return -(-block * n_frames // n_blocks), -(-(block + 1) * n_frames // n_blocks)


def check_same_kinds(topology: Topology, expected: Topology) -> None:
    """Raise InputError unless two systems have the same kinds of pairs, by the same names."""
    kinds, there = ((t.species, t.bonded_names, t.free) for t in (topology, expected))
    if kinds != there:
        here, other = (", ".join(f"{n} {f}" for f, n in t.formulas().items()) for t in (topology, expected))
        raise InputError(f"{here} has not the same kinds of pairs as {other}: only runs of one system add up")
