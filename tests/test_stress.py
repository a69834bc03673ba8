"""Stress beside forces: what strain does to every function, and what a fit makes of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from conftest import TRICLINIC, coefficients_of, invent, liquid, present, topology_of

from mld_ff.geometry.system import System
from mld_ff.inference import Basis, Problem, fit
from mld_ff.inference.channels import ChannelsProblem
from mld_ff.inference.collective import symmetric
from mld_ff.inference.design import virials_matrix
from mld_ff.inference.fitting import gather
from mld_ff.loss.model import AgentLoss
from mld_ff.trajectory import Floats, Trajectory

CELL = 9.5 * np.eye(3)
PAIRS = Basis(spacing_A=0.5, cutoff_A=4.5, accuracy="pairs", charges="none")
WITH_ANGLES = replace(
    PAIRS, accuracy=None, channels=(1, 1, 1), collective_cutoff_A=3.5, collective_spacing_A=1.0
)


def test_virials_are_derivatives_by_strain() -> None:
    """Of every function of every kind of pair, in a triclinic cell."""
    frame = liquid(["H2O", "NH3", "Ne"] * 3, TRICLINIC, seed=3)
    loss, step = invent(frame), 1e-5
    topology, x, cell = topology_of(frame), frame.positions[0], frame.cell[0]

    def energies(strain: Floats) -> Floats:
        system = System(topology, x @ strain, cell @ strain, 5.0)
        return np.concatenate(
            [term.basis(term.pairs_of(system).r).sum(axis=0) for term in loss.pair_terms]
        )

    virials = virials_matrix(loss.pair_terms, System(topology, x, cell, 5.0))
    for a, b in ((0, 0), (1, 1), (2, 1)):
        strain = np.zeros((3, 3))
        strain[a, b] = step
        slopes = (energies(np.eye(3) + strain) - energies(np.eye(3) - strain)) / (2 * step)
        assert virials[a, b] == pytest.approx(slopes, rel=1e-5, abs=1e-5)
        assert virials[b, a] == pytest.approx(virials[a, b])


@pytest.fixture(scope="module")
def frames() -> Trajectory:
    """24 times 20 atoms about their places, none of which knows of the others."""
    first = liquid(["Ne"] * 10 + ["Ar"] * 10, CELL, seed=2)
    away = np.random.default_rng(0).normal(size=(24, 20, 3)).clip(-2, 2)
    return replace(
        first,
        positions=first.positions + 0.3 * away,
        cell=np.repeat(first.cell, 24, axis=0),
        time=100.0 * np.arange(24.0),
        step=np.arange(24),
    )


def told_by(loss: AgentLoss, frames: Trajectory, noise: float = 0.0) -> Trajectory:
    """The frames with the forces of a loss, and some noise [eV/Å], and its stress."""
    topology, forces, stress = topology_of(frames[0]), [], []
    for x, cell in zip(frames.positions, frames.cell, strict=True):
        said = loss.evaluate(System(topology, x, cell, loss.cutoff_A))
        forces.append(said.forces)
        stress.append(said.virial / np.linalg.det(cell))
    errors = noise * np.random.default_rng(0).normal(size=(len(frames), 20, 3))
    return replace(frames, forces=np.array(forces) + errors, stress=np.array(stress))


@pytest.fixture(scope="module")
def truth(frames: Trajectory) -> AgentLoss:
    """Pairs that a fit of PAIRS can have, and where they are sampled no walls."""
    rng = np.random.default_rng(1)
    terms = [
        replace(t, coefficients=tuple(0.1 + 0.1 * rng.normal(size=len(t.coefficients))))
        for t in PAIRS.terms(frames[0], topology_of(frames[0]))
    ]
    return AgentLoss(("Ne", "Ar"), tuple(terms))


def test_planted_pressure_is_found(truth: AgentLoss, frames: Trajectory) -> None:
    """Without noise to a bar; with noise of forces much better than by forces alone."""
    exact = fit(told_by(truth, frames), PAIRS).loss.provenance
    assert abs(exact["pressure_offset_bar"]) < 1 and exact["stress_rmse_bar"] < 3
    noisy = told_by(truth, frames, noise=0.3)
    learned, alone = (
        fit(noisy, replace(PAIRS, stress=stress)).loss.provenance for stress in ("learn", "none")
    )
    assert alone["stress_weight"] == 0.0 < learned["stress_weight"]
    assert learned["stress_rmse_bar"] < 0.5 * alone["stress_rmse_bar"]
    assert abs(learned["pressure_offset_bar"]) < 0.5 * abs(alone["pressure_offset_bar"])
    assert learned["rmse_meV_per_A"] < 1.01 * alone["rmse_meV_per_A"]


def test_stress_that_contradicts_the_forces_costs_little(
    truth: AgentLoss, frames: Trajectory
) -> None:
    """A pressure that is wrong by 50,000 bar: forces err by no more than 2 % more for it."""
    told = told_by(truth, frames, noise=0.05)
    wrong = replace(told, stress=present(told.stress) + 0.03 * np.eye(3))
    errors = [fit(f, PAIRS).errors.rmse_meV_per_A for f in (replace(told, stress=None), wrong)]
    assert errors[1] < 1.02 * errors[0]


def test_weights_are_chosen_with_charges_that_atoms_can_have(frames: Trajectory) -> None:
    """Products of three charges are those of one set, and leave the errors of the fit."""
    names = tuple(["Na", "Cl", "K"] * 7)[:20]
    forces = np.random.default_rng(3).normal(size=(12, 20, 3))
    ions = replace(frames[:12], symbols=names, masses=np.full(20, 30.0), forces=forces)
    data = gather(ions, replace(PAIRS, charges="learn", topology="none"))
    problem = ChannelsProblem.of(data, Problem.of(data))
    train, form = problem.pairs.train, problem.forms[-1]
    found = problem.whole(problem.reduced(train, problem.ridge), train)
    low, middle, high = np.linalg.eigvalsh(symmetric(form, found))
    assert high > 0 and [low, middle] == pytest.approx([0, 0], abs=1e-9 * high)
    of_fit = problem.coefficients(problem.minimised((0, 0, 0)).refit)[problem.n_pairs :]
    assert found == pytest.approx(of_fit, rel=1e-3, abs=1e-3 * high)


def test_channels_learn_stress(truth: AgentLoss, frames: Trajectory) -> None:
    """With the weight that whole forms may have: virials err less, forces hardly more."""
    told = told_by(truth, frames, noise=0.3)
    data = gather(told, WITH_ANGLES)
    problem = ChannelsProblem.of(data, Problem.of(data))
    assert problem.weight > 0
    squares = []
    for one in (problem, replace(problem, weight=0.0)):
        found = one.coefficients(one.minimised((1, 1, 1)).refit)
        each = (one.equations, present(one.virials))
        squares.append([e.residual(one.pairs.test, found).sum() for e in each])
    (forces, learned), (forces_alone, not_learned) = squares
    assert forces < 1.04 * forces_alone and learned < 0.5 * not_learned


def test_stress_that_is_not_to_be_learned(truth: AgentLoss, frames: Trajectory) -> None:
    """It is as if there were none; nor is there any where atoms are held in place."""
    told = told_by(truth, frames, noise=0.1)
    alone = fit(told, replace(PAIRS, stress="none"))
    without = fit(replace(told, stress=None), PAIRS)
    assert coefficients_of(alone.loss) == coefficients_of(without.loss)
    assert "pressure_offset_bar" in alone.loss.provenance
    assert "pressure_offset_bar" not in without.loss.provenance
    fixed = np.zeros((20, 3), bool)
    fixed[0] = True
    held = gather(replace(told, fixed=fixed), PAIRS).virials
    assert not present(held).number_bs.any()
