"""CP2K's log as a source: the cell where no other file has it, forces, what did not converge."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ase.geometry import cell_to_cellpar
from conftest import present
from cp2k_output import BOHR_A, HARTREE_EV, edit, message, unpacked
from hypothesis import given, settings
from hypothesis import strategies as st

from mld_ff.sources.cp2k import open_cp2k, read_cp2k
from mld_ff.sources.cp2k.read.log import read_log

FORCE = HARTREE_EV / BOHR_A


@pytest.fixture
def run(tmp_path: Path) -> Callable[[str], Path]:
    """Copy a run of tests/data/cp2k to where it may be changed; large files are unpacked."""
    return lambda name: unpacked(name, tmp_path)


# --- logs of other releases -----------------------------------------------------------------------

HEAD = """\
 **** **** ******  **  PROGRAM STARTED AT               2022-08-29 17:34:39.428
 CP2K| version string:                                          CP2K version {version}
 GLOBAL| Project name                                                       melt
 GLOBAL| Run type                                                             MD
"""
CELL_5 = """
 CELL_TOP| Vector a [angstrom     9.000     0.000     0.000    |a| =       9.000
 CELL| Volume [angstrom^3]:                                             1034.213
 CELL| Vector a [angstrom]:       9.770     0.000     0.000    |a| =       9.770
 CELL| Vector b [angstrom]:      -4.885     8.461     0.000    |b| =       9.770
 CELL| Vector c [angstrom]:       0.000     0.000    12.511    |c| =      12.511
 CELL| Angle (b,c), alpha [degree]:                                       90.000
 CELL| Angle (a,c), beta  [degree]:                                       90.000
 CELL| Angle (a,b), gamma [degree]:                                      120.000
"""
MD_7 = """
 MD| Ensemble Type                                                         NPT_I
 MD| Time Step [fs]                                                         0.50
 MD| Temperature [K]                                                     1100.00
  *** SCF run converged in     9 steps ***
 ENERGY| Total FORCE_EVAL ( QS ) energy (a.u.):              -42.000000000000001

 MD_ENERGIES| Initialization proceeding

 ******************************** GO CP2K GO! **********************************
 INITIAL CELL LNTHS[bohr]   =      0.1846262E+02   0.1846262E+02   0.2364236E+02
 INITIAL CELL ANGLS[deg]    =      0.9000000E+02   0.9000000E+02   0.1200000E+03
 ******************************** GO CP2K GO! **********************************
 *** WARNING in qs_scf.F:542 :: SCF run NOT converged ***

 ENERGY| Total FORCE_EVAL ( QS ) energy (a.u.):              -42.100000000000001
 *******************************************************************************
 ENSEMBLE TYPE                =                                            NPT_I
 STEP NUMBER                  =                                                1
 TIME [fs]                    =                                         0.500000
 TEMPERATURE [K]              =                    1093.219             1093.219
 CELL LNTHS[bohr]             =    0.1865000E+02   0.1865000E+02   0.2388230E+02
 AVE. CELL LNTHS[bohr]        =    0.1800000E+02   0.1800000E+02   0.2300000E+02
 *******************************************************************************
"""


def test_log_of_release_7(tmp_path: Path) -> None:
    (tmp_path / "slurm-1.txt").write_text(HEAD.format(version="7.1") + CELL_5 + MD_7)
    log = read_log(tmp_path / "slurm-1.txt")
    assert (log.version, log.project, log.run_type, log.ensemble) == ("7.1", "melt", "MD", "NPT_I")
    assert (log.timestep, log.temperature, log.is_turned) == (0.5, 1100, False)
    first, second = log.calculations
    assert [first.step, second.step] == [0, 1]
    assert (first.converged, second.converged) == (True, False)
    assert log.cell is not None and first.cell is not None and second.cell is not None
    assert log.cell[0] == pytest.approx([9.77, 0, 0], abs=1e-6)
    assert log.cell[1] == pytest.approx([-9.77 / 2, 9.77 * 0.75**0.5, 0], abs=1e-6)
    assert np.linalg.norm(second.cell, axis=1) == pytest.approx(
        np.array([18.65, 18.65, 23.8823]) * BOHR_A
    )


def test_log_without_vectors_of_the_cell(tmp_path: Path) -> None:
    """PRINT_LEVEL LOW: lengths and angles of dynamics only, which tell of a box how it lies."""
    at = MD_7.replace("0.1200000E+03", "0.9000000E+02")
    (tmp_path / "out").write_text(HEAD.format(version="7.1") + at)
    log = read_log(tmp_path / "out")
    cells = [log.cell, *(calculation.cell for calculation in log.calculations)]
    lengths = [[18.46262, 18.46262, 23.64236]] * 2 + [[18.65, 18.65, 23.8823]]
    for cell, expected in zip(cells, lengths, strict=True):
        assert present(cell) == pytest.approx(np.diag(expected) * BOHR_A)
    (tmp_path / "out").write_text(HEAD.format(version="7.1") + MD_7)
    assert read_log(tmp_path / "out").cell is None


@pytest.mark.parametrize(
    ("table", "places"),
    [
        (
            " ATOMIC FORCES in [a.u.]\n\n # Atom   Kind   Element          X              Y        "
            "      Z\n      1      1      O          -0.00253224    -0.01729949     0.00469761\n"
            "      2      2      H           0.01501156     0.02704968    -0.00724165\n"
            " SUM OF ATOMIC FORCES           0.00020675     0.00297920    -0.00161525     0.0033\n",
            8,
        ),
        (
            " FORCES| Atomic forces [hartree/bohr]\n"
            " FORCES|   Atom     x               y               z               |f|\n"
            " FORCES|      1 -2.53224000E-03 -1.72994900E-02  4.69761000E-03   1.81036012E-02\n"
            " FORCES|      2  1.50115600E-02  2.70496800E-02 -7.24165000E-03   3.17726281E-02\n"
            " FORCES| Sum     1.24793200E-02  9.75019000E-03 -2.54404000E-03   1.60395111E-02\n",
            8,
        ),
    ],
)
def test_forces_in_logs_old_and_new(tmp_path: Path, table: str, places: int) -> None:
    energy = " ENERGY| Total FORCE_EVAL ( QS ) energy [hartree]             -17.5\n\n"
    steps = "".join(f"{energy}{table}\n MD| Step number    {n:6d}\n" for n in (1, 2))
    start = f"{energy}{table} MD_INI| MD initialization\n"
    (tmp_path / "out").write_text(HEAD.format(version="2025.1") + CELL_5 + start + steps)
    frame = "2\n i = {0}, time = {0}.0, E = -17.5\nO 0 0 0\nH 0 0 1.{0}\n"
    (tmp_path / "melt-pos-1.xyz").write_text("".join(frame.format(n) for n in range(3)))
    frames = read_cp2k(tmp_path)
    assert frames.step.tolist() == [0, 1, 2]
    assert frames.forces is not None
    expected = np.array(
        [[-0.00253224, -0.01729949, 0.00469761], [0.01501156, 0.02704968, -0.00724165]]
    )
    for forces in frames.forces:
        assert forces == pytest.approx(expected * FORCE, rel=1e-6)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_a_spoilt_log_never_gives_a_traceback(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    text = bytearray((HEAD.format(version="7.1") + CELL_5 + MD_7).encode())
    for _ in range(data.draw(st.integers(1, 30))):
        at = data.draw(st.integers(0, len(text) - 1))
        text[at] = data.draw(st.sampled_from(b"0*-. E9\n[n"))
    file = tmp_path_factory.mktemp("spoilt") / "output"
    file.write_bytes(bytes(text))
    assert len(read_log(file).calculations) <= 2


# --- a run whose log is all there is beside the frames --------------------------------------------


def test_cell_of_every_step_is_that_of_the_cell_file(run: Callable[[str], Path]) -> None:
    directory = run("npti")
    by_file = read_cp2k(directory)
    (directory / "npti-1.cell").unlink()
    source = open_cp2k(directory)
    assert "The cell of every step was taken from output." in source.notes
    by_log = source.read()
    assert by_log.cell == pytest.approx(by_file.cell, rel=2e-8, abs=1e-7)
    assert by_log.cell[-1, 1, 0] != by_log.cell[0, 1, 0]
    origin = source.origin
    assert (origin.version, origin.ensemble, origin.timestep_fs) == ("2023.1", "NPT_I", 2)


def test_forces_that_only_the_log_has(run: Callable[[str], Path]) -> None:
    """The file has every other step, in eV/Å, which no input says; the log has them in a.u."""
    directory = run("npti")
    source = open_cp2k(directory)
    assert source.notes[-1] == (
        "No file says the unit of forces; by output it is eV*angstrom^-1, not CP2K's default,"
        " hartree*bohr^-1. Put the input beside them to be sure."
    )
    by_file = source.read().forces
    (directory / "npti-frc-1.xyz").unlink()
    source = open_cp2k(directory)
    assert "Forces were taken from the tables in output." in source.notes
    forces = source.read()[::2].forces
    assert by_file is not None and forces is not None
    assert forces == pytest.approx(by_file, abs=1e-8 * FORCE)


# Of a run of NPT_F by CP2K 7.1: the .cell file has ten decimals, the log lengths and angles.
NPT_F = np.array(
    [
        [[10.8816, 0, 0], [0, 11.7514, 0], [-1.15989082, 0, 13.07103802]],
        [
            [10.8741956665, -0.0023156293, -0.0031094830],
            [-0.0025007800, 11.7518359120, -0.0053422777],
            [-1.1628366788, -0.0056952212, 13.0673100682],
        ],
    ]
)


@pytest.mark.parametrize("strain", [1, 300])
def test_a_cell_whose_shape_changes_lies_as_the_barostat_strained_it(
    tmp_path: Path, strain: int
) -> None:
    start, end = NPT_F[0], NPT_F[0] + strain * (NPT_F[1] - NPT_F[0])
    rows = "".join(
        f" CELL| Vector {v} [angstrom]: {r[0]:9.3f} {r[1]:9.3f} {r[2]:9.3f}   |{v}| ="
        f" {np.linalg.norm(r):12.6f}\n"
        for v, r in zip("abc", start, strict=True)
    )
    lengths, angles = (cell_to_cellpar(end)[k] for k in (slice(3), slice(3, 6)))
    rows += "".join(
        f" CELL| Angle ({a},{b}), {name} [degree]: {angle:12.6f}\n"
        for (a, b, name), angle in zip(
            (("b", "c", "alpha"), ("a", "c", "beta"), ("a", "b", "gamma")),
            cell_to_cellpar(start)[3:],
            strict=True,
        )
    )
    energy = " ENERGY| Total FORCE_EVAL ( QS ) energy [a.u.]:    -17.5\n"
    step = f"{energy} MD| Step number          1\n MD| Cell lengths [ang]"
    step += "".join(f" {x:15.8E}" for x in lengths) + "\n MD| Cell angles [deg]"
    step += "".join(f" {x:15.8E}" for x in angles) + "\n"
    head = HEAD.format(version="2023.1") + " MD_PAR| Ensemble type     NPT_F\n"
    initial = step.split("\n", 2)[2].replace(" MD|", " MD_INI|")
    for new, old in zip((*cell_to_cellpar(start),), (*lengths, *angles), strict=True):
        initial = initial.replace(f"{old:15.8E}", f"{new:15.8E}")
    text = f"{head}{rows}{energy} MD_INI| MD initialization\n{step}"
    (tmp_path / "output").write_text(text)
    frame = "2\n i = {0}, time = {0}.0, E = -17.5\nO 0 0 0\nH 0 0 1.{0}\n"
    (tmp_path / "melt-pos-1.xyz").write_text("".join(frame.format(n) for n in range(2)))
    if strain == 1:
        cells = read_cp2k(tmp_path, require_forces=False).cell
        assert cells == pytest.approx(np.array([start, end]), abs=2e-6)
        # PRINT_LEVEL LOW: no CELL| lines, but the input has the first cell
        low = text.replace(rows, "").replace(
            " MD_INI| MD initialization\n", f" MD_INI| MD initialization\n{initial}"
        )
        (tmp_path / "output").write_text(low)
        lines = "".join(f"{v} {r[0]} {r[1]} {r[2]}\n" for v, r in zip("ABC", start, strict=True))
        (tmp_path / "melt.inp").write_text(
            "&GLOBAL\nPROJECT melt\nRUN_TYPE MD\n&END\n&MOTION\n&MD\nENSEMBLE NPT_F\n&END\n&END\n"
            f"&FORCE_EVAL\n&SUBSYS\n&CELL\n{lines}&END\n&END\n&END\n"
        )
        cells = read_cp2k(tmp_path, require_forces=False).cell
        assert cells == pytest.approx(np.array([start, end]), abs=2e-6)
    else:
        assert (
            message(tmp_path, require_forces=False)
            == f"{tmp_path}: the cell changes in this run (ENSEMBLE NPT_F), and there is no"
            " PROJ-1.cell; output has its lengths and angles only, which do not tell how it lies"
            " after so large a change; CP2K prints it with &MOTION / &PRINT / &CELL, as often as"
            " &TRAJECTORY (or name the file with --file cells=FILE)"
        )


def test_fixed_cell_comes_from_the_log(run: Callable[[str], Path]) -> None:
    directory = run("argon")
    (directory / "argon.inp").unlink()
    (directory / "job.err").write_text("nothing\n")
    (directory / "job.o123").write_text(
        "module loaded\n" + HEAD.format(version="2026.1").replace("melt", "argon") + CELL_5
    )
    source = open_cp2k(directory)
    assert "The cell was taken from job.o123." in source.notes
    assert source.read().cell[3, 2].tolist() == pytest.approx([0, 0, 12.511])
    assert source.origin.version == "2026.1"
    edit(directory / "job.o123", "  argon\n", "  neon\n")
    assert "(read: none of them is there)" in message(directory)


def test_frames_whose_field_did_not_converge_are_left_out(run: Callable[[str], Path]) -> None:
    directory = run("npti")
    frames = read_cp2k(directory)
    assert frames.step.tolist() == [0, 2, 4, 6]
    text = (directory / "output").read_text()
    at = text.index(" ENERGY|", text.index(" MD| Step number                                  "))
    failed = " *** WARNING in qs_scf.F:598 :: SCF run NOT converged ***\n"
    (directory / "output").write_text(text[:at] + failed + text[at:])
    source = open_cp2k(directory)
    assert source.read().step.tolist() == [0, 4, 6]
    assert source.origin.frames_dropped["SCF not converged"] == 1
    assert (
        "1 frame dropped whose self-consistent field did not converge, by CP2K's log."
        in source.notes
    )
    (directory / "output").write_text(text.replace(" ENERGY|", failed + " ENERGY|"))
    assert "the self-consistent field converged in none of the frames" in message(directory)


def test_logs_of_other_runs_are_not_used(run: Callable[[str], Path]) -> None:
    """Of another kind of run of the same project, or with other energies."""
    directory = run("npti")
    text = (directory / "output").read_text()
    before = open_cp2k(directory)
    assert "output" in before.origin.files
    optimization = text.replace(
        "Run type                                                             MD",
        "Run type GEO_OPT",
    )
    (directory / "relax.out").write_text(optimization)
    (directory / "argon.inp").write_text("&GLOBAL\nPROJECT npti\nRUN_TYPE MD\n&END")
    (directory / "older").write_text(re.sub(r"(energy \[a\.u\.\]:\s+-?)0\.", r"\g<1>1.", text))
    source = open_cp2k(directory)
    assert "relax.out: not used, it is of RUN_TYPE GEO_OPT, not MD." in source.notes
    assert "older: not used, its energies are not those of the frames." in source.notes
    assert [name for name in source.origin.files if "." not in name] == ["output"]


# --- stress ---------------------------------------------------------------------------------------


def test_stress_of_the_log_and_of_the_file_are_the_same(run: Callable[[str], Path]) -> None:
    """The file holds the motion of the atoms as well, the log's tables do not."""
    directory = run("strs")
    source = open_cp2k(directory, require_forces=False)
    by_log = present(source.read().stress)
    bar = 1e5 * 1e-30 / 1.602176634e-19
    # of the log's first table, in GPa
    assert by_log[0, 0, 0] == pytest.approx(1.91227273274e-3 * 1e4 * bar, rel=1e-6)
    (directory / "strs.log").unlink()
    by_file = present(read_cp2k(directory, require_forces=False).stress)
    assert by_file == pytest.approx(by_log, rel=1e-5, abs=1e-10)
    table = directory / "strs-1.stress"
    whole = table.read_text()
    zeros = " 0.0" * 9
    table.write_text("".join(f"{row[:20]}{zeros}\n" for row in whole.splitlines()[1:]))
    assert open_cp2k(directory, require_forces=False).notes[-1] == (
        "strs-1.stress: left out, it holds nothing but zeros. CP2K computes the stress if"
        " &FORCE_EVAL has STRESS_TENSOR ANALYTICAL; of given frames (ENSEMBLE REFTRAJ) only the"
        " log has it, with &FORCE_EVAL / &PRINT / &STRESS_TENSOR."
    )
    table.write_text(whole)
    (directory / "strs-vel-1.xyz").unlink()
    without = open_cp2k(directory, require_forces=False)
    assert without.read().stress is None
    assert (
        "strs-1.stress: left out, for the motion of the atoms is part of the stress in it, and"
        " there are no velocities of every frame to take that out."
    ) in without.notes
