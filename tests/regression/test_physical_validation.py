"""Whether runs sample the ensemble that they say: tests of the package physical_validation (Merz
and Shirts, PLoS ONE 13, e0202764 (2018)), for both engines.

pytest -n 0 -s -m regression tests/regression/test_physical_validation.py
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mld_ff import MD, AgentLoss, Basis, Device, Trajectory, fit, read_cp2k, run
from mld_ff.production.results import read_log
from mld_ff.units import KB_EV_PER_K

pv = pytest.importorskip("physical_validation", reason="pip install physical_validation")
pytestmark = pytest.mark.regression
EXAMPLE = Path(__file__).parents[2] / "examples/water/cp2k"
TEMPERATURES_K = (300.0, 325.0)
"""Energies of 64 waters are two standard deviations apart for 26.8 K, by `estimate_interval`."""
TIMESTEPS_FS = (0.5, 0.25, 0.125)
NVT = MD(time_ps=60.0, every_fs=20.0)
SETTLED_PS = 10.0
MOST_SIGMA = 3.0
"""That a temperature or a ratio of energies may differ from what was asked for by."""


@pytest.fixture(scope="module")
def water() -> Trajectory:
    return read_cp2k(EXAMPLE)


@pytest.fixture(scope="module")
def loss(water: Trajectory) -> AgentLoss:
    return fit(water, Basis(accuracy="pairs")).loss


def system(frame: Trajectory) -> Any:
    """Velocities add up to zero, so three degrees of freedom are not there."""
    return pv.data.SystemData(
        natoms=frame.n_atoms, nconstraints=0, ndof_reduction_tra=3, ndof_reduction_rot=0
    )


def units() -> Any:
    """Energies in eV; the factors lead to kJ/mol, nm, K, bar and ps."""
    return pv.data.UnitData(
        kb=KB_EV_PER_K,
        energy_str="eV",
        energy_conversion=96.48533,
        length_str="Å",
        length_conversion=0.1,
        volume_str="Å^3",
        volume_conversion=1e-3,
        temperature_str="K",
        temperature_conversion=1,
        pressure_str="bar",
        pressure_conversion=1,
        time_str="ps",
        time_conversion=1,
    )


def simulated(
    loss: AgentLoss, frame: Trajectory, engine: str, settings: MD, where: Path
) -> dict[str, np.ndarray]:
    """Log of a run, without its first stretch."""
    run(loss, frame, engine, where, settings, Device("CPU"))
    log = read_log(where)
    settled = log["time_ps"] > min(SETTLED_PS, settings.time_ps / 5)
    return {name: values[settled] for name, values in log.items()}


def validated(frame: Trajectory, settings: MD, log: dict[str, np.ndarray]) -> Any:
    nve = settings.ensemble == "nve"
    volume = float(abs(np.linalg.det(frame.cell[0])))
    return pv.data.SimulationData(
        units=units(),
        dt=settings.timestep_fs * 1e-3,
        system=system(frame),
        ensemble=pv.data.EnsembleData(
            "NVE" if nve else "NVT",
            natoms=frame.n_atoms,
            volume=volume,
            energy=float(log["total_eV"].mean()) if nve else None,
            temperature=None if nve else settings.temperature_K,
        ),
        observables=pv.data.ObservableData(
            kinetic_energy=log["total_eV"] - log["potential_eV"],
            potential_energy=log["potential_eV"],
            total_energy=log["total_eV"],
            constant_of_motion=log["total_eV"] if nve else None,
        ),
    )


@pytest.mark.parametrize("engine", ["openmm", "lammps"])
def test_temperatures_are_distributed_as_they_should(
    engine: str, loss: AgentLoss, water: Trajectory, tmp_path: Path
) -> None:
    """Mean and width of the kinetic energy, and the ratio of the potential energies at two
    temperatures, which is exp(-ΔβU).
    """
    runs = []
    for temperature_K in TEMPERATURES_K:
        settings = replace(NVT, temperature_K=temperature_K)
        where = tmp_path / f"{temperature_K:.0f}"
        runs.append(validated(water, settings, simulated(loss, water[-1], engine, settings, where)))
    for settings_K, one in zip(TEMPERATURES_K, runs, strict=True):
        of_mean, of_width = pv.kinetic_energy.distribution(one, verbosity=0, bootstrap_seed=1)
        print(f"\n{engine}, {settings_K:.0f} K: kinetic energy, mean {of_mean:.2f} σ off,", end="")
        print(f" width {of_width:.2f} σ")
        assert abs(of_mean) < MOST_SIGMA and abs(of_width) < MOST_SIGMA
    (off,) = pv.ensemble.check(*runs, verbosity=0, bootstrap_seed=1)
    print(f"{engine}: ratio of energies at {TEMPERATURES_K} K {off:.2f} σ off")
    assert abs(off) < MOST_SIGMA


@pytest.mark.parametrize("engine", ["openmm", "lammps"])
def test_energy_fluctuates_with_the_square_of_the_timestep(
    engine: str, loss: AgentLoss, water: Trajectory, tmp_path: Path
) -> None:
    runs = []
    for timestep_fs in TIMESTEPS_FS:
        settings = MD(time_ps=2.0, timestep_fs=timestep_fs, every_fs=timestep_fs, ensemble="nve")
        log = simulated(loss, water[-1], engine, settings, tmp_path / f"{timestep_fs}")
        runs.append(validated(water, settings, log))
    deviation = [float(np.std(one.observables.constant_of_motion)) for one in runs]
    ratios = [a / b for a, b in pairwise(deviation)]
    off = pv.integrator.convergence(runs, verbose=False)
    print(f"\n{engine}: deviations {np.array(deviation) * 1e3} meV at {TIMESTEPS_FS} fs,", end="")
    print(f" ratios {np.round(ratios, 2)} (4), largest deviation from dt² {off:.3f}")
    assert off < 0.5
