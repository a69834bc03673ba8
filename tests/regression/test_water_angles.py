"""Water learned with angles, nothing matched, beside what the network itself goes on to do.

An hour or more, most of it 1,728 molecules, so not in the default run:

pytest -n 0 -s -m regression tests/regression/test_water_angles.py
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from observables import measured

from mld_ff import MD, AgentLoss, Basis, Device, fit, inspect, read_cp2k, run, verify
from mld_ff.production.results import excursions, read_log
from mld_ff.sources.packing import replicate
from mld_ff.trajectory import Trajectory

EXAMPLE = Path(__file__).parents[2] / "examples/water/cp2k"
LONGER = EXAMPLE.parent / "longer"
CUTOFF_A = 6.2
ACCURACIES = {"fast": 70, "balanced": 55, "best": 47}
"""Errors on unseen frames [meV/Å] that they stay below."""
pytestmark = pytest.mark.regression


@pytest.fixture(scope="module")
def water() -> Trajectory:
    return read_cp2k(EXAMPLE)


@pytest.fixture(scope="module")
def balanced(water: Trajectory) -> AgentLoss:
    return fit(water, Basis(accuracy="balanced")).loss


@pytest.mark.parametrize("accuracy", ACCURACIES)
def test_errors_on_unseen_frames(accuracy: str, water: Trajectory) -> None:
    loss = fit(water, Basis(accuracy=accuracy)).loss  # type: ignore[arg-type]
    print(f"\n{accuracy}: {loss.provenance['rmse_meV_per_A']:.1f} meV/Å")
    assert loss.provenance["rmse_meV_per_A"] <= ACCURACIES[accuracy]
    assert verify(loss, water).passed


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("engine", ["openmm", "lammps"])
def test_structure_at_300_K(
    engine: str, seed: int, water: Trajectory, balanced: AgentLoss, tmp_path: Path
) -> None:
    """The second run starts from other velocities."""
    settings = MD(300.0, 50.0, 0.5, damping_fs=50.0, seed=seed)
    start = water[-1] if seed == 1 else replace(water[-1], velocities=None)
    trajectory = run(balanced, start, engine, tmp_path / "run", settings, Device("CPU"))
    settled = inspect(trajectory[trajectory.n_frames // 10 :], CUTOFF_A)
    expected = inspect(read_cp2k(LONGER, require_forces=False), CUTOFF_A)
    learned, wanted = measured(settled, expected), measured(expected)
    learned["temperature_K"] = float(np.mean(read_log(tmp_path / "run")["temperature_K"]))
    learned["outside"] = max(excursions(balanced, trajectory).values())
    for name, values in ((f"{engine}, seed {seed}", learned), ("the network", wanted)):
        print(f"\n{name}: " + ", ".join(f"{k} {v:.4g}" for k, v in values.items()))
    assert settled.survey.changes == []
    assert abs(learned["temperature_K"] - 300) < 6
    assert learned["free:O-O mean_abs_dg"] < 0.05
    assert abs(learned["free:O-O peak_height"] / wanted["free:O-O peak_height"] - 1) < 0.04
    assert abs(learned["free:O-O peak_A"] - wanted["free:O-O peak_A"]) < 0.03
    assert abs(learned["bonded:O-H mean_A"] - wanted["bonded:O-H mean_A"]) < 0.001
    assert abs(learned["bonded:O-H std_A"] / wanted["bonded:O-H std_A"] - 1) < 0.03


@pytest.mark.parametrize(
    ("temperature_K", "time_ps", "copies"), [(400.0, 100.0, 1), (300.0, 20.0, 3)]
)
def test_it_is_stable(
    temperature_K: float,
    time_ps: float,
    copies: int,
    water: Trajectory,
    balanced: AgentLoss,
    tmp_path: Path,
) -> None:
    """Hotter, and in 27 boxes: 1,728 molecules."""
    settings = MD(temperature_K, time_ps, 0.5, damping_fs=50.0, every_fs=100.0)
    start = replicate(water[-1], (copies,) * 3)
    run(balanced, start, "lammps", tmp_path / "run", settings, Device(processes=2))
    log = read_log(tmp_path / "run")
    assert abs(float(np.mean(log["temperature_K"])) / temperature_K - 1) < 0.02
    assert np.max(log["temperature_K"]) < 1.3 * temperature_K
