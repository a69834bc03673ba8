"""LAMMPS's files: a stock LAMMPS runs them without a warning."""

from __future__ import annotations

import re
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import CUBE, TRICLINIC, invent, liquid, topology_of

from mld_ff.engines.lammps.evaluation import evaluate
from mld_ff.engines.lammps.executable import find_lmp
from mld_ff.engines.lammps.export import export_lammps
from mld_ff.engines.lammps.thermo import thermo
from mld_ff.engines.openmm.export import export_openmm
from mld_ff.engines.settings import MD
from mld_ff.engines.start import start_from
from mld_ff.errors import InputError
from mld_ff.geometry.system import systems
from mld_ff.loss.model import AgentLoss
from mld_ff.trajectory import Trajectory
from mld_ff.verification import verify


@pytest.fixture
def waters() -> Trajectory:
    return liquid(["H2O"] * 8, CUBE, seed=1)


def lmp(directory: Path, *options: str) -> str:
    done = subprocess.run(
        [find_lmp(), "-in", "in.nvt", *options],
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
    written = export_lammps(spline_water, start_from(few[0]), tmp_path, MD(310.0))
    assert sorted(f.name for f in written) == sorted(f.name for f in tmp_path.iterdir())
    text = lmp(tmp_path, "-var", "steps", "20")
    assert "temp 310 310 0.1" in text.replace("310.0", "310")
    dump = (tmp_path / "trajectory.lammpstrj").read_text()
    assert re.findall(r"TIMESTEP\n(\d+)\n", dump) == ["0", "20"]
    assert (tmp_path / "final.data").exists()


def test_a_single_molecule(few: Trajectory, tmp_path: Path) -> None:
    """Bonds are all there is: no table of pairs, and a dynamics that LAMMPS does not warn of."""
    one = few[:2].select_atoms(topology_of(few[0]).molecules[0])
    loss = invent(one[0])
    files = export_lammps(loss, start_from(one[0]), tmp_path)
    assert "pair.table" not in {file.name for file in files}
    lmp(tmp_path, "-var", "steps", "20")
    assert verify(loss, one, 2, {"lammps": tmp_path}, per_term=False).passed


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
    rows = np.array(next(iter(thermo(text)))[1])
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
    _, forces = evaluate(tmp_path, start.frame)
    (system,) = systems(start.topology, start.frame, loss.cutoff_A)
    expected = loss.evaluate(system).forces
    assert np.abs(forces[0] - expected).max() < 2e-4


def test_lammps_files_of_other_size(waters: Trajectory, few: Trajectory, tmp_path: Path) -> None:
    export_lammps(invent(waters), start_from(waters), tmp_path)
    with pytest.raises(InputError, match=r"system.data: holds 24 atoms, the frames 192"):
        evaluate(tmp_path, start_from(few[0]).frame)
