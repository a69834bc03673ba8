"""Terms of pairs, and what is near of charges → LAMMPS's pair and bond tables."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np

from mld_ff.geometry.topology import Topology
from mld_ff.loss.bonds import BondTerm
from mld_ff.loss.charges import ChargeTerm
from mld_ff.loss.ewald import near, splitting
from mld_ff.loss.model import AgentLoss
from mld_ff.loss.terms import FreeTerm
from mld_ff.trajectory import Floats
from mld_ff.units import E2_PER_A_TO_EV

PAIR_SPACING_A = 0.001
"""Of the points in the file; every knot and wall edge is among them."""
PAIR_POINTS = 6000
"""Of LAMMPS's own tables, in r²; with this many its spline errs by less than 1e-6 eV/Å."""
PAIR_INNER_A = 0.2
"""LAMMPS stops where a pair comes closer; walls of tens of eV keep everybody away."""
BOND_POINTS = 4000
BOND_MARGIN_A = 1.0
"""Bond tables reach this far beyond the longest sampled distance, and down to BOND_INNER of the
shortest.
"""
BOND_INNER = 0.5
NEAR_WIDTHS = 3.3
"""What is near of charges ends where exp(-NEAR_WIDTHS²) is left of it, 2e-5; the rest are waves."""


@dataclass(frozen=True)
class PairFunction:
    """What atoms of two species do to each other, as one section of pair.table."""

    name: str
    term: FreeTerm | None
    """None where the system has no free pairs of them."""
    product_e2: float
    """Of their charges, whose near part is in the table."""
    alpha: float
    """Where that and the waves part [1/Å]."""
    cutoff_A: float

    def evaluate(self, r: Floats) -> tuple[Floats, Floats]:
        """Energy [eV] at distances (R,) and its derivative."""
        energy, slope = self.term.evaluate(r) if self.term else (0 * r, 0 * r)
        if self.product_e2:
            value, derivative = near(r, self.alpha)
            energy = energy + E2_PER_A_TO_EV * self.product_e2 * value
            slope = slope + E2_PER_A_TO_EV * self.product_e2 * derivative
        return energy, slope


def charges_in_tables(loss: AgentLoss) -> ChargeTerm | None:
    """The charges, if all atoms of an element have the same one: what is near of them then costs
    nothing beside the tables, where `coul/long` takes three times their time (water, 6.2 Å)."""
    return None if loss.charges is None or loss.charges.atom_types else loss.charges


def near_splitting(charges: ChargeTerm) -> float:
    """Where tables and waves part [1/Å]: what is left out beyond the cutoff stays the same."""
    largest = max(1.0, *map(abs, charges.coefficients))
    return splitting(charges.cutoff_A, math.sqrt(NEAR_WIDTHS**2 + 2 * math.log(largest)))


def pair_functions(loss: AgentLoss, topology: Topology) -> dict[tuple[str, str], PairFunction]:
    """Of every two species of the system. Kspace styles want one cutoff of all tables."""
    free, charges = free_terms(loss, topology), charges_in_tables(loss)
    of_species = charges.charges_e if charges else {}
    alpha = near_splitting(charges) if charges else 0.0
    ends = [term.cutoff_A for term in free.values()]
    longest = max(*ends, charges.cutoff_A, 0.0) if charges else 0.0
    functions = {}
    for a, b in combinations_with_replacement(topology.species, 2):
        term = free.get((a, b))
        own = term.cutoff_A if term else loss.cutoff_A
        functions[a, b] = PairFunction(
            name=topology.free_name(a, b),
            term=term,
            product_e2=of_species.get(a, 0.0) * of_species.get(b, 0.0),
            alpha=alpha,
            cutoff_A=longest if charges else own,
        )
    return functions


def pair_table(loss: AgentLoss, topology: Topology) -> str:
    """All functions of pairs as sections named after them; points equally spaced in r."""
    sections = []
    for function in pair_functions(loss, topology).values():
        n = round((function.cutoff_A - PAIR_INNER_A) / PAIR_SPACING_A) + 1
        r = np.linspace(PAIR_INNER_A, function.cutoff_A, n)
        energy, slope = function.evaluate(r)
        header = f"N {len(r)} R {PAIR_INNER_A!r} {function.cutoff_A!r}"
        sections.append(_section(function.name, header, r, energy, -slope))
    return _head("pair") + "\n".join(sections)


def bond_table(loss: AgentLoss, topology: Topology) -> str:
    """All bonded terms of the system as sections named after them, without the waves of charges
    between two bonded atoms; points equally spaced in r.
    """
    sections, charges = [], charges_in_tables(loss)
    for term in bond_terms(loss, topology):
        low, high = term.range_A
        r = np.linspace(BOND_INNER * low, high + BOND_MARGIN_A, BOND_POINTS)
        energy, slope = term.evaluate(r)
        if charges:
            value, derivative = near(r, near_splitting(charges))
            product = math.prod(charges.charges_e[s] for s in (term.path[0], term.path[-1]))
            energy = energy + E2_PER_A_TO_EV * product * (value - 1 / r)
            slope = slope + E2_PER_A_TO_EV * product * (derivative + 1 / r**2)
        curvature = np.gradient(-slope[[0, 1, -2, -1]], r[[0, 1, -2, -1]])[[0, -1]]
        header = f"N {BOND_POINTS} FP {curvature[0]:.15g} {curvature[1]:.15g} EQ {term.r0_A!r}"
        sections.append(_section(term.name, header, r, energy, -slope))
    return _head("bond") + "\n".join(sections)


def free_terms(loss: AgentLoss, topology: Topology) -> dict[tuple[str, str], FreeTerm]:
    """Terms of the free pairs that the system holds, by species."""
    terms, by_species = loss.terms_of(topology), {}
    for pair, name in topology.free_names.items():
        term = terms[name]
        assert isinstance(term, FreeTerm)
        by_species[pair] = term
    return by_species


def bond_terms(loss: AgentLoss, topology: Topology) -> list[BondTerm]:
    """In the order of LAMMPS's bond types."""
    terms = loss.terms_of(topology)
    return [t for name in topology.bonded_names.values() if isinstance(t := terms[name], BondTerm)]


def _head(what: str) -> str:
    return (
        f"# UNITS: metal\n# {what} tables written by mld_ff: index, r [angstrom], energy [eV],"
        " force [eV/angstrom]\n\n"
    )


def _section(name: str, header: str, r: Floats, energy: Floats, force: Floats) -> str:
    """One table.

    LAMMPS warns of a force outside the slopes of the energy to both sides, where the exact one lies
    at each of its extrema: there it is brought to the nearer slope, a change of second order in the
    spacing.
    """
    slopes = -np.diff(energy) / np.diff(r)
    low, high = np.minimum(slopes[1:], slopes[:-1]), np.maximum(slopes[1:], slopes[:-1])
    inset = 0.01 * (high - low)  # clear of the rounding of printed digits
    force = np.concatenate([force[:1], np.clip(force[1:-1], low + inset, high - inset), force[-1:]])
    rows = zip(r.tolist(), energy.tolist(), force.tolist(), strict=True)
    lines = [f"{k} {x:.15g} {e:.15g} {f:.15g}" for k, (x, e, f) in enumerate(rows, 1)]
    return "\n".join([name, header, "", *lines, ""])
