"""The whole road by one configuration: fit, export, verify, run in both engines, report."""

from __future__ import annotations

import json
import math
import tomllib
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, get_args, get_type_hints

from mld_ff.engines.registry import ENGINES, engines_with, fastest, find_engine
from mld_ff.engines.settings import MD, Device, Precision
from mld_ff.engines.start import start_from
from mld_ff.errors import CheckFailed, InputError, check_positive
from mld_ff.inference import Basis, fit
from mld_ff.inference.basis import AUTO
from mld_ff.loss.model import AgentLoss
from mld_ff.production.simulation import run
from mld_ff.progress import Progress, no_progress
from mld_ff.report.page import write_report
from mld_ff.report.study import Study, compare_runs
from mld_ff.sources import open_source
from mld_ff.trajectory import FrameSource, Trajectory, spread_frames
from mld_ff.units import FS_TO_PS
from mld_ff.verification import Verification, verify
from mld_ff.workflows.matching.loop import match
from mld_ff.workflows.matching.settings import PRICE, Settings

MODEL = "model.json"
KEYS = {
    "cp2k",
    "output",
    "engines",
    "platform",
    "precision",
    "processes",
    "skip_ps",
    "fit",
    "match",
    "run",
}
"""Of a configuration."""
FRAMES_VERIFIED = 5


@dataclass(frozen=True)
class Match:
    """That distances, and a pressure, are matched after the fit (`mld_ff.match`), by the engine
    that runs a collective loss fastest.
    """

    rounds: int = 5
    time_ps: float = 50.0
    """Of every run."""
    price: float = PRICE
    pressure_bar: float | None = None

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
    basis: Basis
    md: MD
    engines: tuple[str, ...] = tuple(ENGINES)
    platform: str | None = None
    """Of the runs, for engines that have a choice; None for the fastest present."""
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


def read_config(file: Path | str, output: Path | str | None = None) -> Config:
    """Read a configuration; paths in it are relative to its own directory. `output` overrides its
    own.

    Raises InputError naming file, key and the keys known.
    """
    file = Path(file)
    data = _read_toml(file)
    _known(data, KEYS, "", file)
    if "cp2k" not in data:
        raise InputError('needs a key "cp2k": the directory of the CP2K run', file)
    for key in ("cp2k", "output", "platform", "precision"):
        if key in data:
            _typed(key, data[key], "", file)
    skip = _typed("skip_ps", data.get("skip_ps", 0.0), 0.0, file)
    processes = _typed("processes", data.get("processes", 1), 1, file)
    if processes < 1:
        raise InputError(f"processes is {processes}; at least one is needed", file)
    engines = _engines(data, file)
    if isinstance(data.get("fit"), dict) and data["fit"].get("collective") == "auto":
        data["fit"]["collective"] = AUTO
    config = Config(
        cp2k=file.parent / data["cp2k"],
        output=Path(output) if output else file.parent / data.get("output", "output"),
        basis=_section(Basis, data, "fit", file),
        md=_section(MD, data, "run", file),
        engines=engines,
        platform=data.get("platform"),
        precision=data.get("precision"),
        skip_ps=skip,
        processes=processes,
        match=_section(Match, data, "match", file) if "match" in data else None,
    )
    try:
        if config.match:
            config.match.settings(config)
    except InputError as error:
        raise InputError(f"[match]: {error}", file) from None
    return config


def _read_toml(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", file) from None
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"is not valid TOML: {error}", file) from None


def _engines(data: dict[str, Any], file: Path) -> tuple[str, ...]:
    engines = data.get("engines", list(ENGINES))
    if not isinstance(engines, list) or not engines:
        raise InputError(
            f"engines should be a list of one or more of {', '.join(ENGINES)}, found {engines!r}",
            file,
        )
    if unknown := [e for e in engines if e not in ENGINES]:
        raise InputError(f"engines are {', '.join(ENGINES)}; found {unknown[0]!r}", file)
    with_precision = engines_with("precision")
    if "precision" in data and not any(engine.name in engines for engine in with_precision):
        labels = " and ".join(engine.label for engine in with_precision)
        names = " and ".join(engine.name for engine in with_precision)
        raise InputError(
            f"precision is a setting of {labels}'s platforms, and engines are without {names}", file
        )
    return tuple(engines)


def _known(data: dict[str, Any], known: set[str], section: str, file: Path) -> None:
    if unknown := sorted(set(data) - known):
        raise InputError(
            f"unknown key {section}{unknown[0]!r}; known: {', '.join(sorted(known))}", file
        )


def _section(kind: type[Any], data: dict[str, Any], section: str, file: Path) -> Any:
    values = data.get(section, {})
    if not isinstance(values, dict):
        raise InputError(f"[{section}] must be a section, found {values!r}", file)
    _known(values, {f.name for f in fields(kind)}, f"[{section}] ", file)
    hints = get_type_hints(kind)
    defaults = {f.name: _sample(f.default, hints[f.name]) for f in fields(kind)}
    typed = {k: _typed(f"[{section}] {k}", v, defaults[k], file) for k, v in values.items()}
    try:
        return kind(**typed)
    except InputError as error:
        raise InputError(f"[{section}]: {error}", file) from None


def _sample(default: Any, hint: Any) -> Any:
    """A value of the type of a field: its default, or the first word that may stand there."""
    words = (word for part in get_args(hint) for word in get_args(part))
    return next(words, None) if default is None else default


def _typed(key: str, value: Any, default: Any, file: Path) -> Any:
    """The value of a key, if it is of the type that the default tells (None: a number)."""
    if isinstance(default, tuple):
        fits = isinstance(value, list) and all(_is_number(v) for v in value)
        expected, number = "a list of numbers", type(default[0]) if default else int
        value = tuple(number(v) if number(v) == v else v for v in value) if fits else value
    elif isinstance(default, str):
        fits, expected = isinstance(value, str), "a text"
    elif isinstance(default, bool):
        fits, expected = isinstance(value, bool), "true or false"
    elif isinstance(default, int):
        fits, expected = isinstance(value, int) and not isinstance(value, bool), "a whole number"
    else:
        fits, expected = _is_number(value), "a number"
    if not fits:
        raise InputError(f"{key} should be {expected}, found {value!r}", file)
    return value


def _is_number(value: Any) -> bool:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and math.isfinite(value)  # TOML has nan and inf


def build(config: Config, progress: Progress = no_progress) -> Study:
    """Do everything; leaves model.json, openmm/, lammps/, run-*/, report.html, report.json and
    figures/ in the output directory, and returns what the report shows.

    Raises CheckFailed if an engine disagrees with numpy, and what the single steps raise.
    """
    out = config.output
    if out.exists() and any(out.iterdir()):
        raise InputError("the output directory is not empty: choose another one or remove it", out)
    for engine in config.engines:  # what is missing is said before hours of fitting
        find_engine(engine, config.device_of(engine))
    source = open_source(config.cp2k, skip_fs=config.skip_ps / FS_TO_PS)
    loss = _learn(source, config, progress)
    loss.save(out / MODEL)
    frames = spread_frames(source, FRAMES_VERIFIED)
    _export(loss, frames[-1], config)
    verification = _verify(loss, frames, config, progress)
    for engine in config.engines:
        directory, device = config.run_of(engine), config.device_of(engine)
        run(loss, frames[-1], engine, directory, config.md, device, progress)
    runs = [config.run_of(engine) for engine in config.engines]
    study = compare_runs(source, runs, verification=verification, progress=progress)
    progress("report", 0, 1)
    write_report(out, study)
    progress("report", 1, 1)
    return study


def _learn(source: FrameSource, config: Config, progress: Progress) -> AgentLoss:
    if config.match is None:
        return fit(source, config.basis, progress, config.processes).loss
    directory, settings = config.output / "match", config.match.settings(config)
    return match(source, directory, settings, config.match.rounds, progress=progress).loss


def _export(loss: AgentLoss, frame: Trajectory, config: Config) -> None:
    md = config.md
    start = start_from(frame, md.temperature_K, md.seed, loss.topology_kind)
    for engine in config.engines:
        ENGINES[engine].export(loss, start, config.export_of(engine), md)


def _verify(
    loss: AgentLoss, frames: Trajectory, config: Config, progress: Progress
) -> Verification:
    """Of what was exported."""
    directories = {engine: config.export_of(engine) for engine in config.engines}
    verification = verify(loss, frames, directories=directories, progress=progress)
    if not verification.passed:
        raise CheckFailed(
            "the engines do not compute what the model says:\n"
            + json.dumps(verification.to_dict(), indent=1)
        )
    return verification
