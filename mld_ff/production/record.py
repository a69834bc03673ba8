"""run.json: what a run is, written before it begins and completed when it has ended."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Self

from mld_ff.engines.registry import engine_named
from mld_ff.engines.settings import MD
from mld_ff.errors import InputError
from mld_ff.files import check_files, read_json, write_atomically
from mld_ff.loss.limits import is_number
from mld_ff.names import check_species

RECORD = "run.json"


HEAVIEST_AMU = 1000.0
"""Of what a run may hold."""


@dataclass(frozen=True)
class RunRecord:
    """A run: engine, settings, where it started, and once it is finished, how it went."""

    engine: str
    """Its name (`ENGINES`)."""
    finished: bool
    settings: MD
    started_from: Mapping[str, Any]
    """Where the frame at the start is from (`Trajectory.origin`), and its `step` there."""
    symbols: tuple[str, ...]
    """Element of every atom, (N,)."""
    masses_amu: tuple[float, ...]
    """Mass of every atom, (N,)."""
    atom_in_source: tuple[int, ...]
    """Index of every atom in the frame at the start, (N,)."""
    device: Mapping[str, str] = field(default_factory=dict)
    """What the engine computed on (`Engine.find`)."""
    notes: tuple[str, ...] = ()
    """What a user should know."""
    wall_s: float | None = None
    """Wall time of the whole run [s]; None if it was resumed."""
    ns_per_day: float | None = None
    """Speed of the last session."""
    exported_sha256: Mapping[str, str] = field(default_factory=dict)
    """Of the files that the engine was given, by name; empty in runs from before 0.2."""

    def completed(self, notes: list[str], wall_s: float | None, ns_per_day: float | None) -> Self:
        """The record of the run when it has ended; the notes are added."""
        notes_of_all = (*self.notes, *notes)
        return replace(
            self, finished=True, notes=notes_of_all, wall_s=wall_s, ns_per_day=ns_per_day
        )

    def to_dict(self) -> dict[str, Any]:
        """As run.json holds it; how the run went is there once it is finished."""
        data: dict[str, Any] = {
            "engine": self.engine,
            "finished": self.finished,
            "device": dict(self.device),
            "settings": vars(self.settings),
            "started_from": dict(self.started_from),
            "symbols": list(self.symbols),
            "masses_amu": list(self.masses_amu),
            "atom_in_source": list(self.atom_in_source),
            "notes": list(self.notes),
            "exported_sha256": dict(self.exported_sha256),
        }
        if self.finished:
            data |= {"wall_s": self.wall_s, "ns_per_day": self.ns_per_day}
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Fields of later versions are left out. Raises InputError naming the field."""
        own = fields(cls)
        needed = [f.name for f in own if f.default is MISSING and f.default_factory is MISSING]
        if missing := [name for name in needed if name not in data]:
            raise InputError(f"has no {missing[0]!r}")
        values = {f.name: data[f.name] for f in own if f.name in data}
        engine_named(values["engine"])
        settings = values["settings"]
        if not isinstance(settings, Mapping):
            raise InputError("does not hold what a run has: settings")
        if unknown := [name for name in settings if name not in {f.name for f in fields(MD)}]:
            raise InputError(f"has settings of another version: {unknown[0]!r} is none of this one")
        try:
            values["settings"] = MD(**settings)
            for name in ("symbols", "masses_amu", "atom_in_source", "notes"):
                if name in values:
                    values[name] = tuple(values[name])
        except TypeError as error:
            raise InputError(f"does not hold what a run has: {error}") from None
        record = cls(**values)
        record.check()
        return record

    def check(self) -> None:
        """Raise InputError, naming the field, unless every field is what it should be."""
        n = len(self.symbols)
        tables = (self.device, self.started_from, self.exported_sha256)
        holds = {
            "finished": isinstance(self.finished, bool),
            "symbols": n > 0 and all(isinstance(symbol, str) for symbol in self.symbols),
            "masses_amu": len(self.masses_amu) == n
            and all(is_number(mass) and 0 < mass < HEAVIEST_AMU for mass in self.masses_amu),
            "atom_in_source": len(self.atom_in_source) == n
            and all(type(k) is int for k in self.atom_in_source)
            and sorted(self.atom_in_source) == list(range(n)),
            "notes": all(isinstance(note, str) for note in self.notes),
            "device, started_from or exported_sha256": all(isinstance(t, Mapping) for t in tables),
            "wall_s": self.wall_s is None or (is_number(self.wall_s) and self.wall_s > 0),
            "ns_per_day": self.ns_per_day is None
            or (is_number(self.ns_per_day) and self.ns_per_day > 0),
        }
        if wrong := [name for name, right in holds.items() if not right]:
            raise InputError(f"does not hold what a run has: {wrong[0]}")
        check_species(self.symbols)

    def check_exported(self, directory: Path) -> None:
        """Raise InputError if a file that the engine was given is not what it was."""
        for name, expected in self.exported_sha256.items():
            file = directory / Path(name).name
            if file.exists() and sha256(file) != expected:
                raise InputError(
                    "was changed since this run began. A run that goes on has all its files"
                    " written anew, which would lose the change: remove this file and go on"
                    " (--resume), or run what is here without mld-ff",
                    file,
                )

    def write(self, directory: Path) -> None:
        """Write run.json."""
        write_atomically(directory / RECORD, json.dumps(self.to_dict(), indent=1) + "\n")


def sha256(file: Path) -> str:
    """Of a file's content. Raises InputError if it cannot be read."""
    try:
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", file) from None


def read_record(directory: Path | str) -> RunRecord:
    """What run.json says of a run. Raises InputError if there is none, or no whole one, or what is
    no file lies beside it.
    """
    out = Path(directory)
    check_files(out)
    try:
        data = read_json(out / RECORD, "a run")
    except InputError:
        data = None
    if not isinstance(data, dict):
        raise InputError(
            f"holds no run ({RECORD} is missing or broken); make one with `mld-ff run`", out
        )
    try:
        return RunRecord.from_dict(data)
    except InputError as error:
        raise InputError(f"{error}; make the run anew with `mld-ff run`", out / RECORD) from None
