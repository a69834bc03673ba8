"""Speed and memory of reading and inference on the shipped example.

OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 python tests/benchmarks/inference.py
"""

from __future__ import annotations

import lzma
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from mld_ff import AgentLoss, Basis, Trajectory, fit, inspect, open_cp2k
from mld_ff.geometry.system import systems
from mld_ff.inference import Dataset, Part, accumulate, read_shards, solve, write_shard
from mld_ff.inference.sampling import blank_forms

SEARCHES = 5
EXAMPLE = Path(__file__).parents[2] / "examples/water/cp2k"


def lengthen(directory: Path, frames: int) -> None:
    """A run of `frames` frames: the example's over and over, with steps that go on."""
    for role in ("pos", "frc"):
        with lzma.open(EXAMPLE / f"w64-{role}-1.xyz.xz", "rt") as file:
            lines = file.readlines()
        n = 194
        blocks = [lines[k + 2 : k + n] for k in range(0, len(lines), n)]
        with (directory / f"w64-{role}-1.xyz").open("w") as out:
            for f in range(frames):
                out.write(
                    f"     192\n i = {20 * f:8d}, time = {10 * f:12.3f}, E = {3751.0:20.10f}\n"
                )
                out.writelines(blocks[f % len(blocks)])
    for name in ("nnp.inp", "coord.inc"):
        (directory / name).write_text((EXAMPLE / name).read_text())


def fit_lengthened(frames: int) -> None:
    """In a process of its own: fit and print seconds and peak memory in MiB."""
    with tempfile.TemporaryDirectory() as folder:
        lengthen(Path(folder), frames)
        began = time.perf_counter()
        fit(open_cp2k(folder), Basis(kind="power"))
        seconds = time.perf_counter() - began
    print(f"{seconds:.2f} {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f}")


def shards(frames: int = 6000, jobs: int = 24, wanted: int = 1_000_000) -> None:
    """Rates of accumulation from plain text, and what they make of `wanted` frames."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        lengthen(place, frames)
        size = sum(file.stat().st_size for file in place.glob("*.xyz")) / frames
        took: dict[str, float] = {}
        ways: dict[str, Callable[[], object]] = {
            "open": lambda: open_cp2k(place),
            "pass over": lambda: list(open_cp2k(place).chunks(start=frames - 1)),
            "one process": lambda: accumulate(open_cp2k(place), Basis().terms),
            "two processes": lambda: accumulate(open_cp2k(place), Basis().terms, processes=2),
        }
        for what, work in ways.items():
            began = time.perf_counter()
            work()
            took[what] = time.perf_counter() - began
        took["pass over"] -= took["open"]
        files = [place / f"{k}.npz" for k in (1, 2)]
        for k, file in enumerate(files, 1):
            write_shard(accumulate(open_cp2k(place), Basis().terms, part=Part(k, 2)), file)
        began = time.perf_counter()
        solve(read_shards(files))
        merged = time.perf_counter() - began
        shard = max(file.stat().st_size for file in files) / 1e6
    for what, seconds in took.items():
        print(f"splines, {frames} frames of plain text, {what}: {frames / seconds:.0f} frames/s")
    print(f"adding up two shards of at most {shard:.1f} MB and solving: {merged:.1f} s")
    per_frame = {what: seconds / frames for what, seconds in took.items()}
    one = wanted * per_frame["one process"]
    each = (
        wanted * (per_frame["open"] + per_frame["pass over"])
        + (one - wanted * per_frame["open"]) / jobs
    )
    print(
        f"{wanted} frames of 64 waters: {wanted * size / 1e9:.0f} GB of text; one process"
        f" {one / 3600:.1f} h; {jobs} jobs at most {each / 60:.0f} min each, shards"
        f" {jobs * shard:.0f} MB in all, fit of them {jobs / 2 * merged:.0f} s"
    )


def passes(frames: Trajectory) -> None:
    """Rates of the passes over frames in memory, and of the search for pairs that each makes."""
    dataset, collective = Dataset.of(frames), Basis(collective=6)
    sums, angles = blank_forms(dataset, collective), Basis(accuracy="fast")
    sums_of_angles = blank_forms(dataset, angles)
    of_pairs, of_channels = fit(frames, Basis(accuracy="pairs")).loss, fit(frames, collective).loss
    (topology,) = dataset.topologies

    def evaluate(loss: AgentLoss) -> None:
        for system in systems(topology, frames, loss.cutoff_A):
            loss.evaluate(system)

    works: dict[str, Callable[[], object]] = {
        "search for pairs": lambda: [
            system.neighbours for system in systems(topology, frames, of_pairs.cutoff_A)
        ],
        "accumulate, splines": lambda: accumulate(frames, Basis().terms),
        "accumulate, collective": lambda: accumulate(frames, collective.terms, forms=sums),
        "accumulate, angles to 4 Å": lambda: accumulate(frames, angles.terms, forms=sums_of_angles),
        "evaluate, splines": lambda: evaluate(of_pairs),
        "evaluate, collective": lambda: evaluate(of_channels),
        "survey": lambda: inspect(frames),
    }
    for what, work in works.items():
        work()
        began = time.process_time()
        work()
        rate = frames.n_frames / (time.process_time() - began)
        print(f"in memory, {what}: {rate:.0f} frames/s of CPU time")


def main() -> None:
    """All measurements, one line each."""
    began = time.perf_counter()
    trajectory = open_cp2k(EXAMPLE).read()
    rate = trajectory.n_frames / (time.perf_counter() - began)
    print(f"reading positions, forces, velocities from .xz: {rate:.0f} frames/s")
    for basis in (Basis(kind="power"), Basis()):
        began = time.perf_counter()
        accumulate(trajectory, basis.terms)
        rate = trajectory.n_frames / (time.perf_counter() - began)
        print(f"invariants and normal equations, {basis.kind}: {rate:.0f} frames/s")
    passes(trajectory[::4])
    one_search(trajectory[::4])
    peaks = {}
    for frames in (600, 6000):
        said = subprocess.check_output([sys.executable, __file__, str(frames)], text=True)
        seconds, peaks[frames] = map(float, said.split())
        print(
            f"fit, power law, {frames} frames: {seconds:.1f} s with reading and testing, peak"
            f" {peaks[frames]:.0f} MiB"
        )
    print(f"peak memory, 6000 frames / 600 frames: {peaks[6000] / peaks[600]:.2f}")
    shards()


def one_search(frames: Trajectory, turns: int = 5) -> None:
    """What it gains that a frame is searched once, and not by each of the SEARCHES that asked
    before systems kept their pairs: in turns, CPU time, the middle and both ends of the ratios."""
    dataset, collective = Dataset.of(frames), Basis(collective=6)
    sums, (topology,) = blank_forms(dataset, collective), dataset.topologies
    of_pairs = fit(frames, Basis(accuracy="pairs")).loss
    reach = of_pairs.cutoff_A
    works: dict[str, Callable[[], object]] = {
        "sums of splines": lambda: accumulate(frames, Basis().terms),
        "sums of the collective loss": lambda: accumulate(frames, collective.terms, forms=sums),
        "evaluation of splines": lambda: [
            of_pairs.evaluate(system) for system in systems(topology, frames, reach)
        ],
    }
    for what, work in works.items():
        ratios = []
        for _ in range(turns):
            began = time.process_time()
            work()
            once = time.process_time() - began
            for _ in range(SEARCHES - 1):
                assert all(len(s.neighbours.r) for s in systems(topology, frames, reach))
            ratios.append((time.process_time() - began) / once)
        low, *_, high = sorted(ratios)
        middle = sorted(ratios)[turns // 2]
        print(
            f"one search instead of {SEARCHES}, {what}: {middle:.2f} times the frames/s"
            f" ({low:.2f} to {high:.2f})"
        )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        fit_lengthened(int(sys.argv[1]))
    else:
        main()
