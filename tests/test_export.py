"""Exported files: OpenMM and LAMMPS run them, and compute what numpy says, on every kind of system
and loss.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import openmm
import pytest
from ase import Atoms
from ase.geometry import cellpar_to_cell
from conftest import (
    CUBE,
    TRICLINIC,
    energy_and_forces,
    evaluate,
    frame_of,
    invent,
    liquid,
    named_pairs,
    shuffled,
    topology_of,
    with_channels,
)
from openmm import app

from mld_ff.engines.lammps import run as lammps_engine
from mld_ff.engines.lammps.export import export_lammps
from mld_ff.engines.openmm import run as openmm_engine
from mld_ff.engines.openmm.export import export_openmm, openmm_system
from mld_ff.engines.start import Start, start_from
from mld_ff.errors import InputError
from mld_ff.loss.model import AgentLoss
from mld_ff.trajectory import Floats, Trajectory, concatenate

EXPORTS = {"openmm": export_openmm, "lammps": export_lammps}
ENGINES = {"openmm": openmm_engine, "lammps": lammps_engine}
FORCE_LIMIT = {"openmm": 1e-4, "lammps": 2e-4}
"""[eV/Å]"""
ENERGY_LIMIT = 1e-5
"""Relative to the sum of the magnitudes of the terms."""
KJ_PER_MOL_PER_EV = 96.48533

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


def doubled(frame: Trajectory) -> Trajectory:
    """Two copies side by side."""
    box = Atoms(frame.symbols, frame.positions[0], cell=frame.cell[0], pbc=True).repeat((1, 1, 2))
    return frame_of(box.get_chemical_symbols(), box.positions, box.cell.array)


def molecules(
    names: list[str], cell: Floats, kind: str = "spline", exponents: tuple[float, ...] = (3.0,)
) -> Case:
    def make(**_: object) -> tuple[AgentLoss, Trajectory]:
        frame, _ = shuffled(liquid(names, cell, seed=11, jitter=0.04), 5)
        return invent(frame, kind, exponents, cutoff=4.8, edge=2.9), jittered(frame)

    return make


def collective(make: Case) -> Case:
    def make_with_channels(**fixtures: object) -> tuple[AgentLoss, Trajectory]:
        loss, frames = make(**fixtures)
        return with_channels(loss), frames

    return make_with_channels


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
        ["H2O"] * 4 + ["NH3", "CH3OH", "CH3OH", "Cl", "Cl", "Na", "Ar", "Ar"], CUBE
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


@pytest.fixture
def waters() -> Trajectory:
    return liquid(["H2O"] * 8, CUBE, seed=1)


# --- the same energy and forces -------------------------------------------------------------------


@pytest.mark.parametrize("engine", EXPORTS)
@pytest.mark.parametrize("case", CASES)
def test_engine_computes_what_numpy_says(
    engine: str,
    case: str,
    tmp_path: Path,
    few: Trajectory,
    spline_water: AgentLoss,
    power_water: AgentLoss,
    collective_water: AgentLoss,
) -> None:
    """Two frames whose atoms lie on both sides of the boundary, in an order of their own.

    numpy evaluates the frames as they are, the engines what was made of them: by molecule, in the
    standard cell.
    """
    fitted = {
        "spline_water": spline_water,
        "power_water": power_water,
        "collective_water": collective_water,
    }
    loss, frames = CASES[case](few=few, **fitted)
    start = start_from(frames[0])
    ready = start.engine_frames(frames)
    EXPORTS[engine](loss, start, tmp_path)
    energies, forces = ENGINES[engine].evaluate(tmp_path, ready)
    assert ready.symbols == tuple(frames.symbols[k] for k in start.order)
    for f in range(frames.n_frames):
        energy, expected = energy_and_forces(loss, frames[f])
        assert abs(energies[f] - energy) <= ENERGY_LIMIT * energy_scale(loss, frames[f])
        turn = rotation(frames.cell[f], ready.cell[f])
        difference = np.linalg.norm(forces[f] - expected[start.order] @ turn, axis=1)
        assert difference.max() <= FORCE_LIMIT[engine], difference.max()
        assert np.abs(expected).max() > 0.1
    assert np.abs(forces[0] - forces[1]).max() > 1e-3


def rotation(cell: Floats, reduced: Floats) -> Floats:
    """The rotation of `cell` that brings a along x and b into the xy plane; it then spans the
    lattice of `reduced`.
    """
    x = cell[0] / np.linalg.norm(cell[0])
    y = cell[1] - (cell[1] @ x) * x
    y /= np.linalg.norm(y)
    turn = np.stack([x, y, np.cross(x, y)], axis=1)
    whole = cell @ turn @ np.linalg.inv(reduced)
    assert whole == pytest.approx(np.round(whole), abs=1e-9), "not the same lattice"
    assert abs(np.linalg.det(np.round(whole))) == pytest.approx(1)
    return turn


def test_cases_reach_beyond_walls(tmp_path: Path) -> None:
    """Else the agreement above would say nothing about them."""
    loss, frames = CASES["alcohols"]()
    topology = topology_of(frames[0])
    terms = loss.terms_of(topology)
    beyond = [
        name
        for name, pairs in named_pairs(topology, frames.positions[0], frames.cell[0], loss.cutoff_A)
        if any(((wall.edge_A - pairs.r) * wall.inward > 0).any() for wall in terms[name].walls)
    ]
    assert {name.split(":")[0] for name in beyond} == {"bonded", "free"}
    assert {len(t.species) for t in loss.terms} == {2} and len(loss.bond_terms) > 7


def test_terms_with_cutoffs_and_exponents_of_their_own(few: Trajectory, tmp_path: Path) -> None:
    """The model file lets every term have its own."""
    frame = few[0]
    long, short = (
        invent(frame, "power", (2.0,), cutoff=6.0),
        invent(frame, "power", (3.0, 1.0), cutoff=4.0),
    )
    loss = replace(long, terms=(*long.terms[:-1], short.terms[-1]))
    start = start_from(frame)
    system = openmm_system(loss, start)
    free = [f for f in system.getForces() if isinstance(f, openmm.CustomNonbondedForce)]
    groups = {round(f.getCutoffDistance()._value, 6): f.getForceGroup() for f in free}
    assert groups == {0.6: 0, 0.4: 1}, "GPU platforms refuse two cutoffs in one group"
    expected = energy_and_forces(loss, start.frame)[1]
    for engine in EXPORTS:
        EXPORTS[engine](loss, start, tmp_path / engine)
        _, forces = ENGINES[engine].evaluate(tmp_path / engine, start.frame)
        assert np.linalg.norm(forces[0] - expected, axis=1).max() <= FORCE_LIMIT[engine], engine


def test_splines_and_powers_in_one_model(few: Trajectory, tmp_path: Path) -> None:
    frame = few[0]
    splines, powers = invent(frame), invent(frame, "power", cutoff=5.5)
    loss = replace(splines, terms=(*splines.terms[:-1], powers.terms[-1]))
    start = start_from(frame)
    expected = energy_and_forces(loss, start.frame)[1]
    for engine in EXPORTS:
        EXPORTS[engine](loss, start, tmp_path / engine)
        _, forces = ENGINES[engine].evaluate(tmp_path / engine, start.frame)
        assert np.linalg.norm(forces[0] - expected, axis=1).max() <= FORCE_LIMIT[engine], engine


# --- OpenMM's files -------------------------------------------------------------------------------


def test_openmm_system_by_itself(few: Trajectory, spline_water: AgentLoss, tmp_path: Path) -> None:
    """Plain OpenMM on every platform that is always there; names of forces are names of terms."""
    start = start_from(few[0])
    written = export_openmm(spline_water, start, tmp_path)
    assert sorted(f.name for f in written) == sorted(f.name for f in tmp_path.iterdir())
    system = openmm.XmlSerializer.deserialize((tmp_path / "system.xml").read_text())
    names = [force.getName() for force in system.getForces()]
    assert names == [
        "bonded:O-H",
        "bonded:H-H",
        "free:O-O free:O-H free:H-H",
        "centre of mass at rest",
    ]
    assert system.getNumParticles() == 192 and system.getNumConstraints() == 0
    assert all(force.usesPeriodicBoundaryConditions() for force in system.getForces()[:3])
    state = openmm.XmlSerializer.deserialize((tmp_path / "state.xml").read_text())
    energy = energy_and_forces(spline_water, start.frame)[0]
    for platform in ("Reference", "CPU"):
        context = openmm.Context(
            system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName(platform)
        )
        context.setPositions(state.getPositions())
        found = context.getState(energy=True).getPotentialEnergy()._value / KJ_PER_MOL_PER_EV
        assert found == pytest.approx(energy, abs=1e-5 * energy_scale(spline_water, start.frame))


def test_exclusions_are_the_bonded_pairs_in_every_nonbonded_force(tmp_path: Path) -> None:
    """OpenMM's CPU and CUDA platforms refuse anything else."""
    frame = liquid(["CH3CH2OH", "H2O", "H2O", "Cl"], CUBE)
    splines, powers = invent(frame), invent(frame, "power")
    start = start_from(frame)
    export_openmm(
        replace(splines, terms=(*splines.terms[:-2], *powers.terms[-2:])), start, tmp_path
    )
    root = ET.parse(tmp_path / "system.xml").getroot()
    found = [
        sorted((int(e.get("p1", -1)), int(e.get("p2", -1))) for e in force.iter("Exclusion"))
        for force in root.iter("Force")
        if force.get("type") == "CustomNonbondedForce"
    ]
    # all 36 pairs of ethanol but the three of the hydroxyl's hydrogen with the methyl's; three
    # pairs of each water
    expected = sorted(
        (int(i), int(j)) for pairs in start.topology.bonded.values() for i, j in pairs
    )
    assert len(found) == 2 and len(expected) == 33 + 2 * 3
    assert found == [expected, expected]


def plain_system(directory: Path, box: Path, **options: object) -> openmm.System:
    """What OpenMM alone makes of forcefield.xml and a PDB file."""
    topology = app.PDBFile(str(box)).topology
    options = {"nonbondedMethod": app.CutoffPeriodic, **options}
    return app.ForceField(str(directory / "forcefield.xml")).createSystem(topology, **options)


def cpu_state(system: openmm.System, frame: Trajectory) -> tuple[float, Floats]:
    """Energy [kJ/mol] and forces [kJ/mol/nm] of a frame in its own cell."""
    platform = openmm.Platform.getPlatformByName("CPU")
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), platform)
    context.setPeriodicBoxVectors(*(openmm.Vec3(*row) for row in frame.cell[0] / 10))
    context.setPositions(frame.positions[0] / 10)
    state = context.getState(energy=True, forces=True)
    return state.getPotentialEnergy()._value, np.array(state.getForces(asNumpy=True)._value)


XML_CASES = {
    "water": CASES["water, fitted splines"],
    "alcohols, power": CASES["alcohols, real exponents"],
    "ions, triclinic": molecules([*SOLUTION, "Na", "Cl", "CH3OH"], TRICLINIC),
    "rings": molecules(
        ["C6H6", "C3H6_D3h", "C5H5N", "CH2OCH2", "CH2OCH2", "bicyclobutane", "C5H5N"], CUBE, "power"
    ),
}


@pytest.mark.parametrize("case", XML_CASES)
def test_forcefield_xml_makes_the_same_system(
    case: str, tmp_path: Path, few: Trajectory, spline_water: AgentLoss
) -> None:
    """Its own box, and one twice as long with all atoms in reverse."""
    loss, frames = XML_CASES[case](few=few, spline_water=spline_water)
    small = start_from(frames[0])
    export_openmm(loss, small, tmp_path / "small")
    swapped = start_from(doubled(frames[0]).select_atoms(np.arange(frames.n_atoms * 2)[::-1]))
    export_openmm(loss, swapped, tmp_path / "large")
    for start, box in ((small, "small"), (swapped, "large")):
        ours = openmm.XmlSerializer.deserialize((tmp_path / box / "system.xml").read_text())
        theirs = plain_system(tmp_path / "small", tmp_path / box / "topology.pdb")
        assert theirs.getNumConstraints() == 0
        n = start.frame.n_atoms
        masses = [[s.getParticleMass(k)._value for k in range(n)] for s in (ours, theirs)]
        assert masses[0] == masses[1]
        (energy, forces), (expected, expected_forces) = (
            cpu_state(theirs, start.frame),
            cpu_state(ours, start.frame),
        )
        assert energy == pytest.approx(expected, rel=1e-6)
        assert np.abs(forces - expected_forces).max() <= 1e-6 * np.abs(expected_forces).max()


def test_forcefield_xml_keeps_water_flexible_and_its_cutoff(
    few: Trajectory, spline_water: AgentLoss, tmp_path: Path
) -> None:
    start = start_from(few[0])
    export_openmm(spline_water, start, tmp_path)
    expected = cpu_state(plain_system(tmp_path, tmp_path / "topology.pdb"), start.frame)[0]
    for cutoff in (0.3, 0.6):
        system = plain_system(
            tmp_path, tmp_path / "topology.pdb", nonbondedCutoff=cutoff, rigidWater=False
        )
        assert cpu_state(system, start.frame)[0] == expected
    for options in ({"rigidWater": True}, {"constraints": app.HBonds}):
        with pytest.warns(
            UserWarning, match="flexible molecules: constraints and rigidWater do nothing"
        ):
            system = plain_system(tmp_path, tmp_path / "topology.pdb", **options)
        assert system.getNumConstraints() == 0 and cpu_state(system, start.frame)[0] == expected


def test_forcefield_xml_refuses_pairs_that_the_model_never_saw(tmp_path: Path) -> None:
    """One chloride met no other; two of them in another box would not feel each other."""
    one, two = (start_from(liquid(["H2O"] * 4 + ["Cl"] * n, CUBE)) for n in (1, 2))
    loss = invent(one.frame)
    assert "free:Cl-Cl" not in {t.name for t in loss.terms}
    export_openmm(loss, one, tmp_path)
    plain_system(tmp_path, tmp_path / "topology.pdb")
    export_openmm(invent(two.frame), two, tmp_path / "two")
    with pytest.raises(ValueError, match="no term: free:Cl-Cl"):
        plain_system(tmp_path, tmp_path / "two/topology.pdb")
    plain_system(tmp_path / "two", tmp_path / "topology.pdb")


BLOCKED = "raise ImportError('mld_ff is not to be needed here')\n"


def without_mld_ff(tmp_path: Path) -> dict[str, str]:
    """An environment in which mld_ff cannot be imported."""
    fake = tmp_path / "blocked" / "mld_ff"
    fake.mkdir(parents=True)
    (fake / "__init__.py").write_text(BLOCKED)
    environment = {**os.environ, "PYTHONPATH": str(fake.parent), "OPENMM_CPU_THREADS": "1"}
    command = [sys.executable, "-c", "import mld_ff"]
    refused = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert "mld_ff is not to be needed here" in refused.stderr
    return environment


def test_run_py_needs_nothing_but_openmm(
    few: Trajectory, spline_water: AgentLoss, tmp_path: Path
) -> None:
    directory = tmp_path / "export"
    export_openmm(spline_water, start_from(few[0]), directory, timestep_fs=0.5)
    options = [
        "--platform",
        "CPU",
        "--time",
        "0.02",
        "--every",
        "0.005",
        "--temperature",
        "350",
        "--output",
        "out",
    ]
    done = subprocess.run(
        [sys.executable, "run.py", *options],
        cwd=directory,
        env=without_mld_ff(tmp_path),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "192 atoms, step 0 to 40 of 0.5 fs on CPU" in done.stdout
    written = {f.name for f in (directory / "out").iterdir()}
    assert written >= {"trajectory.dcd", "log.csv", "checkpoint.chk", "final.xml"}
    rows = (directory / "out" / "log.csv").read_text().splitlines()[1:]
    assert [row.split(",")[0] for row in rows] == ["10", "20", "30", "40"]
    temperatures = [float(row.split(",")[5]) for row in rows]
    assert all(200 < t < 400 for t in temperatures), temperatures
    command = [sys.executable, "run.py", "--platform", "CPU", "--precision", "mixed"]
    refused = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=120)
    assert refused.returncode == 1
    assert refused.stderr.strip() == "CPU has no choice of precision; CUDA, HIP and OpenCL have one"


# --- LAMMPS's files -------------------------------------------------------------------------------


def lmp(directory: Path, *options: str) -> str:
    done = subprocess.run(
        [lammps_engine.find_lmp(), "-in", "in.nvt", *options],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    text = done.stdout + done.stderr + (directory / "log.lammps").read_text()
    assert "WARNING" not in text and "ERROR" not in text
    return text


def test_in_nvt_by_itself(few: Trajectory, spline_water: AgentLoss, tmp_path: Path) -> None:
    written = export_lammps(spline_water, start_from(few[0]), tmp_path, temperature_K=310.0)
    assert sorted(f.name for f in written) == sorted(f.name for f in tmp_path.iterdir())
    text = lmp(tmp_path, "-var", "steps", "20")
    assert "temp 310 310 0.1" in text.replace("310.0", "310")
    dump = (tmp_path / "trajectory.lammpstrj").read_text()
    assert re.findall(r"TIMESTEP\n(\d+)\n", dump) == ["0", "20"]
    assert (tmp_path / "final.data").exists()


def test_in_nvt_takes_variables(few: Trajectory, power_water: AgentLoss, tmp_path: Path) -> None:
    """A thermostat as tight as 1 fs brings the temperature to the one of the command line, not the
    exported one.
    """
    export_lammps(power_water, start_from(few[0]), tmp_path)
    options = [
        word
        for name, value in (("T", 350), ("Tdamp", 0.005))
        for word in ("-var", name, str(value))
    ]
    text = lmp(tmp_path, *options, "-var", "steps", "400", "-var", "every", "5")
    assert re.search(r"fix md all nvt temp 350 350 0\.005", text)
    rows = np.array(next(iter(lammps_engine.thermo(text)))[1])
    assert rows[len(rows) // 2 :, 2].mean() == pytest.approx(350, abs=15)


def test_triclinic_in_nvt(tmp_path: Path) -> None:
    frame = liquid(["H2O"] * 8, TRICLINIC)
    export_lammps(invent(frame, cutoff=4.8), start_from(frame), tmp_path)
    assert "xy xz yz" in (tmp_path / "system.data").read_text()
    lmp(tmp_path, "-var", "steps", "5", "-var", "every", "5")


def test_pair_tables_hold_the_functions(
    few: Trajectory, spline_water: AgentLoss, tmp_path: Path
) -> None:
    """Energy at a few points of the file itself, in eV and Å."""
    export_lammps(spline_water, start_from(few[0]), tmp_path)
    text = (tmp_path / "pair.table").read_text()
    assert text.startswith("# UNITS: metal\n")
    for term in spline_water.free_terms:
        section = text[text.index(f"\n{term.name}\n") :].split("\n\n")[1].splitlines()
        for line in (section[0], section[1000], section[3000], section[-1]):
            _, r, energy, force = map(float, line.split())
            expected = term.evaluate(np.array([r]))
            assert energy == pytest.approx(expected[0][0], rel=1e-12, abs=1e-14)
            assert force == pytest.approx(-expected[1][0], abs=2e-4 + 1e-6 * abs(force))


# --- both -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", EXPORTS)
def test_files_are_the_same_every_time(engine: str, waters: Trajectory, tmp_path: Path) -> None:
    loss = invent(waters)
    for name in "ab":
        EXPORTS[engine](loss, start_from(waters), tmp_path / name)
    for file in (tmp_path / "a").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes(), file.name


@pytest.mark.parametrize("engine", EXPORTS)
def test_model_that_does_not_cover_the_system(
    engine: str, waters: Trajectory, tmp_path: Path
) -> None:
    start = start_from(liquid(["H2O", "NH3"], CUBE))
    with pytest.raises(InputError, match="the system holds N; the model knows only O, H"):
        EXPORTS[engine](invent(waters), start, tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("engine", EXPORTS)
@pytest.mark.parametrize(
    "cell", [np.diag([12.0, 9.5, 12.0]), 0.75 * TRICLINIC], ids=["orthorhombic", "triclinic"]
)
def test_box_that_is_too_small(engine: str, cell: Floats, tmp_path: Path) -> None:
    frame = liquid(["H2O"] * 2, cell)
    with pytest.raises(
        InputError, match=r"the cutoff is 5 Å; .* half the smallest width of the cell, 4\.\d+ Å"
    ):
        EXPORTS[engine](invent(frame, cutoff=5.0), start_from(frame), tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("engine", ENGINES)
def test_missing_and_foreign_files(engine: str, few: Trajectory, tmp_path: Path) -> None:
    from mld_ff.errors import MldError

    with pytest.raises(MldError, match="system"):
        ENGINES[engine].evaluate(tmp_path, start_from(few[0]).frame)


def test_isotopes_keep_their_masses(waters: Trajectory, tmp_path: Path) -> None:
    """One heavy hydrogen is a LAMMPS atom type of its own, and the forces stay those of
    hydrogen.
    """
    hydrogens = [k for k, s in enumerate(waters.symbols) if s == "H"]
    masses = waters.masses.copy()
    masses[hydrogens[3]] = 2.014
    frame, loss = replace(waters, masses=masses), invent(waters)
    start = start_from(frame)
    export_lammps(loss, start, tmp_path)
    data = (tmp_path / "system.data").read_text()
    assert "3 atom types" in data
    assert "forcefield.xml" not in {
        file.name for file in export_openmm(loss, start, tmp_path / "openmm")
    }
    assert "2 1.008  # H\n3 2.014  # H" in data
    _, forces = lammps_engine.evaluate(tmp_path, start.frame)
    expected = evaluate(loss, start.topology, start.frame.positions[0], start.frame.cell[0])[1]
    assert np.abs(forces[0] - expected).max() < 2e-4


@pytest.mark.parametrize("engine", ENGINES)
def test_settings_that_make_no_sense(engine: str, waters: Trajectory, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="temperature_K is -5; it must be a positive number"):
        EXPORTS[engine](invent(waters), start_from(waters), tmp_path / "new", temperature_K=-5)
    assert not (tmp_path / "new").exists()


def test_lammps_files_of_other_size(waters: Trajectory, few: Trajectory, tmp_path: Path) -> None:
    export_lammps(invent(waters), start_from(waters), tmp_path)
    with pytest.raises(InputError, match=r"system.data: holds 24 atoms, the frames 192"):
        lammps_engine.evaluate(tmp_path, start_from(few[0]).frame)


def test_system_of_other_size(waters: Trajectory, few: Trajectory, tmp_path: Path) -> None:
    export_openmm(invent(waters), start_from(waters), tmp_path)
    with pytest.raises(InputError, match=r"system.xml: holds 24 atoms, the frames 192"):
        openmm_engine.evaluate(tmp_path, start_from(few[0]).frame)


def test_start_keeps_the_frame(few: Trajectory) -> None:
    """Atoms by molecule, molecules whole; nothing else moves, and the centre of mass comes to
    rest.
    """
    frame = few[5]
    start: Start = start_from(frame)
    assert sorted(start.order.tolist()) == list(range(192))
    assert start.topology.molecule_index.tolist() == sorted(start.topology.molecule_index.tolist())
    apart = (start.frame.positions[0] - frame.positions[0][start.order]) / 12.444661
    assert apart == pytest.approx(np.round(apart), abs=1e-6)
    assert frame.velocities is not None and start.frame.velocities is not None
    momentum = (start.frame.velocities[0] * start.frame.masses[:, None]).sum(axis=0)
    assert np.abs(momentum).max() < 1e-12
    assert start.frame.velocities[0] == pytest.approx(frame.velocities[0][start.order], abs=1e-5)
