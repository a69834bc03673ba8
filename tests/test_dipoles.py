"""Dipoles, dielectric constants and infrared spectra: planted ones are found, and what a run is too
short for is not told."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import CUBE, frame_of, liquid, topology_of
from scipy.integrate import trapezoid
from scipy.signal import lfilter

from mld_ff.engines.settings import MD
from mld_ff.errors import InputError
from mld_ff.report.comparison import Comparison
from mld_ff.report.dipoles import box_dipole, charges_of_atoms, dielectric, molecular_dipoles
from mld_ff.report.electrostatics import compare_electrostatics
from mld_ff.report.infrared import absorption
from mld_ff.report.runs import LearnedRun
from mld_ff.report.style import PRINTED, REFERENCE
from mld_ff.trajectory import Floats, PrintedDipole, Trajectory

COULOMB = 14.399645
"""e² / (4π ε₀) [eV Å]."""
BOLTZMANN = 8.617333e-5
"""[eV/K]"""
LIGHT = 2.99792458e-5
"""[cm/fs]"""
WATER = {"O": -0.8, "H": 0.4}


def wandering(frames: int, memory: float, seed: int) -> Floats:
    """A dipole (F, 3) of variance 1 in each component that forgets itself in so many frames."""
    keep = math.exp(-1 / memory)
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(frames, 3)) * math.sqrt(1 - keep**2)
    noise[0] = rng.normal(size=3)
    return np.asarray(lfilter([1], [1, -keep], noise, axis=0))


def test_dielectric_constant_of_known_fluctuations() -> None:
    """... is within two of its errors as often as it should be, and without bias."""
    expected = 1 + 4 * math.pi * COULOMB * 3 / (3 * 1000 * BOLTZMANN * 300)
    found = [dielectric(wandering(3200, 20, seed), 50.0, 1000.0, 300.0) for seed in range(150)]
    told = [f.constant for f in found if f.is_told]
    assert len(told) > 130
    assert np.mean([c.value for c in told]) == pytest.approx(expected, rel=0.03)
    within = [abs(c.value - expected) < 2 * c.error for c in told]
    assert 0.87 < np.mean(within) < 1


def test_a_short_run_tells_no_dielectric_constant() -> None:
    """... whatever vibrations are in it; a few may seem to be longer than they are."""
    rng = np.random.default_rng(0)
    dipoles = [wandering(600, 200, seed) + rng.normal(size=(600, 3)) / 3 for seed in range(50)]
    found = [dielectric(dipole, 50.0, 1000.0, 300.0) for dipole in dipoles]
    assert np.mean([f.is_told for f in found]) < 0.1
    assert all(math.isnan(f.constant.error) != f.is_told for f in found)


def test_frames_that_know_nothing_of_each_other() -> None:
    found = dielectric(np.random.default_rng(0).normal(size=(3000, 3)), 1.0, 1000.0, 300.0)
    expected = 1 + 4 * math.pi * COULOMB * 3 / (3 * 1000 * BOLTZMANN * 300)
    assert found.constant.value == pytest.approx(expected, abs=3 * found.constant.error)
    assert found.constant.error < 0.03 * expected


def test_dipoles_do_not_jump_at_boundaries() -> None:
    """Wrapped atoms of molecules, and ions that cross the box, beside those that nothing wraps."""
    frame = liquid(["H2O"] * 5 + ["Na", "Cl"], CUBE, seed=1)
    moves = np.array([0.9 if s in ("Na", "Cl") else 0.0 for s in frame.symbols])
    moves *= np.where(np.array(frame.symbols) == "Cl", -1, 1)
    free = frame.positions[0] + np.arange(30)[:, None, None] * moves[:, None] * np.ones(3)
    cell = np.repeat(frame.cell, 30, axis=0)
    wrapped = free - np.floor(free @ np.linalg.inv(cell)) @ cell
    topology = topology_of(frame)
    charges = charges_of_atoms(WATER | {"Na": 1.0, "Cl": -1.0}, topology)
    frames = replace(frame, positions=wrapped, cell=cell, time=np.arange(30.0), step=np.arange(30))
    whole = topology.whole(frame.positions[0], frame.cell[0])
    expected = charges @ whole + (charges @ (free - free[0]))
    assert box_dipole(frames, topology, charges) == pytest.approx(expected)
    each = molecular_dipoles(frames, topology, charges)
    assert list(each) == ["H2O"] and each["H2O"].shape == (30, 5)
    assert each["H2O"][7] == pytest.approx(each["H2O"][0])


def test_charges_that_make_no_sense_are_refused() -> None:
    topology = topology_of(liquid(["H2O"] * 3, CUBE, seed=1))
    with pytest.raises(InputError, match="charges are given of O, none of H"):
        charges_of_atoms({"O": -0.8}, topology)
    with pytest.raises(InputError, match=r"with these charges the box has -0\.3 e"):
        charges_of_atoms({"O": -0.8, "H": 0.35}, topology)


@pytest.mark.parametrize("stride_fs", [1.0, 3.0])
def test_infrared_lines_of_known_oscillators(stride_fs: float) -> None:
    """Their places, and their areas: that of a current J is π ⟨J²⟩ / (3 V kT c²), in Gauss' units,
    whatever the stride."""
    time, per_cm = stride_fs * np.arange(round(9000 / stride_fs)), np.linspace(0, 5000, 3001)
    dipole = np.zeros((len(time), 3))
    for axis, (line, size) in enumerate({500.0: 0.3, 1650.0: 0.2, 3400.0: 0.1}.items()):
        dipole[:, axis] = size * np.cos(2 * np.pi * LIGHT * line * time + axis)
    found = absorption(dipole, stride_fs, 1000.0, 300.0, 1000.0, per_cm, 2500.0)
    for line, size in {500.0: 0.3, 1650.0: 0.2, 3400.0: 0.1}.items():
        here = np.abs(per_cm - line) < 150
        assert per_cm[here][np.argmax(found.coefficient[here])] == pytest.approx(line, abs=6)
        square = (size * 2 * np.pi * LIGHT * line) ** 2 / 2  # of the current [e² Å²/fs²]
        area = math.pi * COULOMB * square / (3 * 1000 * BOLTZMANN * 300 * LIGHT**2)
        got = trapezoid(found.coefficient[here], per_cm[here])
        assert got == pytest.approx(area, rel=0.03)
    assert found.stretch is not None
    assert found.stretch.value == pytest.approx(3400, abs=30)


def vibrating_water(n: int = 1500, stride_fs: float = 3.0) -> Trajectory:
    """Molecules in a box whose atoms vibrate about their places: hydrogens at 3,400 cm⁻¹."""
    frame = liquid(["H2O"] * 8, CUBE, seed=2)
    rng, time = np.random.default_rng(3), stride_fs * np.arange(n, dtype=np.float64)
    phase = rng.uniform(0, 2 * np.pi, frame.positions.shape[1:])
    size = np.where(np.array(frame.symbols) == "H", 0.036, 0.0)[:, None]
    x = frame.positions + size * np.sin(2 * np.pi * LIGHT * 3400 * time[:, None, None] + phase)
    cell = np.repeat(frame.cell, n, axis=0)
    return replace(frame, positions=x, cell=cell, time=time, step=np.arange(n))


def run_of(frames: Trajectory) -> LearnedRun:
    nothing = np.zeros(0)
    return LearnedRun(
        *("openmm", Path("run"), MD(), None, 0, None, np.arange(frames.n_atoms), frames),
        *(nothing, np.full(3, 300.0)),
    )


def compared(jump: float = 0.0) -> Comparison:
    """A trajectory beside itself, with its own dipole as the printed one."""
    water = vibrating_water()
    charges = charges_of_atoms(WATER, topology := topology_of(water))
    dipole = box_dipole(water, topology, charges)
    dipole[len(dipole) // 2 :] += jump
    printed = PrintedDipole(water.time, dipole)
    return compare_electrostatics(water, [run_of(water)], "molecules", WATER, printed, 300.0)


def test_what_the_report_says_of_dipoles() -> None:
    comparison = compared()
    assert set(comparison.drawings) == {"dipoles", "dielectric", "infrared"}
    here = comparison.statistics[REFERENCE]
    assert set(here) == {"dipole:H2O mean_D", "dielectric_constant", "infrared:stretch_per_cm"}
    assert here["dipole:H2O mean_D"].value == pytest.approx(2.26, abs=0.05)
    assert here["infrared:stretch_per_cm"].value == pytest.approx(3400, abs=30)
    of = comparison.series["infrared"]
    assert set(of) == {REFERENCE, "openmm", PRINTED}
    own, expected = (of[n]["infrared spectrum"][1] for n in (PRINTED, REFERENCE))
    assert own == pytest.approx(expected, rel=1e-6)


def test_a_printed_dipole_that_jumps_is_left_out() -> None:
    comparison = compared(jump=4.0)
    assert PRINTED not in comparison.series["infrared"]
    assert "print it with PERIODIC .FALSE." in comparison.notes[-1]


def test_a_salt_has_a_spectrum_and_no_dielectric_constant() -> None:
    rng = np.random.default_rng(0)
    symbols, n = ["Na", "Cl"] * 4, 900
    places = np.stack(np.meshgrid(*[[0.0, 5.0]] * 3), -1).reshape(-1, 3)
    omega = 2 * np.pi * LIGHT * 200
    phase = rng.uniform(0, 2 * np.pi, (8, 3))
    time = 4.0 * np.arange(n, dtype=np.float64)
    x = places + 0.1 * np.cos(omega * time[:, None, None] + phase)
    frame = frame_of(symbols, x[0], 10 * np.eye(3))
    frames = replace(
        frame, positions=x, cell=np.repeat(frame.cell, n, 0), time=time, step=np.arange(n)
    )
    charges = {"Na": 1.0, "Cl": -1.0}
    comparison = compare_electrostatics(frames, [run_of(frames)], "molecules", charges)
    assert comparison.statistics == {} and set(comparison.drawings) == {"infrared"}
    assert "what conducts has no finite one" in comparison.notes[0]
    per_cm, coefficient, _ = comparison.series["infrared"][REFERENCE]["infrared spectrum"]
    assert per_cm[np.argmax(coefficient)] == pytest.approx(200, abs=15)
    coarse = frames[::100]  # a block of them has one step
    few = compare_electrostatics(coarse, [run_of(frames)], "molecules", charges)
    assert few.drawings == {} and "frames 400 fs apart are too coarse" in few.notes[-1]
