"""Data that a fit cannot use, or not all of: what it says, and what it leaves out."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from conftest import (
    CUBE,
    frame_of,
    liquid,
    present,
    topology_of,
)

from mld_ff.errors import InputError
from mld_ff.geometry.pairs import minimum_image
from mld_ff.inference import Basis, fit
from mld_ff.trajectory import Trajectory, concatenate

BASIS = Basis("power", (3.0,), bond_degree=2, cutoff_A=6.2)


def error_of(source: Any, basis: Basis | None = None) -> str:
    with pytest.raises(InputError) as caught:
        fit(source, basis)
    return str(caught.value)


def test_too_few_frames(few: Trajectory) -> None:
    assert (
        error_of(few[:3])
        == "3 frames are too few: at least 4 are needed to fit on some and test on others"
    )
    assert fit(few[:4], BASIS).loss.provenance["frames_test"] == 2


def test_a_single_atom() -> None:
    atom = frame_of(["Ar"], np.zeros((1, 3)), CUBE, forces=np.zeros((1, 1, 3)))
    expected = "the system is one atom, on which no other acts: nothing to fit"
    assert error_of(atom[np.zeros(8, int)], Basis(accuracy="pairs")) == expected


def test_no_forces(few: Trajectory) -> None:
    expected = "the trajectory holds no forces: print &MOTION/&PRINT/&FORCES in the CP2K run"
    assert error_of(replace(few, forces=None)) == expected


def test_cutoff_longer_than_half_the_cell(few: Trajectory) -> None:
    assert (
        error_of(few, Basis(cutoff_A=6.5, accuracy="pairs"))
        == "the cutoff is 6.5 Å; it must be positive and at most half the smallest width of the"
        " cell, 6.222 Å: choose a shorter one, or a larger box"
    )
    cell = few.cell.copy()
    cell[20:] *= 0.99  # a cell that shrinks on the way
    assert "6.160 Å" in error_of(replace(few, cell=cell), Basis(cutoff_A=6.2, accuracy="pairs"))


def test_nobody_within_the_cutoff() -> None:
    apart = frame_of(
        ["Ar", "Ar"], np.array([[0.0, 0, 0], [6, 6, 6]]), CUBE, forces=np.zeros((1, 2, 3))
    )
    frames = replace(apart[np.zeros(8, int)], step=np.arange(8), time=100.0 * np.arange(8.0))
    with pytest.raises(
        InputError, match=r"no two atoms come within the cutoff of 5\.5 Å: nothing to fit"
    ):
        fit(frames, Basis(accuracy="pairs"))


def upon_each_other(frame: Trajectory) -> Trajectory:
    x = frame.positions.copy()
    x[:, 2] = x[:, 0] + [0, 0, 0.02]
    return replace(frame, positions=x)


DAMAGED: dict[str, tuple[Callable[[Trajectory], Trajectory], str]] = {
    "coincident": (upon_each_other, "O1 and O3 lie upon each other, 0.02 Å apart: an atom given"),
    "cell in another unit": (
        lambda t: replace(t, cell=t.cell * 3e5),
        "a cell vector is 3.73e+06 Å long, and at most 100000 Å is taken: is the cell in Å?",
    ),
    "cell of nothing": (
        lambda t: replace(t, cell=t.cell * 1e-2),
        "192 atoms lie in a cell of 0.00193 Å³: is the cell in Å?",
    ),
    "not finite": (
        lambda t: replace(t, positions=t.positions * np.nan),
        "the positions or the cell are not finite numbers",
    ),
    "far away": (
        lambda t: replace(t, positions=t.positions + 1e9),
        "an atom is farther than 1e+07 Å from the origin: damaged?",
    ),
    "huge forces": (
        lambda t: replace(t, forces=present(t.forces) * 1e160),
        r"step \d+: a force of .*e\+160 eV/Å; expected less than 100000: is the file damaged",
    ),
    "no forces on hydrogen": (
        lambda t: replace(
            t, forces=present(t.forces) * np.array([s != "H" for s in t.symbols])[:, None]
        ),
        "all forces on H are zero, in frames to train or to test on: atoms that were held fixed",
    ),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_damaged_frames(case: str, few: Trajectory) -> None:
    """By the first frame, or by a later one; libraries would crash, hang or overflow."""
    change, said = DAMAGED[case]
    pattern = said if "\\" in said else re.escape(said)
    with pytest.raises(InputError, match=pattern):
        fit(change(few[::4]), Basis("power", (3.0,), cutoff_A=4.0))
    if case in ("coincident", "not finite"):
        later = concatenate([few[:8], change(few[8:10])])
        with pytest.raises(InputError, match=rf"step {few.step[8]}: {pattern}"):
            fit(later, Basis("power", (3.0,), cutoff_A=4.0))


def test_default_cutoff_fits_into_every_frame() -> None:
    """A cell that breathes: its smallest width counts, not that of the first frame."""
    rng = np.random.default_rng(0)
    first = liquid(["H2O"] * 8, CUBE, wrap=False)
    frames = replace(
        first,
        positions=first.positions + 0.02 * rng.normal(size=(8, *first.positions[0].shape)),
        cell=CUBE * np.linspace(1, 0.9, 8)[:, None, None],
        time=100.0 * np.arange(8.0),
        step=np.arange(8),
        forces=rng.normal(size=(8, *first.positions[0].shape)),
    )
    assert 5.38 < fit(frames, Basis("power")).loss.cutoff_A <= 5.4


def test_a_fit_worse_than_no_force_is_warned_of(few: Trajectory) -> None:
    noise = np.random.default_rng(0).normal(size=few.positions[:6].shape)
    provenance = fit(replace(few[:6], forces=noise), Basis(accuracy="pairs")).loss.provenance
    assert "worse than no force at all for O, H" in provenance["warnings"][-1]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"kind": "morse"}, "the basis is 'morse'; those that can be fitted: spline, power"),
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
    loss = fit(broken, BASIS).loss
    assert loss.provenance["frames_with_broken_bonds"] == 3
    assert (loss.provenance["frames_train"], loss.provenance["frames_test"]) == (30, 7)
    assert broken.forces is not None
    forces = broken.forces.copy()
    forces[[2, 11, 37]] *= 7
    other = fit(replace(broken, forces=forces), BASIS).loss
    assert other.terms == loss.terms
    assert other.provenance["relative_rmse"] == loss.provenance["relative_rmse"]


def test_reactions_are_refused(few: Trajectory) -> None:
    """More than a tenth of the frames."""
    assert (
        fit(with_broken_bonds(few, [1, 5, 9, 13]), BASIS).loss.provenance[
            "frames_with_broken_bonds"
        ]
        == 4
    )
    error = error_of(with_broken_bonds(few, [1, 5, 9, 13, 17]), BASIS)
    assert error.startswith(
        f"bonds break in 5 of 40 frames, first at step {few.step[1]} ({few.time[1]:g} fs): the "
    )
    assert "H65" in error and "fit a part of the run without reactions" in error


def test_net_force_is_warned_of(few: Trajectory) -> None:
    assert few.forces is not None
    assert fit(few, BASIS).loss.provenance["warnings"] == []
    random = 0.3 * np.random.default_rng(0).normal(size=few.forces.shape)
    noise = few.forces + np.where(np.array(few.symbols) == "O", 1.0, 0.0)[None, :, None] * random
    provenance = fit(replace(few, forces=noise), BASIS).loss.provenance
    (warning,) = provenance["warnings"]
    assert "raise &MGRID CUTOFF" in warning
    assert provenance["net_force_eV_per_A"] == pytest.approx(
        np.sqrt(64 * 2 / np.pi) * 0.3, rel=0.15
    )
