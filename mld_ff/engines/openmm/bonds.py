"""Bonded terms → a CustomBondForce each."""

from __future__ import annotations

from collections.abc import Callable

import openmm

from mld_ff.engines.openmm.expressions import kj_per_mol, number
from mld_ff.loss.bonds import BondTerm
from mld_ff.loss.terms import Term
from mld_ff.loss.walls import Wall
from mld_ff.trajectory import Ints
from mld_ff.units import A_TO_NM

BOND_EXPRESSION = "select(step(r-({low})), select(step(({high})-r), {inside}, {above}), {below})"


def bond_force(term: BondTerm, pairs: Ints) -> openmm.CustomBondForce:
    """The force of one bonded term on its pairs (P, 2)."""
    inside = BOND_ENERGIES[type(term)](term)
    below, above = (_wall_expression(wall) for wall in term.walls)
    low, high = (number(edge * A_TO_NM) for edge in term.range_A)
    force = openmm.CustomBondForce(
        BOND_EXPRESSION.format(low=low, high=high, inside=inside, above=above, below=below)
    )
    force.setName(term.name)
    force.setUsesPeriodicBoundaryConditions(True)
    for i, j in pairs:
        force.addBond(int(i), int(j))
    return force


def _wall_expression(wall: Wall) -> str:
    edge = number(wall.edge_A * A_TO_NM)
    depth = f"({edge}-r)" if wall.inward > 0 else f"(r-{edge})"
    taylor = (wall.energy, wall.force, wall.curvature / 2, wall.stiffness_eV_per_A3)
    e, f, k, s = (number(kj_per_mol(value, power)) for power, value in enumerate(taylor))
    return f"({e}) + {depth}*(({f}) + {depth}*(({k}) + {depth}*({s})))"


def _polynomial(term: BondTerm) -> str:
    r0 = number(term.r0_A * A_TO_NM)
    parts = [
        f"({number(kj_per_mol(c, power))})*(r-{r0})^{power}"
        for power, c in enumerate(term.coefficients, 1)
    ]
    return "+".join(parts)


BOND_ENERGIES: dict[type[Term], Callable[[BondTerm], str]] = {BondTerm: _polynomial}
"""Of every kind of bonded term: the energy [kJ/mol] over r [nm] inside the sampled range."""
