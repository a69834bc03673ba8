"""Loss → the files that OpenMM runs without mld_ff."""

from __future__ import annotations

from pathlib import Path

import openmm
from openmm import app, unit

from mld_ff.engines.openmm.forcefield import forcefield_xml
from mld_ff.engines.openmm.neighbours import MODULES, NUMBERS, neighbours_file
from mld_ff.engines.openmm.system import box_vectors, openmm_system
from mld_ff.engines.openmm.topology import structure_text
from mld_ff.engines.settings import DEFAULT_MD, MD
from mld_ff.engines.start import Start
from mld_ff.files import read_template, warned, write_files
from mld_ff.geometry.system import System
from mld_ff.loss.model import AgentLoss
from mld_ff.units import A_PER_FS_TO_NM_PER_PS, A_TO_NM, AMU_A2_PER_FS2_TO_EV, FS_TO_PS


def export_openmm(
    loss: AgentLoss,
    start: Start,
    directory: Path | str,
    settings: MD = DEFAULT_MD,
) -> list[Path]:
    """Write system.xml, topology.pdb, state.xml, integrator.xml, run.py and forcefield.xml; for a
    loss of densities or charges mostly neighbours.npz and the modules that compute with it.

    state.xml holds positions, box, and the velocities of half a timestep before, as a leap-frog
    wants them.

    settings: temperature, timestep and damping are those of integrator.xml. forcefield.xml is left
    out where an element has atoms of different mass, which a ForceField does not tell apart.
    Returns the files. Raises InputError as `openmm_system` does.
    """
    warnings, system = start.check(loss), openmm_system(loss, start)
    integrator = openmm.NoseHooverIntegrator(
        settings.temperature_K,
        1 / (settings.damping_fs * FS_TO_PS),
        settings.timestep_fs * FS_TO_PS,
    )
    contents: dict[str, str | bytes] = {
        "system.xml": openmm.XmlSerializer.serialize(system),
        "integrator.xml": openmm.XmlSerializer.serialize(integrator),
        "state.xml": openmm.XmlSerializer.serialize(_state(loss, start, settings.timestep_fs)),
        "topology.pdb": structure_text(start, app.PDBFile),
        "run.py": read_template("run.py"),
    }
    if numbers := neighbours_file(loss, start):
        contents |= {NUMBERS: numbers, **{module: read_template(module) for module in MODULES}}
    if _has_one_mass_per_element(start):
        # its charges are those of OpenMM alone: boxes without a period have no waves
        plain = openmm_system(loss, start, near_in_pairs=False) if loss.charges else system
        contents["forcefield.xml"] = forcefield_xml(loss, start, plain.getForces())
    return write_files(directory, warned(contents, warnings))


def _has_one_mass_per_element(start: Start) -> bool:
    kinds = set(zip(start.topology.symbols, start.frame.masses.tolist(), strict=True))
    return len(kinds) == len(start.topology.species)


def _state(loss: AgentLoss, start: Start, timestep_fs: float) -> openmm.State:
    """Positions, box, and velocities of half a timestep earlier, which OpenMM's leap-frog
    integrators start from.

    Only a Context makes a State, so one without forces does, and nothing runs.
    """
    system = openmm.System()
    system.setDefaultPeriodicBoxVectors(*box_vectors(start))
    for mass in start.frame.masses:
        system.addParticle(float(mass))
    platform = openmm.Platform.getPlatformByName("Reference")
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), platform)
    frame = start.frame
    assert frame.velocities is not None
    agents = System(start.topology, frame.positions[0], frame.cell[0], loss.cutoff_A)
    gained = (
        loss.evaluate(agents).forces
        / (frame.masses[:, None] * AMU_A2_PER_FS2_TO_EV)
        * timestep_fs
        / 2
    )
    context.setPositions(frame.positions[0] * A_TO_NM * unit.nanometer)
    context.setVelocities((frame.velocities[0] - gained) * A_PER_FS_TO_NM_PER_PS)
    return context.getState(positions=True, velocities=True)
