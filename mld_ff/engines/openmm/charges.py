"""Charges → OpenMM's NonbondedForce with PME, without Lennard-Jones, or its waves alone beside
forces of pairs that compute what is near; and what a slab needs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import openmm
from numpy.polynomial import Chebyshev, Polynomial
from scipy.special import erf

from mld_ff.engines.openmm.expressions import number
from mld_ff.geometry.topology import Topology
from mld_ff.loss.charges import ChargeTerm
from mld_ff.trajectory import Floats
from mld_ff.units import A_TO_NM, E2_PER_A_TO_EV, EV_TO_KJ_PER_MOL

NEAR_ERROR_EV_PER_A, WAVES_ERROR_EV_PER_A = 3.5e-5, 9.3e-5
"""Largest of a force that may come of what is left out beyond the cutoff, and of the grid of waves.
Neither knows of the other: the root of their squares' sum is what `verify` allows.
"""
ORDER, ORDER_IN_PYTHON = 5, 8
"""Of splines: OpenMM's own, and those of `templates/mld_ff_waves.py`."""
NEAR_EV_A15, WAVES_EV_A = 18.0, {ORDER: 1.44, ORDER_IN_PYTHON: 1.0}
"""What those errors are over q²/√cutoff exp(-(α cutoff)²) and, by the order of splines, over
q² α² (α spacing)^order, at most, by the largest charge q, α and spacing in 1/Å and Å. They were 7
to 18, 0.65 to 1.44 and 0.4 to 0.8 in melts of MgO, LiF, CaF2 and SiO2, most where ions of 2 e are
densest, 8 to 14, up to 1.1 and 0.4 in water, brine and other liquids of molecules, and less in
dilute boxes.
"""
LEAST_CHARGE_E = 0.4
"""Smaller ones are summed as finely: energies of 0.2 e err by 4e-5 of themselves with the grid that
their forces need, of which `verify` allows 1e-5."""
FAR_ERROR_EV, MOST_COEFFICIENTS = 1e-8, 32
"""Of energies of two charges, beside which their polynomial is exact; slopes err by 2e-6 eV/Å."""
SMOOTH = (2, 3, 5, 7)
"""Prime factors of what Fourier transforms are fast for."""
OF_SLAB = " of a slab"
"""Ends the name of the force of its dipole."""
COULOMB = E2_PER_A_TO_EV * EV_TO_KJ_PER_MOL * A_TO_NM
"""Energy of two charges of 1 e at 1 nm [kJ/mol]."""
ANY_SIGMA_NM = 1.0
"""... of a Lennard-Jones function that has no depth."""


def charge_force(term: ChargeTerm, topology: Topology) -> openmm.NonbondedForce:
    """The force of the charges on all pairs but the bonded ones; `set_waves` sums them in a box.

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
    return force


def put_near_in_pairs(
    forces: Sequence[openmm.Force], term: ChargeTerm, topology: Topology
) -> list[openmm.Force]:
    """Let a force of pairs that ends where `charge_force` does compute what is near of charges, and
    that one the waves alone; if there is such a force.

    Both go through the same list of neighbours, which takes as long as all else that is near.
    Returns the force that is to be added then: waves act on bonded pairs too, and without its
    direct space OpenMM's force takes them out on no platform.
    """
    charged = next(force for force in forces if isinstance(force, openmm.NonbondedForce))
    cutoff, alpha = charged.getCutoffDistance()._value, waves(term)[0]
    pairs = [f for f in forces if isinstance(f, openmm.CustomNonbondedForce)]
    ends = [force for force in pairs if force.getCutoffDistance()._value == cutoff]
    if not ends:
        return []
    free, charges = ends[0], term.of_atoms(topology).tolist()
    error = FAR_ERROR_EV * EV_TO_KJ_PER_MOL / COULOMB / _largest_square(term)
    energy, *definitions = free.getEnergyFunction().split(";")
    near = f"{number(COULOMB)}*charge1*charge2*(1/r-far)"
    free.setEnergyFunction(
        ";".join([f"{energy} + {near}", _far("r", alpha, cutoff, error), *definitions])
    )
    free.addPerParticleParameter("charge")
    for k, charge in enumerate(charges):
        free.setParticleParameters(k, [*free.getParticleParameters(k), charge])
    charged.setIncludeDirectSpace(False)
    beyond = f"1/max(r,{number(cutoff)})-{number(1 / cutoff)}"
    bonded = openmm.CustomBondForce(
        f"-{number(COULOMB)}*charges*(far+{beyond}); {_far('y', alpha, cutoff, error)};"
        f" y=min(r,{number(cutoff)})"
    )
    bonded.setName(f"{term.name} of bonded pairs")
    bonded.addPerBondParameter("charges")
    bonded.setUsesPeriodicBoundaryConditions(True)
    for bonds in topology.bonded.values():
        for i, j in bonds.tolist():
            bonded.addBond(i, j, [charges[i] * charges[j]])
    return [bonded] if topology.bonded else []


def _far(r: str, alpha: float, cutoff_nm: float, error: float) -> str:
    """Definitions of far, erf(α r)/r up to the cutoff but for an error [1/nm], as a polynomial of
    r².

    Without functions that OpenMM's CPU platform computes one pair at a time: with erfc in its place
    the pairs of 512 waters take 9.0 instead of 4.9 ms. A tree of products is faster than Horner's
    chain (5.3 ms), whose every step waits for the one before.
    """
    half = cutoff_nm / math.sqrt(2)

    def exact(z: Floats) -> Floats:
        distance = half * np.sqrt(z + 1)
        return np.asarray(erf(alpha * distance) / distance)

    series = Chebyshev.interpolate(exact, MOST_COEFFICIENTS - 1)
    powers = np.asarray(series.trim(error).convert(kind=Polynomial).coef, float)
    sums = [number(value) for value in powers]
    definitions = [f"z1={number(half**-2)}*{r}*{r}-1"]
    power = 1
    while len(sums) > 1:
        last = sums[len(sums) // 2 * 2 :]
        both = zip(sums[::2], sums[1::2], strict=False)
        sums = [*(f"({a}+z{power}*{b})" for a, b in both), *last]
        definitions.insert(0, f"z{2 * power}=z{power}*z{power}")
        power *= 2
    definitions[0] = f"far={sums[0]}"
    return "; ".join(definitions)


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


def waves(term: ChargeTerm, order: int = ORDER) -> tuple[float, float]:
    """α [1/nm], where near and far part, and the spacing [nm] of the grid, in any box."""
    square = _largest_square(term)
    near = NEAR_EV_A15 * square / math.sqrt(term.cutoff_A)
    alpha = math.sqrt(math.log(near / NEAR_ERROR_EV_PER_A)) / term.cutoff_A
    far = WAVES_EV_A[order] * square * alpha**2
    spacing_A = (WAVES_ERROR_EV_PER_A / far) ** (1 / order) / alpha
    return alpha / A_TO_NM, spacing_A * A_TO_NM


def grid(term: ChargeTerm, box_nm: Floats, order: int = ORDER) -> list[int]:
    """Points along the vectors of a box (3, 3) for `waves`."""
    spacing = waves(term, order)[1]
    lengths = np.linalg.norm(box_nm, axis=1)
    return [_smooth(max(math.ceil(x / spacing), order)) for x in lengths]


def set_waves(force: openmm.NonbondedForce, term: ChargeTerm, box_nm: Floats) -> None:
    """Choose α and the grid of `waves` in a box (3, 3)."""
    force.setPMEParameters(waves(term)[0], *grid(term, box_nm))


def _largest_square(term: ChargeTerm) -> float:
    return max(LEAST_CHARGE_E, *map(abs, term.coefficients)) ** 2


def _smooth(least: int) -> int:
    """The first number from `least` on without other prime factors than SMOOTH."""
    rest = least
    for prime in SMOOTH:
        while rest % prime == 0:
            rest //= prime
    return least if rest == 1 else _smooth(least + 1)
