"""Densities with angles in LAMMPS (adp) and OpenMM (its own forces, and Python), against numpy."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import openmm
import pytest
from conftest import (
    CUBE,
    TRICLINIC,
    angular_channel,
    invent,
    liquid,
    with_angles,
    with_channels,
)

from mld_ff.engines.lammps.angular_densities import instances
from mld_ff.engines.lammps.export import export_lammps
from mld_ff.engines.openmm.evaluation import evaluate
from mld_ff.engines.openmm.export import export_openmm
from mld_ff.engines.openmm.neighbours import MODULES, neighbours_file, neighbours_module
from mld_ff.engines.openmm.session import read_log
from mld_ff.engines.registry import find_engine
from mld_ff.engines.settings import Device
from mld_ff.engines.start import start_from
from mld_ff.errors import InputError
from mld_ff.loss.densities import DensityTerm
from mld_ff.loss.model import AgentLoss
from mld_ff.loss.terms import Term
from mld_ff.trajectory import Trajectory
from mld_ff.verification import verify

LIQUID = ["H2O"] * 3 + ["CH3OH"] * 2 + ["Na"]


@pytest.fixture(params=["cube", "triclinic"])
def frame(request: pytest.FixtureRequest) -> Trajectory:
    cell = {"cube": CUBE, "triclinic": TRICLINIC}[request.param] * 0.72
    return liquid(LIQUID, cell, seed=5, jitter=0.05)


def everything(frame: Trajectory) -> AgentLoss:
    return with_angles(with_channels(invent(frame, cutoff=3.9), rank=1), cutoff=3.9)


def test_both_engines_compute_what_numpy_does(frame: Trajectory) -> None:
    loss = everything(frame)
    signs = {np.sign(t.strength_eV) for t in loss.angular_channels}
    assert signs == {1.0, -1.0}, "channels of both signs are needed for this test"
    alone = loss.only("vector:1"), loss.only("quadrupole:2")
    orthogonal = not np.tril(frame.cell[0], -1).any()
    for model in (loss,) if orthogonal else (loss, *alone):
        result = verify(model, frame, per_term=False)
        assert list(result.engines) == ["openmm", "openmm native", "lammps"]
        assert result.passed, result.to_dict()


def test_one_instance_of_adp_takes_a_channel_of_each_order(frame: Trajectory) -> None:
    loss = replace(everything(frame), terms=())
    channels = [
        replace(angular_channel(("H", "O"), order, number), strength_eV=strength)
        for order, number, strength in ((1, 1, -0.5), (1, 2, 0.1), (2, 1, 0.2), (2, 2, 0.0))
    ]
    loss = replace(loss, terms=tuple(channels))
    assert [(i.factor, [t.name for t in i.channels]) for i in instances(loss)] == [
        (-1.0, ["vector:1"]),
        (1.0, ["vector:2", "quadrupole:1"]),
    ]


def of_grid(loss: AgentLoss, frame: Trajectory) -> Any:
    """What computes the channels with angles; the others have another grid."""
    numbers = neighbours_file(loss, start_from(frame))
    assert numbers is not None
    [(_, (_, angular))] = neighbours_module().read_parts(BytesIO(numbers))
    return angular


def test_pairs_are_listed_anew_when_atoms_have_moved(frame: Trajectory) -> None:
    """Small steps, and a cell that grows, keep the list, and give what a new one gives."""
    kept_list, anew_list = (of_grid(everything(frame), frame) for _ in range(2))
    rng = np.random.default_rng(0)
    x, cell = frame.positions[0].copy(), frame.cell[0].copy()
    kept, kept_far, lists = 0, 0, kept_list.neighbours
    for _ in range(12):
        x, cell = 1.001 * (x + 0.02 * rng.normal(size=x.shape)), 1.001 * cell
        near, far = lists._near, lists._far
        energy, forces = kept_list.evaluate(x, cell)
        kept, kept_far = kept + (lists._near is near), kept_far + (lists._far is far)
        anew_list.neighbours._far = None
        anew = anew_list.evaluate(x, cell)
        assert energy == pytest.approx(anew[0])
        assert forces == pytest.approx(anew[1], abs=1e-10)
    assert 0 < kept < kept_far < 12


def test_exported_files_run_without_mld_ff(tmp_path: Path) -> None:
    frame = liquid(LIQUID, 0.72 * CUBE, seed=5, jitter=0.05)
    start = start_from(frame)
    loss = with_angles(invent(frame, cutoff=3.9), rank=1, cutoff=3.9)
    loss = replace(loss, terms=tuple(replace_strength(t) for t in loss.terms))
    files = export_openmm(loss, start, tmp_path)
    assert {*MODULES, "neighbours.npz"} < {file.name for file in files}
    system = openmm.XmlSerializer.deserialize((tmp_path / "system.xml").read_text())
    assert openmm.PythonForce not in map(type, system.getForces())
    energies, interpreted = [], {**os.environ, "NUMBA_DISABLE_JIT": "1"}  # two steps
    for way in ("python", "native"):
        run = "import sys; sys.modules['mld_ff'] = None; sys.argv = ['run.py', '--platform', 'CPU',"
        run += f" '--many-body', '{way}', '--time', '0.002', '--every', '0.001'];"
        run += " sys.path.insert(0, '.');"
        run += " exec(compile(open('run.py').read(), 'run.py', 'exec'), {'__file__': 'run.py'})"
        command = [sys.executable, "-c", run]
        done = subprocess.run(
            command, cwd=tmp_path, env=interpreted, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert ("neighbours in Python" in done.stdout) == (way == "python")
        energies.append(read_log(tmp_path / "log.csv")["potential_eV"])
    assert energies[0] == pytest.approx(energies[1], abs=1e-4)


def test_verify_looks_at_the_numbers_that_python_reads(tmp_path: Path) -> None:
    frame = liquid(LIQUID, 0.72 * CUBE, seed=5, jitter=0.05)
    loss, start = everything(frame), start_from(frame)
    export_openmm(loss, start, tmp_path)
    with np.load(tmp_path / "neighbours.npz") as file:
        arrays = dict(file)
    arrays["1.strength"] = 1.001 * arrays["1.strength"]
    np.savez(tmp_path / "neighbours.npz", **arrays)
    result = verify(loss, frame, directories={"openmm": tmp_path}, per_term=False)
    assert [engine.passed for engine in result.engines.values()] == [False, True]
    arrays["1.kind"] = arrays["1.kind"] + 10
    np.savez(tmp_path / "neighbours.npz", **arrays)
    with pytest.raises(InputError, match="its arrays do not belong together; export it again"):
        evaluate(tmp_path, start.frame)
    with pytest.raises(InputError, match="--many-body is a choice of OpenMM; LAMMPS has one way"):
        find_engine("lammps", Device(many_body="python"))


def test_numbers_of_another_system_are_refused(tmp_path: Path) -> None:
    """As when pairs alone are exported into a directory that held densities."""
    frame = liquid(LIQUID, 0.72 * CUBE, seed=5, jitter=0.05)
    start, loss = start_from(frame), invent(frame, cutoff=3.9)
    export_openmm(with_angles(loss, rank=1, cutoff=3.9), start, tmp_path)
    export_openmm(loss, start, tmp_path)
    with pytest.raises(InputError, match=r"neighbours.npz: cannot be used: it belongs to another"):
        evaluate(tmp_path, start.frame)
    command = [sys.executable, "run.py", "--platform", "CPU", "--time", "0.001"]
    interpreted = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    refused = subprocess.run(command, cwd=tmp_path, env=interpreted, capture_output=True, text=True)
    assert refused.returncode == 1 and "belongs to another system.xml" in refused.stderr


def replace_strength(term: Term) -> Term:
    """Weak, so that two steps go well wherever the atoms are."""
    return replace(term, strength_eV=1e-4) if isinstance(term, DensityTerm) else term


def test_lammps_scales_by_the_sign(frame: Trajectory, tmp_path: Path) -> None:
    export_lammps(everything(frame), start_from(frame), tmp_path)
    text = (tmp_path / "forcefield.lmp").read_text()
    assert "pair_style hybrid/scaled 1.0 table spline 6000 1.0 eam/he " in text
    assert "-1.0 adp" in text and "1e-20" in text
