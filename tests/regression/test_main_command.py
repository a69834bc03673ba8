"""README's main command and Python lines, as written there: minutes, so not in the default run.

pytest -n 0 -m regression tests/regression/test_main_command.py
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from documents import ROOT, blocks

README = (ROOT / "README.md").read_text(encoding="utf-8")
pytestmark = pytest.mark.regression


def main_command() -> list[str]:
    """What follows the installation in README's first command."""
    first = re.findall(r"^```bash\n(.*?)^```", README, re.DOTALL | re.MULTILINE)[0]
    make, install, run = first.strip().split(" && ")
    assert make == "python3 -m venv .venv"
    assert install == ".venv/bin/pip install ."
    return shlex.split(run)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What it leaves in a copy of the example; the installation is that of the tests."""
    where = tmp_path_factory.mktemp("clone")
    shutil.copytree(ROOT / "examples", where / "examples", ignore=shutil.ignore_patterns("output"))
    command = main_command()
    assert command[0] == ".venv/bin/mld-ff"
    command = [sys.executable, "-c", "from mld_ff.cli import main; main()", *command[1:]]
    done = subprocess.run(command, cwd=where, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "report.html" in done.stdout
    return where / "examples/water/output"


def test_main_command_leaves_what_the_readme_promises(built: Path) -> None:
    promised = re.findall(
        r"`([\w./*-]+)`", "".join(re.findall(r"^\| (`.*?) \|", README, re.MULTILINE))
    )
    assert {
        "model.json",
        "openmm/",
        "lammps/",
        "run-openmm/",
        "run-lammps/",
        "report.html",
    } <= set(promised)
    for name in promised:
        assert (built / name).exists(), name
    page, light = (
        (built / name).read_text(encoding="utf-8") for name in ("report.html", "report-light.html")
    )
    n_figures = len(list((built / "figures").glob("*.png")))
    assert light.count("data:image/png;base64,") == page.count('src="data:image/png') == n_figures
    assert n_figures == 15
    assert len(page) < 8e6 and len(light) < 1e6
    assert "FAILED" not in light


def test_main_command_learns_verifies_and_runs(built: Path) -> None:
    report = json.loads((built / "report.json").read_text(encoding="utf-8"))
    assert report["fit"]["relative_rmse"]["O"] <= 0.075
    assert report["fit"]["relative_rmse"]["H"] <= 0.075
    assert report["verify"]["passed"] is True
    observables = report["observables"]
    bond, peak = observables["oh_mean_A"], observables["goo_peak_A"]
    for engine in ("openmm", "lammps"):
        assert abs(observables["temperature_K"][engine]["value"] - 300) < 9
        assert abs(bond[engine]["value"] - bond["reference"]["value"]) < 0.003
        assert abs(peak[engine]["value"] - peak["reference"]["value"]) < 0.1


def test_exported_files_need_no_mld_ff(built: Path) -> None:
    for file in [*(built / "openmm").iterdir(), *(built / "lammps").iterdir()]:
        assert not re.search(rb"(import|from) mld_ff\b", file.read_bytes()), file


def test_python_lines_run(tmp_path: Path) -> None:
    """Those of docs/usage.md go on where README's end."""
    usage = (ROOT / "docs/usage.md").read_text(encoding="utf-8")
    shown = [b.text for text in (README, usage) for b in blocks(text) if b.language == "python"]
    assert all(len([line for line in code.splitlines() if line.strip()]) <= 12 for code in shown)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(shown)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "'O': 0.2" in done.stdout


def test_doctor_finds_what_the_main_command_needs() -> None:
    command = [sys.executable, "-c", "from mld_ff.cli import main; main()", "doctor", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    passed = {f["program"]: f["passed"] for f in json.loads(done.stdout)["findings"]}
    assert passed["OpenMM"] is True and passed["LAMMPS"] is True
