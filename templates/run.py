"""NVT molecular dynamics of the exported system with plain OpenMM; mld_ff is not needed.

python run.py --platform CUDA --temperature 300 --time 1000
"""

import argparse
import sys
from pathlib import Path

import openmm
from openmm import app, unit

parser = argparse.ArgumentParser(description="NVT with the exported force field (Nosé–Hoover chain).")
parser.add_argument("--platform", default=None, help="CPU, CUDA, OpenCL or Reference (default: the fastest present)")
parser.add_argument("--precision", choices=["single", "mixed", "double"], help="of CUDA, HIP or OpenCL")
parser.add_argument("--temperature", type=float, default=None, help="K (default: as exported)")
parser.add_argument("--time", type=float, default=20.0, help="ps")
parser.add_argument(
    "--every", type=float, default=0.01, help="ps between frames of the trajectory and lines of the log"
)
parser.add_argument("--velocities", action="store_true", help="write velocities.dcd beside trajectory.dcd")
parser.add_argument("--output", default=".", help="directory for trajectory.dcd, log.csv, checkpoint.xml")
arguments = parser.parse_args()


class VelocityReporter:
    """Velocities [angstrom/ps] in the form of a DCD file, as NAMD writes them.

    The integrator is a leap-frog: they are those half a timestep before the positions of the same frame.
    """

    def __init__(self, file, interval):
        self.file, self.interval, self.dcd = file.open("wb"), interval, None

    def describeNextReport(self, simulation):
        steps = self.interval - simulation.currentStep % self.interval
        return {"steps": steps, "periodic": None, "include": ["velocities"]}

    def report(self, simulation, state):
        if self.dcd is None:
            step = simulation.integrator.getStepSize()
            self.dcd = app.DCDFile(self.file, simulation.topology, step, simulation.currentStep, self.interval)
        per_ps = state.getVelocities(asNumpy=True) * unit.picosecond
        self.dcd.writeModel(per_ps, periodicBoxVectors=state.getPeriodicBoxVectors())


here, out = Path(__file__).parent, Path(arguments.output)
out.mkdir(parents=True, exist_ok=True)
pdb = app.PDBFile(str(here / "topology.pdb"))
system = openmm.XmlSerializer.deserialize((here / "system.xml").read_text())
integrator = openmm.XmlSerializer.deserialize((here / "integrator.xml").read_text())
if arguments.temperature is not None:
    integrator.setTemperature(arguments.temperature * unit.kelvin)

present = [openmm.Platform.getPlatform(k) for k in range(openmm.Platform.getNumPlatforms())]
fastest = max(present, key=lambda p: p.getSpeed())
platform = openmm.Platform.getPlatformByName(arguments.platform) if arguments.platform else fastest
if arguments.precision and "Precision" not in platform.getPropertyNames():
    sys.exit(f"{platform.getName()} has no choice of precision; CUDA, HIP and OpenCL have one")
properties = {"Precision": arguments.precision} if arguments.precision else {}
simulation = app.Simulation(pdb.topology, system, integrator, platform, properties)
state = openmm.XmlSerializer.deserialize((here / "state.xml").read_text())
simulation.context.setPeriodicBoxVectors(*state.getPeriodicBoxVectors())
simulation.context.setPositions(state.getPositions())
simulation.context.setVelocities(state.getVelocities())

timestep = integrator.getStepSize().value_in_unit(unit.picosecond)
steps, every = round(arguments.time / timestep), max(1, round(arguments.every / timestep))
simulation.reporters += [
    app.DCDReporter(str(out / "trajectory.dcd"), every, enforcePeriodicBox=False),
    app.StateDataReporter(
        str(out / "log.csv"),
        every,
        step=True,
        time=True,
        potentialEnergy=True,
        kineticEnergy=True,
        totalEnergy=True,
        temperature=True,
    ),
    app.StateDataReporter(
        sys.stdout,
        50 * every,
        progress=True,
        time=True,
        temperature=True,
        speed=True,
        remainingTime=True,
        totalSteps=steps,
    ),
    app.CheckpointReporter(str(out / "checkpoint.xml"), 100 * every, writeState=True),
]
if arguments.velocities:
    simulation.reporters.append(VelocityReporter(out / "velocities.dcd", every))
told = [p for p in ("DeviceName", "Precision", "Threads") if p in platform.getPropertyNames()]
name = ", ".join([platform.getName(), *(f"{p} {platform.getPropertyValue(simulation.context, p)}" for p in told)])
print(f"{system.getNumParticles()} atoms, {steps} steps of {1000 * timestep:g} fs on {name}", flush=True)
simulation.step(steps)
simulation.saveState(str(out / "checkpoint.xml"))
