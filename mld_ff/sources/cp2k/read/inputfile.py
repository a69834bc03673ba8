"""A tiny parser of CP2K input and restart files: sections and keywords, nothing of their
meaning.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mld_ff.errors import InputError
from mld_ff.sources.cp2k.read.units import Quantity, unit_factor
from mld_ff.sources.textfiles import open_binary

_VARIABLE = re.compile(r"\$\{\s*(\w+)\s*(?:-([^}]*))?\}|\$(\w+)")
_COMMENT = re.compile(r"[#!].*")
_UNIT = re.compile(r"\[\s*([^\]]*?)\s*\]")
_OPERATOR = re.compile(r"([*/])")
_FUNCTIONS: dict[str, Callable[[float], float]] = {
    "COS": lambda degrees: math.cos(math.radians(degrees)),
    "EXP": math.exp,
    "LOG": math.log,
    "LOG10": math.log10,
    "SIN": lambda degrees: math.sin(math.radians(degrees)),
    "SQRT": math.sqrt,
    "TAN": lambda degrees: math.tan(math.radians(degrees)),
}
_CALL = re.compile(rf"([-+]?)({'|'.join(_FUNCTIONS)})\(([^()]*)\)")
_MOST_FILES = 1000
"""Included by one input, each as often as it is."""
_LONGEST_LINE = 1_000_000
"""Characters, its variables replaced."""


@dataclass(frozen=True)
class Keyword:
    """One keyword: its value as text, and where it stands."""

    value: str
    file: Path
    line: int

    def numbers(self, quantity: Quantity, default_unit: str) -> list[float]:
        """The value as numbers of eV, Å, fs, amu, degrees or K.

        `quantity` is what it measures, `default_unit` holds unless a unit in brackets says
        otherwise (`ABC [nm] 1.2 1.2 1.2`). Raises InputError for anything that is not a number.
        """
        factor, numbers = unit_factor(default_unit, quantity), []
        for token in _UNIT.sub(lambda match: f"[{match[1].replace(' ', '')}]", self.text).split():
            if token.startswith("["):
                factor = unit_factor(token.strip("[]"), quantity, self.file, self.line)
            else:
                numbers.append(factor * self._number(token))
        return numbers

    @property
    def text(self) -> str:
        """The value without quotation marks."""
        return self.value.strip("'\" ")

    def _number(self, token: str) -> float:
        """CP2K also takes Fortran exponents (1.0D0), products and fractions from left to right
        (1/3, 4.04*1.5), and since 2026 functions of a number (-SQRT(3)/2, COS(60) in degrees), but
        no sums (`read_float_object` of its parser; manual of &CELL).
        """
        number, operator = 1.0, "*"
        try:
            for part in _OPERATOR.split(token.strip("'\"").upper()):
                if part in ("*", "/"):
                    operator = part
                    continue
                factor = _factor(part)
                number = number * factor if operator == "*" else number / factor
        except (ValueError, ZeroDivisionError, OverflowError):
            number = math.nan
        if not math.isfinite(number):
            raise InputError(f"expected a number, found '{token}'", self.file, self.line)
        return number


def _factor(text: str) -> float:
    """A number, or a function of one. Raises ValueError for anything else."""
    call = _CALL.fullmatch(text)
    if call is None:
        return float(text.replace("D", "E"))
    value = float(call[3].replace("D", "E"))
    return (-1.0 if call[1] == "-" else 1.0) * _FUNCTIONS[call[2]](value)


@dataclass
class Section:
    """One section: its parameter (`&KIND O` has `O`), keywords by upper-case name, and subsections
    in order.
    """

    name: str
    parameter: str = ""
    keywords: dict[str, Keyword] = field(default_factory=dict)
    sections: list[Section] = field(default_factory=list)
    rows: list[tuple[str, Keyword]] = field(default_factory=list)
    """Of &COORD, every line: its first word, and the rest."""

    def all(self, *path: str) -> list[Section]:
        """Every section at this path; a section that is repeated gives several."""
        level = [self]
        for name in path:
            level = [inner for outer in level for inner in outer.sections if inner.name == name]
        return level

    def get(self, *path: str) -> Keyword | None:
        """The keyword at this path of section names and, last, any of its names joined by `|`; the
        last one counts.
        """
        *outer, names = path
        hits = [
            s.keywords[name]
            for s in self.all(*outer)
            for name in names.split("|")
            if name in s.keywords
        ]
        return hits[-1] if hits else None


def parse_input(path: Path) -> Section:
    """The root section of a CP2K input or restart file (plain or compressed).

    Follows `@SET`, `${X}`, `$X`, `@IF` and `@INCLUDE`; a file to include that is not there is
    passed over, for it seldom holds what is looked for (coordinates, basis sets). Unknown keywords
    are kept and mean nothing. Raises InputError if a file includes itself, or the whole grows
    without end.
    """
    root = Section("")
    stack = [root]
    for text, file, line in _logical_lines(path, {}, (), []):
        word, _, rest = text.partition(" ")
        if word.upper().startswith("&END"):
            if len(stack) > 1:
                stack.pop()
        elif word.startswith("&"):
            section = Section(word[1:].upper(), rest.strip("'\" "))
            stack[-1].sections.append(section)
            stack.append(section)
        else:
            keyword = Keyword(rest.strip(), file, line)
            stack[-1].keywords[word.upper()] = keyword
            if stack[-1].name == "COORD":
                stack[-1].rows.append((word, keyword))
    return root


def _logical_lines(
    path: Path, variables: dict[str, str], outer: tuple[Path, ...], seen: list[Path]
) -> Iterator[tuple[str, Path, int]]:
    """Lines without comments, variables replaced, includes followed: (text with single blanks,
    file, line number).

    outer: the files that include this one. seen: all that were included so far.
    """
    start, skips = (outer[0] if outer else path).parent, False
    for number, raw in _joined_lines(path):
        text = _replace_variables(" ".join(_COMMENT.sub("", raw).split()), variables)
        if len(text) > _LONGEST_LINE:
            raise InputError("a line grows without end by its variables", path, number)
        word, _, rest = text.partition(" ")
        match word.upper():
            case "":
                pass
            case "@ENDIF":
                skips = False  # the first one ends what is left out: CP2K nests none
            case _ if skips:
                pass
            case "@IF":
                skips = not _holds(rest)
            case "@SET":
                name, _, value = rest.partition(" ")
                variables[name.upper()] = value.strip().strip("'\"")
            case "@INCLUDE" | "@INCLUDE_ONCE":
                included = start / rest.strip("'\" ")
                if included.is_file():
                    chain = (*outer, path.resolve())
                    seen.append(included)
                    if included.resolve() in chain or len(seen) > _MOST_FILES:
                        raise InputError(f"includes {included.name} without end", path, number)
                    yield from _logical_lines(included, variables, chain, seen)
            case _ if word.startswith("@"):
                pass
            case _:
                yield text, path, number


def _joined_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Lines with their numbers; a line that ends in a backslash goes on in the next."""
    pending = ""
    with open_binary(path) as stream:
        for number, raw in enumerate(stream, 1):
            line = pending + raw.decode("utf-8", "replace").rstrip()
            pending = line[:-1] + " " if line.endswith("\\") else ""
            if not pending:
                yield number, line


def _replace_variables(text: str, variables: dict[str, str]) -> str:
    """Variables that were never set stay as they are: they matter only if a number is wanted
    there.
    """

    def value(match: re.Match[str]) -> str:
        return variables.get((match[1] or match[3]).upper(), match[2] or match[0])

    for _ in range(10):  # a variable may hold another
        if "$" not in text:
            break
        text = _VARIABLE.sub(value, text)
        if len(text) > _LONGEST_LINE:
            break
    return text


def _holds(condition: str) -> bool:
    """Whether the condition of an @IF does: CP2K compares text as it is written (`${X} == 1`), and
    takes all else for true but `0` and nothing (`inpp_process_directive`); so NO is true.
    """
    for operator, wanted in (("==", True), ("/=", False)):
        if operator in condition:
            left, _, right = condition.partition(operator)
            left, right = left.partition("(")[2] or left, right.partition(")")[0]
            return (left.strip() == right.strip()) is wanted
    return condition not in ("", "0")


def is_true(value: str) -> bool:
    """A logical value; a keyword without one is switched on by it."""
    return value.strip().upper() not in ("0", ".FALSE.", "F", "FALSE", "OFF", "NO")
