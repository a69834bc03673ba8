"""Frames pressed into walls: every wall is reached, and what is wrong there is noticed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from conftest import CUBE, TRICLINIC, invent, liquid, topology_of

from mld_ff.cli.text import verify_text
from mld_ff.engines.lammps.export import export_lammps
from mld_ff.engines.openmm.export import export_openmm
from mld_ff.engines.start import start_from
from mld_ff.geometry.system import System
from mld_ff.loss.bonds import BondTerm
from mld_ff.loss.model import AgentLoss
from mld_ff.loss.pressed import BOND_DEEP_A, NEAREST_A, SHALLOW_A, press
from mld_ff.trajectory import Trajectory
from mld_ff.verification import EngineResult, Verification, verify

MOLECULES = ["H2O"] * 12


@pytest.fixture(scope="module")
def water() -> tuple[AgentLoss, Trajectory]:
    frame = liquid(MOLECULES, TRICLINIC, seed=4)
    return invent(frame, cutoff=4.8), frame


def system_of(loss: AgentLoss, frame: Trajectory) -> System:
    return System(topology_of(frame), frame.positions[0], frame.cell[0], loss.cutoff_A)


@pytest.mark.parametrize(
    "molecules", [MOLECULES, ["CH3OH"] * 3 + ["H2O"] * 2 + ["Cl"], ["Ar"] * 4, ["C3H8"] * 2]
)
def test_pairs_of_every_term_are_pressed_into_its_walls(molecules: list[str]) -> None:
    """... near its edge and deep, while no two atoms come upon each other."""
    frame = liquid(molecules, CUBE, seed=4)
    loss = invent(frame, cutoff=4.8)
    pressed = press(loss, system_of(loss, frame), frame)
    assert pressed.unvisited == () and pressed.frames.n_frames > 0
    every = [
        System(topology_of(frame), positions, frame.cell[0], loss.cutoff_A)
        for positions in pressed.frames.positions
    ]
    assert min(system.neighbours.r.min() for system in every) > NEAREST_A - 1e-3
    for term in loss.pair_terms:
        low, high = term.learned_A
        aims = [low - SHALLOW_A, low / 2]
        if isinstance(term, BondTerm):
            aims = [low - BOND_DEEP_A, high + BOND_DEEP_A]
        for wanted in aims:
            gaps = [abs(term.pairs_of(system).r - wanted).min(initial=1.0) for system in every]
            assert min(gaps) < 1e-6, (term.name, wanted)


def test_a_pair_that_no_molecule_can_bring_together_is_told() -> None:
    """Atoms of one molecule, four bonds apart."""
    frame = liquid(["CH3CH2OH"], CUBE)
    loss = invent(frame, cutoff=4.8)
    free = tuple(term.name for term in loss.free_terms)
    assert free and press(loss, system_of(loss, frame), frame).unvisited == free
    engine = EngineResult("lammps", 0.0, "H1 in step 0", 0.0, 1.0, {}, 1e-4)
    told = Verification(1, 1.0, {}, {"lammps": engine}, 2, ("free:H-H",))
    assert verify_text(told).endswith(
        "note: walls of free:H-H were not looked into: no pair of the first frame can be pressed"
        " there"
    )


@pytest.mark.parametrize("engine", ["openmm", "lammps"])
def test_what_is_wrong_in_walls_alone_is_noticed(
    engine: str, water: tuple[AgentLoss, Trajectory], tmp_path: Path
) -> None:
    """A wall softer by 1 % deep inside, where no frame goes."""
    loss, frame = water
    {"openmm": export_openmm, "lammps": export_lammps}[engine](loss, start_from(frame), tmp_path)
    assert verify(loss, frame, 1, {engine: tmp_path}, per_term=False).passed
    file = tmp_path / ("system.xml" if engine == "openmm" else "pair.table")
    file.write_text(softened(file.read_text(), engine))
    result = verify(loss, frame, 1, {engine: tmp_path}, per_term=False).engines[engine]
    assert result.max_force_difference_eV_per_A <= result.force_tolerance_eV_per_A
    assert not result.passed and result.walls_force_difference > 5 * result.walls_tolerance


def softened(text: str, engine: str) -> str:
    if engine == "openmm":
        return text.replace(
            "stiffness*max(0,edge-r)^3", "(stiffness-30000*step(.15-r))*max(0,edge-r)^3"
        )

    def row(found: re.Match[str]) -> str:
        k, r, energy, force = found[0].split()
        x = 1.5 - float(r)
        return f"{k} {r} {float(energy) - x**3:.15g} {float(force) - 3 * x**2:.15g}"

    return re.sub(r"^\d+ (0\.\d+|1\.[0-4]\d*) \S+ \S+$", row, text, flags=re.MULTILINE)
