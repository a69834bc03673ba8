"""Pressure learned from the stress of every frame, nothing matched, and then run.

Half an hour beside other work:

pytest -n 0 -s -m regression tests/regression/test_pressure.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mld_ff import MD, AgentLoss, Basis, Device, fit, read_cp2k, run
from mld_ff.production.results import read_log
from mld_ff.trajectory import Trajectory
from mld_ff.units import EV_PER_A3_TO_BAR, KB_EV_PER_K

EXAMPLES = Path(__file__).parents[2] / "examples"
WATER, COPPER = EXAMPLES / "water", EXAMPLES / "copper/cp2k"
pytestmark = pytest.mark.regression


def mean_and_error(values: np.ndarray) -> tuple[float, float]:
    """By five contiguous blocks, after the first tenth."""
    blocks = np.array_split(values[len(values) // 10 :], 5)
    means = [block.mean() for block in blocks]
    return float(np.mean(means)), float(np.std(means, ddof=1) / np.sqrt(5))


def pressure_bar(frames: Trajectory) -> tuple[float, float]:
    """Of the data, with the motion of the atoms at their mean temperature."""
    assert frames.stress is not None
    motion = frames.n_atoms * KB_EV_PER_K * frames.temperature().mean()
    motion = motion / np.abs(np.linalg.det(frames.cell))
    each = motion - np.trace(frames.stress, axis1=1, axis2=2) / 3
    return mean_and_error(each * EV_PER_A3_TO_BAR)


def check(loss: AgentLoss, frames: Trajectory, settings: MD, directory: Path) -> None:
    """A run in LAMMPS has the pressure of the data."""
    told = {k: v for k, v in loss.provenance.items() if "bar" in k or "meV" in k}
    run(loss, frames[-1], "lammps", directory, settings, Device())
    learned, error = mean_and_error(np.array(read_log(directory)["pressure_bar"]))
    wanted, noise = pressure_bar(frames)
    print(f"\n{told}\nLAMMPS {learned:.0f} ± {error:.0f} bar, CP2K {wanted:.0f} ± {noise:.0f} bar")
    assert abs(loss.provenance["pressure_offset_bar"]) < 300
    assert abs(learned - wanted) < 300 + 2 * np.hypot(error, noise)


def test_pressure_of_water(tmp_path: Path) -> None:
    frames = read_cp2k(WATER / "cp2k", stress=WATER / "stress/w64-1.stress.xz")
    loss = fit(frames).loss
    assert loss.provenance["rmse_meV_per_A"] < 56
    check(loss, frames, MD(300.0, 30.0, 0.5, damping_fs=50.0), tmp_path / "run")


def test_pressure_of_a_metal(tmp_path: Path) -> None:
    frames = read_cp2k(COPPER)
    loss = fit(frames, Basis(accuracy="fast")).loss
    assert loss.provenance["rmse_meV_per_A"] < 8
    check(loss, frames, MD(1000.0, 20.0, 2.0, damping_fs=50.0, every_fs=40.0), tmp_path / "run")
