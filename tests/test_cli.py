"""The command line as a user meets it: one JSON object, exit codes, no traceback."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from command_line import invoke

import mld_ff as mld_ff_package
from mld_ff.cli import app

ROOT = Path(__file__).parents[1]
CP2K = ROOT / "examples/water/cp2k"
DFT = ROOT / "examples/water-dft/cp2k"


GIVE = ": give a directory of CP2K, or extended XYZ; `mld-ff reference` makes one"


def refusal(*arguments: object) -> str:
    """What a command that must refuse its input says, within this process; standard output stays
    empty.
    """
    done = invoke(*arguments)
    assert done.exit_code == 2, done.stdout
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    return done.stderr


def answer(*arguments: object) -> dict[str, Any]:
    """The JSON object of a command that must succeed."""
    done = invoke(*arguments, "--json")
    assert done.exit_code == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("cli") / "model.json"
    told = answer("fit", DFT, "-o", file, "--basis", "power", "--bond-degree", 2)
    assert told["relative_rmse"]["O"] < 0.26
    assert told["relative_rmse"]["H"] < 0.23
    assert set(told["relative_rmse_agent"]) == {"O", "H"}
    assert told["frames_train"] + told["frames_test"] == 81
    assert told["n_coefficients"] == 10
    assert 200 < told["rmse_meV_per_A"] < 250
    return file


@pytest.fixture(scope="module")
def exported(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For OpenMM, from the last frame of the example."""
    out = tmp_path_factory.mktemp("exported")
    answer("export", model, "--engine", "openmm", "--cp2k", DFT, "-o", out)
    return out


def test_inspect_tells_what_is_there(late_water: Path) -> None:
    told = answer("inspect", late_water, "--skip", 0.1)
    assert told["frames"] == 87
    assert told["molecules"] == {"H2O": 64}
    assert told["time_fs"] == [6000, 6860]
    assert told["has"] == {"forces": True, "velocities": True, "energy": True, "stress": False}
    assert (
        abs(told["temperature_K"]["mean"] - 302.66) < 0.05
    )  # the mean of column 4 of the .ener file at these steps
    assert told["distances_A"]["bonded:O-H"]["count"] == 87 * 128
    assert told["warnings"] == []


def test_verify_passes_and_reports_every_engine(model: Path) -> None:
    told = answer("verify", model, DFT, "--frames", 2)
    assert told["passed"] is True
    for engine in ("openmm", "lammps"):
        result = told["engines"][engine]
        assert result["passed"] is True
        assert result["max_force_difference_eV_per_A"] < 1e-4
        assert result["relative_energy_difference"] < 1e-5


def test_verify_of_a_sabotaged_export_exits_with_1(
    model: Path, exported: Path, tmp_path: Path
) -> None:
    sabotaged = shutil.copytree(exported, tmp_path / "openmm")
    system = sabotaged / "system.xml"
    text = system.read_text()
    assert "A_3*q1 +" in text
    system.write_text(text.replace("A_3*q1 +", "1.01*A_3*q1 +"))
    done = invoke("verify", model, DFT, "--frames", 1, "--openmm", sabotaged, "--json")
    assert done.exit_code == 1
    assert json.loads(done.stdout)["engines"]["openmm"]["passed"] is False
    assert "check failed" in done.stderr
    assert "Traceback" not in done.stderr


def test_export_from_a_structure_file_and_run_it(
    model: Path, exported: Path, tmp_path: Path
) -> None:
    pdb = exported / "topology.pdb"
    files = answer(
        "export", model, "--engine", "lammps", "--structure", pdb, "-o", tmp_path / "lammps"
    )["files"]
    assert all(Path(f).stat().st_size > 0 for f in files)
    for engine in ("openmm", "lammps"):
        told = answer(
            "run",
            model,
            "--engine",
            engine,
            "--structure",
            pdb,
            "--time",
            0.1,
            "-o",
            tmp_path / f"run-{engine}",
        )
        assert told["time_ps"] == pytest.approx(0.1)
        assert 200 < told["mean_temperature_K"] < 400


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("inspect", "nowhere"), "nowhere: no such file or directory"),
        (
            ("fit", CP2K, "-o", "m.json", "--basis", "power", "--exponent", "0"),
            "the exponent 0 is no invariant",
        ),
        (
            ("fit", DFT, "-o", "m.json", "--cutoff", "7"),
            "at most half the smallest width of the cell, 6.222 Å",
        ),
        (("fit", CP2K, "-o", "m.json", "--file", "velocity=x"), "--file takes ROLE=FILE"),
        (
            ("export", DFT / "dft.inp", "--engine", "lammps", "--cp2k", DFT, "-o", "x"),
            "is not a model file",
        ),
        (("build", CP2K), "is a directory, no configuration: `mld-ff init "),
        (("build", "nothing.toml"), "write one with `mld-ff init CP2K_DIR -o build.toml`"),
    ],
)
def test_bad_input_is_one_paragraph_and_exit_code_2(
    arguments: tuple[object, ...], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert said in refusal(*arguments)
    assert list(tmp_path.iterdir()) == []


def test_atoms_to_start_from_are_asked_for(model: Path, tmp_path: Path) -> None:
    said = refusal("export", model, "--engine", "openmm", "-o", tmp_path / "x")
    assert "either --cp2k CP2K_DIR or --structure FILE" in said


def test_frame_that_is_not_there(model: Path, tmp_path: Path) -> None:
    said = refusal(
        "export", model, "--engine", "openmm", "--cp2k", DFT, "--frame", 81, "-o", tmp_path / "x"
    )
    assert "frame 81 was asked for; the run has 81 frames" in said


def test_frames_are_chosen_as_for_a_fit(model: Path, exported: Path, tmp_path: Path) -> None:
    """A frame after a stretch that is left out; of a structure there is none to choose."""
    begin = ("export", model, "--engine", "lammps")
    for name, words in (("late", ("--skip", 0.035, "--frame", 0)), ("same", ("--frame", 70))):
        answer(*begin, "--cp2k", DFT, *words, "-o", tmp_path / name)
    late, same = ((tmp_path / name / "system.data").read_bytes() for name in ("late", "same"))
    assert late == same
    assert "the run has 11 frames" in refusal(
        *begin, "--cp2k", DFT, "--skip", 0.035, "--frame", 11, "-o", tmp_path / "x"
    )
    for option, value in (("--skip", "1"), ("--frame", "0"), ("--file", "positions=x")):
        pdb = exported / "topology.pdb"
        said = refusal(*begin, "--structure", pdb, option, value, "-o", tmp_path / "x")
        assert "--frame, --skip and --file choose a frame of --cp2k CP2K_DIR" in said
    assert "it must be a number, 0 or more" in refusal("verify", model, DFT, "--skip", -5)


def test_refusal_as_json_is_one_object_too() -> None:
    command = [sys.executable, "-m", "mld_ff", "inspect", "nowhere", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert json.loads(done.stdout) == {
        "error": f"error: nowhere: no such file or directory{GIVE}",
        "exit_code": 2,
    }
    assert "Traceback" not in done.stderr


def test_an_error_of_our_own_is_no_traceback_either(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mld_ff.cli.options.open_source", lambda *_, **__: 1 / 0)
    done = invoke("inspect", "x")
    assert done.exit_code == 1
    assert "unexpected ZeroDivisionError" in done.stderr


# --- options that are not there -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ("run", "m.json", "--engine", "lammps", "-o", "x", "--temprature", "3"),
            "Unknown option: --temprature. Did you mean --temperature? (`mld-ff run --help`)",
        ),
        (
            ("run", "m.json", "--engine", "lampps", "-o", "x"),
            (
                'Invalid value "lampps" for --engine. Choose from: "openmm", "lammps". Did you mean'
                ' "lammps"? (`mld-ff run --help`)'
            ),
        ),
        (
            ("run", "m.json", "--engine", "lammps", "-o", "x", "--time", "long"),
            "--time takes a number; found 'long' (`mld-ff run --help`)",
        ),
        (
            ("inspect",),
            "CP2K_DIR is missing: mld-ff inspect [OPTIONS] CP2K_DIR (`mld-ff inspect --help`)",
        ),
        (
            ("fit", CP2K),
            (
                "--output is missing: mld-ff fit --output PATH [OPTIONS] CP2K_DIR..."
                " (`mld-ff fit --help`)"
            ),
        ),
        (
            ("fit", CP2K, "-o"),
            'Command "fit" parameter -o requires an argument. (`mld-ff fit --help`)',
        ),
        (
            ("inspect", CP2K, "and", "more"),
            (
                "not expected here: and more: mld-ff inspect [OPTIONS] CP2K_DIR"
                " (`mld-ff inspect --help`)"
            ),
        ),
    ],
)
def test_bad_options_are_one_paragraph_that_says_what_was_meant(
    arguments: tuple[object, ...], said: str
) -> None:
    assert refusal(*arguments) == f"error: {said}\n"
    done = invoke(*arguments, "--json")
    assert (done.exit_code, done.stderr) == (2, f"error: {said}\n")
    assert json.loads(done.stdout) == {"error": f"error: {said}", "exit_code": 2}


def test_unknown_verb() -> None:
    assert 'Unknown command "fti". Did you mean "fit"?' in refusal("fti", CP2K)


def test_runs_may_stand_anywhere_on_the_line(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Path] = []
    monkeypatch.setattr("mld_ff.cli.options.open_source", lambda path, **_: opened.append(path))
    invoke("fit", "a", "--collective", "b", "-o", "m.json", "c", "--exponent", "-2", "d")
    assert opened == [Path(name) for name in "abcd"]


# --- the program itself ---------------------------------------------------------------------------


def test_version_is_that_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert invoke("--version").stdout.strip() == project["version"] == mld_ff_package.__version__


def test_help_lists_every_verb_in_order_of_use() -> None:
    done = invoke("--help")
    assert done == invoke("-h") == invoke()
    words = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("│ ")]
    verbs = [word for word in words if word in app]
    assert verbs[:4] == ["inspect", "fit", "accumulate", "scan"]
    assert {*verbs} == {*app} - {"-h"}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(shell: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = invoke("--show-completion", shell)
    assert script.exit_code == 0
    for word in ("match", "temperature", "cp2k", "ensemble"):
        assert word in script.stdout
    monkeypatch.setenv("HOME", str(tmp_path))
    done = invoke("--install-completion", shell)
    assert done.exit_code == 0, done.stderr
    assert Path(done.stdout.strip()).read_text(encoding="utf-8").strip() == script.stdout.strip()


HEAVY = ("matplotlib", "openmm", "MDAnalysis", "parmed", "ase", "scipy", "numpy")


def test_importing_mld_ff_and_asking_for_help_load_nothing_heavy() -> None:
    code = f"""
import sys
import mld_ff
from mld_ff.cli import main
main(["--help"])
main(["--version"])
print([name for name in {HEAVY} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_every_name_of_the_package_is_there() -> None:
    assert {*mld_ff_package.__all__} <= {*dir(mld_ff_package)}
    for name in mld_ff_package.__all__:
        assert getattr(mld_ff_package, name) is not None
    missing = "no_such_name"
    with pytest.raises(AttributeError):
        getattr(mld_ff_package, missing)
