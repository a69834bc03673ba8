"""Diatomics, locality and extensivity of invented losses; those of learned water are recorded on
docs/credibility.md.
"""

from __future__ import annotations

import numpy as np
import pytest
from conftest import TRICLINIC, invent, liquid, with_angles, with_channels
from physicality import GRID_A, Diatomic, diatomic, evaluated, largest_influence, not_extensive

from mld_ff.loss.model import AgentLoss
from mld_ff.trajectory import Trajectory


@pytest.fixture(scope="module")
def frame() -> Trajectory:
    return liquid(["H2O"] * 8, TRICLINIC, seed=3, wrap=False)


@pytest.fixture(scope="module")
def loss(frame: Trajectory) -> AgentLoss:
    """Pairs, and densities of all orders."""
    return with_angles(with_channels(invent(frame, cutoff=4.8, edge=1.0), rank=1), rank=1)


@pytest.mark.parametrize("pair", [("O", "O"), ("O", "H"), ("H", "H")])
def test_forces_are_slopes(pair: tuple[str, str], loss: AgentLoss) -> None:
    """And nothing jumps, in walls and at cutoffs either."""
    r, h = np.linspace(0.4, 5.2, 7), 1e-5
    for bonded in {False, pair == ("O", "H")}:
        below, at, above = (diatomic(loss, pair, bonded, r + shift) for shift in (-h, 0, h))
        slope = (above.energy_eV - below.energy_eV) / (2 * h)
        assert at.force_eV_per_A == pytest.approx(-slope, rel=1e-6, abs=1e-6)
        assert np.abs(above.energy_eV - below.energy_eV).max() < 1


def test_figures_of_known_curves() -> None:
    """One well; two of them, and no minimum at all."""
    x = np.exp(-1.5 * (GRID_A - 1.5))
    morse = Diatomic(GRID_A, x**2 - 2 * x, 3 * (x**2 - x))
    assert (morse.force_flips, morse.energy_minima, morse.inflections) == (1, 1, 1)
    assert morse.falls_and_rises == (-1, 1)
    waves = Diatomic(GRID_A, np.cos(4 * GRID_A), 4 * np.sin(4 * GRID_A))
    assert waves.force_flips == 7 and waves.energy_minima == 4
    assert waves.falls_and_rises[0] > -0.5
    repulsion = Diatomic(GRID_A, 1 / GRID_A, GRID_A**-2)
    assert (repulsion.force_flips, repulsion.energy_minima) == (0, 0)


def test_nothing_acts_from_afar(loss: AgentLoss) -> None:
    assert largest_influence(loss, "H2O", "H", trials=1) == 0
    assert largest_influence(loss, "H2O", "O", trials=1) == 0


def test_energy_is_extensive(loss: AgentLoss, frame: Trajectory) -> None:
    x, cell = frame.positions[0], frame.cell[0]
    assert not_extensive(loss, frame.symbols, x, cell) == pytest.approx(0, abs=1e-12)
    shifts = [i * cell[0] + j * cell[1] for i in (0, 1) for j in (0, 1)]
    four = evaluated(
        loss,
        frame.symbols * 4,
        np.vstack([x + s for s in shifts]),
        cell * np.array([[2], [2], [1]]),
    )
    one = evaluated(loss, frame.symbols, x, cell)
    assert four.energy == pytest.approx(4 * one.energy, rel=1e-12)
    assert four.virial == pytest.approx(4 * one.virial, rel=1e-10, abs=1e-10)
    assert four.forces == pytest.approx(np.vstack([one.forces] * 4), rel=1e-10, abs=1e-10)
