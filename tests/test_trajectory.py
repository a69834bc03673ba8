"""Stress travels with the frames of a Trajectory."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from mld_ff.trajectory import Floats, Trajectory, concatenate

CELL = np.array([[9.0, 0, 0], [1.0, 8.0, 0], [-2.0, 1.5, 10.0]])


def argon(cell: Floats, positions: Floats, stress: Floats) -> Trajectory:
    """As many frames as there are stresses."""
    n = len(stress)
    return Trajectory(
        symbols=("Ar",) * 4,
        masses=np.full(4, 40.0),
        positions=np.repeat(positions[None], n, axis=0),
        cell=np.repeat(cell[None], n, axis=0),
        time=np.arange(n, dtype=np.float64),
        step=np.arange(n),
        stress=stress,
    )


@given(st.integers(0, 1000))
def test_stress_turns_with_the_cell(seed: int) -> None:
    rng = np.random.default_rng(seed)
    stress = rng.normal(size=(3, 3))
    stress += stress.T
    turn = Rotation.random(rng=rng).as_matrix()
    positions = rng.uniform(0, 8, size=(4, 3))
    turned = argon(CELL @ turn, positions @ turn, (turn.T @ stress @ turn)[None]).standard_cell()
    assert turned.cell[0] == pytest.approx(CELL)
    assert turned.positions[0] == pytest.approx(positions)
    assert turned.stress is not None and turned.stress[0] == pytest.approx(stress)


def test_stress_is_sliced_and_joined() -> None:
    stress = np.random.default_rng(0).normal(size=(7, 3, 3))
    whole = argon(CELL, np.eye(4, 3), stress)
    again = concatenate([whole[:3], whole[3:]])
    assert again.stress is not None and (again.stress == stress).all()
    last = whole[6].stress
    assert last is not None and (last == stress[6:]).all()
    assert concatenate([whole, replace(whole, stress=None)]).stress is None
