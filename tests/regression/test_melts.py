"""Charges of dense melts in OpenMM, whose waves are as coarse as `verify` allows; the constants of
`engines.openmm.charges` are from such.

pytest -n 0 -s -m regression tests/regression/test_melts.py
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import openmm
import pytest
from conftest import frame_of, invent

from mld_ff.engines.openmm.engine import OPENMM
from mld_ff.engines.openmm.evaluation import forces_in, set_frame
from mld_ff.engines.openmm.neighbours import system_on
from mld_ff.engines.openmm.platforms import context_of
from mld_ff.engines.settings import Device, ManyBody
from mld_ff.engines.start import start_from
from mld_ff.geometry.system import System
from mld_ff.loss.charges import ChargeTerm
from mld_ff.trajectory import Trajectory
from mld_ff.units import A_TO_NM, E2_PER_A_TO_EV, EV_TO_KJ_PER_MOL

EDGE_A, CUTOFF_A = 12.5, 6.2
SITES = 6
"""Along the edge."""


@dataclass(frozen=True)
class Melt:
    """Ions, and a repulsion r^-9 of any two of them that leaves a pair of opposite ones at rest."""

    charges_e: dict[str, float]
    counts: tuple[int, int]
    distance_A: float
    temperature_K: float

    def frames(self, count: int = 4, steps: int = 1500) -> list[Trajectory]:
        rng, coulomb = np.random.default_rng(1), E2_PER_A_TO_EV * EV_TO_KJ_PER_MOL * A_TO_NM
        sites = np.stack(np.meshgrid(*[np.arange(SITES)] * 3, indexing="ij"), axis=-1)
        sites = rng.permutation(sites.reshape(-1, 3))[: sum(self.counts)]
        sites = sites[np.argsort(sites.sum(axis=1) % 2, kind="stable")]
        symbols = [s for s, n in zip(self.charges_e, self.counts, strict=True) for _ in range(n)]
        system, charged = openmm.System(), openmm.NonbondedForce()
        system.setDefaultPeriodicBoxVectors(*(EDGE_A * A_TO_NM * np.eye(3)))
        one, other = self.charges_e.values()
        repulsion = abs(one * other) * coulomb * (self.distance_A * A_TO_NM) ** 8 / 9
        repelling = openmm.CustomNonbondedForce(f"{repulsion}/r^9")
        charged.setNonbondedMethod(charged.PME)
        repelling.setNonbondedMethod(repelling.CutoffPeriodic)
        for symbol in symbols:
            system.addParticle(20.0)
            charged.addParticle(self.charges_e[symbol], 1.0, 0.0)
            repelling.addParticle([])
        for force in (charged, repelling):
            force.setCutoffDistance(0.6)
            system.addForce(force)
        integrator = openmm.LangevinMiddleIntegrator(self.temperature_K, 10.0, 0.001)
        integrator.setRandomNumberSeed(1)
        platform = openmm.Platform.getPlatform("CPU")
        context = openmm.Context(system, integrator, platform)
        shifts = 0.1 * rng.normal(size=sites.shape)
        context.setPositions((sites * EDGE_A / SITES + shifts) * A_TO_NM)
        openmm.LocalEnergyMinimizer.minimize(context, 100, 200)
        context.setVelocitiesToTemperature(self.temperature_K, 1)
        frames = []
        for _ in range(count):
            integrator.step(steps)
            x = context.getState(positions=True).getPositions(asNumpy=True)._value
            frames.append(frame_of(symbols, x / A_TO_NM, EDGE_A * np.eye(3)))
        return frames


MELTS = {
    "MgO": Melt({"Mg": 2.0, "O": -2.0}, (88, 88), 1.75, 3500.0),
    "LiF": Melt({"Li": 1.0, "F": -1.0}, (78, 78), 1.65, 1200.0),
    "CaF2": Melt({"Ca": 2.0, "F": -1.0}, (42, 84), 2.0, 1800.0),
    "SiO2": Melt({"Si": 2.4, "O": -1.2}, (43, 86), 1.5, 4000.0),
}


@pytest.mark.regression
@pytest.mark.parametrize("way", ["native", "python"])
@pytest.mark.parametrize("name", MELTS)
def test_charges_of_melts(name: str, way: ManyBody) -> None:
    """By OpenMM's own force, and by Python, which computes charges only beside pairs."""
    errors, device = [], Device("CPU", many_body=way)
    for frame in MELTS[name].frames():
        loss = invent(frame, "power", (1.0,), cutoff=CUTOFF_A)
        charges = tuple(MELTS[name].charges_e[s] for s in loss.species)
        term = ChargeTerm(
            name="charge", species=loss.species, coefficients=charges, cutoff_A=CUTOFF_A
        )
        loss = replace(loss, terms=(*loss.terms, term))
        loss = loss.only("charge") if way == "native" else loss
        start = start_from(frame, force=True)
        there = start.engine_frames(frame)
        context = context_of(system_on(device, loss, start), device)
        set_frame(context, there, 0)
        agents = System(start.topology, there.positions[0], there.cell[0], CUTOFF_A)
        off = forces_in(context.getState(forces=True)) - loss.evaluate(agents).forces
        errors.append(float(np.linalg.norm(off, axis=1).max()))
    print(f"{name}, {way}: {', '.join(f'{e:.1e}' for e in errors)} eV/Å")
    assert max(errors) <= OPENMM.force_tolerance(EDGE_A * np.eye(3))
