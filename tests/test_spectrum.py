"""Densities of states: planted frequencies are found, and what would be wrong is refused."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from conftest import frame_of
from scipy.integrate import trapezoid

from mld_ff.report.spectrum import bond_wavenumbers, power_spectrum, spectra
from mld_ff.trajectory import Trajectory


def oscillators(stride_fs: float, frames: int, per_cm: dict[str, tuple[float, ...]]) -> Trajectory:
    """Atoms far from each other that vibrate about their places, every species at wavenumbers of
    equal weight.
    """
    rng = np.random.default_rng(0)
    symbols = [s for s in per_cm for _ in range(30)]
    c = 2.99792458e-5  # cm/fs
    omega = 2 * np.pi * c * np.array([rng.permutation(np.resize(per_cm[s], 3)) for s in symbols])
    phase = rng.uniform(0, 2 * np.pi, omega.shape)
    time = (stride_fs * np.arange(frames)).astype(np.float64)
    grid = np.stack(np.meshgrid(*[np.arange(5) * 10.0] * 3), -1).reshape(-1, 3)[: len(symbols)]
    velocities = 0.01 * np.sin(omega * time[:, None, None] + phase)
    positions = grid - 0.01 / omega * np.cos(omega * time[:, None, None] + phase)
    first = frame_of(symbols, positions[0], 50 * np.eye(3))
    cell = np.repeat(first.cell, frames, axis=0)
    return replace(
        first,
        positions=positions,
        velocities=velocities,
        cell=cell,
        time=time,
        step=np.arange(frames),
    )


def say(stride_fs: float) -> str:
    return f"Every {stride_fs:.1f} fs."


def test_spectrum_has_the_frequencies_of_the_motion_and_integral_one() -> None:
    frames = oscillators(3.0, 2500, {"Na": (400.0, 1500.0, 3500.0), "Cl": (900.0,)})
    per_cm = np.linspace(0, 5559, 2000)
    of_species = power_spectrum(frames, 1000.0, per_cm)
    for species, planted in {"Na": (400, 1500, 3500), "Cl": (900,)}.items():
        density = of_species.density[species]
        assert trapezoid(density, per_cm) == pytest.approx(1, abs=0.01)
        for centre in planted:
            here = np.abs(per_cm - centre) < 60
            assert trapezoid(density[here], per_cm[here]) == pytest.approx(
                1 / len(planted), abs=0.03
            )
            assert per_cm[here][np.argmax(density[here])] == pytest.approx(centre, abs=5)
    assert of_species.numbers["spectrum:Na mean_per_cm"].value == pytest.approx(1800, rel=0.01)
    assert of_species.numbers["spectrum:Cl mean_per_cm"].value == pytest.approx(900, rel=0.01)


def test_bonds_vibrate_as_their_lengths_scatter() -> None:
    """ω² = k / μ, and σ² = kT / k: 300 K, N₂ with 100 eV/Å²."""
    rng = np.random.default_rng(0)
    k, kT, mass = 100.0, 300 * 8.617333e-5, 14.007
    r = 1.1 + np.sqrt(kT / k) * rng.normal(size=(400, 64))
    place = 4.0 * np.stack(np.meshgrid(*[np.arange(4)] * 3), -1).reshape(-1, 3)
    positions = np.repeat(np.repeat(place, 2, axis=0)[None], 400, axis=0)
    positions[:, 1::2, 0] += r
    first = frame_of(["N"] * 128, positions[0], 16 * np.eye(3))
    frames = replace(first, positions=positions, cell=np.repeat(first.cell, 400, axis=0))
    omega = np.sqrt(k / (mass / 2 * 103.642697))  # 1/fs
    assert bond_wavenumbers(frames, 300.0)["N", "N"] == pytest.approx(
        omega / (2 * np.pi * 2.99792458e-5), rel=0.01
    )


def test_spectra_of_either_stride_are_the_same() -> None:
    fine, coarse = (oscillators(s, int(9000 / s), {"Na": (300.0, 700.0)}) for s in (2.0, 4.0))
    by_engine, against = spectra(
        {"reference": coarse, "lammps": fine}, 300.0, {"reference": say, "lammps": say}
    )
    assert against == []
    assert np.array_equal(by_engine["reference"].per_cm, by_engine["lammps"].per_cm)
    assert by_engine["reference"].density["Na"] == pytest.approx(
        by_engine["lammps"].density["Na"], abs=1e-5
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda t: t,
            (
                r"has a frame every 10 fs, which resolves 1668 cm⁻¹; bonds vibrate up to 4\d\d\d"
                r" cm⁻¹.*Every 3.8"
            ),
        ),
        (lambda t: replace(t, velocities=None), r"holds no velocities. Every 3.8 fs."),
        (
            lambda t: t[np.delete(np.arange(t.n_frames), 300)],
            r"has frames that are not equally far apart in time",
        ),
        (lambda t: t[:200], r"is 1.99 ps long, and 2.2 ps are needed for lines 100 cm⁻¹ wide"),
    ],
)
def test_spectrum_that_would_be_wrong_is_refused(
    change: Callable[[Trajectory], Trajectory], said: str, water: Trajectory
) -> None:
    frames = change(water)
    by_engine, against = spectra(
        {"reference": frames, "lammps": frames}, 300.0, {"reference": say, "lammps": say}
    )
    assert by_engine == {} and len(against) == 2
    assert re.search(r"^The density of states is left out: reference " + said, against[0])
