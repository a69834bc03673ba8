"""The whole road by one configuration: fit, export, verify, run in both engines, report."""

from __future__ import annotations

import json
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from mld_ff.configuration.config import Config
from mld_ff.engines.registry import ENGINES, find_engine
from mld_ff.engines.settings import MD
from mld_ff.engines.start import start_from
from mld_ff.errors import CheckFailed, InputError, MldError
from mld_ff.files import to_json, write_atomically
from mld_ff.inference import fit
from mld_ff.inference.fitting import gather
from mld_ff.loss.model import AgentLoss
from mld_ff.outputs import held, others
from mld_ff.production.record import read_record
from mld_ff.production.simulation import run
from mld_ff.progress import Progress, no_progress
from mld_ff.report.page import PAGE, write_report
from mld_ff.report.speed import SECONDS_PER_DAY
from mld_ff.report.study import Study, compare_runs
from mld_ff.sources import open_source
from mld_ff.trajectory import FrameSource, Trajectory, spread_frames
from mld_ff.units import FS_TO_PS
from mld_ff.verification import Verification, verify
from mld_ff.workflows.matching.loop import match
from mld_ff.workflows.rounds import kept_state

MODEL, STATE = "model.json", "build.json"
FRAMES_VERIFIED = 5
FRAMES_TIMED = 40
"""Whose sums tell how long those of all frames take."""
STEPS_TIMED = 200


@dataclass(frozen=True)
class Step:
    """A part of a build, and how long it would take."""

    what: str
    seconds: float | None
    """On this machine; None if it could not be timed."""
    said: str
    """What is done, or why it could not be timed."""


def build(config: Config, progress: Progress = no_progress, force: bool = False) -> Study:
    """Do everything; leaves build.json, model.json, openmm/, lammps/, a run of each, report.html,
    report.json and figures/ in the output directory, and returns what the report shows.

    A build that was stopped goes on: with the model that lies there, and runs from their
    checkpoints. Raises InputError if the directory holds something else, or a build that is done,
    CheckFailed if an engine disagrees with numpy, and what the single steps raise, unless `force`
    makes warnings of what the policy has against them.
    """
    with held(config.output, "build"):
        return _build(config, progress, force)


def _build(config: Config, progress: Progress, force: bool) -> Study:
    out, source = config.output, _checked(config)
    loss = _model(source, config, progress, force)
    frames = spread_frames(source, FRAMES_VERIFIED)
    _export(loss, frames[-1], config, force)
    verification = _verify(loss, frames, config, progress)
    for engine in config.engines:
        directory, device = config.run_of(engine), config.device_of(engine)
        md, last = config.md, frames[-1]
        run(loss, last, engine, directory, md, device, progress, resume=True, force=force)
    runs = [config.run_of(engine) for engine in config.engines]
    study = compare_runs(source, runs, verification=verification, progress=progress)
    write_report(out, study, progress)
    return study


def plan(config: Config, progress: Progress = no_progress) -> list[Step]:
    """What `build` would do, and how long it would take here: told by a fit of few frames and by
    short runs of what it learned. Leaves nothing behind.

    Raises InputError where `build` would before it begins.
    """
    source = _checked(config)
    progress("plan", 0, 2 + len(config.engines))
    few = spread_frames(source, FRAMES_TIMED)
    began = time.perf_counter()
    data = gather(few, config.basis)
    middle = time.perf_counter()
    loss = fit(few, config.basis, data=data, force=True).loss  # `build` says what is wrong
    gathering, solving = middle - began, time.perf_counter() - middle
    seconds = gathering * source.n_frames / few.n_frames / config.processes + solving
    progress("plan", 2, 2 + len(config.engines))
    said = f"{source.n_frames} frames, {loss.provenance['n_coefficients']} coefficients"
    steps = [Step("fit", seconds, said)]
    runs = [(engine, config.md) for engine in config.engines]
    if config.match:
        matching = config.match.settings(config)
        runs += [(matching.engine, matching.md)] * config.match.rounds
    for k, (engine, md) in enumerate(runs):
        steps.append(_timed_run(loss, few[-1], engine, md, config))
        progress("plan", min(3 + k, 2 + len(config.engines)), 2 + len(config.engines))
    return steps


def _timed_run(loss: AgentLoss, frame: Trajectory, engine: str, md: MD, config: Config) -> Step:
    """A few steps of a run, as long as all of it would take."""
    short = replace(md, time_ps=STEPS_TIMED * md.timestep_fs * FS_TO_PS, every_fs=md.timestep_fs)
    what = f"run by {ENGINES[engine].label}"
    try:
        with tempfile.TemporaryDirectory() as folder:
            directory = Path(folder) / "run"
            run(loss, frame, engine, directory, short, config.device_of(engine), force=True)
            ns_per_day = read_record(directory).ns_per_day
    except MldError as error:
        return Step(what, None, " ".join(str(error).split()))
    said = f"{md.time_ps:g} ps of {frame.n_atoms} atoms"
    if not ns_per_day:
        return Step(what, None, said)
    return Step(what, SECONDS_PER_DAY * md.time_ps / (1e3 * ns_per_day), said)


def _checked(config: Config) -> FrameSource:
    """The data, where a build can begin; what is missing is said before hours of fitting."""
    out = config.output
    if (out / PAGE).exists() or (others(out) and not (out / STATE).exists()):
        raise InputError("the output directory is not empty: choose another one or remove it", out)
    for engine in config.engines:
        find_engine(engine, config.device_of(engine))
    return open_source(config.cp2k, skip_fs=config.skip_ps / FS_TO_PS)


def _model(source: FrameSource, config: Config, progress: Progress, force: bool) -> AgentLoss:
    """That of a build that was stopped, or a new one, which is saved."""
    out, settings = config.output, asdict(config)
    for name in ("cp2k", "output", "processes"):  # on which no number depends; `data` is cp2k's
        del settings[name]
    head = {
        "format": "mld_ff build",
        "version": 1,
        "settings": json.loads(json.dumps(settings, default=str)),
        "data": source.origin.sha256,
    }
    if kept_state(out / STATE, head) is None:
        write_atomically(out / STATE, to_json(head, indent=1))
    if (out / MODEL).exists():
        return AgentLoss.load(out / MODEL)
    loss = _learn(source, config, progress, force)
    loss.save(out / MODEL)
    return loss


def _learn(source: FrameSource, config: Config, progress: Progress, force: bool) -> AgentLoss:
    if config.match is None:
        return fit(source, config.basis, progress, config.processes, force=force).loss
    directory, settings = config.output / "match", config.match.settings(config)
    rounds = config.match.rounds
    return match(source, directory, settings, rounds, progress=progress, force=force).loss


def _export(loss: AgentLoss, frame: Trajectory, config: Config, force: bool) -> None:
    md = config.md
    start = start_from(frame, md.temperature_K, md.seed, loss.topology_kind, force)
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
