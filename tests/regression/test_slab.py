"""Charges of slabs against `kspace_modify slab` of LAMMPS, which makes the box higher by a factor
and takes out what images do to the dipole; and against numpy in a cell of right angles.

pytest -n 0 -s -m regression tests/regression/test_slab.py
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import evaluate
from test_slabs import model, slab

from mld_ff.engines.lammps import dump
from mld_ff.engines.lammps.executable import find_lmp
from mld_ff.engines.lammps.export import (
    ACCURACY_BESIDE_VACUUM,
    DIPOLE_OF_SLAB,
    OF_A_BOX,
    export_lammps,
)
from mld_ff.engines.openmm.export import export_openmm
from mld_ff.engines.start import start_from
from mld_ff.verification import verify

pytestmark = pytest.mark.regression

HEIGHT_A, FACTOR = 24.0, 3.0
INPUT = """\
units metal
atom_style full
boundary p p f
read_data system.data
include forcefield.lmp
kspace_modify slab {factor}
neighbor 0.0 bin
fix integrator all nve
thermo_modify format float %.16g
dump forces all custom 1 forces.lammpstrj id fx fy fz
dump_modify forces sort id format float %.16g
run 0
"""


def test_lammps_own_slabs_are_ours(tmp_path: Path) -> None:
    """A box of 24 Å without images along z, waves in one of 72 Å: our cell of 72 Å. Without
    `diff ad`, with which forces of these waves along z are three times too large (22Jul2025)."""
    low, high = slab(HEIGHT_A), slab(FACTOR * HEIGHT_A)
    loss = model(low).only("charge")
    export_lammps(loss, start_from(low), tmp_path)
    file = tmp_path / "forcefield.lmp"
    text = file.read_text()
    assert DIPOLE_OF_SLAB in text
    text = text.replace(DIPOLE_OF_SLAB, "").replace(OF_A_BOX, "")
    file.write_text(text.replace(ACCURACY_BESIDE_VACUUM, "1e-7"))
    (tmp_path / "in.slab").write_text(INPUT.format(factor=FACTOR))
    said = subprocess.check_output([find_lmp(), "-in", "in.slab"], cwd=tmp_path, text=True)
    assert "WARNING" not in said
    (theirs,) = dump.vectors(tmp_path / "forces.lammpstrj")
    start = start_from(high)
    frame = start.frame
    _, forces = evaluate(loss, start.topology, frame.positions[0], frame.cell[0])
    difference = np.abs(theirs - forces).max()
    print(f"largest difference of a force: {difference:.1e} eV/Å")
    assert difference < 1e-4


def test_slabs_of_right_angles_in_both_engines() -> None:
    """Where LAMMPS chooses the grid for a second; default tests have a tilted one."""
    frame = slab(26)
    verified = verify(model(frame), frame)
    assert verified.passed, verified.to_dict()


def test_exported_slabs_are_not_run_at_constant_pressure(tmp_path: Path) -> None:
    frame = slab(HEIGHT_A)
    export_openmm(model(frame), start_from(frame), tmp_path / "openmm")
    export_lammps(model(frame), start_from(frame), tmp_path / "lammps")
    openmm = [sys.executable, "run.py", "--platform", "CPU", "--ensemble", "npt"]
    lammps = [find_lmp(), "-in", "in.nvt", "-var", "ensemble", "npt"]
    for directory, command in (("openmm", openmm), ("lammps", lammps)):
        done = subprocess.run(command, cwd=tmp_path / directory, capture_output=True, text=True)
        assert done.returncode == 1
        assert "a barostat would close its vacuum" in done.stdout + done.stderr
