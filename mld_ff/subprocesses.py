"""Run an engine as a process of its own, so that a crash of it is an error of ours and nothing
more.
"""

from __future__ import annotations

import ctypes
import os
import shlex
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from mld_ff.errors import EngineError, InputError

Listener = Callable[[str], None]
PATIENCE_s = 10.0
"""From asking a process to end until it is killed."""
MOST_PER_CORE = 4
"""Processes; a thousand on a laptop take its memory and end never."""
PR_SET_PDEATHSIG = 1
"""Of prctl(2)."""
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


def check_processes(number: int) -> None:
    """Raise InputError unless work can be shared by so many processes of this machine."""
    if number < 1:
        raise InputError(f"{number} processes are asked for; at least one is needed")
    cores = os.cpu_count() or 1
    if number > MOST_PER_CORE * cores:
        raise InputError(
            f"{number} processes are asked for, and this machine has {cores} cores: at most"
            f" {MOST_PER_CORE * cores} share work here"
        )


def stream(
    command: Sequence[str],
    directory: Path,
    on_line: Listener | None = None,
    last: int | None = None,
    environment: Mapping[str, str] | None = None,
    within_s: float | None = None,
) -> tuple[int, list[str]]:
    """Run a command in `directory`; returns its exit code and the lines it printed (of a long run
    only the `last`), each also passed to `on_line`. environment: variables beside our own.
    within_s: it is ended, with all that it started, if it takes longer, and EngineError is raised.

    The process is ended if anything is raised meanwhile (an interrupt, say): asked first, since
    `mpiexec` then ends those that it started, and killed if it stays. On Linux it is asked, too, if
    we are killed: nobody would read what it goes on to write where another process may begin.
    """
    if not directory.is_dir():  # Popen would name it as the command that is missing
        raise EngineError(f"{directory} has vanished")
    end = _end_group if within_s else _end
    lines: deque[str] = deque(maxlen=last)
    with subprocess.Popen(
        command,
        cwd=directory,
        env={**os.environ, **(environment or {})},
        stdin=subprocess.DEVNULL,  # a group in the background that reads a terminal is stopped
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        preexec_fn=end_with_us,
        process_group=0 if within_s else None,
    ) as process:
        assert process.stdout is not None
        late = threading.Event()

        def give_up() -> None:
            late.set()
            end(process)

        timer = threading.Timer(within_s or 0, give_up)
        if within_s:
            timer.start()
        try:
            for line in process.stdout:
                lines.append(line)
                if on_line:
                    on_line(line)
        except BaseException:
            end(process)
            raise
        finally:
            timer.cancel()
    if late.is_set():
        raise EngineError(f"{shlex.join(command)} did not end within {within_s:g} s")
    return process.returncode, list(lines)


def _end(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(PATIENCE_s)
    except subprocess.TimeoutExpired:
        process.kill()


def _end_group(process: subprocess.Popen[str]) -> None:
    """Of a process that leads a group: where `mpiexec` is a script, what it started would stay, and
    hold the pipe that we read to its end.
    """
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(OSError):  # all have ended
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(PATIENCE_s)


def end_with_us() -> None:
    """In a new process: let the system ask it to end when we do."""
    if _libc is not None:
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
