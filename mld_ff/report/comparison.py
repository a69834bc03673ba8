"""What is compared: observables with errors, figures and the numbers drawn, notes on what is left
out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure

from mld_ff.report.plots import Band, plot_lines
from mld_ff.report.statistics import Statistic
from mld_ff.trajectory import Floats

if TYPE_CHECKING:
    from mld_ff.report.movies import Movie

WITHIN = 2.0
"""Learned and reference agree where they differ by at most this many of their joint standard
errors.
"""
DISTANCES = ("mean_abs_dg", "mean_abs_difference")
"""Observables with these names are distances from the reference."""


@dataclass(frozen=True)
class Compared:
    """One observable of a learned run beside the reference's. What is not known is nan."""

    learned: Statistic
    reference: Statistic
    is_distance: bool = False
    """From the reference, whose own is its noise: less is no disagreement."""

    @property
    def within(self) -> bool | None:
        """Whether both agree within their errors; None where one has no error."""
        joint = math.hypot(self.learned.error, self.reference.error)
        away = self.learned.value - self.reference.value
        if math.isnan(joint):
            return None
        return (away if self.is_distance else abs(away)) <= WITHIN * joint


@dataclass(frozen=True)
class Drawing:
    """A figure of the page."""

    caption: str
    figure: Figure


@dataclass
class Comparison:
    """What one kind of observable says of all trajectories, by their names: the reference first."""

    statistics: dict[str, dict[str, Statistic]] = field(default_factory=dict)
    """By trajectory, by observable."""
    drawings: dict[str, Drawing] = field(default_factory=dict)
    """By file name."""
    series: dict[str, Any] = field(default_factory=dict)
    """Every number drawn, by figure and trajectory."""
    movies: dict[str, Movie] = field(default_factory=dict)
    """Frames to look at, by trajectory."""
    notes: list[str] = field(default_factory=list)
    """What was left out, and why."""

    def draw(
        self,
        name: str,
        caption: str,
        titles: Sequence[str],
        data: Mapping[str, Sequence[Band]],
        axes: tuple[str, str],
        **style: Any,
    ) -> None:
        """Add a figure with a panel per title, for which every trajectory of `data` has a curve,
        and its numbers.
        """
        self.drawings[name] = Drawing(caption, plot_lines(titles, data, axes, **style))
        self.series[name] = {
            label: {title: rounded(curve) for title, curve in zip(titles, curves, strict=True)}
            for label, curves in data.items()
        }


def rounded(curve: Sequence[Floats]) -> list[list[float]]:
    """Numbers as a file keeps them, seven digits each."""
    return [[float(f"{x:.7g}") for x in np.asarray(c, dtype=float).tolist()] for c in curve]
