"""Densities of order 1 and 2, where the angles are: energy, forces, virial, features, file."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import (
    CUBE,
    TRICLINIC,
    angular_channel,
    energy_and_forces,
    frame_of,
    invent,
    liquid,
    present,
    shuffled,
    topology_of,
    with_angles,
    with_channels,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from mld_ff.errors import InputError
from mld_ff.geometry.harmonics import harmonic_slopes, harmonics
from mld_ff.geometry.system import System
from mld_ff.inference.design import DensityForm
from mld_ff.loss.densities import DensityTerm
from mld_ff.loss.evaluation import Evaluation
from mld_ff.loss.model import AgentLoss
from mld_ff.trajectory import Floats, Trajectory

LIQUID = ["H2O"] * 3 + ["CH3OH"] * 2 + ["Na"]
CELLS = {"cube": CUBE, "triclinic": TRICLINIC}


@pytest.fixture(params=["cube", "triclinic"])
def frame(request: pytest.FixtureRequest) -> Trajectory:
    return liquid(LIQUID, CELLS[request.param] * 0.7, seed=5, jitter=0.05)


def angles_alone(frame: Trajectory) -> AgentLoss:
    loss = with_angles(invent(frame, cutoff=3.9), cutoff=3.9)
    return loss.only(*(t.name for t in loss.angular_channels))


def said(loss: AgentLoss, frame: Trajectory, positions: Floats, cell: Floats) -> Evaluation:
    return loss.evaluate(System(topology_of(frame), positions, cell, loss.cutoff_A))


# --- directions -----------------------------------------------------------------------------------


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 10**6))
def test_products_of_harmonics_are_those_of_tensors(seed: int) -> None:
    u, v = np.random.default_rng(seed).normal(size=(2, 5, 3))
    u, v = (w / np.linalg.norm(w, axis=1)[:, None] for w in (u, v))
    cosine = (u * v).sum(axis=1)
    for order, expected in enumerate((np.ones(5), cosine, cosine**2 - 1 / 3)):
        assert (harmonics(u, order) * harmonics(v, order)).sum(axis=1) == pytest.approx(expected)


@pytest.mark.parametrize("order", [0, 1, 2])
def test_slopes_of_harmonics_are_their_gradient(order: int) -> None:
    vector = np.random.default_rng(2).normal(size=(6, 3))
    r, h = np.linalg.norm(vector, axis=1)[:, None], 1e-6
    slopes = harmonic_slopes(vector / r, order) / r[:, None]
    for d in range(3):
        up, down = vector + h * np.eye(3)[d], vector - h * np.eye(3)[d]
        values = [harmonics(x / np.linalg.norm(x, axis=1)[:, None], order) for x in (up, down)]
        assert slopes[:, :, d] == pytest.approx((values[0] - values[1]) / (2 * h), abs=1e-8)


# --- energy, forces, virial -----------------------------------------------------------------------


def triplets(term: DensityTerm, frame: Trajectory) -> float:
    """The energy, neighbour by neighbour and angle by angle."""
    x, cell = frame.positions[0], frame.cell[0]
    images = np.stack(np.meshgrid(*[[-2, -1, 0, 1, 2]] * 3), axis=-1).reshape(-1, 3) @ cell
    energy = 0.0
    for i, centre in enumerate(frame.symbols):
        units, weights = [], []
        for j, other in enumerate(frame.symbols):
            vectors = x[j] + images - x[i]
            r = np.linalg.norm(vectors, axis=1)
            near = (r > 1e-9) & (r < term.cutoff_A)
            (kind,) = {f"{centre}-{other}", f"{other}-{centre}"} & set(term.neighbours)
            weights += term.density(kind, r[near]).tolist()
            units += (vectors[near] / r[near, None]).tolist()
        if units:
            cosine = np.array(units) @ np.array(units).T
            angular = cosine if term.order == 1 else cosine**2 - 1 / 3
            energy += float(np.array(weights) @ angular @ np.array(weights))
    return term.strength_eV * energy


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 10**6), cell=st.sampled_from(["cube", "triclinic"]), n=st.integers(2, 9))
def test_energy_is_a_sum_over_angles(seed: int, cell: str, n: int) -> None:
    rng = np.random.default_rng(seed)
    box = CELLS[cell] * 0.5
    symbols = rng.choice(["O", "H"], size=n).tolist()
    atoms = frame_of(symbols, rng.random((n, 3)) @ box, box)
    species = tuple(dict.fromkeys(symbols))
    for order in (1, 2):
        term = angular_channel(species, order, seed=seed, cutoff=3.0)
        total = Evaluation.nothing([term.name], n)
        topology = topology_of(atoms)
        term.add_alike([term], System(topology, atoms.positions[0], box, 3.0), total)
        assert total.energy == pytest.approx(triplets(term, atoms), rel=1e-9, abs=1e-12)


def test_forces_are_the_negative_gradient(frame: Trajectory) -> None:
    loss, x, cell = angles_alone(frame), frame.positions[0], frame.cell[0]
    forces = said(loss, frame, x, cell).forces
    assert forces.sum(axis=0) == pytest.approx(np.zeros(3), abs=1e-10)
    direction = np.random.default_rng(1).normal(size=x.shape)
    h = 1e-5
    for atom in range(0, frame.n_atoms, 2):
        step = h * direction * (np.arange(len(x)) == atom)[:, None]
        up, down = (said(loss, frame, x + s * step, cell).energy for s in (1, -1))
        assert forces[atom] @ direction[atom] == pytest.approx(-(up - down) / (2 * h), abs=2e-6)


def test_virial_is_the_derivative_by_strain(frame: Trajectory) -> None:
    loss, x, cell = angles_alone(frame), frame.positions[0], frame.cell[0]
    virial, h = said(loss, frame, x, cell).virial, 1e-6
    assert virial == pytest.approx(virial.T, abs=1e-10)
    for a, b in ((0, 0), (1, 1), (0, 2), (2, 1)):
        energies = []
        for sign in (1, -1):
            strain = np.eye(3)
            strain[a, b] += sign * h
            energies.append(said(loss, frame, x @ strain, cell @ strain).energy)
        assert virial[a, b] == pytest.approx((energies[0] - energies[1]) / (2 * h), abs=1e-5)


def test_nothing_depends_on_frame_of_reference_or_order(frame: Trajectory) -> None:
    loss = angles_alone(frame)
    x, cell = frame.positions[0], frame.cell[0]
    energy, forces = energy_and_forces(loss, frame)
    turn, _ = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))
    turned = said(loss, frame, x @ turn, cell @ turn)
    assert turned.energy == pytest.approx(energy)
    assert turned.forces == pytest.approx(forces @ turn, abs=1e-10)
    moved = said(loss, frame, x + np.array([1.0, 20.0, -3.0]), cell)
    assert moved.forces == pytest.approx(forces, abs=1e-10)
    mixed, order = shuffled(frame, 4)
    mixed_energy, mixed_forces = energy_and_forces(loss, mixed)
    assert mixed_energy == pytest.approx(energy)
    assert mixed_forces == pytest.approx(forces[order], abs=1e-10)


# --- features of a fit ----------------------------------------------------------------------------


@pytest.mark.parametrize("order", [0, 1, 2])
def test_features_make_up_the_forces(frame: Trajectory, order: int) -> None:
    """Whatever the form: the forces of one channel are those of the products of its sums."""
    loss = with_channels(with_angles(invent(frame, cutoff=3.9)), rank=1)
    term = next(t for t in loss.channels if t.order == order)
    a = np.array(term.coefficients)
    mean = np.random.default_rng(0).normal(size=len(a)) if order == 0 else np.zeros(len(a))
    term = replace(term, rest=float(a @ mean), range=(-1e6, 1e6), fade=1.0)
    form = DensityForm.of(term, mean)
    system = System(topology_of(frame), frame.positions[0], frame.cell[0], 4.0)
    features = form.features(replace(system, virial=np.zeros((3, 3))))
    one, other = form.products
    products = term.strength_eV * a[one] * a[other] * np.where(one == other, 1, 2)
    total = Evaluation.nothing([term.name], frame.n_atoms)
    term.add_alike([term], system, total)
    assert features.forces @ products == pytest.approx(total.forces.ravel(), abs=1e-10)
    assert present(features.virials) @ products == pytest.approx(total.virial, abs=1e-10)
    tensors = np.einsum("cam,a->cm", features.sums, a)
    assert term.strength_eV * (tensors**2).sum() == pytest.approx(total.energy)


# --- the model file -------------------------------------------------------------------------------


def test_model_files_hold_the_order(frame: Trajectory, tmp_path: Path) -> None:
    loss = with_channels(with_angles(invent(frame)))
    loss.save(tmp_path / "model.json")
    assert AgentLoss.load(tmp_path / "model.json") == loss
    data = json.loads((tmp_path / "model.json").read_text())
    for term in data["terms"]:
        if term["kind"] == "collective" and term["order"] == 0:
            del term["order"]  # as before there were angles
    (tmp_path / "older.json").write_text(json.dumps(data))
    assert AgentLoss.load(tmp_path / "older.json").terms == loss.terms


def test_unknown_orders_are_refused() -> None:
    term = angular_channel(("O", "H"), 2)
    with pytest.raises(InputError) as caught:
        replace(term, order=3)
    assert str(caught.value) == (
        "term 'quadrupole:1' is a density of order 3; this version knows orders 0, 1, 2"
    )
