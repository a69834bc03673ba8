"""The term of charges that a fit begins with: of elements or types of atoms, to be learned, given
by the user, or as the source's program printed them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from mld_ff.errors import InputError
from mld_ff.geometry.topology import Topology
from mld_ff.inference.basis import Basis
from mld_ff.inference.design import neutral_directions
from mld_ff.inference.words import LEARNED, NONE, PRINTED, parse_charges
from mld_ff.loss.charges import ChargeTerm, ownership
from mld_ff.trajectory import Floats, FrameSource


def charge_term(
    basis: Basis, topologies: Sequence[Topology], half_width_A: float
) -> ChargeTerm | None:
    """Zero where charges are to be learned or were printed; None without.

    They are those of elements, or of types of atoms where an element has several, as in methanol,
    or in a mixture. Raises InputError unless given ones are those of either.
    """
    asked, species = basis.charges_of(topologies[0]), topologies[0].species
    if asked == NONE:
        return None
    types = tuple(sorted({t for topology in topologies for t in topology.atom_types}))
    several = len(types) > len(species)
    if asked in (*LEARNED, *PRINTED):
        given = dict.fromkeys(types if several else species, 0.0)
    elif (given := parse_charges(asked)).keys() not in ({*species}, {*types}):
        either = f" or {', '.join(types)}" if several else ""
        raise InputError(
            f"charges of {', '.join(given)} are given; the system holds"
            f" {', '.join(species)}{either}"
        )
    of_types = given.keys() != {*species}
    return ChargeTerm(
        name="charge",
        species=species,
        coefficients=tuple(given[owner] for owner in (types if of_types else species)),
        cutoff_A=basis.pair_cutoff(topologies[0], half_width_A),
        atom_types=types if of_types else (),
    )


def with_printed(
    term: ChargeTerm,
    sources: Sequence[FrameSource],
    topologies: Sequence[Topology],
    method: str,
    molecules: bool = False,
) -> ChargeTerm:
    """The term with the means of printed charges, changed as little as leaves all systems neutral:
    grids and electrons that go from molecule to molecule do not.

    Raises InputError where no source printed them.
    """
    means = means_of_printed(term, sources, topologies).get(method)
    if means is None:
        raise InputError(
            f"no charges by {method} are in the log of {_names(sources)}: CP2K prints them with"
            f" {_SECTIONS[method]}; put the log beside the trajectory, or name it with --file log="
        )
    neutral = neutral_directions(term, topologies, molecules)
    return replace(term, coefficients=tuple((neutral @ (neutral.T @ means)).tolist()))


def means_of_printed(
    term: ChargeTerm, sources: Sequence[FrameSource], topologies: Sequence[Topology]
) -> dict[str, Floats]:
    """By method, means (A,) [e] over the atoms of every owner of a charge, as they were printed."""
    sums: dict[str, Floats] = {}
    for source, topology in zip(sources, topologies, strict=True):
        owns = ownership(term, topology)
        for method, printed in source.printed_charges.items():
            weighted = printed.tables * np.column_stack([owns.T @ printed.mean, owns.sum(axis=0)])
            sums[method] = sums.get(method, 0.0) + weighted
    return {m: of[:, 0] / np.maximum(of[:, 1], 1) for m, of in sums.items() if of[:, 1].all()}


_SECTIONS = {
    "mulliken": "&DFT / &PRINT / &MULLIKEN",
    "lowdin": "&DFT / &PRINT / &LOWDIN",
    "hirshfeld": "&DFT / &PRINT / &HIRSHFELD",
    "resp": "&FORCE_EVAL / &PROPERTIES / &RESP",
}


def _names(sources: Sequence[FrameSource]) -> str:
    return ", ".join(dict.fromkeys(file for s in sources for file in s.origin.files[:1])) or "it"
