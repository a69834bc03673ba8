"""Channels of densities → one CustomGBForce for a set of them, one for every species."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import openmm

from mld_ff.engines.openmm.expressions import kj_per_mol, number
from mld_ff.geometry.topology import Topology
from mld_ff.loss.densities import DensityTerm
from mld_ff.loss.model import AgentLoss
from mld_ff.loss.terms import Term
from mld_ff.trajectory import Floats
from mld_ff.units import A_TO_NM

DENSITY_EXPRESSION = "densities(r+shift)"
EMBEDDING_EXPRESSION = "; ".join(
    [
        "strength*(x*(x+2*beyond) + fading^2*(1-fading/(3*fade)) + (out-fading)*fade)",
        "fading=min(out,fade)",
        "out=abs(beyond)",
        "x=inside-rest",
        "beyond=rho-inside",
        "inside=min(max(rho,low),high)",
    ]
)
"""The parabola in its range; outside, its curvature fades, and it goes on straight."""
NO_PARABOLA = {"strength": 0.0, "rest": 0.0, "low": 0.0, "high": 0.0, "fade": 1.0}
"""What it depends on, with values that cost nothing."""
CUT_OFF_KNOTS = 16
"""A natural cubic spline forgets a jump by a factor of 0.27 for every knot: to 1e-9 with so many.
"""
NeighbourFunction = tuple[DensityTerm, str]
"""A channel and a species of its neighbours."""


@dataclass(frozen=True)
class DensityTranslation:
    """How OpenMM computes one kind of density."""

    tables: Callable[[Sequence[NeighbourFunction]], Floats]
    """Values (K, M) of K functions at M knots r = cutoff - m spacing, m = M - 1, …, 0, of the
    channels' common `grid`: as many as reach the centre, three at least beyond it, where every
    function has to fade out. OpenMM draws a natural cubic spline through them.
    """
    embedding: str
    """Energy [kJ/mol] of an atom over `rho` and the parameters."""
    parameters: Callable[[DensityTerm], Mapping[str, float]]
    """What the embedding of a channel depends on, by name."""
    nothing: Mapping[str, float]
    """Values of the same parameters that cost nothing, for atoms that no channel is centred on."""


def density_sets(
    loss: AgentLoss, topology: Topology
) -> list[tuple[type[Term], dict[str, DensityTerm]]]:
    """What `density_force` makes forces of: the channels of order 0 of a system."""
    sets: list[tuple[type[Term], dict[str, DensityTerm]]] = []
    for channels in loss.channels_of(topology):
        kinds: dict[type[Term], dict[str, DensityTerm]] = {}
        for centre, channel in channels.items():
            kinds.setdefault(type(channel), {})[centre] = channel
        sets += kinds.items()
    return sets


def name_of(channels: Iterable[DensityTerm]) -> str:
    """Of the force that computes them."""
    return " ".join(channel.name for channel in channels)


def density_force(
    kind: type[Term], channels: Mapping[str, DensityTerm], topology: Topology
) -> openmm.CustomGBForce:
    """Channels of one kind and grid, by the species at their centre: one density for each atom, and
    what it costs.

    All functions stand behind each other in one table, so that every pair costs one lookup in one
    dimension.
    """
    species, translation = topology.species, DENSITIES[kind]
    first, *_ = channels.values()
    functions = [
        (channel, neighbour)
        for channel in channels.values()
        for neighbour in species
        if neighbour in channel.neighbours
    ]
    rows = translation.tables(functions)
    shift = "+".join(
        f"{shift_to(k, rows, channel)}*{channel.species[0]}1*{t}2"
        for k, (channel, t) in enumerate(functions)
    )
    force = openmm.CustomGBForce()
    force.setName(name_of(channels.values()))
    for name in (*species, *translation.nothing):
        force.addPerParticleParameter(name)
    force.addTabulatedFunction("densities", joined(rows, first))
    force.addComputedValue(
        "rho",
        f"{DENSITY_EXPRESSION}; shift={shift}",
        openmm.CustomGBForce.ParticlePairNoExclusions,
    )
    force.addEnergyTerm(translation.embedding, openmm.CustomGBForce.SingleParticle)
    parameters = {s: translation.parameters(channel) for s, channel in channels.items()}
    for own in topology.species_index:
        values = parameters.get(species[own], translation.nothing)
        force.addParticle([*np.eye(len(species))[own], *(values[n] for n in translation.nothing)])
    for pairs in topology.bonded.values():
        for i, j in pairs:
            force.addExclusion(int(i), int(j))
    force.setNonbondedMethod(openmm.CustomGBForce.CutoffPeriodic)
    force.setCutoffDistance(first.grid[1] * A_TO_NM)
    return force


def joined(rows: Floats, channel: DensityTerm) -> openmm.Continuous1DFunction:
    """Functions (K, M) on the grid of a channel behind each other (`shift_to`), after a first one
    of zeros, for pairs without a density.
    """
    table = np.concatenate([np.zeros(rows.shape[1] + 1), rows.ravel()])
    spacing, _ = channel.grid
    return openmm.Continuous1DFunction(table, 0.0, (len(table) - 1) * spacing * A_TO_NM)


def shift_to(k: int, rows: Floats, channel: DensityTerm) -> str:
    """What to add to a distance [nm] to find it in function k of those that are `joined`."""
    spacing, cutoff = channel.grid
    return number(((k + 2) * rows.shape[1] * spacing - cutoff) * A_TO_NM)


def sampled_tables(functions: Sequence[NeighbourFunction]) -> Floats:
    """Values of any functions (`DensityTranslation.tables`), as exact as their `grid` is fine.

    Beyond the centre they are cut off, and the spline swings for CUT_OFF_KNOTS to both sides:
    inwards no neighbour is so near, and outwards so many zeros keep it from the next function.
    """
    first, _ = functions[0]
    spacing, cutoff = first.grid
    r = cutoff - spacing * np.arange(math.ceil(cutoff / spacing) + CUT_OFF_KNOTS, -1.0, -1.0)
    rows = [term.density(neighbour, np.maximum(r, 0.0)) for term, neighbour in functions]
    return np.where(r < 0, 0.0, rows)


def _tail_spline_tables(functions: Sequence[NeighbourFunction]) -> Floats:
    """Values of functions that are linear in `tail_splines`.

    Splines fade out inwards too, before the next one's cutoff, with two derivatives; so OpenMM's
    natural cubic spline through these values is the functions themselves.
    """
    first, _ = functions[0]
    every = [np.array(term.coefficients[term.slices[t]]) for term, t in functions]
    reach = math.ceil(first.cutoff_A / first.spacing_A)
    most = max(reach, *(len(coefficients) + 2 for coefficients in every))
    rows = []
    for coefficients in every:
        innermost = coefficients[0] if len(coefficients) else 0.0
        spline = np.concatenate([np.full(most - len(coefficients), innermost), coefficients])
        rows.append(np.append(np.convolve(spline, [1 / 6, 4 / 6, 1 / 6]), 0.0))
    return np.array(rows)


def fading_parabola(channel: DensityTerm) -> dict[str, float]:
    """Parameters of EMBEDDING_EXPRESSION."""
    low, high = channel.range
    return {
        "strength": kj_per_mol(channel.strength_eV),
        "rest": channel.rest,
        "low": low,
        "high": high,
        "fade": channel.fade,
    }


DENSITIES: dict[type[Term], DensityTranslation] = {
    DensityTerm: DensityTranslation(
        _tail_spline_tables,
        EMBEDDING_EXPRESSION,
        fading_parabola,
        NO_PARABOLA,
    )
}
"""Of every kind of density: how OpenMM computes it."""
