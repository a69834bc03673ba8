"""Which files belong to a run: recognise CP2K's file names, and say plainly when the choice is not
ours.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from mld_ff.errors import InputError

_COMPRESSED = r"(?:\.gz|\.bz2|\.xz)?"
_PATTERNS = {
    "positions": re.compile(rf"(?P<project>.+)-pos-\d+\.xyz{_COMPRESSED}"),
    "forces": re.compile(rf"(?P<project>.+)-frc-\d+\.xyz{_COMPRESSED}"),
    "velocities": re.compile(rf"(?P<project>.+)-vel-\d+\.xyz{_COMPRESSED}"),
    "energies": re.compile(rf"(?P<project>.+)-\d+\.ener{_COMPRESSED}"),
    "cells": re.compile(rf"(?P<project>.+)-\d+\.cell{_COMPRESSED}"),
    "restart": re.compile(rf"(?P<project>.+)-\d+\.restart{_COMPRESSED}"),
    "input": re.compile(rf".+\.inp{_COMPRESSED}"),
    "log": re.compile(rf".+\.(?:out|log){_COMPRESSED}"),
}
SOUGHT = (
    "PROJ-pos-1.xyz, PROJ-frc-1.xyz, PROJ-vel-1.xyz, PROJ-1.ener, PROJ-1.cell, PROJ-1.restart,"
    " *.inp"
)
ROLES = ("positions", "forces", "velocities", "energies", "cells", "input")
"""Of files that can be named one by one."""
_ONE_PER_RUN = ("positions", "forces", "velocities", "energies", "cells", "restart")


class RunFiles:
    """The files of one run.

    `one` holds at most one file for positions, forces, velocities, energies, cells, restart;
    `inputs` and `logs` all the candidates; `project` is CP2K's project name if the file names tell
    it; `where` the place looked at.
    """

    def __init__(self, path: Path | Iterable[Path] | None, named: Mapping[str, Path]) -> None:
        self.where, present = _present(path, named)
        self.named = frozenset(named)
        self.one: dict[str, Path] = {role: file for role, file in named.items() if role != "input"}
        recognised: dict[str, list[Path]] = {role: [] for role in _PATTERNS}
        for file in present:
            role = role_of(file)
            if role and role not in named:
                recognised[role].append(file)
        self.project = self._choose_project(recognised)
        for role in _ONE_PER_RUN:
            self._choose(role, recognised[role])
        self.inputs = [named["input"]] if "input" in named else recognised["input"]
        self.logs = recognised["log"]
        if "positions" not in self.one:
            raise _no_positions(self, present)

    def _choose_project(self, recognised: Mapping[str, list[Path]]) -> str | None:
        """The project of the files that were named, else the only one there is."""
        if "positions" in self.one or "forces" in self.one:
            first = self.one.get("positions") or self.one["forces"]
            return project_of(first)
        for role in ("positions", "forces"):
            projects = sorted({project_of(file) or "" for file in recognised[role]})
            if len(projects) > 1:
                files = ", ".join(file.name for file in recognised[role])
                raise InputError(
                    f"found the output of {len(projects)} projects ({files}); name the one to read,"
                    f" for example {role}={recognised[role][0].name}, or put each run into its own"
                    " directory",
                    self.where,
                )
            if projects:
                return projects[0]
        return None

    def _choose(self, role: str, candidates: list[Path]) -> None:
        if role in self.one:
            return
        matching = [
            file for file in candidates if self.project is None or project_of(file) == self.project
        ]
        if len(matching) > 1:
            raise InputError(
                f"found several files with {role}: {', '.join(file.name for file in matching)}; "
                + (
                    "leave only one"
                    if role == "restart"
                    else f"name the one to read with {role}=FILE"
                ),
                self.where,
            )
        if matching:
            self.one[role] = matching[0]


def is_cp2k(path: Path) -> bool:
    """Whether it is a directory, or a file by one of CP2K's names."""
    return path.is_dir() or role_of(path) is not None


def role_of(file: Path) -> str | None:
    """What a file holds, by its name."""
    return next((role for role, pattern in _PATTERNS.items() if pattern.fullmatch(file.name)), None)


def project_of(file: Path) -> str | None:
    """CP2K's project name in a file name."""
    match = next((m for role in _ONE_PER_RUN if (m := _PATTERNS[role].fullmatch(file.name))), None)
    return match["project"] if match else None


def _present(
    path: Path | Iterable[Path] | None, named: Mapping[str, Path]
) -> tuple[Path | None, list[Path]]:
    """The place that was looked at and the files there, all of which exist."""
    for role, file in named.items():
        _must_exist(file, f"{role}=")
    if path is None:
        return next((file.parent for file in named.values()), None), []
    if isinstance(path, Path):
        if path.is_dir():
            return path, sorted(file for file in path.iterdir() if file.is_file())
        path = [path]
    files = list(path)
    for file in files:
        _must_exist(file, "")
        if role_of(file) is None:
            raise InputError(
                f"the name does not tell what this file holds; names known are {SOUGHT} (each also"
                " .gz, .bz2, .xz); for another name use positions=, forces=, velocities=,"
                " energies=, cells= or input=",
                file,
            )
    return (files[0].parent if files else None), files


def _must_exist(file: Path, option: str) -> None:
    if file.is_dir():
        raise InputError(f"{option}this is a directory, expected a file", file)
    if not file.exists():
        raise InputError(f"{option}no such file or directory", file)


def _no_positions(files: RunFiles, present: list[Path]) -> InputError:
    names = [file.name for file in present]
    there = ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
    dcd = (
        " (a .dcd file cannot be read: let CP2K print FORMAT XMOL)"
        if any(n.endswith(".dcd") for n in names)
        else ""
    )
    return InputError(
        f"no positions of CP2K found: sought {SOUGHT} (each also .gz, .bz2, .xz); there is"
        f" {there or 'nothing'}{dcd}. CP2K prints positions with &MOTION / &PRINT / &TRAJECTORY;"
        " name a file with another name with positions=FILE",
        files.where,
    )
