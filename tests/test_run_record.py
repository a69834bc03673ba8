"""run.json: what it holds, that of earlier versions, and what is said of broken ones."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import mld_ff
from mld_ff.engines.settings import MD
from mld_ff.errors import InputError
from mld_ff.production.record import RunRecord, read_record

FIRST: dict[str, Any] = {
    "engine": "lammps",
    "finished": True,
    "settings": {
        "temperature_K": 310.0,
        "time_ps": 2.0,
        "timestep_fs": 0.5,
        "damping_fs": 100.0,
        "every_fs": 10.0,
        "seed": 1,
    },
    "started_from": {"sha256": "0123", "step": 80},
    "symbols": ["O", "H", "H"],
    "masses_amu": [15.999, 1.008, 1.008],
    "atom_in_source": [2, 0, 1],
}
"""What the first version wrote."""


def written(directory: Path, data: Any) -> Path:
    (directory / "run.json").write_text(json.dumps(data))
    return directory


def test_record_of_the_first_version(tmp_path: Path) -> None:
    assert read_record(written(tmp_path, FIRST)) == RunRecord(
        engine="lammps",
        finished=True,
        settings=MD(310.0, 2.0),
        started_from={"sha256": "0123", "step": 80},
        symbols=("O", "H", "H"),
        masses_amu=(15.999, 1.008, 1.008),
        atom_in_source=(2, 0, 1),
    )


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    record = RunRecord.from_dict({**FIRST, "finished": False, "notes": ["a"]})
    record.write(tmp_path)
    assert read_record(tmp_path) == record
    assert "wall_s" not in json.loads((tmp_path / "run.json").read_text())
    ended = record.completed(["b"], 12.5, 3.0)
    ended.write(tmp_path)
    assert read_record(tmp_path) == ended
    assert (ended.finished, ended.notes, ended.wall_s) == (True, ("a", "b"), 12.5)
    assert list(json.loads((tmp_path / "run.json").read_text())) == [
        "engine",
        "finished",
        "device",
        "settings",
        "started_from",
        "symbols",
        "masses_amu",
        "atom_in_source",
        "notes",
        "exported_sha256",
        "wall_s",
        "ns_per_day",
    ]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"symbols": None}, "does not hold what a run has: 'NoneType' object is not iterable"),
        ({"finished": "x"}, "does not hold what a run has: finished"),
        ({"symbols": ["O", 1, "H"]}, "does not hold what a run has: symbols"),
        ({"symbols": [], "masses_amu": []}, "does not hold what a run has: symbols"),
        ({"masses_amu": ["a", 1.0, 1.0]}, "does not hold what a run has: masses_amu"),
        ({"masses_amu": [16.0]}, "does not hold what a run has: masses_amu"),
        ({"atom_in_source": [0, 1, 99]}, "does not hold what a run has: atom_in_source"),
        ({"atom_in_source": [0, 1, True]}, "does not hold what a run has: atom_in_source"),
        ({"notes": [5]}, "does not hold what a run has: notes"),
        ({"wall_s": "x"}, "does not hold what a run has: wall_s"),
        *(
            ({name: None}, "does not hold what a run has: device, started_from or exported_sha256")
            for name in ("device", "started_from", "exported_sha256")
        ),
        ({"engine": "gromacs"}, "the engine is 'gromacs'; known: openmm, lammps"),
        ({"settings": {"ensemble": "nph"}}, "ensemble is 'nph'; known: nve, nvt, npt"),
    ],
)
def test_records_that_make_no_sense(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        read_record(written(tmp_path, FIRST | change))
    assert str(caught.value) == (
        f"{tmp_path / 'run.json'}: {said}; make the run anew with `mld-ff run`"
    )


@pytest.mark.parametrize("name", FIRST)
def test_field_that_is_missing(name: str, tmp_path: Path) -> None:
    data = {key: value for key, value in FIRST.items() if key != name}
    with pytest.raises(InputError) as caught:
        read_record(written(tmp_path, data))
    assert str(caught.value) == (
        f"{tmp_path / 'run.json'}: has no {name!r}; make the run anew with `mld-ff run`"
    )


def test_listing_engines_loads_none() -> None:
    """The package itself is left out: only what the registry needs."""
    script = f"""
import sys, types
package = types.ModuleType("mld_ff")
package.__path__ = {list(mld_ff.__path__)!r}
sys.modules["mld_ff"] = package
from mld_ff.engines.registry import ENGINES
assert list(ENGINES) == ["openmm", "lammps"]
heavy = ("openmm", "lammps", "parmed", "MDAnalysis", "matplotlib", "scipy.interpolate")
print([name for name in heavy if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")
