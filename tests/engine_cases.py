"""Systems and losses on which engines are held against numpy: water as fitted, and liquids with
invented losses.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from ase.geometry import cellpar_to_cell
from conftest import (
    CUBE,
    TRICLINIC,
    evaluate,
    invent,
    liquid,
    shuffled,
    topology_of,
    with_angles,
    with_channels,
)

from mld_ff.loss.charges import ChargeTerm
from mld_ff.loss.model import AgentLoss
from mld_ff.trajectory import Floats, Trajectory, concatenate

SOLUTION, WATERS_H = ["H2O"] * 10 + ["Na", "Cl", "CH3OH"], "H(O(H))"
Case = Callable[..., tuple[AgentLoss, Trajectory]]


def jittered(frame: Trajectory, n: int = 2, width: float = 0.02) -> Trajectory:
    """The frame and n - 1 others close to it."""
    rng = np.random.default_rng(9)
    shape = frame.positions.shape
    moved = [
        replace(frame, positions=frame.positions + width * rng.normal(size=shape))
        for _ in range(n - 1)
    ]
    return concatenate([frame, *moved])


def molecules(
    names: list[str], cell: Floats, kind: str = "spline", exponents: tuple[float, ...] = (3.0,)
) -> Case:
    def make(**_: object) -> tuple[AgentLoss, Trajectory]:
        frame = shuffled(liquid(names, cell, seed=11, jitter=0.04), 5)[0]
        return invent(frame, kind, exponents, cutoff=4.8, edge=2.9), jittered(frame)

    return make


def collective(make: Case) -> Case:
    def make_with_channels(**fixtures: object) -> tuple[AgentLoss, Trajectory]:
        loss, frames = make(**fixtures)
        return with_channels(loss), frames

    return make_with_channels


def charged(loss: AgentLoss, frame: Trajectory, cutoff_A: float = 4.8) -> AgentLoss:
    """The loss with charges of types of atoms that leave the frame neutral, up to 1.2 e."""
    types = topology_of(frame).atom_types
    charges = {t: 0.3 + 0.15 * k for k, t in enumerate(sorted({*types} - {WATERS_H}))}
    charges[WATERS_H] = -sum(q * types.count(t) for t, q in charges.items())
    charges[WATERS_H] /= types.count(WATERS_H)
    term = ChargeTerm(
        name="charge",
        species=loss.species,
        coefficients=tuple(charges.values()),
        cutoff_A=cutoff_A,
        atom_types=tuple(charges),
    )
    return replace(loss, terms=(*loss.terms, term))


def angular(make: Case) -> Case:
    def make_with_angles(**fixtures: object) -> tuple[AgentLoss, Trajectory]:
        loss, frames = make(**fixtures)
        return with_angles(with_channels(loss, rank=1), cutoff=3.9), frames

    return make_with_angles


HEXAGONAL = cellpar_to_cell([13, 13, 12, 90, 90, 120])
OCTAHEDRON = 12.5 * np.array([[1.0, 1, -1], [-1, 1, 1], [1, -1, 1]]) / np.sqrt(3)
"""Truncated: neither lower triangular nor at right angles."""
OH = ["CH3OH"] * 5 + ["CH3CH2OH"] * 3
SOLUTION = ["H2O"] * 10 + ["Na", "Cl", "CH3OH"]
CASES: dict[str, Case] = {
    "water, fitted splines": lambda spline_water, few, **_: (spline_water, few[[0, 20]]),
    "water, fitted power": lambda power_water, few, **_: (power_water, few[[0, 20]]),
    "water, three exponents": lambda few, **_: (
        invent(few[0], "power", (1.0, 2.0, 3.0), edge=1.8),
        few[[0, 20]],
    ),
    "alcohols": molecules(OH, CUBE),
    "alcohols, real exponents": molecules(OH, CUBE, "power", (0.5, 3.7, -1.0)),
    "single ions": molecules(SOLUTION, CUBE),
    "single ions, power": molecules(SOLUTION, CUBE, "power", (2.0,)),
    "many species": molecules(
        ["H2O"] * 4 + ["NH3", "CH3OH", "CH3OH", "Cl", "Cl", "Ar", "Ar"], CUBE
    ),
    "triclinic": molecules(SOLUTION, TRICLINIC),
    "triclinic, power": molecules(SOLUTION, TRICLINIC, "power", (3.0,)),
    "hexagonal": molecules(["H2O"] * 8, HEXAGONAL),
    "octahedron": molecules(["H2O"] * 8, OCTAHEDRON),
    "rings": molecules(["C6H6", "C3H6_D3h", "H2O", "H2O"], CUBE),
    "atoms only": molecules(["Ar"] * 27, CUBE),
    "channels, water fitted": lambda collective_water, few, **_: (collective_water, few[[0, 20]]),
    "channels, alcohols": collective(molecules(OH, CUBE)),
    "channels, ions, triclinic": collective(molecules(SOLUTION, TRICLINIC)),
    "channels, atoms only": collective(molecules(["Ar"] * 27, CUBE)),
}


def energy_scale(loss: AgentLoss, frame: Trajectory) -> float:
    energies, _ = evaluate(loss, topology_of(frame), frame.positions[0], frame.cell[0])
    return sum(map(abs, energies.values()))
