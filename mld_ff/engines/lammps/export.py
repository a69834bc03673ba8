"""Loss → the files that a stock LAMMPS runs: tables, embedded atoms, data file and input.

It needs the MOLECULE package where there are bonds, MANYBODY for densities, and for charges KSPACE
and MOLECULE.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations_with_replacement
from pathlib import Path

import numpy as np

from mld_ff.engines.lammps.angular_densities import angular_densities, instance_file, instances
from mld_ff.engines.lammps.data import atom_style, atom_types, data_file, is_tilted
from mld_ff.engines.lammps.embedded_atoms import channel_file, embedded_atoms
from mld_ff.engines.lammps.tables import (
    BOND_POINTS,
    PAIR_INNER_A,
    PAIR_POINTS,
    bond_table,
    bond_terms,
    charges_in_tables,
    near_splitting,
    pair_functions,
    pair_table,
)
from mld_ff.engines.settings import DEFAULT_MD, MD
from mld_ff.engines.start import Start
from mld_ff.files import read_template, warned, write_files
from mld_ff.geometry.pairs import BIN_A
from mld_ff.geometry.topology import Topology
from mld_ff.loss.charges import ChargeTerm
from mld_ff.loss.model import AgentLoss
from mld_ff.units import E2_PER_A_TO_EV, FS_TO_PS

LONGEST_SKIN_A = 1.0
"""Of neighbour lists that in.nvt speaks of."""
PPPM = "kspace_style pppm {}", "kspace_modify order 7"
"""Order 7 takes a half to a third of the time that order 5 takes."""
ACCURACY, ACCURACY_BESIDE_TABLES, ACCURACY_BESIDE_VACUUM = "3e-6", "5e-6", "1e-6"
"""In units of the force between two charges of 1 e at 1 Å, 14 eV/Å: forces err by 7e-5 eV/Å, and by
1e-4 where tables hold what is near. That is of charges all over the box; those of a slab in a box
three times as high err by 2.0e-4, and with the finest one by 8e-5 (64 waters, 64 ions)."""
DILUTE_E2_PER_A3 = 0.02
"""Squares of charges in a volume, below which the finest is taken: water has 0.034, molten salt
0.030; of 10 waters in 25 Å forces erred by 3e-4 eV/Å, with the finest one by 6e-5."""
DIPOLE_OF_SLAB = f"""\
compute height all property/atom zu
variable moment atom q*c_height
compute moment all reduce sum v_moment
variable field equal -4*PI*{E2_PER_A_TO_EV!r}*c_moment/vol
variable stored atom -v_field*v_moment/2
fix slab all efield 0.0 0.0 v_field energy v_stored
fix_modify slab energy yes
"""
"""2π M²/V with the dipole M along z (`mld_ff.loss.ewald.slab`), as `kspace_modify slab` adds it,
but in the box as it is. That one needs right angles, a boundary along z at which atoms are lost,
and waves in a box that is higher by a factor; with it forces are the same within 3e-5 eV/Å."""
OF_A_BOX = " diff ad"
"""Where the cell has right angles, which it needs: two Fourier transforms a step instead of four,
0.8 of the time with water, 0.55 with molten salt; forces err by 1e-4 eV/Å."""


def export_lammps(
    loss: AgentLoss,
    start: Start,
    directory: Path | str,
    settings: MD = DEFAULT_MD,
) -> list[Path]:
    """Write pair.table, bond.table, forcefield.lmp, system.data, settings.lmp and in.nvt (units
    metal); no table of what is not there.

    A collective loss adds collective.1.eam, …: in each a channel of every species. Densities of
    order 1 and 2 add angles.1.adp, ….

    settings: temperature, timestep and damping are written, for in.nvt to take; beside them the
    atom style. Returns the files.
    Raises InputError if the model does not cover the system.
    """
    warnings = start.check(loss)
    topology = start.topology
    loss = _without_idle_charges(loss, topology)
    variables: dict[str, object] = {
        "atoms": atom_style(topology, loss),
        "T": settings.temperature_K,
        "dt": settings.timestep_fs * FS_TO_PS,
        "Tdamp": settings.damping_fs * FS_TO_PS,
    }
    texts = {
        "forcefield.lmp": _force_field(loss, start),
        "system.data": data_file(start, loss),
        "settings.lmp": "".join(
            f"variable {name} index {value}\n" for name, value in variables.items()
        ),
        "in.nvt": read_template("in.nvt"),
    }
    if loss.cutoff_A:
        texts["pair.table"] = pair_table(loss, topology)
    if topology.bonded:
        texts["bond.table"] = bond_table(loss, topology)
    for k, channels in enumerate(loss.channels_of(topology), 1):
        texts[channel_file(k)] = embedded_atoms(channels, start)
    for k, instance in enumerate(instances(loss), 1):
        texts[instance_file(k)] = angular_densities(instance, start)
    return write_files(directory, warned(texts, warnings))


def _without_idle_charges(loss: AgentLoss, topology: Topology) -> AgentLoss:
    """Without those of species that are not there: LAMMPS warns of waves of nothing."""
    if loss.charges is None or loss.charges.of_atoms(topology).any():
        return loss
    return replace(loss, terms=tuple(t for t in loss.terms if t is not loss.charges))


def _force_field(loss: AgentLoss, start: Start) -> str:
    """Styles and coefficients; of pairs only the bonded ones are excluded from the tables."""
    topology, types = start.topology, [species for species, _ in atom_types(start)]
    lines = [f"# atom types: {', '.join(f'{k} {s}' for k, s in enumerate(types, 1))}"]
    if topology.bonded:
        lines += _bonds(loss, topology)
    lines += _pairs(loss, topology, types)
    if loss.charges:
        lines += _waves(loss.charges, charges_in_tables(loss) is not None, start)
    return "\n".join(lines) + "\n"


def _waves(charges: ChargeTerm, in_tables: bool, start: Start) -> list[str]:
    """What is far of charges, and what is near of them where no table holds that."""
    style, modify = PPPM
    q = charges.of_atoms(start.topology)
    is_dilute = q @ q < DILUTE_E2_PER_A3 * np.linalg.det(start.frame.cell[0])
    full = ACCURACY_BESIDE_TABLES if in_tables else ACCURACY
    style = style.format(ACCURACY_BESIDE_VACUUM if start.has_vacuum or is_dilute else full)
    modify += OF_A_BOX * (not is_tilted(start))
    # LAMMPS advises against tables that only its own near part has
    near = "pair_modify table 0" if in_tables else "pair_coeff * * coul/long"
    modify += f" gewald {near_splitting(charges)!r}" if in_tables else ""
    return [near, style, modify, *(DIPOLE_OF_SLAB.splitlines() if charges.slab else [])]


def _bonds(loss: AgentLoss, topology: Topology) -> list[str]:
    """Densities see bonded pairs too, which a factor of zero would take off LAMMPS's list of
    neighbours; one so small that nothing is left of any energy does not.
    """
    densities = loss.channels_of(topology) or instances(loss)
    factor = "1e-20" if densities else "0.0"
    terms = bond_terms(loss, topology)
    lines = [f"bond_style table spline {BOND_POINTS}", f"special_bonds lj/coul {factor} 1.0 1.0"]
    lines += [f"bond_coeff {k} bond.table {term.name}" for k, term in enumerate(terms, 1)]
    # LAMMPS warns if atoms are not communicated as far as 1.5 times the longest bond and a skin
    reach = 1.5 * max(term.r0_A for term in terms) + BIN_A
    if reach > loss.cutoff_A:
        lines.append(f"comm_modify cutoff {reach + LONGEST_SKIN_A:.6g}")
    return lines


def _pairs(loss: AgentLoss, topology: Topology, types: list[str]) -> list[str]:
    if not loss.cutoff_A:  # a single molecule: bonds are all there is
        return [f"pair_style zero {PAIR_INNER_A!r} nocoeff", "pair_coeff * *"]
    functions, n_channels = pair_functions(loss, topology), len(loss.channels_of(topology))
    angular, in_tables = instances(loss), charges_in_tables(loss)
    tables = f"table spline {PAIR_POINTS}{' pppm' if in_tables else ''}"
    styles = [tables, *["eam/he"] * n_channels, *["adp"] * len(angular)]
    near = loss.charges if not in_tables else None
    styles += [f"coul/long {near.cutoff_A!r}"] if near else []
    if angular:
        factors = [1.0] * (1 + n_channels) + [instance.factor for instance in angular]
        factors += [1.0] if near else []
        scaled = (f"{factor} {style}" for factor, style in zip(factors, styles, strict=True))
        lines = [f"pair_style hybrid/scaled {' '.join(scaled)}"]
    elif len(styles) > 1:
        lines = [f"pair_style hybrid/overlay {' '.join(styles)}"]
    else:
        lines = [f"pair_style {styles[0]}"]
    style = "table " if len(styles) > 1 else ""
    for (i, a), (j, b) in combinations_with_replacement(enumerate(types, 1), 2):
        function = functions[a, b]
        section = f"pair.table {function.name} {function.cutoff_A!r}"
        lines.append(f"pair_coeff {i} {j} {style}{section}")
    files = {
        "eam/he": [channel_file(k + 1) for k in range(n_channels)],
        "adp": [instance_file(k + 1) for k in range(len(angular))],
    }
    for name, own in files.items():
        for k, file in enumerate(own, 1):
            number = f" {k}" if len(own) > 1 else ""
            lines.append(f"pair_coeff * * {name}{number} {file} {' '.join(types)}")
    return lines
