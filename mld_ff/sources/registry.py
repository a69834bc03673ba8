"""The kinds of sources there are, one line each."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path

from mld_ff.errors import InputError
from mld_ff.sources.cp2k import CP2K
from mld_ff.sources.extxyz import EXTXYZ
from mld_ff.sources.source import FileSource, SourceKind

SOURCES: tuple[SourceKind, ...] = (CP2K, EXTXYZ)
"""The first that recognises a path opens it."""


def kind_of(path: Path | str) -> SourceKind:
    """The kind of source that lies there. Raises InputError if there is none, or nothing."""
    path = Path(path)
    if not path.exists():
        raise InputError(f"no such file or directory{_meant(path)}", path)
    for kind in SOURCES:
        if kind.recognises(path):
            return kind
    raise InputError(
        "the name does not tell what frames this file holds; known are "
        + ", ".join(kind.name for kind in SOURCES),
        path,
    )


def open_source(
    path: Path | str,
    *,
    require_forces: bool | None = True,
    skip_fs: float = 0.0,
    files: Mapping[str, Path] | None = None,
) -> FileSource:
    """Open whatever holds frames: the directory of a CP2K run, an extended XYZ file, ….

    require_forces: whether a source without forces is an error; None: use forces where there are
    some. skip_fs: frames of this first stretch of time are left out (equilibration). files: some of
    its files by name, for a source that has several. Raises InputError for whatever cannot be used,
    with file, line and remedy. Numbers are checked while reading.
    """
    kind, files = kind_of(path), files or {}
    for role in files:
        if role not in kind.roles:
            raise InputError(_no_such_role(role, kind), path)
    return kind.open(Path(path), require_forces=require_forces, skip_fs=skip_fs, **files)


def _meant(path: Path) -> str:
    """What lies beside it by nearly its name, or else what to give."""
    try:
        beside = [each.name for each in path.parent.iterdir()]
    except OSError:
        return f": there is no directory {path.parent} either"
    if near := get_close_matches(path.name, beside, 1):
        return f"; did you mean {path.with_name(near[0])}?"
    return ": give a directory of CP2K, or extended XYZ; `mld-ff reference` makes one"


def _no_such_role(role: str, kind: SourceKind) -> str:
    if not kind.roles:
        return f"this is {kind.name}, which is one file: none of its files can be named ({role}=…)"
    return f"{kind.name} has no file for {role!r}; its files are {', '.join(kind.roles)}"
