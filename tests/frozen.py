"""Energy, forces and virial of every kind of term, frozen in data/frozen.json: what was proven
against both engines once must not change unnoticed. LAMMPS does the same for its styles
(unittest/force-styles in its sources).

python tests/frozen.py

writes the file anew: for a new kind of term, or a change that was meant to change numbers.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from conftest import TRICLINIC, angular_channel, channel, frame_of, invent, liquid

from mld_ff.geometry.system import System
from mld_ff.geometry.topology import find_topology
from mld_ff.loss.charges import ChargeTerm
from mld_ff.loss.evaluation import Evaluation
from mld_ff.loss.model import AgentLoss, terms_from
from mld_ff.loss.terms import PairTerm, Term
from mld_ff.trajectory import Trajectory
from mld_ff.version import __version__

PairTermT = TypeVar("PairTermT", bound=PairTerm)
FILE = Path(__file__).parent / "data" / "frozen.json"
LIQUID = ["H2O"] * 7 + ["CH3OH", "Na", "Cl"]
CHARGES = {"C": -0.8, "Cl": -0.8, "H": 0.4, "Na": 0.8, "O": -0.8}


def invented() -> dict[str, tuple[Trajectory, AgentLoss]]:
    """By kind of terms a liquid of five species in a triclinic cell, or a slab of it, and a loss in
    which terms of that kind act."""
    frame = liquid(LIQUID, TRICLINIC, seed=11, jitter=0.04)
    loss = invent(frame, cutoff=4.8, edge=2.9)
    species, free = loss.species, loss.free_terms
    walls = tuple(without_coefficients(term) for term in free)
    few = invent(frame, "power", (1.0,), cutoff=4.8, edge=0.5).free_terms
    idle = {term.name: without_coefficients(term) for term in few} | {
        term.name: replace(without_coefficients(term), range_A=(0.5, 4.0))
        for term in loss.bond_terms
    }
    charges = tuple(CHARGES[s] for s in species)
    of_liquid = ChargeTerm(name="charge", species=species, coefficients=charges, cutoff_A=4.8)
    kinds: dict[str, tuple[Term, ...]] = {
        "bonds, in part beyond their walls": loss.bond_terms,
        "splines": tuple(replace(term, wall_edge_A=1.0) for term in free),
        "splines, short distances in walls": free,
        "powers": invent(frame, "power", (1.0, 3.5), cutoff=4.8, edge=2.9).free_terms,
        "walls alone": walls,
        "densities of order 0": tuple(channel(species, s, 1) for s in species),
        "densities of order 1": (angular_channel(species, 1),),
        "densities of order 2": (angular_channel(species, 2),),
        "charges": (of_liquid,),
        "charges of a slab": (replace(of_liquid, slab=True),),
    }
    return {
        kind: (
            below_vacuum(frame) if "slab" in kind else frame,
            AgentLoss(species, tuple((idle | {t.name: t for t in terms}).values())),
        )
        for kind, terms in kinds.items()
    }


def below_vacuum(frame: Trajectory) -> Trajectory:
    """The same molecules, whole, in a cell three times as high."""
    x, cell = frame.positions[0], frame.cell[0]
    whole = find_topology(frame.symbols, x, cell).whole(x, cell)
    return replace(frame, positions=whole[None], cell=frame.cell * [[1], [1], [3]])


def without_coefficients(term: PairTermT) -> PairTermT:
    return replace(term, coefficients=(0.0,) * len(term.coefficients))


def evaluated(loss: AgentLoss, frame: Trajectory) -> Evaluation:
    x, cell = frame.positions[0], frame.cell[0]
    topology = find_topology(frame.symbols, x, cell, loss.topology_kind)
    return loss.evaluate(System(topology, x, cell, loss.cutoff_A))


def load() -> Iterator[tuple[str, AgentLoss, Trajectory, dict[str, Any]]]:
    """Kind of terms, its loss, the frame and what it had."""
    data = json.loads(FILE.read_text(encoding="utf-8"))
    for kind, frozen in data["kinds"].items():
        frame = frame_of(data["symbols"], frozen["positions_A"], frozen["cell_A"])
        loss = AgentLoss(tuple(data["species"]), terms_from(frozen["terms"]))
        yield kind, loss, frame, frozen


def freeze() -> None:
    kinds = {}
    for kind, (frame, loss) in invented().items():
        result = evaluated(loss, frame)
        kinds[kind] = {
            "cell_A": frame.cell[0].tolist(),
            "positions_A": frame.positions[0].tolist(),
            "energies_eV": {name: e for name, e in result.energies.items() if e},
            "forces_eV_per_A": result.forces.tolist(),
            "virial_eV": result.virial.tolist(),
            "terms": [term.to_dict() for term in loss.terms],
        }
    data = {
        "written_by": f"mld_ff {__version__}",
        "species": loss.species,
        "symbols": frame.symbols,
        "kinds": kinds,
    }
    FILE.write_text(json.dumps(data, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    freeze()
