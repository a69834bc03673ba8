"""Channels: splines, densities and their embedding; the energy and forces that these give."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import (
    CUBE,
    TRICLINIC,
    channel,
    energy_and_forces,
    evaluate,
    invent,
    liquid,
    topology_of,
    with_channels,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from mld_ff.errors import InputError
from mld_ff.geometry.radial import tail_splines
from mld_ff.loss.model import AgentLoss
from mld_ff.trajectory import Trajectory

LIQUID = ["H2O"] * 3 + ["CH3OH"] * 2 + ["Na"]


# --- functions ------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=12)
@given(n=st.integers(1, 12), spacing=st.floats(0.2, 1.0), cutoff=st.floats(2.0, 6.0))
def test_splines_end_at_the_cutoff_and_go_on_inwards(n: int, spacing: float, cutoff: float) -> None:
    r = np.linspace(0.01, cutoff + 0.5, 97)
    h = 1e-5
    for derivative in (1, 2):
        lower = [tail_splines(r + x, cutoff, spacing, n, derivative - 1) for x in (h, -h)]
        values = tail_splines(r, cutoff, spacing, n, derivative)
        assert values == pytest.approx((lower[0] - lower[1]) / (2 * h), abs=2e-3 / spacing**3)
    value = tail_splines(r, cutoff, spacing, n)
    assert value.shape == (len(r), n)
    assert (value[r >= cutoff] == 0).all()
    inside = r < cutoff - (n + 2) * spacing
    assert value[inside] == pytest.approx(np.tile(np.eye(n)[0], (inside.sum(), 1)), abs=1e-12)
    assert value[r < cutoff - 4 * spacing].sum(axis=1) == pytest.approx(1.0)


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 10**6))
def test_embedding_is_a_parabola_and_ends_straight(seed: int) -> None:
    t = channel(("O", "H"), "O", 1, seed)
    low, high = t.range
    rho = np.linspace(low - 3 * t.fade, high + 3 * t.fade, 400)
    energy, slope = t.embedding(rho)
    inside = (rho >= low) & (rho <= high)
    assert energy[inside] == pytest.approx(t.strength_eV * (rho[inside] - t.rest) ** 2)
    h = 1e-5
    assert slope == pytest.approx(
        (t.embedding(rho + h)[0] - t.embedding(rho - h)[0]) / (2 * h), abs=1e-7
    )
    second = (t.embedding(rho + h)[1] - t.embedding(rho - h)[1]) / (2 * h)
    straight = (rho < low - t.fade - h) | (rho > high + t.fade + h)
    assert second[straight] == pytest.approx(0.0, abs=1e-7)
    assert np.abs(second).max() <= 2 * abs(t.strength_eV) * (1 + 1e-6)
    assert np.abs(np.diff(second)).max() < 0.2 * np.abs(second).max()  # no step


# --- energy and forces ----------------------------------------------------------------------------


@pytest.fixture(params=["cube", "triclinic"])
def frame(request: pytest.FixtureRequest) -> Trajectory:
    return liquid(
        LIQUID, {"cube": CUBE, "triclinic": TRICLINIC}[request.param] * 0.7, seed=5, jitter=0.05
    )


def collective(frame: Trajectory) -> AgentLoss:
    loss = with_channels(invent(frame, cutoff=3.9))
    return loss.only(*(t.name for t in loss.channels))


def test_energy_by_hand(frame: Trajectory) -> None:
    """Densities summed over all neighbours, one by one, in the same molecule or not."""
    loss = collective(frame)
    topology, x, cell = topology_of(frame), frame.positions[0], frame.cell[0]
    energies, _ = evaluate(loss, topology, x, cell)
    images = np.stack(np.meshgrid(*[[-1, 0, 1]] * 3), axis=-1).reshape(-1, 3) @ cell
    outside = 0
    for t in loss.channels:
        expected = 0.0
        for i in np.flatnonzero(np.array(frame.symbols) == t.species[0]):
            r = np.linalg.norm(x[None] + images[:, None] - x[i], axis=2)
            rho = 0.0
            for j, s in enumerate(frame.symbols):
                near = r[:, j][(r[:, j] > 1e-9) & (r[:, j] < t.cutoff_A)]
                rho += t.density(s, near).sum()
            outside += not t.range[0] <= rho <= t.range[1]
            expected += t.embedding(np.array([rho]))[0][0]
        assert energies[t.name] == pytest.approx(expected, rel=1e-10)
    assert outside > 5, "no density lies outside its range; this test would be too easy"


def test_forces_are_the_negative_gradient(frame: Trajectory) -> None:
    loss = collective(frame)
    topology, x, cell = topology_of(frame), frame.positions[0], frame.cell[0]
    _, forces = evaluate(loss, topology, x, cell)
    direction = np.random.default_rng(1).normal(size=x.shape)
    h = 1e-5
    for atom in range(0, frame.n_atoms, 2):
        moved = [
            x + sign * h * direction * (np.arange(len(x)) == atom)[:, None] for sign in (1, -1)
        ]
        up, down = (sum(evaluate(loss, topology, m, cell)[0].values()) for m in moved)
        assert forces[atom] @ direction[atom] == pytest.approx(-(up - down) / (2 * h), abs=2e-6)
    assert np.abs(forces).max() > 0.1


@settings(deadline=None, max_examples=6)
@given(seed=st.integers(0, 10**6))
def test_invariance(seed: int) -> None:
    """Translation, rotation of everything, wrapping, and another order of the atoms; and no net
    force.
    """
    rng = np.random.default_rng(seed)
    frame = liquid(LIQUID, TRICLINIC * 0.7, seed=seed, jitter=0.05)
    loss = collective(frame)
    energy, forces = energy_and_forces(loss, frame)
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    order = rng.permutation(frame.n_atoms)
    images = rng.integers(-2, 3, size=frame.positions.shape) @ frame.cell[0]
    x = (frame.positions + rng.normal(size=3) + images) @ turn
    moved = replace(frame, positions=x, cell=frame.cell @ turn).select_atoms(order)
    other_energy, other_forces = energy_and_forces(loss, moved)
    assert other_energy == pytest.approx(energy, rel=1e-10)
    assert other_forces == pytest.approx((forces @ turn)[order], abs=1e-9)
    assert np.abs(forces.sum(axis=0)).max() < 1e-10


def test_save_and_load(frame: Trajectory, tmp_path: Path) -> None:
    loss = collective(frame)
    loss.save(tmp_path / "a.json")
    loaded = AgentLoss.load(tmp_path / "a.json")
    assert loaded.channels == loss.channels
    loaded.save(tmp_path / "b.json")
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    data = json.loads((tmp_path / "a.json").read_text())
    data["terms"][-1]["functions"][0] += 1
    (tmp_path / "c.json").write_text(json.dumps(data))
    with pytest.raises(InputError, match=r"term 'collective:H:2' has \d+ coefficients for \[4, "):
        AgentLoss.load(tmp_path / "c.json")
