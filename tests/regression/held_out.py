"""How often honest data are called lies, and how often lies are found, in matter unknown to tests.

    python tests/regression/held_out.py --seed 1

makes gases, liquids, mixtures, salts, metals, a slab, clusters and single molecules by simple force
fields (harmonic bonds and angles, Lennard-Jones and a reaction field in OpenMM; ASE's EMT), takes
stretches of them at strides of 0.5 to 100 fs, plants lies, and prints what was said.
"""

from __future__ import annotations

import argparse
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import openmm
from ase import Atoms, units
from ase.build import bulk, fcc111, molecule
from ase.calculators.emt import EMT
from ase.data import atomic_masses, atomic_numbers, covalent_radii
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
from ase.md.verlet import VelocityVerlet
from scipy.spatial.transform import Rotation

from mld_ff.consistency.boundary import look_at
from mld_ff.consistency.mechanics import Mechanics
from mld_ff.consistency.words import lies
from mld_ff.trajectory import Trajectory
from mld_ff.units import EV_TO_KJ_PER_MOL as KJ

LENNARD_JONES = {
    "H": (2.4, 0.0019),
    "C": (3.4, 0.0047),
    "N": (3.25, 0.0074),
    "O": (3.12, 0.0067),
    "Na": (2.4, 0.0038),
    "Cl": (4.4, 0.0043),
    "Ar": (3.4, 0.0103),
}
"""σ [Å] and ε [eV]."""
STIFF = {"NN": 143.0, "CO": 119.0, "HH": 36.0}
"""Of bonds [eV/Å²]; others have 45 with a hydrogen, else 30."""
WATER, CARBON_DIOXIDE = [-0.82, 0.41, 0.41], [0.7, -0.35, -0.35]
NEUTRAL = [0.0]
MIXTURES: dict[str, tuple[list[tuple[str, int, list[float]]], float, float]] = {
    "N2 gas": ([("N2", 16, NEUTRAL)], 14.0, 300),
    "hot N2 gas": ([("N2", 16, NEUTRAL)], 14.0, 1000),
    "H2 gas": ([("H2", 32, NEUTRAL)], 14.0, 300),
    "CH4 gas": ([("CH4", 16, NEUTRAL)], 16.0, 300),
    "CO2 liquid": ([("CO2", 32, CARBON_DIOXIDE)], 13.5, 250),
    "argon gas": ([("Ar", 32, NEUTRAL)], 20.0, 300),
    "argon liquid": ([("Ar", 108, NEUTRAL)], 17.2, 90),
    "water 250 K": ([("H2O", 48, WATER)], 11.3, 250),
    "water 600 K": ([("H2O", 48, WATER)], 11.3, 600),
    "steam": ([("H2O", 16, WATER)], 18.0, 600),
    "methanol": ([("CH3OH", 24, NEUTRAL)], 11.8, 300),
    "benzene": ([("C6H6", 12, NEUTRAL)], 12.2, 300),
    "water and methanol": ([("H2O", 24, WATER), ("CH3OH", 12, NEUTRAL)], 12.0, 320),
    "brine": ([("H2O", 40, WATER), ("Na", 4, [1.0]), ("Cl", 4, [-1.0])], 11.5, 320),
    "one water": ([("H2O", 1, WATER)], 15.0, 300),
    "one methanol": ([("CH3OH", 1, NEUTRAL)], 15.0, 300),
    "salt melt": ([("Na", 32, [1.0]), ("Cl", 32, [-1.0])], 12.4, 1500),
}
"""Molecules by name, number and charges [e]; edge [Å]; temperature [K]."""
LIES: dict[str, Callable[[Trajectory], Trajectory]] = {
    "wrong sign": lambda t: replace(t, forces=-_forces(t)),
    "51 times": lambda t: replace(t, forces=51.422 * _forces(t)),
    "1/51": lambda t: replace(t, forces=_forces(t) / 51.422),
    "23 times": lambda t: replace(t, forces=23.06 * _forces(t)),
    "twice": lambda t: replace(t, forces=2 * _forces(t)),
    "next frame": lambda t: replace(t[:-1], forces=_forces(t)[1:]),
    "x for y": lambda t: replace(t, forces=_forces(t)[..., [1, 0, 2]]),
    "x negative": lambda t: replace(t, forces=_forces(t) * [-1, 1, 1]),
    "backwards": lambda t: replace(t, forces=_forces(t)[::-1]),
    "velocities": lambda t: replace(t, velocities=_of(t.velocities) / 21.88),
    "energies": lambda t: replace(t, energy=_of(t.energy) / 27.2114),
}


def _of(numbers: np.ndarray | None) -> np.ndarray:
    assert numbers is not None
    return numbers


def _forces(frames: Trajectory) -> np.ndarray:
    return _of(frames.forces)


def packed(name: str, rng: np.random.Generator) -> tuple[Atoms, openmm.System]:
    """Molecules on a grid, turned at random, and their force field."""
    parts, edge, _ = MIXTURES[name]
    each = [
        (Atoms(what, [[0, 0, 0]]) if what in LENNARD_JONES else molecule(what), charges)
        for what, number, charges in parts
        for _ in range(number)
    ]
    side = int(np.ceil(len(each) ** (1 / 3)))
    grid = rng.permutation(np.stack(np.meshgrid(*[range(side)] * 3), axis=-1).reshape(-1, 3))
    system, atoms = openmm.System(), Atoms(cell=[edge] * 3, pbc=True)
    free, bonds, angles = (
        openmm.NonbondedForce(),
        openmm.HarmonicBondForce(),
        openmm.HarmonicAngleForce(),
    )
    for (one, charges), at in zip(each, grid, strict=False):
        first, distances = len(atoms), one.get_all_distances()
        turned = (one.positions - one.positions.mean(0)) @ Rotation.random(rng=rng).as_matrix()
        atoms += Atoms(one.symbols, turned + (at + 0.5) * edge / side)
        radii = covalent_radii[one.numbers]
        bonded = (distances < 1.25 * (radii[:, None] + radii)) & (distances > 0)
        for i, symbol in enumerate(one.symbols):
            sigma, epsilon = LENNARD_JONES[symbol]
            charge = charges[i] if len(charges) == len(one) else 0.0
            free.addParticle(charge, sigma / 10, epsilon * KJ)
            system.addParticle(atomic_masses[atomic_numbers[symbol]])
            for other in range(i):
                free.addException(first + other, first + i, 0, 0.1, 0)
                pair = "".join(sorted(one.symbols[other] + symbol))
                stiffness = STIFF.get(pair, 45.0 if "H" in pair else 30.0)
                if bonded[i, other]:
                    bonds.addBond(
                        first + other, first + i, distances[i, other] / 10, stiffness * KJ * 100
                    )
            ends = np.flatnonzero(bonded[i])
            for j in ends:
                for k in ends[ends > j]:
                    angle = np.radians(one.get_angle(j, i, k))
                    angles.addAngle(first + j, first + i, first + k, angle, 4 * KJ)
    cutoff = min(9.0, 0.49 * edge) / 10
    free.setNonbondedMethod(openmm.NonbondedForce.CutoffPeriodic)
    free.setCutoffDistance(cutoff)
    free.setUseSwitchingFunction(True)
    free.setSwitchingDistance(0.8 * cutoff)
    system.setDefaultPeriodicBoxVectors(*np.eye(3) * edge / 10)
    for force in (free, bonds, angles):
        system.addForce(force)
    return atoms, system


def by_openmm(name: str, seed: int, stride: int, frames: int) -> Trajectory:
    """Frames `stride` × 0.5 fs apart, without a thermostat."""
    rng, kelvin = np.random.default_rng(seed), MIXTURES[name][2]
    atoms, system = packed(name, rng)
    platform = openmm.Platform.getPlatformByName("CPU")
    thermostat = openmm.LangevinMiddleIntegrator(kelvin, 10, 0.0005)
    warm = openmm.Context(system, thermostat, platform, {"Threads": "1"})
    warm.setPositions(atoms.positions / 10)
    openmm.LocalEnergyMinimizer.minimize(warm, maxIterations=300)
    warm.setVelocitiesToTemperature(kelvin, seed)
    thermostat.step(4000)
    verlet = openmm.CustomIntegrator(0.0005)
    for variable, step in (("v", "v+0.5*dt*f/m"), ("x", "x+dt*v"), ("v", "v+0.5*dt*f/m")):
        verlet.addComputePerDof(variable, step)
    context = openmm.Context(system, verlet, platform, {"Threads": "1"})
    context.setState(warm.getState(positions=True, velocities=True))
    rows = []
    for _ in range(frames):
        state = context.getState(positions=True, velocities=True, forces=True, energy=True)
        rows.append(
            (
                state.getPositions(asNumpy=True)._value * 10,
                state.getVelocities(asNumpy=True)._value / 100,
                state.getForces(asNumpy=True)._value / KJ / 10,
                state.getPotentialEnergy()._value / KJ,
            )
        )
        verlet.step(stride)
    return joined(atoms, 0.5 * stride, rows)


def by_emt(atoms: Atoms, kelvin: float, seed: int, stride: int, frames: int) -> Trajectory:
    """Frames `stride` fs apart, without a thermostat."""
    atoms.calc, rng = EMT(), np.random.default_rng(seed)
    MaxwellBoltzmannDistribution(atoms, temperature_K=1.5 * kelvin, rng=rng)
    Langevin(atoms, 2 * units.fs, temperature_K=kelvin, friction=0.05 / units.fs, rng=rng).run(300)
    verlet, rows = VelocityVerlet(atoms, units.fs), []
    for _ in range(frames):
        now = (atoms.positions.copy(), atoms.get_velocities() * units.fs)
        rows.append((*now, atoms.get_forces(), atoms.get_potential_energy()))
        verlet.run(stride)
    return joined(atoms, float(stride), rows)


def joined(atoms: Atoms, stride_fs: float, rows: list[tuple[Any, ...]]) -> Trajectory:
    positions, velocities, forces, energies = (np.array(part) for part in zip(*rows, strict=True))
    n = len(rows)
    return Trajectory(
        symbols=tuple(atoms.symbols),
        masses=atoms.get_masses(),
        positions=positions,
        cell=np.repeat(atoms.cell.array[None], n, axis=0),
        time=np.arange(n, dtype=np.float64) * stride_fs,
        step=np.arange(n),
        forces=forces,
        velocities=velocities,
        energy=energies,
    )


def systems(seed: int) -> Iterator[tuple[str, Trajectory]]:
    """Each twice: followed closely, and from far."""
    slab = fcc111("Cu", (3, 3, 4), vacuum=5)
    slab.pbc = True
    alloy = bulk("Cu", cubic=True) * 2
    alloy.symbols[::2] = "Ag"
    alloy.set_cell(1.06 * alloy.cell, scale_atoms=True)
    metals = {"copper": (bulk("Cu", cubic=True) * 2, 600.0), "slab": (slab, 400.0)}
    metals["alloy"] = (alloy, 600.0)
    for close in (True, False):
        for name in MIXTURES:
            yield name, by_openmm(name, seed, *((1, 240) if close else (20, 240)))
        for name, (atoms, kelvin) in metals.items():
            yield name, by_emt(atoms.copy(), kelvin, seed, *((1, 120) if close else (10, 120)))


def told(frames: Trajectory) -> list[str]:
    return [lie.split(". ")[0] for lie in lies(Mechanics(frames), frames.origin)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    warnings.simplefilter("ignore")  # of ASE's that other thermostats would be newer
    parser.add_argument("--seed", type=int, default=1)
    seed = parser.parse_args().seed
    rng, alarms, honest = np.random.default_rng(seed), Counter[float](), Counter[float]()
    found, planted = Counter[tuple[str, float]](), Counter[float]()
    for name, frames in systems(seed):
        each = max(1, frames.n_frames // 8)
        pairs = [frames[k : k + 2] for k in range(0, frames.n_frames - 1, each)][:8]
        if any(errors := look_at(pairs).errors_A):
            print(f"the cell of {name}: {errors}", flush=True)
        for every in (1, 2, 4, 10):
            some = frames[::every]
            stride = float(some.time[1])
            length = int(rng.integers(5, min(40, some.n_frames)))
            start = int(rng.integers(0, some.n_frames - length + 1))
            thinned = some[np.flatnonzero(rng.random(some.n_frames) < 0.6)]
            for stretch in (some[:128], some[start : start + length], thinned[:128]):
                said = told(stretch)
                honest[stride] += 1
                alarms[stride] += bool(said)
                if said:
                    print(
                        f"{name}, {stretch.n_frames} frames {stride} fs apart: {said}", flush=True
                    )
            planted[stride] += 1
            for lie, plant in LIES.items():
                found[lie, stride] += bool(told(plant(some[:128])))
    strides = sorted(honest)
    print(f"{sum(alarms.values())} of {sum(honest.values())} honest stretches refused")
    print("fs          " + "".join(f"{s:7g}" for s in strides))
    print("refused     " + "".join(f"{alarms[s] / honest[s]:7.0%}" for s in strides))
    for lie in LIES:
        print(f"{lie:12s}" + "".join(f"{found[lie, s] / planted[s]:7.0%}" for s in strides))


if __name__ == "__main__":
    main()
