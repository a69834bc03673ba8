"""What a build does."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from mld_ff.engines.registry import ENGINES, fastest
from mld_ff.engines.settings import MD, Device, Precision
from mld_ff.errors import check_positive
from mld_ff.inference import Basis
from mld_ff.workflows.matching.settings import PRICE, Settings


@dataclass(frozen=True)
class Match:
    """That distances, and a pressure, are matched after the fit (`mld_ff.match`), by the engine
    that runs a loss with angles fastest.
    """

    rounds: int = 5
    """At most: each runs, compares and adjusts."""
    time_ps: float = 50.0
    """Of every run."""
    price: float = PRICE
    """By what part the squared error of forces may grow."""
    pressure_bar: float | None = None
    """To be matched too; if not given, distances alone are."""

    def __post_init__(self) -> None:
        check_positive(rounds=self.rounds)

    def settings(self, config: Config) -> Settings:
        """What `match` does; it checks them."""
        md = replace(
            config.md,
            time_ps=self.time_ps,
            every_fs=20.0,
            ensemble="nvt",
            velocities=False,
            on_escape="warn",
        )
        engine = fastest(config.engines)
        platform = engine.chosen(Device(config.platform)).platform
        return Settings(config.basis, md, engine.name, platform, self.price, self.pressure_bar)


@dataclass(frozen=True)
class Config:
    """What a build does; read from TOML with `read_config`."""

    cp2k: Path
    """Directory of the CP2K run."""
    output: Path
    """Where everything goes; if not given, `output` beside this file."""
    basis: Basis
    md: MD
    engines: tuple[str, ...] = tuple(ENGINES)
    """That the model is exported to, held against numpy in, and run by."""
    platform: str | None = None
    """Of the runs, for engines that have a choice; if not given, the fastest present."""
    precision: Precision | None = None
    """`single`, `mixed` or `double`, where that platform has the choice."""
    skip_ps: float = 0.0
    """First stretch of the CP2K run to leave out."""
    processes: int = 1
    """That share the work of the fit; its numbers do not depend on them."""
    match: Match | None = None

    def export_of(self, engine: str) -> Path:
        """Where the files for an engine go."""
        return self.output / engine

    def run_of(self, engine: str) -> Path:
        """Where the run by an engine goes."""
        return self.output / f"run-{engine}"

    def device_of(self, engine: str) -> Device:
        """What of platform and precision an engine has a choice of."""
        return ENGINES[engine].chosen(Device(self.platform, self.precision))
