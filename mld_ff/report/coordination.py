"""Where no bonds tell who is a neighbour: coordination numbers and angles within first shells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from ase.data import atomic_numbers, covalent_radii
from scipy.signal import find_peaks

from mld_ff.geometry.networks import NONMETALS
from mld_ff.geometry.pairs import both_ways
from mld_ff.geometry.system import System, systems
from mld_ff.geometry.topology import BOND_FACTOR, Path, Topology
from mld_ff.report.observables import PROMINENCE, first_peak
from mld_ff.survey import Inspection
from mld_ff.trajectory import Floats, Trajectory


@dataclass(frozen=True)
class Shell:
    """The first neighbours of one kind of pair."""

    peak_A: float
    """The first of g(r)."""
    end_A: float
    """The first minimum after it."""


Shells = Mapping[tuple[str, str], Shell]
"""By two species, in the order of the topology."""


def first_shells(inspection: Inspection) -> dict[tuple[str, str], Shell]:
    """Of every kind of pair; where g(r) has no peak, or no minimum after it, there is no shell."""
    shells = {}
    for pair, name in inspection.survey.topology.free_names.items():
        r, g = inspection.radial_distribution(name)
        peak = first_peak(r, g)
        if peak is None:
            continue
        beyond = r > peak[0]
        lows, _ = find_peaks(-g[beyond], prominence=PROMINENCE)
        if len(lows):
            shells[pair] = Shell(peak[0], float(r[beyond][lows[0]]))
    return shells


def measure_shells(
    topology: Topology, frames: Trajectory, shells: Shells
) -> tuple[dict[str, Floats], dict[Path, Floats]]:
    """Numbers of neighbours of every atom of A that are B, by `A-B`, (F N_A,); and angles
    [degrees] by the elements A-B-C, all those of two neighbours that may be bonded, in one row.
    """
    reach_A = max((shell.end_A for shell in shells.values()), default=0.0)
    bonded = {pair: s for pair, s in shells.items() if _may_be_bonded(topology, pair, s)}
    numbers: dict[str, list[Floats]] = {}
    angles: dict[Path, list[Floats]] = {}
    for system in systems(topology, frames, reach_A):
        for a, b in shells:
            for centre, other in dict.fromkeys([(a, b), (b, a)]):
                counted = _neighbours(system, shells, centre, other)
                numbers.setdefault(f"{centre}-{other}", []).append(counted)
        for path, degrees in _angles(system, bonded).items():
            angles.setdefault(path, []).append(degrees)
    return (
        {name: np.concatenate(each) for name, each in numbers.items()},
        {path: np.concatenate(each) for path, each in angles.items()},
    )


def _neighbours(system: System, shells: Shells, centre: str, other: str) -> Floats:
    """How many of one species each atom of another has in its shell, (N,)."""
    topology = system.topology
    pair = (centre, other) if (centre, other) in shells else (other, centre)
    near = both_ways(system.free_within(pair, shells[pair].end_A))
    symbols = np.array(topology.symbols)
    of_kind = (symbols[near.i] == centre) & (symbols[near.j] == other)
    counts = np.bincount(near.i[of_kind], minlength=topology.n_atoms)
    return np.asarray(counts[symbols == centre], dtype=np.float64)


def _angles(system: System, shells: Shells) -> dict[Path, Floats]:
    """Angles [degrees] between any two neighbours of an atom in these shells."""
    topology = system.topology
    near = [both_ways(system.free_within(pair, shell.end_A)) for pair, shell in shells.items()]
    if not near:
        return {}
    i, j = (np.concatenate([getattr(p, end) for p in near]) for end in ("i", "j"))
    unit = np.concatenate([p.unit for p in near])
    order = np.lexsort((topology.species_index[j], i))
    i, unit, kind = i[order], unit[order], topology.species_index[j[order]]
    found: dict[Path, list[Floats]] = {}
    for apart in range(1, int(np.bincount(i).max(initial=0))):
        both = np.flatnonzero(i[apart:] == i[:-apart])
        cosine = np.einsum("pc,pc->p", unit[both], unit[both + apart])
        degrees = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
        kinds = np.stack([kind[both], topology.species_index[i[both]], kind[both + apart]], axis=1)
        for triple in np.unique(kinds, axis=0):
            path = tuple(topology.species[k] for k in triple)
            found.setdefault(path, []).append(degrees[(kinds == triple).all(axis=1)])
    return {path: np.concatenate(each) for path, each in found.items()}


def _may_be_bonded(topology: Topology, pair: tuple[str, str], shell: Shell) -> bool:
    """Whether first neighbours of these species are as near as bonds are. Those of metals are not
    bonded where there are nonmetals between them."""
    if not {*pair} & NONMETALS and {*topology.species} & NONMETALS:
        return False
    radii = covalent_radii[[atomic_numbers[s] for s in pair]]
    return bool(shell.peak_A < BOND_FACTOR * radii.sum())
