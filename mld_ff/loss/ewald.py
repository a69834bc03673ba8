"""Coulomb's energy between periodic charges as Ewald sums it (Ann. Phys. 369, 253 (1921)): what is
near over pairs of atoms, what is far over waves, and what images of a slab do to each other.

Every two charges and all of their images feel erfc(α r)/r, which is near. What that leaves of 1/r
is smooth: waves of wave vectors k and strength 4π/(V k²) exp(-k²/4α²), both ways. Surroundings are
those of a conductor. Sums are of A sets of charges at once, as a fit asks for every two species.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.special import erfc

from mld_ff.trajectory import Floats

WIDTHS = 4.2
"""Both sums end where exp(-WIDTHS²) is left: α times the cutoff, and k/2α. Forces err by 1e-7 of
their size, energies by 1e-8 of what a charge has with its own waves."""
WIDTHS_OF_FEATURES = 3.3
"""What a fit needs: forces to 3e-5 of their size, in a quarter of the time."""
MOST_PHASES = 1 << 14
"""Of atoms times waves at once: arrays of 256 kB stay in the processor's cache, those of 1 MB take
twice as long."""


@dataclass(frozen=True)
class Waves:
    """M of all wave vectors, one of every k and -k, and the strengths of both together."""

    index: np.ndarray
    """(M, 3): in units of the reciprocal vectors."""
    k: Floats
    """(M, 3) [1/Å]."""
    strength: Floats
    """(M,) [1/Å]."""


@dataclass(frozen=True)
class Far:
    """What the waves of A sets of charges do at N atoms, the atom's own included."""

    potential: Floats
    """(N, A) [e/Å]."""
    gradient: Floats
    """(N, A, 3) [e/Å²]."""
    virial: Floats
    """Derivative by strain of half the energy of every set with every one, (A, A, 3, 3) [e²/Å]."""

    def __add__(self, other: Far) -> Far:
        return Far(
            self.potential + other.potential,
            self.gradient + other.gradient,
            self.virial + other.virial,
        )


def splitting(cutoff_A: float, widths: float = WIDTHS) -> float:
    """α [1/Å] with which what is near ends at a cutoff."""
    return widths / cutoff_A


def near(r: Floats, alpha: float) -> tuple[Floats, Floats]:
    """erfc(α r)/r of distances (P,) and its derivative [1/Å, 1/Å²]."""
    value = erfc(alpha * r) / r
    gauss = 2 * alpha / np.sqrt(np.pi) * np.exp(-((alpha * r) ** 2))
    return value, -(value + gauss) / r


def own(alpha: float) -> float:
    """What a unit charge's own waves do at its place [1/Å], which is no interaction."""
    return float(2 * alpha / np.sqrt(np.pi))


def far(
    positions: Floats, cell: Floats, charges: Floats, alpha: float, widths: float = WIDTHS
) -> Far:
    """The waves of charges (N, A) at positions (N, 3) [Å] in a cell (3, 3) [Å] of any shape.

    Their sum is taken without k = 0: a set with a net charge stands before an even background.
    """
    waves = waves_of(cell.tobytes(), alpha, widths)
    n, n_sets = charges.shape
    tables = _phases(positions @ np.linalg.inv(cell), np.abs(waves.index).max(axis=0))
    both, virial = np.zeros((n, 4 * n_sets)), np.zeros((n_sets, n_sets, 9))
    step = max(MOST_PHASES // n, 1)
    for first in range(0, len(waves.k), step):
        here = slice(first, first + step)
        k, strength = waves.k[here], waves.strength[here]
        x, y, z = (table[h] for table, h in zip(tables, waves.index[here].T, strict=True))
        phase = x * y * z
        cosine, sine = np.ascontiguousarray(phase.real), np.ascontiguousarray(phase.imag)
        c, s = cosine @ charges, sine @ charges
        # φ = Σ w (c cos + s sin), ∇φ = Σ w k (s cos - c sin)
        weight = np.concatenate([np.ones((len(k), 1)), k], axis=1) * strength[:, None]
        of_cosine = np.stack([c, s, s, s], axis=2) * weight[:, None, :]
        of_sine = np.stack([s, -c, -c, -c], axis=2) * weight[:, None, :]
        both += cosine.T @ of_cosine.reshape(len(k), -1) + sine.T @ of_sine.reshape(len(k), -1)
        strained = _strained(k, strength, alpha)
        for a in range(n_sets):
            virial[a] += (c * c[:, [a]] + s * s[:, [a]]).T @ strained
    parts = both.reshape(n, n_sets, 4)
    return Far(parts[:, :, 0], parts[:, :, 1:], virial.reshape(n_sets, n_sets, 3, 3))


def slab(positions: Floats, cell: Floats, charges: Floats) -> Far:
    """What leaves of the waves of `far` those of a slab without images along c, up to what decays
    as exp(-2π vacuum / a): 2π M²/V with the dipole M across the slab (Yeh and Berkowitz, J. Chem.
    Phys. 111, 3155 (1999), eq. 10). Positions (N, 3) [Å] are in one piece, charges (N, A) neutral
    together.
    """
    volume = abs(np.linalg.det(cell))
    normal = np.cross(cell[0], cell[1])
    normal /= np.linalg.norm(normal)
    height = positions @ normal
    height -= height.mean()  # of neutral sets the origin is none's business, of others it is small
    field = 4 * np.pi / volume * height @ charges
    gradient = np.broadcast_to(field[:, None] * normal, (*charges.shape, 3))
    turned = 2 * np.outer(normal, normal) - np.eye(3)
    moments = np.outer(height @ charges, field) / 2
    return Far(height[:, None] * field, gradient, moments[:, :, None, None] * turned)


def _strained(k: Floats, strength: Floats, alpha: float) -> Floats:
    """Derivative by strain of the energy of waves of size one, (M, 9)."""
    square = (k**2).sum(axis=1)
    factor = 2 * (1 / square + 1 / (4 * alpha**2))
    turned = factor[:, None, None] * k[:, :, None] * k[:, None, :] - np.eye(3)
    return np.asarray(strength[:, None] / 2 * turned.reshape(len(k), 9))


@lru_cache(maxsize=4)
def waves_of(cell: bytes, alpha: float, widths: float) -> Waves:
    """The waves of a cell, (3, 3) [Å] as its bytes: frames at constant volume share them."""
    vectors = np.frombuffer(cell).reshape(3, 3)
    reciprocal = 2 * np.pi * np.linalg.inv(vectors).T
    longest = 2 * alpha * widths
    # |h_d| = |k · a_d| / 2π ≤ |k| |a_d| / 2π
    most = np.floor(longest * np.linalg.norm(vectors, axis=1) / (2 * np.pi)).astype(int)
    grid = np.meshgrid(*(np.arange(-m, m + 1) for m in most), indexing="ij")
    index = np.stack(grid, axis=-1).reshape(-1, 3)
    index = index[len(index) // 2 + 1 :]  # the other half are their opposites, about k = 0
    k = index @ reciprocal
    square = (k**2).sum(axis=1)
    inside = square <= longest**2
    index, k, square = index[inside], k[inside], square[inside]
    volume = abs(np.linalg.det(vectors))
    strength = 8 * np.pi / volume * np.exp(-square / (4 * alpha**2)) / square
    return Waves(index, k, strength)


def _phases(fractional: Floats, most: np.ndarray) -> list[np.ndarray]:
    """For every axis exp(2πi h f), (2 most + 1, N), where negative h count from the end."""
    tables = []
    for f, m in zip(fractional.T, most, strict=True):
        h = np.concatenate([np.arange(m + 1), np.arange(-m, 0)])
        tables.append(np.exp(2j * np.pi * h[:, None] * f))
    return tables
