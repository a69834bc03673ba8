"""How verbs talk: progress and errors on standard error, the answer on standard output."""

from __future__ import annotations

import inspect
import math
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from signal import SIGHUP, SIGTERM
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bars

from mld_ff.cli.fields import expanded, extras, gathered, option
from mld_ff.cli.plain import json_for_terminal
from mld_ff.errors import CheckFailed, InputError, MldError
from mld_ff.files import to_json
from mld_ff.outputs import Results, results
from mld_ff.progress import Progress

TRACEBACK_VARIABLE = "MLD_FF_TRACEBACK"
SECONDS_BETWEEN_LINES = 60
OVERWRITE_HELP = "Replace what this command left there before."
JSON_HELP = "Print one JSON object on standard output and nothing else there."
DONE, FAILED, BAD_INPUT = 0, 1, 2
OBEYED = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
errors = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)


@dataclass(frozen=True)
class Answer:
    """What a verb came to."""

    data: dict[str, Any]
    """Printed with `--json`."""
    text: str
    """Printed without."""
    failure: str = ""
    """Which check failed, if one did."""


def verb(function: Callable[..., Answer]) -> Callable[..., None]:
    """A function as a verb of the command line.

    Groups among its parameters become options (`mld_ff.cli.fields`), `progress` is given here, and
    `--json` is added. Where its `output` is of `Results`, their place is held while it works, and
    `--overwrite` is added; other verbs do so in the library.
    """
    parameters, groups = expanded(function)
    own = inspect.signature(function).parameters
    shown = [p for p in parameters if p.name != "progress"]
    kind = next((k for p in shown if p.name == "output" for k in extras(p, Results)), None)
    if kind:
        shown.append(option("overwrite", bool, False, OVERWRITE_HELP))
    shown.append(option("json", bool, False, JSON_HELP))

    def command(*arguments: Any, **given: Any) -> None:
        as_json, overwrite = given.pop("json", False), given.pop("overwrite", False)
        with reporting(as_json) as progress:
            values = gathered(own, groups, given)
            if "progress" in own:
                values["progress"] = progress
            name = function.__name__
            place: AbstractContextManager[None] = nullcontext()
            if kind:
                output = values.get("output", own["output"].default)
                place = results(output, name, kind, overwrite)
            with place:
                answer = function(*arguments, **values)
            if as_json:
                write_json(answer.data)
            else:
                sys.stdout.write(printable(answer.text) + "\n")
            if answer.failure:
                errors.print(printable(f"check failed: {answer.failure}"))
                sys.exit(FAILED)

    command.__name__, command.__doc__ = function.__name__, function.__doc__
    command.__module__ = function.__module__
    command.__signature__ = inspect.Signature(shown)  # type: ignore[attr-defined]
    return command


def printable(text: str) -> str:
    """Text of files and names as it may be printed: characters that a terminal obeys, or by which
    it reorders what it shows, are told as JSON tells them.
    """
    return OBEYED.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def write_json(data: dict[str, Any]) -> None:
    sys.stdout.write(json_for_terminal(printable(to_json(data))))


def refuse(said: str, code: int, as_json: bool) -> None:
    """Say on standard error what is wrong, and leave with the exit code."""
    errors.print(printable(said))
    if as_json:
        write_json({"error": said, "exit_code": code})
    sys.exit(code)


@contextmanager
def reporting(as_json: bool) -> Iterator[Progress]:
    """Progress bars while something is done; errors as a paragraph and an exit code."""
    try:
        with ended_by_signals(), progress_bars() as progress:
            yield progress
    except InputError as error:
        refuse(f"error: {error}", BAD_INPUT, as_json)
    except CheckFailed as error:
        refuse(f"check failed: {error}", FAILED, as_json)
    except MldError as error:
        refuse(f"engine: {error}", FAILED, as_json)
    except KeyboardInterrupt:
        refuse("interrupted", FAILED, as_json)
    except OSError as error:  # files that vanish, or directories where files should be
        refuse(
            f"error: {error.filename or 'a file'}: {error.strerror or error}", BAD_INPUT, as_json
        )
    except MemoryError as error:
        refuse(f"the memory of this machine does not suffice: {error}", FAILED, as_json)
    except Exception as error:
        if os.environ.get(TRACEBACK_VARIABLE):
            raise
        where = f"(set {TRACEBACK_VARIABLE}=1 to see where)"
        refuse(f"unexpected {type(error).__name__}: {error} {where}", FAILED, as_json)


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Let the signals that ask us to end do as an interrupt does: engines are ended, and what was
    held is given back.
    """

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():  # signals are told to that alone
        yield
        return
    before = {number: signal.signal(number, interrupt) for number in (SIGTERM, SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def progress_bars() -> Iterator[Progress]:
    """A bar per stage on a terminal; elsewhere a line when it is done, and one a minute until
    then.
    """
    if not errors.is_terminal:
        yield Lines()
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Bars(*columns, console=errors) as bars:
        tasks: dict[str, TaskID] = {}

        def bar(what: str, done: int, total: int) -> None:
            stage = what.partition(":")[0]
            if stage not in tasks:
                tasks[stage] = bars.add_task(what, total=total)
            bars.update(tasks[stage], description=what, completed=done, total=total)

        yield bar


class Lines:
    """Progress where there is no terminal: a line a minute, and one at the end of each stage."""

    def __init__(self) -> None:
        self.began: dict[str, tuple[float, int]] = {}
        """Of every stage: when it was first heard of, and how much was done then."""
        self.said: dict[str, float] = {}
        """When the last line of a stage was printed; infinite once it is done."""

    def __call__(self, what: str, done: int, total: int) -> None:
        stage, now = what.partition(":")[0], time.monotonic()
        start, before = self.began.setdefault(stage, (now, done))
        last = self.said.setdefault(stage, now)
        if done >= total and last < math.inf:
            self.said[stage] = math.inf
            errors.print(f"{stage}: done")
        elif now - last > SECONDS_BETWEEN_LINES and done > before:
            self.said[stage] = now
            left = timedelta(seconds=round((total - done) * (now - start) / (done - before)))
            errors.print(f"{what}, {100 * done / total:.0f} %, {left} left")
