"""Charges in both engines, and in the files that other programs read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import openmm
import pytest
from conftest import CUBE, TRICLINIC, frame_of, invent, liquid, present, topology_of
from engine_cases import SOLUTION, angular, charged, molecules
from openmm import app

from mld_ff.engines.lammps.evaluation import evaluate as evaluate_lammps
from mld_ff.engines.lammps.export import export_lammps
from mld_ff.engines.openmm.evaluation import forces_in, set_frame
from mld_ff.engines.openmm.export import export_openmm
from mld_ff.engines.openmm.platforms import context_of
from mld_ff.engines.openmm.system import openmm_system
from mld_ff.engines.settings import Device
from mld_ff.engines.start import start_from
from mld_ff.geometry.system import System
from mld_ff.loss.charges import ChargeTerm
from mld_ff.loss.evaluation import Evaluation
from mld_ff.loss.ewald import own, splitting
from mld_ff.loss.model import AgentLoss
from mld_ff.trajectory import Trajectory
from mld_ff.units import EV_TO_KJ_PER_MOL
from mld_ff.verification import ENERGY_TOLERANCE, verify


def test_both_engines_compute_charges() -> None:
    """Beside bonded pairs across the boundary, in a triclinic cell, term by term."""
    frame = liquid(SOLUTION, TRICLINIC, seed=4)
    verified = verify(charged(invent(frame, cutoff=4.8), frame), frame, per_term=False)
    assert verified.passed, verified.to_dict()
    assert list(verified.engines) == ["openmm", "openmm native", "lammps"]


@pytest.mark.parametrize(("cutoff_A", "factor"), [(4.8, 2.0), (4.4, 1.0)])
def test_openmm_computes_what_is_near_beside_pairs(cutoff_A: float, factor: float) -> None:
    """... that end where charges do, of 2.4 e too; else its own force of charges does."""
    frame = liquid(SOLUTION, TRICLINIC, seed=4)
    pairs = invent(frame, "power", (1.0,), cutoff=4.8)
    loss = charged(pairs, frame, cutoff_A)
    charges = present(loss.charges)
    scaled = replace(charges, coefficients=tuple(factor * q for q in charges.coefficients))
    loss = replace(loss, terms=(*loss.pair_terms, scaled))
    system = openmm_system(loss, start_from(frame))
    (waves,) = (force for force in system.getForces() if isinstance(force, openmm.NonbondedForce))
    assert waves.getIncludeDirectSpace() == (cutoff_A != 4.8)
    found, expected = in_openmm_and_numpy(loss, frame)
    assert forces_in(found) == pytest.approx(expected.forces, abs=2e-4)
    energy = found.getPotentialEnergy()._value / EV_TO_KJ_PER_MOL
    assert energy == pytest.approx(expected.energy, abs=2e-3)


def test_bonded_pairs_beyond_the_cutoff() -> None:
    """... of charges, and atoms on either side of the boundary: hydrogens of ethanol are up to 4 Å
    apart."""
    frame = liquid(["CH3CH2OH"] * 4, 8.6 * np.eye(3), seed=2)
    loss = with_charges(
        invent(frame, "power", (1.0,), cutoff=3.0), {"C": -0.2, "H": 0.2, "O": -0.8}
    )
    found, expected = in_openmm_and_numpy(loss, frame, wrapped=True)
    assert forces_in(found) == pytest.approx(expected.forces, abs=1e-4)


@pytest.mark.parametrize(("charge_e", "error_eV_per_A"), [(2.0, 7.5e-5), (0.2, 2e-5)])
def test_forces_and_energies_of_dense_ions(charge_e: float, error_eV_per_A: float) -> None:
    """With as much to spare as melts of MgO need: forces of 2 e erred by 1.10e-4 eV/Å in those, by
    8e-5 here; energies of 0.2 e by 1.6e-5 here."""
    sites = np.stack(np.meshgrid(*[np.arange(6)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    symbols = [("Mg", "O")[k % 2] for k in sites.sum(axis=1)]
    shifts = np.random.default_rng(1).normal(size=sites.shape)
    frame = frame_of(symbols, sites * 12.5 / 6 + 0.15 * shifts, 12.5 * np.eye(3))
    pairs = invent(frame, "power", (1.0,), cutoff=6.2)
    loss = with_charges(pairs, {"Mg": charge_e, "O": -charge_e}).only("charge")
    found, expected = in_openmm_and_numpy(loss, frame, platform="Reference")
    assert np.linalg.norm(forces_in(found) - expected.forces, axis=1).max() < error_eV_per_A
    energy = found.getPotentialEnergy()._value / EV_TO_KJ_PER_MOL
    of = abs(expected.energy) + present(loss.charges).cancelling_eV(topology_of(frame))
    assert energy == pytest.approx(expected.energy, abs=ENERGY_TOLERANCE * of)


def with_charges(loss: AgentLoss, charges_e: dict[str, float]) -> AgentLoss:
    """The loss with charges of species, which end where its pairs do."""
    charges = tuple(charges_e[s] for s in loss.species)
    term = ChargeTerm(
        name="charge", species=loss.species, coefficients=charges, cutoff_A=loss.cutoff_A
    )
    return replace(loss, terms=(*loss.terms, term))


def in_openmm_and_numpy(
    loss: AgentLoss, frame: Trajectory, platform: str = "CPU", wrapped: bool = False
) -> tuple[openmm.State, Evaluation]:
    """A frame, its molecules whole or (wrapped) every atom by itself in the cell."""
    start = start_from(frame, force=True)
    there = start.engine_frames(frame)
    context = context_of(openmm_system(loss, start), Device(platform))
    set_frame(context, frame.select_atoms(start.order) if wrapped else there, 0)
    agents = System(start.topology, there.positions[0], there.cell[0], loss.cutoff_A)
    return context.getState(energy=True, forces=True), loss.evaluate(agents)


def test_charges_of_three(tmp_path: Path) -> None:
    """LAMMPS's tables left out 3.3e-4 eV/Å beyond their end, where that of 1 e is 4e-5."""
    frame = liquid(["Al", "N"] * 8, TRICLINIC, seed=2)
    loss = invent(frame, "power", (1.0,), cutoff=5.5)
    loss, start = with_charges(loss, {"Al": 3.0, "N": -3.0}), start_from(frame)
    export_lammps(loss, start, tmp_path)
    there = start.engine_frames(frame)
    system = System(start.topology, there.positions[0], there.cell[0], loss.cutoff_A)
    _, forces = evaluate_lammps(tmp_path, there)
    assert forces[0] == pytest.approx(loss.evaluate(system).forces, abs=2e-4)


@pytest.mark.parametrize(("edge_A", "accuracy"), [(7.5, "3e-6"), (25.0, "1e-6")])
def test_waves_are_finer_where_charges_are_dilute(
    edge_A: float, accuracy: str, tmp_path: Path
) -> None:
    """PPPM's error is that of the box: of 10 waters in 25 Å it was 3e-4 eV/Å on their atoms."""
    frame = liquid(["H2O"] * 14, edge_A * np.eye(3), seed=1)
    loss = charged(invent(frame, cutoff=3.5), frame, 3.5)
    charges = present(loss.charges)
    large = replace(charges, coefficients=tuple(3 * q for q in charges.coefficients))
    terms = tuple(large if t is charges else t for t in loss.terms)
    export_lammps(replace(loss, terms=terms), start_from(frame), tmp_path)
    text = (tmp_path / "forcefield.lmp").read_text()
    assert f"kspace_style pppm {accuracy}\n" in text


def test_no_waves_where_nothing_is_charged(tmp_path: Path) -> None:
    """... of a model with charges: LAMMPS warns of it."""
    frame = liquid(["H2O"] * 8, CUBE, seed=1)
    loss = charged(invent(frame, cutoff=4.8), frame)
    charges = present(loss.charges)
    idle = replace(charges, coefficients=(0.0,) * len(charges.coefficients))
    terms = tuple(idle if t is charges else t for t in loss.terms)
    export_lammps(replace(loss, terms=terms), start_from(frame), tmp_path)
    assert "pppm" not in (tmp_path / "forcefield.lmp").read_text()
    topology = topology_of(frame)
    own_waves = own(splitting(charges.cutoff_A)) * (charges.of_atoms(topology) ** 2).sum()
    assert charges.cancelling_eV(topology) == pytest.approx(14.399645 / 2 * own_waves)
    assert idle.cancelling_eV(topology) == 0


def test_lammps_computes_charges_beside_angles(tmp_path: Path) -> None:
    """In hybrid/scaled, with bonded pairs that densities see."""
    loss, frames = angular(molecules(SOLUTION, TRICLINIC))()
    loss, start = charged(loss, frames), start_from(frames[0])
    export_lammps(loss, start, tmp_path)
    there = start.engine_frames(frames[0])
    energies, forces = evaluate_lammps(tmp_path, there)
    system = System(start.topology, there.positions[0], there.cell[0], loss.cutoff_A)
    expected = loss.evaluate(system)
    assert forces[0] == pytest.approx(expected.forces, abs=2e-4)
    assert energies[0] == pytest.approx(expected.energy, abs=1e-3)


def test_forcefield_xml_and_parmed_carry_charges(tmp_path: Path) -> None:
    """Two oxygens and three hydrogens that differ."""
    frame = liquid(["CH3OH"] + ["H2O"] * 6, CUBE)
    loss, start = charged(invent(frame, cutoff=4.8), frame), start_from(frame)
    export_openmm(loss, start, tmp_path)
    topology = app.PDBFile(str(tmp_path / "topology.pdb")).topology
    forcefield = app.ForceField(str(tmp_path / "forcefield.xml"))
    made = forcefield.createSystem(topology, nonbondedMethod=app.CutoffPeriodic)
    exported = openmm.XmlSerializer.deserialize((tmp_path / "system.xml").read_text())
    energies = []
    for system in (made, exported):
        context = openmm.Context(
            system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatform("CPU")
        )
        context.setPositions(start.frame.positions[0] / 10)
        energies.append(context.getState(energy=True).getPotentialEnergy()._value)
    assert energies[0] == pytest.approx(energies[1], rel=1e-6) and abs(energies[0]) > 1
    atoms = start.charged(loss).atoms
    expected = [present(loss.charges).charges_e[t] for t in start.topology.atom_types]
    assert [a.charge for a in atoms] == pytest.approx(expected) and len({*expected}) == 6


def test_a_bonded_atom_beside_its_own_ion(tmp_path: Path) -> None:
    """A lone chloride is of the type Cl, as is its element; chlorine of chloromethane is not."""
    frame = liquid(["CH3Cl", "H2O", "H2O", "Na", "Cl"], CUBE)
    loss, start = charged(invent(frame, cutoff=4.8), frame), start_from(frame)
    export_openmm(loss, start, tmp_path)
    topology = app.PDBFile(str(tmp_path / "topology.pdb")).topology
    forcefield = app.ForceField(str(tmp_path / "forcefield.xml"))
    made = forcefield.createSystem(topology, nonbondedMethod=app.CutoffPeriodic)
    (force,) = (f for f in made.getForces() if f.getName() == "charge")
    found = [force.getParticleParameters(k)[0]._value for k in range(made.getNumParticles())]
    expected = [present(loss.charges).charges_e[t] for t in start.topology.atom_types]
    assert found == pytest.approx(expected) and abs(sum(found)) < 1e-9
