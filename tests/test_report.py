"""Observables against independent expectations, and the report of a real run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import CUBE, EXAMPLE, frame_of, liquid, topology_of

from mld_ff.cp2k import open_cp2k
from mld_ff.errors import InputError
from mld_ff.loss import AgentLoss
from mld_ff.production import MD, run
from mld_ff.report import first_peak, study, write_report
from mld_ff.report.statistics import angles, diffusion, mean_square_displacement, molecule_paths, statistics
from mld_ff.report.study import Compared
from mld_ff.survey import inspect
from mld_ff.trajectory import Trajectory


def walk(frames: int, step: float, seed: int = 0, drift: float = 0.0) -> Trajectory:
    """A hundred sodium ions that walk at random and are wrapped into the box; `drift` moves all of them."""
    rng = np.random.default_rng(seed)
    steps = rng.normal(size=(frames, 100, 3)) * step + drift
    x = rng.uniform(0, 12, (100, 3)) + np.cumsum(steps, axis=0)
    first = frame_of(["Na"] * 100, x[0], CUBE)
    return replace(
        first,
        positions=x % 12,
        cell=np.repeat(first.cell, frames, axis=0),
        time=10.0 * np.arange(frames),
        step=20 * np.arange(frames),
    )


def test_diffusion_of_a_random_walk_across_boundaries():
    """D = step² / (2 interval); the drift of the box is no diffusion."""
    frames = walk(2000, 0.1, drift=0.05)
    (paths,) = molecule_paths(topology_of(frames), frames).values()
    found = diffusion(*mean_square_displacement(paths, 10.0))
    assert found == pytest.approx(0.1**2 / (2 * 0.01), rel=0.15)


def test_angles_are_those_of_the_law_of_cosines(few):
    topology = topology_of(few[0])
    (found,) = angles(topology, few[:2]).values()
    x, length = few.positions[1], few.cell[1, 0, 0]
    h1, h2 = topology.bonded["H", "O", "H"][5]
    (o,) = set(topology.neighbours[h1]) & set(topology.neighbours[h2])

    def distance(i, j):
        d = x[i] - x[j]
        return np.linalg.norm(d - length * np.round(d / length))

    a, b, c = distance(h1, o), distance(h2, o), distance(h1, h2)
    assert found[1, 5] == pytest.approx(np.degrees(np.arccos((a**2 + b**2 - c**2) / (2 * a * b))), abs=0.01)


def test_first_peak_is_that_of_the_curve():
    r = np.arange(1, 6, 0.05)
    g = 1 + 1.8 * np.exp(-(((r - 2.78) / 0.15) ** 2)) + 0.3 * np.exp(-(((r - 4.5) / 0.4) ** 2))
    place, height = first_peak(r, g)
    assert place == pytest.approx(2.78, abs=0.005)
    assert height == pytest.approx(2.8, abs=0.02)
    assert first_peak(r, np.ones_like(r)) is None


def test_ideal_gas_has_no_structure():
    rng = np.random.default_rng(1)
    first = frame_of(["Na"] * 100, rng.uniform(0, 12, (100, 3)), CUBE)
    frames = replace(
        first,
        positions=rng.uniform(0, 12, (100, 100, 3)),
        cell=np.repeat(first.cell, 100, axis=0),
        time=np.arange(100.0),
        step=np.arange(100),
    )
    r, g = inspect(frames, 5.0).radial_distribution("free:Na-Na")
    assert g[r > 1.5].mean() == pytest.approx(1, abs=0.01)


def test_statistics_of_water_have_the_short_names_and_errors(water):
    found = statistics(water[::4], 6.2, water[::4].temperature())
    assert {"oh_mean_A", "oh_std_A", "hoh_mean_deg", "goo_peak_A", "goo_peak_height", "temperature_K"} <= set(found)
    assert found["temperature_K"].value == pytest.approx(300, abs=4)
    assert found["hoh_mean_deg"].value == pytest.approx(105.5, abs=0.3)
    assert all(s.error > 0 for s in found.values())
    assert 1.2 < found["hydrogen_bonds_per_molecule"].value < 2.0  # every bond counted once, so at most two


def test_error_of_a_mean_from_blocks():
    """Of uncorrelated frames it is that of the mean."""
    rng = np.random.default_rng(0)
    temperature = rng.normal(300, 10, 1000)
    found = statistics(walk(1000, 0.1), 5.0, temperature)["temperature_K"]
    assert found.error == pytest.approx(10 / np.sqrt(1000), rel=0.8)


def test_too_short_a_run_has_no_errors_and_no_verdict(few):
    found = statistics(few[:5], 6.2, None)
    assert all(np.isnan(s.error) for s in found.values())
    assert Compared(1.0, np.nan, 1.0, 0.1).within is None
    assert Compared(1.0, 0.1, 1.2, 0.1).within is True
    assert Compared(1.0, 0.1, 1.3, 0.1).within is False


@pytest.fixture(scope="module")
def ran(power_water: AgentLoss, water: Trajectory, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("report") / "run"
    run(power_water, water[600], "lammps", out, MD(time_ps=1.0))
    return out


def test_report_of_a_run_from_a_frame_of_the_reference(ran, tmp_path):
    found = study(open_cp2k(EXAMPLE, skip_fs=5000), ran)
    page = write_report(tmp_path, found).read_text(encoding="utf-8")
    data = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    names = {"oh_mean_A", "oh_std_A", "hoh_mean_deg", "goo_peak_height", "goo_peak_A", "goo_mean_abs_difference"}
    assert names | {"temperature_K", "diffusion_A2_per_ps"} <= set(data["observables"])
    assert set(data["observables"]["oh_mean_A"]) == {
        "learned",
        "learned_error",
        "reference",
        "reference_error",
        "within",
    }
    assert data["speed"]["ratio"] > 100
    assert data["speed"]["cp2k_steps_per_s"] == pytest.approx(1 / 0.2, rel=0.5)  # seconds of the .ener file
    assert page.count("data:image/png") == len(list(tmp_path.glob("*.svg"))) == len(found.figures) == 7
    start = data["series"]["same_start"]
    for curve in start["CP2K"]:  # the same positions at time zero
        assert start["CP2K"][curve][1][0] == pytest.approx(start["lammps"][curve][1][0], abs=1e-3)
    for term in found.loss.terms:
        assert term.name in page


def test_other_molecules_and_densities_are_not_compared(ran, tmp_path):
    methanol = liquid(["CH3OH"] * 4, CUBE)
    files = tmp_path / "cp2k"
    files.mkdir()
    rows = "".join(
        f"{s} {x[0]:.6f} {x[1]:.6f} {x[2]:.6f}\n" for s, x in zip(methanol.symbols, methanol.positions[0], strict=True)
    )
    (files / "m-pos-1.xyz").write_text(f"{methanol.n_atoms}\n i = 0, time = 0.0, E = 0.0\n{rows}")
    (files / "m.inp").write_text("&FORCE_EVAL\n&SUBSYS\n&CELL\nABC 12 12 12\n&END\n&END\n&END\n")
    with pytest.raises(InputError, match="nothing to compare"):
        study(open_cp2k(files, require_forces=False), ran)
