"""Run an engine as a process of its own, so that a crash of it is an error of ours and nothing
more.
"""

from __future__ import annotations

import os
import subprocess
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

Listener = Callable[[str], None]


def stream(
    command: Sequence[str],
    directory: Path,
    on_line: Listener | None = None,
    last: int | None = None,
    environment: Mapping[str, str] | None = None,
) -> tuple[int, list[str]]:
    """Run a command in `directory`; returns its exit code and the lines it printed (of a long run
    only the `last`), each also passed to `on_line`. environment: variables beside our own.

    The process is killed if anything is raised meanwhile (an interrupt, say).
    """
    lines: deque[str] = deque(maxlen=last)
    with subprocess.Popen(
        command,
        cwd=directory,
        env={**os.environ, **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                lines.append(line)
                if on_line:
                    on_line(line)
        except BaseException:
            process.kill()
            raise
    return process.returncode, list(lines)
