"""The report of real runs: everything compared, everything written, what is left out and why."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import CUBE, EXAMPLE, energy_and_forces, invent, liquid, present

from mld_ff.engines.settings import MD
from mld_ff.errors import InputError
from mld_ff.inference import Basis, ExponentScan, fit, scan
from mld_ff.loss.model import AgentLoss
from mld_ff.production.results import read_run
from mld_ff.production.simulation import run
from mld_ff.production.watch import Watch
from mld_ff.report import Study, compare_runs, write_report
from mld_ff.report.recomputed import compare_forces
from mld_ff.report.summary import observables_table
from mld_ff.sources.cp2k import open_cp2k
from mld_ff.sources.source import FileSource
from mld_ff.trajectory import Trajectory


def test_noise_of_forces_from_frames_computed_again(few: Trajectory) -> None:
    """Frames in another order, moved as a whole and wrapped, with forces that differ by a known
    amount.
    """
    oxygen = np.array(few.symbols) == "O"
    again = few[np.array([7, 2])]
    shift = np.where(oxygen[:, None], 0.03, -0.01) * np.ones(3)
    again = replace(
        again,
        positions=np.add(again.positions, (0.04, 0.01, 6.0)) % 12.444661,
        forces=present(again.forces) + shift,
    )
    noise = compare_forces(few, again)
    assert noise.frames == 2
    assert noise.rms_difference_eV_per_A == pytest.approx({"O": 0.03, "H": 0.01})
    power = np.sqrt((present(few.forces)[[2, 7]][:, oxygen] ** 2).mean())
    assert noise.relative["O"] == pytest.approx(0.03 / power)
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
def ran(
    power_water: AgentLoss, water: Trajectory, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    out = tmp_path_factory.mktemp("report") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Watch, "look", lambda _: None)  # at 1,286 frames, which takes 4 s
        run(power_water, water[600], "lammps", out, MD(time_ps=4.5, every_fs=3.5, velocities=True))
    return out


@pytest.fixture(scope="module")
def dft_run(power_water: AgentLoss, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The example with DFT forces, and a run from a frame of it."""
    example, out = EXAMPLE.parent.parent / "water-dft", tmp_path_factory.mktemp("dft") / "run"
    run(power_water, open_cp2k(example / "cp2k").read()[-1], "lammps", out, MD(time_ps=0.5))
    return example, out


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Less frames than in earnest."""
    monkeypatch.setattr("mld_ff.report.distributions.FRAMES_FOR_STRUCTURE", 40)


@pytest.fixture(scope="module")
def explored(few: Trajectory) -> ExponentScan:
    return scan(few[::4], (2.0, 3.0), cutoff_A=5.0)


def written(study: Study, out: Path) -> tuple[str, dict[str, Any]]:
    """The page without its figures, and the numbers."""
    page = write_report(out, study).read_text(encoding="utf-8")
    light = (out / "report-light.html").read_text(encoding="utf-8")
    for kind in ("svg", "png"):
        n_figures = len(list((out / "figures").glob(f"*.{kind}")))
        assert light.count("data:image/png") == page.count('src="data:image/png') == n_figures
    assert "<script" not in light and len(light) < 1e6 and len(page) < 8e6
    return re.sub(r"base64,[^\"]*", "", light), json.loads(
        (out / "report.json").read_text(encoding="utf-8")
    )


def test_report_of_a_run_from_a_frame_of_the_reference(
    ran: Path,
    water_source: FileSource,
    water: Trajectory,
    explored: ExponentScan,
    undrawn: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(water_source, "read", lambda: water[500:])
    study = compare_runs(water_source, [ran], scan=explored)
    page, data = written(study, tmp_path)
    names = {
        "oh_mean_A",
        "oh_std_A",
        "hoh_mean_deg",
        "goo_peak_height",
        "goo_peak_A",
        "goo_mean_abs_difference",
    }
    assert names | {"temperature_K", "diffusion_A2_per_ps"} <= set(data["observables"])
    assert set(data["observables"]["oh_mean_A"]) == {"reference", "lammps"}
    assert set(data["observables"]["oh_mean_A"]["reference"]) == {"value", "error"}
    assert set(data["observables"]["oh_mean_A"]["lammps"]) == {"value", "error", "within"}
    assert data["speed"]["lammps"]["ratio"] > 10
    assert data["speed"]["reference"]["steps_per_s"] == pytest.approx(
        1 / 0.2, rel=0.5
    )  # seconds of the .ener file
    start = data["series"]["same_start"]
    for curve in start["reference"]:  # the same positions at time zero
        assert start["reference"][curve][1][0] == pytest.approx(
            start["lammps"][curve][1][0], abs=1e-3
        )
    # 1.86 ps of CP2K are too short for what moves slowly, and 10 fs between frames too long for
    # what moves fast
    assert data["observables"]["diffusion_A2_per_ps"]["lammps"]["value"] is None
    assert re.search(
        r"Diffusion is left out: displacements can be followed for 0.4\d ps only", page
    )
    assert "The density of states is left out: the reference is 1.86 ps long" in page
    kinetic = data["series"]["kinetic_energy_eV_per_atom"]
    assert np.mean(kinetic["lammps"][1]) == pytest.approx(
        1.5 * 191 / 192 * 300 * 8.617333e-5, rel=0.02
    )
    for term in study.loss.terms:
        assert term.name in page and data["terms"][term.name]["coverage"]["counts"]
    assert f"{data['fit']['rank']} of {data['fit']['n_functions']} functions" in page
    assert data["scan"]["best_exponent"] == explored.best_exponent
    assert {"exponents.png", "plane.png", "sensitivities.png"} <= {
        f.name for f in (tmp_path / "figures").iterdir()
    }


@pytest.fixture
def dense(ran: Path, water_source: FileSource, monkeypatch: pytest.MonkeyPatch) -> FileSource:
    """A source like CP2K's with the frames of the run itself, all that it takes to compare
    everything.
    """
    frames = replace(read_run(ran), origin=water_source.origin)
    monkeypatch.setattr(water_source, "read", lambda: frames)
    return water_source


def every_24th_step(frames: Trajectory, _: int) -> Trajectory:
    """Those that any stretch of a run has in common with the whole."""
    stride = frames.step[1] - frames.step[0]
    return frames[frames.step // stride % 24 == 0]


def test_study_of_a_run_beside_itself(
    dense: FileSource,
    ran: Path,
    explored: ExponentScan,
    undrawn: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing is left out, and nothing differs by more than errors: a tenth less of the same
    frames.
    """
    monkeypatch.setattr("mld_ff.report.distributions.spread", every_24th_step)
    study = compare_runs(dense, [ran], scan=replace(explored, source={"sha256": "0"}))
    assert {"spectrum", "displacement", "rdf", "angles", "bond_in_time"} <= set(study.series)
    differ = {n for n, c in study.observables.items() if c["lammps"].within is False}
    assert differ <= {n for n in study.observables if "mean_abs" in n}
    for name, low, high in (
        ("O mean", 200, 500),
        ("H mean", 1200, 2200),
        ("H stretch", 3300, 3900),
    ):
        learned = study.observables[f"spectrum:{name}_per_cm"]["lammps"].learned
        assert low < learned.value < high and 0 < learned.error < 60
    assert study.observables["diffusion_A2_per_ps"]["lammps"].learned.error > 0
    assert (
        study.notes[0]
        == "The scan over exponents is of other data than those that the model was fitted to."
    )
    with pytest.raises(
        InputError, match=r"the scan is of C, H, the model of O, H: scan the data that the model"
    ):
        compare_runs(dense, [ran], scan=replace(explored, species=("C", "H")))


def test_report_of_little_and_of_molecules_other_than_water(
    water_source: FileSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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
        time=100.0 * np.arange(18.0),
        step=np.arange(18),
    )
    forces = [energy_and_forces(invent(first), frame)[1] for frame in many.chunks(1)]
    loss = fit(replace(many, forces=np.array(forces)), Basis("power", (3.0,), bond_degree=2)).loss
    settings = MD(time_ps=0.009, every_fs=0.5)
    run(loss, many[-1], "lammps", tmp_path / "run", settings, force=True)  # no N comes near another
    monkeypatch.setattr(water_source, "read", lambda: many)
    page, data = written(compare_runs(water_source, [tmp_path / "run"]), tmp_path / "report")
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
        "There are only 18 frames of the reference: its numbers have no errors, and nothing can"
        " be said"
    )
    assert all(c["lammps"]["within"] is None for c in data["observables"].values())
    one_by_one = replace(water_source.origin, is_dynamics=False)
    monkeypatch.setattr(water_source, "origin", one_by_one)
    monkeypatch.setattr("mld_ff.report.movies.plot_atoms", lambda *_, **__: None)  # drawn above
    study = compare_runs(water_source, [tmp_path / "run"])
    assert set(study.series) == {"rdf", "bonded", "angles", "hydrogen_bonds"}
    assert "CP2K computed its frames one by one (REFTRAJ), not as dynamics" in study.notes[-1]


def test_report_of_single_frames_with_their_noise(
    dft_run: tuple[Path, Path], undrawn: None, tmp_path: Path
) -> None:
    """Frames that CP2K labelled one by one have no dynamics; those computed again tell the noise of
    their forces.
    """
    example, out = dft_run
    again = {"denser": open_cp2k(example / "recomputed/800Ry").read()}
    page, data = written(
        compare_runs(open_cp2k(example / "cp2k"), [out], recomputed=again), tmp_path
    )
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


def test_other_molecules_and_densities_are_not_compared(
    ran: Path, few: Trajectory, undrawn: None, tmp_path: Path
) -> None:
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
        compare_runs(open_cp2k(files, require_forces=False), [ran])
    with pytest.raises(InputError, match=r"its density is 1\.030 times that of the reference"):
        compare_runs(replace(few[:4], cell=1.01 * few.cell[:4]), [ran])


def test_of_hydrogens_of_another_mass_only_structure_is_compared(
    ran: Path, few: Trajectory, undrawn: None
) -> None:
    heavy = np.where(np.array(few.symbols) == "H", 4.0, few.masses)
    study = compare_runs(replace(few[:4], masses=heavy), [ran])
    assert study.notes[-1] == (
        "H weighs 4 amu in the reference, 1.008 amu in the run of LAMMPS: diffusion, density of"
        " states, dipoles and bonds from the same start are left out. Structure does not depend on"
        " masses."
    )
    assert {"oh_mean_A", "temperature_K"} <= study.observables.keys()
    assert {"same_start", "displacement", "spectrum"}.isdisjoint(study.series)


def test_runs_side_by_side(
    ran: Path, power_water: AgentLoss, water: Trajectory, undrawn: None, tmp_path: Path
) -> None:
    """Every run has a column with verdicts, a name of its own, and curves; all are of one model."""
    more = tmp_path / "more"
    run(power_water, water[600], "lammps", more, MD(time_ps=0.25, every_fs=2.5))
    study = compare_runs(water[600:], [ran, more])
    data, names = study.to_dict(), {"reference", "lammps", "lammps 2"}
    assert data["runs"] == {"lammps": str(ran), "lammps 2": str(more)}
    assert all(set(of_one) == names for of_one in data["observables"].values())
    assert set(data["series"]["rdf"]) == set(data["series"]["same_start"]) == names
    table = observables_table(study)
    assert table.head == ["observable", "CP2K", "LAMMPS", "agrees", "LAMMPS 2", "agrees"]
    assert table.alignment == "lrrlrl"
    other = AgentLoss(power_water.species, power_water.terms, {})
    other.save(more / "model.json")
    with pytest.raises(InputError, match="is of another model than"):
        compare_runs(water, [ran, more])
    with pytest.raises(InputError, match="no run is given"):
        compare_runs(water, [])
