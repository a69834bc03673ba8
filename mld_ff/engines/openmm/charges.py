"""Charges → OpenMM's NonbondedForce with PME, without Lennard-Jones, and what a slab needs."""

from __future__ import annotations

import math

import numpy as np
import openmm

from mld_ff.engines.openmm.expressions import number
from mld_ff.geometry.topology import Topology
from mld_ff.loss.charges import ChargeTerm
from mld_ff.trajectory import Floats
from mld_ff.units import A_TO_NM, E2_PER_A_TO_EV, EV_TO_KJ_PER_MOL

PME_TOLERANCE = 3e-6
"""Of OpenMM's formula for where near and far part, for charges of 1 e at most; of others this over
the square of the largest."""
FINENESS = 0.46
"""Points of the grid of waves along a box vector, over its length times α over the fifth root of
the tolerance; OpenMM's own is 2/3. Forces err by 3e-5 to 6e-5 eV/Å, as with that and a tolerance
of 7e-6: of 64 ions, of 64 and of 512 waters, whose charges take 0.94 instead of 1.25, 0.75 instead
of 0.85 and 5.3 instead of 6.6 ms of CPU time a step, and of charges of 1.5 e in a tilted cell. With
0.42 these last err by 1.0e-4, and the first three take 0.75, 0.60 and 3.7 ms."""
SMOOTH = (2, 3, 5, 7)
"""Prime factors of what Fourier transforms are fast for."""
LARGEST_TOLERANCE = 5e-4
"""What OpenMM itself begins with."""
OF_SLAB = " of a slab"
"""Ends the name of the force of its dipole."""
COULOMB = E2_PER_A_TO_EV * EV_TO_KJ_PER_MOL * A_TO_NM
"""Energy of two charges of 1 e at 1 nm [kJ/mol]."""
ANY_SIGMA_NM = 1.0
"""... of a Lennard-Jones function that has no depth."""


def charge_force(term: ChargeTerm, topology: Topology) -> openmm.NonbondedForce:
    """The force of the charges on all pairs but the bonded ones; `set_waves` says of which box.

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


def slab_force(term: ChargeTerm, topology: Topology, box_nm: Floats) -> openmm.CustomCVForce:
    """2π M²/V with the dipole M along z of a slab in a box (3, 3), see `mld_ff.loss.ewald.slab`.

    Positions are taken as they are: a slab in one piece stays so.
    """
    moment = openmm.CustomExternalForce("q*z")
    moment.addPerParticleParameter("q")
    for k, charge in enumerate(term.of_atoms(topology).tolist()):
        moment.addParticle(k, [charge])
    volume = abs(float(np.linalg.det(box_nm)))
    force = openmm.CustomCVForce(f"{number(2 * math.pi * COULOMB / volume)}*moment^2")
    force.addCollectiveVariable("moment", moment)
    force.setName(f"{term.name}{OF_SLAB}")
    return force


def set_waves(force: openmm.NonbondedForce, box_nm: Floats) -> None:
    """Choose the grid of waves by FINENESS, for a box (3, 3)."""
    tolerance = force.getEwaldErrorTolerance()
    alpha = math.sqrt(-math.log(2 * tolerance)) / force.getCutoffDistance()._value
    lengths = np.linalg.norm(box_nm, axis=1)
    points = [_smooth(math.ceil(FINENESS * alpha * x / tolerance**0.2)) for x in lengths]
    force.setPMEParameters(alpha, *points)


def _smooth(least: int) -> int:
    """The first number from `least` on without other prime factors than SMOOTH."""
    rest = least
    for prime in SMOOTH:
        while rest % prime == 0:
            rest //= prime
    return least if rest == 1 else _smooth(least + 1)
