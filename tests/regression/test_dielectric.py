"""The dielectric constant of SPC/E water, charges and forces of OpenMM, against published ones.

Half an hour of one core for 1.5 ns, so not in the default run:

pytest -n 0 -s -m regression tests/regression/test_dielectric.py
"""

from __future__ import annotations

import math

import numpy as np
import openmm
import pytest
from openmm import app, unit

from mld_ff.geometry.topology import find_topology
from mld_ff.report.dipoles import box_dipole, charges_of_atoms, dielectric
from mld_ff.trajectory import Trajectory

pytestmark = pytest.mark.regression
SIDE = 5
"""Molecules along an edge of the box."""
DENSITY_G_PER_CM3 = 0.998
TEMPERATURE_K, TIMESTEP_PS, EVERY = 300.0, 0.002, 50
FRAMES = 15_000
PUBLISHED = (62.3, 70.7)
"""At 300 K: P. E. Smith, W. F. van Gunsteren, J. Chem. Phys. 100, 3169 (1994); M. R. Reddy,
M. Berkowitz, Chem. Phys. Lett. 155, 173 (1989)."""


def spce_water() -> Trajectory:
    """Frames of rigid molecules every 0.1 ps, from a lattice, after 20 ps."""
    length_nm = (SIDE**3 * 18.01528 / 602.214076 / DENSITY_G_PER_CM3) ** (1 / 3)
    topology, places, rng = app.Topology(), [], np.random.default_rng(1)
    chain = topology.addChain()
    molecule = np.array([[0, 0, 0], [0.1, 0, 0], [-0.03333, 0.09428, 0]])
    for k in range(SIDE**3):
        residue = topology.addResidue("HOH", chain)
        elements = (app.element.oxygen, app.element.hydrogen, app.element.hydrogen)
        atoms = [
            topology.addAtom(name, element, residue)
            for name, element in zip(("O", "H1", "H2"), elements, strict=True)
        ]
        topology.addBond(atoms[0], atoms[1])
        topology.addBond(atoms[0], atoms[2])
        turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
        site = np.array([k // SIDE**2, k // SIDE % SIDE, k % SIDE])
        places.append(molecule @ turn + length_nm / SIDE * site)
    topology.setPeriodicBoxVectors(np.eye(3) * length_nm * unit.nanometer)
    system = app.ForceField("spce.xml").createSystem(
        topology, nonbondedMethod=app.PME, nonbondedCutoff=0.75 * unit.nanometer
    )
    integrator = openmm.LangevinMiddleIntegrator(TEMPERATURE_K, 1.0, TIMESTEP_PS)
    integrator.setRandomNumberSeed(1)
    platform = openmm.Platform.getPlatform("CPU")
    simulation = app.Simulation(topology, system, integrator, platform, {"Threads": "1"})
    simulation.context.setPositions(np.concatenate(places))
    simulation.minimizeEnergy()
    simulation.context.setVelocitiesToTemperature(TEMPERATURE_K, 1)
    simulation.step(10_000)
    frames = np.empty((FRAMES, 3 * SIDE**3, 3))
    for frame in frames:
        simulation.step(EVERY)
        state = simulation.context.getState(positions=True)
        frame[:] = 10 * state.getPositions(asNumpy=True)._value
    symbols = ("O", "H", "H") * SIDE**3
    return Trajectory(
        symbols=symbols,
        masses=np.array([15.999, 1.008, 1.008] * SIDE**3),
        positions=frames,
        cell=np.repeat(10 * length_nm * np.eye(3)[None], FRAMES, axis=0),
        time=1000 * TIMESTEP_PS * EVERY * np.arange(FRAMES, dtype=np.float64),
        step=EVERY * np.arange(FRAMES),
    )


def test_spce_water() -> None:
    frames = spce_water()
    topology = find_topology(frames.symbols, frames.positions[0], frames.cell[0])
    charges = charges_of_atoms({"O": -0.8476, "H": 0.4238}, topology)
    dipole = box_dipole(frames, topology, charges)
    volume = float(np.linalg.det(frames.cell[0]))
    found = dielectric(dipole, float(frames.time[1]), volume, TEMPERATURE_K)
    print(f"\n{found}")
    assert found.is_told
    low, high = PUBLISHED
    error = found.constant.error
    assert low - 2 * error < found.constant.value < high + 2 * error
    assert error < 0.15 * found.constant.value
    short = dielectric(dipole[:1000], float(frames.time[1]), volume, TEMPERATURE_K)
    print(f"of its first 100 ps: {short}")
    assert math.isnan(short.constant.error)
