"""The loss behind ASE's interface: who drives it through ASE gets the numpy reference."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.calculator import Calculator as AseCalculator
from ase.calculators.fd import calculate_numerical_forces, calculate_numerical_stress
from ase.optimize import BFGS
from conftest import CUBE, TRICLINIC, energy_and_forces, invent, liquid, shuffled, topology_of

import mld_ff
from mld_ff.errors import InputError
from mld_ff.loss.densities import DensityTerm
from mld_ff.loss.model import AgentLoss
from mld_ff.trajectory import Trajectory

SOLUTION = ["H2O"] * 8 + ["CH3OH", "CH3OH", "Na", "Na"]


def atoms_of(frame: Trajectory, calculator: AseCalculator) -> Atoms:
    return Atoms(
        frame.symbols, frame.positions[0], cell=frame.cell[0], pbc=True, calculator=calculator
    )


def test_energy_forces_and_stress(few: Trajectory, spline_water: AgentLoss, tmp_path: Path) -> None:
    """From a model file; the stress against a strained cell, pair by pair and term by term."""
    spline_water.save(tmp_path / "model.json")
    atoms = atoms_of(few[0], mld_ff.Calculator(tmp_path / "model.json"))
    energy, forces = energy_and_forces(spline_water, few[0])
    assert atoms.get_potential_energy() == energy and np.array_equal(atoms.get_forces(), forces)
    frame = liquid(SOLUTION, TRICLINIC, seed=2)
    pairs = invent(frame, cutoff=4.8, edge=2.9)
    channel = DensityTerm(
        name="collective:O:1",
        species=("O",),
        neighbours=("O", "H"),
        functions=(5, 5),
        coefficients=(0.3, -0.2, 0.5, 0.4, -0.1) * 2,
        spacing_A=0.4,
        cutoff_A=4.0,
        strength_eV=0.5,
        rest=0.1,
    )
    atoms = atoms_of(frame, mld_ff.Calculator(replace(pairs, terms=(*pairs.terms, channel))))
    some = [0, 5, -1]
    assert atoms.get_forces()[some] == pytest.approx(
        calculate_numerical_forces(atoms, 1e-4, some), abs=5e-6
    )
    assert np.abs(atoms.get_stress()).max() > 1e-4
    assert atoms.get_stress() == pytest.approx(calculate_numerical_stress(atoms, 1e-6), abs=1e-9)


def test_ase_drives_it(few: Trajectory, power_water: AgentLoss) -> None:
    atoms = atoms_of(few[0], mld_ff.Calculator(power_water))
    before = atoms.get_potential_energy()
    BFGS(atoms, logfile=None).run(steps=5)
    assert atoms.get_potential_energy() < before - 1


def test_one_calculator_for_several_systems() -> None:
    """Other elements, another order of the same atoms: molecules are found again."""
    frame = liquid(SOLUTION, CUBE, seed=3)
    loss = invent(frame, cutoff=4.8)
    calculator = mld_ff.Calculator(loss)
    waters = liquid(["H2O"] * 9, CUBE, seed=4)
    swapped = waters.select_atoms(np.concatenate([[3, 1, 2, 0], np.arange(4, 27)]))
    for box in (frame, waters, swapped, shuffled(frame, 1)[0]):
        assert atoms_of(box, calculator).get_potential_energy() == pytest.approx(
            energy_and_forces(loss, box)[0]
        )
    assert swapped.symbols == waters.symbols


def test_what_it_refuses(few: Trajectory, power_water: AgentLoss) -> None:
    calculator = mld_ff.Calculator(power_water)
    with pytest.raises(InputError, match="the system holds C; the model knows only O, H"):
        atoms_of(liquid(["CH3OH"], CUBE), calculator).get_forces()
    with pytest.raises(InputError, match="at most half the smallest width of the cell"):
        atoms_of(liquid(["H2O"], CUBE / 2), calculator).get_forces()
    atoms = atoms_of(few[0], calculator)
    atoms.pbc = (True, True, False)
    with pytest.raises(InputError, match="periodic along all three"):
        atoms.get_forces()
    atoms = atoms_of(few[0], mld_ff.Calculator(power_water, topology_of(few[0])))
    atoms.symbols[0] = "S"
    with pytest.raises(InputError, match="not those of the topology"):
        atoms.get_forces()
