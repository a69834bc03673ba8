"""Matching: averages are what they say, a step goes where they ask and costs what it may, a killed
one goes on.
"""

from __future__ import annotations

import json
import lzma
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import invoke
from conftest import EXAMPLE, evaluate, topology_of
from hypothesis import given
from hypothesis import strategies as st

from mld_ff.cli.options import Reading
from mld_ff.engines.settings import MD
from mld_ff.errors import InputError
from mld_ff.geometry.system import systems
from mld_ff.inference import Basis, Problem, fit
from mld_ff.inference.collective import CollectiveProblem
from mld_ff.loss.bonds import BondTerm
from mld_ff.loss.model import AgentLoss
from mld_ff.loss.terms import FreeTerm, PairTerm
from mld_ff.origin import Origin
from mld_ff.pipeline import build, read_config
from mld_ff.production.results import read_log
from mld_ff.progress import no_progress
from mld_ff.report import Study, write_report
from mld_ff.sources.source import FileSource
from mld_ff.survey import inspect
from mld_ff.trajectory import Floats, Trajectory
from mld_ff.units import EV_PER_A3_TO_BAR, KB_EV_PER_K
from mld_ff.verification import verify
from mld_ff.workflows.matching.averages import (
    Averages,
    pair_coefficients,
    pooled,
    unit_energies,
    with_pair_coefficients,
)
from mld_ff.workflows.matching.equilibrium import Equilibrium, radial_distributions
from mld_ff.workflows.matching.loop import Matching, _Work, match
from mld_ff.workflows.matching.response import Response, combined
from mld_ff.workflows.matching.settings import Settings
from mld_ff.workflows.matching.valley import LONGEST, Valley

DATA = Path(__file__).parent / "data/cp2k"
KT_EV = 0.0259
BASIS = Basis(cutoff_A=4.0)
SETTINGS = Settings(BASIS, MD(time_ps=1.0, every_fs=20.0), pressure_bar=1.0)


def without_cubic(loss: AgentLoss) -> AgentLoss:
    """The pairs alone, whose walls are the parabolas that they begin with."""
    terms = [
        replace(t, wall_stiffness_eV_per_A3=(0.0, 0.0) if isinstance(t, BondTerm) else 0.0)
        for t in loss.terms
        if isinstance(t, PairTerm)
    ]
    return replace(loss, terms=tuple(terms), agents={})


# --- averages -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["spline_water", "power_water", "collective_water"])
def test_energies_and_pressures_add_up_to_those_of_the_loss(
    name: str, few: Trajectory, request: pytest.FixtureRequest
) -> None:
    loss = without_cubic(request.getfixturevalue(name))
    edges = {
        t.name: (t.wall_edge_A, 9.9) if isinstance(t, FreeTerm) else t.range_A for t in loss.terms
    }  # type: ignore[attr-defined]
    loss = replace(loss, terms=tuple(shrunk(t, edges[t.name]) for t in loss.terms))
    topology, c, frame = topology_of(few[0]), pair_coefficients(loss), few[7]
    energies, _ = evaluate(loss, topology, frame.positions[0], frame.cell[0])
    (system,) = systems(topology, frame, loss.cutoff_A)
    assert unit_energies(loss, system) @ c == pytest.approx(sum(energies.values()))
    row = Averages.of(loss, frame, topology, pressure=True).mean
    assert row[: len(c)] @ c == pytest.approx(sum(energies.values()))
    assert row[len(c) + 1 :] @ c == pytest.approx(row[len(c)])
    volume, (low, high) = (
        np.linalg.det(frame.cell[0]),
        (
            sum(evaluate(loss, topology, s * frame.positions[0], s * frame.cell[0])[0].values())
            for s in (0.9999, 1.0001)
        ),
    )
    assert row[len(c)] == pytest.approx(
        -(high - low) / (volume * (1.0001**3 - 0.9999**3)), rel=1e-3
    )


def shrunk(term: Any, edges: tuple[float, float]) -> Any:
    """A term whose walls begin where many pairs are."""
    low, high = edges
    if isinstance(term, FreeTerm):
        return replace(term, wall_edge_A=low + 0.3)
    return replace(term, range_A=(low + 0.1, high - 0.1))


@given(
    st.lists(st.integers(1, 6), min_size=1, max_size=5),
    st.integers(0, 2**32 - 1),
)
def test_averages_do_not_depend_on_how_frames_come(lengths: list[int], seed: int) -> None:
    rows = np.random.default_rng(seed).normal(3.0, 1.0, size=(sum(lengths), 4))
    parts = [Averages.of_rows(part) for part in np.split(rows, np.cumsum(lengths)[:-1])]
    total = pooled(parts, lengths)
    assert total.frames == len(rows)
    np.testing.assert_allclose(total.mean, rows.mean(axis=0))
    np.testing.assert_allclose(total.covariance, np.cov(rows.T, bias=True), atol=1e-12)


def test_a_run_of_more_weight_counts_more() -> None:
    one, two = (
        Averages.of_rows(np.array([[0.0], [2.0]])),
        Averages.of_rows(np.array([[4.0], [4.0]])),
    )
    both = pooled([one, two], [1, 3])
    assert both.mean == pytest.approx([3.25])
    assert both.covariance == pytest.approx(
        0.25 * (1 - 3.25) ** 2 + 0.25 * 1 + 0.75 * (4 - 3.25) ** 2
    )


# --- steps ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def rows(water: Trajectory, spline_water: AgentLoss) -> Floats:
    topology = topology_of(water[0])
    every = water[::3]
    frames = systems(topology, every, spline_water.cutoff_A)
    return np.array([unit_energies(spline_water, system) for system in frames])


def test_a_step_undoes_what_changed_the_averages(rows: Floats) -> None:
    """Frames weighed as if other coefficients had made them tell by how much those differ."""
    n, found = rows.shape[1], Averages.of_rows(rows)
    free = Valley(
        np.zeros(n), 1e-12 * np.diag(np.diag(found.covariance)), np.zeros(n), np.zeros((n, n)), 1
    )
    change = np.random.default_rng(3).normal(size=n) / np.sqrt(np.diag(found.covariance))
    change *= 0.2 * KT_EV / np.sqrt(change @ found.covariance @ change)
    weights = np.exp(-(rows - rows.mean(axis=0)) @ change / KT_EV)
    wanted = weights @ rows / weights.sum()
    moved = found.moved(change, KT_EV)
    step = free.step(np.zeros(n), wanted, found, KT_EV, np.inf)
    missed = step.coefficients - change
    assert step.length == pytest.approx(0.2, rel=0.2)
    assert found.length(change, KT_EV) == pytest.approx(0.2)
    after, before = (
        np.abs(m - wanted) / np.sqrt(np.diag(found.covariance)) for m in (moved.mean, found.mean)
    )
    assert after.max() < 0.25 * before.max()
    assert np.sqrt(missed @ found.covariance @ missed) / KT_EV < 0.05


@pytest.fixture(scope="module", params=["pairs", "collective"])
def valley(request: pytest.FixtureRequest, few: Trajectory) -> tuple[Any, AgentLoss, Valley]:
    basis = Basis(spacing_A=0.4, collective=2 if request.param == "collective" else 0)
    found = fit(few, basis)
    return found.data, found.loss, Valley.around(found)


def test_the_price_is_the_growth_of_the_squared_error(
    valley: tuple[Any, AgentLoss, Valley], few: Trajectory
) -> None:
    data, loss, of_forces = valley
    away = (
        np.random.default_rng(1).normal(size=len(of_forces.fitted))
        * 0.05
        * np.abs(of_forces.fitted)
    )
    away[np.diag(of_forces.gram) == 0] = 0
    price = of_forces.price(of_forces.fitted + away)
    problem = Problem.of(data)
    names = [
        f"{t.name} {c}" for t in loss.terms if isinstance(t, PairTerm) for c in t.coefficient_names
    ]
    here = [problem.names.index(name) for name in names]
    if data.together is not None:
        collective = CollectiveProblem.of(data, problem)
        fitted = collective.refit(
            collective.full, problem.train, loss.provenance["collective"]["rank"]
        )

    def square(change: Floats) -> float:
        full = np.zeros(len(problem.names))
        full[here] = change
        if data.together is None:
            return float(
                problem.equations.residual(problem.train, problem.coefficients() + full).sum()
            )
        moved = replace(fitted, pairs=fitted.pairs + full[problem.kept])
        return float(collective.squares(moved, problem.train).sum())

    assert price == pytest.approx(square(away) / square(0 * away) - 1, rel=1e-6)
    assert price > 0 and of_forces.price(of_forces.fitted) == 0


@given(
    seed=st.integers(0, 2**32 - 1),
    strength=st.floats(-3, 3),
    price=st.sampled_from([1e-4, 0.02, 1.0]),
)
def test_a_step_costs_what_it_may(
    valley: tuple[Any, AgentLoss, Valley], seed: int, strength: float, price: float
) -> None:
    of_forces = valley[2]
    rng, n = np.random.default_rng(seed), len(of_forces.fitted)
    found = Averages.of_rows(rng.normal(size=(3 * n, n)) * np.abs(rng.normal(size=n)) * KT_EV)
    wanted = found.mean + 10**strength * np.sqrt(np.diag(found.covariance)) * rng.normal(size=n)
    step = of_forces.step(of_forces.fitted, wanted, found, KT_EV, price)
    assert step.price == pytest.approx(of_forces.price(step.coefficients))
    assert step.price <= price * (1 + 1e-6) and step.length <= LONGEST * (1 + 1e-9)
    stay = of_forces.step(of_forces.fitted, found.mean, found, KT_EV, price)
    assert stay.length < 1e-6 and stay.price < 1e-9


def test_pressure_responds_as_frames_weighed_anew_say(
    water: Trajectory, spline_water: AgentLoss
) -> None:
    """By what other coefficients add themselves, and by which frames they make likelier."""
    topology, c = topology_of(water[0]), pair_coefficients(spline_water)
    n = len(c)
    rows = np.array(
        [
            Averages.of(spline_water, water[f], topology, pressure=True).mean
            for f in range(0, 687, 4)
        ]
    )
    found, change = Averages.of_rows(rows), np.zeros(n)
    names = [t.name for t in spline_water.terms if isinstance(t, PairTerm) for _ in t.coefficients]
    change[[k for k, name in enumerate(names) if name == "free:O-O"][-6]] = 1.0
    change *= 0.1 * KT_EV / (found.length(change, 1.0))
    weights = np.exp(-(rows - found.mean)[:, :n] @ change / KT_EV)
    expected = weights @ (rows[:, n] + rows[:, n + 1 :] @ change) / weights.sum() - found.mean[n]
    indirect = expected - found.mean[n + 1 :] @ change
    assert abs(indirect) > 0.1 * abs(expected)
    assert found.moved(change, KT_EV).mean[n] - found.mean[n] == pytest.approx(
        expected, abs=0.15 * abs(indirect)
    )


@pytest.mark.parametrize("push_bar", [-300.0, 200.0])
def test_a_step_brings_the_pressure_that_is_asked_for(
    push_bar: float, few: Trajectory, valley: tuple[Any, AgentLoss, Valley]
) -> None:
    _, loss, of_forces = valley
    topology, n, push = topology_of(few[0]), len(of_forces.fitted), push_bar / EV_PER_A3_TO_BAR
    found = Averages.of(loss, few, topology, pressure=True)
    wanted = found.mean[:n] * (1 + 0.0005 * np.random.default_rng(5).normal(size=n))
    for target in (found.mean[:n], wanted):
        step = of_forces.step(of_forces.fitted, target, found, KT_EV, 0.02, push)
        assert step.length < LONGEST
        change = step.coefficients - of_forces.fitted
        assert found.moved(change, KT_EV).mean[n] - found.mean[n] == pytest.approx(push)
    # coefficients that no run responds to change it by what they add themselves, in the loss as it
    # is evaluated
    still = replace(found, covariance=found.covariance * 1e-12)
    step = of_forces.step(of_forces.fitted, found.mean[:n], still, KT_EV, 1.0, push)
    moved = Averages.of(
        replace(loss, terms=with_coefficients(loss, step.coefficients)),
        few,
        topology,
        pressure=True,
    )
    assert moved.mean[n] - found.mean[n] == pytest.approx(push, rel=0.02)


def with_coefficients(loss: AgentLoss, coefficients: Floats) -> tuple[Any, ...]:
    terms, at = [], 0
    for t in loss.terms:
        if isinstance(t, PairTerm):
            t = replace(t, coefficients=tuple(coefficients[at : at + len(t.coefficients)]))
            at += len(t.coefficients)
        terms.append(t)
    return tuple(terms)


def test_walls_follow_the_coefficients(valley: tuple[Any, AgentLoss, Valley]) -> None:
    data, loss, _ = valley
    assert with_pair_coefficients(loss, pair_coefficients(loss), data) == loss
    other = with_pair_coefficients(loss, 0.5 * pair_coefficients(loss), data)
    assert pair_coefficients(other) == pytest.approx(0.5 * pair_coefficients(loss))
    for term in other.terms:
        if isinstance(
            term, FreeTerm
        ):  # it pushes back where pairs come closer than any that were seen
            _, slope = term.evaluate(
                np.linspace(term.coverage["shortest_A"] - 0.3, term.coverage["shortest_A"] - 0.01)
            )
            assert (slope < 0).all()


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
    found, error = combined(seen, now, KT_EV)
    weight = np.exp(-(far.length(np.array([3.0, 0, 0]), KT_EV) ** 2))
    expected = pooled([far.moved(np.array([-3.0, 0, 0]), KT_EV), near], [weight, 1])
    np.testing.assert_allclose(found.mean, expected.mean)
    assert error == pytest.approx(np.hypot(3 * weight, 4) / (1 + weight))
    lost, _ = combined([replace(seen[0], coefficients=np.full(3, 1e3)), seen[1]], now, KT_EV)
    np.testing.assert_allclose(lost.mean, near.mean)


# --- the whole ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def matched(few: Trajectory, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Matching]:
    out = tmp_path_factory.mktemp("match")
    return out, match(few, out, SETTINGS, rounds=2)


def test_what_matching_tells(matched: tuple[Path, Matching], few: Trajectory) -> None:
    out, found = matched
    assert AgentLoss.load(out / "model.json") == found.loss
    first, second = found.rounds
    assert first["price"] == 0 and second["price"] > 0
    assert set(first["mean_abs_dg"]) == set(found.noise) == {"free:O-O", "free:O-H", "free:H-H"}
    # nearer to the pressure that was asked for, by a picosecond that knows it to some hundred bar
    assert abs(second["pressure_bar"] - 1) < 0.5 * abs(first["pressure_bar"] - 1)
    assert {"matched", "rmse_meV_per_A"} <= set(found.loss.provenance)
    assert found.loss.provenance["matched"]["temperature_K"] == 300.0
    assert found.loss.provenance["rmse_meV_per_A"] == second["rmse_meV_per_A"]
    assert second["rmse_meV_per_A"] == pytest.approx(first["rmse_meV_per_A"], rel=0.1)
    assert verify(found.loss, few, 1).passed


def test_the_pressure_is_that_of_the_engine(matched: tuple[Path, Matching]) -> None:
    log, first = read_log(matched[0] / "round-1" / "run"), matched[1].rounds[0]
    n, volume = 192, 12.444661**3
    ideal = (n - 1) * KB_EV_PER_K * (log["temperature_K"] - 300.0) / volume * EV_PER_A3_TO_BAR
    expected = (log["pressure_bar"] - ideal)[len(ideal) // 10 :].mean()
    assert first["pressure_bar"] == pytest.approx(expected, abs=0.5)


def test_what_is_done_is_not_done_again(
    matched: tuple[Path, Matching], few: Trajectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_run(*_: Any, **__: Any) -> None:
        raise AssertionError("an engine was started")

    out = tmp_path / "again"
    shutil.copytree(matched[0], out)
    monkeypatch.setattr("mld_ff.workflows.rounds.run", no_run)
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


def test_bad_input_is_refused(
    matched: tuple[Path, Matching], few: Trajectory, tmp_path: Path
) -> None:
    with pytest.raises(
        InputError, match=r"begun with other settings: price was 0\.02, now is 0\.5"
    ):
        match(few, matched[0], replace(SETTINGS, price=0.5))
    with pytest.raises(InputError, match="begun with another CP2K run"):
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
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Asked(Exception):
        pass

    def asked(
        source: FileSource, directory: Path, settings: Settings, rounds: int, **_: Any
    ) -> None:
        assert source.n_frames == 57 and directory == tmp_path / "out" / "match" and rounds == 3
        assert settings.basis == BASIS and settings.engine == "lammps" and settings.platform is None
        assert (
            settings.pressure_bar == 1.0
            and settings.md.time_ps == 0.5
            and settings.md.damping_fs == 40.0
        )
        raise Asked

    (tmp_path / "c.toml").write_text(
        f"cp2k = '{EXAMPLE}'\nskip_ps = 6.3\nplatform = 'CPU'\n[fit]\ncutoff_A ="
        " 4.0\n[run]\ndamping_fs = 40.0\non_escape = 'stop'\n[match]\nrounds = 3\ntime_ps ="
        " 0.5\npressure_bar = 1.0\n"
    )
    monkeypatch.setitem(build.__globals__, "match", asked)  # `mld_ff.build` is the function
    with pytest.raises(Asked):
        build(read_config(tmp_path / "c.toml", tmp_path / "out"))


def test_reports_say_what_was_matched(matched: tuple[Path, Matching], tmp_path: Path) -> None:
    loss = matched[1].loss
    page = write_report(tmp_path, Study(loss, {}, {}))
    assert loss.provenance["matched"]["note"] in page.read_text(encoding="utf-8")


def test_the_command_says_what_is_wrong(tmp_path: Path) -> None:
    done = invoke("match", EXAMPLE, "-o", tmp_path, "--price", "-1", "--json")
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
