"""Slabs: layers of atoms with a vacuum between them and their images along c."""

from __future__ import annotations

import numpy as np

from mld_ff.errors import InputError
from mld_ff.geometry.topology import Topology
from mld_ff.trajectory import Floats

VACUUM_A = 8.0
"""A layer without nuclei that is thicker than this is no liquid's, nor a crystal's."""


def gaps(positions: Floats, cell: Floats) -> tuple[Floats, Floats]:
    """The widest layers without nuclei between planes of the cell: thickness across a, b, c [Å],
    and the fractional coordinate of their middle, (3,) each.

    positions (N, 3) [Å], cell (3, 3) [Å].
    """
    place = np.sort(positions @ np.linalg.inv(cell) % 1, axis=0)
    gap = np.diff(place, axis=0, append=place[:1] + 1)
    widest, axes = gap.argmax(axis=0), np.arange(3)
    return (
        gap[widest, axes] / np.linalg.norm(np.linalg.inv(cell), axis=0),
        place[widest, axes] + gap[widest, axes] / 2,
    )


def check_vacuum(positions: Floats, cell: Floats, remedy: str) -> None:
    """Raises InputError, which ends with what to do, unless atoms at positions (N, 3) [Å] are a
    slab along c.
    """
    thick, _ = gaps(positions, cell)
    if thick[2] <= VACUUM_A:
        raise InputError(
            f"the widest vacuum along c is {thick[2]:.1f} Å, and charges of a slab need more than"
            f" {VACUUM_A:g} Å between it and its images: {remedy}"
        )


def in_one_piece(topology: Topology, positions: Floats, cell: Floats) -> Floats:
    """Positions (N, 3) [Å] of whole molecules, with the widest vacuum along c halved by the
    boundary of the cell.
    """
    whole = topology.whole(positions, cell)
    _, middle = gaps(whole, cell)
    height = (whole @ np.linalg.inv(cell))[:, 2] - middle[2]
    of = topology.molecule_index
    mean = np.bincount(of, height) / np.bincount(of)
    return np.asarray(whole - (np.floor(mean)[of, None] + middle[2]) * cell[2])
