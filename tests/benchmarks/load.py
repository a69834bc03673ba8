"""Large boxes, many exports, long trajectories: time and memory of each in a process of its own.

OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 python tests/benchmarks/load.py [WHAT [NUMBER]]
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from mld_ff import AgentLoss, Basis, Trajectory, fit, open_cp2k
from mld_ff.engines.registry import ENGINES
from mld_ff.engines.start import start_from
from mld_ff.sources.packing import replicate
from mld_ff.sources.source import CHUNK, FileSource

EXAMPLE = Path(__file__).parents[2] / "examples/water/cp2k"
CHEAP = Basis("power", exponents=(3.0,), cutoff_A=3.0, accuracy="pairs")
"""The cheapest: memory is what is asked."""
TOLD_EVERY = 100
"""Exports."""


class Tiled(FileSource):
    """Frames of the water example over and over, 2 × 2 × 2 boxes side by side: 1,536 atoms."""

    def __init__(self, frames: Trajectory, n_frames: int) -> None:
        self._frames, self._n = frames, n_frames
        self.symbols, self.masses = frames.symbols * 8, np.tile(frames.masses, 8)
        self.origin, self.notes = frames.origin, []

    @property
    def n_frames(self) -> int:
        return self._n

    @property
    def half_width(self) -> float:
        return 2 * self._frames.half_width

    def chunks(
        self, size: int = CHUNK, start: int = 0, stop: int | None = None
    ) -> Iterator[Trajectory]:
        stop = self._n if stop is None else stop
        for first in range(start, stop, size):
            number = np.arange(first, min(first + size, stop))
            some = self._frames[number % len(self._frames)]
            assert some.forces is not None
            shift = np.indices((2, 2, 2)).reshape(3, 8).T @ some.cell[0]
            n = len(number)
            yield Trajectory(
                symbols=self.symbols,
                masses=self.masses,
                positions=(some.positions[:, None] + shift[:, None]).reshape(n, -1, 3),
                cell=2 * some.cell,
                time=10.0 * number.astype(float),
                step=20 * number,
                forces=np.tile(some.forces, (1, 8, 1)),
                origin=self.origin,
            )


def long(n_frames: int, basis: Basis = CHEAP) -> None:
    """Fit a trajectory of 1,536 atoms, generated as it is read."""
    frames = open_cp2k(EXAMPLE).read()
    fit(Tiled(frames, n_frames), basis, force=True)


def pairs(n_frames: int) -> None:
    """The same by the default of pairs."""
    long(n_frames, Basis(accuracy="pairs"))


def large(n_atoms: int) -> None:
    """Export a large box for both engines."""
    frames = open_cp2k(EXAMPLE).read()
    loss, times = fit(frames[:100], CHEAP, force=True).loss, round((n_atoms / 192) ** (1 / 3))
    frame = replicate(frames[-1], (times, times, times))
    start = start_from(frame, force=True)
    for name, engine in ENGINES.items():
        began = time.process_time()
        with tempfile.TemporaryDirectory() as folder:
            engine.export(loss, start, folder)
            size = sum(file.stat().st_size for file in Path(folder).iterdir()) / 1e6
        seconds = time.process_time() - began
        print(f"  {name}, {frame.n_atoms} atoms: {seconds:.1f} s of CPU time, {size:.0f} MB")


def often(n_exports: int) -> None:
    """Export the example for both engines over and over."""
    frames = open_cp2k(EXAMPLE).read()
    loss: AgentLoss = fit(frames[:100], CHEAP, force=True).loss
    start = start_from(frames[-1], force=True)
    for k in range(1, n_exports + 1):
        for engine in ENGINES.values():
            with tempfile.TemporaryDirectory() as folder:
                engine.export(loss, start, folder)
        if k % TOLD_EVERY == 0:
            print(f"  {k} exports for each engine: {resident_MiB():.1f} MiB", flush=True)


WORKS: dict[str, tuple[Callable[[int], None], int]] = {
    "large": (large, 100_000),
    "often": (often, 1000),
    "long": (long, 10_000),
    "pairs": (pairs, 1000),
}


def resident_MiB() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def main() -> None:
    if len(sys.argv) < 3:
        for name, (_, number) in WORKS.items():
            if sys.argv[1:] in ([], [name]):
                subprocess.run([sys.executable, __file__, name, str(number)], check=True)
        return
    name, number = sys.argv[1], int(sys.argv[2])
    work, _ = WORKS[name]
    work(number)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{name} {number}: {time.process_time():.0f} s of CPU time, peak {peak:.0f} MiB")


if __name__ == "__main__":
    main()
