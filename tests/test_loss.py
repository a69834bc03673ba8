"""The loss of a system: energy and forces, and which systems a model covers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from conftest import (
    CUBE,
    TRICLINIC,
    energy_and_forces,
    evaluate,
    invent,
    liquid,
    named_pairs,
    shuffled,
    topology_of,
)

from mld_ff.errors import InputError
from mld_ff.geometry.topology import find_topology
from mld_ff.loss.model import AgentLoss
from mld_ff.trajectory import Trajectory

LIQUID = ["H2O"] * 4 + ["CH3OH"] * 2 + ["Na"]


# --- energy and forces of a system ----------------------------------------------------------------

KINDS = {
    "spline": ("spline", (3.0,)),
    "power": ("power", (2.5,)),
    "powers": ("power", (1.0, 2.0, 3.0)),
}


@pytest.fixture(params=["cube", "triclinic"])
def frame(request: pytest.FixtureRequest) -> Trajectory:
    """Water, methanol and an ion; dense enough for pairs beyond every kind of wall."""
    cell = {"cube": CUBE, "triclinic": TRICLINIC}[request.param] * 0.68
    return liquid(LIQUID, cell, seed=5, jitter=0.05)


def some_loss(
    frame: Trajectory, kind: str = "spline", exponents: tuple[float, ...] = (3.0,)
) -> AgentLoss:
    return invent(frame, kind, exponents, cutoff=3.9, edge=2.7)


@pytest.mark.parametrize("kind", KINDS)
def test_forces_are_the_negative_gradient(frame: Trajectory, kind: str) -> None:
    loss = some_loss(frame, *KINDS[kind])
    topology, x, cell = topology_of(frame), frame.positions[0], frame.cell[0]
    beyond = set()
    for name, pairs in named_pairs(topology, x, cell, loss.cutoff_A):
        if any(
            ((wall.edge_A - pairs.r) * wall.inward > 0).any()
            for wall in loss.terms_of(topology)[name].walls
        ):
            beyond.add(name.split(":")[0])
    assert beyond == {"bonded", "free"}, "no pair lies beyond a wall; this test would be too easy"
    _, forces = evaluate(loss, topology, x, cell)
    h = 1e-5
    rng = np.random.default_rng(1)
    for atom in range(frame.n_atoms):
        direction = rng.normal(size=3)
        direction /= np.linalg.norm(direction)
        energies = []
        for sign in (1, -1):
            moved = x.copy()
            moved[atom] += sign * h * direction
            energies.append(sum(evaluate(loss, topology, moved, cell)[0].values()))
        assert forces[atom] @ direction == pytest.approx(
            -(energies[0] - energies[1]) / (2 * h), abs=2e-6
        )
    assert np.abs(forces).max() > 0.5


@pytest.mark.parametrize("kind", KINDS)
def test_invariance(frame: Trajectory, kind: str) -> None:
    """Translation, rotation of everything, wrapping, and another order of the atoms; and no net
    force.
    """
    loss = some_loss(frame, *KINDS[kind])
    energy, forces = energy_and_forces(loss, frame)
    assert np.abs(forces.sum(axis=0)).max() < 1e-10
    turn, _ = np.linalg.qr(np.random.default_rng(2).normal(size=(3, 3)))
    order = np.random.default_rng(4).permutation(frame.n_atoms)
    x, cell = frame.positions, frame.cell
    images = np.random.default_rng(3).integers(-2, 3, size=x.shape) @ cell[0]
    cases = {
        "translated": (replace(frame, positions=x + np.array([3.3, -17.1, 5.9])), forces),
        "wrapped": (replace(frame, positions=x + images), forces),
        "rotated": (replace(frame, positions=x @ turn, cell=cell @ turn), forces @ turn),
        "permuted": (frame.select_atoms(order), forces[order]),
    }
    for what, (other, expected) in cases.items():
        other_energy, other_forces = energy_and_forces(loss, other)
        assert other_energy == pytest.approx(energy, rel=1e-11), what
        assert other_forces == pytest.approx(expected, abs=1e-9), what


def test_energy_is_the_sum_over_pairs(few: Trajectory) -> None:
    """A few of the terms of water summed by hand over all pairs at their nearest image."""
    frame = few[3]
    loss = invent(frame, "power", (2.0,), cutoff=5.5)
    energies, _ = evaluate(loss, topology_of(frame), frame.positions[0], frame.cell[0])
    i, j = np.triu_indices(192, 1)
    d = frame.positions[0][j] - frame.positions[0][i]
    length = frame.cell[0, 0, 0]
    r = np.linalg.norm(d - length * np.round(d / length), axis=1)
    names = np.array([f"{frame.symbols[a]}-{frame.symbols[b]}" for a, b in zip(i, j, strict=True)])
    chosen = {
        "bonded:O-H": (names == "O-H") & (r < 1.3),
        "bonded:H-H": (names == "H-H") & (r < 1.75),
        "free:O-O": (names == "O-O") & (r < 5.5),
        "free:O-H": (names == "O-H") & (r > 1.3) & (r < 5.5),
        "free:H-H": (names == "H-H") & (r > 1.75) & (r < 5.5),
    }
    assert {term.name for term in loss.terms} == set(chosen)
    for term in loss.pair_terms:
        assert energies[term.name] == pytest.approx(
            term.evaluate(r[chosen[term.name]])[0].sum(), rel=1e-10
        )


def test_only(few: Trajectory) -> None:
    """One term alone has the energy that it has among the others; the forces of all of them add
    up.
    """
    frame = few[0]
    loss = invent(frame, edge=2.9)
    topology, x, cell = topology_of(frame), frame.positions[0], frame.cell[0]
    energies, forces = evaluate(loss, topology, x, cell)
    total = np.zeros_like(forces)
    for term in loss.terms:
        alone, part = evaluate(loss.only(term.name), topology, x, cell)
        assert alone == {
            t.name: pytest.approx(energies[t.name] if t is term else 0.0) for t in loss.terms
        }
        total += part
    assert total == pytest.approx(forces, abs=1e-10)
    two = evaluate(loss.only("free:O-O", "bonded:O-H"), topology, x, cell)[0]
    assert [name for name, e in two.items() if e != 0] == ["bonded:O-H", "free:O-O"]


# --- does the model cover the system --------------------------------------------------------------


def terms_error(loss: AgentLoss, frame: Trajectory) -> str:
    with pytest.raises(InputError) as caught:
        loss.terms_of(topology_of(frame))
    return str(caught.value)


def test_species_and_pairs_without_a_term() -> None:
    waters = liquid(["H2O"] * 2, CUBE)
    loss = invent(waters)
    assert (
        terms_error(loss, liquid(["H2O", "Na", "NH3"], CUBE))
        == "the system holds N, Na; the model knows only O, H"
    )
    peroxide = terms_error(loss, liquid(["H2O", "H2O2"], CUBE))
    assert (
        peroxide
        == "the system (1 H2O, 1 H2O2) has pairs for which the model has no term: bonded:O-O,"
        " bonded:O-O-H, bonded:H-O-O-H. Terms of the model: bonded:O-H, bonded:H-H, free:O-O,"
        " free:O-H, free:H-H"
    )
    missing = replace(loss, terms=loss.terms[:-1])
    assert (
        terms_error(missing, waters)
        == "the system (2 H2O) has pairs for which the model has no term: free:H-H. "
        "Terms of the model: bonded:O-H, bonded:H-H, free:O-O, free:O-H"
    )


def test_terms_do_not_depend_on_the_order_of_the_atoms() -> None:
    """A model whose terms say O-H serves a system in which hydrogen comes first."""
    waters = liquid(["H2O"] * 3, CUBE)
    loss = invent(waters)
    hydrogens_first = waters.select_atoms(np.array([1, 2, 0, 4, 5, 3, 7, 8, 6]))
    by_pair = loss.terms_of(topology_of(hydrogens_first))
    assert sorted(term.name for term in by_pair.values()) == sorted(
        term.name for term in loss.terms
    )
    other, order = shuffled(waters, 8)
    assert energy_and_forces(loss, other)[1] == pytest.approx(
        energy_and_forces(loss, waters)[1][order], abs=1e-12
    )


def test_a_small_system_needs_only_its_own_terms() -> None:
    """One water has no free O-O pair; the model may have a term for it nevertheless."""
    loss = invent(liquid(["H2O"] * 2, CUBE))
    one = liquid(["H2O"], CUBE)
    assert list(loss.terms_of(topology_of(one))) == ["bonded:O-H", "bonded:H-H"]
    assert evaluate(loss, topology_of(one), one.positions[0], one.cell[0])[0]["free:O-O"] == 0.0


def test_topology_is_taken_as_given(few: Trajectory) -> None:
    """Forces belong to the bonds of the topology, not to what is near in the frame at hand."""
    frame = few[0]
    topology = find_topology(frame.symbols, frame.positions[0], frame.cell[0])
    loss = invent(frame).only("bonded:O-H")
    x = frame.positions[0].copy()
    h = int(topology.bonds[0, 1])
    x[h] = x[topology.bonds[0, 0]] + [0.0, 0.0, 2.5]
    _, forces = evaluate(loss, topology, x, frame.cell[0])
    assert forces[h, 2] < -10 and np.abs(forces[h, :2]).max() < 1e-9
