"""Speed and memory of reading and inference on the shipped example.

python tests/benchmarks/inference.py
"""

from __future__ import annotations

import lzma
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

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
                out.write(f"     192\n i = {20 * f:8d}, time = {10 * f:12.3f}, E = {3751.0:20.10f}\n")
                out.writelines(blocks[f % len(blocks)])
    for name in ("nnp.inp", "coord.inc"):
        (directory / name).write_text((EXAMPLE / name).read_text())


def fit_lengthened(frames: int) -> None:
    """In a process of its own: fit and print seconds and peak memory in MiB."""
    from mld_ff import Basis, fit, open_cp2k

    with tempfile.TemporaryDirectory() as folder:
        lengthen(Path(folder), frames)
        began = time.perf_counter()
        fit(open_cp2k(folder), Basis(kind="power"))
        seconds = time.perf_counter() - began
    print(f"{seconds:.2f} {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f}")


def main() -> None:
    """All measurements, one line each."""
    from mld_ff import Basis, open_cp2k
    from mld_ff.inference import accumulate

    began = time.perf_counter()
    trajectory = open_cp2k(EXAMPLE).read()
    rate = trajectory.n_frames / (time.perf_counter() - began)
    print(f"reading positions, forces, velocities from .xz: {rate:.0f} frames/s")
    for basis in (Basis(kind="power"), Basis()):
        began = time.perf_counter()
        accumulate(trajectory, basis.terms)
        rate = trajectory.n_frames / (time.perf_counter() - began)
        print(f"invariants and normal equations, {basis.kind}: {rate:.0f} frames/s")
    peaks = {}
    for frames in (600, 6000):
        said = subprocess.check_output([sys.executable, __file__, str(frames)], text=True)
        seconds, peaks[frames] = map(float, said.split())
        print(
            f"fit, power law, {frames} frames: {seconds:.1f} s with reading and testing, peak {peaks[frames]:.0f} MiB"
        )
    print(f"peak memory, 6000 frames / 600 frames: {peaks[6000] / peaks[600]:.2f}")


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    if len(sys.argv) > 1:
        fit_lengthened(int(sys.argv[1]))
    else:
        main()
