"""How many times as large numbers are as they should be, and how sure that is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from mld_ff.trajectory import Floats

UNLIKELY = 3e-7
"""Of chance beyond the range that is told, on each side: five standard errors, and by Student's
distribution more where frames are few."""
LEAST = 0.1
"""Relative; closer than this numbers are never told apart: CP2K and others differ in constants,
and grids, self-consistency and thermostats leave that much."""


@dataclass(frozen=True)
class Proportion:
    """What should be over what is given, by least squares through the origin."""

    value: float
    """NaN where there is nothing to compare."""
    error: float
    """Standard, over frames and over atoms, whichever is larger."""
    correlation: float
    """Of what should be with what is given, about zero."""
    frames: int

    @classmethod
    def of(cls, expected: Floats, given: Floats) -> Proportion:
        """Both (F, N, 3), or (F,) of numbers that belong to frames."""
        axes = tuple(range(2, expected.ndim))
        product, square, size = (
            np.sum(a * b, axis=axes).reshape(len(a), -1)
            for a, b in ((expected, given), (given, given), (expected, expected))
        )
        if not (square.sum() > 0 and size.sum() > 0):
            return cls(np.nan, np.nan, 0.0, len(expected))
        value = product.sum() / square.sum()
        left = product - value * square  # of what one frame, or one atom, has more than the others
        errors = [_spread(left.sum(axis=k)) / square.sum() for k in (0, 1) if left.shape[1 - k] > 1]
        correlation = product.sum() / np.sqrt(square.sum() * size.sum())
        return cls(float(value), max(errors, default=np.inf), float(correlation), len(expected))

    def range(self, coarse: float = 0.0) -> tuple[float, float]:
        """What the true proportion lies between, without its sign.

        Errors of what is given flatten a regression: the truth lies between that of one upon the
        other and the other upon the one. coarse: relative error that is known otherwise.
        """
        if not self.correlation:
            return 0.0, np.inf
        size, unexplained = abs(self.value), 1 - self.correlation**2
        margin = 1 + LEAST + self.sure_error / size + unexplained / 2 + coarse
        return size / margin, size / self.correlation**2 * margin

    @property
    def sure_error(self) -> float:
        """Within which nothing is said."""
        return float(stdtrit(max(self.frames - 1, 1), 1 - UNLIKELY)) * self.error

    @property
    def middle(self) -> float:
        """The best single number, without its sign."""
        return abs(self.value / self.correlation) if self.correlation else np.nan


def _spread(sums: Floats) -> float:
    """Standard error of a sum of independent parts whose mean is zero."""
    return float(np.sqrt((sums**2).sum() * len(sums) / (len(sums) - 1)))
