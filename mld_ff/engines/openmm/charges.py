"""Charges → OpenMM's NonbondedForce with PME, without Lennard-Jones."""

from __future__ import annotations

import openmm

from mld_ff.geometry.topology import Topology
from mld_ff.loss.charges import ChargeTerm
from mld_ff.units import A_TO_NM

PME_TOLERANCE = 7e-6
"""By which OpenMM chooses how fine the grid of its waves is, for charges of 1 e at most: forces err
by 5e-5 eV/Å, and so they do for others with this over the square of the largest."""
LARGEST_TOLERANCE = 5e-4
"""What OpenMM itself begins with."""
ANY_SIGMA_NM = 1.0
"""... of a Lennard-Jones function that has no depth."""


def charge_force(term: ChargeTerm, topology: Topology) -> openmm.NonbondedForce:
    """The force of the charges on all pairs but the bonded ones.

    Raises InputError if the system is not neutral.
    """
    force = openmm.NonbondedForce()
    force.setName(term.name)
    for charge in term.of_atoms(topology).tolist():
        force.addParticle(charge, ANY_SIGMA_NM, 0.0)
    for pairs in topology.bonded.values():
        for i, j in pairs.tolist():
            force.addException(i, j, 0.0, ANY_SIGMA_NM, 0.0)
    force.setNonbondedMethod(force.PME)
    force.setExceptionsUsePeriodicBoundaryConditions(True)
    force.setUseDispersionCorrection(False)
    force.setCutoffDistance(term.cutoff_A * A_TO_NM)
    largest = max(map(abs, term.coefficients))
    force.setEwaldErrorTolerance(min(PME_TOLERANCE / largest**2, LARGEST_TOLERANCE))
    return force
