"""The cell that CP2K makes of one whose input asks for a symmetry (`&CELL / SYMMETRY`)."""

from __future__ import annotations

import numpy as np
from ase.geometry import cell_to_cellpar, cellpar_to_cell

from mld_ff.trajectory import Floats

_EQUAL = {
    "CUBIC": (0, 1, 2),
    "TETRAGONAL": (0, 1),
    "TETRAGONAL_AB": (0, 1),
    "TETRAGONAL_AC": (0, 2),
    "TETRAGONAL_BC": (1, 2),
    "ORTHORHOMBIC": (),
}
"""Which lengths of rectangular cells become their mean."""


def imposed(cell: Floats, symmetry: str | None) -> Floats:
    """As CP2K 2023.1 does it, by its logs: HEXAGONAL has γ = 60° whatever the input's angles say,
    and a rectangular cell the widths along b and c of one that is not.

    cell: rows [Å]. A symmetry that is not known changes nothing.
    """
    lengths, angles = np.split(cell_to_cellpar(cell), 2)
    if symmetry in _EQUAL:
        widths = 1 / np.linalg.norm(np.linalg.inv(cell), axis=0)
        edges = np.array([lengths[0], *widths[1:]])
        if equal := list(_EQUAL[symmetry]):
            edges[equal] = edges[equal].mean()
        return np.diag(edges)
    a, b, c = lengths
    _, beta, gamma = angles
    match symmetry:
        case "HEXAGONAL" | "HEXAGONAL_GAMMA_60":
            parameters = [(a + b) / 2, (a + b) / 2, c, 90.0, 90.0, 60.0]
        case "HEXAGONAL_GAMMA_120":
            parameters = [(a + b) / 2, (a + b) / 2, c, 90.0, 90.0, 120.0]
        case "MONOCLINIC":
            parameters = [a, b, c, 90.0, beta, 90.0]
        case "MONOCLINIC_GAMMA_AB":
            parameters = [(a + b) / 2, (a + b) / 2, c, 90.0, 90.0, gamma]
        case "RHOMBOHEDRAL":
            parameters = [*[lengths.mean()] * 3, *[angles.mean()] * 3]
        case _:
            return cell
    return np.array(cellpar_to_cell(parameters), dtype=np.float64)
