"""LAMMPS on several processes and threads: the same forces and energies as on one."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from mld_ff.engines.lammps.executable import find_lmp
from mld_ff.engines.lammps.export import export_lammps
from mld_ff.engines.lammps.thermo import thermo
from mld_ff.engines.start import start_from
from mld_ff.loss.model import AgentLoss
from mld_ff.trajectory import Floats, Trajectory

FORCES = """\
units metal
atom_style molecular
boundary p p p
read_data system.data
include forcefield.lmp
neighbor 1.0 bin
timestep 0.0005
fix md all nve
thermo_style custom step pe ke press
thermo_modify format float %.17g
thermo 20
dump forces all custom 20 forces.lammpstrj id fx fy fz
dump_modify forces sort id format float %.17g
run 20
"""


def compute(directory: Path, *command: str) -> tuple[Floats, Floats]:
    """Potential and kinetic energy and pressure, and forces, of the first and the last step."""
    (directory / "in.forces").write_text(FORCES)
    said = subprocess.run(
        [*command, "-in", "in.forces", "-log", "none"],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert said.returncode == 0, said.stdout[-1000:] + said.stderr
    lines = (directory / "forces.lammpstrj").read_text().splitlines()
    n = int(lines[3])
    forces = [[line.split()[1:] for line in lines[k + 9 : k + 9 + n]] for k in (0, n + 9)]
    return np.array(next(thermo(said.stdout))[1])[:, 1:], np.array(forces, dtype=float)


def mpi_lammps() -> list[str]:
    """A LAMMPS that shares its work over two processes; skips where there is none."""
    mpirun, lmp = shutil.which("mpirun"), shutil.which("lmp", path="/usr/local/bin:/usr/bin")
    if not mpirun or not lmp:
        pytest.skip("no mpirun or no LAMMPS with MPI here: apt-get install lammps openmpi-bin")
    said = subprocess.run([mpirun, "--version"], capture_output=True, text=True).stdout
    options = (
        ["--allow-run-as-root", "--oversubscribe"]
        if "Open MPI" in said or "OpenRTE" in said
        else []
    )
    command = [mpirun, *options, "-np", "2", lmp]
    box = "region all block 0 9 0 9 0 9\ncreate_box 1 all\n"
    tried = subprocess.run(
        [*command, "-log", "none"], input=box, capture_output=True, text=True, timeout=60
    )
    if not re.search(r"(2 by 1 by 1|1 by 2 by 1|1 by 1 by 2) MPI processor grid", tried.stdout):
        pytest.skip(
            f"{lmp} does not share its work under {mpirun}:"
            f" {tried.stdout[-200:]}{tried.stderr[-200:]}"
        )
    return command


def test_two_processes_compute_what_one_does(
    few: Trajectory, spline_water: AgentLoss, tmp_path: Path
) -> None:
    command = mpi_lammps()
    export_lammps(spline_water, start_from(few[10]), tmp_path)
    one, two = compute(tmp_path, command[-1]), compute(tmp_path, *command)
    assert np.abs(two[1][0] - one[1][0]).max() < 1e-10
    assert two[0][0] == pytest.approx(one[0][0], rel=1e-12)
    assert np.abs(two[1][1] - one[1][1]).max() < 1e-6 and two[0][1] == pytest.approx(
        one[0][1], rel=1e-8
    )
    assert np.ptp([one[1][0], one[1][1]]) > 1


def test_threads_compute_what_one_does(
    few: Trajectory, spline_water: AgentLoss, tmp_path: Path
) -> None:
    """Styles with a variant for OpenMP are taken by -sf omp; the exported input knows nothing of
    it.
    """
    export_lammps(spline_water, start_from(few[10]), tmp_path)
    one = compute(tmp_path, find_lmp())
    two = compute(tmp_path, find_lmp(), "-sf", "omp", "-pk", "omp", "2")
    assert np.abs(two[1][0] - one[1][0]).max() < 1e-10
    assert two[0] == pytest.approx(one[0], rel=1e-8)
