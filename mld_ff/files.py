"""Files that are never half-written, and the templates that exports copy."""

from __future__ import annotations

import json
import math
import os
import stat
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import resources
from pathlib import Path
from typing import Any

from mld_ff.errors import InputError

KINDS = {stat.S_ISDIR: "a directory", stat.S_ISFIFO: "a FIFO", stat.S_ISSOCK: "a socket"}
MOST_JSON_BYTES = 1 << 28
"""A run.json of a million atoms has a quarter of it."""


def check_writable(file: Path) -> None:
    """Raise InputError if there is something at a name, a link followed, that is no file."""
    if kind := _other_kind(file, "written"):
        raise InputError(f"is {kind}: give the name of a file to write", file)


def check_readable(file: Path) -> None:
    """Raise InputError if there is something at a name, a link followed, that is no file: readers
    would wait for a FIFO for ever, and find no end of a device.
    """
    if kind := _other_kind(file, "read"):
        raise InputError(f"is {kind}, where a file is read", file)


def check_files(directory: Path, links: bool = True) -> None:
    """Raise InputError if anything in a directory is no file, or unless `links` are taken for what
    they point to, a link: what goes on there would write to a file elsewhere.
    """
    for where, folders, names in os.walk(directory):
        for name in sorted((*folders, *names)):
            file = Path(where, name)
            if not links and file.is_symlink():
                raise InputError(
                    "is a link, and what goes on there would write through it: put what it points"
                    " to there, or remove it",
                    file,
                )
            if name in names:
                check_readable(file)


def _other_kind(file: Path, done: str) -> str | None:
    """What is at a name that is no file; None where one is, or nothing."""
    try:
        mode = file.stat().st_mode
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError(f"cannot be {done}: {error.strerror}", file) from None
    if stat.S_ISREG(mode):
        return None
    return next((name for is_kind, name in KINDS.items() if is_kind(mode)), "a device")


def write_atomically(file: Path, content: str | bytes) -> None:
    """Write beside, then rename: a reader never sees half a file. A link stays, and what it points
    to is replaced. Raises InputError if that is not possible, or a device, say, is there.
    """
    check_writable(file)
    target = file.resolve() if file.is_symlink() else file
    beside = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        beside.write_bytes(content.encode() if isinstance(content, str) else content)
        beside.replace(target)
    except OSError as error:
        with suppress(OSError):
            beside.unlink()
        raise InputError(f"cannot be written: {error.strerror}", file) from None


def write_files(directory: Path | str, contents: Mapping[str, str | bytes]) -> list[Path]:
    """Write what the files of a directory hold, by their names, each as `write_atomically` does;
    returns the files.
    """
    files = [Path(directory) / name for name in contents]
    for file, content in zip(files, contents.values(), strict=True):
        write_atomically(file, content)
    return files


FIRST_LINE = {".data"}
"""Files whose first line alone is for people."""
COMMENTS = {".xml": ("<!-- ", " -->"), ".pdb": ("REMARK   9 ", "")}
"""Around a comment, by how a file's name ends; elsewhere it begins with #."""


def warned(contents: Mapping[str, str | bytes], warnings: Sequence[str]) -> dict[str, str | bytes]:
    """Files of an export with what the policy has against it, a comment in every text."""
    return {
        name: _warned(Path(name).suffix, content, warnings) if isinstance(content, str) else content
        for name, content in contents.items()
    }


def _warned(suffix: str, text: str, warnings: Sequence[str]) -> str:
    told = [f"WARNING: {_plain(warning)}" for warning in warnings]
    if suffix in FIRST_LINE:
        first, end, rest = text.partition("\n")
        return " ".join([first, *told]) + end + rest
    before, after = COMMENTS.get(suffix, ("# ", ""))
    return text + "".join(f"{before}{line}{after}\n" for line in told)


def _plain(text: str) -> str:
    """On one line, in ASCII, without what would end a comment."""
    return text.encode("ascii", "replace").decode().replace("--", "- -").replace("\n", " ")


def to_json(data: Any, indent: int | None = None) -> str:
    """JSON text; numbers that are not finite become null, which every reader of JSON takes."""

    def clean(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: clean(v) for k, v in value.items()}
        if isinstance(value, (list, tuple)):
            return [clean(v) for v in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return json.dumps(clean(data), indent=indent, ensure_ascii=False, allow_nan=False) + "\n"


def read_json(file: Path, what: str, maker: str = "") -> Any:
    """What a JSON file holds. Raises InputError if it cannot be read, is longer than
    MOST_JSON_BYTES or is no JSON; it then says that the file is not `what`, and which command,
    `maker`, writes one.
    """
    made = f"; write one with `{maker}`" if maker else ""
    if file.is_dir():
        raise InputError(f"is a directory, not {what}{made}", file)
    check_readable(file)
    try:
        if file.stat().st_size > MOST_JSON_BYTES:
            most = f"{MOST_JSON_BYTES >> 20} MiB"
            raise InputError(f"is not {what}: it is longer than {most}", file)
        return json.loads(file.read_text(encoding="utf-8-sig"), parse_constant=_refuse)
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}{made}", file) from None
    except UnicodeDecodeError:
        raise InputError(f"is not {what}: it is not UTF-8{made}", file) from None
    except ValueError as error:
        line = getattr(error, "lineno", None)
        raise InputError(f"is not {what}: {error}{made}", file, line) from None
    except RecursionError:
        raise InputError(f"is not {what}: it is nested too deeply", file) from None


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number")


def read_template(name: str) -> str:
    """A file of the top-level folder `templates`, which an installation carries as
    `mld_ff.templates`.
    """
    return template_path(name).read_text(encoding="utf-8")


def template_path(name: str) -> Path:
    """Where that file is."""
    try:
        return Path(str(resources.files("mld_ff.templates") / name))
    except (
        ModuleNotFoundError
    ):  # Python started in a checkout imports the package from there, uninstalled
        return Path(__file__).parents[1] / "templates" / name
