"""Loss → LAMMPS: pair and bond tables, embedded atoms, data file and input for a stock build.

It needs the MOLECULE package, and for collective losses MANYBODY.
"""

from __future__ import annotations

from itertools import combinations_with_replacement
from pathlib import Path

import numpy as np
from ase.data import atomic_numbers

from mld_ff.engines.start import Start
from mld_ff.errors import check_positive
from mld_ff.files import read_template, write_atomically
from mld_ff.geometry.pairs import BIN_A
from mld_ff.geometry.topology import Topology
from mld_ff.loss.densities import DensityTerm
from mld_ff.loss.model import AgentLoss
from mld_ff.loss.terms import BondTerm, FreeTerm
from mld_ff.trajectory import Floats
from mld_ff.units import A_PER_FS_TO_A_PER_PS, FS_TO_PS

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
DENSITY_POINTS_PER_BIN = 2
"""Of the tables of densities, on the grid of BIN_A, where their knots are: LAMMPS errs by 1e-5 eV/Å
with so many. With 5 it errs by 1e-6 and takes twice as long, as the tables leave the processor's
cache.
"""
EMBEDDING_POINTS = 401
EMBEDDING_BEYOND = 4
"""Points beyond the straight ends of every embedding: LAMMPS's spline is inexact in the outermost,
and goes on straight from there.
"""


def export_lammps(
    loss: AgentLoss,
    start: Start,
    directory: Path | str,
    temperature_K: float = 300.0,
    timestep_fs: float = 0.5,
    damping_fs: float = 100.0,
) -> list[Path]:
    """Write pair.table, bond.table, forcefield.lmp, system.data, settings.lmp and in.nvt (units
    metal).

    A collective loss adds collective.1.eam, …: in each a channel of every species.

    `damping_fs` is the time constant of the Nosé–Hoover chain: CP2K's TIMECON, LAMMPS's Tdamp.
    Returns the files. Raises InputError if the model does not cover the system.
    """
    check_positive(temperature_K=temperature_K, timestep_fs=timestep_fs, damping_fs=damping_fs)
    start.check(loss)
    topology = start.topology
    settings = {"T": temperature_K, "dt": timestep_fs * FS_TO_PS, "Tdamp": damping_fs * FS_TO_PS}
    texts = {
        "pair.table": pair_table(loss, topology),
        "forcefield.lmp": _force_field(loss, topology, atom_types(start)),
        "system.data": _data(start),
        "settings.lmp": "".join(
            f"variable {name} index {value!r}\n" for name, value in settings.items()
        ),
        "in.nvt": read_template("in.nvt"),
    }
    if topology.bonded:
        texts["bond.table"] = bond_table(loss, topology)
    texts |= {
        channel_file(k): embedded_atoms(c, start)
        for k, c in enumerate(loss.channels_of(topology), 1)
    }
    for name, text in texts.items():
        write_atomically(Path(directory) / name, text)
    return [Path(directory) / name for name in texts]


def pair_table(loss: AgentLoss, topology: Topology) -> str:
    """All free terms of the system as sections named after them; points equally spaced in r."""
    sections = []
    for term in _free_terms(loss, topology).values():
        r = np.linspace(
            PAIR_INNER_A, term.cutoff_A, round((term.cutoff_A - PAIR_INNER_A) / PAIR_SPACING_A) + 1
        )
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
    for term in _bond_terms(loss, topology):
        low, high = term.range_A
        r = np.linspace(BOND_INNER * low, high + BOND_MARGIN_A, BOND_POINTS)
        energy, slope = term.evaluate(r)
        curvature = np.gradient(-slope[[0, 1, -2, -1]], r[[0, 1, -2, -1]])[[0, -1]]
        header = f"N {BOND_POINTS} FP {curvature[0]:.15g} {curvature[1]:.15g} EQ {term.r0_A!r}"
        sections.append(_section(term.name, header, r, energy, -slope))
    return _head("bond") + "\n".join(sections)


def channel_file(number: int) -> str:
    return f"collective.{number}.eam"


def embedded_atoms(channels: dict[str, DensityTerm], start: Start) -> str:
    """One channel of every species as a file of pair style eam/he: densities of either sign, a
    function F(ρ) for every species, and a density for every species at every other.
    """
    species = start.topology.species
    first = next(iter(channels.values()))
    points = round(first.cutoff_A / BIN_A) * DENSITY_POINTS_PER_BIN + 1
    r = np.linspace(0, first.cutoff_A, points)
    ends = np.array([(t.range[0] - t.fade, t.range[1] + t.fade) for t in channels.values()])
    low, high = ends[:, 0].min(), ends[:, 1].max()
    spacing = (high - low) / (EMBEDDING_POINTS - 1 - 2 * EMBEDDING_BEYOND)
    rho = low + spacing * (np.arange(EMBEDDING_POINTS) - EMBEDDING_BEYOND)
    lines = [
        "collective loss written by mld_ff (units metal)",
        " ".join(t.name for t in channels.values()),
    ]
    lines += [
        "every density is that of the atom at the centre",
        f"{len(species)} {' '.join(species)}",
    ]
    grids = (
        EMBEDDING_POINTS,
        spacing,
        points,
        first.cutoff_A / (points - 1),
        first.cutoff_A,
        rho[-1],
    )
    lines.append(" ".join(f"{x:.17g}" for x in grids))
    masses = dict(zip(start.topology.symbols, start.frame.masses.tolist(), strict=True))
    nothing = np.zeros(points)
    for s in species:
        lines.append(f"{atomic_numbers[s]} {masses[s]:.10g} 0.0 none")
        lines += _numbers(
            channels[s].embedding(rho)[0] if s in channels else np.zeros(EMBEDDING_POINTS)
        )
        for centre in species:
            channel = channels.get(centre)
            inside = channel is not None and s in channel.neighbours
            lines += _numbers(channel.density(s, r) if inside and channel else nothing)
    for _ in combinations_with_replacement(species, 2):
        lines += _numbers(nothing)
    return "\n".join(lines) + "\n"


def _numbers(values: Floats) -> list[str]:
    """Five to a line; zeros short."""
    words = [f"{x:.15g}" for x in values.tolist()]
    return [" ".join(words[k : k + 5]) for k in range(0, len(words), 5)]


def _free_terms(loss: AgentLoss, topology: Topology) -> dict[tuple[str, str], FreeTerm]:
    terms = loss.terms_of(topology)
    found = {}
    for a, b in topology.free:
        term = terms[f"free:{a}-{b}"]
        assert isinstance(term, FreeTerm)
        found[a, b] = term
    return found


def _bond_terms(loss: AgentLoss, topology: Topology) -> list[BondTerm]:
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
    at each of its
    extrema: there it is brought to the nearer slope, a change of second order in the spacing.
    """
    slopes = -np.diff(energy) / np.diff(r)
    low, high = np.minimum(slopes[1:], slopes[:-1]), np.maximum(slopes[1:], slopes[:-1])
    inset = 0.01 * (high - low)  # clear of the rounding of printed digits
    force = np.concatenate([force[:1], np.clip(force[1:-1], low + inset, high - inset), force[-1:]])
    rows = zip(r.tolist(), energy.tolist(), force.tolist(), strict=True)
    lines = [f"{k} {x:.15g} {e:.15g} {f:.15g}" for k, (x, e, f) in enumerate(rows, 1)]
    return "\n".join([name, header, "", *lines, ""])


def atom_types(start: Start) -> list[tuple[str, float]]:
    """Species and mass [amu] of LAMMPS's atom types 1, 2, …: isotopes are types of their own."""
    order = {s: k for k, s in enumerate(start.topology.species)}
    found = set(zip(start.topology.symbols, start.frame.masses.tolist(), strict=True))
    return sorted(found, key=lambda t: (order[t[0]], t[1]))


def _force_field(loss: AgentLoss, topology: Topology, types: list[tuple[str, float]]) -> str:
    """Styles and coefficients; only the bonded pairs themselves are excluded from the pair tables.

    Densities see bonded pairs too, which a factor of zero would take off LAMMPS's list of
    neighbours; one so small that nothing is left of any energy does not.
    """
    free, channels = _free_terms(loss, topology), loss.channels_of(topology)
    lines = [
        f"# atom types: {', '.join(f'{k} {s}' for k, s in enumerate((s for s, _ in types), 1))}"
    ]
    if topology.bonded:
        lines += [
            f"bond_style table spline {BOND_POINTS}",
            f"special_bonds lj/coul {'1e-20' if channels else '0.0'} 1.0 1.0",
        ]
        bonds = _bond_terms(loss, topology)
        lines += [f"bond_coeff {k} bond.table {t.name}" for k, t in enumerate(bonds, 1)]
        # LAMMPS warns if atoms are not communicated as far as 1.5 times the longest bond
        if (reach := 1.5 * max(t.r0_A for t in bonds) + BIN_A) > loss.cutoff_A:
            lines.append(f"comm_modify cutoff {reach:.6g}")
    table, overlay = f"table spline {PAIR_POINTS}", " ".join(["eam/he"] * len(channels))
    lines.append(
        f"pair_style hybrid/overlay {table} {overlay}" if channels else f"pair_style {table}"
    )
    style = "table " if channels else ""
    for (i, (a, _)), (j, (b, _)) in combinations_with_replacement(enumerate(types, 1), 2):
        term = free.get((a, b))
        name, cutoff = (term.name, term.cutoff_A) if term else (NOTHING, loss.cutoff_A)
        lines.append(f"pair_coeff {i} {j} {style}pair.table {name} {cutoff!r}")
    for k in range(1, len(channels) + 1):
        number = f" {k}" if len(channels) > 1 else ""
        lines.append(
            f"pair_coeff * * eam/he{number} {channel_file(k)} {' '.join(s for s, _ in types)}"
        )
    return "\n".join(lines) + "\n"


def _data(start: Start) -> str:
    """LAMMPS data file, atom_style molecular; every bonded pair is a bond of the type of its
    term.
    """
    topology, frame = start.topology, start.frame
    assert frame.velocities is not None
    cell = frame.cell[0]
    bonds = [
        (k, i, j) for k, pairs in enumerate(topology.bonded.values(), 1) for i, j in pairs.tolist()
    ]
    types = atom_types(start)
    type_of = {t: k for k, t in enumerate(types, 1)}
    type_index = [type_of[t] for t in zip(topology.symbols, frame.masses.tolist(), strict=True)]
    lines = ["LAMMPS data file written by mld_ff (units metal, atom_style molecular)", ""]
    lines += [f"{topology.n_atoms} atoms", f"{len(types)} atom types"]
    if bonds:
        lines += [f"{len(bonds)} bonds", f"{len(topology.bonded)} bond types"]
    lines += ["", *(f"0.0 {cell[k, k]:.15g} {x}lo {x}hi" for k, x in enumerate("xyz"))]
    if np.abs(cell[[1, 2, 2], [0, 0, 1]]).max() > 0:
        lines.append(f"{cell[1, 0]:.15g} {cell[2, 0]:.15g} {cell[2, 1]:.15g} xy xz yz")
    lines += [
        "",
        "Masses",
        "",
        *(f"{k} {mass:.10g}  # {s}" for k, (s, mass) in enumerate(types, 1)),
    ]
    table = zip(topology.molecule_index + 1, type_index, frame.positions[0], strict=True)
    lines += ["", "Atoms  # molecular", ""]
    lines += [
        f"{k} {m} {t} {x:.10f} {y:.10f} {z:.10f}" for k, (m, t, (x, y, z)) in enumerate(table, 1)
    ]
    velocities = (frame.velocities[0] * A_PER_FS_TO_A_PER_PS).tolist()
    lines += [
        "",
        "Velocities",
        "",
        *(f"{k} {x:.10g} {y:.10g} {z:.10g}" for k, (x, y, z) in enumerate(velocities, 1)),
    ]
    if bonds:
        lines += [
            "",
            "Bonds",
            "",
            *(f"{n} {k} {i + 1} {j + 1}" for n, (k, i, j) in enumerate(bonds, 1)),
        ]
    return "\n".join(lines) + "\n"
