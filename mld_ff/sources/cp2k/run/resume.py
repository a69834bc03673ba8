"""Make reference data with CP2K: run an input, or go on with it where an interruption left it."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Any

from mld_ff.errors import InputError
from mld_ff.names import shown
from mld_ff.outputs import held
from mld_ff.progress import Progress, no_progress
from mld_ff.sources.cp2k import open_cp2k
from mld_ff.sources.cp2k.read.inputfile import Section, parse_input
from mld_ff.sources.cp2k.run.launch import check, launch, main_input

REST = "rest"
"""Folder that the later part of interrupted labels is computed in: CP2K would start its files anew.
"""
LABELS = ("label-pos-1.xyz", "label-frc-1.xyz", "label-1.ener", "label-1.cell")


@dataclass(frozen=True)
class Outcome:
    """What a run did."""

    project: str
    """Its files are PROJECT-pos-1.xyz and so on."""
    total: int
    """MD steps, or frames to label."""
    before: int
    """Of these, how many were there when it began."""


@dataclass(frozen=True)
class Prepared:
    """An input of CP2K, and what a run of it left, if it was to run."""

    directory: Path
    input: Path
    """The file that CP2K is given."""
    checked: bool
    """Whether CP2K found no fault with it; it was not asked where it is not installed."""
    notes: tuple[str, ...]
    """What a user should know."""
    outcome: Outcome | None = None
    frames: int | None = None
    """How many can be read; None, as the outcome, if it was not to run."""

    def to_dict(self) -> dict[str, Any]:
        told: dict[str, Any] = {
            "directory": str(self.directory),
            "input": str(self.input),
            "checked": self.checked,
            "notes": list(self.notes),
        }
        if self.outcome is None:
            return told
        return {**told, **vars(self.outcome), "frames": self.frames}


def prepare(directory: Path | str, run: bool, progress: Progress = no_progress) -> Prepared:
    """Check an input, run it if asked to, and tell what lies there.

    Without CP2K an input that shall not run is left unchecked, and a note says so. Raises as
    `check`, `run_reference`.
    """
    out = Path(directory)
    file, checked = main_input(out), True
    try:
        check(out)
        notes = ["CP2K finds no fault with the input."]
    except InputError as error:
        if run:
            raise
        notes, checked = [f"The input was not checked: {error}."], False
    if not run:
        notes.append(f"To run it: `mld-ff reference -o {quote(str(out))} --resume`.")
        return Prepared(out, file, checked, tuple(notes))
    outcome = run_reference(out, progress)
    source = open_cp2k(out)
    began = f", going on from {outcome.before}" if 0 < outcome.before < outcome.total else ""
    if outcome.before >= outcome.total:
        notes.append(f"Was finished already: all {outcome.total} of it lie there.")
    notes.append(
        f"{source.n_frames} frames of {outcome.total} steps{began}; read them with `mld-ff inspect"
        f" {out}`."
    )
    return Prepared(out, file, checked, (*notes, *source.notes), outcome, source.n_frames)


def run_reference(directory: Path | str, progress: Progress = no_progress) -> Outcome:
    """Run the input that lies in `directory`, or go on with it where an interruption left it.

    A finished run is left as it is. Raises EngineError with CP2K's words if it stops, InputError if
    there is no input or no CP2K.
    """
    out = Path(directory)
    root = parse_input(main_input(out))
    with held(out, "reference"):
        if (out / "label.inc").exists():
            return _label(out, _integer(root, "MOTION", "MD", "REFTRAJ", "LAST_SNAPSHOT"), progress)
        return _dynamics(out, _integer(root, "MOTION", "MD", "STEPS"), progress)


def _dynamics(out: Path, total: int, progress: Progress) -> Outcome:
    restart, done = _latest_restart(out)
    outcome = Outcome("md", total, done)
    if done >= total:
        return outcome
    variables: dict[str, object] = {"START": "fresh"}
    if done:
        variables = {"START": "restart", "RESTART": restart, "STEPS": total - done}
    elif (out / "relax.inc").exists():
        _relax(out, progress)
        variables = {"START": "relaxed"}
    launch(out, "md", variables, lambda: progress("cp2k", _last_step(out / "md-1.ener"), total))
    return outcome


def _relax(out: Path, progress: Progress) -> None:
    """Relax unless that has been done."""
    if _ended(out / "relax.out"):
        return
    (out / "relax.out").unlink(missing_ok=True)
    launch(out, "relax", {"RUN": "relax"}, lambda: progress("relax", 0, 1))
    progress("relax", 1, 1)


def _label(out: Path, total: int, progress: Progress) -> Outcome:
    _absorb(out)
    done = _complete(out)
    outcome = Outcome("label", total, done)
    if done >= total:
        return outcome
    variables: dict[str, object] = {"FIRST": done + 1}
    table = out / "label-1.ener"
    if done:
        (out / REST).mkdir(exist_ok=True)
        variables["PROJECT"] = f"{REST}/label"
        table = out / REST / "label-1.ener"
    try:
        launch(
            out, "label", variables, lambda: progress("cp2k", max(_last_step(table), done), total)
        )
    finally:
        _absorb(out)
    return outcome


def _complete(out: Path) -> int:
    """How many frames have been labelled, all of whose files are complete."""
    return min(max((step for step, _ in _blocks(out / name)), default=0) for name in LABELS)


def _absorb(out: Path) -> None:
    """Append what was labelled after an interruption to what was labelled before it, whole frames
    only.
    """
    rest = out / REST
    if not rest.is_dir():
        return
    done = _complete(out)
    for name in LABELS:
        if (rest / name).exists():
            later = [block for step, block in _blocks(rest / name) if step > done]
            earlier = [block for step, block in _blocks(out / name) if step <= done]
            beside = out / f".{name}"
            beside.write_text("".join(earlier + later), encoding="utf-8")
            beside.replace(out / name)
    shutil.rmtree(rest)


def _blocks(file: Path) -> list[tuple[int, str]]:
    """Complete frames of an XYZ file, or rows of a table: step and text. A table's heading counts
    as step 0.
    """
    lines = (
        file.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
        if file.exists()
        else []
    )
    if lines and not lines[-1].endswith("\n"):
        lines.pop()
    if file.suffix != ".xyz":
        return [(_whole(line, file, n), line) for n, line in enumerate(lines, 1)]
    height = _whole(lines[0], file, 1) + 2 if lines else 1
    frames = ["".join(lines[k : k + height]) for k in range(0, len(lines) - height + 1, height)]
    steps = [re.search(r"\bi\s*=\s*(\d+)", frame) for frame in frames]
    return [(int(step[1]), frame) for step, frame in zip(steps, frames, strict=True) if step]


def _whole(line: str, file: Path, number: int) -> int:
    """The whole number that a line begins with, 0 in a heading. Raises InputError."""
    word = line.split(maxsplit=1)[0] if line.strip() else ""
    if line.startswith("#"):
        return 0
    if not (word.isascii() and word.isdecimal() and len(word) < 20):
        raise InputError(
            f"is not what CP2K writes: expected a whole number, found {shown(word)}. Remove the"
            f" files label-* in {file.parent} and give this command again: the frames are then"
            " computed anew",
            file,
            number,
        )
    return int(word)


def _last_step(table: Path) -> int:
    """The step in the last complete row; only the end of the file is read, for this is asked again
    and again.
    """
    if not table.exists():
        return 0
    with table.open("rb") as stream:
        stream.seek(max(0, table.stat().st_size - 1000))
        rows = stream.read().decode("utf-8", "replace").split("\n")[:-1]
    last = rows[-1].split() if rows else []
    return int(last[0]) if last and last[0].isdigit() else 0


def _ended(log: Path) -> bool:
    return log.exists() and "PROGRAM ENDED" in log.read_text(encoding="utf-8", errors="replace")


def _latest_restart(out: Path) -> tuple[str, int]:
    """Name and MD step of the restart file, or of the one before where an interruption left it
    half-written.
    """
    for name in ("md-1.restart", "md-1.restart.bak-1"):
        if (out / name).exists():
            text = (out / name).read_text(encoding="utf-8", errors="replace")
            step = parse_input(out / name).get("MOTION", "MD", "STEP_START_VAL")
            if step and re.search(r"\n &END FORCE_EVAL\n(.*\n &END \w+\n)?\Z", text, re.DOTALL):
                return name, int(step.value)
    return "", 0


def _integer(root: Section, *path: str) -> int:
    keyword = root.get(*path)
    if keyword is None or not keyword.value.isdecimal():
        raise InputError(
            f"expected a whole number for {' / '.join(path)}, found"
            f" {keyword.value if keyword else 'nothing'}"
        )
    return int(keyword.value)
