"""Which files belong to a run: recognise CP2K's file names, and say plainly when the choice is not
ours.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from mld_ff.errors import InputError
from mld_ff.files import check_readable
from mld_ff.sources.cp2k.read.content import role_by_content

_COMPRESSED = r"(?:\.gz|\.bz2|\.xz)?"
_FRAMES = rf"-\d+(?:_\d+)?\.(?:xyz{_COMPRESSED}|dcd|pdb{_COMPRESSED})"
_PATTERNS = {
    "positions": re.compile(rf"(?P<project>.+)-pos{_FRAMES}"),
    "forces": re.compile(rf"(?P<project>.+)-frc{_FRAMES}"),
    "velocities": re.compile(rf"(?P<project>.+)-vel{_FRAMES}"),
    "energies": re.compile(rf"(?P<project>.+)-\d+\.ener{_COMPRESSED}"),
    "cells": re.compile(rf"(?P<project>.+)-\d+\.cell{_COMPRESSED}"),
    "stress": re.compile(rf"(?P<project>.+)-\d+\.stress{_COMPRESSED}"),
    "restart": re.compile(rf"(?P<project>.+)-\d+\.restart{_COMPRESSED}"),
    "input": re.compile(rf".+\.inp{_COMPRESSED}"),
}
SOUGHT = (
    "PROJ-pos-1.xyz, PROJ-frc-1.xyz, PROJ-vel-1.xyz, PROJ-1.ener, PROJ-1.cell, PROJ-1.restart,"
    " and inputs and logs by any name"
)
ROLES = ("positions", "forces", "velocities", "energies", "cells", "stress", "input", "log")
"""Of files that can be named one by one."""
_ONE_PER_RUN = ("positions", "forces", "velocities", "energies", "cells", "stress", "restart")
_CHECKED = ("forces", "velocities")
"""Of these atoms, steps and energies are held against those of the positions, so that a file by
another project's name may be tried."""


class RunFiles:
    """The files of one run.

    `one` holds at most one file for positions, forces, velocities, energies, cells, stress,
    restart; `inputs` and `logs` all the candidates, `tables` and `dipoles` files of forces and
    dipoles as a log has them;
    `project` is CP2K's project name if the file names tell it; `where` the place looked at.
    """

    def __init__(self, path: Path | Iterable[Path] | None, named: Mapping[str, Path]) -> None:
        self.where, present = _present(path, named)
        self.named = frozenset(named)
        several = ("input", "log")
        self.one: dict[str, Path] = {role: f for role, f in named.items() if role not in several}
        recognised = _recognised(present, named)
        self.tables = recognised["tables"]
        self.dipoles = recognised["dipoles"]
        self.project = self._choose_project(recognised)
        for role in _ONE_PER_RUN:
            self._choose(role, recognised[role])
        self.inputs = [named["input"]] if "input" in named else recognised["input"]
        self.logs = [named["log"]] if "log" in named else recognised["log"]
        self.present = present

    def _choose_project(self, recognised: Mapping[str, list[Path]]) -> str | None:
        """The project of the positions that were named, else the only one there is, else that of
        other files that were named.
        """
        if "positions" in self.one:
            return project_of(self.one["positions"])
        for role in ("positions", "forces"):
            projects = sorted({project_of(file) or "" for file in recognised[role]})
            asked = [project_of(file) for file in self.one.values()]
            if len(projects) > 1 and (chosen := [p for p in projects if p in asked]):
                return chosen[0]
            if len(projects) > 1:
                files = ", ".join(file.name for file in recognised[role])
                raise InputError(
                    f"found the output of {len(projects)} projects ({files}); name the one to read,"
                    f" for example --file {role}={recognised[role][0].name}, or put each run into"
                    " its own directory",
                    self.where,
                )
            if projects:
                return projects[0]
        return None

    def _choose(self, role: str, candidates: list[Path]) -> None:
        if role in self.one:
            return
        matching = candidates
        if self.project is not None:
            of = {file: project_of(file) or "" for file in candidates}
            matching = [file for file in candidates if of[file] == self.project] or [
                file for file in candidates if _is_part_of(of[file], self.project)
            ]
        if not matching and role in _CHECKED and len(candidates) == 1:
            matching = candidates
        if len(matching) > 1:
            raise InputError(
                f"found several files with {role}: {', '.join(file.name for file in matching)}; "
                + (
                    "leave only one"
                    if role == "restart"
                    else f"name the one to read with --file {role}=FILE"
                ),
                self.where,
            )
        if matching:
            self.one[role] = matching[0]

    @property
    def of_other_names(self) -> list[str]:
        """Roles whose file was not named and is called otherwise than the positions."""
        positions = project_of(self.one["positions"]) if "positions" in self.one else None
        return [
            role
            for role in _CHECKED
            if role in self.one
            and role not in self.named
            and project_of(self.one[role]) not in (None, positions)
        ]

    def no_positions(self) -> InputError:
        """What to say where there are none."""
        names = [file.name for file in self.present]
        there = ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
        if runs := self._directories_with_runs():
            said = f"no positions of CP2K here, but in {', '.join(runs[:10])}: give one of them"
            return InputError(said, self.where)
        return InputError(
            f"no positions of CP2K found: sought {SOUGHT} (each also .gz, .bz2, .xz; positions also"
            f" .dcd, .pdb); there is {there or 'nothing'}. CP2K prints positions with &MOTION /"
            " &PRINT / &TRAJECTORY; name a file with another name with --file positions=FILE",
            self.where,
        )

    def _directories_with_runs(self) -> list[str]:
        """Those one or two levels below that hold positions."""
        if self.where is None or not self.where.is_dir():
            return []
        found = set[str]()
        for pattern in ("*/*", "*/*/*"):
            with suppress(OSError):  # not ours to read, or gone by now
                files = self.where.glob(pattern)
                found |= {str(f.parent) for f in files if role_of(f) == "positions"}
        return sorted(found)


def _recognised(present: list[Path], named: Mapping[str, Path]) -> dict[str, list[Path]]:
    """Files by role: by their names, else by their contents."""
    found: dict[str, list[Path]] = {role: [] for role in (*_PATTERNS, "log", "tables", "dipoles")}
    by_content = list[Path]()
    for file in present:
        if file in named.values():
            continue
        role = role_of(file)
        if role is None:
            role = role_by_content(file)
            if role == "input":
                by_content.append(file)
                continue
        if role and role not in named:
            found[role].append(file)
    if "input" not in named:
        # other programs call their inputs .inp as well
        by_name = [file for file in found["input"] if role_by_content(file) == "input"]
        found["input"] = by_name or by_content or found["input"]
    return found


def _is_part_of(name: str, project: str) -> bool:
    """Whether one is the other with a FILENAME after it."""
    return name.startswith(f"{project}-") or project.startswith(f"{name}-")


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
        _must_exist(file, f" of {role}")
    if path is None:
        return next((file.parent for file in named.values()), None), []
    if isinstance(path, Path):
        if path.is_dir():
            return path, sorted(file for file in path.iterdir() if file.is_file())
        path = [path]
    files = list(path)
    for file in files:
        _must_exist(file, "")
        if role_of(file) is None and role_by_content(file) is None:
            raise InputError(
                f"the name does not tell what this file holds; names known are {SOUGHT} (each also"
                f" .gz, .bz2, .xz); for another name use {'=, '.join(ROLES)}=",
                file,
            )
    return (files[0].parent if files else None), files


def _must_exist(file: Path, option: str) -> None:
    if file.is_dir():
        raise InputError(f"this is a directory, expected a file{option}", file)
    if not file.exists():
        raise InputError(f"no such file{option or ' or directory'}", file)
    check_readable(file)
