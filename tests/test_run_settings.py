"""Settings of runs, and what cannot be run: said before anything is written, if possible."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openmm
import pytest
from conftest import CUBE, liquid

from mld_ff.engines.openmm import platforms
from mld_ff.engines.registry import ENGINES
from mld_ff.engines.settings import MD, Device
from mld_ff.errors import EngineError, InputError
from mld_ff.loss.model import AgentLoss
from mld_ff.production.results import read_run
from mld_ff.production.simulation import run
from mld_ff.sources.cp2k.run.inputs import Reference
from mld_ff.trajectory import Trajectory

CPU = Device("CPU")
SHORT = MD(time_ps=0.05, timestep_fs=0.5, every_fs=5.0, velocities=True)


@pytest.mark.parametrize(
    "name", ["temperature_K", "time_ps", "timestep_fs", "damping_fs", "every_fs"]
)
@pytest.mark.parametrize("value", [0.0, -1.0, float("nan")])
def test_settings_must_be_positive(name: str, value: float) -> None:
    options: dict[str, Any] = {name: value}
    with pytest.raises(InputError, match=rf"^{name} is {value}; it must be a positive number$"):
        MD(**options)


def test_a_pressure_wants_an_ensemble_that_holds_it() -> None:
    with pytest.raises(InputError, match="pressure_bar is 500, which nvt does not hold: choose"):
        MD(pressure_bar=500.0)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: MD(seed=-1), "the seed is -1; it must be a whole number from 0 to 2147483647"),
        (lambda: Reference(seed=2**31), "the seed is 2147483648; it must be"),
        (lambda: MD(damping_fs=0.1), "damping_fs is 0.1, shorter than a step of 0.5 fs"),
        (lambda: Device(processes=10**6), "1000000 processes are asked for, and this machine has"),
    ],
)
def test_settings_that_nothing_can_run(make: Callable[[], object], said: str) -> None:
    with pytest.raises(InputError) as caught:
        make()
    assert str(caught.value).startswith(said)


@pytest.mark.parametrize(
    ("options", "steps", "every"),
    [
        ({}, 40000, 20),
        ({"time_ps": 1.0, "timestep_fs": 2.0, "every_fs": 10.0}, 500, 5),
        ({"time_ps": 1e-6, "every_fs": 0.1}, 1, 1),
    ],
)
def test_numbers_of_steps(options: dict[str, Any], steps: int, every: int) -> None:
    settings = MD(**options)
    assert (settings.steps, settings.every) == (steps, every)


def test_unknown_platform(few: Trajectory, spline_water: AgentLoss, tmp_path: Path) -> None:
    """Said before anything is written, so that the next attempt finds the directory free."""
    with pytest.raises(InputError, match=r"OpenMM has no platform 'Abacus' here; present: .*CPU"):
        run(spline_water, few[0], "openmm", tmp_path / "new", SHORT, Device("Abacus"))
    assert not (tmp_path / "new" / "run.json").exists()


@pytest.mark.parametrize(
    ("engine", "platform", "precision", "said"),
    [
        (
            "openmm",
            "CPU",
            "mixed",
            "CPU has no choice of precision: single between molecules, else double",
        ),
        (
            "openmm",
            "Reference",
            "single",
            "Reference has no choice of precision: double; CUDA, HIP and OpenCL",
        ),
        (
            "openmm",
            "CPU",
            "quadruple",
            "the precision is 'quadruple'; known: single, mixed, double",
        ),
        ("lammps", None, "mixed", "LAMMPS computes in double"),
    ],
)
def test_precision_where_there_is_no_choice(
    engine: str,
    platform: str,
    precision: Any,
    said: str,
    few: Trajectory,
    spline_water: AgentLoss,
    tmp_path: Path,
) -> None:
    with pytest.raises(InputError, match=said):
        run(spline_water, few[0], engine, tmp_path / "new", SHORT, Device(platform, precision))
    assert not (tmp_path / "new").exists()


def test_precision_is_a_property_of_the_platform(monkeypatch: pytest.MonkeyPatch) -> None:
    """No GPU is needed to see what a Context is asked for."""
    asked = []
    gpu = type("Platform", (), {"getName": lambda self: "CUDA"})()
    monkeypatch.setattr(platforms, "platform_named", lambda name: gpu)
    monkeypatch.setattr(openmm, "Context", lambda *arguments: asked.append(arguments[2:]))
    for precision in (None, "mixed"):
        platforms.context_of(openmm.System(), Device("CUDA", precision))
    assert asked == [(gpu, {}), (gpu, {"Precision": "mixed"})]


def test_unknown_engine(few: Trajectory, spline_water: AgentLoss, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="gromacs"):
        run(spline_water, few[0], "gromacs", tmp_path / "new", SHORT)


@pytest.mark.parametrize("engine", ENGINES)
def test_model_that_does_not_cover_the_system(
    engine: str, spline_water: AgentLoss, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="the system holds N; the model knows only O, H"):
        run(spline_water, liquid(["NH3"], CUBE), engine, tmp_path / "new", SHORT)
    assert not (tmp_path / "new").exists()


def test_directory_without_a_run(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        read_run(tmp_path)
    assert (
        str(caught.value)
        == f"{tmp_path}: holds no run (run.json is missing or broken); make one with `mld-ff run`"
    )


def test_run_shorter_than_the_time_between_frames() -> None:
    with pytest.raises(
        InputError, match=r"a run of 0.002 ps ends before its first frame: every_fs is 10"
    ):
        MD(time_ps=0.002, every_fs=10.0)


@pytest.mark.parametrize("engine", ENGINES)
def test_run_that_explodes(
    engine: str, few: Trajectory, spline_water: AgentLoss, tmp_path: Path
) -> None:
    """A timestep that no molecule stands is said by the engine, and the record says that the run
    did not finish.
    """
    with pytest.raises(EngineError, match=r"LAMMPS stopped|LAMMPS warned|OpenMM stopped") as caught:
        run(spline_water, few[0], engine, tmp_path / "run", MD(time_ps=5.0, timestep_fs=50.0), CPU)
    assert "or the step is too long" in str(caught.value)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["finished"] is False
