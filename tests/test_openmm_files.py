"""OpenMM's files: plain OpenMM runs them, and forcefield.xml makes the same system for any box."""

from __future__ import annotations

import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import numpy as np
import openmm
import pytest
from ase import Atoms
from conftest import CUBE, TRICLINIC, energy_and_forces, frame_of, invent, liquid
from engine_cases import CASES, SOLUTION, angular, energy_scale, molecules
from openmm import app

from mld_ff.engines.openmm.evaluation import evaluate
from mld_ff.engines.openmm.export import export_openmm
from mld_ff.engines.start import start_from
from mld_ff.errors import InputError
from mld_ff.loss.model import AgentLoss
from mld_ff.trajectory import Floats, Trajectory

KJ_PER_MOL_PER_EV = 96.48533
BLOCKED = "raise ImportError('mld_ff is not to be needed here')\n"


@pytest.fixture
def waters() -> Trajectory:
    return liquid(["H2O"] * 8, CUBE, seed=1)


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
        computed = context.getState(energy=True).getPotentialEnergy()._value / KJ_PER_MOL_PER_EV
        assert computed == pytest.approx(energy, abs=1e-5 * energy_scale(spline_water, start.frame))


def test_exclusions_are_the_bonded_pairs_in_every_nonbonded_force(tmp_path: Path) -> None:
    """OpenMM's CPU and CUDA platforms refuse anything else."""
    frame = liquid(["CH3CH2OH", "H2O", "H2O", "Cl"], CUBE)
    splines, powers = invent(frame), invent(frame, "power")
    start = start_from(frame)
    export_openmm(
        replace(splines, terms=(*splines.terms[:-2], *powers.terms[-2:])), start, tmp_path
    )
    root = ET.parse(tmp_path / "system.xml").getroot()
    exclusions = [
        sorted((int(e.get("p1", -1)), int(e.get("p2", -1))) for e in force.iter("Exclusion"))
        for force in root.iter("Force")
        if force.get("type") == "CustomNonbondedForce"
    ]
    # all 36 pairs of ethanol but the three of the hydroxyl's hydrogen with the methyl's; three
    # pairs of each water
    expected = sorted(
        (int(i), int(j)) for pairs in start.topology.bonded.values() for i, j in pairs
    )
    assert len(exclusions) == 2 and len(expected) == 33 + 2 * 3
    assert exclusions == [expected, expected]


def test_system_of_other_size(waters: Trajectory, few: Trajectory, tmp_path: Path) -> None:
    export_openmm(invent(waters), start_from(waters), tmp_path)
    with pytest.raises(InputError, match=r"system.xml: holds 24 atoms, the frames 192"):
        evaluate(tmp_path, start_from(few[0]).frame)


class Stranger:
    """What a stranger may put into a file: pickle runs it where it is read."""

    def __call__(self, state: object) -> tuple[float, Floats]:
        return 0.0, np.zeros((24, 3))

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (Path("touched"),)


def test_files_that_could_run_code_are_not_read(
    waters: Trajectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export_openmm(invent(waters), start_from(waters), tmp_path)
    monkeypatch.chdir(tmp_path)
    system, touched = tmp_path / "system.xml", tmp_path / "touched"
    harmless = openmm.XmlSerializer.deserialize(system.read_text())
    harmless.addForce(openmm.PythonForce(Stranger()))
    harmful = openmm.XmlSerializer.serialize(harmless)
    openmm.XmlSerializer.deserialize(harmful)
    assert touched.exists(), "nothing is refused here unless OpenMM would run it"
    touched.unlink()
    command = [sys.executable, "run.py", "--platform", "CPU", "--time", "0.001"]
    for name, text in (
        ("system.xml", harmful),
        ("system.xml", harmful.replace("PythonForce", "&#80;ythonForce")),
        ("integrator.xml", harmful),
        ("state.xml", harmful),
    ):
        before = (tmp_path / name).read_text()
        (tmp_path / name).write_text(text)
        if name == "system.xml":
            with pytest.raises(InputError, match=r"system.xml: holds a PythonForce, or characters"):
                evaluate(tmp_path, start_from(waters).frame)
        refused = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert refused.returncode == 1 and refused.stderr == (
            f"{name} holds a PythonForce, or characters as numbers that could hide one: reading it"
            " could run any code\n"
        )
        assert not touched.exists()
        (tmp_path / name).write_text(before)


# --- forcefield.xml -------------------------------------------------------------------------------


def doubled(frame: Trajectory) -> Trajectory:
    """Two copies side by side."""
    box = Atoms(frame.symbols, frame.positions[0], cell=frame.cell[0], pbc=True).repeat((1, 1, 2))
    return frame_of(box.get_chemical_symbols(), box.positions, box.cell.array)


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
    "densities with angles": angular(molecules(["H2O"] * 4 + ["CH3OH"] * 2, TRICLINIC)),
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


# --- run.py ---------------------------------------------------------------------------------------


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
    export_openmm(spline_water, start_from(few[0]), directory)
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
