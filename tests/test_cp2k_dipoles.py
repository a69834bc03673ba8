"""Dipoles that CP2K prints: formats of FIST, xTB and DFT, in the log and in files, as one path."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import present
from cp2k_output import unpacked

from mld_ff.sources.cp2k import open_cp2k
from mld_ff.trajectory import Floats

DEBYE = 0.2081943
"""[e Å]"""
FIST = """\
 MM_DIPOLE| Dipole type                                   periodic (Berry phase)
 MM_DIPOLE| Moment [a.u.]          -3.22032478      -3.60098993      -2.09692875
 MM_DIPOLE| Moment [Debye]    {:16.8f}{:16.8f}{:16.8f}
 MM_DIPOLE| Derivative [a.u.]      -0.00304103       0.00034271      -0.00392861
"""
FIST_7 = " MM DIPOLE [BERRY PHASE](Debye)|{:16.8f}{:16.8f}{:16.8f}\n"
XTB = """\

 TB_DIPOLE| Dipole type                                   periodic (Berry phase)
 TB_DIPOLE| Reference Point [Boh      0.00000000      0.00000000      0.00000000
 TB_DIPOLE| Moment [a.u.]           3.09770154      -3.25652362      -0.00001059
 TB_DIPOLE| Moment [Debye]    {:16.8f}{:16.8f}{:16.8f}
"""
DFT = """\
  Reference Point [Bohr]              0.00000000      0.00000000      0.00000000
  Charges
    Electronic=      8.00000000    Core=    -8.00000000    Total=    -0.00000000
  Dipole vectors are based on the periodic (Berry phase) operator.
  They are defined modulo integer multiples of the cell matrix [Debye].
  [X] [   24.01602136     0.00000000     0.00000000 ] [i]
  [Y]=[    0.00000000    24.01602136     0.00000000 ]*[j]
  [Z] [    0.00000000     0.00000000    24.01602136 ] [k]
  Dipole moment [Debye]
    X={:16.8E} Y={:16.8E} Z={:16.8E}   Total=     2.71400074
  Quadrupole moment [Debye*Angstrom]
    XX=  0.16856313E+01 XY=  0.21270748E+01 XZ= -0.87880482E-11
"""
HEAD = """\
 **** **** ******  **  PROGRAM STARTED AT               2026-11-29 18:57:30.122
 GLOBAL| Project name                                                      argon
 GLOBAL| Run type                                                             MD
"""
ENERGY = " ENERGY| Total FORCE_EVAL ( QS ) energy [a.u.]:                -42.000000000000001\n"
BEGIN, STEP = " MD_INI| MD initialization\n", " MD| Step number{:>62}\n"


@pytest.fixture
def argon(tmp_path: Path) -> Path:
    """A run of CP2K, whose files are given dipoles."""
    return unpacked("argon", tmp_path)


def planted(argon: Path) -> tuple[list[int], Floats, Floats]:
    """The steps of the frames, a path of the dipole [D] that leaves the cell, and how Berry's phase
    has it, modulo half of the cell."""
    source = open_cp2k(argon)
    frames = source.read()
    time = np.arange(frames.n_frames)
    half = frames.cell[0] / 2 / DEBYE
    path = np.outer(time / len(time), [1.7, -0.6, 0.3]) @ half + np.sin(time)[:, None]
    folded = path - np.round(path @ np.linalg.inv(half)) @ half
    assert np.abs(folded - path).max() > 1
    return frames.step.tolist(), path, folded


@pytest.mark.parametrize("form", [FIST, FIST_7, XTB, DFT])
def test_in_the_log(argon: Path, form: str) -> None:
    """It stands before the energy of its calculation, the first before dynamics begin."""
    steps, path, folded = planted(argon)
    parts = [HEAD]
    for step, dipole in zip(steps, folded.tolist(), strict=True):
        after = BEGIN if step == 0 else STEP.format(step)
        parts.append(form.format(*dipole) + ENERGY + after)
    (argon / "argon.log").write_text("".join(parts))
    printed = present(open_cp2k(argon).printed_dipole)
    assert printed.dipole - printed.dipole[0] == pytest.approx(DEBYE * (path - path[0]), abs=1e-5)
    assert printed.time == pytest.approx(open_cp2k(argon).read().time)


@pytest.mark.parametrize("form", [FIST, XTB, DFT])
def test_in_one_file_that_is_written_on(argon: Path, form: str) -> None:
    steps, path, folded = planted(argon)
    file = argon / "moments.dat"
    file.write_text("".join(form.format(*dipole) for dipole in folded.tolist()))
    printed = present(open_cp2k(argon).printed_dipole)
    assert printed.dipole - printed.dipole[0] == pytest.approx(DEBYE * (path - path[0]), abs=1e-5)
    file.write_text(file.read_text() + form.format(0, 0, 0))
    source = open_cp2k(argon)
    assert source.printed_dipole is None
    assert source.notes[-1] == (
        f"moments.dat: left out, {len(steps) + 1} dipoles do not tell of which of the {len(steps)}"
        " frames they are."
    )


def test_in_a_file_of_every_step(argon: Path) -> None:
    steps, path, folded = planted(argon)
    for step, dipole in zip(steps, folded.tolist(), strict=True):
        (argon / f"argon-tb_dipole-1_{step}.data").write_text(XTB.format(*dipole))
    printed = present(open_cp2k(argon).printed_dipole)
    assert printed.dipole - printed.dipole[0] == pytest.approx(DEBYE * (path - path[0]), abs=1e-5)


def test_where_none_is_printed(argon: Path) -> None:
    source = open_cp2k(argon)
    assert source.printed_dipole is None and source.read().printed_dipole is None
