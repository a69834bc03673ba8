"""The JSON schema of a configuration, by which editors complete and check `build.toml`."""

from __future__ import annotations

from dataclasses import MISSING, Field, fields
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from mld_ff.configuration.config import Config
from mld_ff.configuration.toml import KEYS, SECTIONS
from mld_ff.docstrings import help_of_fields
from mld_ff.engines.registry import ENGINES

DRAFT = "https://json-schema.org/draft/2020-12/schema"
TYPES = {float: "number", int: "integer", bool: "boolean", str: "string", Path: "string"}


def schema() -> dict[str, Any]:
    """Every key with its type, words that are known, default, and what it means."""
    properties = _properties(Config)
    properties["engines"]["items"] = {"enum": list(ENGINES)}
    properties |= {name: _object(kind) for name, kind in SECTIONS.items()}
    rank = properties["fit"]["properties"]["collective"]
    rank["anyOf"] = [{"type": rank.pop("type")}, {"const": "auto"}]
    keys = {name: properties[name] for name in sorted(KEYS)}
    head = {"$schema": DRAFT, "title": "Configuration of `mld-ff build`"}
    return {**head, **_closed(keys), "required": ["cp2k"]}


def _object(kind: type) -> dict[str, Any]:
    text = " ".join((kind.__doc__ or "").split())
    return {"description": text, **_closed(_properties(kind))}


def _closed(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _properties(kind: type) -> dict[str, dict[str, Any]]:
    """Of every field whose type TOML can write."""
    hints, text = get_type_hints(kind), help_of_fields(kind)
    found = {}
    for field in fields(kind):
        if shape := _shape(hints[field.name]):
            described = {"description": text[field.name]} if field.name in text else {}
            found[field.name] = {**described, **shape, **_default(field)}
    return found


def _shape(hint: Any) -> dict[str, Any]:
    """What a value of this type looks like in JSON; empty for what is a section of its own."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin is tuple:
        return {"type": "array", "items": _shape(arguments[0])}
    if NoneType in arguments:  # TOML leaves out what is None
        return _shape(next(a for a in arguments if a is not NoneType))
    return {"type": TYPES[hint]} if hint in TYPES else {}


def _default(field: Field[Any]) -> dict[str, Any]:
    if field.default is MISSING or field.default is None:
        return {}
    value = list(field.default) if isinstance(field.default, tuple) else field.default
    return {"default": value}
