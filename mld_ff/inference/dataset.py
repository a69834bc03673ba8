"""Dataset: frames of one system from one or several sources, cut into blocks for training and
testing, and into parts for workers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

from mld_ff.errors import InputError
from mld_ff.geometry.slabs import check_vacuum
from mld_ff.geometry.system import lasting_topology
from mld_ff.geometry.topology import Topology, TopologyKind, without_molecules
from mld_ff.inference.parallel import spread
from mld_ff.progress import Progress, no_progress
from mld_ff.trajectory import FrameSource, Trajectory, concatenate

N_BLOCKS = 10
TEST_EVERY = 5
"""Every fifth block is for testing."""
GROUP = 64
"""Frames that are summed before they join the others, cut by number, so that no sum depends on how
a source streams or on how many processes there are.
"""
Range = tuple[int, int, int]
"""Number of a run (from 0), its first frame, and the one after its last."""
Group = tuple[int, int, Trajectory]
"""Number of a run, block, and frames of both."""
Shared = TypeVar("Shared")
Result = TypeVar("Result")
Work = Callable[[Shared, Topology, Trajectory], Result]


@dataclass(frozen=True)
class Part:
    """The `number`-th (from 1) of `of` contiguous parts of the frames of all runs, one run after
    the other.
    """

    number: int = 1
    of: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.of:
            raise InputError(f"there is no part {self.number}/{self.of}: parts are 1/N to N/N")

    @classmethod
    def parse(cls, text: str) -> Part:
        """From `K/N`. Raises InputError."""
        number, _, of = text.partition("/")
        if not (number.isdecimal() and of.isdecimal()):
            raise InputError(f"a part is K/N, 3/8 for example; found {text!r}")
        return cls(int(number), int(of))

    def range(self, n_frames: int) -> tuple[int, int]:
        """Its first frame, and the one after its last."""
        return n_frames * (self.number - 1) // self.of, n_frames * self.number // self.of


WHOLE = Part()


@dataclass(frozen=True)
class Dataset:
    """One source of frames, or several of one system (at several temperatures, say).

    Block b holds the b-th tenth of every source.
    """

    sources: tuple[FrameSource, ...]
    progress: Progress = no_progress
    processes: int = 1
    """That share the work of passes over the frames."""
    only_train: int = 0
    """So many of the sources, the last ones, are never for testing: of the atoms of the first in
    the same order, their frames spread over the blocks for training."""
    topology: TopologyKind | None = None
    """Whether there are molecules; None to find out."""

    def __post_init__(self) -> None:
        others = self.sources[len(self.sources) - self.only_train :]
        if any(run.symbols != self.sources[0].symbols for run in others):
            raise InputError(
                "what is only for training holds other atoms than the run, or in another order"
            )

    @property
    def tested(self) -> tuple[FrameSource, ...]:
        """The sources that are for training and testing."""
        return self.sources[: len(self.sources) - self.only_train]

    @classmethod
    def of(
        cls,
        source: Source,
        progress: Progress = no_progress,
        processes: int = 1,
        topology: TopologyKind | None = None,
    ) -> Dataset:
        if isinstance(source, Dataset):
            return source
        sources = tuple(source) if isinstance(source, Sequence) else (source,)
        return cls(sources, progress, processes, topology=topology)

    @property
    def n_frames(self) -> int:
        return sum(run.n_frames for run in self.sources)

    @property
    def n_blocks(self) -> int:
        """Raises InputError if there are too few frames to fit on some and test on others."""
        longest = max(run.n_frames for run in self.tested)
        if longest < 4:
            raise InputError(
                f"{longest} frames are too few: at least 4 are needed to fit on some and test on"
                " others"
            )
        return min(N_BLOCKS, longest // 2)

    @property
    def half_width(self) -> float:
        """Half the smallest width of the cell in any frame [Å]."""
        return min(run.half_width for run in self.sources)

    @property
    def is_slab(self) -> bool:
        """As in `Origin`. Raises InputError where some of them are, and others are not, and where
        there is no vacuum between a slab and its images.
        """
        told = {run.origin.slab for run in self.sources}
        if len(told) > 1:
            raise InputError(
                "of these runs some are periodic along c, and others are slabs (PERIODIC XY or"
                " SURFACE_DIPOLE_CORRECTION), where charges act in another way: fit them by"
                " themselves, or with --charges none"
            )
        if is_slab := told.pop():
            for first in self.firsts:
                remedy = "compute a higher cell, or fit with --charges none"
                check_vacuum(first.positions[0], first.cell[0], remedy)
        return is_slab

    @cached_property
    def firsts(self) -> list[Trajectory]:
        """The first frame of each. Raises InputError if it has no forces."""
        firsts = [next(run.chunks(1))[0] for run in self.sources]
        for first in firsts:
            if first.forces is None:
                raise InputError(f"the trajectory holds no forces: {first.origin.remedies.forces}")
        return firsts

    @cached_property
    def topologies(self) -> list[Topology]:
        """Of each, all without molecules if one is. Raises InputError if their kinds of pairs
        differ.
        """
        tested = [lasting_topology(source, self.topology) for source in self.tested]
        if why := next((t.no_molecules for t in tested if t.no_molecules), ""):
            tested = [without_molecules(t.symbols, why) for t in tested]
        for topology in tested:
            check_same_kinds(topology, tested[0])
        return tested + [tested[0]] * self.only_train

    def part(self, part: Part) -> list[Range]:
        """The frames of a part."""
        first, last = part.range(self.n_frames)
        ranges, before = [], 0
        for number, source in enumerate(self.sources):
            start, stop = max(first - before, 0), min(last - before, source.n_frames)
            if start < stop:
                ranges.append((number, start, stop))
            before += source.n_frames
        return ranges

    def blocks(self, blocks: Iterable[int], n_blocks: int) -> list[Range]:
        """The frames of some blocks; not those that are only for training."""
        sizes = [run.n_frames for run in self.tested]
        return [
            (number, *block_range(b, n, n_blocks)) for number, n in enumerate(sizes) for b in blocks
        ]

    def over(
        self,
        ranges: Sequence[Range],
        n_blocks: int,
        what: str,
        work: Work[Shared, Result],
        shared: Shared,
    ) -> Iterator[tuple[int, Result]]:
        """Block and `work(shared, topology, frames)` of groups of frames, in order.

        what: is being done, for the progress.
        """
        groups = (group for one in ranges for group in self._groups(*one, n_blocks))
        done, total = 0, sum(stop - start for _, start, stop in ranges)
        self.progress(what, done, total)
        state = work, shared, self.topologies
        for block, seen, result in spread(_on_group, state, groups, self.processes):
            done += seen
            self.progress(what, done, total)
            yield block, result

    def over_all(
        self, what: str, work: Work[Shared, Result], shared: Shared
    ) -> Iterator[tuple[int, Result]]:
        """See `over`: all frames."""
        return self.over(self.part(WHOLE), self.n_blocks, what, work, shared)

    def _groups(self, number: int, start: int, stop: int, n_blocks: int) -> Iterator[Group]:
        source = self.sources[number]
        tested = number < len(self.tested)
        blocks = tuple(range(n_blocks)) if tested else blocks_for_training(n_blocks)
        held: list[Trajectory] = []
        at = start
        for frames in source.chunks(GROUP, start, stop):
            while frames.n_frames:
                place = at * len(blocks) // source.n_frames
                low, high = block_range(place, source.n_frames, len(blocks))
                end = min(low + ((at - low) // GROUP + 1) * GROUP, high, stop)
                held.append(frames[: end - at])
                frames = frames[end - at :]
                at += held[-1].n_frames
                if at == end:
                    yield number, blocks[place], concatenate(held)
                    held = []


def _on_group(
    state: tuple[Work[Any, Result], Any, list[Topology]], group: Group
) -> tuple[int, int, Result]:
    (work, shared, topologies), (number, block, frames) = state, group
    return block, frames.n_frames, work(shared, topologies[number], frames)


Source = FrameSource | Sequence[FrameSource] | Dataset
"""One run, or several of one system."""


def blocks_for_test(n_blocks: int) -> tuple[int, ...]:
    """Every fifth block, or the last of fewer."""
    return tuple(range(TEST_EVERY - 1, n_blocks, TEST_EVERY)) or (n_blocks - 1,)


def blocks_for_training(n_blocks: int) -> tuple[int, ...]:
    """All others."""
    return tuple(b for b in range(n_blocks) if b not in blocks_for_test(n_blocks))


def block_range(block: int, n_frames: int, n_blocks: int) -> tuple[int, int]:
    """First frame of a block of a run, and the one after its last."""
    return -(-block * n_frames // n_blocks), -(-(block + 1) * n_frames // n_blocks)


def check_same_kinds(topology: Topology, expected: Topology) -> None:
    """Raise InputError unless two systems have the same kinds of pairs, by the same names."""
    kinds, there = ((t.species, t.bonded_names, t.free_names) for t in (topology, expected))
    if kinds != there:
        here, other = (
            ", ".join(f"{n} {f}" for f, n in t.formulas().items()) for t in (topology, expected)
        )
        raise InputError(
            f"{here} has not the same kinds of pairs as {other}: only runs of one system add up"
        )
