"""Terms of pairs: their functions, the derivatives of these, and walls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from conftest import (
    bond_term,
    free_term,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from mld_ff.loss.bonds import BondTerm
from mld_ff.loss.terms import FreeTerm, PairTerm
from mld_ff.loss.walls import Wall, wall_stiffness
from mld_ff.trajectory import Floats

EXPONENTS = [(1.0,), (3.0,), (6.0,), (0.5,), (2.7, 4.1), (-1.0, 1.0), (1.0, 2.0, 3.0)]
FREE: dict[str, FreeTerm] = {
    **{f"power {e}": free_term(("O", "H"), "power", e) for e in EXPONENTS},
    "spline": free_term(("O", "H")),
}
BONDS: dict[str, BondTerm] = {
    f"bond {d}": bond_term("bonded:O-H", ("O", "H"), np.array([0.9, 1.1]), degree=d)
    for d in range(1, 7)
}
TERMS: dict[str, PairTerm] = {**FREE, **BONDS}


def by_name(terms: dict[str, Any]) -> Callable[..., Any]:
    return pytest.mark.parametrize("term", terms.values(), ids=terms)


def sampled(term: PairTerm) -> Floats:
    """Distances between the walls (or up to the cutoff), none of them a knot."""
    return np.linspace(*term.learned_A, 73)[1:-1] + 1.37e-4


# --- functions and their derivatives --------------------------------------------------------------


@by_name(TERMS)
@pytest.mark.parametrize("derivative", [1, 2])
def test_derivatives_of_the_basis(term: PairTerm, derivative: int) -> None:
    """Against central differences of the derivative below, function by function."""
    r, h = sampled(term), 1e-5
    expected = (term.basis(r + h, derivative - 1) - term.basis(r - h, derivative - 1)) / (2 * h)
    values = term.basis(r, derivative)
    assert values.shape == (len(r), len(term.coefficients)) == (len(r), len(term.coefficient_names))
    assert np.abs(values - expected).max() < 1e-7 * max(1.0, np.abs(expected).max())


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
def test_walls_join_smoothly(term: PairTerm) -> None:
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
def test_slope_is_the_derivative_of_the_energy_beyond_walls(term: PairTerm) -> None:
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
