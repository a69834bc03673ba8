"""The loss: its functions, their walls, the forces they exert, and the model file."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import (
    CUBE,
    TRICLINIC,
    bond_term,
    energy_and_forces,
    evaluate,
    free_term,
    invent,
    liquid,
    named_pairs,
    shuffled,
    topology_of,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from mld_ff.errors import InputError
from mld_ff.geometry.topology import find_topology
from mld_ff.loss.bonds import BondTerm
from mld_ff.loss.free_pairs import PowerTerm, SplineTerm
from mld_ff.loss.model import AgentLoss
from mld_ff.loss.terms import FreeTerm, Term, Wall, wall_stiffness
from mld_ff.trajectory import Trajectory

LIQUID = ["H2O"] * 4 + ["CH3OH"] * 2 + ["Na"]
EXPONENTS = [(1.0,), (3.0,), (6.0,), (0.5,), (2.7, 4.1), (-1.0, 1.0), (1.0, 2.0, 3.0)]
FREE: dict[str, FreeTerm] = {
    **{f"power {e}": free_term(("O", "H"), "power", e) for e in EXPONENTS},
    "spline": free_term(("O", "H")),
}
BONDS: dict[str, BondTerm] = {
    f"bond {d}": bond_term("bonded:O-H", ("O", "H"), np.array([0.9, 1.1]), degree=d)
    for d in range(1, 7)
}
TERMS: dict[str, Term] = {**FREE, **BONDS}


def by_name(terms: dict[str, Any]) -> Callable[..., Any]:
    return pytest.mark.parametrize("term", terms.values(), ids=terms)


def sampled(term: Term) -> np.ndarray:
    """Distances between the walls (or up to the cutoff), none of them a knot."""
    low, high = (term.wall_edge_A, term.cutoff_A) if isinstance(term, FreeTerm) else term.range_A
    return np.linspace(low, high, 73)[1:-1] + 1.37e-4


# --- functions and their derivatives --------------------------------------------------------------


@by_name(TERMS)
@pytest.mark.parametrize("derivative", [1, 2])
def test_derivatives_of_the_basis(term: Term, derivative: int) -> None:
    """Against central differences of the derivative below, function by function."""
    r, h = sampled(term), 1e-5
    expected = (term.basis(r + h, derivative - 1) - term.basis(r - h, derivative - 1)) / (2 * h)
    found = term.basis(r, derivative)
    assert found.shape == (len(r), len(term.coefficients)) == (len(r), len(term.coefficient_names))
    assert np.abs(found - expected).max() < 1e-7 * max(1.0, np.abs(expected).max())


@pytest.mark.parametrize("exponents", EXPONENTS, ids=str)
def test_power_basis_is_the_formula(exponents: tuple[float, ...]) -> None:
    """l = Σ A_n q_n + Σ_{n≤m} B_nm q_n q_m with q_n = (1 - (r/rc)²)³ r^-n, in the order of the
    coefficients' names.
    """
    term = free_term(("O", "O"), "power", exponents)
    for r in (1.3, 2.5, 4.9):
        q = [(1 - (r / 5.0) ** 2) ** 3 / r**n for n in exponents]
        expected = q + [q[a] * q[b] for a in range(len(q)) for b in range(a, len(q))]
        assert term.basis(np.array([r]))[0] == pytest.approx(expected, rel=1e-12)
    names = [f"A_{n:g}" for n in exponents]
    names += [f"B_{n:g},{m:g}" for k, n in enumerate(exponents) for m in exponents[k:]]
    assert list(term.coefficient_names) == names


def test_spline_reproduces_a_cubic() -> None:
    """B-splines of degree 3 represent any cubic away from the cutoff; their sum is 1 there."""
    term = free_term(("O", "O"))
    r = np.linspace(1.01, 4.3, 50)  # from the fourth knot on, where all four functions overlap
    assert term.basis(r).sum(axis=1) == pytest.approx(1.0)
    cubic = 1 - 2 * r + 0.7 * r**2 - 0.1 * r**3
    fitted = np.linalg.lstsq(term.basis(r), cubic, rcond=None)[0]
    assert term.basis(r) @ fitted == pytest.approx(cubic, abs=1e-10)


@pytest.mark.parametrize("degree", range(1, 7))
def test_bond_is_a_polynomial(degree: int) -> None:
    term = BONDS[f"bond {degree}"]
    x = np.array([0.93, 1.0, 1.07]) - term.r0_A
    expected = sum(c * x**m for m, c in enumerate(term.coefficients, 1))
    assert term.evaluate(x + term.r0_A)[0] == pytest.approx(expected, abs=1e-14)


@by_name(FREE)
def test_nothing_is_left_at_the_cutoff(term: FreeTerm) -> None:
    """Value, slope and curvature go to zero at the cutoff, and stay there."""
    at = np.array([term.cutoff_A, term.cutoff_A + 0.5])
    for derivative in range(3):
        assert np.array_equal(term.basis(at, derivative), np.zeros((2, len(term.coefficients))))
    near = term.cutoff_A - np.array([1e-3, 1e-6])
    scale = [np.abs(term.basis(sampled(term), d)).max() for d in range(3)]
    for derivative in range(3):
        small = np.abs(term.basis(near, derivative)).max(axis=1) / scale[derivative]
        assert small[0] < 0.03 and small[1] < 1e-4
    energy, slope = term.evaluate(at)
    assert energy.tolist() == [0, 0] and slope.tolist() == [0, 0]


# --- walls ----------------------------------------------------------------------------------------


@by_name(TERMS)
def test_walls_join_smoothly(term: Term) -> None:
    """Value, slope and curvature agree from both sides; further out it is the parabola plus the
    cubic.
    """
    for wall in term.walls:
        outwards = -wall.inward
        edge = np.array([wall.edge_A])
        value, slope, curvature = (
            (term.basis(edge, d) @ np.array(term.coefficients))[0] for d in range(3)
        )
        h = 1e-5
        (e0, e1, _), (s0, s1, s2) = term.evaluate(
            wall.edge_A + outwards * h * np.array([0.0, 1.0, 2.0])
        )
        assert e0 == pytest.approx(value, abs=1e-12) and s0 == pytest.approx(slope, abs=1e-12)
        assert (e1 - e0) / (outwards * h) == pytest.approx(
            slope, abs=1e-2 * abs(curvature) * h + 1e-3
        )
        assert (s1 - s0) / (outwards * h) == pytest.approx(curvature, abs=1e-2)
        assert (s2 - s1) / (outwards * h) == pytest.approx(curvature, abs=1e-2)
        for x in (0.05, 0.3):
            expected = (
                value
                + outwards * slope * x
                + curvature * x**2 / 2
                + wall.stiffness_eV_per_A3 * x**3
            )
            assert term.evaluate(np.array([wall.edge_A + outwards * x]))[0][0] == pytest.approx(
                expected, rel=1e-12
            )


@by_name(TERMS)
def test_slope_is_the_derivative_of_the_energy_beyond_walls(term: Term) -> None:
    for wall in term.walls:
        r = wall.edge_A - wall.inward * np.linspace(0.01, 0.6, 30)
        h = 1e-5
        expected = (term.evaluate(r + h)[0] - term.evaluate(r - h)[0]) / (2 * h)
        assert term.evaluate(r)[1] == pytest.approx(expected, abs=1e-6)


@settings(deadline=None, max_examples=300)
@given(
    force=st.floats(-50, 50),
    curvature=st.floats(-500, 500),
    depth=st.floats(0.005, 1.0),
    least=st.floats(0.1, 20),
    inward=st.sampled_from([1, -1]),
)
def test_walls_push_back_beyond_their_depth(
    force: float, curvature: float, depth: float, least: float, inward: int
) -> None:
    """Whatever the term does at its edge; and never softer than asked for, nor stiffer than
    needed.
    """
    stiffness = wall_stiffness(force, curvature, depth, least)
    assert stiffness >= least
    wall = Wall(3.0, stiffness, 0.0, force, curvature, inward)
    x = depth * np.array([1.0, 1.001, 1.1, 1.5, 2, 3, 5, 10, 100])
    towards_sampled = -inward * wall.evaluate(3.0 - inward * x)[1]
    tolerance = 1e-9 * (abs(force) + abs(curvature) * x)
    assert (towards_sampled >= -tolerance).all() and (towards_sampled[1:] > -tolerance[1:]).all()
    assert stiffness <= least or stiffness <= 2 * (abs(force) + abs(curvature) * depth) / (
        3 * depth**2
    )


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
    for term in loss.terms:
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
    found = loss.terms_of(topology_of(hydrogens_first))
    assert sorted(term.name for term in found.values()) == sorted(term.name for term in loss.terms)
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


# --- the model file -------------------------------------------------------------------------------


@pytest.fixture
def model(tmp_path: Path) -> Path:
    file = tmp_path / "model.json"
    frame = liquid(["H2O", "CH3OH"], CUBE)
    spline, power = invent(frame), invent(frame, "power", (2.7, -1.0))
    mixed = (*spline.terms[:-2], *power.terms[-2:])
    coverage = {"counts": [1, 2], "start_A": 1.5}
    covered = tuple(replace(t, coefficient_errors=(0.1, 0.2), coverage=coverage) for t in mixed)
    AgentLoss(
        spline.species, covered, {"ridge": 1e-7, "molecules": {"H2O": 1}, "π": [[1, 2], [3]]}
    ).save(file)
    return file


def test_save_and_load_give_the_same_bytes(
    model: Path, tmp_path: Path, spline_water: AgentLoss
) -> None:
    loss = AgentLoss.load(model)
    assert {type(t) for t in loss.terms} == {BondTerm, SplineTerm, PowerTerm}
    loss.save(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == model.read_bytes()
    spline_water.save(tmp_path / "new" / "fitted.json")
    fitted = AgentLoss.load(tmp_path / "new" / "fitted.json")
    assert fitted.terms == spline_water.terms and fitted.species == spline_water.species
    fitted.save(tmp_path / "refitted.json")
    assert (tmp_path / "refitted.json").read_bytes() == (
        tmp_path / "new" / "fitted.json"
    ).read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "again.json",
        "model.json",
        "new",
        "refitted.json",
    ]


def test_loaded_model_computes_the_same(
    model: Path, spline_water: AgentLoss, few: Trajectory
) -> None:
    spline_water.save(model)
    loaded, original = (
        energy_and_forces(loss, few[0]) for loss in (AgentLoss.load(model), spline_water)
    )
    assert loaded[0] == original[0] and np.array_equal(loaded[1], original[1])


def load_error(file: Path, change: Callable[[dict[str, Any]], None]) -> str:
    data = json.loads(file.read_text())
    change(data)
    file.write_text(json.dumps(data))
    with pytest.raises(InputError) as caught:
        AgentLoss.load(file)
    return str(caught.value)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"version": 2}, "has version 2; this mld_ff reads version 1: fit again"),
        (
            {"format": "other"},
            (
                "is not a model file: \"format\" should be 'mld_ff agent loss'; write one with"
                " `mld-ff fit`"
            ),
        ),
        (
            {"units": {"energy": "kcal/mol", "length": "angstrom"}},
            (
                "has units {'energy': 'kcal/mol', 'length': 'angstrom'}; expected {'energy': 'eV',"
                " 'length': 'angstrom'}"
            ),
        ),
    ],
)
def test_other_formats_are_refused(model: Path, change: dict[str, Any], expected: str) -> None:
    assert load_error(model, lambda data: data.update(change)) == f"{model}: {expected}"


def test_unknown_kind_and_field_are_refused(model: Path) -> None:
    text = model.read_text()
    error = load_error(model, lambda data: data["terms"][0].update(kind="morse"))
    name = json.loads(text)["terms"][0]["name"]
    assert (
        error == f"{model}: term {name!r} is of unknown kind 'morse'; known: power, spline, bond,"
        " collective"
    )
    model.write_text(text)
    error = load_error(model, lambda data: data["terms"][1].update(colour="red"))
    name = json.loads(text)["terms"][1]["name"]
    assert error == f"{model}: term {name!r} has fields that this version does not know: ['colour']"


@pytest.mark.parametrize("missing", ["version", "units", "species", "terms", "provenance"])
def test_incomplete_model_is_refused(model: Path, missing: str) -> None:
    error = load_error(model, lambda data: data.pop(missing))
    assert error.startswith(f"{model}: is not a complete model file: ") and missing in error


def test_term_without_coefficients_is_refused(model: Path) -> None:
    error = load_error(model, lambda data: data["terms"][0].pop("coefficients"))
    assert error.startswith(f"{model}: is not a complete model file: ") and "coefficients" in error


@settings(deadline=None, max_examples=50)
@given(share=st.floats(0, 0.999))
def test_truncated_model_is_refused(tmp_path_factory: pytest.TempPathFactory, share: float) -> None:
    frame = liquid(["H2O"] * 2, CUBE)
    file = tmp_path_factory.mktemp("cut") / "model.json"
    text = invent(frame).dumps()
    cut = text[: int(share * (len(text) - 2))]
    file.write_text(cut)
    with pytest.raises(InputError) as caught:
        AgentLoss.load(file)
    assert str(caught.value).startswith(f"{file}:") and "is not a model file" in str(caught.value)


def test_model_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        AgentLoss.load(tmp_path / "none.json")
    assert (
        str(caught.value) == f"{tmp_path / 'none.json'}: cannot be read: No such file or directory"
    )


def test_failed_save_leaves_the_old_file(model: Path) -> None:
    """JSON has no infinity: refused before anything is written."""
    before = model.read_bytes()
    loss = AgentLoss.load(model)
    with pytest.raises(ValueError, match="JSON"):
        replace(loss, provenance={"x": float("inf")}).save(model)
    assert model.read_bytes() == before and [p.name for p in model.parent.iterdir()] == [
        "model.json"
    ]


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
