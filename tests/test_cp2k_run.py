"""How CP2K is found and started, and what it says, where it is installed. Its runs are in
regression/test_cp2k.py.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import waters

from mld_ff.errors import EngineError, InputError
from mld_ff.sources.cp2k.run.inputs import Reference, write_labels, write_reference
from mld_ff.sources.cp2k.run.launch import (
    CP2K_VARIABLE,
    check,
    find_cp2k,
    variables_of_release,
)
from mld_ff.sources.cp2k.run.resume import prepare, run_reference


def installed() -> bool:
    try:
        return bool(find_cp2k())
    except InputError:
        return False


needs_cp2k = pytest.mark.skipif(
    not installed(), reason="CP2K is not installed (apt-get install cp2k)"
)


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def test_without_cp2k_the_input_is_written_and_the_note_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv(CP2K_VARIABLE, raising=False)
    write_reference(tmp_path / "out", Reference(), waters(8))
    prepared = prepare(tmp_path / "out", run=False)
    assert not prepared.checked
    assert any("not checked" in n and "apt-get install cp2k" in n for n in prepared.notes)
    with pytest.raises(InputError, match="apt-get install cp2k"):
        prepare(tmp_path / "out", run=True)


@needs_cp2k
def test_a_fault_in_the_input_is_told_in_cp2ks_words(tmp_path: Path) -> None:
    write_reference(tmp_path, Reference(), waters(4))
    text = (tmp_path / "md.inc").read_text()
    (tmp_path / "md.inc").write_text(text.replace("ENSEMBLE NVT", "ENSEMBLE NVTT"))
    with pytest.raises(EngineError, match=r"does not accept .*NVTT"):
        check(tmp_path)


@pytest.mark.parametrize(
    ("version", "old"), [("2022.1", 1), ("2023.1", 1), ("2023.2", 0), ("2024.3", 0), ("2026.2", 0)]
)
def test_words_of_the_release_that_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, old: int
) -> None:
    """2026.2 does not know EVAL_ENERGY_FORCES, releases before 2023.2 know nothing else."""
    program = tmp_path / "cp2k.psmp"
    program.write_text(f"#!/bin/sh\necho ' CP2K version {version}'\n")
    program.chmod(0o755)
    monkeypatch.setenv(CP2K_VARIABLE, str(program))
    assert variables_of_release() == {"OLD_EVAL": old}
    program.write_text("#!/bin/sh\necho hello\n")
    with pytest.raises(InputError, match="--version` tells no version of CP2K"):
        variables_of_release()


@needs_cp2k
def test_what_cp2k_says_when_it_stops(tmp_path: Path) -> None:
    write_reference(tmp_path, Reference("xtb", steps=2, relax_steps=0), waters(2))
    text = (tmp_path / "xtb.inp").read_text()
    (tmp_path / "xtb.inp").write_text(text.replace("xTB_parameters", "no_such_file"))
    with pytest.raises(EngineError, match=r"CP2K stopped in .*md.out: .*no_such_file"):
        run_reference(tmp_path)


def test_a_command_with_half_a_quotation_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CP2K_VARIABLE, "mpirun 'cp2k")
    with pytest.raises(InputError, match=rf"{CP2K_VARIABLE} is .*No closing quotation"):
        find_cp2k()


def test_a_command_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CP2K_VARIABLE, "sh -c 'sleep 100'")
    monkeypatch.setattr("mld_ff.sources.cp2k.run.launch.VERSION_SECONDS", 0.05)
    with pytest.raises(EngineError, match=r"--version did not end within 0\.05 s"):
        variables_of_release()


@pytest.mark.parametrize("words", ["garbage\n\nmore\n", "\n", "9" * 5000 + "\n", "\0\ufffd\n"])
@pytest.mark.parametrize("name", ["label-pos-1.xyz", "label-1.ener"])
def test_labels_do_not_go_on_from_garbage(tmp_path: Path, words: str, name: str) -> None:
    """As an interruption leaves it on some disks, or another program."""
    write_labels(tmp_path, Reference(), waters(8))
    (tmp_path / name).write_text(words)
    with pytest.raises(
        InputError, match=rf"{name}:1: is not what CP2K writes: .* Remove the files"
    ):
        run_reference(tmp_path)
