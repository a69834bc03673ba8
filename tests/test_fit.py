"""Fits: unseen frames teach nothing, errors are as told, and what cannot be known is said."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from conftest import (
    CUBE,
    TEST_FRAMES,
    coefficients_of,
    energy_and_forces,
    frame_of,
    liquid,
    named_pairs,
    topology_of,
)

from mld_ff.inference import Basis, fit
from mld_ff.loss.free_pairs import SplineTerm
from mld_ff.loss.model import AgentLoss
from mld_ff.trajectory import Trajectory

# --- training and testing -------------------------------------------------------------------------


def test_test_frames_teach_nothing(few: Trajectory) -> None:
    """Nonsense in the frames for testing changes the errors, and nothing else; in any other frame
    it matters.
    """
    basis = Basis("spline", spacing_A=0.4, accuracy="pairs")
    assert few.forces is not None
    expected = fit(few, basis).loss
    assert (expected.provenance["frames_train"], expected.provenance["frames_test"]) == (32, 8)
    nonsense = few.forces.copy()
    nonsense[TEST_FRAMES] = np.random.default_rng(0).normal(size=nonsense[TEST_FRAMES].shape)
    misled = fit(replace(few, forces=nonsense), basis).loss
    assert misled.terms == expected.terms
    assert min(misled.provenance["relative_rmse"].values()) > 1
    other = few.forces.copy()
    other[15] *= 1.01
    assert coefficients_of(fit(replace(few, forces=other), basis).loss) != coefficients_of(expected)


def test_errors_are_those_of_the_exported_functions(
    few: Trajectory, spline_water: AgentLoss
) -> None:
    """Computed again from the model, frame by frame, walls included."""
    assert few.forces is not None
    is_oxygen = np.array([s == "O" for s in few.symbols])
    square, power, total = np.zeros(2), np.zeros(2), 0.0
    for k in TEST_FRAMES:
        deviation = (energy_and_forces(spline_water, few[k])[1] - few.forces[k]) ** 2
        total += deviation.sum()
        for s, chosen in enumerate((is_oxygen, ~is_oxygen)):
            square[s] += deviation[chosen].sum()
            power[s] += (few.forces[k][chosen] ** 2).sum()
    told = spline_water.provenance
    assert [told["relative_rmse"][s] for s in "OH"] == pytest.approx(
        np.sqrt(square / power).tolist(), rel=1e-9
    )
    assert told["rmse_meV_per_A"] == pytest.approx(1000 * np.sqrt(total / (8 * 192 * 3)), rel=1e-9)
    assert spline_water.domain.molecules == ("H2O",)
    assert told["temperature_K"] == pytest.approx(few.temperature().mean())


@pytest.mark.parametrize(
    ("basis", "limits"),
    [
        (Basis("power", (3.0,), bond_degree=2), {"O": 0.32, "H": 0.29}),
        (Basis(accuracy="pairs"), {"O": 0.275, "H": 0.245}),
    ],
    ids=["power", "spline"],
)
def test_error_on_unseen_frames_of_the_example(
    water: Trajectory, basis: Basis, limits: dict[str, float]
) -> None:
    """The bounds that the package promises for CP2K's water; and every free potential is repulsive
    inside.
    """
    loss = fit(water[::4], basis).loss
    for species, limit in limits.items():
        assert loss.provenance["relative_rmse"][species] <= limit
        agent = loss.provenance["relative_rmse_agent"][species]
        assert 0.1 < agent <= loss.provenance["relative_rmse"][species] + 0.02
    assert_repulsive(loss)


# --- what cannot be known -------------------------------------------------------------------------


def test_dependent_functions_are_named_and_zero(few: Trajectory) -> None:
    """q1 q3 = q2 q2: of the two coefficients one is as good as the other, and one must go."""
    loss = fit(few, Basis("power", (1.0, 2.0, 3.0), bond_degree=2)).loss
    undetermined = loss.provenance["undetermined"]
    pairs = ("free:O-O", "free:O-H", "free:H-H")
    assert sorted(name.split()[0] for name in undetermined) == sorted(pairs)
    assert {name.split()[1] for name in undetermined} <= {"B_1,3", "B_2,2"}
    assert loss.provenance["n_coefficients"] == loss.provenance["rank"] == 2 * 2 + 3 * 9 - 3
    assert loss.provenance["n_functions"] == 2 * 2 + 3 * 9
    for term in loss.terms:
        for name, c in zip(term.coefficient_names, term.coefficients, strict=True):
            assert (c == 0.0) == (f"{term.name} {name}" in undetermined), (term.name, name)


def test_kind_of_pair_that_never_meets() -> None:
    """Two single ions on opposite sides of the box: a free pair by topology, but none below the
    cutoff.
    """
    rng = np.random.default_rng(0)
    rest = liquid(["H2O"] * 6, CUBE, seed=2)
    ions = np.array([[0.5, 0.5, 9.0], [6.5, 6.5, 3.0]])
    x = np.concatenate([rest.positions[0], ions])
    x = x + 0.02 * rng.normal(size=(8, *x.shape))
    first = frame_of([*rest.symbols, "Ne", "Ar"], x[0], CUBE)
    frames = replace(
        first,
        positions=x,
        cell=np.repeat(first.cell, 8, axis=0),
        time=100.0 * np.arange(8.0),
        step=np.arange(8),
        forces=rng.normal(size=x.shape),
    )
    for basis in (Basis("power", cutoff_A=5.0), Basis("spline", cutoff_A=5.0, accuracy="pairs")):
        loss = fit(frames, basis).loss
        assert np.isfinite(energy_and_forces(loss, frames[0])[1]).all()


# --- walls and coverage ---------------------------------------------------------------------------


def assert_repulsive(loss: AgentLoss) -> None:
    """From where nobody gets up to the shortest sampled distance, every free pair is pushed
    apart.
    """
    for term in loss.free_terms:
        r = np.linspace(0.2, term.sampled_A[0], 400)
        assert (term.evaluate(r)[1] < 0).all(), term.name
    for bond in loss.bond_terms:
        low, high = bond.range_A
        assert (bond.evaluate(np.linspace(0.5 * low, low - 0.1, 100))[1] < 0).all(), bond.name
        assert (bond.evaluate(np.linspace(high + 0.1, high + 1.0, 100))[1] > 0).all(), bond.name


@pytest.mark.parametrize(
    "basis",
    [
        Basis("spline", spacing_A=0.13, cutoff_A=4.5, accuracy="pairs"),
        Basis("spline", spacing_A=0.35, accuracy="pairs"),
        Basis("power", (1.0,), bond_degree=2),
        Basis("power", (1.0, 2.0, 3.0)),
        Basis("power", (6.0, 0.5), bond_degree=6),
    ],
    ids=str,
)
def test_free_pairs_are_pushed_apart_inside(few: Trajectory, basis: Basis) -> None:
    """Also where the fitted function attracts at its edge, as it does for hydrogen bonds."""
    loss = fit(few[::2], basis).loss
    assert_repulsive(loss)
    for term in loss.free_terms:
        assert term.sampled_A[0] < term.wall_edge_A < term.sampled_A[0] + 0.5


def test_default_splines_push_free_pairs_apart_inside(spline_water: AgentLoss) -> None:
    assert_repulsive(spline_water)


def test_the_hydrogen_bond_attracts_at_its_edge(spline_water: AgentLoss) -> None:
    """... so the wall of free:O-H has something to overcome."""
    (term,) = [t for t in spline_water.free_terms if t.name == "free:O-H"]
    assert term.walls[0].force < 0


def test_coverage_is_that_of_the_data(few: Trajectory, spline_water: AgentLoss) -> None:
    topology = topology_of(few[0])
    for term in spline_water.terms:
        r = np.concatenate(
            [
                dict(named_pairs(topology, x, c, spline_water.cutoff_A))[term.name].r
                for x, c in zip(few.positions, few.cell, strict=True)
            ]
        )
        coverage = term.coverage
        assert coverage["shortest_A"] == pytest.approx(r.min(), abs=1e-6)
        assert coverage["longest_A"] == pytest.approx(r.max(), abs=1e-6)
        assert sum(coverage["counts"]) == len(r)
        bins = coverage["start_A"] + coverage["width_A"] * np.arange(len(coverage["counts"]) + 1)
        expected = np.histogram(r, bins)[0]
        assert (
            np.abs(expected - coverage["counts"]).max() <= 2
        )  # at the very edges of bins, rounding decides


@pytest.mark.parametrize("spacing", [0.05, 0.33, 1.0])
def test_splines_of_any_spacing_are_smooth_at_the_wall(few: Trajectory, spacing: float) -> None:
    for term in fit(few[::2], Basis(spacing_A=spacing, accuracy="pairs")).loss.free_terms:
        assert isinstance(term, SplineTerm)
        assert term.knots[3] <= term.wall_edge_A
        r = np.linspace(0.5, term.cutoff_A, 20001)
        energy, slope = term.evaluate(r)
        assert np.abs(np.diff(energy) - 0.5 * (slope[1:] + slope[:-1]) * np.diff(r)).max() < 1e-5


# --- errors of functions --------------------------------------------------------------------------


def test_error_of_a_function_of_one_coefficient_is_that_of_the_coefficient(few: Trajectory) -> None:
    loss = fit(few, Basis("power", (3.0,), bond_degree=1)).loss
    for term in loss.bond_terms:
        (error,) = term.coefficient_errors
        seen = term.coverage
        r = seen["start_A"] + seen["width_A"] * (np.arange(len(seen["counts"])) + 0.5)
        assert error > 0
        assert seen["errors_eV"] == pytest.approx(error * np.abs(r - term.r0_A), rel=1e-3)


def test_errors_of_functions_are_the_scatter_of_fits_to_other_data(water: Trajectory) -> None:
    """Jack-knife from a third of the frames against fits to three thirds: the same size, whatever
    the coefficients.
    """
    thirds = [fit(water[k : k + 220 : 3], Basis("power", (1.0, 3.0))).loss for k in (0, 220, 440)]
    for terms in zip(*(loss.free_terms for loss in thirds), strict=True):
        r = np.array([3.0, 3.5, 4.0])
        scatter = np.std([t.evaluate(r)[0] for t in terms], axis=0, ddof=1)
        seen = terms[0].coverage
        told = np.array(seen["errors_eV"])[((r - seen["start_A"]) / seen["width_A"]).astype(int)]
        assert 0.2 < np.sqrt((told**2).mean() / (scatter**2).mean()) < 5
