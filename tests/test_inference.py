"""Inference: what was planted is found, and sums over frames add up."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from conftest import (
    CUBE,
    TRICLINIC,
    coefficients_of,
    energy_and_forces,
    evaluate,
    liquid,
    topology_of,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from mld_ff.inference import Accumulated, Basis, accumulate, fit
from mld_ff.loss.bonds import BondTerm
from mld_ff.loss.model import AgentLoss
from mld_ff.loss.terms import FreeTerm, PairTerm, Term
from mld_ff.sources.source import FileSource
from mld_ff.trajectory import Floats, Trajectory

BASES = {
    "power": Basis("power", (3.0,), bond_degree=2, cutoff_A=6.2),
    "powers": Basis("power", (1.0, 4.5), bond_degree=3, cutoff_A=5.0),
    "spline": Basis("spline", bond_degree=4, cutoff_A=6.2, accuracy="pairs"),
}


class Pieces(FileSource):
    """A source that hands out its frames in pieces of a size of its own."""

    def __init__(self, frames: Trajectory, size: int) -> None:
        self.frames, self.size, self.notes = frames, size, []
        self.symbols, self.masses, self.origin = frames.symbols, frames.masses, frames.origin

    @property
    def n_frames(self) -> int:
        return self.frames.n_frames

    @property
    def half_width(self) -> float:
        return self.frames.half_width

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


def sampled(term: PairTerm) -> Floats:
    """Distances between the walls and the cutoff of a fitted term."""
    return np.linspace(*term.learned_A, 300)


# --- what was planted -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", BASES)
def test_normal_equations_recover_what_was_planted(name: str, few: Trajectory) -> None:
    """Without any prior, from all blocks and species at once: forces to 1e-6 of themselves."""
    loss = planted(BASES[name], few[0])
    data: Accumulated = accumulate(with_forces_of(loss, few), BASES[name].terms)
    functions = data.equations.gram_bskk.shape[-1]
    solution = data.equations.solve(range(10), range(2), np.zeros((functions, functions)), 0.0)
    assert (
        np.sqrt(
            data.equations.residual(range(10), solution) / data.equations.power_bs.sum(axis=0)
        ).max()
        < 1e-6
    )
    at = 0
    for true, empty in zip(loss.pair_terms, data.terms, strict=True):
        c, at = solution[at : at + len(true.coefficients)], at + len(true.coefficients)
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
    for true, learned in zip(loss.pair_terms, fitted.pair_terms, strict=True):
        assert learned.name == true.name
        r = sampled(learned)
        slope, expected = learned.evaluate(r)[1], true.evaluate(r)[1]
        assert slope == pytest.approx(expected, abs=1e-3 * np.abs(expected).max()), true.name
        if name == "power":
            assert learned.coefficients == pytest.approx(true.coefficients, rel=1e-3)


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
    frames = with_forces_of(loss, frames)
    assert frames.forces is not None  # of any size, and beyond 1e5 eV/Å refused
    frames = replace(frames, forces=frames.forces / np.abs(frames.forces).max())
    data = accumulate(frames, basis.terms)
    solution = data.equations.solve(
        range(4), range(3), np.zeros((len(data.equations.moment_bsk[0, 0]),) * 2), 0.0
    )
    assert (
        np.sqrt(data.equations.residual(range(4), solution).sum() / data.equations.power_bs.sum())
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
    told = fit(replace(few, forces=forces), basis).loss.provenance
    for species in ("O", "H"):
        assert told["relative_rmse_agent"][species] < 1e-3
        assert told["relative_rmse"][species] > 50 * told["relative_rmse_agent"][species]
    assert max(told["relative_rmse"].values()) > 0.05


# --- accumulation ---------------------------------------------------------------------------------


def test_pieces_do_not_matter(few: Trajectory) -> None:
    basis = Basis("spline", spacing_A=0.5, bond_degree=2, cutoff_A=5.0, accuracy="pairs")
    whole, fitted = accumulate(few, basis.terms), fit(few, BASES["power"]).loss
    for pieces in (Pieces(few, 1), Pieces(few, 7)):
        parts = accumulate(pieces, basis.terms)
        for name in ("gram_bskk", "moment_bsk", "power_bs", "number_bs"):
            expected = getattr(whole.equations, name)
            assert getattr(parts.equations, name) == pytest.approx(
                expected, abs=1e-12 * np.abs(expected).max()
            )
        assert parts.frames_per_block == whole.frames_per_block == [4] * 10
        assert coefficients_of(fit(pieces, BASES["power"]).loss) == coefficients_of(fitted)


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
