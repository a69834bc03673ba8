"""A configuration as TOML: read and checked."""

from __future__ import annotations

import math
import tomllib
from dataclasses import fields
from difflib import get_close_matches
from pathlib import Path
from shlex import quote
from typing import Any, get_args, get_type_hints

from mld_ff.configuration.config import Config, Match
from mld_ff.engines.registry import ENGINES, engines_with
from mld_ff.engines.settings import MD
from mld_ff.errors import InputError
from mld_ff.files import check_readable
from mld_ff.inference import Basis
from mld_ff.inference.words import AUTO

SECTIONS: dict[str, type[Any]] = {"fit": Basis, "match": Match, "run": MD}
KEYS = {"cp2k", "output", "engines", "platform", "precision", "processes", "skip_ps", *SECTIONS}


def read_config(file: Path | str, output: Path | str | None = None) -> Config:
    """Read a configuration; paths in it are relative to its own directory. `output` overrides its
    own.

    Raises InputError naming file, key and the keys known.
    """
    file = Path(file)
    data = _read_toml(file)
    _known(data, KEYS, "", file)
    if "cp2k" not in data:
        raise InputError('needs a key "cp2k": the directory of the CP2K run', file)
    for key in ("cp2k", "output", "platform", "precision"):
        if key in data:
            _typed(key, data[key], "", file)
    skip = _typed("skip_ps", data.get("skip_ps", 0.0), 0.0, file)
    processes = _typed("processes", data.get("processes", 1), 1, file)
    if processes < 1:
        raise InputError(f"processes is {processes}; at least one is needed", file)
    engines = _engines(data, file)
    if isinstance(data.get("fit"), dict) and data["fit"].get("collective") == "auto":
        data["fit"]["collective"] = AUTO
    config = Config(
        cp2k=file.parent / data["cp2k"],
        output=Path(output) if output else file.parent / data.get("output", "output"),
        basis=_section("fit", data, file),
        md=_section("run", data, file),
        engines=engines,
        platform=data.get("platform"),
        precision=data.get("precision"),
        skip_ps=skip,
        processes=processes,
        match=_section("match", data, file) if "match" in data else None,
    )
    try:
        if config.match:
            config.match.settings(config)
    except InputError as error:
        raise InputError(f"[match]: {error}", file) from None
    return config


def _read_toml(file: Path) -> dict[str, Any]:
    if file.is_dir():
        made = f"`mld-ff init {quote(str(file))} -o build.toml` writes one for the data there"
        raise InputError(f"is a directory, no configuration: {made}", file)
    check_readable(file)
    try:
        return tomllib.loads(file.read_text(encoding="utf-8-sig"))
    except OSError as error:
        made = "write one with `mld-ff init CP2K_DIR -o build.toml`"
        raise InputError(f"cannot be read: {error.strerror}; {made}", file) from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise InputError("is not UTF-8, which TOML is: save it as UTF-8", file, line) from None
    except RecursionError:
        raise InputError("is not valid TOML: it is nested too deeply", file) from None
    except ValueError as error:
        raise InputError(f"is not valid TOML: {error}", file) from None


def _engines(data: dict[str, Any], file: Path) -> tuple[str, ...]:
    engines = data.get("engines", list(ENGINES))
    if not isinstance(engines, list) or not engines:
        raise InputError(
            f"engines should be a list of one or more of {', '.join(ENGINES)}, found {engines!r}",
            file,
        )
    if unknown := [e for e in engines if e not in ENGINES]:
        raise InputError(f"engines are {', '.join(ENGINES)}; found {unknown[0]!r}", file)
    with_precision = engines_with("precision")
    if "precision" in data and not any(engine.name in engines for engine in with_precision):
        labels = " and ".join(engine.label for engine in with_precision)
        names = " and ".join(engine.name for engine in with_precision)
        raise InputError(
            f"precision is a setting of {labels}'s platforms, and engines are without {names}", file
        )
    return tuple(engines)


def _known(data: dict[str, Any], known: set[str], section: str, file: Path) -> None:
    if unknown := sorted(set(data) - known):
        nearest = get_close_matches(unknown[0], known, 1)
        meant = f" (did you mean {nearest[0]!r}?)" if nearest else ""
        raise InputError(
            f"unknown key {section}{unknown[0]!r}{meant}; known: {', '.join(sorted(known))}", file
        )


def _section(section: str, data: dict[str, Any], file: Path) -> Any:
    kind = SECTIONS[section]
    values = data.get(section, {})
    if not isinstance(values, dict):
        raise InputError(f"[{section}] must be a section, found {values!r}", file)
    _known(values, {f.name for f in fields(kind)}, f"[{section}] ", file)
    hints = get_type_hints(kind)
    defaults = {f.name: _sample(f.default, hints[f.name]) for f in fields(kind)}
    typed = {k: _typed(f"[{section}] {k}", v, defaults[k], file) for k, v in values.items()}
    try:
        return kind(**typed)
    except InputError as error:
        raise InputError(f"[{section}]: {error}", file) from None


def _sample(default: Any, hint: Any) -> Any:
    """A value of the type of a field: its default, or the first word that may stand there."""
    words = (word for part in get_args(hint) for word in get_args(part))
    return next(words, None) if default is None else default


def _typed(key: str, value: Any, default: Any, file: Path) -> Any:
    """The value of a key, if it is of the type that the default tells (None: a number)."""
    if isinstance(default, tuple):
        fits = isinstance(value, list) and all(_is_number(v) for v in value)
        expected, number = "a list of numbers", type(default[0]) if default else int
        value = tuple(number(v) if number(v) == v else v for v in value) if fits else value
    elif isinstance(default, str):
        fits, expected = isinstance(value, str), "a text"
    elif isinstance(default, bool):
        fits, expected = isinstance(value, bool), "true or false"
    elif isinstance(default, int):
        fits, expected = isinstance(value, int) and not isinstance(value, bool), "a whole number"
    else:
        fits, expected = _is_number(value), "a number"
    if not fits:
        raise InputError(f"{key} should be {expected}, found {value!r}", file)
    return value


def _is_number(value: Any) -> bool:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and math.isfinite(value)  # TOML has nan and inf
