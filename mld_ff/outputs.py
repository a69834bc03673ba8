"""Where results go: what lies there already is kept, and one process at a time writes there.

Looked at before anything is computed. A process holds its place by a lock of the operating system,
which ends with it however it ends; a note in the locked file says whose it is. A note without a
lock tells that its process was killed, and that what lies there is not whole.
"""

from __future__ import annotations

import fcntl
import json
import os
import shlex
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mld_ff.errors import InputError
from mld_ff.files import check_writable

LOCK = ".mld-ff.lock"
"""In a directory that is written to; beside a file it carries the file's name."""
_held = set[Path]()
"""By this process: to it, its own locks are none."""


@dataclass(frozen=True)
class Results:
    """What a command leaves as a whole, which nobody adds to."""

    begins: bytes | None = None
    """How such a file begins; None: the command leaves a directory."""


@contextmanager
def results(
    output: Path | str, verb: str, kind: Results, overwrite: bool = False
) -> Iterator[None]:
    """Hold the place of new results while they are made.

    A file must be new, or with `overwrite` of the same kind; a directory new or empty, or left by a
    process of the same verb that was killed; with `overwrite`, files of the same names are
    replaced. Raises InputError otherwise, or if another process holds the place.
    """
    place = Path(output)
    if kind.begins is None:
        with held(place, verb) as unfinished:
            if not (overwrite or unfinished) and others(place):
                raise InputError(
                    "is not empty: choose another directory, or replace what has the same names"
                    " there (--overwrite)",
                    place,
                )
            yield
        return
    _check_file(place, kind.begins, overwrite)
    target = place.resolve() if place.is_symlink() else place
    with _made(target.parent), _locked(target.with_name(f".{target.name}{LOCK}"), place, verb):
        yield


@contextmanager
def held(directory: Path | str, verb: str) -> Iterator[bool]:
    """Hold a directory, which is made if it is not there; gives whether a process of the same verb
    that was killed left it unfinished.

    Raises InputError if another process holds it, or nothing can be written there. If an error ends
    what is done meanwhile, nothing is left of a directory that stayed empty, and a note if what
    lies there is new.
    """
    place = Path(directory)
    with _made(place), _locked(place / LOCK, place, verb) as note:
        unfinished = note.left_by == verb
        note.new = unfinished or not others(place)
        yield unfinished


def others(directory: Path) -> list[Path]:
    """What lies in a directory, if it is there, but for the note of who writes there."""
    try:
        return [file for file in directory.iterdir() if file.name != LOCK]
    except FileNotFoundError:
        return []


@contextmanager
def _made(directory: Path) -> Iterator[None]:
    """Make a directory; an error meanwhile removes it again if it is empty."""
    try:
        new = [each for each in (directory, *directory.parents) if not each.exists()]
        directory.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise InputError("is a file: give a directory to write to", directory) from None
    except OSError as error:
        raise InputError(f"cannot be written: {error.strerror}", directory) from None
    try:
        yield
    except BaseException:
        with suppress(OSError):  # something lies there, and stays
            for each in new:
                each.rmdir()
        raise


def _check_file(file: Path, begins: bytes, overwrite: bool) -> None:
    """Raise InputError unless a file can be made there, or replaced if that is asked for."""
    check_writable(file)
    if not file.exists():
        return
    if not overwrite:
        raise InputError("exists: give another name, or replace it (--overwrite)", file)
    try:
        with file.open("rb") as stream:
            found = stream.read(len(begins))
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", file) from None
    if found and found != begins:
        raise InputError("is a file of another kind, and stays: give another name", file)


# --- locks ----------------------------------------------------------------------------------------


@dataclass
class _Note:
    left_by: Any
    """Verb of the process that left the lock behind when it was killed."""
    new: bool = False
    """Whether all that lies there is new, or was not whole: an error then leaves the note."""


@contextmanager
def _locked(lock: Path, place: Path, verb: str) -> Iterator[_Note]:
    """Hold a lock for a place, with a note of who does."""
    lock = lock.parent.resolve() / lock.name
    if lock in _held:
        raise InputError("is written to by this process already", place)
    with _opened(lock, place) as descriptor:
        left = _read(descriptor)
        note = _Note(left.get("verb"))
        _write(descriptor, _mine(verb))
        _held.add(lock)
        stays = False
        try:
            yield note
        except BaseException:
            other = bool(left) and note.left_by != verb
            if other:
                _write(descriptor, left)  # what another verb left unfinished still is
            stays = other or (note.new and bool(others(lock.parent)))
            raise
        finally:
            _held.discard(lock)
            if not stays:
                with suppress(OSError):  # the directory may have vanished
                    lock.unlink()


def _mine(verb: str) -> dict[str, Any]:
    return {
        "verb": verb,
        "process": os.getpid(),
        "host": socket.gethostname(),
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
        "command": shlex.join(sys.argv),
    }


@contextmanager
def _opened(lock: Path, place: Path) -> Iterator[int]:
    """Descriptor of a file that this process alone has locked."""
    while True:
        try:
            descriptor = os.open(
                lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o644
            )
        except OSError as error:
            raise InputError(f"cannot be written: {error.strerror}", place) from None
        try:
            _lock(descriptor, place)
            if _is_still(lock, descriptor):  # its owner may have removed it while we opened it
                yield descriptor
                return
        finally:
            os.close(descriptor)


def _lock(descriptor: int, place: Path) -> None:
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        raise InputError(f"another process writes there: {_who(descriptor)}", place) from None
    except OSError:
        pass  # a file system without locks: nobody can be told


def _is_still(lock: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), lock.stat())
    except OSError:
        return False


def _read(descriptor: int) -> dict[str, Any]:
    """What a note says; nothing if there is none."""
    try:
        note = json.loads(os.pread(descriptor, 10_000, 0))
    except (OSError, ValueError, RecursionError):
        return {}
    return note if isinstance(note, dict) else {}


def _write(descriptor: int, note: dict[str, Any]) -> None:
    with suppress(OSError):  # on a full disk it stays empty; what is to be written there says so
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, (json.dumps(note) + "\n").encode(), 0)


def _who(descriptor: int) -> str:
    note = _read(descriptor)
    command, process = note.get("command", "?"), note.get("process", "?")
    return (
        f"{command} (process {process} on {note.get('host', '?')}, since {note.get('since', '?')})"
    )
