"""Steps of matching: averages are what they say, a step goes where they ask at the price it may."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from conftest import evaluate, topology_of
from hypothesis import given
from hypothesis import strategies as st

from mld_ff.geometry.system import systems
from mld_ff.inference import Basis, Problem, fit
from mld_ff.inference.collective import CollectiveProblem
from mld_ff.loss.bonds import BondTerm
from mld_ff.loss.model import AgentLoss
from mld_ff.loss.terms import FreeTerm, PairTerm
from mld_ff.trajectory import Floats, Trajectory
from mld_ff.units import EV_PER_A3_TO_BAR
from mld_ff.workflows.matching.averages import (
    Averages,
    pair_coefficients,
    pooled,
    unit_energies,
    with_pair_coefficients,
)
from mld_ff.workflows.matching.valley import LONGEST, Valley

KT_EV = 0.0259
BASIS = Basis(cutoff_A=4.0, accuracy="pairs")


def without_cubic(loss: AgentLoss) -> AgentLoss:
    """The pairs alone, whose walls are the parabolas that they begin with."""
    bonds = (replace(t, wall_stiffness_eV_per_A3=(0.0, 0.0)) for t in loss.bond_terms)
    free = (replace(t, wall_stiffness_eV_per_A3=0.0) for t in loss.free_terms)
    return replace(loss, terms=(*bonds, *free), agents={})


# --- averages -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["spline_water", "power_water", "collective_water"])
def test_energies_and_pressures_add_up_to_those_of_the_loss(
    name: str, few: Trajectory, request: pytest.FixtureRequest
) -> None:
    loss = without_cubic(request.getfixturevalue(name))
    loss = replace(loss, terms=tuple(shrunk(t) for t in loss.pair_terms))
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


def shrunk(term: PairTerm) -> PairTerm:
    """A term whose walls begin where many pairs are."""
    if isinstance(term, FreeTerm):
        return replace(term, wall_edge_A=term.wall_edge_A + 0.3)
    assert isinstance(term, BondTerm)
    low, high = term.range_A
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
    every = water[::5]
    frames = systems(topology, every, spline_water.cutoff_A)
    return np.array([unit_energies(spline_water, system) for system in frames])


def test_a_step_undoes_what_changed_the_averages(rows: Floats) -> None:
    """Frames weighed as if other coefficients had made them tell by how much those differ."""
    n, averages = rows.shape[1], Averages.of_rows(rows)
    free = Valley(
        np.zeros(n), 1e-12 * np.diag(np.diag(averages.covariance)), np.zeros(n), np.zeros((n, n)), 1
    )
    change = np.random.default_rng(3).normal(size=n) / np.sqrt(np.diag(averages.covariance))
    change *= 0.2 * KT_EV / np.sqrt(change @ averages.covariance @ change)
    weights = np.exp(-(rows - rows.mean(axis=0)) @ change / KT_EV)
    wanted = weights @ rows / weights.sum()
    moved = averages.moved(change, KT_EV)
    step = free.step(np.zeros(n), wanted, averages, KT_EV, np.inf)
    missed = step.coefficients - change
    assert step.length == pytest.approx(0.2, rel=0.2)
    assert averages.length(change, KT_EV) == pytest.approx(0.2)
    after, before = (
        np.abs(m - wanted) / np.sqrt(np.diag(averages.covariance))
        for m in (moved.mean, averages.mean)
    )
    assert after.max() < 0.25 * before.max()
    assert np.sqrt(missed @ averages.covariance @ missed) / KT_EV < 0.05


@pytest.fixture(scope="module", params=["pairs", "collective"])
def valley(request: pytest.FixtureRequest, few: Trajectory) -> tuple[Any, AgentLoss, Valley]:
    basis = Basis(
        spacing_A=0.4,
        accuracy="pairs",
        collective=2 if request.param == "collective" else 0,
    )
    fitted = fit(few, basis)
    return fitted.data, fitted.loss, Valley.around(fitted)


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
    averages = Averages.of_rows(rng.normal(size=(3 * n, n)) * np.abs(rng.normal(size=n)) * KT_EV)
    away = 10**strength * rng.normal(size=n)
    wanted = averages.mean + away * np.sqrt(np.diag(averages.covariance))
    step = of_forces.step(of_forces.fitted, wanted, averages, KT_EV, price)
    assert step.price == pytest.approx(of_forces.price(step.coefficients))
    assert step.price <= price * (1 + 1e-6) and step.length <= LONGEST * (1 + 1e-9)
    stay = of_forces.step(of_forces.fitted, averages.mean, averages, KT_EV, price)
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
    averages, change = Averages.of_rows(rows), np.zeros(n)
    names = [t.name for t in spline_water.terms if isinstance(t, PairTerm) for _ in t.coefficients]
    change[[k for k, name in enumerate(names) if name == "free:O-O"][-6]] = 1.0
    change *= 0.1 * KT_EV / (averages.length(change, 1.0))
    weights = np.exp(-(rows - averages.mean)[:, :n] @ change / KT_EV)
    expected = weights @ (rows[:, n] + rows[:, n + 1 :] @ change) / weights.sum() - averages.mean[n]
    indirect = expected - averages.mean[n + 1 :] @ change
    assert abs(indirect) > 0.1 * abs(expected)
    assert averages.moved(change, KT_EV).mean[n] - averages.mean[n] == pytest.approx(
        expected, abs=0.15 * abs(indirect)
    )


@pytest.mark.parametrize("push_bar", [-300.0, 200.0])
def test_a_step_brings_the_pressure_that_is_asked_for(
    push_bar: float, few: Trajectory, valley: tuple[Any, AgentLoss, Valley]
) -> None:
    _, loss, of_forces = valley
    topology, n, push = topology_of(few[0]), len(of_forces.fitted), push_bar / EV_PER_A3_TO_BAR
    frames = few[::4]
    averages = Averages.of(loss, frames, topology, pressure=True)
    wanted = averages.mean[:n] * (1 + 0.0005 * np.random.default_rng(5).normal(size=n))
    for target in (averages.mean[:n], wanted):
        step = of_forces.step(of_forces.fitted, target, averages, KT_EV, 0.02, push)
        assert step.length < LONGEST
        change = step.coefficients - of_forces.fitted
        assert averages.moved(change, KT_EV).mean[n] - averages.mean[n] == pytest.approx(push)
    # coefficients that no run responds to change it by what they add themselves, in the loss as it
    # is evaluated
    still = replace(averages, covariance=averages.covariance * 1e-12)
    step = of_forces.step(of_forces.fitted, averages.mean[:n], still, KT_EV, 1.0, push)
    moved = Averages.of(
        replace(loss, terms=with_coefficients(loss, step.coefficients)),
        frames,
        topology,
        pressure=True,
    )
    assert moved.mean[n] - averages.mean[n] == pytest.approx(push, rel=0.02)


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
    same = with_pair_coefficients(loss, pair_coefficients(loss), data)
    for unchanged, before in zip(same.pair_terms, loss.pair_terms, strict=True):
        seen = before.coverage["shortest_A"], before.coverage["longest_A"]
        assert seen[0] is not None and seen[1] is not None
        r = np.linspace(seen[0] - 0.3, seen[1] + 0.3, 50)
        np.testing.assert_allclose(unchanged.evaluate(r), before.evaluate(r), rtol=1e-10)
    other = with_pair_coefficients(loss, 0.5 * pair_coefficients(loss), data)
    assert pair_coefficients(other) == pytest.approx(0.5 * pair_coefficients(loss))
    for term in other.terms:
        if isinstance(
            term, FreeTerm
        ):  # it pushes back where pairs come closer than any that were seen
            _, slope = term.evaluate(np.linspace(term.sampled_A[0] - 0.3, term.sampled_A[0] - 0.01))
            assert (slope < 0).all()
