"""What a model may be used for, and what may make one: every refusal that is no impossibility, in
one place.

Each is a sentence with its reason. `force` (`--force`) makes a warning of it, which is written into
every file that is made.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from mld_ff.errors import InputError
from mld_ff.geometry.topology import Topology
from mld_ff.loss.model import AgentLoss
from mld_ff.loss.provenance import Domain
from mld_ff.loss.terms import FreeTerm
from mld_ff.trajectory import FrameSource, Trajectory
from mld_ff.units import AMU_PER_A3_TO_G_PER_CM3

DENSITY_OFF = 1.25
"""By this factor may a start be less or more dense than the data: liquids between melting and
boiling point stay within 1.1."""
HOTTER = 3.0
"""By this factor may a run be hotter than the data: water of 300 K stayed together at 600 K."""
CLOSEST_A = 0.2
"""Where the tables of LAMMPS end: a wall has driven a pair back before."""
FORCED = (
    "`mld-ff fit`, `accumulate`, `export`, `run`, `build`, `match` and `refine` go on with --force,"
    " and write this into their files"
)
MEMORY_FS = 50.0
"""Frames of dynamics closer than this are hardly two: a libration of water."""


def refuse(objections: Sequence[str], force: bool) -> None:
    """Raise InputError if there are objections, unless forced."""
    if objections and not force:
        said = "; ".join(objections).rstrip(".")
        raise InputError(f"{said}. {FORCED}")


# --- use ------------------------------------------------------------------------------------------


def objections(loss: AgentLoss, topology: Topology, frame: Trajectory | None = None) -> list[str]:
    """Why a model should not be used for a system, from this frame on if one is given; species and
    bonds that it has no term for are an error anyway.
    """
    density = "" if frame is None else _density(loss, frame)
    every = (_molecules(loss, topology), density, *_terms(loss, topology))
    return [objection for objection in every if objection]


def _molecules(loss: AgentLoss, topology: Topology) -> str:
    """Molecules, and atoms alone, of other formulas than those of the data."""
    learned = loss.domain.molecules
    new = {f: n for f, n in topology.formulas().items() if f not in learned}
    if not learned or not new:
        return ""
    return (
        f"the system holds {', '.join(f'{n} {f}' for f, n in new.items())}, and the data of the"
        f" model held only {', '.join(learned)}: its forces there were never learned"
    )


def _density(loss: AgentLoss, frame: Trajectory) -> str:
    if (known := loss.domain.densities_g_per_cm3) is None:
        return ""
    density = density_of(frame)
    if known[0] / DENSITY_OFF <= density <= known[1] * DENSITY_OFF:
        return ""
    between = " to ".join(f"{value:.3g}" for value in dict.fromkeys(known))
    return f"the density is {density:.3g} g/cm³, that of the data of the model {between} g/cm³"


def objections_to_temperature(loss: AgentLoss, temperature_K: float) -> list[str]:
    """Why a model should not run so hot; nothing where it does not tell what its data had."""
    told = loss.provenance.get("source", {})
    every = [loss.provenance.get("temperature_K"), told.get("temperature_K")]
    every += [run.get("temperature_K") for run in told.get("runs", ())]
    known = max((kelvin for kelvin in every if kelvin), default=None)
    if known is None or temperature_K <= HOTTER * known:
        return []
    return [
        f"{temperature_K:g} K are asked for, and the data of the model had {known:.0f} K: pairs"
        " would come closer than any that it learned"
    ]


def _terms(loss: AgentLoss, topology: Topology) -> list[str]:
    """Of free pairs that the system has: unseen ones, and walls that let pairs through."""
    found = []
    for name, term in loss.terms_of(topology).items():
        if not isinstance(term, FreeTerm):
            continue
        if term.coverage.get("shortest_A", 0.0) is None:
            found.append(
                f"{name} is undetermined: the data held no such pair closer than"
                f" {term.cutoff_A:g} Å"
            )
        elif _lets_through(term):
            found.append(
                f"the wall of {name} below {term.wall_edge_A:g} Å attracts: pairs would fall into"
                " each other"
            )
    return found


def _lets_through(term: FreeTerm) -> bool:
    r = np.array([CLOSEST_A, term.wall_edge_A])
    if r[0] >= r[1] or not any(term.coefficients):
        return False
    energy, _ = term.evaluate(r)
    return not energy[0] > energy[1]


# --- data -----------------------------------------------------------------------------------------


def density_of(frame: Trajectory) -> float:
    """[g/cm³] of the first frame."""
    volume = abs(float(np.linalg.det(frame.cell[0])))
    return float(frame.masses.sum()) / volume * AMU_PER_A3_TO_G_PER_CM3


def domain_of(topology: Topology, firsts: Iterable[Trajectory] = ()) -> Domain:
    """What a model learned from data of such a topology may be used for. firsts: the first frame
    of every run, if they are at hand."""
    molecules = () if topology.no_molecules else tuple(topology.formulas())
    densities = [density_of(frame) for frame in firsts]
    return Domain(molecules, (min(densities), max(densities)) if densities else None)


def objections_to_data(
    sources: Sequence[FrameSource], times_fs: Sequence[float], blocks: int
) -> list[str]:
    """Why a fit to these frames would tell more than they know.

    times_fs: of all their frames, one source after the other. blocks: so many parts of them are
    trained and tested on, and must be independent.
    """
    independent, at, length = 0, 0, 0.0
    for source in sources:
        times = times_fs[at : at + source.n_frames]
        at += source.n_frames
        if not source.origin.is_dynamics or not times or times[-1] <= times[0]:
            return []  # who knows
        length += times[-1] - times[0]
        independent += min(len(times), int((times[-1] - times[0]) / MEMORY_FS) + 1)
    if independent >= blocks:
        return []
    return [
        f"{at} frames over {length:g} fs are worth {independent} that are independent"
        f" ({MEMORY_FS:g} fs apart), too few for the {blocks} blocks that a fit is made and tested"
        " on: give a longer run, or more of them"
    ]
