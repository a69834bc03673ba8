"""What it takes to add a source of frames: one file, whose content this is, and one line. The
command line then fits, verifies and reports it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import invoke
from conftest import topology_of

from mld_ff.errors import InputError
from mld_ff.origin import Origin, Remedies
from mld_ff.report import compare_runs
from mld_ff.sources import open_source, registry
from mld_ff.sources.cp2k import CP2KSource
from mld_ff.sources.source import CHUNK, FileSource, SourceKind
from mld_ff.sources.textfiles import sha256
from mld_ff.trajectory import Trajectory

ROOT = Path(__file__).parents[1]

# --- the new file: frames as arrays of NumPy ------------------------------------------------------


class ArraySource(FileSource):
    """All frames of a file of `numpy.savez`, whose arrays have the names of Trajectory's fields."""

    def __init__(self, file: Path, *, require_forces: bool | None, skip_fs: float) -> None:
        remedies = Remedies(forces="save them as the array `forces`")
        with np.load(file) as stored:
            arrays = dict(stored)
        if require_forces and "forces" not in arrays:
            raise InputError(f"holds no forces: {remedies.forces}", file)
        self.symbols, self.masses = tuple(arrays.pop("symbols")), arrays.pop("masses")
        self.notes = []
        self.origin = Origin((file.name,), sha256([file]), "Invented", remedies=remedies)
        whole = Trajectory(self.symbols, self.masses, **arrays, origin=self.origin)
        self._frames = whole[whole.time >= whole.time[0] + skip_fs]

    @property
    def n_frames(self) -> int:
        return self._frames.n_frames

    @property
    def half_width(self) -> float:
        return self._frames.half_width

    def chunks(
        self, size: int = CHUNK, start: int = 0, stop: int | None = None
    ) -> Iterator[Trajectory]:
        return self._frames.chunks(size, start, stop)


ARRAYS = SourceKind("arrays of NumPy (.frames)", lambda p: p.suffix == ".frames", ArraySource)


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """The line that adds it."""
    monkeypatch.setattr(registry, "SOURCES", (*registry.SOURCES, ARRAYS))


# --- what comes of it -----------------------------------------------------------------------------


def saved(frames: Trajectory, file: Path, *left_out: str) -> Path:
    names = {"symbols", "masses", "positions", "cell", "time", "step", "forces", "velocities"}
    with file.open("wb") as stream:
        np.savez(stream, **{name: getattr(frames, name) for name in names - {*left_out}})
    return file


@pytest.fixture
def some(water: Trajectory) -> Trajectory:
    """20 frames of 16 molecules, 100 fs apart."""
    frames = water[:200:10]
    return frames.select_atoms(np.sort(np.concatenate(topology_of(frames).molecules[:16])))


def answered(*arguments: object) -> dict[str, Any]:
    done = invoke(*arguments, "--json")
    assert done.exit_code == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_a_new_source_is_fitted_verified_and_reported(
    known: None, some: Trajectory, tmp_path: Path
) -> None:
    file, model, run = saved(some, tmp_path / "w.frames"), tmp_path / "m.json", tmp_path / "run"
    fitted = answered("fit", file, "-o", model, "--basis", "power", "--cutoff", 4, "--skip", 0.2)
    assert fitted["source"]["files"] == ["w.frames"] and fitted["frames_train"] > 0
    assert answered("verify", model, file, "--frames", 1)["passed"] is True
    begin = ("--cp2k", file, "--frame", 0, "--time", 0.1)
    answered("run", model, "--engine", "lammps", *begin, "-o", run)
    told = compare_runs(open_source(file), [run])
    assert {"temperature_K", "oh_mean_A"} <= told.observables.keys()


def test_a_new_source_says_what_to_do(known: None, some: Trajectory, tmp_path: Path) -> None:
    file = saved(some, tmp_path / "w.frames", "forces", "velocities")
    done = invoke("fit", file, "-o", str(tmp_path / "m.json"))
    assert done.stderr == f"error: {file}: holds no forces: save them as the array `forces`\n"
    out = str(tmp_path / "out")
    done = invoke("match", file, "-o", out)
    assert done.stderr.startswith("error: no run has forces: save them as the array `forces`, or")


# --- what a path holds ----------------------------------------------------------------------------


def message(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        open_source(path)
    return str(caught.value)


def test_what_no_source_recognises(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("?")
    assert message(tmp_path / "a.txt") == (
        f"{tmp_path / 'a.txt'}: the name does not tell what frames this file holds; known are the"
        " directory of a CP2K run, extended XYZ (.xyz, .extxyz, each also .gz, .bz2, .xz)"
    )


def test_what_is_not_there_is_told_with_what_may_be_meant(tmp_path: Path) -> None:
    missing = f"{tmp_path / 'frames'}: no such file or directory"
    assert message(tmp_path / "frames") == (
        f"{missing}: give a directory of CP2K, or extended XYZ; `mld-ff reference` makes one"
    )
    (tmp_path / "frames.xyz").touch()
    assert message(tmp_path / "frames") == f"{missing}; did you mean {tmp_path / 'frames.xyz'}?"
    assert message(tmp_path / "no" / "x").endswith(
        f": there is no directory {tmp_path / 'no'} either"
    )


def test_a_cp2k_directory_is_still_one() -> None:
    assert isinstance(open_source(ROOT / "tests/data/cp2k/argon"), CP2KSource)
