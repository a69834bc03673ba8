"""What the ensembles keep: energy without a thermostat; and what pressure a fit to forces has.

pytest -n 0 -s -m regression tests/regression/test_ensembles.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mld_ff import MD, AgentLoss, Basis, Device, Trajectory, fit, read_cp2k, run
from mld_ff.production.results import read_log

EXAMPLE = Path(__file__).parents[2] / "examples/water/cp2k"
KT_EV = 8.617333e-5 * 300
pytestmark = pytest.mark.regression


@pytest.fixture(scope="module")
def water() -> Trajectory:
    return read_cp2k(EXAMPLE)


@pytest.fixture(
    scope="module",
    params=[Basis(accuracy="pairs"), Basis("power"), Basis(accuracy="balanced")],
    ids=["spline", "power", "balanced"],
)
def loss(request: pytest.FixtureRequest, water: Trajectory) -> AgentLoss:
    return fit(water, request.param).loss


def _name(loss: AgentLoss) -> str:
    return "balanced" if loss.angular_channels else loss.free_terms[0].kind


@pytest.mark.parametrize(
    ("engine", "platform", "time_ps"),
    [("lammps", None, 20.0), ("openmm", "CPU", 20.0), ("openmm", "Reference", 2.0)],
)
def test_energy_drifts_by_less_than_a_ten_thousandth(
    engine: str,
    platform: str | None,
    time_ps: float,
    loss: AgentLoss,
    water: Trajectory,
    tmp_path: Path,
) -> None:
    """[kT per atom and ps], 64 waters at 0.25 fs, from the slope of the total energy after the
    first tenth.
    """
    settings = MD(time_ps=time_ps, timestep_fs=0.25, every_fs=5.0, ensemble="nve")
    run(loss, water[-1], engine, tmp_path / "run", settings, Device(platform))
    log = read_log(tmp_path / "run")
    settled = slice(len(log["step"]) // 10, None)
    time, total = log["time_ps"][settled], log["total_eV"][settled]
    (slope, _), covariance = np.polyfit(time, total, 1, cov=True)
    drift, error = (x / (water.n_atoms * KT_EV) for x in (slope, covariance[0, 0] ** 0.5))
    temperature = log["temperature_K"].mean()
    print(
        f"\n{engine} {platform or ''} {_name(loss)}: {drift:.1e} ± {error:.0e} kT per atom and ps,"
        f" {temperature:.0f} K"
    )
    assert abs(drift) < 1e-4


def test_forces_alone_do_not_tell_the_pressure(
    loss: AgentLoss, water: Trajectory, tmp_path: Path
) -> None:
    """Pressure at the density of the data, and density at 1 bar: recorded, not judged."""
    run(loss, water[-1], "lammps", tmp_path / "nvt", MD(time_ps=20.0))
    nvt = read_log(tmp_path / "nvt")
    said = [
        f"NVT at {nvt['density_g_per_cm3'][0]:.3f} g/cm³:"
        f" {nvt['pressure_bar'][200:].mean():.0f} bar"
    ]
    for engine in ("lammps", "openmm"):
        run(
            loss,
            water[-1],
            engine,
            tmp_path / engine,
            MD(time_ps=40.0, ensemble="npt"),
            Device("CPU"),
        )
        density = read_log(tmp_path / engine)["density_g_per_cm3"]
        half = density[len(density) // 2 :]
        said.append(f"{engine}, NPT at 1 bar: {half.mean():.3f} ± {half.std():.3f} g/cm³")
    print(f"\n{_name(loss)}: " + "; ".join(said))
