"""Time per step and atom of the learned water against native flexible three-site water, side by
side in one run.

python tests/benchmarks/engines.py [--copies 1 2 4 8] [--uf3 water.uf3] [--serial]
[--pairs | --lammps] [--model best=model.json] [--native] [--rounds 3]

192 to 98,304 atoms. OpenMM's CPU platform with one and two threads; LAMMPS with one process and
two. Learned are pairs, pairs and charges, a collective loss with 6 channels per species, and
angles, the default fit.
Native water is SPC/Fw-like: charges and Lennard-Jones on the oxygen with particle-mesh Ewald,
harmonic bonds and angle; 64 waters force a cutoff of 6.2 Å, larger boxes are measured with 9 Å, the
usual choice, too. Beside them runs `pair_style uf3`, two- and three-body, with the potential that
uf3water.py fits.

Models given by --model are measured beside these, so that a slow fit is made once. OpenMM computes
sums over neighbours in Python; with --native by its own forces too, which takes long with angles.

Every figure is the best of a few rounds, in which all take turns. CPU time (user and system, of all
threads or processes) is what compares on a machine that does other things; wall time only means
something on one that does not, and so do two processes, which wait for each other at full speed:
leave those and two threads out with --serial.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import ase
import ase.io
import numpy as np
import openmm

from mld_ff import AgentLoss, Basis, export_lammps, fit, open_cp2k, start_from
from mld_ff.engines.lammps.data import atom_style
from mld_ff.engines.lammps.executable import find_lmp, find_mpiexec
from mld_ff.engines.openmm.neighbours import system_on
from mld_ff.engines.openmm.system import openmm_system
from mld_ff.engines.settings import Device
from mld_ff.engines.start import Start
from mld_ff.units import A_PER_FS_TO_NM_PER_PS, A_TO_NM

EXAMPLE = Path(__file__).parents[2] / "examples/water/cp2k"
NATIVE = " (native)"
"""Ends the name of a loss whose sums over neighbours OpenMM's own forces compute."""
SLOW = {
    **{"charges" + NATIVE: 1, "collective" + NATIVE: 10, NATIVE: 250},
    **{"collective": 10, "angles": 10, "uf3": 20},
}
"""Roughly how much longer a step takes; so many fewer are measured."""
LEARNED_SKIN_A, OTHERS_SKIN_A = 0.5, 1.0
"""Of lists of neighbours: that of the exported in.nvt; what the others were recorded with."""
Times = dict[str, tuple[float, float]]
"""Milliseconds of CPU and wall time per step, by what was measured."""
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
timestep 0.5
fix nvt all nvt temp 300 300 100
"""
LEARNED_LAMMPS = """\
units metal
atom_style {atoms}
read_data system.data
include forcefield.lmp
timestep 0.0005
fix nvt all nvt temp 300 300 0.1
"""
UF3_LAMMPS = """\
units metal
read_data uf3.data
pair_style uf3 3
pair_coeff * * {potential} H O
timestep 0.0005
fix nve all nve
"""
RUN_LAMMPS = """\
neighbor {skin} bin
neigh_modify delay 0 every 1 check yes
run {warm}
run {steps}
"""


def box(copies: int) -> Start:
    """The last frame of the example, copied along every axis."""
    start = start_from(open_cp2k(EXAMPLE).read()[-1])
    frame, n = start.frame, copies**3
    assert frame.velocities is not None
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
    system.setDefaultPeriodicBoxVectors(
        *(openmm.Vec3(*row) for row in start.frame.cell[0] * A_TO_NM)
    )
    nonbonded, bond, angle = (
        openmm.NonbondedForce(),
        openmm.HarmonicBondForce(),
        openmm.HarmonicAngleForce(),
    )
    nonbonded.setNonbondedMethod(openmm.NonbondedForce.PME)
    nonbonded.setCutoffDistance(cutoff_A * A_TO_NM)
    for symbol, mass in zip(start.topology.symbols, start.frame.masses, strict=True):
        system.addParticle(float(mass))
        nonbonded.addParticle(*((-0.82, 0.31655, 0.65) if symbol == "O" else (0.41, 1.0, 0.0)))
    for o, h1, h2 in (
        sorted(m, key=lambda i: start.topology.symbols[i] == "H") for m in start.topology.molecules
    ):
        for i, j in ((o, h1), (o, h2), (h1, h2)):
            nonbonded.addException(int(i), int(j), 0, 1, 0)
        bond.addBond(int(o), int(h1), 0.1012, 443153)
        bond.addBond(int(o), int(h2), 0.1012, 443153)
        angle.addAngle(int(h1), int(o), int(h2), 1.976, 317.57)
    for force in (nonbonded, bond, angle):
        system.addForce(force)
    return system


def steps_of(name: str, n_atoms: int) -> int:
    slow = next((factor for word, factor in SLOW.items() if word in name), 1)
    return max(2, min(500, 1_000_000 // n_atoms) // slow)


def openmm_systems(
    losses: dict[str, AgentLoss], start: Start, cutoffs: list[float], native: bool
) -> dict[str, openmm.System]:
    """All that is measured, by its name."""
    in_python = Device("CPU", many_body="python")
    systems = {name: system_on(in_python, loss, start) for name, loss in losses.items()}
    if native:
        both = {name: loss for name, loss in losses.items() if loss.channels or loss.charges}
        systems |= {name + NATIVE: openmm_system(loss, start) for name, loss in both.items()}
    return systems | {f"native {c:g} Å": native_system(start, c) for c in cutoffs}


def openmm_times(systems: dict[str, openmm.System], start: Start, serial: bool) -> Times:
    """All systems with one thread, and with two."""
    contexts: dict[tuple[str, int], openmm.Context] = {}
    times: Times = {}
    velocities = start.frame.velocities
    assert velocities is not None
    for name, system in systems.items():
        for threads in (1,) if serial else (1, 2):
            platform = openmm.Platform.getPlatformByName("CPU")
            integrator = openmm.NoseHooverIntegrator(300, 10, 0.0005)
            context = openmm.Context(system, integrator, platform, {"Threads": str(threads)})
            context.setPositions(start.frame.positions[0] * A_TO_NM)
            context.setVelocities(velocities[0] * A_PER_FS_TO_NM_PER_PS)
            integrator.step(2)
            contexts[name, threads] = context
    for (name, threads), context in contexts.items():
        steps = steps_of(name, start.topology.n_atoms)
        cpu, wall = time.process_time(), time.perf_counter()
        context.getIntegrator().step(steps)
        took = (
            1e3 * (time.process_time() - cpu) / steps,
            1e3 * (time.perf_counter() - wall) / steps,
        )
        times[f"OpenMM, {threads} thread{'s' * (threads > 1)}, {name}"] = took
    return times


def keep_best(best: Times, name: str, took: tuple[float, float]) -> None:
    before = best.get(name, took)
    best[name] = min(before[0], took[0]), min(before[1], took[1])


def native_data(start: Start) -> str:
    """LAMMPS data file of flexible three-site water."""
    frame, topology = start.frame, start.topology
    lengths = np.diag(frame.cell[0])
    lines = [
        "water",
        "",
        f"{topology.n_atoms} atoms",
        "2 atom types",
        f"{2 * len(topology.molecules)} bonds",
    ]
    lines += ["1 bond types", f"{len(topology.molecules)} angles", "1 angle types", ""]
    lines += [f"0 {length:.12g} {x}lo {x}hi" for x, length in zip("xyz", lengths, strict=True)]
    lines += ["", "Masses", "", "1 15.999", "2 1.008", "", "Atoms  # full", ""]
    for k, (s, m, x) in enumerate(
        zip(topology.symbols, topology.molecule_index, frame.positions[0], strict=True), 1
    ):
        lines.append(
            f"{k} {m + 1} {1 if s == 'O' else 2} {-0.82 if s == 'O' else 0.41} {x[0]:.8f}"
            f" {x[1]:.8f} {x[2]:.8f}"
        )
    waters = [sorted(m, key=lambda i: topology.symbols[i] == "H") for m in topology.molecules]
    lines += ["", "Bonds", ""]
    lines += [f"{2 * k + n} 1 {w[0] + 1} {w[n] + 1}" for k, w in enumerate(waters) for n in (1, 2)]
    lines += [
        "",
        "Angles",
        "",
        *(f"{k} 1 {w[1] + 1} {w[0] + 1} {w[2] + 1}" for k, w in enumerate(waters, 1)),
    ]
    return "\n".join(lines) + "\n"


def lammps_inputs(
    losses: dict[str, AgentLoss], start: Start, cutoffs: list[float], uf3: Path | None, place: Path
) -> list[str]:
    """A folder with `in.bench` for all that is measured; their names."""
    inputs = {}
    for name, loss in losses.items():
        export_lammps(loss, start, place / name)
        inputs[name] = LEARNED_LAMMPS.format(atoms=atom_style(start.topology, loss))
    for cutoff in cutoffs:
        name = f"native {cutoff:g} Å"
        (place / name).mkdir()
        (place / name / "native.data").write_text(native_data(start))
        inputs[name] = NATIVE_LAMMPS.format(cutoff=cutoff)
    if uf3:
        (place / "uf3").mkdir()
        atoms = ase.Atoms(
            start.frame.symbols, start.frame.positions[0], cell=start.frame.cell[0], pbc=True
        )
        ase.io.write(
            place / "uf3/uf3.data", atoms, format="lammps-data", specorder=["H", "O"], masses=True
        )
        inputs["uf3"] = UF3_LAMMPS.format(potential=uf3.absolute())
    for name, text in inputs.items():
        steps = steps_of(name, start.topology.n_atoms)
        skin = LEARNED_SKIN_A if name in losses else OTHERS_SKIN_A
        (place / name / "in.bench").write_text(
            text + RUN_LAMMPS.format(skin=skin, warm=min(5, steps), steps=steps)
        )
    return list(inputs)


def lammps_times(
    losses: dict[str, AgentLoss],
    start: Start,
    cutoffs: list[float],
    uf3: Path | None,
    serial: bool,
) -> Times:
    """With one process, and with two."""
    lmp = find_lmp()
    runs = {"LAMMPS, 1 process": [lmp]}
    if not serial:
        runs["LAMMPS, 2 processes"] = [find_mpiexec(lmp), "-n", "2", lmp]
    times: Times = {}
    with tempfile.TemporaryDirectory() as folder:
        names = lammps_inputs(losses, start, cutoffs, uf3, Path(folder))
        for engine, command in runs.items():
            for name in names:
                said = subprocess.check_output(
                    [*command, "-in", "in.bench"],
                    cwd=Path(folder) / name,
                    env=os.environ | {"OMP_NUM_THREADS": "1"},
                    text=True,
                )
                loop = re.findall(
                    r"^Loop time of (\S+) on (\d+) procs for (\d+) steps", said, re.M
                )[-1]
                wall = 1e3 * float(loop[0]) / int(loop[2])
                used = float(re.findall(r"^(\S+)% CPU use", said, re.M)[-1]) / 100
                times[f"{engine}, {name}"] = wall * used * int(loop[1]), wall
    return times


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument(
        "--copies", type=int, nargs="+", default=[1, 2, 4, 8], help="of 64 waters, along every axis"
    )
    parser.add_argument("--uf3", type=Path, help="what uf3water.py wrote")
    parser.add_argument("--serial", action="store_true", help="one thread or process only")
    parser.add_argument(
        "--pairs", action="store_true", help="losses of pairs in OpenMM only, beside native water"
    )
    parser.add_argument("--lammps", action="store_true", help="nothing in OpenMM")
    parser.add_argument(
        "--model", nargs="+", default=[], metavar="NAME=FILE", help="models to measure as well"
    )
    parser.add_argument("--native", action="store_true", help="densities by OpenMM's forces, too")
    parser.add_argument("--rounds", type=int, default=3)
    return parser.parse_args()


def losses_of(asked: argparse.Namespace) -> dict[str, AgentLoss]:
    source = open_cp2k(EXAMPLE)
    of_pairs = {"power": Basis("power"), "spline": Basis("spline", accuracy="pairs")}
    of_pairs["charges"] = Basis("spline", accuracy="pairs", charges="learn")
    losses = {name: fit(source, basis).loss for name, basis in of_pairs.items()}
    if not asked.pairs:
        losses["collective"] = fit(source, Basis(collective=6)).loss
        losses["angles"] = fit(source, Basis(accuracy="balanced")).loss
    return losses | {name: AgentLoss.load(f) for name, f in (m.split("=") for m in asked.model)}


def best_times(
    losses: dict[str, AgentLoss], start: Start, cutoffs: list[float], asked: argparse.Namespace
) -> Times:
    """Of all rounds, in which everything is measured in turn."""
    tables = {} if asked.pairs else {k: v for k, v in losses.items() if k != "power"}
    times: Times = {}
    for _ in range(asked.rounds):
        took: Times = {}
        if not asked.lammps:
            systems = openmm_systems(losses, start, cutoffs, asked.native)
            took |= openmm_times(systems, start, asked.serial)
        if tables:
            took |= lammps_times(tables, start, cutoffs, asked.uf3, asked.serial)
        for name, one in took.items():
            keep_best(times, name, one)
    return times


def line_of(name: str, times: Times, n_atoms: int, cutoffs: list[float]) -> str:
    """Times of one force field in one engine, and ratios to others there."""
    engine, of = name.rsplit(", ", 1)
    others = ("power", "spline", "collective", "uf3", *(f"native {c:g} Å" for c in cutoffs))
    cpu, wall = times[name]
    ratios = [
        f"{cpu / times[f'{engine}, {other}'][0]:.2f} {other}"
        for other in others
        if other != of and f"{engine}, {other}" in times
    ]
    return (
        f"{n_atoms:6d} atoms, {name}: {1e3 * cpu / n_atoms:8.3f} µs CPU,"
        f" {1e3 * wall / n_atoms:8.3f} µs wall per atom and step; CPU in {', '.join(ratios)}"
    )


def main() -> None:
    """A line per box, engine and force field, with ratios of CPU time; then exponents of CPU time
    over atoms.
    """
    asked = parsed()
    if not asked.uf3 and not asked.pairs:
        print("without UF3: python tests/benchmarks/uf3water.py water.uf3, then --uf3 water.uf3")
    losses = losses_of(asked)
    every: dict[str, list[tuple[int, float]]] = {}
    for copies in asked.copies:
        start = box(copies)
        n, cutoffs = start.topology.n_atoms, [6.2, 9.0] if copies > 1 else [6.2]
        times = best_times(losses, start, cutoffs, asked)
        for name, (cpu, _) in times.items():
            print(line_of(name, times, n, cutoffs), flush=True)
            every.setdefault(name, []).append((n, cpu))
    for name, points in every.items():
        if len(points) > 1:
            n_atoms, cpu_ms = np.log(np.array(points)).T
            print(
                f"{name}: CPU time ~ atoms^{np.polyfit(n_atoms, cpu_ms, 1)[0]:.3f} from"
                f" {points[0][0]} atoms on"
            )


if __name__ == "__main__":
    main()
