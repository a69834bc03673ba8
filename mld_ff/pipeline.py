"""The whole road by one configuration: fit, export, verify, run in both engines, summary."""

from __future__ import annotations

import json
import time
import tomllib
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from mld_ff import report
from mld_ff.engines.registry import ENGINES, engines_with, fastest, find_engine
from mld_ff.engines.settings import MD, Device, Precision
from mld_ff.engines.start import start_from
from mld_ff.errors import CheckFailed, InputError, check_positive
from mld_ff.inference import Basis, fit
from mld_ff.inference.basis import AUTO
from mld_ff.loss.model import AgentLoss
from mld_ff.production.results import read_log
from mld_ff.production.simulation import run
from mld_ff.progress import Progress, no_progress
from mld_ff.sources import open_source
from mld_ff.survey import Inspection, inspect
from mld_ff.trajectory import Floats, Trajectory, spread_frames
from mld_ff.units import FS_TO_PS
from mld_ff.verification import Verification, verify
from mld_ff.workflows.matching.loop import match
from mld_ff.workflows.matching.settings import PRICE, Settings

MODEL = "model.json"
EQUILIBRATION = 0.1
"""Fraction of a run that is left out of averages."""
FRAMES_DRAWN = 20


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
    match: Match | None = None


def read_config(file: Path | str, output: Path | str | None = None) -> Config:
    """Read a configuration; paths in it are relative to its own directory. `output` overrides its
    own.

    Raises InputError naming file, key and the keys known.
    """
    file = Path(file)
    try:
        data = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", file) from None
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"is not valid TOML: {error}", file) from None
    _known(
        data,
        {"cp2k", "output", "engines", "platform", "precision", "skip_ps", "fit", "match", "run"},
        "",
        file,
    )
    if "cp2k" not in data:
        raise InputError('needs a key "cp2k": the directory of the CP2K run', file)
    for key in ("cp2k", "output", "platform", "precision"):
        if key in data:
            _typed(key, data[key], "", file)
    skip = _typed("skip_ps", data.get("skip_ps", 0.0), 0.0, file)
    engines = data.get("engines", list(ENGINES))
    if not isinstance(engines, list) or not engines:
        raise InputError(
            f"engines should be a list of one or more of {', '.join(ENGINES)}, found {engines!r}",
            file,
        )
    if unknown := [e for e in engines if e not in ENGINES]:
        raise InputError(f"engines are {', '.join(ENGINES)}; found {unknown[0]!r}", file)
    where = Path(output) if output else file.parent / data.get("output", "output")
    with_precision = engines_with("precision")
    if "precision" in data and not any(e.name in engines for e in with_precision):
        labels = " and ".join(e.label for e in with_precision)
        names = " and ".join(e.name for e in with_precision)
        raise InputError(
            f"precision is a setting of {labels}'s platforms, and engines are without {names}", file
        )
    if isinstance(data.get("fit"), dict) and data["fit"].get("collective") == "auto":
        data["fit"]["collective"] = AUTO
    basis, md = _section(Basis, data, "fit", file), _section(MD, data, "run", file)
    device = data.get("platform"), data.get("precision")
    matched = _section(Match, data, "match", file) if "match" in data else None
    config = Config(
        file.parent / data["cp2k"], where, basis, md, tuple(engines), *device, skip, matched
    )
    try:
        if matched:
            matched.settings(config)
    except InputError as error:
        raise InputError(f"[match]: {error}", file) from None
    return config


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
    defaults = {f.name: f.default for f in fields(kind)}
    typed = {k: _typed(f"[{section}] {k}", v, defaults[k], file) for k, v in values.items()}
    try:
        return kind(**typed)
    except InputError as error:
        raise InputError(f"[{section}]: {error}", file) from None


def _typed(key: str, value: Any, default: Any, file: Path) -> Any:
    """The value of a key, if it is of the type that the default tells (None: a number)."""
    if isinstance(default, tuple):
        ok = isinstance(value, list) and all(_is_number(v) for v in value)
        expected, value = "a list of numbers", tuple(map(float, value)) if ok else value
    elif isinstance(default, str):
        ok, expected = isinstance(value, str), "a text"
    elif isinstance(default, bool):
        ok, expected = isinstance(value, bool), "true or false"
    elif isinstance(default, int):
        ok, expected = isinstance(value, int) and not isinstance(value, bool), "a whole number"
    else:
        ok, expected = _is_number(value), "a number"
    if not ok:
        raise InputError(f"{key} should be {expected}, found {value!r}", file)
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def build(config: Config, progress: Progress = no_progress) -> Path:
    """Do everything; returns the output directory with model.json, openmm/, lammps/, run-*/,
    figures/, summary.html.

    Raises CheckFailed if an engine disagrees with numpy, and what the single steps raise.
    """
    out = config.output
    if out.exists() and any(out.iterdir()):
        raise InputError("the output directory is not empty: choose another one or remove it", out)
    engines = {name: ENGINES[name] for name in config.engines}
    asked = Device(config.platform, config.precision)
    devices = {name: engine.chosen(asked) for name, engine in engines.items()}
    for name, device in devices.items():  # what is missing is said before hours of fitting
        find_engine(name, device)
    source = open_source(config.cp2k, skip_fs=config.skip_ps / FS_TO_PS)
    reference = inspect(source, config.basis.cutoff_A, progress)
    if config.match:
        settings = config.match.settings(config)
        loss = match(source, out / "match", settings, config.match.rounds, progress=progress).loss
    else:
        loss = fit(source, config.basis, progress).loss
    loss.save(out / MODEL)
    frames = spread_frames(source, FRAMES_DRAWN)
    exported_for = (config.md.temperature_K, config.md.timestep_fs, config.md.damping_fs)
    start = start_from(frames[-1], config.md.temperature_K, config.md.seed)
    directories = {engine: out / engine for engine in config.engines}
    for name, directory in directories.items():
        engines[name].export(loss, start, directory, *exported_for)
    verification = verify(loss, frames, directories=directories, progress=progress)
    if not verification.passed:
        raise CheckFailed(
            "the engines do not compute what the model says:\n"
            + json.dumps(verification.to_dict(), indent=1)
        )
    runs, speeds = {}, {}
    for name, device in devices.items():
        began = time.perf_counter()
        runs[name] = run(loss, frames[-1], name, out / f"run-{name}", config.md, device, progress)
        per_day = config.md.time_ps / (time.perf_counter() - began) * 86.4
        speeds[name] = f"{per_day:.0f} ns/day, start-up included"
    progress("summary", 0, 1)
    _summarise(config, loss, verification, reference, frames, runs, speeds)
    progress("summary", 1, 1)
    return out


def _summarise(
    config: Config,
    loss: AgentLoss,
    verification: Verification,
    reference: Inspection,
    frames: Trajectory,
    runs: dict[str, Trajectory],
    speeds: dict[str, str],
) -> None:
    out = config.output
    settled = {e: t[int(EQUILIBRATION * t.n_frames) :] for e, t in runs.items()}
    inspections = {
        report.REFERENCE: reference,
        **{e: inspect(t, loss.cutoff_A) for e, t in settled.items()},
    }
    compared = {
        k: report.observables(i, None if i is reference else reference)
        for k, i in inspections.items()
    }
    series: dict[str, tuple[Floats, Floats]] = {}
    if reference.survey.temperatures:
        times = np.array(reference.survey.times) * FS_TO_PS
        series[report.REFERENCE] = (times - times[0], np.array(reference.survey.temperatures))
    for engine in runs:
        log = read_log(out / f"run-{engine}")
        series[engine] = (log["time_ps"], log["temperature_K"])
    for label, (_, temperature) in series.items():
        skip = 0 if label == report.REFERENCE else int(EQUILIBRATION * len(temperature))
        compared[label] = {"temperature_K": float(temperature[skip:].mean()), **compared[label]}
    drawn = [
        (
            (
                "Learned loss of free pairs with twice its jack-knife error; grey: how many pairs"
                " the data hold."
            ),
            "pairs",
            report.plot_pair_functions(loss),
        ),
        (
            f"Forces of {frames.n_frames} frames, learned against CP2K.",
            "forces",
            report.plot_forces(loss, frames),
        ),
        ("Radial distribution functions.", "rdf", report.plot_radial_distributions(inspections)),
        ("Distances inside molecules.", "bonded", report.plot_bonded(inspections)),
        (
            (
                "Kinetic energy (thin) and its running mean (thick); dotted: what the thermostat is"
                " set to."
            ),
            "kinetic-energy",
            report.plot_kinetic_energy(
                series, dict.fromkeys(series, frames.n_atoms), config.md.temperature_K
            ),
        ),
    ]
    figures = [
        (text, report.save_figure(f, out / "figures" / f"{name}.png"))
        for text, name, f in drawn
        if f is not None
    ]
    report.write_summary(out, loss, verification, compared, speeds, figures)
