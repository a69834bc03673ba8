"""What settings say of themselves: the docstrings under their fields."""

from __future__ import annotations

from docstring_parser import parse_from_object


def help_of_fields(kind: type) -> dict[str, str]:
    """The docstring under every field of a dataclass, on one line; fields without one are left
    out.
    """
    described = parse_from_object(kind).params
    return {p.arg_name: " ".join(p.description.split()) for p in described if p.description}
