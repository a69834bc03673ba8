"""Matter without molecules: any two atoms are a pair, from the data to what engines run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import openmm
import pytest
from ase import Atoms
from ase.build import bulk
from conftest import (
    energy_and_forces,
    frame_of,
    free_term,
    invent,
    liquid,
    with_angles,
    with_channels,
)
from openmm import app

from mld_ff import Calculator, fit
from mld_ff.configuration.toml import read_config
from mld_ff.engines.lammps.export import export_lammps
from mld_ff.engines.openmm.export import export_openmm
from mld_ff.engines.registry import ENGINES
from mld_ff.engines.settings import Device
from mld_ff.engines.start import start_from
from mld_ff.engines.structure import write_structure
from mld_ff.errors import InputError
from mld_ff.geometry.system import lasting_topology, systems
from mld_ff.geometry.topology import find_topology
from mld_ff.inference import Basis, Dataset, Part, accumulate, read_shards, write_shard
from mld_ff.loss.model import AgentLoss
from mld_ff.report.partners import compare_partners
from mld_ff.report.structure import join_blocks, measure_blocks
from mld_ff.sources.packing import replicate
from mld_ff.sources.structures import read_structure
from mld_ff.survey import inspect
from mld_ff.trajectory import Trajectory
from mld_ff.verification import verify

PAIRS = Basis(accuracy="pairs", cutoff_A=4.5, topology="none")


@pytest.fixture(scope="module")
def salt() -> Trajectory:
    """A crystal of 64 ions, disturbed."""
    atoms = bulk("NaCl", "rocksalt", a=5.64, cubic=True) * 2
    noise = 0.1 * np.random.default_rng(0).normal(size=atoms.positions.shape)
    return frame_of(atoms.get_chemical_symbols(), atoms.positions + noise, atoms.cell[:])


@pytest.fixture(scope="module")
def loss_of_salt(salt: Trajectory) -> AgentLoss:
    """Pairs, embeddings and angles, all invented."""
    topology = find_topology(salt.symbols, salt.positions[0], salt.cell[0])
    names = topology.free_names.items()
    pairs = tuple(replace(free_term(pair), name=name) for pair, name in names)
    return with_angles(with_channels(AgentLoss(topology.species, pairs), 1), 1)


# --- who has no molecules -------------------------------------------------------------------------


def with_proton_handed_on(frames: Trajectory, number: int, away_A: float = 1.0) -> Trajectory:
    """In the last frames, so many, a hydrogen is as near to another oxygen."""
    topology = find_topology(frames.symbols, frames.positions[0], frames.cell[0])
    (own,) = topology.neighbours[64]
    other = next(k for k in range(64) if k != own)
    positions = frames.positions.copy()
    positions[-number:, 64] = positions[-number:, other] + [away_A, 0, 0]
    return replace(frames, positions=positions)


def test_protons_that_change_partners_leave_no_molecules(few: Trajectory) -> None:
    assert lasting_topology(few).formulas() == {"H2O": 64}
    assert not lasting_topology(with_proton_handed_on(few, 4)).no_molecules  # a tenth
    acid = with_proton_handed_on(few, 5)
    why = "protons are with new partners in 5 of 40 frames"
    assert lasting_topology(acid).no_molecules == why
    assert lasting_topology(acid, "molecules").formulas() == {"H2O": 64}
    assert inspect(acid, 3.0).to_dict()["no_molecules"] == why
    with pytest.raises(InputError, match=r"bonds break in 5 of 40 .* \(--topology none\)"):
        fit(acid, replace(PAIRS, topology="molecules"))


def test_bonds_that_merely_break_are_no_acid(few: Trajectory) -> None:
    """Positions that do not belong to the cell look like that."""
    torn = with_proton_handed_on(few, 20)
    torn.positions[5:, 3] += [1.0, 1.0, 0.0]
    assert lasting_topology(torn).kind == "molecules"


def test_a_network_is_told_in_a_sentence() -> None:
    crystal = bulk("ZnS", "zincblende", a=5.41, cubic=True) * 2
    frame = frame_of(crystal.get_chemical_symbols(), crystal.positions, crystal.cell[:])
    told = inspect(frame).to_dict()
    assert told["molecules"] == {}
    assert told["no_molecules"] == (
        "bonds connect 64 of 64 atoms with their own periodic images, as in a network or a metal"
    )
    assert list(told["distances_A"]) == ["any:S-S", "any:S-Zn", "any:Zn-Zn"]


# --- fit ------------------------------------------------------------------------------------------


def test_bonds_of_water_are_learned_as_any_pairs(few: Trajectory) -> None:
    """... as well as with molecules: the O–H bond is a spline among others."""
    with_molecules = fit(few, replace(PAIRS, topology=None)).loss
    without = fit(few, PAIRS).loss
    assert [t.name for t in without.terms] == ["any:O-O", "any:O-H", "any:H-H"]
    assert without.topology_kind == "none" and with_molecules.topology_kind == "molecules"
    errors = [loss.provenance["rmse_meV_per_A"] for loss in (without, with_molecules)]
    assert errors[0] < 1.05 * errors[1]
    for term in without.free_terms:  # walls stand outside of what was seen
        assert 0.01 < term.sampled_A[0] - term.wall_edge_A < 0.04


def test_shards_know_that_there_are_no_molecules(few: Trajectory, tmp_path: Path) -> None:
    dataset = Dataset.of(few, topology="none")
    for k in (1, 2):
        write_shard(accumulate(dataset, PAIRS.terms, part=Part(k, 2)), tmp_path / f"{k}.npz")
    shards = read_shards([tmp_path / "1.npz", tmp_path / "2.npz"])
    assert shards.survey.topology.no_molecules == "they were not asked for"
    again = accumulate(few, shards)  # as `accumulate --like` does
    assert again.survey.topology.kind == "none"


def test_a_configuration_asks_for_no_molecules(tmp_path: Path) -> None:
    file = tmp_path / "build.toml"
    file.write_text('cp2k = "."\noutput = "out"\n[fit]\ntopology = "none"\n[run]\n')
    assert read_config(file).basis.topology == "none"
    file.write_text(file.read_text().replace("none", "atoms"))
    with pytest.raises(InputError, match="the topology is 'atoms'; known: molecules, none"):
        read_config(file)


# --- engines --------------------------------------------------------------------------------------


def test_engines_compute_it(salt: Trajectory, loss_of_salt: AgentLoss) -> None:
    device = Device("CPU", many_body="python")
    result = verify(loss_of_salt, salt, 1, device=device, per_term=False)
    assert set(result.engines) == {"openmm", "lammps"}
    assert result.passed


def test_ranges_of_densities_may_differ(
    salt: Trajectory, loss_of_salt: AgentLoss, tmp_path: Path
) -> None:
    """In LAMMPS all species share one grid of densities: here one of them has a range a hundred
    times as wide.
    """
    start = start_from(salt, topology=loss_of_salt.topology_kind)
    frame = start.engine_frames(salt)
    wide, narrow = (t for t in loss_of_salt.channels if not t.order)
    wider = replace(
        wide,
        coefficients=tuple(100 * c for c in wide.coefficients),
        strength_eV=wide.strength_eV / 100**2,
        rest=100 * wide.rest,
        range=(-280.0, 5.0),
        fade=10.0,
    )
    channels = wider, replace(narrow, range=(0.1, 1.4))
    loss = replace(loss_of_salt, terms=(*loss_of_salt.free_terms, *channels))
    export_lammps(loss, start, tmp_path)
    _, forces = ENGINES["lammps"].evaluate(tmp_path, frame, Device())
    (system,) = systems(start.topology, frame, loss.cutoff_A)
    assert np.abs(forces[0] - loss.evaluate(system).forces).max() < 5e-5


def test_lammps_needs_no_bonds(salt: Trajectory, loss_of_salt: AgentLoss, tmp_path: Path) -> None:
    start = start_from(salt, topology=loss_of_salt.topology_kind)
    names = {file.name for file in export_lammps(loss_of_salt, start, tmp_path)}
    assert "bond.table" not in names
    assert "special_bonds" not in (tmp_path / "forcefield.lmp").read_text()
    assert "\nAtoms  # atomic\n" in (tmp_path / "system.data").read_text()
    assert (tmp_path / "settings.lmp").read_text().startswith("variable atoms index atomic\n")


@pytest.mark.parametrize("suffix", [".pdb", ".cif", ".gro", ".xyz"])
def test_a_larger_box_from_any_structure(salt: Trajectory, tmp_path: Path, suffix: str) -> None:
    write_structure(start_from(replicate(salt, (1, 2, 1))), tmp_path / f"salt{suffix}")
    start = start_from(read_structure(tmp_path / f"salt{suffix}"))
    assert start.topology.formulas() == {"Na": 64, "Cl": 64} and start.topology.no_molecules
    assert len(start.structure.residues) == 128 and not start.structure.bonds


def test_force_field_for_any_box(salt: Trajectory, loss_of_salt: AgentLoss, tmp_path: Path) -> None:
    start = start_from(replicate(salt, (2, 1, 1)), topology=loss_of_salt.topology_kind)
    small = start_from(salt, topology=loss_of_salt.topology_kind)
    export_openmm(loss_of_salt, small, tmp_path)
    field = app.ForceField(str(tmp_path / "forcefield.xml"))
    system = field.createSystem(start.structure.topology, nonbondedMethod=app.CutoffPeriodic)
    assert not any(f.getNumExclusions() for f in system.getForces() if "any:" in f.getName())
    platform = openmm.Platform.getPlatformByName("Reference")
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), platform)
    context.setPositions(start.frame.positions[0] / 10)
    energy = context.getState(getEnergy=True).getPotentialEnergy()._value / 96.48533212
    atoms = Atoms(salt.symbols, salt.positions[0], cell=salt.cell[0], pbc=True) * (2, 1, 1)
    atoms.calc = Calculator(loss_of_salt)
    assert atoms.get_potential_energy() == pytest.approx(
        2 * energy_and_forces(loss_of_salt, salt)[0]
    )
    assert energy == pytest.approx(atoms.get_potential_energy(), rel=1e-5)


def test_models_and_systems_of_different_kinds(few: Trajectory, salt: Trajectory) -> None:
    water = start_from(liquid(["H2O"] * 4, np.eye(3) * 12))
    loss = AgentLoss(("O", "H"), (replace(free_term(("O", "H")), name="any:O-H"),))
    with pytest.raises(InputError, match="was learned without molecules, and the system has some"):
        loss.terms_of(water.topology)
    with pytest.raises(InputError, match="is of molecules, and the system has none: they were not"):
        invent(few[0]).terms_of(start_from(few[0], topology="none").topology)
    ions = [("Na", "Na"), ("Cl", "Na"), ("Cl", "Cl")]  # of a version that knew but `free`
    old = AgentLoss(("Cl", "Na"), tuple(free_term(pair) for pair in ions))
    assert energy_and_forces(old, salt)[0] != 0.0


@pytest.mark.parametrize("knot_within_A", [0.002, 0.015])
def test_no_energy_jumps_where_walls_begin(few: Trajectory, knot_within_A: float) -> None:
    """Knots between the shortest distance and the wall outside of it: all functions must be there
    that overlap there. (One was dropped: an acid in LAMMPS met a step of 4 eV.)"""
    frames, basis = few[::4], replace(PAIRS, spacing_A=0.2)
    (pair,) = (t for t in fit(frames, basis).loss.free_terms if t.name == "any:O-H")
    shortest = pair.sampled_A[0]
    longer = replace(basis, cutoff_A=shortest - knot_within_A + 18 * 0.2)
    (term,) = (t for t in fit(frames, longer).loss.free_terms if t.name == "any:O-H")
    r = np.arange(term.wall_edge_A - 0.05, shortest + 0.3, 1e-4)
    energy, slope = term.evaluate(r)
    assert np.abs(np.diff(energy)).max() < 2e-4 * np.abs(slope).max()


# --- report ---------------------------------------------------------------------------------------


def test_coordination_and_angles_of_a_crystal() -> None:
    rng = np.random.default_rng(1)
    crystal = bulk("NaCl", "rocksalt", a=5.64, cubic=True) * 2
    x = crystal.positions + 0.15 * rng.normal(size=(25, 64, 3))
    frame = frame_of(crystal.get_chemical_symbols(), crystal.positions, crystal.cell[:])
    frames = replace(
        frame,
        positions=x,
        cell=np.repeat(frame.cell, 25, axis=0),
        time=np.arange(25.0),
        step=np.arange(25),
    )
    blocks = measure_blocks(frames)
    whole = join_blocks(blocks)
    values = whole.observables()
    assert values["coordination:Na-Cl"] == pytest.approx(6, abs=0.01)
    assert values["coordination:Cl-Cl"] == pytest.approx(12, abs=0.5)
    assert set(whole.angles) == {("Cl", "Na", "Cl"), ("Na", "Cl", "Na")}
    degrees = whole.angles["Cl", "Na", "Cl"]
    assert len(degrees) == pytest.approx(25 * 32 * 15, rel=0.01)
    assert (degrees > 135).mean() == pytest.approx(3 / 15, abs=0.01)


def test_protons_are_counted_as_often_as_they_are_handed_on(few: Trajectory) -> None:
    """... once in four frames 20 fs apart, whatever the frames in between."""
    acid = with_proton_handed_on(few, 20)
    even = replace(acid, time=10.0 * np.arange(40.0), step=20 * np.arange(40))
    counted = compare_partners({"reference": even, "lammps": even[::2]}).statistics
    for statistics in counted.values():
        assert statistics["proton_changes_per_ps"].value == pytest.approx(1 / (19 * 0.02))
