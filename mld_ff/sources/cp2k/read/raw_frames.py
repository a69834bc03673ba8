"""Complete frames of the XYZ files that CP2K prints, as text: half-written ones are recognised and
passed over.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mld_ff.errors import InputError
from mld_ff.sources.textfiles import Lines, is_count, open_binary


@dataclass(frozen=True, slots=True)
class RawFrame:
    """One complete frame as text."""

    line: int
    """Line number of its first line, the number of atoms."""
    comment: bytes
    rows: list[bytes]


@dataclass
class Damage:
    """Line numbers of the half-written frames that a scan met."""

    middle: list[int] = field(default_factory=list)
    last: int | None = None


def scan(path: Path, damage: Damage) -> Iterator[RawFrame]:
    """The complete frames of a file; the half-written ones are passed over and noted in `damage`.

    A frame is half-written if the file ends in it (the run is going on, or crashed) or if the next
    frame begins before its last atom (crashed, then restarted; the next frame may begin in the
    middle of a line). Raises InputError for an empty file, for a header that is none and for a
    number of atoms that changes.
    """
    with open_binary(path) as stream:
        lines = Lines(stream)
        n_atoms, resumed = 0, False
        while head := _take_head(lines):
            start = lines.number - len(head) + 1
            if len(head) < 2 or not head[1].endswith(b"\n"):
                damage.last = start
                return
            header, is_cut = _without_remainder(head[0], resumed)
            if is_cut:
                damage.middle.append(start)
            n_atoms = _atom_count(header, n_atoms, path, start)
            rows = lines.take(
                n_atoms + 1
            )  # one more than the frame: where the next one begins shows a cut-off row
            resumed = b"=" in b"".join(rows)
            if resumed:
                damage.middle.append(start)
                begun = next(i for i, row in enumerate(rows) if b"=" in row)
                lines.give_back([head[1], *rows][begun:])
            elif len(rows) < n_atoms or (len(rows) == n_atoms and _is_cut_off(rows[-1])):
                damage.last = start
                return
            else:
                lines.give_back(rows[n_atoms:])
                yield RawFrame(start, head[1], rows[:n_atoms])


def _take_head(lines: Lines) -> list[bytes]:
    """The two lines that a frame begins with; blank lines before them are passed over."""
    while (first := lines.take(1)) and not first[0].strip():
        pass
    return first + lines.take(1)


def _without_remainder(header: bytes, resumed: bool) -> tuple[bytes, bool]:
    """The header without what a crash left before it on its line, and whether that was a cut-off
    header itself.
    """
    tokens = header.split()
    if resumed:
        return tokens[-1], False
    if len(tokens) == 2 and tokens[1].isdigit() and tokens[1].startswith(tokens[0]):
        return tokens[1], True
    return header, False


def _atom_count(header: bytes, expected: int, path: Path, line: int) -> int:
    tokens = header.split()
    if len(tokens) != 1 or not is_count(tokens[0]):
        wanted = (
            f"the number of atoms ({expected}), which begins a frame"
            if expected
            else "the number of atoms"
        )
        raise InputError(
            f"expected {wanted}, found '{shorten(header)}'; is this an XYZ file that CP2K printed "
            "(FORMAT XMOL, its default)?",
            path,
            line,
        )
    count = int(tokens[0])
    if expected and count != expected:
        raise InputError(
            f"this frame has {count} atoms, but the frames before it have {expected}; "
            "put runs of different systems into different directories",
            path,
            line,
        )
    return count


def _is_cut_off(row: bytes) -> bool:
    """Whether the last line of the file lacks its end: CP2K writes all its numbers with the same
    decimals.
    """
    if row.endswith(b"\n"):
        return False
    tokens = row.split()
    return len(tokens) != 4 or len(tokens[3].partition(b".")[2]) != len(
        tokens[1].partition(b".")[2]
    )


def shorten(line: bytes) -> str:
    """A line as an error quotes it."""
    text = line.decode("utf-8", "replace").strip()
    return text if len(text) <= 60 else text[:57] + "..."
