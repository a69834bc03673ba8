"""Inference: what was planted is found, what cannot be known is said, and unseen frames stay
unseen.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from conftest import (
    CUBE,
    TRICLINIC,
    energy_and_forces,
    evaluate,
    frame_of,
    liquid,
    named_pairs,
    topology_of,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from mld_ff.errors import InputError
from mld_ff.geometry.pairs import minimum_image
from mld_ff.inference import Accumulated, Basis, accumulate, fit
from mld_ff.loss.bonds import BondTerm
from mld_ff.loss.free_pairs import SplineTerm
from mld_ff.loss.model import AgentLoss
from mld_ff.loss.terms import FreeTerm, Term
from mld_ff.trajectory import Floats, Trajectory

TEST_FRAMES = [16, 17, 18, 19, 36, 37, 38, 39]
"""Of 40 frames in ten contiguous blocks, every fifth of which is for testing."""
BASES = {
    "power": Basis("power", (3.0,), bond_degree=2, cutoff_A=6.2),
    "powers": Basis("power", (1.0, 4.5), bond_degree=3, cutoff_A=5.0),
    "spline": Basis("spline", bond_degree=4, cutoff_A=6.2),
}


@dataclass
class Pieces:
    """A source that hands out its frames in pieces of a size of its own."""

    frames: Trajectory
    size: int

    def __post_init__(self) -> None:
        self.symbols, self.masses, self.origin = (
            self.frames.symbols,
            self.frames.masses,
            self.frames.origin,
        )
        self.n_frames, self.half_width = self.frames.n_frames, self.frames.half_width

    def chunks(
        self, size: int = 64, start: int = 0, stop: int | None = None
    ) -> Iterator[Trajectory]:
        return self.frames.chunks(self.size, start, stop)


def planted(basis: Basis, frame: Trajectory, seed: int = 0) -> AgentLoss:
    """A loss of this basis with invented coefficients, and walls further in than anybody gets."""
    topology = topology_of(frame)
    rng = np.random.default_rng(seed)
    terms: list[Term] = []
    for term in basis.terms(frame, topology):
        n = len(term.coefficients)
        if isinstance(term, BondTerm):
            c = np.array([0.1, 10.0, -8.0, 20.0])[:n] * (1 + 0.2 * rng.normal(size=n))
            terms.append(replace(term, coefficients=tuple(c), range_A=(0.3, 4.0)))
        else:
            assert isinstance(term, FreeTerm)
            size = 1.0 if basis.kind == "spline" else np.abs(term.basis(np.array([2.5]))[0])
            c = 0.1 * (rng.normal(size=n) + 1) / size
            terms.append(replace(term, coefficients=tuple(np.broadcast_to(c, n)), wall_edge_A=0.9))
    return AgentLoss(topology.species, tuple(terms))


def with_forces_of(loss: AgentLoss, frames: Trajectory) -> Trajectory:
    topology = topology_of(frames[0])
    forces = [
        evaluate(loss, topology, x, cell)[1]
        for x, cell in zip(frames.positions, frames.cell, strict=True)
    ]
    return replace(frames, forces=np.array(forces))


def sampled(term: Term) -> Floats:
    """Distances between the walls and the cutoff of a fitted term."""
    low, high = (term.wall_edge_A, term.cutoff_A) if isinstance(term, FreeTerm) else term.range_A
    return np.linspace(low, high, 300)


def numbers(loss: AgentLoss) -> list[tuple[float, ...]]:
    return [term.coefficients for term in loss.terms]


def error_of(source: Any, basis: Basis | None = None) -> str:
    with pytest.raises(InputError) as caught:
        fit(source, basis)
    return str(caught.value)


# --- what was planted -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", BASES)
def test_normal_equations_recover_what_was_planted(name: str, few: Trajectory) -> None:
    """Without any prior, from all blocks and species at once: forces to 1e-6 of themselves."""
    loss = planted(BASES[name], few[0])
    data: Accumulated = accumulate(with_forces_of(loss, few), BASES[name].terms)
    functions = data.equations.gram_bskk.shape[-1]
    found = data.equations.solve(range(10), range(2), np.zeros((functions, functions)), 0.0)
    assert (
        np.sqrt(
            data.equations.residual(range(10), found) / data.equations.power_bs.sum(axis=0)
        ).max()
        < 1e-6
    )
    at = 0
    for true, empty in zip(loss.terms, data.terms, strict=True):
        c, at = found[at : at + len(true.coefficients)], at + len(true.coefficients)
        histogram = data.survey.distances[true.name]
        r = np.linspace(histogram.shortest + 0.25, min(histogram.longest, 5.0), 100)
        slope = true.evaluate(r)[1]
        assert empty.basis(r, 1) @ c == pytest.approx(slope, abs=1e-5 * np.abs(slope).max()), (
            true.name
        )


@pytest.mark.parametrize("name", BASES)
def test_fit_recovers_what_was_planted(name: str, few: Trajectory) -> None:
    """Through the whole fit: nothing but the walls, where few pairs get, and the weakest ridge stay
    between.
    """
    loss = planted(BASES[name], few[0])
    fitted = fit(with_forces_of(loss, few), BASES[name]).loss
    assert fitted.provenance["ridge"] == 1e-7
    assert fitted.provenance["undetermined"] == []
    assert max(fitted.provenance["relative_rmse_agent"].values()) < 1e-5
    assert max(fitted.provenance["relative_rmse"].values()) < 0.02
    for true, found in zip(loss.terms, fitted.terms, strict=True):
        assert found.name == true.name
        r = sampled(found)
        slope, expected = found.evaluate(r)[1], true.evaluate(r)[1]
        assert slope == pytest.approx(expected, abs=1e-3 * np.abs(expected).max()), true.name
        if name == "power":
            assert found.coefficients == pytest.approx(true.coefficients, rel=1e-3)


@settings(deadline=None, max_examples=8)
@given(seed=st.integers(0, 10**6), triclinic=st.booleans(), exponent=st.floats(1.0, 7.0))
def test_any_exponent_in_any_cell(seed: int, triclinic: bool, exponent: float) -> None:
    """Planted coefficients of liquids at random, water with ammonia, one real exponent."""
    cell = 0.75 * (TRICLINIC if triclinic else CUBE)
    single = [
        liquid(["H2O"] * 6 + ["NH3"] * 3, cell, seed=seed + k, wrap=k % 2 == 0) for k in range(8)
    ]
    # the same atoms in every frame: the grid is filled in the order of the names
    frames = replace(
        single[0],
        positions=np.concatenate([f.positions for f in single]),
        cell=np.concatenate([f.cell for f in single]),
        time=np.arange(8.0),
        step=np.arange(8),
    )
    basis = Basis("power", (exponent,), bond_degree=2, cutoff_A=4.0)
    loss = planted(basis, frames[0], seed)
    data = accumulate(with_forces_of(loss, frames), basis.terms)
    found = data.equations.solve(
        range(4), range(3), np.zeros((len(data.equations.moment_bsk[0, 0]),) * 2), 0.0
    )
    assert (
        np.sqrt(data.equations.residual(range(4), found).sum() / data.equations.power_bs.sum())
        < 1e-5
    )


def test_agent_fit_learns_what_no_potential_describes(few: Trajectory) -> None:
    """Oxygen feels hydrogen by one function, hydrogen feels oxygen by another: against Newton's
    third law.
    """
    topology = topology_of(few[0])
    basis = BASES["power"]
    of_oxygen, of_hydrogen = planted(basis, few[0], 1), planted(basis, few[0], 2)
    by_oxygen, by_hydrogen = (with_forces_of(loss, few).forces for loss in (of_oxygen, of_hydrogen))
    is_oxygen = np.array([s == "O" for s in topology.symbols])
    assert by_oxygen is not None and by_hydrogen is not None
    forces = np.where(is_oxygen[None, :, None], by_oxygen, by_hydrogen)
    found = fit(replace(few, forces=forces), basis).loss.provenance
    for species in ("O", "H"):
        assert found["relative_rmse_agent"][species] < 1e-3
        assert found["relative_rmse"][species] > 50 * found["relative_rmse_agent"][species]
    assert max(found["relative_rmse"].values()) > 0.05


# --- accumulation ---------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 7])
def test_pieces_do_not_matter(size: int, few: Trajectory) -> None:
    basis = Basis("spline", spacing_A=0.5, bond_degree=2, cutoff_A=5.0)
    whole, parts = accumulate(few, basis.terms), accumulate(Pieces(few, size), basis.terms)
    for name in ("gram_bskk", "moment_bsk", "power_bs", "number_bs"):
        expected = getattr(whole.equations, name)
        assert getattr(parts.equations, name) == pytest.approx(
            expected, abs=1e-12 * np.abs(expected).max()
        )
    assert parts.frames_per_block == whole.frames_per_block == [4] * 10
    fits = [numbers(fit(source, BASES["power"]).loss) for source in (few, Pieces(few, size))]
    assert fits[0] == fits[1]


def test_blocks_are_contiguous_and_add_up(few: Trajectory) -> None:
    """Ten blocks of four frames; the sums of the first block are those of a source of these frames
    alone.
    """
    basis = BASES["power"]
    whole, alone = (
        accumulate(few, basis.terms).equations,
        accumulate(few[:4], basis.terms).equations,
    )
    assert alone.gram_bskk.sum(axis=0) == pytest.approx(whole.gram_bskk[0], rel=1e-12)
    assert alone.moment_bsk.sum(axis=0) == pytest.approx(whole.moment_bsk[0], rel=1e-9)
    assert few.forces is not None
    oxygen = [s == "O" for s in few.symbols]
    assert whole.power_bs[3, 0] == pytest.approx((few.forces[12:16, oxygen] ** 2).sum(), rel=1e-12)
    assert whole.number_bs.tolist() == [[4 * 64 * 3, 4 * 128 * 3]] * 10


def test_residual_is_that_of_the_forces(few: Trajectory) -> None:
    """The error that normal equations give is the one of forces that a model without walls in the
    way exerts.
    """
    basis = BASES["power"]
    loss = planted(basis, few[0], 4)
    equations = accumulate(few, basis.terms).equations
    coefficients = np.concatenate([term.coefficients for term in loss.terms])
    expected = np.zeros(2)
    assert few.forces is not None
    for k in range(8):
        square = ((energy_and_forces(loss, few[k])[1] - few.forces[k]) ** 2).sum(axis=1)
        expected += [square[:64].sum(), square[64:].sum()]
    assert equations.residual([0, 1], coefficients) == pytest.approx(expected, rel=1e-9)


# --- training and testing -------------------------------------------------------------------------


def test_test_frames_teach_nothing(few: Trajectory) -> None:
    """Nonsense in the frames for testing changes the errors, and nothing else; in any other frame
    it matters.
    """
    basis = Basis("spline", spacing_A=0.4)
    assert few.forces is not None
    expected = fit(few, basis).loss
    assert (expected.provenance["frames_train"], expected.provenance["frames_test"]) == (32, 8)
    nonsense = few.forces.copy()
    nonsense[TEST_FRAMES] = np.random.default_rng(0).normal(size=nonsense[TEST_FRAMES].shape)
    found = fit(replace(few, forces=nonsense), basis).loss
    assert found.terms == expected.terms
    assert min(found.provenance["relative_rmse"].values()) > 1
    other = few.forces.copy()
    other[15] *= 1.01
    assert numbers(fit(replace(few, forces=other), basis).loss) != numbers(expected)


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
    found = spline_water.provenance
    assert [found["relative_rmse"][s] for s in "OH"] == pytest.approx(
        np.sqrt(square / power).tolist(), rel=1e-9
    )
    assert found["rmse_meV_per_A"] == pytest.approx(1000 * np.sqrt(total / (8 * 192 * 3)), rel=1e-9)
    assert found["molecules"] == {"H2O": 64}
    assert found["temperature_K"] == pytest.approx(few.temperature().mean())


@pytest.mark.parametrize(
    ("basis", "limits"),
    [
        (Basis("power", (3.0,), bond_degree=2), {"O": 0.32, "H": 0.29}),
        (Basis(), {"O": 0.275, "H": 0.245}),
    ],
    ids=["power", "spline"],
)
def test_error_on_unseen_frames_of_the_example(
    water: Trajectory, basis: Basis, limits: dict[str, float]
) -> None:
    """The bounds that the package promises for CP2K's water; and every free potential is repulsive
    inside.
    """
    loss = fit(water, basis).loss
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
        time=np.arange(8.0),
        step=np.arange(8),
        forces=rng.normal(size=x.shape),
    )
    for basis in (Basis("power", cutoff_A=5.0), Basis("spline", cutoff_A=5.0)):
        loss = fit(frames, basis).loss
        assert np.isfinite(energy_and_forces(loss, frames[0])[1]).all()


def assert_repulsive(loss: AgentLoss) -> None:
    """From where nobody gets up to the shortest sampled distance, every free pair is pushed
    apart.
    """
    for term in loss.free_terms:
        r = np.linspace(0.2, term.coverage["shortest_A"], 400)
        assert (term.evaluate(r)[1] < 0).all(), term.name
    for bond in loss.bond_terms:
        low, high = bond.range_A
        assert (bond.evaluate(np.linspace(0.5 * low, low - 0.1, 100))[1] < 0).all(), bond.name
        assert (bond.evaluate(np.linspace(high + 0.1, high + 1.0, 100))[1] > 0).all(), bond.name


@pytest.mark.parametrize(
    "basis",
    [
        Basis("spline", spacing_A=0.13, cutoff_A=4.5),
        Basis("spline", spacing_A=0.35),
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
        assert term.coverage["shortest_A"] < term.wall_edge_A < term.coverage["shortest_A"] + 0.5


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


# --- data that cannot be used ---------------------------------------------------------------------


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
    thirds = [fit(water[k : k + 220 : 2], Basis("power", (1.0, 3.0))).loss for k in (0, 220, 440)]
    for terms in zip(*(loss.free_terms for loss in thirds), strict=True):
        r = np.array([3.0, 3.5, 4.0])
        scatter = np.std([t.evaluate(r)[0] for t in terms], axis=0, ddof=1)
        seen = terms[0].coverage
        told = np.array(seen["errors_eV"])[((r - seen["start_A"]) / seen["width_A"]).astype(int)]
        assert 0.2 < np.sqrt((told**2).mean() / (scatter**2).mean()) < 5


def test_too_few_frames(few: Trajectory) -> None:
    assert (
        error_of(few[:3])
        == "3 frames are too few: at least 4 are needed to fit on some and test on others"
    )
    assert fit(few[:4], BASES["power"]).loss.provenance["frames_test"] == 2


def test_no_forces(few: Trajectory) -> None:
    expected = "the trajectory holds no forces: print &MOTION/&PRINT/&FORCES in the CP2K run"
    assert error_of(replace(few, forces=None)) == expected


def test_cutoff_longer_than_half_the_cell(few: Trajectory) -> None:
    assert (
        error_of(few, Basis(cutoff_A=6.5))
        == "the cutoff is 6.5 Å; it must be positive and at most half the smallest width of the"
        " cell, 6.222 Å: choose a shorter one, or a larger box"
    )
    cell = few.cell.copy()
    cell[20:] *= 0.99  # a cell that shrinks on the way
    assert "6.160 Å" in error_of(replace(few, cell=cell), Basis(cutoff_A=6.2))


def test_nobody_within_the_cutoff() -> None:
    apart = frame_of(
        ["Ar", "Ar"], np.array([[0.0, 0, 0], [6, 6, 6]]), CUBE, forces=np.zeros((1, 2, 3))
    )
    frames = replace(apart[np.zeros(8, int)], step=np.arange(8), time=np.arange(8.0))
    with pytest.raises(
        InputError, match=r"no two atoms come within the cutoff of 5\.5 Å: nothing to fit"
    ):
        fit(frames, Basis())


def test_default_cutoff_fits_into_every_frame() -> None:
    """A cell that breathes: its smallest width counts, not that of the first frame."""
    rng = np.random.default_rng(0)
    first = liquid(["H2O"] * 8, CUBE, wrap=False)
    frames = replace(
        first,
        positions=first.positions + 0.02 * rng.normal(size=(8, *first.positions[0].shape)),
        cell=CUBE * np.linspace(1, 0.9, 8)[:, None, None],
        time=np.arange(8.0),
        step=np.arange(8),
        forces=rng.normal(size=(8, *first.positions[0].shape)),
    )
    assert 5.38 < fit(frames, Basis("power")).loss.cutoff_A <= 5.4


@pytest.mark.parametrize("spacing", [0.05, 0.33, 1.0])
def test_splines_of_any_spacing_are_smooth_at_the_wall(few: Trajectory, spacing: float) -> None:
    for term in fit(few, Basis(spacing_A=spacing)).loss.free_terms:
        assert isinstance(term, SplineTerm)
        assert term.knots[3] <= term.wall_edge_A
        r = np.linspace(0.5, term.cutoff_A, 20001)
        energy, slope = term.evaluate(r)
        assert np.abs(np.diff(energy) - 0.5 * (slope[1:] + slope[:-1]) * np.diff(r)).max() < 1e-5


def test_a_fit_worse_than_no_force_is_warned_of(few: Trajectory) -> None:
    noise = np.random.default_rng(0).normal(size=few.positions[:6].shape)
    provenance = fit(replace(few[:6], forces=noise), Basis()).loss.provenance
    assert "worse than no force at all for O, H" in provenance["warnings"][-1]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"kind": "morse"}, "the basis is 'morse'; known: spline, power"),
        (
            {"kind": "power", "exponents": ()},
            r"the exponents are \[\]: at least one is needed, each once",
        ),
        (
            {"kind": "power", "exponents": (2.0, 2.0)},
            r"the exponents are \[2.0, 2.0\]: at least one is needed",
        ),
        ({"kind": "power", "exponents": (0.0,)}, "the exponent 0 is no invariant"),
        ({"bond_degree": 0}, "the degree of bonded terms is 0; expected 1 to 8"),
        ({"spacing_A": 2.0}, "the knot spacing is 2.0 Å; expected 0.05 to 1.0 Å"),
    ],
)
def test_basis_that_makes_no_sense(options: dict[str, Any], expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        Basis(**options)


def with_broken_bonds(frames: Trajectory, broken: list[int]) -> Trajectory:
    """A hydrogen of some frames torn off its oxygen by 0.8 Å."""
    topology = topology_of(frames[0])
    (oxygen,) = topology.neighbours[64]
    positions = frames.positions.copy()
    for f in broken:
        bond = minimum_image(positions[f], frames.cell[f], np.array([[oxygen, 64]]))
        positions[f, 64] += 0.8 * bond.vector[0] / bond.r[0]
    return replace(frames, positions=positions)


def test_frames_with_broken_bonds_are_left_out(few: Trajectory) -> None:
    """... as if their forces did not exist, whatever they are."""
    broken = with_broken_bonds(few, [2, 11, 37])
    loss = fit(broken, BASES["power"]).loss
    assert loss.provenance["frames_with_broken_bonds"] == 3
    assert (loss.provenance["frames_train"], loss.provenance["frames_test"]) == (30, 7)
    assert broken.forces is not None
    forces = broken.forces.copy()
    forces[[2, 11, 37]] *= 7
    other = fit(replace(broken, forces=forces), BASES["power"]).loss
    assert other.terms == loss.terms
    assert other.provenance["relative_rmse"] == loss.provenance["relative_rmse"]


def test_reactions_are_refused(few: Trajectory) -> None:
    """More than a tenth of the frames."""
    assert (
        fit(with_broken_bonds(few, [1, 5, 9, 13]), BASES["power"]).loss.provenance[
            "frames_with_broken_bonds"
        ]
        == 4
    )
    error = error_of(with_broken_bonds(few, [1, 5, 9, 13, 17]))
    assert error.startswith(
        f"bonds break in 5 of 40 frames, first at step {few.step[1]} ({few.time[1]:g} fs): the "
    )
    assert "H65" in error and "fit a part of the run without reactions" in error


def test_net_force_is_warned_of(few: Trajectory) -> None:
    assert few.forces is not None
    assert fit(few, BASES["power"]).loss.provenance["warnings"] == []
    random = 0.3 * np.random.default_rng(0).normal(size=few.forces.shape)
    noise = few.forces + np.where(np.array(few.symbols) == "O", 1.0, 0.0)[None, :, None] * random
    provenance = fit(replace(few, forces=noise), BASES["power"]).loss.provenance
    (warning,) = provenance["warnings"]
    assert "raise &MGRID CUTOFF" in warning
    assert provenance["net_force_eV_per_A"] == pytest.approx(
        np.sqrt(64 * 2 / np.pi) * 0.3, rel=0.15
    )
