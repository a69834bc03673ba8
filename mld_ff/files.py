"""Files that are never half-written, and the templates that exports copy."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from mld_ff.errors import InputError

MOST_JSON_BYTES = 1 << 28
"""A run.json of a million atoms has a quarter of it."""


def write_atomically(file: Path, content: str | bytes) -> None:
    """Write beside, then rename: a reader never sees half a file. Raises InputError if that is not
    possible.
    """
    beside = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        beside.write_bytes(content.encode() if isinstance(content, str) else content)
        beside.replace(file)
    except OSError as error:
        if beside.parent.is_dir():
            beside.unlink(missing_ok=True)
        raise InputError(f"cannot be written: {error.strerror}", file) from None


def write_files(directory: Path | str, contents: Mapping[str, str | bytes]) -> list[Path]:
    """Write what the files of a directory hold, by their names, each as `write_atomically` does;
    returns the files.
    """
    files = [Path(directory) / name for name in contents]
    for file, content in zip(files, contents.values(), strict=True):
        write_atomically(file, content)
    return files


def to_json(data: Any, indent: int | None = None) -> str:
    """JSON text; numbers that are not finite become null, which every reader of JSON takes."""

    def clean(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: clean(v) for k, v in value.items()}
        if isinstance(value, (list, tuple)):
            return [clean(v) for v in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return json.dumps(clean(data), indent=indent, ensure_ascii=False, allow_nan=False) + "\n"


def read_json(file: Path, what: str) -> Any:
    """What a JSON file holds. Raises InputError if it cannot be read, is longer than
    MOST_JSON_BYTES or is no JSON; it then says that the file is not `what`.
    """
    try:
        if file.stat().st_size > MOST_JSON_BYTES:
            most = f"{MOST_JSON_BYTES >> 20} MiB"
            raise InputError(f"is not {what}: it is longer than {most}", file)
        return json.loads(file.read_text(encoding="utf-8"), parse_constant=_refuse)
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", file) from None
    except ValueError as error:
        line = getattr(error, "lineno", None)
        raise InputError(f"is not {what}: {error}", file, line) from None
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
