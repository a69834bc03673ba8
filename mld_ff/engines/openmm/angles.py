"""Channels of densities with angles → a CustomManyParticleForce for pairs of neighbours, and a
CustomGBForce for neighbours by themselves.

Both are OpenMM's own, run on any platform, and stand in system.xml and forcefield.xml as numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import openmm

from mld_ff.engines.openmm.densities import DENSITIES, joined, name_of, shift_to
from mld_ff.engines.openmm.expressions import kj_per_mol, number
from mld_ff.geometry.topology import Topology
from mld_ff.loss.densities import DensityTerm
from mld_ff.loss.model import AgentLoss
from mld_ff.trajectory import Floats
from mld_ff.units import A_TO_NM

OF_ANGLE = {1: "cosine", 2: "(cosine^2-1/3)"}
"""By order: the product of the tensors of two directions."""
OF_NONE = {1: 1.0, 2: 2 / 3}
"""That of a direction with itself."""
SINGLE = " of single neighbours"
"""Ends the name of the second force."""


def angular_sets(loss: AgentLoss, topology: Topology) -> list[list[DensityTerm]]:
    """What `angular_forces` makes forces of: the channels of order 1 and 2 of a system, by kind,
    grid and what has a function. Channels without strength are left out.
    """
    sets: dict[tuple[Any, ...], list[DensityTerm]] = {}
    for channel in loss.angular_channels:
        if channel.strength_eV and _pairs_of(channel, topology):
            key = type(channel), channel.grid, channel.neighbours
            sets.setdefault(key, []).append(channel)
    return list(sets.values())


def angular_forces(channels: Sequence[DensityTerm], topology: Topology) -> list[openmm.Force]:
    """What a set of channels costs: strength V·V = strength Σ_jk φ(r_ij) φ(r_ik) cos θ, and T:T
    likewise with cos² θ - ⅓, summed over two neighbours and over one.

    As in densities of order 0 all functions of a channel stand behind each other in one table.
    """
    first, pairs = channels[0], _pairs_of(channels[0], topology)
    translation = DENSITIES[type(first)]
    rows = translation.tables([(channel, pair) for channel in channels for pair in pairs])
    tables = rows.reshape(len(channels), len(pairs), -1)
    two, one = _of_two_neighbours(channels, topology, tables), _of_one(channels, topology, tables)
    for force in (two, one):
        for name in topology.species:
            force.addPerParticleParameter(name)
        for own in topology.species_index:
            force.addParticle(np.eye(len(topology.species))[own])
        for k, table in enumerate(tables):
            force.addTabulatedFunction(f"channel{k}", joined(table, first))
        force.setNonbondedMethod(force.CutoffPeriodic)
        force.setCutoffDistance(first.grid[1] * A_TO_NM)
    for bonded in topology.bonded.values():
        for i, j in bonded:
            one.addExclusion(int(i), int(j))
    return [two, one]


def angular_names(channels: Sequence[DensityTerm]) -> list[str]:
    """Of the forces of a set."""
    return [name_of(channels), name_of(channels) + SINGLE]


def _pairs_of(channel: DensityTerm, topology: Topology) -> list[str]:
    """Pairs of species in the system that have a function."""
    return [pair for pair in channel.neighbours if set(pair.split("-")) <= set(topology.species)]


def _of_two_neighbours(
    channels: Sequence[DensityTerm], topology: Topology, tables: Floats
) -> openmm.CustomManyParticleForce:
    """Every two neighbours of an atom once, bonded ones too."""
    energies = [
        f"{number(2 * kj_per_mol(channel.strength_eV))}*channel{k}(x2)*channel{k}(x3)"
        f"*{OF_ANGLE[channel.order]}"
        for k, channel in enumerate(channels)
    ]
    distances = [
        f"x{other}=distance(p1,p{other})+{_shift(channels[0], topology, tables[0], other)}"
        for other in (2, 3)
    ]
    force = openmm.CustomManyParticleForce(
        3, "; ".join(["+".join(energies), "cosine=cos(angle(p2,p1,p3))", *distances])
    )
    force.setPermutationMode(force.UniqueCentralParticle)
    force.setName(angular_names(channels)[0])
    return force


def _of_one(
    channels: Sequence[DensityTerm], topology: Topology, tables: Floats
) -> openmm.CustomGBForce:
    """Every neighbour of an atom with itself: a density of order 0 that costs what it is. Unlike a
    CustomNonbondedForce it takes bonded pairs in, which all forces must exclude alike.
    """
    squares = [
        f"{number(kj_per_mol(channel.strength_eV) * OF_NONE[channel.order])}*channel{k}(x)^2"
        for k, channel in enumerate(channels)
    ]
    force = openmm.CustomGBForce()
    force.addComputedValue(
        "squares",
        "; ".join(["+".join(squares), f"x=r+{_shift(channels[0], topology, tables[0], 2)}"]),
        force.ParticlePairNoExclusions,
    )
    force.addEnergyTerm("squares", force.SingleParticle)
    force.setName(angular_names(channels)[1])
    return force


def _shift(channel: DensityTerm, topology: Topology, rows: Floats, other: int) -> str:
    """Where the functions of particles 1 and `other` begin in the tables."""
    parts = []
    for k, pair in enumerate(_pairs_of(channel, topology)):
        a, b = pair.split("-")
        of_pair = f"{a}1*{a}{other}" if a == b else f"({a}1*{b}{other}+{b}1*{a}{other})"
        parts.append(f"{shift_to(k, rows, channel)}*{of_pair}")
    return "+".join(parts)
