"""Atoms that a run keeps from moving: their forces, exact zeros, are none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from conftest import present
from cp2k_output import DATA

from mld_ff.inference import Basis, fit
from mld_ff.inference.fitting import gather
from mld_ff.sources.cp2k import open_cp2k
from mld_ff.survey import inspect
from mld_ff.trajectory import Trajectory


@pytest.fixture(scope="module")
def frames() -> Trajectory:
    """Six argon atoms of CP2K's FIST, one fixed, one kept at its z."""
    return open_cp2k(DATA / "fixed").read()


def test_fixed_atoms_are_found_and_said(frames: Trajectory) -> None:
    assert frames.fixed is not None
    assert np.argwhere(frames.fixed).tolist() == [[0, 0], [0, 1], [0, 2], [1, 2]]
    source = open_cp2k(DATA / "fixed")
    assert source.notes == [
        "2 of 6 atoms were fixed: they do not move, and their forces, zero, are left out of the"
        " fit."
    ]
    picked = frames.select_atoms(np.array([1, 0])).fixed
    assert picked is not None and picked.tolist() == [[False, False, True], [True] * 3]
    turned = replace(frames, cell=frames.cell @ np.roll(np.eye(3), 1, axis=0)).standard_cell()
    assert (
        turned.fixed is not None and turned.fixed.all(axis=1).tolist() == [True] * 2 + [False] * 4
    )


def test_their_forces_are_left_out_of_the_fit(frames: Trajectory) -> None:
    """Whatever stands in their place changes nothing."""
    basis = Basis("spline", spacing_A=0.4, cutoff_A=6.0, accuracy="pairs")
    assert frames.forces is not None and frames.fixed is not None
    other = replace(frames, forces=np.where(frames.fixed, 7.0, frames.forces))
    every = (frames, other, replace(frames, fixed=None))
    known, again, spoilt = (fit(f, basis, force=True) for f in every)  # 40 fs are little
    assert again.loss.terms[0].coefficients == known.loss.terms[0].coefficients
    assert spoilt.loss.terms[0].coefficients != known.loss.terms[0].coefficients
    assert again.errors == known.errors
    assert known.equations.number_bs.sum() == 21 * (3 * 6 - 4)
    with_angles = replace(basis, accuracy="fast")
    sums = [present(gather(f, with_angles).together) for f in (frames, other)]
    assert (sums[0].moment_bsk == sums[1].moment_bsk).all()
    assert sums[0].number_bs[:, 0].sum() == 21 * (3 * 6 - 4)
    # net forces and torques of molecules, here atoms: of the two that were fixed only what is known
    assert sums[0].number_bs[:, 1].sum() == 21 * (6 * 6 - 4)


def test_the_net_force_is_not_known(frames: Trajectory) -> None:
    told = inspect(frames).to_dict()
    assert told["net_force_eV_per_A"] is None and told["force_noise_eV_per_A"] is None
    assert told["warnings"] == []
    assert inspect(replace(frames, fixed=None)).to_dict()["net_force_eV_per_A"] > 0
