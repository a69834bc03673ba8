"""Runs that leave what was asked of them: told, ended, and with exit code 1."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import CUBE, frame_of, invent, liquid

from mld_ff.engines.registry import ENGINES
from mld_ff.engines.settings import MD, Device
from mld_ff.errors import CheckFailed, EngineError
from mld_ff.loss.escapes import Escape
from mld_ff.production.results import read_log
from mld_ff.production.road import FROM_A_LARGER_BOX, REMEDY, advised, departures
from mld_ff.production.simulation import run
from mld_ff.trajectory import Floats

N_ATOMS, KB_EV = 192, 8.617333e-5
SPREAD_K = 300 * np.sqrt(2 / (3 * N_ATOMS - 3))


def log_of(time_ps: float = 20.0, rows: int = 2001, seed: int = 1, **columns: Any) -> Any:
    """A healthy run at 300 K, its temperature correlated over 0.1 ps, with other columns."""
    time = np.linspace(0, time_ps, rows)
    rng, keep = np.random.default_rng(seed), np.exp(-time[1] / 0.1)
    noise = rng.normal(size=rows)
    for k in range(1, rows):
        noise[k] = keep * noise[k - 1] + np.sqrt(1 - keep**2) * noise[k]
    energy = 0.01 * rng.normal(size=rows)
    return {
        "time_ps": time,
        "temperature_K": 300 + SPREAD_K * noise,
        "total_eV": energy + noise,
        "conserved_eV": energy,
        "density_g_per_cm3": np.full(rows, 0.993),
    } | {name: value(time) if callable(value) else value for name, value in columns.items()}


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("time_ps", [0.05, 0.4, 2.0, 20.0])
def test_nothing_is_said_of_a_healthy_run(time_ps: float, seed: int) -> None:
    for ensemble in ("nvt", "npt", "nve"):
        settings = MD(time_ps=time_ps, ensemble=ensemble)
        for ended in (True, False):
            assert departures(log_of(time_ps, 500, seed), settings, N_ATOMS, ended) == []


def off(settings: MD | None = None, ended: bool = True, **columns: Any) -> str:
    found = departures(log_of(**columns), settings or MD(), N_ATOMS, ended)
    assert len(found) <= 1, found
    return found[0].removesuffix(f": {REMEDY}") if found else ""


def test_a_thermostat_that_is_too_slow() -> None:
    slow = MD(time_ps=5.0, damping_fs=1e9)
    hot = log_of(5.0, temperature_K=lambda t: np.full_like(t, 784.0))
    assert departures(hot, slow, N_ATOMS, ended=False) == []
    (said,) = departures(hot, slow, N_ATOMS)
    assert said.startswith(
        "the temperature of the last 2.5 ps, to 5 ps, is 784 K, where 300 K was asked for: the"
        " thermostat has not had its 2e+07 ps (20 --damping); or the model does not hold"
    )


def test_hot_runs() -> None:
    said = off(temperature_K=lambda t: np.where(t < 15, 300.0, 2027.0), ended=False)
    assert said == (
        "the temperature of the last 1 ps, to 20 ps, is 2027 K, where 300 K was asked for"
    )
    brief = log_of(0.2, 21, temperature_K=np.full(21, 2027.0))
    assert "is 2027 K, where 300 K" in departures(brief, MD(time_ps=0.2), N_ATOMS)[0]
    assert departures(brief, MD(time_ps=0.2), N_ATOMS, ended=False) == [], "may still settle"
    hot_start = off(temperature_K=lambda t: 300 + 2000 * np.exp(-t / 0.2), ended=False)
    assert hot_start == ""
    assert off(temperature_K=lambda t: np.where(t < 15, 300.0, np.nan), ended=False)


def test_a_mean_that_the_thermostat_does_not_hold() -> None:
    said = off(temperature_K=np.full(2001, 380.0))
    assert said == (
        "the mean temperature of the second half is 380 ± 3 K, where 300 K was asked for"
    )
    assert off(temperature_K=np.full(2001, 220.0)) and off(temperature_K=np.full(2001, 0.0))
    assert off(MD(ensemble="nve"), temperature_K=np.full(2001, 380.0)) == "", "nobody holds it"
    hot = MD(ensemble="nve", temperature_K=300)
    assert off(hot, temperature_K=np.full(2001, 900.0)) == "", "the data's own, 900 K"


def test_energy_that_is_not_conserved() -> None:
    kinetic = 1.5 * N_ATOMS * KB_EV * 300

    def rising(by: float) -> Any:
        return lambda t: by * kinetic * t / t[-1]

    assert off(conserved_eV=rising(0.1)) == ""
    said = off(conserved_eV=rising(-0.2))
    assert said == (
        "the energy that should be conserved moved by -1.19 eV in 20 ps, and the kinetic energy is"
        " 7.45 eV"
    )
    nve = MD(ensemble="nve")
    without = log_of(total_eV=rising(0.2))
    del without["conserved_eV"]  # logs of 0.1.0
    assert departures(without, nve, N_ATOMS) and not departures(without, MD(), N_ATOMS)


def test_a_box_that_evaporates() -> None:
    gas: dict[str, Any] = {"density_g_per_cm3": lambda t: np.where(t < 5, 0.993, 0.19)}
    assert off(MD(ensemble="npt"), **gas).startswith(
        "the mean density of the second half is 0.19 g/cm³, where the run began at 0.993 g/cm³"
    )
    assert off(MD(ensemble="nvt"), **gas) == ""


@pytest.mark.parametrize(
    ("words", "advice"),
    [
        ("ERROR: Lost atoms: original 192 current 191 (src/thermo.cpp:494)", REMEDY),
        ("openmm.OpenMMException: Particle coordinate is NaN.", REMEDY),
        (
            "openmm.OpenMMException: The periodic box size has decreased to less than twice the"
            " nonbonded cutoff.",
            FROM_A_LARGER_BOX,
        ),
    ],
)
def test_what_to_do_follows_engines_words(words: str, advice: str) -> None:
    assert str(advised(EngineError(words))) == f"{words}: {advice}"
    other = EngineError("LAMMPS stopped")
    assert advised(other) is other


def test_escapes_of_a_healthy_run_are_none() -> None:
    assert not Escape("free:H-H", ("H1", "H2"), 1.499, 1.5).is_new
    assert Escape("free:H-H", ("H1", "H2"), 1.45, 1.5).is_new
    assert Escape("collective:O:1", ("O1",), 26.5, 22.6).is_new


# --- in engines -----------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
def test_what_an_engine_conserves_is_logged(engine: str, tmp_path: Path) -> None:
    """Atoms and thermostat together: far steadier than the energy of the atoms."""
    frame = liquid(["H2O"] * 8, CUBE, seed=3)
    loss = invent(frame, kind="power", cutoff=4.8)
    settings = MD(time_ps=0.1, timestep_fs=0.1, every_fs=1.0, damping_fs=10.0)
    run(loss, frame, engine, tmp_path / "run", settings, Device("Reference"), force=True)
    log = read_log(tmp_path / "run")
    late = slice(20, None)
    assert np.ptp(log["conserved_eV"][late]) < 0.1 * np.ptp(log["total_eV"][late])


@pytest.mark.parametrize("engine", ENGINES)
def test_a_run_that_heats_up_is_ended(engine: str, tmp_path: Path) -> None:
    """Two pairs of atoms deep in their wall."""
    positions: Floats = np.array([[1.0, 1, 1], [2.2, 1, 1], [6.0, 6, 6], [7.2, 6, 6]])
    frame = frame_of(["He"] * 4, positions, CUBE)
    loss = invent(frame, kind="power", cutoff=4.8)
    settings = MD(100.0, 0.3, every_fs=20.0, damping_fs=2000.0)

    def made(**options: Any) -> None:
        run(loss, frame, engine, tmp_path / "run", settings, minimize=False, **options)

    for resume in (False, True):  # when it ends, and ever after
        with pytest.raises(
            CheckFailed, match=r"the temperature of the last 0.15 ps, to 0.3 ps, is"
        ):
            made(resume=resume)
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["finished"] is True
    assert any(note.startswith("the temperature of the last") for note in record["notes"])
    made(resume=True, force=True)
