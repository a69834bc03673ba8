"""Observables against independent expectations, and the report of a real run."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import CUBE, EXAMPLE, energy_and_forces, frame_of, invent, liquid, topology_of
from scipy.integrate import trapezoid

from mld_ff.engines.settings import MD
from mld_ff.errors import InputError
from mld_ff.inference import Basis, Scan, fit, scan
from mld_ff.loss.model import AgentLoss
from mld_ff.production.results import read_run
from mld_ff.production.simulation import run
from mld_ff.report import Study, first_peak, study, write_report
from mld_ff.report.recomputed import compare_forces
from mld_ff.report.spectrum import bond_wavenumbers, spectra, spectrum
from mld_ff.report.statistics import (
    angles,
    diffusion,
    mean,
    mean_square_displacement,
    molecule_paths,
    structure,
)
from mld_ff.report.study import Compared
from mld_ff.sources.cp2k import CP2KSource, open_cp2k
from mld_ff.survey import inspect
from mld_ff.trajectory import Trajectory


def walk(frames: int, step: float, seed: int = 0, drift: float = 0.0) -> Trajectory:
    """A hundred sodium ions that walk at random and are wrapped into the box; `drift` moves all of
    them.
    """
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
    """D = step² / (2 interval); the drift of the box is no diffusion. The error is that of the mean
    of the ions.
    """
    found = []
    for seed in range(4):
        frames = walk(2000, 0.1, seed, drift=0.05)
        (paths,) = molecule_paths(topology_of(frames), frames).values()
        found.append(diffusion(*mean_square_displacement(paths, 10.0, longest_ps=5.0)))
    true = 0.1**2 / (2 * 0.01)
    assert np.mean([d.value for d in found]) == pytest.approx(true, rel=0.05)
    for d in found:
        assert abs(d.value - true) < 4 * d.error < 0.4 * true


def test_no_diffusion_from_molecules_in_their_cages():
    frames = walk(60, 0.1)
    (paths,) = molecule_paths(topology_of(frames), frames).values()
    lag, msd = mean_square_displacement(paths, 10.0, longest_ps=0.15)
    assert (lag[-1], msd.shape) == (pytest.approx(0.15), (16, 100))
    assert np.isnan(diffusion(lag, msd).value)


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
    assert found[1, 5] == pytest.approx(
        np.degrees(np.arccos((a**2 + b**2 - c**2) / (2 * a * b))), abs=0.01
    )


def test_first_peak_is_that_of_the_curve():
    r = np.arange(1, 6, 0.05)
    g = 1 + 1.8 * np.exp(-(((r - 2.78) / 0.15) ** 2)) + 0.3 * np.exp(-(((r - 4.5) / 0.4) ** 2))
    place, height = first_peak(r, g)
    assert place == pytest.approx(2.78, abs=0.005)
    assert height == pytest.approx(2.8, abs=0.02)
    assert first_peak(r, np.ones_like(r)) is None


def test_ideal_gas_has_no_structure():
    r, g = inspect(gas(100, 1), 5.0).radial_distribution("free:Na-Na")
    assert g[r > 1.5].mean() == pytest.approx(1, abs=0.01)


def test_statistics_of_water_have_the_short_names_and_errors(water):
    some = water[::8]
    seen = inspect(some, 6.2)
    found = structure(some, seen, seen)
    assert {"oh_mean_A", "oh_std_A", "hoh_mean_deg", "goo_peak_A", "goo_peak_height"} <= set(found)
    assert found["hoh_mean_deg"].value == pytest.approx(105.5, abs=0.3)
    assert all(s.error > 0 for s in found.values())
    assert (
        1.2 < found["hydrogen_bonds_per_molecule"].value < 2.0
    )  # every bond counted once, so at most two


def gas(frames: int, seed: int) -> Trajectory:
    rng = np.random.default_rng(seed)
    first = frame_of(["Na"] * 100, rng.uniform(0, 12, (100, 3)), CUBE)
    return replace(
        first,
        positions=rng.uniform(0, 12, (frames, 100, 3)),
        cell=np.repeat(first.cell, frames, axis=0),
        time=np.arange(float(frames)),
        step=np.arange(frames),
    )


def test_noise_of_a_radial_distribution_is_its_deviation_from_the_truth():
    """... which is 1 for an ideal gas. Another gas of infinite length would deviate as much from
    this reference.
    """
    told, true = [], []
    for seed in range(6):
        frames = gas(25, seed)
        seen = inspect(frames, 5.0)
        told.append(structure(frames, seen, seen)["free:Na-Na mean_abs_dg"].value)
        r, g = seen.radial_distribution("free:Na-Na")
        true.append(np.abs(g - 1)[r > 2].mean())
    assert np.mean(told) == pytest.approx(np.mean(true), rel=0.15)


def test_error_of_a_mean_from_blocks():
    """Of uncorrelated numbers it is that of their mean."""
    rng = np.random.default_rng(0)
    errors = [mean(rng.normal(300, 10, 1000)).error for _ in range(20)]
    assert np.mean(errors) == pytest.approx(10 / np.sqrt(1000), rel=0.2)


def test_too_short_a_run_has_no_errors_and_no_verdict(few):
    found = structure(few[:5], inspect(few[:5], 6.2))
    assert all(np.isnan(s.error) for s in found.values())
    assert np.isnan(mean(np.ones(5)).error)
    assert Compared(1.0, np.nan, 1.0, 0.1).within is None
    assert Compared(1.0, 0.1, 1.2, 0.1).within is True
    assert Compared(1.0, 0.1, 1.3, 0.1).within is False
    assert Compared(1.0, 0.1, 1.3, 0.1, is_distance=True).within is True
    assert Compared(1.3, 0.1, 1.0, 0.1, is_distance=True).within is False


# --- density of states ----------------------------------------------------------------------------


def oscillators(stride_fs: float, frames: int, per_cm: dict[str, tuple[float, ...]]) -> Trajectory:
    """Atoms far from each other that vibrate about their places, every species at wavenumbers of
    equal weight.
    """
    rng = np.random.default_rng(0)
    symbols = [s for s in per_cm for _ in range(30)]
    c = 2.99792458e-5  # cm/fs
    omega = 2 * np.pi * c * np.array([rng.permutation(np.resize(per_cm[s], 3)) for s in symbols])
    phase = rng.uniform(0, 2 * np.pi, omega.shape)
    time = stride_fs * np.arange(frames)
    grid = np.stack(np.meshgrid(*[np.arange(5) * 10.0] * 3), -1).reshape(-1, 3)[: len(symbols)]
    velocities = 0.01 * np.sin(omega * time[:, None, None] + phase)
    positions = grid - 0.01 / omega * np.cos(omega * time[:, None, None] + phase)
    first = frame_of(symbols, positions[0], 50 * np.eye(3))
    cell = np.repeat(first.cell, frames, axis=0)
    return replace(
        first,
        positions=positions,
        velocities=velocities,
        cell=cell,
        time=time,
        step=np.arange(frames),
    )


def say(stride_fs: float) -> str:
    return f"Every {stride_fs:.1f} fs."


def test_spectrum_has_the_frequencies_of_the_motion_and_integral_one():
    frames = oscillators(3.0, 2500, {"Na": (400.0, 1500.0, 3500.0), "Cl": (900.0,)})
    per_cm = np.linspace(0, 5559, 2000)
    found = spectrum(frames, 1000.0, per_cm)
    for species, planted in {"Na": (400, 1500, 3500), "Cl": (900,)}.items():
        density = found.density[species]
        assert trapezoid(density, per_cm) == pytest.approx(1, abs=0.01)
        for centre in planted:
            here = np.abs(per_cm - centre) < 60
            assert trapezoid(density[here], per_cm[here]) == pytest.approx(
                1 / len(planted), abs=0.03
            )
            assert per_cm[here][np.argmax(density[here])] == pytest.approx(centre, abs=5)
    assert found.numbers["spectrum:Na mean_per_cm"].value == pytest.approx(1800, rel=0.01)
    assert found.numbers["spectrum:Cl mean_per_cm"].value == pytest.approx(900, rel=0.01)


def test_bonds_vibrate_as_their_lengths_scatter():
    """ω² = k / μ, and σ² = kT / k: 300 K, N₂ with 100 eV/Å²."""
    rng = np.random.default_rng(0)
    k, kT, mass = 100.0, 300 * 8.617333e-5, 14.007
    r = 1.1 + np.sqrt(kT / k) * rng.normal(size=(400, 64))
    place = 4.0 * np.stack(np.meshgrid(*[np.arange(4)] * 3), -1).reshape(-1, 3)
    positions = np.repeat(np.repeat(place, 2, axis=0)[None], 400, axis=0)
    positions[:, 1::2, 0] += r
    first = frame_of(["N"] * 128, positions[0], 16 * np.eye(3))
    frames = replace(first, positions=positions, cell=np.repeat(first.cell, 400, axis=0))
    omega = np.sqrt(k / (mass / 2 * 103.642697))  # 1/fs
    assert bond_wavenumbers(frames, 300.0)["N", "N"] == pytest.approx(
        omega / (2 * np.pi * 2.99792458e-5), rel=0.01
    )


def test_spectra_of_either_stride_are_the_same():
    fine, coarse = (oscillators(s, int(9000 / s), {"Na": (300.0, 700.0)}) for s in (2.0, 4.0))
    found, against = spectra({"CP2K": coarse, "lammps": fine}, 300.0, {"CP2K": say, "lammps": say})
    assert against == []
    assert np.array_equal(found["CP2K"].per_cm, found["lammps"].per_cm)
    assert found["CP2K"].density["Na"] == pytest.approx(found["lammps"].density["Na"], abs=1e-5)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda t: t,
            (
                r"has a frame every 10 fs, which resolves 1668 cm⁻¹; bonds vibrate up to 4\d\d\d"
                r" cm⁻¹.*Every 3.8"
            ),
        ),
        (lambda t: replace(t, velocities=None), r"holds no velocities. Every 3.8 fs."),
        (
            lambda t: t[np.delete(np.arange(t.n_frames), 300)],
            r"has frames that are not equally far apart in time",
        ),
        (lambda t: t[:200], r"is 1.99 ps long, and 2.2 ps are needed for lines 100 cm⁻¹ wide"),
    ],
)
def test_spectrum_that_would_be_wrong_is_refused(change, said, water):
    frames = change(water)
    found, against = spectra(
        {"CP2K": frames, "lammps": frames}, 300.0, {"CP2K": say, "lammps": say}
    )
    assert found == {} and len(against) == 2
    assert re.search(r"^The density of states is left out: CP2K " + said, against[0])


# --- the study ------------------------------------------------------------------------------------


def test_noise_of_forces_from_frames_computed_again(few):
    """Frames in another order, moved as a whole and wrapped, with forces that differ by a known
    amount.
    """
    oxygen = np.array(few.symbols) == "O"
    again = few[np.array([7, 2])]
    shift = np.where(oxygen[:, None], 0.03, -0.01) * np.ones(3)
    again = replace(
        again,
        positions=np.add(again.positions, (0.04, 0.01, 6.0)) % 12.444661,
        forces=again.forces + shift,
    )
    found = compare_forces(few, again)
    assert found["frames"] == 2
    assert found["rms_difference_eV_per_A"] == pytest.approx({"O": 0.03, "H": 0.01})
    power = np.sqrt((few.forces[[2, 7]][:, oxygen] ** 2).mean())
    assert found["relative"]["O"] == pytest.approx(0.03 / power)
    strange = replace(again, positions=again.positions + np.where(oxygen[:, None], 0.1, 0))
    with pytest.raises(
        InputError, match="none of the frames computed again is a frame of this run"
    ):
        compare_forces(few, strange)
    with pytest.raises(InputError, match="other atoms"):
        compare_forces(few, again.select_atoms(np.arange(191)))
    with pytest.raises(InputError, match="forces are needed"):
        compare_forces(few, replace(again, forces=None))


@pytest.fixture(scope="module")
def ran(power_water: AgentLoss, water: Trajectory, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("report") / "run"
    run(power_water, water[600], "lammps", out, MD(time_ps=5.0, every_fs=3.5, velocities=True))
    return out


@pytest.fixture(scope="module")
def dft_run(power_water: AgentLoss, tmp_path_factory) -> tuple[Path, Path]:
    """The example with DFT forces, and a run from a frame of it."""
    example, out = EXAMPLE.parent.parent / "water-dft", tmp_path_factory.mktemp("dft") / "run"
    run(power_water, open_cp2k(example / "cp2k").read()[-1], "lammps", out, MD(time_ps=0.5))
    return example, out


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Less frames than in earnest."""
    monkeypatch.setattr(sys.modules["mld_ff.report.study"], "FRAMES_FOR_STRUCTURE", 60)


@pytest.fixture(scope="module")
def explored(few) -> Scan:
    return scan(few[::4], (2.0, 3.0), cutoff_A=5.0)


def written(found: Study, out: Path) -> tuple[str, dict]:
    """The page without its figures, and the numbers."""
    page = write_report(out, found).read_text(encoding="utf-8")
    assert (
        page.count("data:image/png") == len(list(out.glob("*.svg"))) == len(list(out.glob("*.png")))
    )
    return re.sub(r"base64,[^\"]*", "", page), json.loads(
        (out / "report.json").read_text(encoding="utf-8")
    )


def test_report_of_a_run_from_a_frame_of_the_reference(ran, explored, tmp_path):
    found = study(open_cp2k(EXAMPLE, skip_fs=5000), ran, scan=explored)
    page, data = written(found, tmp_path)
    names = {
        "oh_mean_A",
        "oh_std_A",
        "hoh_mean_deg",
        "goo_peak_height",
        "goo_peak_A",
        "goo_mean_abs_difference",
    }
    assert names | {"temperature_K", "diffusion_A2_per_ps"} <= set(data["observables"])
    assert set(data["observables"]["oh_mean_A"]) == {
        "learned",
        "learned_error",
        "reference",
        "reference_error",
        "within",
    }
    assert data["speed"]["ratio"] > 10
    assert data["speed"]["cp2k_steps_per_s"] == pytest.approx(
        1 / 0.2, rel=0.5
    )  # seconds of the .ener file
    start = data["series"]["same_start"]
    for curve in start["CP2K"]:  # the same positions at time zero
        assert start["CP2K"][curve][1][0] == pytest.approx(start["lammps"][curve][1][0], abs=1e-3)
    # 1.86 ps of CP2K are too short for what moves slowly, and 10 fs between frames too long for
    # what moves fast
    assert data["observables"]["diffusion_A2_per_ps"]["learned"] is None
    assert re.search(
        r"Diffusion is left out: displacements can be followed for 0.4\d ps only", page
    )
    assert "The density of states is left out: CP2K is 1.86 ps long" in page
    kinetic = data["series"]["kinetic_energy_eV_per_atom"]
    assert np.mean(kinetic["lammps"][1]) == pytest.approx(
        1.5 * 191 / 192 * 300 * 8.617333e-5, rel=0.02
    )
    for term in found.loss.terms:
        assert term.name in page and data["terms"][term.name]["coverage"]["counts"]
    assert f"{data['fit']['rank']} of {data['fit']['n_functions']} functions" in page
    assert data["scan"]["best_exponent"] == explored.best_exponent
    assert {"exponents.png", "plane.png", "sensitivities.png"} <= {
        f.name for f in tmp_path.iterdir()
    }


@pytest.fixture
def dense(ran) -> CP2KSource:
    """A source like CP2K's with the frames of the run itself, all that it takes to compare
    everything.
    """
    source = open_cp2k(EXAMPLE)
    frames = replace(read_run(ran), origin=source.origin)
    source.read = lambda: frames  # type: ignore[method-assign]
    return source


def test_study_of_a_run_beside_itself(dense, ran, explored):
    """Nothing is left out, and nothing differs by more than errors: a tenth less of the same
    frames.
    """
    found = study(dense, ran, scan=replace(explored, source={"sha256": "0"}))
    assert {"spectrum", "displacement", "rdf", "angles", "bond_in_time"} <= set(found.series)
    differ = {n for n, c in found.observables.items() if c.within is False}
    assert differ <= {n for n in found.observables if "mean_abs" in n}
    for name, low, high in (
        ("O mean", 200, 500),
        ("H mean", 1200, 2200),
        ("H stretch", 3300, 3900),
    ):
        c = found.observables[f"spectrum:{name}_per_cm"]
        assert low < c.learned < high and 0 < c.learned_error < 60
    assert found.observables["diffusion_A2_per_ps"].learned_error > 0
    assert (
        found.notes[0]
        == "The scan over exponents is of other data than those that the model was fitted to."
    )
    with pytest.raises(
        InputError, match=r"the scan is of C, H, the model of O, H: scan the data that the model"
    ):
        study(dense, ran, scan=replace(explored, species=("C", "H")))


def test_report_of_little_and_of_molecules_other_than_water(tmp_path):
    """Ammonia with invented forces: nothing of water is said; too few frames for errors, or none of
    dynamics.
    """
    first = liquid(["NH3"] * 8, CUBE)
    rng = np.random.default_rng(0)
    positions = first.positions + 0.02 * rng.normal(size=(18, first.n_atoms, 3))
    many = replace(
        first,
        positions=positions,
        velocities=1e-3 * rng.normal(size=positions.shape),
        cell=np.repeat(first.cell, 18, axis=0),
        time=0.5 * np.arange(18),
        step=np.arange(18),
    )
    forces = [energy_and_forces(invent(first), frame)[1] for frame in many.chunks(1)]
    loss = fit(replace(many, forces=np.array(forces)), Basis("power", (3.0,), bond_degree=2)).loss
    run(loss, many[-1], "lammps", tmp_path / "run", MD(time_ps=0.009, every_fs=0.5))
    source = open_cp2k(EXAMPLE)
    source.read = lambda: many  # type: ignore[method-assign]
    page, data = written(study(source, tmp_path / "run"), tmp_path / "report")
    names = set(data["observables"])
    assert {
        "bonded:N-H mean_A",
        "angle:H-N-H mean_deg",
        "free:N-N peak_A",
        "hydrogen_bonds_per_molecule",
    } <= names
    assert not {n for n in names if n.startswith(("oh_", "hoh_", "goo_"))}
    assert "H2O" not in page and "water" not in page and "spectrum" not in data["series"]
    assert data["notes"][0].startswith(
        "CP2K has only 18 frames: its numbers have no errors, and nothing can be said"
    )
    assert all(c["within"] is None for c in data["observables"].values())
    source.origin = replace(source.origin, is_dynamics=False)
    found = study(source, tmp_path / "run")
    assert set(found.series) == {"rdf", "bonded", "angles"}
    assert "CP2K computed its frames one by one (REFTRAJ), not as dynamics" in found.notes[-1]


def test_report_of_single_frames_with_their_noise(dft_run, tmp_path):
    """Frames that CP2K labelled one by one have no dynamics; those computed again tell the noise of
    their forces.
    """
    example, out = dft_run
    again = {"denser": open_cp2k(example / "recomputed/800Ry").read()}
    page, data = written(study(open_cp2k(example / "cp2k"), out, recomputed=again), tmp_path)
    assert data["recomputed"]["denser"]["frames"] == 2
    assert data["recomputed"]["denser"]["rms_difference_eV_per_A"]["O"] == pytest.approx(
        0.025, abs=0.005
    )
    assert "change of the forces on O in 2 frames computed again (denser)" in page
    assert "one by one (REFTRAJ), not as dynamics" in page
    assert {"temperature_K", "diffusion_A2_per_ps"}.isdisjoint(data["observables"])
    assert not {"kinetic_energy", "bond_in_time", "same_start", "displacement", "spectrum"} & set(
        data["series"]
    )


def test_other_molecules_and_densities_are_not_compared(ran, tmp_path):
    methanol = liquid(["CH3OH"] * 4, CUBE)
    files = tmp_path / "cp2k"
    files.mkdir()
    rows = "".join(
        f"{s} {x[0]:.6f} {x[1]:.6f} {x[2]:.6f}\n"
        for s, x in zip(methanol.symbols, methanol.positions[0], strict=True)
    )
    (files / "m-pos-1.xyz").write_text(f"{methanol.n_atoms}\n i = 0, time = 0.0, E = 0.0\n{rows}")
    (files / "m.inp").write_text("&FORCE_EVAL\n&SUBSYS\n&CELL\nABC 12 12 12\n&END\n&END\n&END\n")
    with pytest.raises(InputError, match="nothing to compare"):
        study(open_cp2k(files, require_forces=False), ran)
