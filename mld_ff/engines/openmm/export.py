"""Loss → OpenMM: Forces with readable expressions, and the files that run without mld_ff."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from io import StringIO
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Any

import numpy as np
import openmm
from openmm import app, unit

from mld_ff.engines.openmm.forcefield import forcefield_xml
from mld_ff.engines.start import Start
from mld_ff.errors import check_positive
from mld_ff.files import read_template, write_atomically
from mld_ff.geometry.system import System
from mld_ff.geometry.topology import Topology
from mld_ff.loss.densities import DensityTerm
from mld_ff.loss.model import AgentLoss
from mld_ff.loss.terms import BondTerm, FreeTerm, PowerTerm, SplineTerm, Term
from mld_ff.loss.walls import Wall
from mld_ff.trajectory import Floats, Ints
from mld_ff.units import (
    A_PER_FS_TO_NM_PER_PS,
    A_TO_NM,
    AMU_A2_PER_FS2_TO_EV,
    EV_TO_KJ_PER_MOL,
    FS_TO_PS,
)

SPECIES_PAIR = tuple[str, str]
CENTRE_OF_MASS_EVERY = 100
"""Steps between removals of the centre-of-mass motion; its presence makes OpenMM count 3N - 3
degrees of freedom.
"""

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
BOND_EXPRESSION = "select(step(r-({low})), select(step(({high})-r), {inside}, {above}), {below})"


def openmm_system(loss: AgentLoss, start: Start) -> openmm.System:
    """System with one Force per bonded term, one per kind of free term and one per set of channels,
    named after their terms.

    Raises InputError if the model does not cover the system, or the cutoff is longer than half the
    cell.
    """
    start.check(loss)
    topology, cell = start.topology, start.frame.cell[0]
    system = openmm.System()
    system.setDefaultPeriodicBoxVectors(*(openmm.Vec3(*row) for row in cell * A_TO_NM))
    for mass in start.frame.masses:
        system.addParticle(float(mass))
    groups: dict[float, int] = {}
    for force in forces_of(loss, topology):
        if isinstance(
            force, (openmm.CustomNonbondedForce, openmm.CustomGBForce)
        ):  # GPUs: one cutoff in a group
            force.setForceGroup(groups.setdefault(force.getCutoffDistance()._value, len(groups)))
        system.addForce(force)
    remover = openmm.CMMotionRemover(CENTRE_OF_MASS_EVERY)
    remover.setName("centre of mass at rest")
    system.addForce(remover)
    return system


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
        forces.append(_bond_force(term, topology.bonded[path]))
    alike: dict[tuple[Any, ...], list[FreeTerm]] = {}
    for term in loss.free_terms:
        if set(term.species) <= set(topology.species):
            alike.setdefault((type(term), term.layout), []).append(term)
    forces += [_free_force(kind, members, topology) for (kind, _), members in alike.items()]
    return forces + [_density_force(channels, topology) for channels in loss.channels_of(topology)]


def _number(value: float) -> str:
    return repr(float(value))


def _energy(value: float, per_length: float = 0) -> float:
    """A coefficient in eV Å^-per_length as kJ/mol nm^-per_length."""
    return float(value * EV_TO_KJ_PER_MOL / A_TO_NM**per_length)


def _wall_expression(wall: Wall) -> str:
    edge = _number(wall.edge_A * A_TO_NM)
    depth = f"({edge}-r)" if wall.inward > 0 else f"(r-{edge})"
    c = [wall.energy, wall.force, wall.curvature / 2, wall.stiffness_eV_per_A3]
    e, f, k, s = (_number(_energy(value, m)) for m, value in enumerate(c))
    return f"({e}) + {depth}*(({f}) + {depth}*(({k}) + {depth}*({s})))"


def _bond_force(term: BondTerm, pairs: Ints) -> openmm.CustomBondForce:
    inside = BOND_ENERGIES[type(term)](term)
    below, above = (_wall_expression(w) for w in term.walls)
    low, high = (_number(edge * A_TO_NM) for edge in term.range_A)
    force = openmm.CustomBondForce(
        BOND_EXPRESSION.format(low=low, high=high, inside=inside, above=above, below=below)
    )
    force.setName(term.name)
    force.setUsesPeriodicBoundaryConditions(True)
    for i, j in pairs:
        force.addBond(int(i), int(j))
    return force


def _polynomial(term: BondTerm) -> str:
    return "".join(
        f"{'+' if m > 1 else ''}({_number(_energy(c, m))})*(r-{_number(term.r0_A * A_TO_NM)})^{m}"
        for m, c in enumerate(term.coefficients, 1)
    )


BOND_ENERGIES: dict[type[Term], Callable[[BondTerm], str]] = {BondTerm: _polynomial}
"""Of every kind of bonded term: the energy [kJ/mol] over r [nm] inside the sampled range."""


def _free_force(
    kind: type[Term], terms: Sequence[FreeTerm], topology: Topology
) -> openmm.CustomNonbondedForce:
    force = FREE_FORCES[kind](terms, topology.species)
    force.setName(" ".join(t.name for t in terms))
    for species in topology.species:
        force.addPerParticleParameter(species)
    for s in topology.species_index:
        force.addParticle(np.eye(len(topology.species))[s])
    for pairs in topology.bonded.values():
        for i, j in pairs:
            force.addExclusion(int(i), int(j))
    force.setNonbondedMethod(openmm.CustomNonbondedForce.CutoffPeriodic)
    force.setCutoffDistance(max(t.cutoff_A for t in terms) * A_TO_NM)
    return force


def _by_species(name: str, values: Mapping[SPECIES_PAIR, float], species: Sequence[str]) -> str:
    """A definition `name=value` that depends on the species of both particles.

    Every particle has one parameter per species, 1 for its own and 0 for the others; products of
    them are cheaper than a lookup and vectorise on the CPU platform.
    """
    parts = [
        f"({_number(values[a, b])})*{a}{b}"
        for a, b in combinations_with_replacement(species, 2)
        if values.get((a, b))
    ]
    return f"{name}=" + ("+".join(parts) or "0")


def _species_products(species: Sequence[str]) -> str:
    return "; ".join(
        f"{a}{b}={a}1*{b}2" if a == b else f"{a}{b}={a}1*{b}2+{b}1*{a}2"
        for a, b in combinations_with_replacement(species, 2)
    )


def _pairwise(terms: Sequence[FreeTerm], values: Sequence[float]) -> dict[SPECIES_PAIR, float]:
    found: dict[SPECIES_PAIR, float] = {}
    for t, value in zip(terms, values, strict=True):
        found[t.species] = found[t.species[::-1]] = value
    return found


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
    walls = [t.walls[0] for t in terms]
    of_walls = {
        "edge": [w.edge_A * A_TO_NM for w in walls],
        "force": [_energy(w.force, 1) for w in walls],
        "halfcurvature": [_energy(w.curvature / 2, 2) for w in walls],
        "stiffness": [_energy(w.stiffness_eV_per_A3, 3) for w in walls],
    }
    values = {**coefficients, **of_walls}
    definitions = [
        _by_species(name, _pairwise(terms, value), species) for name, value in values.items()
    ]
    energy, *rest = (part.strip() for part in inside.split(";"))
    parts = [
        WALLED_EXPRESSION.format(inside=energy),
        *rest,
        "x=max(0,edge-r)",
        "y=max(r,edge)",
        *definitions,
    ]
    return openmm.CustomNonbondedForce("; ".join([*parts, _species_products(species)]))


def _power_force(terms: Sequence[FreeTerm], species: Sequence[str]) -> openmm.CustomNonbondedForce:
    first = terms[0]
    assert isinstance(first, PowerTerm)
    names = [c.translate(str.maketrans("-,.", "m_p")) for c in first.coefficient_names]
    invariant = {n: f"q{k + 1}" for k, n in enumerate(first.exponents)}
    products = ["*".join(invariant[n] for n in p) for p in first.products]
    parts = [" + ".join(f"{name}*{product}" for name, product in zip(names, products, strict=True))]
    parts += [f"{q}=S*y^({_number(-n)})" for n, q in invariant.items()]
    parts.append(f"S=(1-(y/{_number(first.cutoff_A * A_TO_NM)})^2)^3")
    coefficients = {
        name: [_energy(t.coefficients[k], -sum(product)) for t in terms]
        for k, (name, product) in enumerate(zip(names, first.products, strict=True))
    }
    return walled_force("; ".join(parts), coefficients, terms, species)


def _spline_force(terms: Sequence[FreeTerm], species: Sequence[str]) -> openmm.CustomNonbondedForce:
    """Splines of one cutoff and spacing by arithmetic, because the CPU platform does that for four
    or eight pairs at once, but looks tables up one by one.

    Each binary digit of m halves the knots to choose from, until the four of the interval are left.
    """
    first = terms[0]
    assert isinstance(first, SplineTerm)
    intervals = max(len(_inwards(t)) for t in terms) - 3
    rows = np.array([_inwards(t, intervals) for t in terms])
    cubic = np.diff(rows, 3)[:, -1] / (first.spacing_A * A_TO_NM) ** 3
    values = {f"k{k}": column for k, column in enumerate(rows.T)}
    values |= {
        "edge": [t.wall_edge_A * A_TO_NM for t in terms],
        "stiffness": [_energy(t.wall_stiffness_eV_per_A3, 3) for t in terms] - cubic,
    }
    definitions = [
        _by_species(name, _pairwise(terms, value), species) for name, value in values.items()
    ]
    left = [f"k{k}" for k in range(intervals + 3)]
    for bit in (1 << k for k in reversed(range((intervals - 1).bit_length()))):
        definitions.append(f"bit{bit}=floor(m/{bit})-2*floor(m/{2 * bit})")
        for k, further in enumerate(left[bit : 2 * bit + 3]):
            definitions.append(f"k{k}_{bit}=select(bit{bit},{further},{left[k]})")
            left[k] = f"k{k}_{bit}"
        left = left[: bit + 3]
    definitions += [f"c{k}={name}" for k, name in enumerate(left)]
    expression = SPLINE_EXPRESSION.format(
        coefficients="".join(d + "; " for d in reversed(definitions)),
        innermost=intervals - 1,
        cutoff=_number(first.cutoff_A * A_TO_NM),
        spacing=_number(first.spacing_A * A_TO_NM),
    )
    return openmm.CustomNonbondedForce("; ".join([expression, _species_products(species)]))


def _inwards(term: FreeTerm, intervals: int = 0) -> Floats:
    """A sixth of a spline's coefficients [kJ/mol] at knots from the one beyond the cutoff inwards;
    from the wall's edge on, those of the cubic there.
    """
    assert isinstance(term, SplineTerm)
    own = max(1, math.ceil((term.cutoff_A - term.wall_edge_A) / term.spacing_A - 1e-9))
    c = (
        np.concatenate([np.zeros(3), term.coefficients[::-1], np.zeros(own)])[: own + 3]
        * EV_TO_KJ_PER_MOL
        / 6
    )
    while len(c) < intervals + 3:
        c = np.append(c, [4, -6, 4, -1] @ c[:-5:-1])
    return c


FREE_FORCES: dict[
    type[Term], Callable[[Sequence[FreeTerm], Sequence[str]], openmm.CustomNonbondedForce]
] = {
    PowerTerm: _power_force,
    SplineTerm: _spline_force,
}
"""Of every kind of free term: a force with the expression for all terms of one layout."""


def _density_force(channels: Mapping[str, DensityTerm], topology: Topology) -> openmm.CustomGBForce:
    """A channel of every species: one density for each atom, and what it costs.

    All densities stand behind each other in one table, so that every pair costs one lookup in one
    dimension.
    """
    species = topology.species
    (spacing, cutoff), *_ = {t.grid for t in channels.values()}
    kinds = [
        (centre, t)
        for centre, channel in channels.items()
        for t in species
        if t in channel.neighbours
    ]
    coefficients = [
        np.array(channels[centre].coefficients[channels[centre].slices[t]]) for centre, t in kinds
    ]
    table, length = _in_a_row(coefficients, math.ceil(cutoff / spacing))
    shift = {
        kind: ((k + 1) * length * spacing - cutoff) * A_TO_NM for k, kind in enumerate(kinds, 1)
    }
    force = openmm.CustomGBForce()
    force.setName(" ".join(t.name for t in channels.values()))
    parameters = ("strength", "rest", "low", "high", "fade")
    for name in (*species, *parameters):
        force.addPerParticleParameter(name)
    end = (len(table) - 1) * spacing * A_TO_NM
    force.addTabulatedFunction("densities", openmm.Continuous1DFunction(table, 0.0, end))
    of_pair = "+".join(f"{_number(x)}*{a}1*{b}2" for (a, b), x in shift.items())
    expression = f"{DENSITY_EXPRESSION}; shift={of_pair}"
    force.addComputedValue("rho", expression, openmm.CustomGBForce.ParticlePairNoExclusions)
    force.addEnergyTerm(EMBEDDING_EXPRESSION, openmm.CustomGBForce.SingleParticle)
    nothing = (0.0, 0.0, 0.0, 0.0, 1.0)
    embeddings = {
        s: (_energy(t.strength_eV), t.rest, *t.range, t.fade) for s, t in channels.items()
    }
    for k in topology.species_index:
        force.addParticle([*np.eye(len(species))[k], *embeddings.get(species[k], nothing)])
    for pairs in topology.bonded.values():
        for i, j in pairs:
            force.addExclusion(int(i), int(j))
    force.setNonbondedMethod(openmm.CustomGBForce.CutoffPeriodic)
    force.setCutoffDistance(cutoff * A_TO_NM)
    return force


def _in_a_row(every: Sequence[Floats], reach: int) -> tuple[Floats, int]:
    """Values at the knots of functions (linear in `tail_splines`) behind each other, and the number
    of knots of each.

    The first is zero, for pairs without a density. `reach` knots lie between the centre and the
    cutoff. Splines fade out inwards too, before the next one's cutoff, with two derivatives; so
    OpenMM's natural cubic spline through these values is the functions themselves.
    """
    most = max(reach, *(len(c) + 2 for c in every))
    parts = [np.zeros(most + 3)]
    for c in every:
        first = c[0] if len(c) else 0.0
        spline = np.concatenate([np.full(most - len(c), first), c])
        parts.append(np.append(np.convolve(spline, [1 / 6, 4 / 6, 1 / 6]), 0.0))
    return np.concatenate([[0.0], *parts]), most + 3


def export_openmm(
    loss: AgentLoss,
    start: Start,
    directory: Path | str,
    temperature_K: float = 300.0,
    timestep_fs: float = 0.5,
    damping_fs: float = 100.0,
) -> list[Path]:
    """Write system.xml, topology.pdb, state.xml, integrator.xml, run.py and forcefield.xml.

    state.xml holds positions, box, and the velocities of half a timestep before, as a leap-frog
    wants them.

    `damping_fs` is the time constant of the Nosé–Hoover chain: CP2K's TIMECON, LAMMPS's Tdamp, the
    inverse of OpenMM's collisionFrequency. forcefield.xml is left out where an element has atoms of
    different mass, which a ForceField does not tell apart. Returns the files. Raises InputError as
    `openmm_system` does.
    """
    check_positive(temperature_K=temperature_K, timestep_fs=timestep_fs, damping_fs=damping_fs)
    system = openmm_system(loss, start)
    integrator = openmm.NoseHooverIntegrator(
        temperature_K, 1 / (damping_fs * FS_TO_PS), timestep_fs * FS_TO_PS
    )
    structure = start.structure
    pdb = StringIO()
    app.PDBFile.writeFile(structure.topology, structure.positions, pdb)
    texts = {
        "system.xml": openmm.XmlSerializer.serialize(system),
        "integrator.xml": openmm.XmlSerializer.serialize(integrator),
        "state.xml": openmm.XmlSerializer.serialize(_state(loss, start, timestep_fs)),
        "topology.pdb": pdb.getvalue(),
        "run.py": read_template("run.py"),
    }
    if len(set(zip(start.topology.symbols, start.frame.masses.tolist(), strict=True))) == len(
        start.topology.species
    ):
        texts["forcefield.xml"] = forcefield_xml(loss, start, system.getForces())
    for name, text in texts.items():
        write_atomically(Path(directory) / name, text)
    return [Path(directory) / name for name in texts]


def _state(loss: AgentLoss, start: Start, timestep_fs: float) -> openmm.State:
    """Positions, box, and velocities of half a timestep earlier, which OpenMM's leap-frog
    integrators start from.

    Only a Context makes a State, so one without forces does, and nothing runs.
    """
    system = openmm.System()
    system.setDefaultPeriodicBoxVectors(
        *(openmm.Vec3(*row) for row in start.frame.cell[0] * A_TO_NM)
    )
    for mass in start.frame.masses:
        system.addParticle(float(mass))
    system.addForce(openmm.CustomBondForce("0"))
    system.getForce(0).setUsesPeriodicBoundaryConditions(True)
    platform = openmm.Platform.getPlatformByName("Reference")
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), platform)
    frame = start.frame
    assert frame.velocities is not None
    agents = System(start.topology, frame.positions[0], frame.cell[0], loss.cutoff_A)
    forces = loss.evaluate(agents).forces
    gained = forces / (frame.masses[:, None] * AMU_A2_PER_FS2_TO_EV) * timestep_fs / 2
    context.setPositions(frame.positions[0] * A_TO_NM * unit.nanometer)
    context.setVelocities((frame.velocities[0] - gained) * A_PER_FS_TO_NM_PER_PS)
    return context.getState(positions=True, velocities=True)
