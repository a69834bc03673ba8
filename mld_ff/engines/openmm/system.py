"""Loss → the Forces and the System of OpenMM, in memory."""

from __future__ import annotations

import openmm

from mld_ff.engines.openmm.angles import angular_forces, angular_sets
from mld_ff.engines.openmm.bonds import bond_force
from mld_ff.engines.openmm.charges import (
    charge_force,
    put_near_in_pairs,
    set_waves,
    slab_force,
)
from mld_ff.engines.openmm.densities import density_force, density_sets
from mld_ff.engines.openmm.free_pairs import free_force, free_sets
from mld_ff.engines.start import Start
from mld_ff.geometry.topology import Topology
from mld_ff.loss.bonds import BondTerm
from mld_ff.loss.model import AgentLoss
from mld_ff.units import A_TO_NM

CENTRE_OF_MASS_EVERY = 100
"""Steps between removals of the centre-of-mass motion; its presence makes OpenMM count 3N - 3
degrees of freedom.
"""


def openmm_system(loss: AgentLoss, start: Start, near_in_pairs: bool = True) -> openmm.System:
    """System with one Force per bonded term, one per kind of free term, one per set of channels,
    two per set of channels with angles, one of charges, one more of a slab's, and one of what waves
    of charges do to bonded pairs, named after their terms; all are OpenMM's own.

    near_in_pairs: whether the force of pairs computes what is near of charges, which is faster.
    Raises InputError if the model does not cover the system, or the cutoff is longer than half the
    cell.
    """
    start.check(loss)
    system = openmm.System()
    system.setDefaultPeriodicBoxVectors(*box_vectors(start))
    for mass in start.frame.masses:
        system.addParticle(float(mass))
    groups: dict[float, int] = {}
    forces = forces_of(loss, start.topology)
    if loss.charges and near_in_pairs:
        forces += put_near_in_pairs(forces, loss.charges, start.topology)
    if loss.charges and loss.charges.slab:
        forces.append(slab_force(loss.charges, start.topology, start.frame.cell[0] * A_TO_NM))
    for force in forces:
        if loss.charges and isinstance(force, openmm.NonbondedForce):
            set_waves(force, loss.charges, start.frame.cell[0] * A_TO_NM)
        # GPUs want one cutoff in a group
        if hasattr(force, "getCutoffDistance"):
            force.setForceGroup(groups.setdefault(force.getCutoffDistance()._value, len(groups)))
        system.addForce(force)
    remover = openmm.CMMotionRemover(CENTRE_OF_MASS_EVERY)
    remover.setName("centre of mass at rest")
    system.addForce(remover)
    return system


def box_vectors(start: Start) -> list[openmm.Vec3]:
    """The cell [nm]."""
    return [openmm.Vec3(*row) for row in start.frame.cell[0] * A_TO_NM]


def forces_of(loss: AgentLoss, topology: Topology) -> list[openmm.Force]:
    """The Forces of all terms of the system's species, those of free pairs that it does not hold
    included.

    Raises InputError if the model does not cover the system.
    """
    terms = loss.terms_of(topology)
    forces: list[openmm.Force] = []
    for path, name in topology.bonded_names.items():
        term = terms[name]
        assert isinstance(term, BondTerm)
        forces.append(bond_force(term, topology.bonded[path]))
    forces += [free_force(type(alike[0]), alike, topology) for alike in free_sets(loss, topology)]
    forces += [density_force(*alike, topology) for alike in density_sets(loss, topology)]
    for channels in angular_sets(loss, topology):
        forces += angular_forces(channels, topology)
    if loss.charges:
        forces.append(charge_force(loss.charges, topology))
    return forces
