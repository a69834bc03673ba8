"""Molecular dynamics of the exported system with plain OpenMM; mld_ff is not needed.

python run.py --platform CUDA --temperature 300 --time 1000
python run.py --ensemble npt --pressure 1 --time 1000
python run.py --time 2000 --resume checkpoint.chk --output more/
"""

import argparse
import sys
from pathlib import Path

import openmm
from openmm import app, unit

parser = argparse.ArgumentParser(description="Molecular dynamics with the exported force field.")
parser.add_argument(
    "--platform", default=None, help="CPU, CUDA, OpenCL or Reference (default: the fastest present)"
)
parser.add_argument(
    "--ensemble",
    default="nvt",
    choices=["nve", "nvt", "npt"],
    help="Nosé–Hoover chain, Monte Carlo barostat",
)
parser.add_argument(
    "--precision", choices=["single", "mixed", "double"], help="of CUDA, HIP or OpenCL"
)
parser.add_argument(
    "--many-body",
    choices=["python", "native"],
    help="sums over neighbours (densities, and pairs beside charges) by mld_ff_neighbours.py, which"
    " needs numba, SciPy and vesin, or by OpenMM's own forces (default: python on CPU and"
    " Reference, for pairs with up to two threads)",
)
parser.add_argument("--temperature", type=float, default=None, help="K (default: as exported)")
parser.add_argument("--pressure", type=float, default=1.0, help="bar, of npt")
parser.add_argument("--time", type=float, default=20.0, help="ps, from the very start")
parser.add_argument(
    "--every",
    type=float,
    default=0.01,
    help="ps between frames of the trajectory and lines of the log",
)
parser.add_argument("--keep", type=float, default=10.0, help="ps between checkpoints")
parser.add_argument(
    "--velocities", action="store_true", help="write velocities.dcd beside trajectory.dcd"
)
parser.add_argument(
    "--output", default=".", help="directory for trajectory.dcd, log.csv, checkpoint.chk, final.xml"
)
parser.add_argument(
    "--resume", default=None, help="checkpoint of the same machine and settings to go on from"
)
arguments = parser.parse_args()


class VelocityReporter:
    """Velocities [angstrom/ps] in the form of a DCD file, as NAMD writes them.

    The integrator is a leap-frog: they are those half a timestep before the positions of the same
    frame.
    """

    def __init__(self, file, interval):
        self.file, self.interval, self.dcd = file.open("wb"), interval, None

    def describeNextReport(self, simulation):
        steps = self.interval - simulation.currentStep % self.interval
        return {"steps": steps, "periodic": None, "include": ["velocities"]}

    def report(self, simulation, state):
        if self.dcd is None:
            step = simulation.integrator.getStepSize()
            self.dcd = app.DCDFile(
                self.file, simulation.topology, step, simulation.currentStep, self.interval
            )
        per_ps = state.getVelocities(asNumpy=True) * unit.picosecond
        self.dcd.writeModel(per_ps, periodicBoxVectors=state.getPeriodicBoxVectors())


class LogReporter(app.StateDataReporter):
    """With the energy that is conserved, that of atoms and thermostat together."""

    def _constructHeaders(self):
        return [*super()._constructHeaders(), "Conserved Energy (kJ/mole)"]

    def _constructReportValues(self, simulation, state):
        energy = state.getKineticEnergy() + state.getPotentialEnergy()
        if isinstance(simulation.integrator, openmm.NoseHooverIntegrator):
            energy += simulation.integrator.computeHeatBathEnergy()
        values = super()._constructReportValues(simulation, state)
        return [*values, energy.value_in_unit(unit.kilojoule_per_mole)]


class CheckpointReporter:
    """Replaces the checkpoint by the next one only when that is complete, and after the other
    reports of its step.
    """

    def __init__(self, file, interval):
        self.file, self.interval = file, interval

    def describeNextReport(self, simulation):
        return {
            "steps": self.interval - simulation.currentStep % self.interval,
            "periodic": False,
            "include": [],
        }

    def report(self, simulation, state):
        beside = self.file.with_suffix(".new")
        simulation.saveCheckpoint(str(beside))
        beside.replace(self.file)


def read(name):
    """What OpenMM wrote into a file beside this one."""
    text = (here / name).read_text(encoding="utf-8")
    # OpenMM unpickles a PythonForce where it reads one; a numbered character could hide its name
    if "PythonForce" in text or "&#" in text:
        sys.exit(
            f"{name} holds a PythonForce, or characters as numbers that could hide one: reading it"
            " could run any code"
        )
    return openmm.XmlSerializer.deserialize(text)


def compute_in_python(system, platform):
    """Let mld_ff_neighbours.py compute what it can, if that is asked for or faster; whether so."""
    numbers, asked = here / "neighbours.npz", arguments.many_body
    own = asked == "native" or (not asked and platform.getName() not in ("CPU", "Reference"))
    if own or not numbers.exists():
        return False
    try:
        import mld_ff_neighbours

        on_cpu = platform.getName() == "CPU"
        threads = int(platform.getPropertyDefaultValue("Threads")) if on_cpu else 1
        return mld_ff_neighbours.replace_forces(system, numbers, threads, asked == "python")
    except ImportError as error:
        if asked:
            sys.exit(f"--many-body python: {error}; pip install numba scipy vesin 'openmm>=8.5'")
        print(f"{error}: OpenMM's own forces take many times as long on a CPU", flush=True)
        return False
    except (OSError, ValueError, KeyError, TypeError) as error:
        sys.exit(f"{numbers} cannot be used: {error}")


here, out = Path(__file__).parent, Path(arguments.output)
out.mkdir(parents=True, exist_ok=True)
pdb = app.PDBFile(str(here / "topology.pdb"))
system, integrator = read("system.xml"), read("integrator.xml")
if arguments.temperature is not None:
    integrator.setTemperature(arguments.temperature * unit.kelvin)
if arguments.ensemble == "nve":
    integrator = openmm.VerletIntegrator(integrator.getStepSize())
if arguments.ensemble == "npt":
    if any(force.getName().endswith(" of a slab") for force in system.getForces()):
        sys.exit("charges of a slab: a barostat would close its vacuum; choose nvt or nve")
    barostat = openmm.MonteCarloBarostat(arguments.pressure * unit.bar, integrator.getTemperature())
    barostat.setRandomNumberSeed(1)  # of the clock otherwise, so that no run could be repeated
    system.addForce(barostat)

present = [openmm.Platform.getPlatform(k) for k in range(openmm.Platform.getNumPlatforms())]
fastest = max(present, key=lambda p: p.getSpeed())
platform = openmm.Platform.getPlatformByName(arguments.platform) if arguments.platform else fastest
if arguments.precision and "Precision" not in platform.getPropertyNames():
    sys.exit(f"{platform.getName()} has no choice of precision; CUDA, HIP and OpenCL have one")
properties = {"Precision": arguments.precision} if arguments.precision else {}
in_python = compute_in_python(system, platform)
simulation = app.Simulation(pdb.topology, system, integrator, platform, properties)
if arguments.resume:
    simulation.loadCheckpoint(arguments.resume)
else:
    state = read("state.xml")
    simulation.context.setPeriodicBoxVectors(*state.getPeriodicBoxVectors())
    simulation.context.setPositions(state.getPositions())
    simulation.context.setVelocities(state.getVelocities())

timestep = integrator.getStepSize().value_in_unit(unit.picosecond)
steps, every = round(arguments.time / timestep), max(1, round(arguments.every / timestep))
keep = max(1, round(arguments.keep / timestep))
simulation.reporters += [
    app.DCDReporter(str(out / "trajectory.dcd"), every, enforcePeriodicBox=False),
    LogReporter(
        str(out / "log.csv"),
        every,
        step=True,
        time=True,
        potentialEnergy=True,
        kineticEnergy=True,
        totalEnergy=True,
        temperature=True,
        density=True,
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
]
if arguments.velocities:
    simulation.reporters.append(VelocityReporter(out / "velocities.dcd", every))
simulation.reporters.append(CheckpointReporter(out / "checkpoint.chk", keep))
told = [p for p in ("DeviceName", "Precision", "Threads") if p in platform.getPropertyNames()]
name = ", ".join(
    [platform.getName(), *(f"{p} {platform.getPropertyValue(simulation.context, p)}" for p in told)]
)
at = simulation.currentStep
print(
    f"{system.getNumParticles()} atoms, step {at} to {steps} of {1000 * timestep:g} fs on {name}"
    + ", sums over neighbours in Python" * in_python,
    flush=True,
)
simulation.step(steps - at)
simulation.reporters[-1].report(simulation, None)
simulation.saveState(str(out / "final.xml"))
