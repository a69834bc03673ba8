"""Where results go: what lies there is kept, one process writes at a time, and a killed one leaves
nothing in the way.
"""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from command_line import Done, invoke

from mld_ff.errors import EngineError, InputError
from mld_ff.files import write_atomically
from mld_ff.outputs import LOCK, Results, held, others, results
from mld_ff.subprocesses import stream

MODEL, DIRECTORY = Results(begins=b"{"), Results()
WORK = "import sys, time\nfrom mld_ff.outputs import held\n"


def refusal(output: Path, kind: Results, overwrite: bool = False) -> str:
    """What is said in place of the work, which must not begin."""
    with pytest.raises(InputError) as caught, results(output, "fit", kind, overwrite):
        raise AssertionError("began")
    return str(caught.value)


def make_fifo(place: Path) -> None:
    os.mkfifo(place)


def make_socket(place: Path) -> None:
    there = Path.cwd()
    os.chdir(place.parent)  # its address has room for 108 characters
    try:
        socket.socket(socket.AF_UNIX).bind(place.name)
    finally:
        os.chdir(there)


NO_FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "directory": (Path.mkdir, "is a directory: give the name of a file to write"),
    "FIFO": (make_fifo, "is a FIFO: give the name of a file to write"),
    "socket": (make_socket, "is a socket: give the name of a file to write"),
    "device": (lambda p: p.symlink_to("/dev/null"), "is a device: give the name of a file to"),
    "loop": (lambda p: p.symlink_to(p), "cannot be written: Too many levels of symbolic links"),
    "file in a file": (lambda p: p.write_text("x"), "exists: give another name, or replace it"),
}


@pytest.mark.parametrize("case", NO_FILES)
def test_what_is_no_new_file_is_refused_before_the_work(case: str, tmp_path: Path) -> None:
    make, said = NO_FILES[case]
    make(tmp_path / "x")
    assert refusal(tmp_path / "x", MODEL).startswith(f"{tmp_path / 'x'}: {said}")
    assert [file.name for file in tmp_path.iterdir()] == ["x"]
    if "exists" not in said:
        assert said in refusal(tmp_path / "x", MODEL, overwrite=True)
        with pytest.raises(InputError, match=said):  # nor by a call of the library
            write_atomically(tmp_path / "x", "{}")


def test_places_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    below = tmp_path / "file" / "below"
    assert refusal(below, MODEL) == f"{below}: cannot be written: Not a directory"
    assert refusal(below, DIRECTORY).startswith(f"{below}: cannot be written: Not a directory")
    assert refusal(tmp_path / "file", DIRECTORY).endswith("is a file: give a directory to write to")
    assert refusal(tmp_path / ("x" * 300), MODEL).endswith("cannot be written: File name too long")
    assert refusal(Path("/proc/results"), DIRECTORY).startswith("/proc/results: cannot be written")
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


def test_a_link_stays_and_its_file_is_replaced(tmp_path: Path) -> None:
    target, link = tmp_path / "target.json", tmp_path / "model.json"
    target.write_text("{}")
    link.symlink_to(target)
    assert "exists" in refusal(link, MODEL)
    with results(link, "fit", MODEL, overwrite=True):
        write_atomically(link, '{"new": 1}')
    assert link.is_symlink() and target.read_text() == '{"new": 1}'
    target.write_bytes(b"\x7fELF")
    assert "is a file of another kind, and stays" in refusal(link, MODEL, overwrite=True)
    (tmp_path / "dangling").symlink_to(tmp_path / "to come")
    with results(tmp_path / "dangling", "fit", MODEL):
        write_atomically(tmp_path / "dangling", "{}")
    assert (tmp_path / "to come").read_text() == "{}"


def test_a_directory_that_is_not_empty(tmp_path: Path) -> None:
    with results(tmp_path, "scan", DIRECTORY):
        (tmp_path / "scan.json").write_text("{}")
    assert refusal(tmp_path, DIRECTORY) == (
        f"{tmp_path}: is not empty: choose another directory, or replace what has the same names"
        " there (--overwrite)"
    )
    with results(tmp_path, "scan", DIRECTORY, overwrite=True):
        pass
    assert [file.name for file in tmp_path.iterdir()] == ["scan.json"]


def test_what_fails_leaves_no_empty_directories(tmp_path: Path) -> None:
    with pytest.raises(KeyError), held(tmp_path / "new" / "run", "run"):
        raise KeyError
    with pytest.raises(KeyError), results(tmp_path / "new" / "m.json", "fit", MODEL):
        raise KeyError
    assert list(tmp_path.iterdir()) == []


# --- two processes --------------------------------------------------------------------------------


@contextmanager
def process(program: str, *words: object) -> Iterator[subprocess.Popen[str]]:
    """A process that has said that it began."""
    command = [sys.executable, "-c", program, *map(str, words)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as started:
        assert started.stdout is not None
        assert started.stdout.readline() == "began\n"
        try:
            yield started
        finally:
            started.kill()


HOLDING = WORK + (
    "with held(sys.argv[1], 'run'):\n"
    "    open(sys.argv[1] + '/half', 'w').close()\n"
    "    print('began', flush=True)\n"
    "    time.sleep(60)\n"
)


def test_the_second_process_is_told_who_holds_it(tmp_path: Path) -> None:
    out = tmp_path / "run"
    with process(HOLDING, out) as first:
        for verb in ("run", "export"):
            with pytest.raises(InputError) as caught, held(out, verb):
                raise AssertionError("began")
            said = str(caught.value)
            assert said.startswith(f"{out}: another process writes there: -c {out} (process")
            assert f"(process {first.pid} on {socket.gethostname()}, since 2" in said
    assert (out / LOCK).exists() and [f.name for f in others(out)] == ["half"]
    assert "is not empty" in refusal(out, DIRECTORY), "what a run left is nothing to another verb"
    with held(out, "run") as unfinished:
        assert unfinished, "a killed process holds nothing, and tells that it did not finish"
    with held(out, "run") as unfinished:
        assert not unfinished and [f.name for f in out.iterdir()] != []
    assert not (out / LOCK).exists()


def test_a_process_does_not_hold_the_same_place_twice(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    again = held(tmp_path / "link", "run")
    with held(tmp_path, "run"), pytest.raises(InputError, match="by this process already"), again:
        pass


def test_a_note_of_anybody_is_no_lock(tmp_path: Path) -> None:
    for text in (b"", b"\xff\xfe", b"[" * 9000, b'{"verb": 3}', b"[]"):
        (tmp_path / LOCK).write_bytes(text)
        with held(tmp_path, "run") as unfinished:
            assert not unfinished
    (tmp_path / "elsewhere").write_text("kept")
    (tmp_path / LOCK).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="cannot be written"), held(tmp_path, "run"):
        pass
    assert (tmp_path / "elsewhere").read_text() == "kept"


def ends(pid: int, within_s: float = 5.0) -> bool:
    """Whether a process is gone, or nothing but its exit code is left."""
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_an_engine_ends_with_its_command(number: int, tmp_path: Path) -> None:
    """However the command ends, and though the engine never writes to the closed pipe."""
    engine = ["sh", "-c", "echo $$ > pid; echo began; exec sleep 60"]
    program = f"""
from pathlib import Path
from mld_ff.subprocesses import stream
from mld_ff.cli.console import reporting
with reporting(False):
    stream({engine}, Path({str(tmp_path)!r}), lambda line: print(line, end="", flush=True))
"""
    with process(program) as command:
        pid = int((tmp_path / "pid").read_text())
        assert not ends(pid, 0.1)
        command.send_signal(number)
        assert ends(pid)
        assert command.wait(5) == (-signal.SIGKILL if number == signal.SIGKILL else 1)


def test_a_directory_that_vanished_is_named(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=f"{tmp_path}/gone has vanished"):
        stream(["true"], tmp_path / "gone")


def test_a_full_disk_is_named_and_leaves_nothing(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
        with pytest.raises(InputError, match=r"model\.json: cannot be written: File too large"):
            write_atomically(tmp_path / "model.json", "x" * 2000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


# --- the command line -----------------------------------------------------------------------------


def box(output: Path, *more: str) -> Done:
    return invoke("box", "--count", "2", "--density", "0.2", "-o", output, *more)


def test_a_command_keeps_what_lies_there(tmp_path: Path) -> None:
    file = tmp_path / "box.xyz"
    assert box(file).exit_code == 0
    before = file.read_bytes()
    done = box(file, "--seed", "2")
    assert done.exit_code == 2 and done.stdout == ""
    assert done.stderr == (
        f"error: {file}: exists: give another name, or replace it (--overwrite)\n"
    )
    assert file.read_bytes() == before
    assert box(file, "--seed", "2", "--overwrite").exit_code == 0
    assert file.read_bytes() != before and [f.name for f in tmp_path.iterdir()] == ["box.xyz"]
