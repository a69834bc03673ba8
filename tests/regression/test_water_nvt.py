"""Twenty picoseconds of water learned as pairs beside CP2K's: minutes, so not in the default run.

pytest -n 0 -s -m regression tests/regression/test_water_nvt.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from observables import measured

from mld_ff import MD, Basis, Device, fit, inspect, read_cp2k, run
from mld_ff.production.results import read_log
from mld_ff.trajectory import Trajectory

EXAMPLE = Path(__file__).parents[2] / "examples/water/cp2k"
pytestmark = pytest.mark.regression


@pytest.fixture(scope="module")
def water() -> Trajectory:
    return read_cp2k(EXAMPLE)


@pytest.mark.parametrize(
    "basis",
    [Basis(accuracy="pairs"), Basis("power", (1.0, 2.0, 3.0))],
    ids=["spline", "power 1 2 3"],
)
@pytest.mark.parametrize("engine", ["openmm", "lammps"])
def test_twenty_picoseconds_at_300_K(
    engine: str, basis: Basis, water: Trajectory, tmp_path: Path
) -> None:
    loss = fit(water, basis).loss
    trajectory = run(
        loss,
        water[-1],
        engine,
        tmp_path / "run",
        MD(300.0, 20.0, 0.5, damping_fs=50.0),
        Device("CPU"),
    )
    reference = inspect(water)
    settled = inspect(trajectory[trajectory.n_frames // 10 :])
    expected, learned = measured(reference), measured(settled, reference)
    learned["temperature_K"] = float(np.mean(read_log(tmp_path / "run")["temperature_K"]))
    print("\n" + f"{engine} {basis.kind}: " + ", ".join(f"{k} {v:.4g}" for k, v in learned.items()))
    assert settled.survey.changes == []
    assert abs(learned["temperature_K"] - 300) < 0.02 * 300
    assert abs(learned["bonded:O-H mean_A"] - expected["bonded:O-H mean_A"]) < 0.003
    assert abs(learned["bonded:O-H std_A"] / expected["bonded:O-H std_A"] - 1) < 0.05
    assert abs(learned["free:O-O peak_A"] - expected["free:O-O peak_A"]) < 0.1
