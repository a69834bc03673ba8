"""Matching: what runs are worth, what a round tells, what is refused; a killed one goes on."""

from __future__ import annotations

import json
import lzma
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from command_line import invoke
from conftest import SHORT, present, topology_of

from mld_ff.cli.options import Reading
from mld_ff.cli.text import match_text
from mld_ff.configuration.toml import read_config
from mld_ff.engines.registry import ENGINES
from mld_ff.engines.settings import MD
from mld_ff.errors import InputError
from mld_ff.inference import Basis, fit
from mld_ff.loss.model import AgentLoss
from mld_ff.loss.provenance import Provenance
from mld_ff.origin import Origin
from mld_ff.pipeline import build
from mld_ff.production.results import read_log
from mld_ff.progress import no_progress
from mld_ff.report import Study, write_report
from mld_ff.sources.cp2k import read_cp2k
from mld_ff.sources.source import FileSource
from mld_ff.survey import inspect
from mld_ff.trajectory import Trajectory
from mld_ff.units import EV_PER_A3_TO_BAR, KB_EV_PER_K
from mld_ff.verification import verify
from mld_ff.workflows.matching.averages import (
    Averages,
    pair_coefficients,
    pooled,
    with_pair_coefficients,
)
from mld_ff.workflows.matching.equilibrium import Equilibrium, radial_distributions
from mld_ff.workflows.matching.loop import Matching, _Work, match
from mld_ff.workflows.matching.response import Response, combined
from mld_ff.workflows.matching.settings import Settings

DATA = Path(__file__).parent / "data/cp2k"
KT_EV = 0.0259
BASIS = Basis(cutoff_A=4.0, accuracy="pairs")
SETTINGS = Settings(BASIS, MD(time_ps=1.0, every_fs=20.0), "lammps", pressure_bar=1.0)


def test_walls_stay_where_coefficients_do() -> None:
    """Also without molecules; a wall further out would hide coefficients, and lose them."""
    fitted = fit(read_cp2k(DATA / "nacl")[::4], Basis(cutoff_A=5.0, accuracy="pairs"), force=True)
    same = with_pair_coefficients(fitted.loss, pair_coefficients(fitted.loss), fitted.data)
    assert same.terms == fitted.loss.terms


# --- what the runs of CP2K say --------------------------------------------------------------------


def test_runs_count_by_their_length_and_forces_may_come_from_elsewhere(few: Trajectory) -> None:
    """One run without forces lasts three times as long as the other, its atoms in another order."""
    one, two = (
        few[:20],
        replace(few[20:], forces=None).select_atoms(np.random.default_rng(2).permutation(192)),
    )
    two = replace(two, time=two.time[0] + 3 * (one.time[-1] - one.time[0]) * np.linspace(0, 1, 20))
    work = _Work((one, two), (few[:10],), SETTINGS, no_progress)
    assert work.reference.weights == pytest.approx([0.25, 0.75])
    means = [Averages.of(work.fit.loss, t, topology_of(t[0])).mean for t in (one, two)]
    np.testing.assert_allclose(work.wanted, 0.25 * means[0] + 0.75 * means[1])
    assert work.fit.loss.provenance["frames_train"] == 26
    first, second = work.reference.halves
    g = [radial_distributions(inspect(t, work.reference.cutoff_A)) for t in (one, two)]
    whole = 0.25 * g[0]["free:O-O"] + 0.75 * g[1]["free:O-O"]
    np.testing.assert_allclose((first["free:O-O"] + second["free:O-O"]) / 2, whole)
    alone = _Work((two,), (few[:10],), SETTINGS, no_progress)
    assert alone.fit.loss.provenance["frames_train"] == 8 and alone.reference.temperature_K == 300.0


def test_a_cell_that_engines_turn_is_matched(few: Trajectory) -> None:
    """One whose reduced form is wider: radial distributions of CP2K and of the model end at the
    same distance.
    """
    a = few.cell[0, 0, 0]
    skewed = replace(
        few, cell=np.repeat(np.array([[a, 0, 0], [a, a, 0], [0, 0, a]])[None], few.n_frames, axis=0)
    )
    reference = Equilibrium((skewed,))
    assert reference.cutoff_A < 4.5
    assert max(reference.mean_abs_dg(few).values()) < 1e-12


def test_runs_of_other_coefficients_count_less() -> None:
    rng = np.random.default_rng(4)
    near, far = (Averages.of_rows(rng.normal(size=(50, 3)) * KT_EV) for _ in range(2))
    now = np.zeros(3)
    seen = [
        Response(np.array([3.0, 0, 0]), far, 0.0, 3.0),
        Response(now, near, 0.0, 4.0),
    ]
    averages, error = combined(seen, now, KT_EV)
    weight = np.exp(-(far.length(np.array([3.0, 0, 0]), KT_EV) ** 2))
    expected = pooled([far.moved(np.array([-3.0, 0, 0]), KT_EV), near], [weight, 1])
    np.testing.assert_allclose(averages.mean, expected.mean)
    assert error == pytest.approx(np.hypot(3 * weight, 4) / (1 + weight))
    lost, _ = combined([replace(seen[0], coefficients=np.full(3, 1e3)), seen[1]], now, KT_EV)
    np.testing.assert_allclose(lost.mean, near.mean)


# --- the whole ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def matched(few: Trajectory, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Matching]:
    out = tmp_path_factory.mktemp("match")
    return out, match(few, out, SETTINGS, rounds=2)


def test_what_matching_tells(matched: tuple[Path, Matching], few: Trajectory) -> None:
    out, matching = matched
    assert AgentLoss.load(out / "model.json") == matching.loss
    first, second = matching.rounds
    assert first.price == 0 and second.price > 0
    assert set(first.mean_abs_dg) == set(matching.noise) == {"free:O-O", "free:O-H", "free:H-H"}
    # nearer to the pressure that was asked for, by a picosecond that knows it to some hundred bar
    assert abs(present(second.pressure_bar) - 1) < 0.5 * abs(present(first.pressure_bar) - 1)
    assert {"matched", "rmse_meV_per_A"} <= set(matching.loss.provenance)
    assert matching.loss.provenance["matched"]["temperature_K"] == 300.0
    assert matching.loss.provenance["rmse_meV_per_A"] == second.rmse_meV_per_A
    assert second.rmse_meV_per_A == pytest.approx(first.rmse_meV_per_A, rel=0.1)
    assert verify(matching.loss, few, 1, per_term=False).passed


def test_the_pressure_is_that_of_the_engine(matched: tuple[Path, Matching]) -> None:
    log, first = read_log(matched[0] / "round-1" / "run"), matched[1].rounds[0]
    n, volume = 192, 12.444661**3
    ideal = (n - 1) * KB_EV_PER_K * (log["temperature_K"] - 300.0) / volume * EV_PER_A3_TO_BAR
    expected = (log["pressure_bar"] - ideal)[len(ideal) // 10 :].mean()
    assert first.pressure_bar == pytest.approx(expected, abs=0.5)


def test_what_is_done_is_not_done_again(
    matched: tuple[Path, Matching], few: Trajectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_run(*_: Any, **__: Any) -> None:
        raise AssertionError("an engine was started")

    out = tmp_path / "again"
    shutil.copytree(matched[0], out)
    engine = ENGINES[SETTINGS.engine]
    monkeypatch.setitem(ENGINES, engine.name, replace(engine, run=no_run))
    assert match(few, out, SETTINGS, rounds=2) == matched[1]
    assert (out / "model.json").read_bytes() == (matched[0] / "model.json").read_bytes()
    assert match(few, out, SETTINGS, rounds=1).rounds == matched[1].rounds, (
        "rounds that were made are not undone"
    )
    # killed after the second run, before the first round was written down
    state = json.loads((out / "match.json").read_text())
    (out / "match.json").write_text(json.dumps({**state, "rounds": []}))
    (out / "round-2" / "model.json").unlink()
    assert match(few, out, SETTINGS, rounds=2) == matched[1]


def test_a_model_that_did_not_run_is_refused(
    matched: tuple[Path, Matching], few: Trajectory, tmp_path: Path
) -> None:
    shutil.copytree(matched[0], tmp_path / "again")
    shutil.copy(matched[0] / "round-1/model.json", tmp_path / "again/round-2")
    with pytest.raises(InputError, match=r"round-2/model\.json: is not the model that ran in "):
        match(few, tmp_path / "again", SETTINGS, rounds=2)


def test_warnings_of_the_fit_are_told(matched: tuple[Path, Matching], tmp_path: Path) -> None:
    told = {**matched[1].loss.provenance, "warnings": ["too few"], "unchecked": ["no energies"]}
    loss = replace(matched[1].loss, provenance=cast(Provenance, told))
    lines = match_text(replace(matched[1], loss=loss), tmp_path, []).splitlines()
    assert lines[-2:] == ["not checked: no energies", "warning: too few"]


def test_bad_input_is_refused(
    matched: tuple[Path, Matching], few: Trajectory, tmp_path: Path
) -> None:
    with pytest.raises(
        InputError, match=r"begun with other settings: price was 0\.02, now is 0\.5"
    ):
        match(few, matched[0], replace(SETTINGS, price=0.5))
    with pytest.raises(InputError, match="begun with another reference"):
        match(replace(few, origin=Origin(sha256="other")), matched[0], SETTINGS)
    swollen = replace(few, cell=few.cell * np.linspace(1, 1.01, 40)[:, None, None])
    with pytest.raises(InputError, match=r"cell of run 1 .* needs runs at one constant volume"):
        match(swollen, tmp_path / "a", SETTINGS)
    with pytest.raises(InputError, match="run 2 is no stretch of time"):
        match([few, replace(few, time=np.zeros(40))], tmp_path / "b", SETTINGS)
    with pytest.raises(InputError, match="run 2 holds 61 H2O, 3 HO, the first 64 H2O"):
        match([few, few.select_atoms(np.arange(189))], tmp_path / "c", SETTINGS)
    with pytest.raises(InputError, match="no run has forces"):
        match(replace(few, forces=None), tmp_path / "d", SETTINGS)
    assert not (tmp_path / "d").exists(), "a directory was begun before the input was looked at"
    hot = replace(few, origin=replace(few.origin, temperature_K=400.0))
    with pytest.raises(InputError, match="run 2 is of 400 K, the first of 300 K"):
        match([few, hot], tmp_path / "e", SETTINGS)
    with pytest.raises(InputError, match="temperature of run 1 is not known"):
        match(replace(few, origin=Origin(), velocities=None), tmp_path / "f", SETTINGS)
    with pytest.raises(
        InputError, match=r"run 1 holds frames that CP2K computed one by one \(REFTRAJ\)"
    ):
        single = replace(few, origin=replace(few.origin, is_dynamics=False))
        match(single, tmp_path / "i", SETTINGS)
    with pytest.raises(InputError, match="engine is 'gromacs'"):
        match(few, tmp_path / "g", replace(SETTINGS, engine="gromacs"))
    one = few.select_atoms(topology_of(few[0]).molecules[0])
    with pytest.raises(InputError, match="no distances between molecules"):
        match(one, tmp_path / "h", SETTINGS)
    with pytest.raises(InputError, match="leave 7 frames to average over"):
        Settings(md=MD(time_ps=0.08))
    with pytest.raises(InputError, match="constant volume and temperature"):
        Settings(md=MD(ensemble="npt"))
    with pytest.raises(InputError, match="must be a positive number"):
        Settings(price=0.0)


def test_a_build_matches_where_it_is_asked_to(
    late_water: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Asked(Exception):
        pass

    def asked(
        source: FileSource, directory: Path, settings: Settings, rounds: int, **_: Any
    ) -> None:
        assert source.n_frames == 57 and directory == tmp_path / "out" / "match" and rounds == 3
        assert settings.basis == BASIS and (settings.engine, settings.platform) == ("openmm", "CPU")
        assert (
            settings.pressure_bar == 1.0
            and settings.md.time_ps == 0.5
            and settings.md.damping_fs == 40.0
        )
        raise Asked

    (tmp_path / "c.toml").write_text(
        f"cp2k = '{late_water}'\nskip_ps = 0.4\nplatform = 'CPU'\n[fit]\n"
        "accuracy = 'pairs'\ncutoff_A = 4.0\n[run]\ndamping_fs = 40.0\non_escape = 'stop'\n"
        "[match]\nrounds = 3\ntime_ps = 0.5\npressure_bar = 1.0\n"
    )
    monkeypatch.setitem(build.__globals__, "match", asked)  # `mld_ff.build` is the function
    with pytest.raises(Asked):
        build(read_config(tmp_path / "c.toml", tmp_path / "out"))


def test_reports_say_what_was_matched(
    matched: tuple[Path, Matching], undrawn: None, tmp_path: Path
) -> None:
    loss = matched[1].loss
    page = write_report(tmp_path, Study(loss, {}, {})).read_text(encoding="utf-8")
    before, command, after = loss.provenance["matched"]["note"].split("`")
    assert f"{before}<code>{command}</code>{after}" in page


def test_the_command_says_what_is_wrong(tmp_path: Path) -> None:
    done = invoke("match", SHORT, "-o", tmp_path, "--price", "-1", "--json")
    assert done.exit_code == 2
    assert "price is -1.0" in json.loads(done.stdout)["error"]


def test_forces_of_a_run_that_was_killed_are_kept(tmp_path: Path) -> None:
    whole, killed, without = (tmp_path / name for name in ("whole", "killed", "without"))
    for copy in (whole, killed, without):
        shutil.copytree(DATA / "water64", copy)
    packed = killed / "w64-frc-1.xyz.xz"
    lines = lzma.decompress(packed.read_bytes()).decode().splitlines()
    packed.with_suffix("").write_text("\n".join(lines[:-5]))
    packed.unlink()
    (without / packed.name).unlink()
    n = open_for_matching(whole).n_frames
    assert open_for_matching(killed).n_frames == n - 1
    assert next(open_for_matching(killed).chunks()).forces is not None
    assert open_for_matching(without).n_frames == n
    assert next(open_for_matching(without).chunks()).forces is None


def open_for_matching(directory: Path) -> FileSource:
    return Reading().open(directory, require_forces=None)
