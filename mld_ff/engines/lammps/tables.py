"""Terms of pairs → LAMMPS's pair and bond tables."""

from __future__ import annotations

import numpy as np

from mld_ff.geometry.topology import Topology
from mld_ff.loss.bonds import BondTerm
from mld_ff.loss.model import AgentLoss
from mld_ff.loss.terms import FreeTerm
from mld_ff.trajectory import Floats

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
NOTHING = "nothing"
"""Section for pairs that no term is of."""


def pair_table(loss: AgentLoss, topology: Topology) -> str:
    """All free terms of the system as sections named after them; points equally spaced in r."""
    sections = []
    for term in free_terms(loss, topology).values():
        n = round((term.cutoff_A - PAIR_INNER_A) / PAIR_SPACING_A) + 1
        r = np.linspace(PAIR_INNER_A, term.cutoff_A, n)
        energy, slope = term.evaluate(r)
        header = f"N {len(r)} R {PAIR_INNER_A!r} {term.cutoff_A!r}"
        sections.append(_section(term.name, header, r, energy, -slope))
    r = np.linspace(PAIR_INNER_A, loss.cutoff_A, 10)
    header = f"N 10 R {PAIR_INNER_A!r} {loss.cutoff_A!r}"
    sections.append(_section(NOTHING, header, r, np.zeros(10), np.zeros(10)))
    return _head("pair") + "\n".join(sections)


def bond_table(loss: AgentLoss, topology: Topology) -> str:
    """All bonded terms of the system as sections named after them; points equally spaced in r."""
    sections = []
    for term in bond_terms(loss, topology):
        low, high = term.range_A
        r = np.linspace(BOND_INNER * low, high + BOND_MARGIN_A, BOND_POINTS)
        energy, slope = term.evaluate(r)
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
