"""Vibrational density of states: the power spectrum of velocities, species by species."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import numpy as np
import tidynamics
from scipy.integrate import trapezoid

from mld_ff.geometry.pairs import minimum_image
from mld_ff.geometry.topology import Path, find_topology
from mld_ff.report.statistics import N_BLOCKS, Statistic, block_error, evenly_spaced, spread
from mld_ff.trajectory import Floats, Trajectory
from mld_ff.units import AMU_A2_PER_FS2_TO_EV, CM_TO_FS, FS_TO_PS, KB_EV_PER_K

LONGEST_LAG_FS = 1000.0
"""Correlations are followed so far at most; the width of a line is the inverse of it, 33 cm⁻¹."""
LAG_OF_BLOCK = 0.75
"""... and for at most this fraction of a block."""
COARSEST_PER_CM = 100.0
"""A line wider than this tells nothing about liquids: such runs are too short."""
FEWEST_STEPS = 6
"""That correlations are followed for, and that currents of a block then have."""
MARGIN = 1.3
"""Frames must resolve vibrations this much faster than `bond_wavenumbers` of the stiffest bond:
bands are wide.
"""
STRETCH_FROM = 0.75
"""The stretch of the stiffest bonds begins at this fraction of their wavenumber; the bend of water
lies at a half.
"""
FRAMES_FOR_VARIANCE = 500
RIGID_A = 1e-3
"""A bond that varies by less is held by a constraint and vibrates not at all."""


@dataclass(frozen=True)
class Spectrum:
    """Density of states of every species; its integral over wavenumbers is 1 [1 / cm⁻¹]."""

    per_cm: Floats
    """Wavenumbers (W,) [cm⁻¹]."""
    density: dict[str, Floats]
    error: dict[str, Floats]
    """Standard error from blocks, (W,) each."""
    numbers: dict[str, Statistic]
    """Mean wavenumber of every species, and that of its stretch."""
    width_per_cm: float
    """Of a line [cm⁻¹]."""


def spectra(
    frames: Mapping[str, Trajectory],
    temperature_K: float,
    remedies: Mapping[str, Callable[[float], str]],
) -> tuple[dict[str, Spectrum], list[str]]:
    """Spectra by label, of all trajectories or of none, and what stands against them, a sentence
    each.

    remedies: what to do for a trajectory with velocities at a stride [fs].
    """
    resolution, against = common_resolution(frames, temperature_K, remedies, velocities=True)
    if resolution is None:
        return {}, [f"The density of states is left out: {text}" for text in against]
    bonds = bond_wavenumbers(next(iter(frames.values())), temperature_K)
    stretch_from = STRETCH_FROM * max(bonds.values(), default=math.inf)
    stiff = {
        species for path, per_cm in bonds.items() if per_cm >= stretch_from for species in path
    }
    lag_fs, per_cm = resolution.lag_fs, resolution.per_cm
    return {
        label: power_spectrum(t[:: resolution.every[label]], lag_fs, per_cm, stiff, stretch_from)
        for label, t in frames.items()
    }, []


@dataclass(frozen=True)
class Resolution:
    """At which all trajectories are looked at."""

    every: dict[str, int]
    """Which frames of each are taken, so that all have about the stride of the coarsest."""
    lag_fs: float
    """The longest that correlations are followed for."""
    per_cm: Floats
    """Wavenumbers (W,) [cm⁻¹]."""


def common_resolution(
    frames: Mapping[str, Trajectory],
    temperature_K: float,
    remedies: Mapping[str, Callable[[float], str]],
    velocities: bool,
) -> tuple[Resolution | None, list[str]]:
    """The resolution that all trajectories have, with the stride of the coarsest as nearly as whole
    numbers allow; or None, and what stands against it, a sentence each.

    velocities: whether they are needed.
    """
    stride_fs = min(longest_stride(t, temperature_K) for t in frames.values())
    against = []
    for label, t in frames.items():
        if velocities and t.velocities is None:
            against.append(f"{label} holds no velocities. {remedies[label](stride_fs)}")
        elif why := _obstacle(t):
            against.append(f"{label} {why}.")
        elif stride_of(t) > stride_fs:
            against.append(
                f"{label} has a frame every {stride_of(t):g} fs, which resolves"
                f" {CM_TO_FS / (2 * stride_of(t)):.0f} cm⁻¹; bonds vibrate up to"
                f" {CM_TO_FS / (2 * stride_fs):.0f} cm⁻¹, and what is not resolved appears where"
                " nothing is. " + remedies[label](stride_fs)
            )
    if against:
        return None, against
    coarsest = max(stride_of(t) for t in frames.values())
    every = {label: int(coarsest / stride_of(t) + 1e-6) for label, t in frames.items()}
    lag_fs = min(_longest_lag(t[:: every[label]]) for label, t in frames.items())
    if lag_fs < FEWEST_STEPS * coarsest:
        return None, [
            f"frames {coarsest:g} fs apart are too coarse to follow correlations, which vanish"
            f" within {lag_fs:g} fs here."
        ]
    end = CM_TO_FS / (2 * stride_fs) if math.isfinite(stride_fs) else CM_TO_FS / (2 * coarsest)
    wavenumbers = np.linspace(0, end, math.ceil(4 * end * lag_fs / CM_TO_FS) + 1)
    return Resolution(every, lag_fs, wavenumbers), []


def _obstacle(frames: Trajectory) -> str | None:
    if not evenly_spaced(frames):
        return "has frames that are not equally far apart in time"
    if CM_TO_FS / _longest_lag(frames) > COARSEST_PER_CM:
        needed = N_BLOCKS * CM_TO_FS / COARSEST_PER_CM / LAG_OF_BLOCK * FS_TO_PS
        length_ps = _duration(frames) * FS_TO_PS
        return (
            f"is {length_ps:.3g} ps long, and {needed:.1f} ps are needed for lines"
            f" {COARSEST_PER_CM:g} cm⁻¹ wide"
        )
    return None


def longest_stride(frames: Trajectory, temperature_K: float) -> float:
    """Time between frames [fs] that just resolves the stiffest bonds; infinite without bonds."""
    bonds = bond_wavenumbers(frames, temperature_K)
    return CM_TO_FS / (2 * MARGIN * max(bonds.values())) if bonds else math.inf


def bond_wavenumbers(frames: Trajectory, temperature_K: float) -> dict[Path, float]:
    """Roughly, at which wavenumber [cm⁻¹] the bonds between two elements vibrate.

    That of a harmonic bond of reduced mass μ whose length has this variance: ω² = kT / (μ σ²). It
    is rather too low, for σ holds what is slow as well.
    """
    some = spread(frames, FRAMES_FOR_VARIANCE)
    topology = find_topology(some.symbols, some.positions[0], some.cell[0])
    wavenumbers: dict[Path, float] = {}
    for path, pairs in topology.bonded.items():
        if len(path) != 2:
            continue
        r = np.array(
            [minimum_image(x, c, pairs).r for x, c in zip(some.positions, some.cell, strict=True)]
        )
        if (variance := float(r.var(axis=0).mean())) < RIGID_A**2:
            continue
        mass = frames.masses[pairs]
        reduced = float((mass.prod(axis=1) / mass.sum(axis=1)).mean()) * AMU_A2_PER_FS2_TO_EV
        omega = math.sqrt(KB_EV_PER_K * temperature_K / (reduced * variance))
        wavenumbers[path] = omega * CM_TO_FS / (2 * math.pi)
    return wavenumbers


def power_spectrum(
    frames: Trajectory,
    lag_fs: float,
    per_cm: Floats,
    stiff: Collection[str] = (),
    stretch_from: float = math.inf,
) -> Spectrum:
    """Density of states at some wavenumbers (W,) [cm⁻¹], from correlations up to a lag; errors from
    blocks.

    stiff: species whose stretch is looked for, from a wavenumber on.
    """
    whole = _densities(frames, lag_fs, per_cm)
    parts = [frames[p] for p in np.array_split(np.arange(frames.n_frames), N_BLOCKS)]
    blocks = [_densities(part, lag_fs, per_cm) for part in parts]
    numbers = {}
    for species in whole:
        for name, low in {
            "mean": 0.0,
            **({"stretch": stretch_from} if species in stiff else {}),
        }.items():
            value, *each = (centre_of(per_cm, of[species], low) for of in (whole, *blocks))
            numbers[f"spectrum:{species} {name}_per_cm"] = Statistic(
                value, float(block_error(each))
            )
    errors = {species: block_error([b[species] for b in blocks]) for species in whole}
    return Spectrum(per_cm, whole, errors, numbers, CM_TO_FS / lag_fs)


def _densities(frames: Trajectory, lag_fs: float, per_cm: Floats) -> dict[str, Floats]:
    """4 c ∫ C(t) / C(0) w(t) cos(2π c ν t) dt by species, where C is the mass-weighted velocity
    autocorrelation and w the window.
    """
    assert frames.velocities is not None
    transform = cosine_transform(stride_of(frames), lag_fs, per_cm)
    n = transform.shape[1]
    densities = {}
    for species in frames.species:
        mine = np.array([s == species for s in frames.symbols])
        weighted = frames.velocities[:, mine] * np.sqrt(frames.masses[mine])[:, None]
        correlation = tidynamics.acf(weighted.reshape(frames.n_frames, -1))[:n]
        densities[species] = 4 / CM_TO_FS * transform @ (correlation / correlation[0])
    return densities


def cosine_transform(stride_fs: float, lag_fs: float, per_cm: Floats) -> Floats:
    """Which matrix (W, L) takes a correlation C of L steps to ∫ C(t) w(t) cos(2π c ν t) dt [fs].

    The window w is a Hann window that ends at the lag.
    """
    n = round(lag_fs / stride_fs) + 1
    time = stride_fs * np.arange(n)
    weight = (1 + np.cos(np.pi * time / time[-1])) / 2
    weight[0] /= 2  # trapezoids
    return np.asarray(stride_fs * np.cos(2 * np.pi / CM_TO_FS * np.outer(per_cm, time)) * weight)


def centre_of(per_cm: Floats, density: Floats, low: float) -> float:
    """Mean wavenumber of a density from `low` on."""
    here = per_cm >= low
    return float(trapezoid(per_cm[here] * density[here]) / trapezoid(density[here]))


def _duration(frames: Trajectory) -> float:
    return float(frames.time[-1] - frames.time[0])


def stride_of(frames: Trajectory) -> float:
    """Mean time between frames [fs]."""
    return _duration(frames) / (frames.n_frames - 1)


def _longest_lag(frames: Trajectory) -> float:
    """[fs], a whole number of strides."""
    longest = min(LONGEST_LAG_FS, LAG_OF_BLOCK * _duration(frames) / N_BLOCKS)
    return max(math.floor(longest / stride_of(frames)), 1) * stride_of(frames)
