"""Standard errors of what a trajectory tells, from contiguous blocks of its frames."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mld_ff.trajectory import Floats, Trajectory

N_BLOCKS = 5
FEWEST_FRAMES = 20
"""Fewer frames than this make no block error."""


@dataclass(frozen=True)
class Statistic:
    """A number with its standard error from contiguous blocks (nan where blocks do not give it)."""

    value: float
    error: float


UNKNOWN = Statistic(math.nan, math.nan)


def spread(frames: Trajectory, n: int) -> Trajectory:
    """At most n frames, spread evenly."""
    if frames.n_frames <= n:
        return frames
    return frames[np.linspace(0, frames.n_frames - 1, n).round().astype(int)]


def evenly_spaced(frames: Trajectory) -> bool:
    """Whether all frames are equally far apart in time: none is missing, none comes twice."""
    gaps = np.diff(frames.time)
    return bool(len(gaps) and gaps.min() > 0 and np.allclose(gaps, gaps.mean(), rtol=1e-3, atol=0))


def block_error(blocks: Sequence[Floats | float]) -> Floats:
    """Standard error of the mean of blocks, each a number or an array."""
    return np.asarray(
        np.array(blocks).std(axis=0, ddof=1) / math.sqrt(len(blocks)), dtype=np.float64
    )


def mean(series: Floats) -> Statistic:
    """The mean of a series (F,) with its block error."""
    if len(series) < FEWEST_FRAMES:
        return Statistic(float(series.mean()), math.nan)
    return Statistic(
        float(series.mean()),
        float(block_error([b.mean() for b in np.array_split(series, N_BLOCKS)])),
    )
