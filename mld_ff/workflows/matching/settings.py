"""What matching does in every round."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from mld_ff.engines.registry import fastest
from mld_ff.engines.settings import MD
from mld_ff.errors import InputError, check_positive
from mld_ff.inference import Basis

PRICE = 0.02
EQUILIBRATION = 0.1
"""First fraction of a run that is left out."""
STRETCHES = 5
"""Of a run: from what their pressures differ by comes its error."""


@dataclass(frozen=True)
class Settings:
    """What matching does in every round."""

    basis: Basis = field(default_factory=Basis)
    md: MD = field(default_factory=lambda: MD(time_ps=50.0, every_fs=20.0))
    """Of every run, at the temperature of the reference."""
    engine: str = fastest().name
    """That runs the models."""
    platform: str | None = None
    """Of engines that have a choice. If not given, the fastest present."""
    price: float = PRICE
    """By how much, at most, the squared error of forces may grow for structure: 0.02 is 1 % of the
    error.
    """
    pressure_bar: float | None = None
    """That the cell of the CP2K run shall have, at any price, so that runs at that pressure keep
    its density. If not given, it is left as it comes out: forces do not tell it.
    """

    def __post_init__(self) -> None:
        check_positive(price=self.price)
        frames = int((1 - EQUILIBRATION) * (self.md.steps // self.md.every))
        if frames < 2 * STRETCHES:
            raise InputError(
                f"runs of {self.md.time_ps:g} ps with a frame every {self.md.every_fs:g} fs leave"
                f" {frames} frames to average over, and {2 * STRETCHES} are the least: run longer"
            )
        if self.pressure_bar is not None and not math.isfinite(self.pressure_bar):
            raise InputError(f"pressure_bar is {self.pressure_bar}; it must be a number")
        if self.md.ensemble != "nvt":
            raise InputError(
                "runs are matched at constant volume and temperature; the ensemble is"
                f" {self.md.ensemble}"
            )
