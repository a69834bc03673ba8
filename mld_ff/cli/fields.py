"""Options from the fields of settings: names, units, defaults and help are those of the library."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Annotated, Any, TypeVar, get_type_hints

from cyclopts import Parameter, Token

from mld_ff.docstrings import help_of_fields

T = TypeVar("T")
UNITS = {"A": "Å", "K": "K", "Ry": "Ry", "bar": "bar", "fs": "fs", "ps": "ps"}
"""By the end of a field's name."""


def whole(text: str) -> int:
    """A whole number. Raises ValueError."""
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{text!r} is no whole number") from None


def _whole(_: Any, tokens: tuple[Token, ...]) -> int:
    return whole(tokens[0].value)


Whole = Annotated[int, Parameter(converter=_whole, n_tokens=1)]
"""cyclopts itself rounds 2.7 to 3."""


class Group(ABC):
    """Marks a parameter that several options are gathered in."""

    @abstractmethod
    def parameters(self) -> list[inspect.Parameter]:
        """A keyword for every option."""

    @abstractmethod
    def chosen(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Of the options that were given, those of this parameter."""

    @abstractmethod
    def made(self, chosen: Mapping[str, Any]) -> Any:
        """What the parameter is, where these options were chosen."""


@dataclass(frozen=True)
class Options(Group):
    """A parameter that holds settings of the library: every field is an option.

    `Annotated[MD, Options(MD())]` makes `--temperature K` of `temperature_K`, with the default that
    `MD()` has and the docstring under the field as help.
    """

    default: Any
    """A dataclass instance: what holds where an option is not given."""
    only: tuple[str, ...] = ()
    """Fields that are options; all of them if empty."""
    names: Mapping[str, str] = field(default_factory=dict)
    """Of options that are called otherwise than their field without its unit."""
    types: Mapping[str, Any] = field(default_factory=dict)
    """Of options that are written otherwise than their field."""

    @property
    def by_field(self) -> dict[str, str]:
        """Name of the option of every field, as an identifier."""
        every = [f.name for f in fields(self.default)]
        unknown = {*self.only, *self.names, *self.types} - {*every}
        assert not unknown, f"{type(self.default).__name__} has no field {unknown}"
        return {name: self.names.get(name, _split(name)[0]) for name in self.only or every}

    def parameters(self) -> list[inspect.Parameter]:
        types = get_type_hints(type(self.default), include_extras=True) | dict(self.types)
        help_of = help_of_fields(type(self.default))
        return [
            option(
                name,
                types[field_name],
                getattr(self.default, field_name),
                help_of.get(field_name, ""),
                _split(field_name)[1],
            )
            for field_name, name in self.by_field.items()
        ]

    def chosen(self, given: Mapping[str, Any]) -> dict[str, Any]:
        return {f: given[name] for f, name in self.by_field.items() if name in given}

    def made(self, chosen: Mapping[str, Any]) -> Any:
        return replace(self.default, **chosen)


@dataclass(frozen=True)
class Each(Group):
    """A parameter that holds a dictionary: every key is an option."""

    keys: Collection[str]
    type_: Any
    help: str

    def parameters(self) -> list[inspect.Parameter]:
        return [option(key, self.type_ | None, None, self.help) for key in self.keys]

    def chosen(self, given: Mapping[str, Any]) -> dict[str, Any]:
        return {key: given[key] for key in self.keys if key in given}

    def made(self, chosen: Mapping[str, Any]) -> dict[str, Any]:
        return dict(chosen)


def option(name: str, type_: Any, default: Any, text: str, unit: str = "") -> inspect.Parameter:
    """A keyword that the command line shows with its unit and default."""
    annotation: Any = Whole if type_ is int else type_
    if text:
        annotation = Annotated[annotation, Parameter(help=text)]
    if unit and not any(mark.metavar for mark in _marks(annotation)):
        annotation = Annotated[annotation, Parameter(metavar=unit)]
    kind = inspect.Parameter.KEYWORD_ONLY
    return with_default(inspect.Parameter(name, kind, default=default, annotation=annotation))


def _marks(annotation: Any) -> list[Parameter]:
    """What an annotation already says of an option."""
    every = getattr(annotation, "__metadata__", ())
    return [mark for mark in every if isinstance(mark, Parameter)]


def with_default(parameter: inspect.Parameter) -> inspect.Parameter:
    """The parameter with its default in the help, where it has one that says something."""
    silent = parameter.default in (inspect.Parameter.empty, None, False, ())
    described = Parameter(show_default=False if silent else _shown)
    return parameter.replace(annotation=Annotated[parameter.annotation, described])


def expanded(
    function: Callable[..., Any],
) -> tuple[list[inspect.Parameter], dict[str, Group]]:
    """Parameters of a function with options in place of groups, and the groups by name."""
    hints = get_type_hints(function, include_extras=True)
    parameters: list[inspect.Parameter] = []
    groups: dict[str, Group] = {}
    for name, parameter in inspect.signature(function).parameters.items():
        marks = getattr(hints[name], "__metadata__", ())
        group = next((mark for mark in marks if isinstance(mark, Group)), None)
        if group:
            groups[name] = group
            parameters += group.parameters()
        else:
            parameters.append(with_default(parameter.replace(annotation=hints[name])))
    return parameters, groups


def extras(parameter: inspect.Parameter, kind: type[T]) -> list[T]:
    """Of a parameter's annotation, what is of a kind."""
    annotation, found = parameter.annotation, list[T]()
    while metadata := getattr(annotation, "__metadata__", ()):
        found += [extra for extra in metadata if isinstance(extra, kind)]
        annotation = annotation.__origin__
    return found


def gathered(
    own: Mapping[str, inspect.Parameter], groups: Mapping[str, Group], given: Mapping[str, Any]
) -> dict[str, Any]:
    """Arguments of a function with parameters `own`, from the options that were given.

    A group of which no option was given is left out where the function has a default for it.
    """
    values = {name: value for name, value in given.items() if name in own and name not in groups}
    for name, group in groups.items():
        chosen = group.chosen(given)
        if chosen or own[name].default is inspect.Parameter.empty:
            values[name] = group.made(chosen)
    return values


def default_of(function: Callable[..., Any], name: str) -> Any:
    """Default of a parameter of a library function."""
    return inspect.signature(function).parameters[name].default


def _split(name: str) -> tuple[str, str]:
    """Name of a field without its unit, and the unit."""
    stem, _, end = name.rpartition("_")
    return (stem, UNITS[end]) if stem and end in UNITS else (name, "")


def _shown(value: Any) -> str:
    """A default as a user would write it."""
    if isinstance(value, tuple):
        return ",".join(map(_shown, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
