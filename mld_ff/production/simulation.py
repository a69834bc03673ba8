"""Production runs in any engine from a frame, stopped and resumed."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from mld_ff.engines.engine import Engine, Session
from mld_ff.engines.registry import engine_named, find_engine
from mld_ff.engines.settings import MD, Device
from mld_ff.engines.start import Start, start_from
from mld_ff.errors import CheckFailed, EngineError, InputError
from mld_ff.files import check_files
from mld_ff.loss.model import AgentLoss
from mld_ff.outputs import held, others
from mld_ff.policy import objections_to_temperature, refuse
from mld_ff.production.preparation import start_at
from mld_ff.production.record import RECORD, RunRecord, read_record, sha256
from mld_ff.production.results import check_whole, read_log, read_run
from mld_ff.production.road import advised, departures
from mld_ff.production.sessions import SESSION, join, newest_checkpoint
from mld_ff.production.watch import Watch
from mld_ff.progress import Progress, no_progress
from mld_ff.trajectory import Trajectory

MODEL = "model.json"
MAY_CHANGE = ("time_ps", "checkpoint_ps", "on_escape")
"""Settings that a run that goes on may have otherwise."""
NPT_NOTE = (
    "the loss was inferred from forces at the density of the data alone, which do not tell the"
    " pressure: the density that this run takes is a prediction without support; compare it with"
    " that of the data, or match a pressure (`mld-ff match --pressure`)"
)


def run(
    loss: AgentLoss,
    frame: Trajectory,
    engine: str,
    directory: Path | str,
    settings: MD | None = None,
    device: Device | None = None,
    progress: Progress = no_progress,
    minimize: bool | None = None,
    resume: bool = False,
    force: bool = False,
) -> Trajectory:
    """Molecular dynamics from one frame (positions, velocities if it has them); returns the
    trajectory.

    engine: a name in `ENGINES`. directory: gets the exported files, trajectory.dcd, the engine's
    log and checkpoint, and run.json, with `notes` on what a user should know. device: None for the
    fastest present. minimize: as in `start_at`. resume: go on with the run that lies in the
    directory, if one does, from its last checkpoint to `settings.time_ps`. force: go on where a
    check fails, which is a note then. Raises EngineError if the engine stops or warns or its disk
    is full, CheckFailed if the run leaves what was asked for (`departures`), or a pair the sampled
    distances or an atom the sampled densities and `settings.on_escape` says stop, InputError if the
    model does not cover the system or the directory holds another run.
    """
    settings, device, out = settings or MD(), device or Device(), Path(directory)
    computed_on = find_engine(engine, device)  # what is missing is said before anything is written
    with held(out, "run") as unfinished:
        kind = loss.topology_kind
        start = start_from(frame, settings.temperature_K, settings.seed, kind, force)
        too_hot = objections_to_temperature(loss, settings.temperature_K)
        refuse(too_hot, force)
        warnings = start.check(loss) + too_hot
        if settings.ensemble == "npt" and loss.charges and loss.charges.slab:
            raise InputError(
                "the model's charges are those of a slab, whose vacuum a barostat would close: run"
                " it at constant volume (--ensemble nvt)"
            )
        step, chosen = int(frame.step[0]), engine_named(engine)
        record = _new_record(loss, chosen, computed_on, settings, start, step, warnings)
        if not (unfinished or (out / RECORD).exists()) and others(out):
            raise InputError(
                "is not empty and holds no run: choose another directory, or a new one in it", out
            )
        earlier = _earlier_run(out, record, loss, resume)
        if not (earlier and earlier.finished and earlier.settings.steps >= settings.steps):
            _run(loss, frame, out, record, earlier, device, progress, minimize, force)
        if not force:
            _check_road(out, read_record(out))
        return read_run(out)


def _run(
    loss: AgentLoss,
    frame: Trajectory,
    out: Path,
    record: RunRecord,
    earlier: RunRecord | None,
    device: Device,
    progress: Progress,
    minimize: bool | None,
    force: bool,
) -> None:
    """The run of a record, or what is left of an earlier one that lies in `out`."""
    settings, chosen, checkpoint = record.settings, engine_named(record.engine), None
    if earlier:
        earlier.check_exported(out)
        join(out, chosen, settings.every)
        checkpoint = newest_checkpoint(out, chosen)
        if checkpoint:
            check_whole(out, earlier)
    start = start_at(loss, frame, settings.temperature_K, settings.seed, minimize, progress, force)
    # anew when a run goes on too: an engine is given nothing that we have not written
    files = chosen.export(loss, start, out, settings)
    loss.save(out / MODEL)
    before = earlier.started_from if earlier and checkpoint else None
    record = replace(
        record,
        started_from=before or _origin(start, int(frame.step[0])),
        exported_sha256={file.name: sha256(file) for file in files},
    )
    record.write(out)

    output = out / SESSION if checkpoint else out
    output.mkdir(exist_ok=True)
    watch = Watch(out, output, chosen, loss, start.topology, settings, progress, force)
    session = Session(out, output, checkpoint, settings, chosen.chosen(device), watch.at_step)
    began = time.perf_counter()
    _compute(chosen, session, watch)
    notes = watch.finish()
    join(out, chosen, settings.every)
    wall_s = None if checkpoint else time.perf_counter() - began
    left = departures(read_log(out), settings, start.topology.n_atoms)
    record.completed([*notes, *left], wall_s, watch.ns_per_day).write(out)


def _check_road(out: Path, record: RunRecord) -> None:
    """Raise CheckFailed if a finished run is not what was asked for."""
    for sentence in departures(read_log(out), record.settings, len(record.symbols)):
        raise CheckFailed(f"{out}: {sentence}")


def _new_record(
    loss: AgentLoss,
    engine: Engine,
    device: dict[str, str],
    settings: MD,
    start: Start,
    step: int,
    warnings: list[str],
) -> RunRecord:
    notes = warnings + [_npt_note(loss)] * (settings.ensemble == "npt")
    return RunRecord(
        engine=engine.name,
        finished=False,
        settings=settings,
        started_from=_origin(start, step),
        symbols=start.topology.symbols,
        masses_amu=tuple(start.frame.masses.tolist()),
        atom_in_source=tuple(start.order.tolist()),
        device=device,
        notes=tuple(notes),
    )


def _origin(start: Start, step: int) -> dict[str, Any]:
    return {**start.frame.origin.to_dict(), "step": step}


def _npt_note(loss: AgentLoss) -> str:
    matched = loss.provenance.get("matched", {})
    if not {"pressure_bar", "error_bar", "temperature_K"} <= set(matched):
        return NPT_NOTE
    return (
        "at the density of the data this model has {pressure_bar:.0f} ± {error_bar:.0f} bar at"
        " {temperature_K:g} K (`mld-ff match`); elsewhere its pressure is a prediction".format(
            **matched
        )
    )


def _earlier_run(out: Path, now: RunRecord, loss: AgentLoss, resume: bool) -> RunRecord | None:
    """The run that lies in `out` and is to go on, if one does. Raises InputError if it is another,
    or is not to go on.
    """
    if not (out / RECORD).exists():
        return None
    if not resume:
        raise InputError(
            "a run lies here already: choose another directory, remove this one, or go on with"
            " it (--resume)",
            out,
        )
    check_files(out, links=False)
    before = read_record(out)
    old, new = _identity(before), _identity(now)
    for key in new:
        # earlier versions told less of a start
        if key in old and key not in MAY_CHANGE and old[key] != new[key]:
            raise InputError(
                f"another run lies here: its {key} is {old[key]!r}, now it is {new[key]!r};"
                f" only {', '.join(MAY_CHANGE)} may change when a run goes on",
                out,
            )
    model = out / MODEL
    if not model.is_file():
        raise InputError("is missing: the run that lies here is not whole", model)
    if AgentLoss.load(model).dumps() != loss.dumps():  # earlier versions wrote less of a model
        raise InputError("the run that lies here was made with another model", model)
    return before


def _identity(record: RunRecord) -> dict[str, Any]:
    """What tells one run from another, as JSON holds it."""
    data = json.loads(json.dumps(record.to_dict()))
    return {"engine": data["engine"], **data["started_from"], **data["settings"]}


def _compute(engine: Engine, session: Session, watch: Watch) -> None:
    if not session.checkpoint:  # or the time left is that of a run which did all of it since now
        watch.progress(engine.name, 0, session.settings.steps)
    try:
        engine.run(session)
    except EngineError as error:
        watch.check_place()  # without a disk to write to, the engine's own words mislead
        raise advised(error) from None
