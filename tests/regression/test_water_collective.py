"""Fifty picoseconds of water learned with a collective loss, beside CP2K's: an hour, so not in the default run.

pytest -m regression tests/regression/test_water_collective.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mld_ff import MD, Basis, fit, inspect, read_cp2k, run, verify
from mld_ff.inference.basis import AUTO
from mld_ff.production import excursions, read_log
from mld_ff.report import observables

EXAMPLE = Path(__file__).parents[2] / "examples/water/cp2k"
pytestmark = pytest.mark.regression


@pytest.fixture(scope="module")
def water():
    return read_cp2k(EXAMPLE)


@pytest.fixture(scope="module")
def loss(water):
    return fit(water, Basis(collective=6))


def test_errors_on_unseen_frames(water, loss):
    assert loss.provenance["rmse_meV_per_A"] <= 115
    assert loss.provenance["collective"]["curve"][-1]["unseen_meV_per_A"] <= 112
    assert fit(water, Basis(collective=AUTO)).channels == loss.channels
    assert verify(loss, water).passed


@pytest.mark.parametrize(("temperature_K", "time_ps"), [(300.0, 50.0), (350.0, 20.0)])
@pytest.mark.parametrize("engine", ["openmm", "lammps"])
def test_dynamics(engine, temperature_K, time_ps, water, loss, tmp_path):
    settings = MD(temperature_K, time_ps, 0.5, damping_fs=50.0)
    trajectory = run(loss, water[-1], engine, tmp_path / "run", settings, "CPU")
    reference = inspect(water)
    found = inspect(trajectory[trajectory.n_frames // 10 :])
    expected, learned = observables(reference), observables(found, reference)
    learned["temperature_K"] = float(np.mean(read_log(tmp_path / "run")["temperature_K"]))
    learned["outside"] = max(excursions(loss, trajectory).values())
    print("\n" + f"{engine} {temperature_K:g} K: " + ", ".join(f"{k} {v:.4g}" for k, v in learned.items()))
    assert found.survey.changes == []
    assert abs(learned["temperature_K"] / temperature_K - 1) < 0.02
    assert learned["outside"] < 0.01
    if temperature_K == 300:
        assert abs(learned["bonded:O-H mean_A"] - expected["bonded:O-H mean_A"]) < 0.001
        assert abs(learned["free:O-O peak_A"] - expected["free:O-O peak_A"]) < 0.06
