"""Work in rounds of fitting and running, whose state lies in a directory: what was killed goes on
where it was.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mld_ff.engines.settings import MD, Device
from mld_ff.errors import EngineError, InputError
from mld_ff.files import read_json, to_json, write_atomically
from mld_ff.loss.model import AgentLoss
from mld_ff.production.record import RECORD, read_record
from mld_ff.production.results import read_run
from mld_ff.production.simulation import run
from mld_ff.progress import Progress
from mld_ff.trajectory import Trajectory


def begin(file: Path, name: str, version: int, mine: dict[str, Any]) -> dict[str, Any]:
    """The state in `file`, or a new one with no `rounds`, written there.

    mine: `settings` and `data`, which must be those that the state was begun with. Raises
    InputError otherwise, or if the file's directory holds something else.
    """
    out, mine = file.parent, json.loads(to_json(mine))
    others = [f for f in out.iterdir() if f != file] if out.is_dir() else []
    if not others:  # what lies there at most was refused before it came to anything
        state: dict[str, Any] = {"format": name, "version": version, **mine, "rounds": []}
        write_atomically(file, to_json(state, indent=1))
        return state
    if not file.exists():
        raise InputError(f"is not empty and holds no {file.name}: choose another directory", out)
    state = read_json(file, f"the state of a {name.split()[-1]}")
    if not isinstance(state, dict) or (state.get("format"), state.get("version")) != (
        name,
        version,
    ):
        what = f"is not the state of a {name.split()[-1]}, or of another version"
        raise InputError(f"{what}: choose another directory", file)
    if state["data"] != mine["data"]:
        raise InputError(
            "was begun with another reference, or other frames of it: choose another directory",
            file,
        )
    if changed := _differences(state["settings"], mine["settings"]):
        raise InputError(
            f"was begun with other settings: {'; '.join(changed)}. Give the same, or choose another"
            " directory",
            file,
        )
    return state


def _differences(old: dict[str, Any], new: dict[str, Any], where: str = "") -> list[str]:
    differences = []
    for key in dict.fromkeys((*old, *new)):
        a, b = old.get(key), new.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            differences += _differences(a, b, f"{where}{key} ")
        elif a != b:
            differences.append(f"{where}{key} was {a}, now is {b}")
    return differences


def run_once(
    there: Path,
    loss: AgentLoss,
    frame: Trajectory,
    settings: MD,
    engine: str,
    progress: Progress,
    device: Device | None = None,
) -> str | None:
    """Run unless that has been done; returns the engine's words if it stopped after some frames."""
    if (there / RECORD).exists() and read_record(there).finished:
        return None
    shutil.rmtree(there, ignore_errors=True)
    try:
        run(loss, frame, engine, there, settings, device, progress)
    except EngineError as error:
        try:
            read_run(there)
        except InputError:
            raise error from None
        return str(error)
    return None


def frames_of_run(there: Path, start: Trajectory) -> Trajectory:
    """What a run wrote, its atoms in the order of `start`, from which it began."""
    frames, order = read_run(there), np.argsort(read_record(there).atom_in_source)
    # the file holds the cell in single precision, and it is that of the start
    cell = np.repeat(start.standard_cell().cell, frames.n_frames, axis=0)
    return replace(
        frames.select_atoms(order), cell=cell, symbols=start.symbols, masses=start.masses
    )
