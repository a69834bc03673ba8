"""Disks that are full or read-only, for root as well: a tmpfs in a mount namespace of a forked
process, gone with it."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import pytest
from command_line import invoke

NEW_NAMESPACE, NEW_USER = 0x20000, 0x10000000
PRIVATE, REMOUNT, READ_ONLY = 0x4000 | 0x40000, 32, 1
FULL, REFUSED = "No space left on device", "Read-only file system"


@dataclass(frozen=True)
class Left:
    """What a command left on such a disk."""

    exit_code: int
    stderr: str
    files: list[str]


def _mounted(disk: Path, size_kB: int) -> Callable[[], None] | None:
    """Mount it; returns what makes it read-only, or nothing where the system does not let us."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(NEW_NAMESPACE) and libc.unshare(NEW_USER | NEW_NAMESPACE):
        return None
    libc.mount(b"none", b"/", None, PRIVATE, None)
    words = str(disk).encode(), b"tmpfs"
    if libc.mount(b"tmpfs", *words, 0, f"size={size_kB}k".encode()):
        return None
    return lambda: libc.mount(b"tmpfs", *words, REMOUNT | READ_ONLY, f"size={size_kB}k".encode())


def on_a_disk(
    where: Path, commands: Iterable[list[object]], size_kB: int, read_only: bool = False
) -> list[Left]:
    """What commands leave that write to such a disk, `where / "disk"`, each to an empty one.

    Skips the test where nobody may mount one.
    """
    disk = where / "disk"
    disk.mkdir()
    reads, writes = os.pipe()
    if not (child := os.fork()):
        try:
            protect = _mounted(disk, size_kB)
            said: object = None
            if protect is not None:
                if read_only:
                    protect()
                said = [_left(disk, command) for command in commands]
        except BaseException:
            said = traceback.format_exc()
        os.write(writes, json.dumps(said).encode())
        os._exit(0)
    os.close(writes)
    with os.fdopen(reads) as stream:
        told = json.loads(stream.read())
    os.waitpid(child, 0)
    if told is None:
        pytest.skip("this system lets nobody mount a disk of his own")
    assert isinstance(told, list), told
    return [Left(*one) for one in told]


def _left(disk: Path, command: list[object]) -> tuple[int, str, list[str]]:
    done = invoke(*command)
    left = sorted(str(f.relative_to(disk)) for f in disk.rglob("*") if f.is_file())
    for each in disk.iterdir():
        shutil.rmtree(each) if each.is_dir() else each.unlink()
    return done.exit_code, done.stderr[-500:], left
