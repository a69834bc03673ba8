"""Work spread over processes: in order, and gone with the one that spread it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from mld_ff.inference.parallel import spread

SCRIPT = """\
import os, signal
from mld_ff.inference.parallel import spread
from test_spread import slower_first
if __name__ == "__main__":
    for pid, _ in spread(slower_first, 0.1, range(9), 2):
        print(pid, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
"""


def slower_first(longest_s: float, item: int) -> tuple[int, int]:
    time.sleep(longest_s / (1 + item))
    return os.getpid(), item


def test_results_come_in_the_order_of_items() -> None:
    assert [item for _, item in spread(slower_first, 0.1, range(9), 2)] == list(range(9))


def test_processes_end_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    paths = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    # they hold its output: this waits for their end
    done = subprocess.run(
        [sys.executable, script], env=paths, stdout=subprocess.PIPE, text=True, timeout=60
    )
    assert done.returncode == -9
    assert done.stdout.strip().isdigit()
