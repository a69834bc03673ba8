"""Waves of charges in Python (`templates/mld_ff_waves.py`), against Ewald's sum."""

from __future__ import annotations

import sys
from io import BytesIO
from types import ModuleType

import numpy as np
import openmm
import pytest
from conftest import CUBE, TRICLINIC, invent, liquid
from engine_cases import SOLUTION, charged

from mld_ff.engines.openmm.charges import ORDER_IN_PYTHON, WAVES_ERROR_EV_PER_A, grid, waves
from mld_ff.engines.openmm.evaluation import forces_in, set_frame
from mld_ff.engines.openmm.neighbours import neighbours_file, neighbours_module
from mld_ff.engines.openmm.platforms import context_of
from mld_ff.engines.openmm.system import openmm_system
from mld_ff.engines.settings import Device
from mld_ff.engines.start import start_from
from mld_ff.loss.charges import ChargeTerm
from mld_ff.loss.ewald import far, own
from mld_ff.trajectory import Floats
from mld_ff.units import A_TO_NM, E2_PER_A_TO_EV

FLAT = np.array([[9.0, 0.0, 0.0], [-4.5, 7.0, 0.0], [0.0, 0.0, 31.0]])


@pytest.fixture(scope="module")
def module() -> ModuleType:
    neighbours_module()
    return sys.modules["mld_ff_waves"]


@pytest.mark.parametrize("charge_e", [0.2, 1.0, 2.4])
@pytest.mark.parametrize("cell", [CUBE, TRICLINIC, FLAT])
def test_waves_are_as_exact_as_their_grid_promises(
    module: ModuleType, cell: Floats, charge_e: float
) -> None:
    """Of energies `verify` allows 1e-5 of what charges have with their own waves."""
    rng = np.random.default_rng(1)
    positions, charges = (2 * rng.random((40, 3)) - 1) @ cell, np.repeat([1, -1], 20) * charge_e
    positions[0] = 0.0, 0.0, -1e-17  # which is at the very end of the cell, rounded
    term = ChargeTerm(
        name="charge", species=("Na", "Cl"), coefficients=(charge_e, -charge_e), cutoff_A=4.8
    )
    alpha = waves(term)[0] * A_TO_NM
    points = np.array(grid(term, cell * A_TO_NM, ORDER_IN_PYTHON))
    energy, forces = module.Waves(charges, np.array(alpha), points).evaluate(positions, cell)
    exact = far(positions, cell, charges[:, None], alpha, widths=5.0)
    expected = -E2_PER_A_TO_EV * charges[:, None] * exact.gradient[:, 0]
    assert np.linalg.norm(forces - expected, axis=1).max() < WAVES_ERROR_EV_PER_A
    of_own = E2_PER_A_TO_EV * own(alpha) / 2 * (charges**2).sum()
    of_all = E2_PER_A_TO_EV / 2 * exact.potential[:, 0] @ charges
    assert energy == pytest.approx(of_all - of_own, abs=1e-5 * of_own)


def test_waves_follow_the_cell(module: ModuleType) -> None:
    """A barostat's changes of it, and back."""
    rng = np.random.default_rng(1)
    places, charges = rng.random((20, 3)), np.repeat([1.0, -1.0], 10)
    sums = module.Waves(charges, np.array(0.6), np.array([20, 20, 20]))
    cells = [CUBE, 1.02 * CUBE, CUBE]
    first, larger, again = (sums.evaluate(places @ cell, cell)[0] for cell in cells)
    assert first == again
    anew = module.Waves(charges, np.array(0.6), np.array([20, 20, 20]))
    assert larger == anew.evaluate(places @ cells[1], cells[1])[0] != first


@pytest.mark.parametrize("far_A", [1e17, 1e18, 1e300, np.nan])
def test_places_beyond_all_digits_stay_in_the_arrays(module: ModuleType, far_A: float) -> None:
    """Where a run flies apart; the compiled loops do not look whether an index is inside."""
    places = np.array([[far_A, -far_A, 1.0]])
    first, weights, _ = module._weights(places, (20, 20, 20), module.PIECES)
    assert ((first >= 0) & (first < 20)).all() and np.isfinite(weights).all()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("charges", np.ones((2, 2))),
        ("charges", np.array([1.0, np.nan])),
        ("charges", np.array([1.0, 1j])),
        ("alpha", np.array(0.0)),
        ("grid", np.array([32, 32])),
        ("grid", np.array([32, 32, 7])),
        ("grid", np.array([32, 32, 32.0])),
        ("grid", np.array([1 << 20] * 3)),
    ],
)
def test_arrays_that_do_not_belong_together(
    module: ModuleType, name: str, value: np.ndarray
) -> None:
    arrays = {"charges": np.array([1.0, -1.0]), "alpha": np.array(0.5), "grid": np.array([9] * 3)}
    module.Waves(**arrays)
    with pytest.raises(ValueError, match="do not belong together; export it again"):
        module.Waves(**{**arrays, name: value})


def test_threads_share_the_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """... and give what one thread gives; with more, OpenMM's own forces stay unless asked."""
    shared = neighbours_module()
    frame = liquid(SOLUTION, TRICLINIC, seed=4)
    loss, start = charged(invent(frame, cutoff=4.8), frame), start_from(frame)
    numbers = neighbours_file(loss, start)
    assert numbers is not None
    twice = openmm_system(loss, start)
    twice.addForce(openmm.CustomBondForce("0"))
    twice.getForces()[-1].setName("charge")
    with pytest.raises(ValueError, match="two forces of the system have the name"):
        shared.replace_forces(twice, BytesIO(numbers))
    found = []
    for least in (1, 1000):
        monkeypatch.setattr(shared, "LEAST_SHARED", least)
        system = openmm_system(loss, start)
        assert shared.replace_forces(system, BytesIO(numbers), threads=2, asked=False)
        context = context_of(system, Device("CPU"))
        set_frame(context, start.frame, 0)
        found.append(forces_in(context.getState(forces=True)))
    shared_by_two, by_one = found
    assert np.array_equal(shared_by_two, by_one)
    assert not shared.replace_forces(openmm_system(loss, start), BytesIO(numbers), 3, asked=False)
    assert shared.replace_forces(openmm_system(loss, start), BytesIO(numbers), 3)
