"""Work in rounds of fitting and running, whose state lies in a directory: what was killed goes on
where it was.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, Protocol, Self, TypeVar

import numpy as np

from mld_ff.engines.settings import MD, Device
from mld_ff.errors import CheckFailed, EngineError, InputError
from mld_ff.files import check_files, read_json, to_json, write_atomically
from mld_ff.loss.model import AgentLoss
from mld_ff.outputs import others
from mld_ff.production.record import RECORD, read_record
from mld_ff.production.results import read_run
from mld_ff.production.simulation import MODEL, run
from mld_ff.progress import Progress
from mld_ff.trajectory import Trajectory

NO_RECORD = (KeyError, TypeError, ValueError, AttributeError, InputError)
"""What comes of making a record of something else."""
REMOVE = "put back what it held, or begin in another directory"


class Round(Protocol):
    """What is kept of a round that was done."""

    @property
    def round(self) -> int:
        """Its number, from 1 on."""

    def to_dict(self) -> dict[str, Any]:
        """As JSON keeps it."""

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Of what `to_dict` gave. Raises one of NO_RECORD if it is something else."""


AnyRound = TypeVar("AnyRound", bound=Round)


@dataclass(frozen=True)
class State(Generic[AnyRound]):
    """What a file keeps of work in rounds."""

    file: Path
    head: Mapping[str, Any]
    """`format`, `version`, `settings` and `data`."""
    rounds: list[AnyRound]
    """Those that are done."""

    def add(self, one: AnyRound) -> None:
        """Note a round that is done."""
        self.rounds.append(one)
        self.write()

    def write(self) -> None:
        rounds = [one.to_dict() for one in self.rounds]
        write_atomically(self.file, to_json({**self.head, "rounds": rounds}, indent=1))


def begin(file: Path, head: Mapping[str, Any], kind: type[AnyRound]) -> State[AnyRound]:
    """The state in `file`, or a new one without rounds, written there.

    head: `format`, `version`, `settings` and `data`, which must be those that the state was begun
    with. kind: of its rounds. Raises InputError otherwise, or if the file's directory holds
    something else.
    """
    mine = json.loads(to_json(head))
    kept = kept_state(file, mine)
    if kept is None:
        state = State[AnyRound](file, mine, [])
        state.write()
        return state
    try:
        rounds = [kind.from_dict(one) for one in kept["rounds"]]
    except NO_RECORD as error:
        raise InputError(f"does not hold what its rounds did ({error}): {REMOVE}", file) from None
    if [one.round for one in rounds] != list(range(1, len(rounds) + 1)):
        raise InputError(f"does not hold its rounds one after the other: {REMOVE}", file)
    return State(file, mine, rounds)


def kept_state(file: Path, mine: Mapping[str, Any]) -> Any:
    """What `file` keeps of work that was begun with the same `format`, `version`, `settings` and
    `data`; None if its directory is empty. Raises InputError otherwise.
    """
    out = file.parent
    if not [f for f in others(out) if f != file]:
        return None  # what lies there at most was refused before it came to anything
    if not file.exists():
        raise InputError(f"is not empty and holds no {file.name}: choose another directory", out)
    check_files(out, links=False)
    kept = read_json(file, f"the state of a {mine['format'].split()[-1]}")
    _check_same(kept, mine, file)
    return kept


def _check_same(kept: Any, mine: Mapping[str, Any], file: Path) -> None:
    """Raise InputError unless a state was begun as this one is."""
    if (
        not isinstance(kept, dict)
        or any(kept.get(key) != mine[key] for key in ("format", "version"))
        or not isinstance(kept.get("settings"), dict)
    ):
        what = f"is not the state of a {mine['format'].split()[-1]}, or of another version"
        raise InputError(f"{what}: choose another directory", file)
    if kept.get("data") != mine["data"]:
        raise InputError(
            "was begun with another reference, or other frames of it: choose another directory",
            file,
        )
    if changed := _differences(kept.get("settings", {}), mine["settings"]):
        raise InputError(
            f"was begun with other settings: {'; '.join(changed)}. Give the same, or choose another"
            " directory",
            file,
        )


def _differences(old: Mapping[str, Any], new: Mapping[str, Any], where: str = "") -> list[str]:
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
    force: bool = False,
) -> str | None:
    """Run unless that has been done; returns why if it stopped after some frames, or left what was
    asked of it.
    """
    finished = (there / RECORD).exists() and read_record(there).finished
    if not finished:
        shutil.rmtree(there, ignore_errors=True)
    try:
        run(loss, frame, engine, there, settings, device, progress, resume=finished, force=force)
    except (EngineError, CheckFailed) as error:
        try:
            read_run(there)
        except InputError:
            raise error from None
        return str(error)
    return None


def check_ran(file: Path, loss: AgentLoss, there: Path) -> None:
    """Raise InputError if a run, where it still lies there, is of another model than that in
    `file`."""
    ran = there / MODEL
    if ran.exists() and AgentLoss.load(ran).dumps() != loss.dumps():
        raise InputError(f"is not the model that ran in {there}: {REMOVE}", file)


def frames_of_run(there: Path, start: Trajectory) -> Trajectory:
    """What a run wrote, its atoms in the order of `start`, from which it began."""
    frames, order = read_run(there), np.argsort(read_record(there).atom_in_source)
    # the file holds the cell in single precision, and it is that of the start
    cell = np.repeat(start.standard_cell().cell, frames.n_frames, axis=0)
    return replace(
        frames.select_atoms(order), cell=cell, symbols=start.symbols, masses=start.masses
    )
