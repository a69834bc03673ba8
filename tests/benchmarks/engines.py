"""Time per step of the learned water against native flexible three-site water, side by side in one run.

python tests/benchmarks/engines.py

OpenMM CPU with one thread; LAMMPS with one process. Native water is SPC/Fw-like: charges and Lennard-Jones on the
oxygen with particle-mesh Ewald, harmonic bonds and angle. 64 waters force a cutoff of 6.2 Å; 1,728 waters are measured
with 9 Å, the usual choice for such water, and with 6.2 Å, that of the learned model.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import openmm

from mld_ff import AgentLoss, Basis, export_lammps, fit, open_cp2k, start_from
from mld_ff.engines.lammps import find_lmp
from mld_ff.export.openmm import openmm_system
from mld_ff.export.start import Start
from mld_ff.units import A_PER_FS_TO_NM_PER_PS, A_TO_NM

EXAMPLE = Path(__file__).parents[2] / "examples/water/cp2k"
ROUNDS = 5
NATIVE_LAMMPS = """\
units real
atom_style full
read_data native.data
bond_style harmonic
bond_coeff 1 529.58 1.012
angle_style harmonic
angle_coeff 1 37.95 113.24
pair_style lj/cut/coul/long {cutoff}
pair_coeff * * 0 0
pair_coeff 1 1 0.1554 3.1655
kspace_style pppm 1e-4
special_bonds lj/coul 0 0 0
neighbor 1.0 bin
neigh_modify delay 0 every 1 check yes
timestep 0.5
fix nvt all nvt temp 300 300 100
run 100
run {steps}
"""
LEARNED_LAMMPS = """\
units metal
atom_style molecular
read_data system.data
include forcefield.lmp
neighbor 1.0 bin
neigh_modify delay 0 every 1 check yes
timestep 0.0005
fix nvt all nvt temp 300 300 0.1
run 100
run {steps}
"""


def box(copies: int) -> Start:
    """The last frame of the example, copied along every axis."""
    start = start_from(open_cp2k(EXAMPLE).read()[-1])
    frame, n = start.frame, copies**3
    shifts = np.stack(np.meshgrid(*[np.arange(copies)] * 3), axis=-1).reshape(-1, 3) @ frame.cell[0]
    positions = (frame.positions[0][None] + shifts[:, None]).reshape(1, -1, 3)
    velocities = np.tile(frame.velocities[0], (n, 1))[None]
    grown = replace(
        frame,
        symbols=frame.symbols * n,
        masses=np.tile(frame.masses, n),
        positions=positions,
        velocities=velocities,
        forces=None,
        cell=frame.cell * copies,
    )
    return start_from(grown)


def native_system(start: Start, cutoff_A: float) -> openmm.System:
    """Flexible three-site water with PME."""
    system = openmm.System()
    system.setDefaultPeriodicBoxVectors(*(openmm.Vec3(*row) for row in start.frame.cell[0] * A_TO_NM))
    nonbonded, bond, angle = openmm.NonbondedForce(), openmm.HarmonicBondForce(), openmm.HarmonicAngleForce()
    nonbonded.setNonbondedMethod(openmm.NonbondedForce.PME)
    nonbonded.setCutoffDistance(cutoff_A * A_TO_NM)
    for symbol, mass in zip(start.topology.symbols, start.frame.masses, strict=True):
        system.addParticle(float(mass))
        nonbonded.addParticle(*((-0.82, 0.31655, 0.65) if symbol == "O" else (0.41, 1.0, 0.0)))
    for o, h1, h2 in (sorted(m, key=lambda i: start.topology.symbols[i] == "H") for m in start.topology.molecules):
        for i, j in ((o, h1), (o, h2), (h1, h2)):
            nonbonded.addException(int(i), int(j), 0, 1, 0)
        bond.addBond(int(o), int(h1), 0.1012, 443153)
        bond.addBond(int(o), int(h2), 0.1012, 443153)
        angle.addAngle(int(h1), int(o), int(h2), 1.976, 317.57)
    for force in (nonbonded, bond, angle):
        system.addForce(force)
    return system


def openmm_times(systems: dict[str, openmm.System], start: Start, steps: int) -> dict[str, float]:
    """Best milliseconds per step of every system, measured in turns."""
    contexts = {}
    for name, system in systems.items():
        platform = openmm.Platform.getPlatformByName("CPU")
        integrator = openmm.NoseHooverIntegrator(300, 10, 0.0005)
        contexts[name] = openmm.Context(system, integrator, platform, {"Threads": "1"})
        contexts[name].setPositions(start.frame.positions[0] * A_TO_NM)
        contexts[name].setVelocities(start.frame.velocities[0] * A_PER_FS_TO_NM_PER_PS)
        integrator.step(20)
    best = dict.fromkeys(systems, np.inf)
    for _ in range(ROUNDS):
        for name, context in contexts.items():
            began = time.perf_counter()
            context.getIntegrator().step(steps)
            best[name] = min(best[name], 1e3 * (time.perf_counter() - began) / steps)
    return best


def native_data(start: Start) -> str:
    """LAMMPS data file of flexible three-site water."""
    frame, topology = start.frame, start.topology
    lengths = np.diag(frame.cell[0])
    lines = ["water", "", f"{topology.n_atoms} atoms", "2 atom types", f"{2 * len(topology.molecules)} bonds"]
    lines += ["1 bond types", f"{len(topology.molecules)} angles", "1 angle types", ""]
    lines += [f"0 {length:.12g} {x}lo {x}hi" for x, length in zip("xyz", lengths, strict=True)]
    lines += ["", "Masses", "", "1 15.999", "2 1.008", "", "Atoms  # full", ""]
    for k, (s, m, x) in enumerate(zip(topology.symbols, topology.molecule_index, frame.positions[0], strict=True), 1):
        lines.append(
            f"{k} {m + 1} {1 if s == 'O' else 2} {-0.82 if s == 'O' else 0.41} {x[0]:.8f} {x[1]:.8f} {x[2]:.8f}"
        )
    waters = [sorted(m, key=lambda i: topology.symbols[i] == "H") for m in topology.molecules]
    lines += ["", "Bonds", ""]
    lines += [f"{2 * k + n} 1 {w[0] + 1} {w[n] + 1}" for k, w in enumerate(waters) for n in (1, 2)]
    lines += ["", "Angles", "", *(f"{k} 1 {w[1] + 1} {w[0] + 1} {w[2] + 1}" for k, w in enumerate(waters, 1))]
    return "\n".join(lines) + "\n"


def lammps_times(
    losses: dict[str, AgentLoss], start: Start, native_cutoffs: list[float], steps: int
) -> dict[str, float]:
    """Best milliseconds per step, measured in turns."""
    with tempfile.TemporaryDirectory() as folder:
        jobs = {}
        for name, loss in losses.items():
            export_lammps(loss, start, Path(folder) / name)
            (Path(folder) / name / "in.bench").write_text(LEARNED_LAMMPS.format(steps=steps))
            jobs[name] = Path(folder) / name
        for cutoff in native_cutoffs:
            where = Path(folder) / f"native {cutoff:g} Å"
            where.mkdir()
            (where / "native.data").write_text(native_data(start))
            (where / "in.bench").write_text(NATIVE_LAMMPS.format(steps=steps, cutoff=cutoff))
            jobs[where.name] = where
        best = dict.fromkeys(jobs, np.inf)
        for _ in range(ROUNDS):
            for name, where in jobs.items():
                said = subprocess.check_output([find_lmp(), "-in", "in.bench"], cwd=where, text=True)
                loop = [line for line in said.splitlines() if line.startswith("Loop time")][-1]
                best[name] = min(best[name], 1e3 * float(loop.split()[3]) / steps)
        return best


def main() -> None:
    """A line per engine, box and force field, with the ratio to each native water."""
    source = open_cp2k(EXAMPLE)
    losses = {kind: fit(source, Basis(kind=kind)) for kind in ("power", "spline")}
    for copies, steps, cutoffs in ((1, 500, [6.2]), (3, 30, [6.2, 9.0])):
        start = box(copies)
        systems = {name: openmm_system(loss, start) for name, loss in losses.items()}
        systems |= {f"native {c:g} Å": native_system(start, c) for c in cutoffs}
        measured = {
            "OpenMM": openmm_times(systems, start, steps),
            "LAMMPS": lammps_times(losses, start, cutoffs, 4 * steps),
        }
        for engine, times in measured.items():
            for name, milliseconds in times.items():
                ratios = ", ".join(
                    f"{milliseconds / times[n]:.2f} of {n}" for n in times if n.startswith("native") and n != name
                )
                print(
                    f"{len(start.topology.molecules):5d} waters, {engine}, {name}: {milliseconds:.3f} ms/step  {ratios}"
                )


if __name__ == "__main__":
    main()
