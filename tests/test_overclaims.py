"""What a report must not claim: numbers that compare other things than the model."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from conftest import CUBE, liquid

from mld_ff.engines.settings import MD
from mld_ff.inference.fitting import _costly_reciprocity
from mld_ff.report.diffusion import compare_diffusion
from mld_ff.report.heat import other_temperatures
from mld_ff.report.speed import compare_speeds
from mld_ff.trajectory import Trajectory


def test_no_speed_up_between_systems_of_different_size() -> None:
    def ratio(n_atoms: int) -> float | None:
        run: Any = SimpleNamespace(
            name="lammps", wall_s=10.0, settings=MD(time_ps=20.0), atom_in_source=range(n_atoms)
        )
        return compare_speeds(27.0, 0.5, 192, [run])["lammps"].ratio

    assert ratio(192) == pytest.approx(27.0 * 40_000 / 10.0)
    assert ratio(1536) is None and ratio(24) is None


def swinging(period_ps: float, drift_A_per_ps: float = 0.0) -> Trajectory:
    """Molecules that swing about their places, or drift apart, for 10 ps."""
    frame = liquid(["H2O"] * 8, CUBE, seed=3, wrap=False)
    time = np.arange(0.0, 10_000.0, 50.0)
    way = np.random.default_rng(0).normal(size=(8, 3)).repeat(3, axis=0)
    far = np.cos(2e-3 * np.pi * time / period_ps) + drift_A_per_ps * 1e-3 * time
    return Trajectory(
        symbols=frame.symbols,
        masses=frame.masses,
        positions=frame.positions + far[:, None, None] * way,
        cell=np.repeat(frame.cell, len(time), axis=0),
        time=time,
        step=np.arange(len(time)),
    )


def test_no_negative_diffusion_constant() -> None:
    solid = compare_diffusion({"reference": swinging(3.0)}, "molecules")
    assert np.isnan(solid.statistics["reference"]["diffusion_A2_per_ps"].value)
    assert solid.notes == [
        "No diffusion constant is told of H2O in the reference: displacements do not grow, as in a"
        " solid, or in too short a run."
    ]
    liquid_ = compare_diffusion({"reference": swinging(3.0, 2.0)}, "molecules")
    assert liquid_.statistics["reference"]["diffusion_A2_per_ps"].value > 0
    assert liquid_.notes == []


def test_runs_at_another_temperature_are_named() -> None:
    assert other_temperatures({"reference": 303.0, "lammps": 298.0, "lammps 2": 452.0}) == [
        "LAMMPS 2 ran at 452 K, the reference at 303 K: what they differ by is the temperature as"
        " well as the model."
    ]
    assert other_temperatures({"lammps": 298.0}) == [], "who knows"


def test_dear_reciprocity_is_named() -> None:
    errors: Any = SimpleNamespace(relative_rmse={"O": 0.5, "H": 0.2})
    assert _costly_reciprocity(errors, {"O": 0.4, "H": 0.19}) is None
    said = _costly_reciprocity(errors, {"O": 0.1, "H": 0.19})
    assert said is not None and "with losses of their own: O 5.0." in said
