"""Real output of CP2K for the tests of its reader, and ways to spoil it."""

from __future__ import annotations

import lzma
import shutil
from pathlib import Path
from typing import Any

import pytest

from mld_ff.errors import InputError
from mld_ff.sources.cp2k import read_cp2k

DATA = Path(__file__).parent / "data" / "cp2k"
HARTREE_EV, BOHR_A, AU_TIME_FS = 27.211386, 0.529177, 0.02418884
"""Literal on purpose: independent of mld_ff.units."""


def unpacked(name: str, where: Path) -> Path:
    """A copy of a run of tests/data/cp2k that may be changed; large files are unpacked."""
    directory = where / name
    shutil.copytree(DATA / name, directory)
    for packed in directory.glob("*.xz"):
        packed.with_suffix("").write_bytes(lzma.decompress(packed.read_bytes()))
        packed.unlink()
    return directory


def edit(file: Path, old: str, new: str, count: int = 1) -> int:
    """Replace text and return the line number of its first occurrence."""
    text = file.read_text()
    assert old in text, f"{old!r} is not in {file}"
    file.write_text(text.replace(old, new, count))
    return text[: text.index(old)].count("\n") + 1


def edit_line(file: Path, number: int, new: str) -> None:
    lines = file.read_text().splitlines(keepends=True)
    lines[number - 1] = new
    file.write_text("".join(lines))


def message(*args: Any, **options: Any) -> str:
    """The error that opening or reading gives."""
    with pytest.raises(InputError) as caught:
        read_cp2k(*args, **options)
    return str(caught.value)


def frames_of(file: Path, n_atoms: int) -> list[str]:
    lines = file.read_text().splitlines(keepends=True)
    return ["".join(lines[i : i + n_atoms + 2]) for i in range(0, len(lines), n_atoms + 2)]
