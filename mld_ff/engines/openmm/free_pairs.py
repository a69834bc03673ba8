"""Free terms → one CustomNonbondedForce for all terms of one kind and layout."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import openmm

from mld_ff.engines.openmm.expressions import (
    SPECIES_PAIR,
    by_species,
    kj_per_mol,
    number,
    species_products,
)
from mld_ff.geometry.topology import Topology
from mld_ff.loss.free_pairs import PowerTerm, SplineTerm
from mld_ff.loss.model import AgentLoss
from mld_ff.loss.terms import FreeTerm, Term
from mld_ff.trajectory import Floats
from mld_ff.units import A_TO_NM, EV_TO_KJ_PER_MOL

WALLED_EXPRESSION = "{inside} + x*(force + x*(halfcurvature + x*stiffness))"
"""Energy at y = r, or at the wall's edge with the wall of depth x on top."""
SPLINE_EXPRESSION = "; ".join(
    [
        (
            "c0*(1-u)^3 + c1*(4+u*u*(3*u-6)) + c2*(1+3*u*(1+u*(1-u))) + c3*u^3 +"
            " stiffness*max(0,edge-r)^3"
        ),
        "{coefficients}u=t-m",
        "m=min(floor(t),{innermost})",
        "t=({cutoff}-r)/{spacing}",
    ]
)
"""The four cubic B-splines that overlap the interval m, counted from the cutoff inwards; the wall's
cubic on top.
"""
TABLE_SPACING_A = 0.005
"""Cubic splines through exp(-r / 0.5 Å) this far apart miss its slope by less than 1e-6 of it."""
KNOTS_BEYOND_EDGE = 12
"""OpenMM's splines have no curvature at their ends; a quarter of that error is left a knot on."""


def free_sets(loss: AgentLoss, topology: Topology) -> list[list[FreeTerm]]:
    """Free terms of the system's species, those of one kind and layout together."""
    alike: dict[tuple[Any, ...], list[FreeTerm]] = {}
    for term in loss.free_terms:
        if set(term.species) <= set(topology.species):
            alike.setdefault((type(term), term.layout), []).append(term)
    return list(alike.values())


def free_force(
    kind: type[Term], terms: Sequence[FreeTerm], topology: Topology
) -> openmm.CustomNonbondedForce:
    """The force of free terms of one kind and layout on all pairs but the bonded ones."""
    species = topology.species
    force = FREE_FORCES.get(kind, tabulated_force)(terms, species)
    force.setName(" ".join(term.name for term in terms))
    for name in species:
        force.addPerParticleParameter(name)
    for own in topology.species_index:
        force.addParticle(np.eye(len(species))[own])
    for pairs in topology.bonded.values():
        for i, j in pairs:
            force.addExclusion(int(i), int(j))
    force.setNonbondedMethod(openmm.CustomNonbondedForce.CutoffPeriodic)
    force.setCutoffDistance(max(term.cutoff_A for term in terms) * A_TO_NM)
    return force


def _definitions(
    values: Mapping[str, Sequence[float]], terms: Sequence[FreeTerm], species: Sequence[str]
) -> list[str]:
    """A definition for every name, whose values are those of the terms."""
    definitions = []
    for name, of_terms in values.items():
        of_pairs: dict[SPECIES_PAIR, float] = {}
        for term, value in zip(terms, of_terms, strict=True):
            of_pairs[term.species] = of_pairs[term.species[::-1]] = value
        definitions.append(by_species(name, of_pairs, species))
    return definitions


def walled_force(
    inside: str,
    coefficients: Mapping[str, Sequence[float]],
    terms: Sequence[FreeTerm],
    species: Sequence[str],
) -> openmm.CustomNonbondedForce:
    """A force of free terms whose energy [kJ/mol] in the sampled range is `inside`, an expression
    over y [nm].

    coefficients: by name, a value for each of the terms. Below the terms' wall edges the walls are
    added.
    """
    walls = [term.walls[0] for term in terms]
    of_walls = {
        "edge": [wall.edge_A * A_TO_NM for wall in walls],
        "force": [kj_per_mol(wall.force, 1) for wall in walls],
        "halfcurvature": [kj_per_mol(wall.curvature / 2, 2) for wall in walls],
        "stiffness": [kj_per_mol(wall.stiffness_eV_per_A3, 3) for wall in walls],
    }
    energy, *rest = (part.strip() for part in inside.split(";"))
    parts = [
        WALLED_EXPRESSION.format(inside=energy),
        *rest,
        "x=max(0,edge-r)",
        "y=max(r,edge)",
        *_definitions({**coefficients, **of_walls}, terms, species),
        species_products(species),
    ]
    return openmm.CustomNonbondedForce("; ".join(parts))


def tabulated_force(
    terms: Sequence[FreeTerm], species: Sequence[str]
) -> openmm.CustomNonbondedForce:
    """A force of terms of any kind, as tables: what serves a kind that has no expression.

    Every pair looks up the table of every term, one by one: slower than an expression.
    """
    energies = [f"on{k}*table{k}(y)" for k in range(len(terms))]
    own = np.eye(len(terms))
    force = walled_force(
        "+".join(energies), {f"on{k}": own[k] for k in range(len(terms))}, terms, species
    )
    for k, term in enumerate(terms):
        inside_A = term.cutoff_A - term.wall_edge_A
        knots = math.ceil(inside_A / TABLE_SPACING_A) + KNOTS_BEYOND_EDGE
        r = term.cutoff_A - TABLE_SPACING_A * np.arange(knots, -1.0, -1.0)
        r = r[r > 0]
        values = term.basis(r) @ term.coefficients * EV_TO_KJ_PER_MOL
        table = openmm.Continuous1DFunction(values, r[0] * A_TO_NM, r[-1] * A_TO_NM)
        force.addTabulatedFunction(f"table{k}", table)
    return force


def _power_force(terms: Sequence[FreeTerm], species: Sequence[str]) -> openmm.CustomNonbondedForce:
    first = terms[0]
    assert isinstance(first, PowerTerm)
    names = [name.translate(str.maketrans("-,.", "m_p")) for name in first.coefficient_names]
    invariant = {n: f"q{k + 1}" for k, n in enumerate(first.exponents)}
    products = ["*".join(invariant[n] for n in product) for product in first.products]
    parts = [" + ".join(f"{name}*{product}" for name, product in zip(names, products, strict=True))]
    parts += [f"{q}=S*y^({number(-n)})" for n, q in invariant.items()]
    parts.append(f"S=(1-(y/{number(first.cutoff_A * A_TO_NM)})^2)^3")
    coefficients = {
        name: [kj_per_mol(term.coefficients[k], -sum(product)) for term in terms]
        for k, (name, product) in enumerate(zip(names, first.products, strict=True))
    }
    return walled_force("; ".join(parts), coefficients, terms, species)


def _spline_force(terms: Sequence[FreeTerm], species: Sequence[str]) -> openmm.CustomNonbondedForce:
    """Splines of one cutoff and spacing by arithmetic, because the CPU platform does that for four
    or eight pairs at once, but looks tables up one by one.
    """
    first = terms[0]
    assert isinstance(first, SplineTerm)
    intervals = max(len(_inwards(term)) for term in terms) - 3
    rows = np.array([_inwards(term, intervals) for term in terms])
    cubic = np.diff(rows, 3)[:, -1] / (first.spacing_A * A_TO_NM) ** 3
    values = {f"k{k}": column for k, column in enumerate(rows.T)}
    values |= {
        "edge": [term.wall_edge_A * A_TO_NM for term in terms],
        "stiffness": [kj_per_mol(term.wall_stiffness_eV_per_A3, 3) for term in terms] - cubic,
    }
    definitions = [*_definitions(values, terms, species), *_choice_of_four(intervals)]
    expression = SPLINE_EXPRESSION.format(
        # what a definition depends on stands behind it
        coefficients="".join(definition + "; " for definition in reversed(definitions)),
        innermost=intervals - 1,
        cutoff=number(first.cutoff_A * A_TO_NM),
        spacing=number(first.spacing_A * A_TO_NM),
    )
    return openmm.CustomNonbondedForce("; ".join([expression, species_products(species)]))


def _choice_of_four(intervals: int) -> list[str]:
    """Definitions of c0 to c3, the coefficients among k0, k1, … that overlap the interval m.

    Every binary digit of m, from the highest on, halves the knots to choose from, until the four
    are left.
    """
    definitions = []
    left = [f"k{k}" for k in range(intervals + 3)]
    for bit in (1 << k for k in reversed(range((intervals - 1).bit_length()))):
        definitions.append(f"bit{bit}=floor(m/{bit})-2*floor(m/{2 * bit})")
        for k, further in enumerate(left[bit : 2 * bit + 3]):
            definitions.append(f"k{k}_{bit}=select(bit{bit},{further},{left[k]})")
            left[k] = f"k{k}_{bit}"
        left = left[: bit + 3]
    return definitions + [f"c{k}={name}" for k, name in enumerate(left)]


def _inwards(term: FreeTerm, intervals: int = 0) -> Floats:
    """A sixth of a spline's coefficients [kJ/mol] at knots from the one beyond the cutoff inwards;
    from the wall's edge on, those of the cubic there.
    """
    assert isinstance(term, SplineTerm)
    own = max(1, math.ceil((term.cutoff_A - term.wall_edge_A) / term.spacing_A - 1e-9))
    padded = np.concatenate([np.zeros(3), term.coefficients[::-1], np.zeros(own)])
    sixths = padded[: own + 3] * EV_TO_KJ_PER_MOL / 6
    while len(sixths) < intervals + 3:
        sixths = np.append(sixths, [4, -6, 4, -1] @ sixths[:-5:-1])
    return sixths


FREE_FORCES: dict[
    type[Term], Callable[[Sequence[FreeTerm], Sequence[str]], openmm.CustomNonbondedForce]
] = {
    PowerTerm: _power_force,
    SplineTerm: _spline_force,
}
"""Kinds of free terms that have an expression, and its force for all terms of one layout; any other
kind becomes tables.
"""
