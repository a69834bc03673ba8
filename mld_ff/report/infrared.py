"""Infrared absorption: the power spectrum of the current, which is how a box's dipole changes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import tidynamics

from mld_ff.report.spectrum import centre_of, cosine_transform
from mld_ff.report.statistics import N_BLOCKS, Statistic, block_error
from mld_ff.trajectory import Floats
from mld_ff.units import CM_TO_FS, E2_PER_A_TO_EV, KB_EV_PER_K


@dataclass(frozen=True)
class Absorption:
    """Of light, at some wavenumbers."""

    per_cm: Floats
    """(W,) [cm⁻¹]."""
    coefficient: Floats
    """α n, absorption times refractive index, (W,) [cm⁻¹]."""
    error: Floats
    """Standard error from blocks, (W,)."""
    stretch: Statistic | None
    """Mean wavenumber of the stretching band, where there is one."""


def absorption(
    dipole: Floats,
    stride_fs: float,
    volume_A3: float,
    temperature_K: float,
    lag_fs: float,
    per_cm: Floats,
    stretch_from: float = math.inf,
) -> Absorption:
    """α(ν) n(ν) = 4π / (3 V kT c) ∫ ⟨J(0)·J(t)⟩ w(t) cos(2π c ν t) dt from t = 0 on, of the current
    J = dM/dt of a dipole M (F, 3) [e Å]; errors from blocks.

    w is a Hann window that ends at the lag. This is classical linear response; the same formula is
    that of the harmonic quantum correction, ħω / (kT (1 - exp(-ħω/kT))) times the classical line
    shape (R. Ramírez et al., J. Chem. Phys. 121, 3973 (2004)); no other factor is applied. J is
    the difference of successive frames, whose attenuation, (sin x / x)² with x = π c ν Δt, is given
    back. stretch_from: where the stretching band begins; infinite where there is none.
    """

    def spectrum(part: Floats) -> Floats:
        correlation = tidynamics.acf(np.diff(part, axis=0) / stride_fs)[: transform.shape[1]]
        return np.asarray(factor * (transform @ correlation))

    transform = cosine_transform(stride_fs, lag_fs, per_cm)
    kT = KB_EV_PER_K * temperature_K
    scale = 4 * math.pi * E2_PER_A_TO_EV * CM_TO_FS / (3 * volume_A3 * kT)
    factor = scale / np.sinc(stride_fs * per_cm / CM_TO_FS) ** 2
    whole, blocks = spectrum(dipole), [spectrum(b) for b in np.array_split(dipole, N_BLOCKS)]
    stretch = None
    if stretch_from < per_cm[-1]:
        value, *each = (centre_of(per_cm, of, stretch_from) for of in (whole, *blocks))
        stretch = Statistic(value, float(block_error(each)))
    return Absorption(per_cm, whole, block_error(blocks), stretch)
