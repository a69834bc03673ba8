"""CP2K as an engine: find it, let it check an input, launch it."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

from mld_ff.errors import EngineError, InputError
from mld_ff.names import shown
from mld_ff.sources.cp2k.run.inputs import METHODS
from mld_ff.subprocesses import end_with_us, stream

CP2K_VARIABLE = "MLD_FF_CP2K"
NAMES = ("cp2k.psmp", "cp2k.popt", "cp2k.ssmp", "cp2k")
POLL_SECONDS = 0.5
VERSION_SECONDS = 60.0
"""In which CP2K tells its version; where MPI cannot start it, it never does."""
FIRST_WITH_EVAL = (2023, 2)
"""Release that brought EVAL of &REFTRAJ (pull request 2981; 5401 dropped the words before)."""
_RELEASE = re.compile(r"(\d+)(?:\.(\d+))?")


def find_cp2k() -> list[str]:
    """The command that starts CP2K: $MLD_FF_CP2K (words as in a shell, `mpirun -np 4 cp2k.psmp`),
    else from the PATH.

    Raises InputError if there is none.
    """
    for candidate in (os.environ.get(CP2K_VARIABLE, ""), *NAMES):
        try:
            words = shlex.split(candidate)
        except ValueError as error:
            raise InputError(f"{CP2K_VARIABLE} is {shown(candidate)}: {error}") from None
        if words and (executable := shutil.which(words[0])):
            return [executable, *words[1:]]
    raise InputError(
        "no CP2K found: `apt-get install cp2k` (or `conda install -c conda-forge cp2k`), or set "
        f"{CP2K_VARIABLE} to its executable"
    )


def installed_version() -> str:
    """As CP2K tells it, `2023.1`; empty where it does not. Raises InputError if there is none,
    EngineError if it does not end."""
    _, lines = stream([*find_cp2k(), "--version"], Path(), within_s=VERSION_SECONDS)
    told = re.search(r"CP2K version ([\w.]+)", "".join(lines))
    return told[1] if told else ""


def variables_of_release() -> dict[str, object]:
    """What the CP2K that is installed needs an input to be told: since 2023.2 it knows EVAL, and
    from 2026.2 on no longer what that replaced. Raises InputError if it does not tell its version.
    """
    found = _RELEASE.match(installed_version())
    if found is None:
        raise InputError(f"`{' '.join(find_cp2k())} --version` tells no version of CP2K")
    return {"OLD_EVAL": int((int(found[1]), int(found[2] or 0)) < FIRST_WITH_EVAL)}


def check(directory: Path | str) -> None:
    """Let CP2K check the syntax of an input of `write_reference` or `write_labels`, all its stages.

    Raises InputError if CP2K is not installed, EngineError with its words if it refuses.
    """
    out = Path(directory)
    main, command = main_input(out), find_cp2k()
    presets = _presets(variables_of_release())
    for stage in ("md", "relax", "label"):
        if (out / f"{stage}.inc").exists():
            command_line = [*command, *presets, "-E", f"RUN={stage}", "-c", main.name]
            code, lines = stream(command_line, out)
            if code or not any("SUCCESS" in line for line in lines):
                raise EngineError(
                    f"CP2K does not accept {main} with RUN={stage}: {_complaint(lines)}"
                )


def launch(
    out: Path, stage: str, variables: Mapping[str, object], on_poll: Callable[[], None]
) -> None:
    """Run CP2K on the input in `out`, its words in STAGE.out. Raises EngineError if it does not end
    well.
    """
    main, log = main_input(out), out / f"{stage}.out"
    presets = _presets({**variables_of_release(), **variables})
    command = [*find_cp2k(), *presets, "-i", main.name]
    with log.open("a", encoding="utf-8") as words:
        start = words.tell()
        with subprocess.Popen(
            command, cwd=out, stdout=words, stderr=subprocess.STDOUT, preexec_fn=end_with_us
        ) as process:
            try:
                while process.poll() is None:
                    on_poll()
                    try:
                        process.wait(POLL_SECONDS)
                    except subprocess.TimeoutExpired:
                        continue
            except BaseException:
                process.terminate()
                raise
    on_poll()
    if process.returncode:
        with log.open(encoding="utf-8", errors="replace") as words:
            words.seek(start)
            raise EngineError(f"CP2K stopped in {log}: {_complaint(words.readlines())}")


def _presets(variables: Mapping[str, object]) -> list[str]:
    return [word for name, value in variables.items() for word in ("-E", f"{name}={value}")]


def _complaint(lines: list[str]) -> str:
    """The sentence in CP2K's box, else its last words."""
    text = "".join(lines)
    if box := re.search(r"\[ABORT\](.*?)\n \*{20,}", text, re.DOTALL):
        return " ".join(re.sub(r"\S+\.F:\d+|[*|/\\]|O/", " ", box[1].replace("___", "")).split())
    if error := re.search(r"(?:Fortran runtime error|Error):.*", text):
        return error[0]
    return " / ".join(line.strip() for line in lines[-4:]) or "it said nothing"


def main_input(out: Path) -> Path:
    """The input in a directory of `write_reference` or `write_labels`. Raises InputError if there
    is none.
    """
    present = [out / f"{method}.inp" for method in METHODS if (out / f"{method}.inp").exists()]
    if len(present) != 1:
        raise InputError(
            f"expected one of {', '.join(f'{m}.inp' for m in METHODS)}, found"
            f" {len(present) or 'none'}; `mld-ff reference` writes it",
            out,
        )
    return present[0]
