"""Everything by one command, from one configuration. (README's, whole: regression.)"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from command_line import invoke
from conftest import EXAMPLE

from mld_ff import pipeline
from mld_ff.configuration.toml import read_config

DFT = EXAMPLE.parents[1] / "water-dft/cp2k"


def test_build(undrawn: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It leaves everything, goes on where it was stopped, and does not replace what lies there."""
    (tmp_path / "build.toml").write_text(
        f"cp2k = '{DFT}'\nplatform = 'CPU'\n[fit]\nkind = 'power'\n"
        "exponents = [3.0]\ncutoff_A = 4.0\n[run]\ntime_ps = 0.05\n"
    )
    out, stages = tmp_path / "output", list[str]()

    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(pipeline, "compare_runs", stop)
        pipeline.build(
            read_config(tmp_path / "build.toml"),
            lambda what, *_: stages.append(what.partition(":")[0]),
        )
    before = {f: f.read_bytes() for f in (out / "model.json", *out.glob("run-*/trajectory.dcd"))}
    assert len(before) == 3 and {"openmm", "lammps"} <= set(stages)

    text = (tmp_path / "build.toml").read_text()
    (tmp_path / "other.toml").write_text(text.replace("4.0", "4.2"))
    other = invoke("build", tmp_path / "other.toml", "-o", out)
    assert other.exit_code == 2
    assert "other settings: basis cutoff_A was 4.0, now is 4.2" in other.stderr

    monkeypatch.setattr(pipeline, "fit", None)  # which is not called again
    done = invoke("build", tmp_path / "build.toml", "--json")
    assert done.exit_code == 0, done.stderr
    assert {f: f.read_bytes() for f in before} == before
    told = json.loads(done.stdout)
    assert told["verify"]["passed"] is True and set(told["runs"]) == {"openmm", "lammps"}
    assert {file.name for file in out.iterdir()} == {
        *("build.json", "model.json", "openmm", "lammps", "run-openmm", "run-lammps"),
        *("report.html", "report-light.html", "report.json", "figures"),
    }
    again = invoke("build", tmp_path / "build.toml")
    assert again.exit_code == 2 and "the output directory is not empty" in again.stderr


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("cp2k = ", "is not valid TOML"),
        ("output = 'x'", 'needs a key "cp2k"'),
        (
            "cp2k = 'x'\nengine = 'lammps'",
            (
                "unknown key 'engine' (did you mean 'engines'?); known: cp2k, engines, fit, match,"
                " output, platform, precision, processes, run, skip_ps"
            ),
        ),
        ("cp2k = 'x'\n[fit]\nbasis = 'spline'", "unknown key [fit] 'basis'"),
        (
            "cp2k = 'x'\n[fit]\nkind = 'cubic'",
            "the basis is 'cubic'; those that can be fitted: spline, power",
        ),
        (
            "cp2k = 'x'\n[run]\ntemperature_K = -1",
            "temperature_K is -1; it must be a positive number",
        ),
        ("cp2k = 'x'\nplatform = 'CPU'\nprecision = 'double'", "CPU has no choice of precision"),
        ("cp2k = 'x'\nengines = ['lammps']\nprecision = 'mixed'", "engines are without openmm"),
        ("cp2k = 'x'\nprocesses = 1.5", "processes should be a whole number, found 1.5"),
        ("cp2k = 'x'\nprocesses = 0", "c.toml: processes is 0; at least one is needed"),
        ("cp2k = 3", "cp2k should be a text, found 3"),
        ("cp2k = 'x'\nengines = []", "engines should be a list of one or more of openmm, lammps"),
        ("cp2k = 'x'\n[fit]\ncutoff_A = 'x'", "[fit] cutoff_A should be a number, found 'x'"),
        (
            "cp2k = 'x'\n[fit]\nexponents = 3.0",
            "[fit] exponents should be a list of numbers, found 3.0",
        ),
        ("cp2k = 'x'\n[run]\nvelocities = 1", "[run] velocities should be true or false, found 1"),
        ("cp2k = 'x'\n[run]\ntime_ps = '5'", "[run] time_ps should be a number, found '5'"),
        (
            "cp2k = 'x'\n[match]\npressure = 1",
            "unknown key [match] 'pressure' (did you mean 'pressure_bar'?); known: pressure_bar,",
        ),
        ("cp2k = 'x'\n[match]\nprice = 0", "[match]: price is 0; it must be a positive number"),
        ("cp2k = 'x'\nengines = ['gromacs']", "engines are openmm, lammps; found 'gromacs'"),
    ],
)
def test_configuration_errors_name_the_key(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text(text)
    done = invoke("build", tmp_path / "c.toml")
    assert (done.exit_code, done.stdout) == (2, "") and said in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("# für\nx = 1\n".encode("latin-1"), "c.toml:1: is not UTF-8, which TOML is: save it as"),
        ("cp2k = 'x'\n".encode("utf-16"), "c.toml:1: is not UTF-8, which TOML is: save it as"),
        (b"cp2k = " + b"[" * 5000 + b"]" * 5000, "is not valid TOML: it is nested too deeply"),
        (b"cp2k = 'x'\nprocesses = " + b"9" * 5000, "is not valid TOML: Exceeds the limit"),
        (b"\xef\xbb\xbfcp2k = 'nowhere'\nx = 1", "unknown key 'x'"),
        (b"", 'needs a key "cp2k"'),
    ],
)
def test_configurations_that_are_no_text(content: bytes, said: str, tmp_path: Path) -> None:
    """A byte-order mark is none of it."""
    (tmp_path / "c.toml").write_bytes(content)
    done = invoke("build", tmp_path / "c.toml")
    assert (done.exit_code, done.stdout) == (2, "") and said in done.stderr
    assert "unexpected" not in done.stderr
