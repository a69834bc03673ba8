"""What runs of models say of their averages, and of those that other coefficients would have."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import stdev
from typing import Self

import numpy as np

from mld_ff.geometry.topology import Topology
from mld_ff.loss.model import AgentLoss
from mld_ff.progress import Progress, no_progress
from mld_ff.trajectory import Floats, Trajectory
from mld_ff.units import EV_PER_A3_TO_BAR
from mld_ff.workflows.matching.averages import Averages, pair_coefficients, pooled
from mld_ff.workflows.matching.settings import STRETCHES


@dataclass(frozen=True)
class Response:
    """What the run of one model shows."""

    coefficients: Floats
    """Of its pairs, (K,)."""
    averages: Averages
    pressure_bar: float | None = None
    error_bar: float | None = None
    """Of the pressure, where one was asked for."""

    @classmethod
    def of(
        cls,
        loss: AgentLoss,
        frames: Trajectory,
        topology: Topology,
        ideal_pressure: float | None,
        progress: Progress = no_progress,
    ) -> Self:
        """ideal_pressure: [eV/Å³], where the pressure is asked for. Raises InputError if bonds are
        broken all the time."""
        now, with_pressure = pair_coefficients(loss), ideal_pressure is not None
        cuts = np.arange(STRETCHES + 1) * frames.n_frames // STRETCHES
        each = [
            Averages.of(loss, frames[a:b], topology, with_pressure, progress)
            for a, b in pairwise(cuts)
        ]
        whole = pooled(each, [one.frames for one in each])
        if ideal_pressure is None:
            return cls(now, whole)
        bar, *bars = [
            (float(one.mean[len(now)]) + ideal_pressure) * EV_PER_A3_TO_BAR
            for one in (whole, *each)
        ]
        return cls(now, whole, bar, stdev(bars) / math.sqrt(STRETCHES))


def combined(responses: Sequence[Response], now: Floats, kT_eV: float) -> tuple[Averages, float]:
    """Averages with coefficients `now` from all runs so far, and the error of their pressure [bar]
    (0: not known).

    A run of other coefficients counts by what part of its frames would, were they weighed by their
    probability: exp(-length²) for energies that are normally distributed.
    """
    lengths = np.array([one.averages.length(now - one.coefficients, kT_eV) for one in responses])
    weights = np.exp(lengths.min() ** 2 - lengths**2)
    moved = [one.averages.moved(now - one.coefficients, kT_eV) for one in responses]
    errors = np.array([one.error_bar or 0.0 for one in responses])
    return pooled(moved, weights), float(np.sqrt(weights**2 @ errors**2) / weights.sum())
