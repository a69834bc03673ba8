"""Novelty: what is new in a run is found, what is broken is not; labelled frames only train."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from conftest import TEACHER_BASIS, Teacher, topology_of

from mld_ff.errors import InputError
from mld_ff.geometry.system import systems
from mld_ff.inference import Basis, Dataset, fit
from mld_ff.trajectory import Trajectory
from mld_ff.workflows.refining.novelty import Judge, Leverage, look, pick


@pytest.fixture(scope="module")
def judged(cold_water: Trajectory) -> Judge:
    return Judge(fit(cold_water, TEACHER_BASIS), cold_water)


def test_leverage_is_the_variance_that_noise_of_the_data_leaves(cold_water: Trajectory) -> None:
    """Fits to forces with noise of variance one scatter, on a frame that they have not seen, by the
    leverage.
    """
    basis = Basis("power", (2.0,), bond_degree=2)
    fitted = fit(cold_water, basis)
    blocks = [b for b in range(10) if b % 5 != 4]
    vars(fitted.problem)["ridge"] = 0.0
    leverage = Leverage(fitted, blocks)
    every = list(systems(topology_of(cold_water), cold_water, fitted.data.reach_A))
    train = np.concatenate([fitted.data.design(every[f]) for f in range(20) if f // 2 in blocks])
    unseen = fitted.data.design(every[9])
    noise = np.random.default_rng(1).normal(size=(len(train), 400))
    scatter = (
        (unseen @ np.linalg.lstsq(train, noise, rcond=None)[0])
        .var(axis=1)
        .reshape(-1, 3)
        .sum(axis=1)
    )
    expected = leverage.of_atoms(every[9])
    assert scatter == pytest.approx(expected, rel=0.5)
    assert scatter.mean() == pytest.approx(expected.mean(), rel=0.1)


def stretched(judge: Judge, frames: Trajectory, which: list[int], by_A: float) -> Trajectory:
    """One bond of some of the frames longer than any that the source shows."""
    x = np.array(frames.positions)
    (o, h), cell = judge.topology.bonds[0], frames.cell[0]
    for f in which:
        r = x[f, h] - x[f, o]
        r -= np.round(r @ np.linalg.inv(cell)) @ cell
        x[f, h] = x[f, o] + r * (1.08 + by_A) / np.linalg.norm(r)
    return replace(frames, positions=x)


def test_frames_of_the_source_are_not_new_and_stretched_ones_are(
    judged: Judge, cold_water: Trajectory
) -> None:
    own = [judged.judge(cold_water[f]) for f in range(20)]
    assert max(v.novelty for v in own) <= 1.0
    assert not any(v.new or v.beyond or v.unsound for v in own)
    verdict = judged.judge(stretched(judged, cold_water, [5], 0.1)[5])
    assert verdict.new and verdict.unsound is None
    assert 0.05 < verdict.beyond["bonded:O-H"] < 0.2


def test_a_run_counts_up_to_its_first_unsound_frame(judged: Judge, cold_water: Trajectory) -> None:
    x = np.array(cold_water.positions)
    oxygen = np.flatnonzero(np.array(cold_water.symbols) == "O")[:2]
    molecule = next(m for m in judged.topology.molecules if oxygen[0] in m)
    x[12, molecule] += (
        x[12, oxygen[1]] - x[12, oxygen[0]] + np.array([1.9, 0, 0])
    )  # on top of another one
    shown = look(judged, replace(cold_water, positions=x))
    assert shown.frames.n_frames == len(shown.verdicts) == 12
    assert shown.stopped is not None and "beyond the distances sampled" in shown.stopped
    assert "bonded:O-H is 0.4" in str(look(judged, stretched(judged, cold_water, [4], 0.4)).stopped)
    x[7, 3] = np.nan
    assert "not finite" in str(look(judged, replace(cold_water, positions=x)).stopped)
    assert look(judged, cold_water).stopped is None


def test_frames_are_chosen_to_differ(cold_water: Trajectory) -> None:
    """Of the same new frame eight times over, and another, both are among the first two chosen."""
    judge = Judge(fit(cold_water, TEACHER_BASIS), cold_water)
    alike = stretched(judge, cold_water[np.array([0] * 8 + [13])], list(range(9)), 0.1)
    shown = look(judge, alike)
    assert shown.new == list(range(9))
    chosen = pick(judge, [shown], 4)
    assert len(set(chosen)) == 4 and {f == 8 for _, f in chosen[:2]} == {True, False}
    judge = Judge(fit(cold_water, TEACHER_BASIS), cold_water)
    assert pick(judge, [replace(shown, stopped="it broke")], 3)[0] == (0, 8)


# --- fits to more than the run --------------------------------------------------------------------


def test_frames_that_only_train_are_never_tested(
    cold_water: Trajectory, few: Trajectory, teacher: Teacher
) -> None:
    other = teacher.label(few[:7])
    wrong = replace(other, forces=5 * np.asarray(other.forces))
    basis = Basis("power", (3.0,), bond_degree=2)
    alone, more, misled = (
        fit(s, basis).loss
        for s in (
            cold_water,
            Dataset((cold_water, other), only_train=1),
            Dataset((cold_water, wrong), only_train=1),
        )
    )
    assert [m.provenance["frames_train"] for m in (alone, more)] == [16, 23]
    assert alone.provenance["frames_test"] == more.provenance["frames_test"] == 4
    assert more.provenance["rmse_meV_per_A"] < 1.3 * alone.provenance["rmse_meV_per_A"]
    assert misled.provenance["rmse_meV_per_A"] > 3 * alone.provenance["rmse_meV_per_A"]
    with pytest.raises(InputError, match="other atoms than the run"):
        Dataset((cold_water, other.select_atoms(np.arange(191))), only_train=1)
