"""How often distances occur: counts in narrow bins, which add up over frames."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypedDict

import numpy as np

from mld_ff.geometry.pairs import BIN_A
from mld_ff.trajectory import Floats, Ints


class Coverage(TypedDict, total=False):
    """What the data sampled of a term. Of distances: `counts` in bins `width_A` wide from `start_A`
    on, and in the middle of each the standard error of the function, `errors_eV`, by jack-knife.
    Of densities: `counts` in bins `width` wide from `start` on."""

    shortest_A: float | None
    longest_A: float | None
    start_A: float
    width_A: float
    counts: Sequence[int]
    errors_eV: Sequence[float]
    lowest: float
    highest: float
    start: float
    width: float


@dataclass
class Histogram:
    """Counts of distances in bins of BIN_A from 0 on."""

    counts: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    shortest: float = np.inf
    longest: float = 0.0
    total: float = 0.0
    total_squares: float = 0.0

    def add(self, r: Floats) -> None:
        if not len(r):
            return
        more = np.bincount((r / BIN_A).astype(np.int64), minlength=len(self.counts))
        more[: len(self.counts)] += self.counts
        self.counts = more
        self.shortest, self.longest = (
            min(self.shortest, float(r.min())),
            max(self.longest, float(r.max())),
        )
        self.total += float(r.sum())
        self.total_squares += float(r @ r)

    def merge(self, other: Histogram) -> None:
        """Add what another histogram counted."""
        few, many = sorted((self.counts, other.counts), key=len)
        self.counts = many.copy()
        self.counts[: len(few)] += few
        self.shortest, self.longest = (
            min(self.shortest, other.shortest),
            max(self.longest, other.longest),
        )
        self.total += other.total
        self.total_squares += other.total_squares

    @property
    def n(self) -> int:
        return int(self.counts.sum())

    @property
    def mean(self) -> float:
        return self.total / self.n if self.n else math.nan

    @property
    def deviation(self) -> float:
        return math.sqrt(max(self.total_squares / self.n - self.mean**2, 0)) if self.n else math.nan

    def distance_below(self, n: int) -> float:
        """Upper edge [Å] of the bin that holds the n-th shortest distance."""
        return float((np.searchsorted(np.cumsum(self.counts), n) + 1) * BIN_A)

    def summary(self) -> dict[str, float]:
        """What `mld-ff inspect` tells of it [Å]."""
        return {
            "shortest": self.shortest,
            "longest": self.longest,
            "mean": self.mean,
            "std": self.deviation,
            "count": self.n,
        }

    def binned(self, width: float, n: int) -> Ints:
        """Counts in the first `n` bins `width` [Å] wide, a multiple of BIN_A, (n,)."""
        per_bin = round(width / BIN_A)
        missing = max(n * per_bin - len(self.counts), 0)
        padded = np.pad(self.counts, (0, missing))[: n * per_bin]
        return np.asarray(padded.reshape(n, per_bin).sum(axis=1))

    def to_dict(self, width: float) -> Coverage:
        """The histogram in bins `width` [Å] wide, from the first that holds anything; empty if
        nothing was seen.
        """
        if not self.n:
            return {
                "shortest_A": None,
                "longest_A": None,
                "start_A": 0.0,
                "width_A": width,
                "counts": [],
            }
        per_bin = round(width / BIN_A)
        padded = (
            np.pad(self.counts, (0, -len(self.counts) % per_bin)).reshape(-1, per_bin).sum(axis=1)
        )
        first = int(np.flatnonzero(padded)[0])
        return {
            "shortest_A": round(self.shortest, 6),
            "longest_A": round(self.longest, 6),
            "start_A": round(first * width, 6),
            "width_A": width,
            "counts": padded[first:].tolist(),
        }
