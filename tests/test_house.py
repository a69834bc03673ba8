"""The house holds: small files and functions, rooms one above the other, no name for two things."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from documents import ROOT, blocks

PACKAGE = ROOT / "mld_ff"
LONGEST_FILE, LONGEST_FUNCTION = 400, 60
DOORS = {"__init__.py", "__main__.py"}
"""They may import from any room; nobody imports them."""
MODULES = sorted(PACKAGE.rglob("*.py"))
FOLDERS = sorted({file.parent for file in MODULES})


def lines(file: Path) -> int:
    return len(file.read_text(encoding="utf-8").splitlines())


@cache
def tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def imported(file: Path) -> set[str]:
    """Full names of the modules of ours that a file imports, at its top or in a function."""
    names: set[str] = set()
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.ImportFrom) and node.module:
            # `from mld_ff.cli import text` imports a module, `from mld_ff.files import to_json` not
            inside = [f"{node.module}.{alias.name}" for alias in node.names]
            names |= {name if is_module(name) else node.module for name in inside}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return {name for name in names if name.split(".")[0] == "mld_ff"}


@cache
def is_module(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    return path.with_suffix(".py").exists() or (path / "__init__.py").exists()


def test_no_file_is_long() -> None:
    files = [*MODULES, *(ROOT / "templates").glob("*.py"), *(ROOT / "tests").rglob("*.py")]
    long = {str(file.relative_to(ROOT)): n for file in files if (n := lines(file)) > LONGEST_FILE}
    assert long == {}


def test_no_function_is_long() -> None:
    long = {
        f"{file.relative_to(ROOT)}:{node.lineno} {node.name}": size
        for file in [*MODULES, *(ROOT / "templates").glob("*.py"), *(ROOT / "tests").rglob("*.py")]
        for node in ast.walk(tree(file))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        and (size := (node.end_lineno or node.lineno) - node.lineno + 1) > LONGEST_FUNCTION
    }
    assert long == {}


def names_bound(file: Path) -> Iterator[tuple[str, str | None]]:
    """Every name that a package's `__init__` binds, and the module that it imports it from."""
    for node in tree(file).body:
        if isinstance(node, ast.ImportFrom):
            yield from ((alias.asname or alias.name, node.module) for alias in node.names)
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.name, None


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda f: f.relative_to(ROOT).as_posix())
def test_no_name_hides_a_module(folder: Path) -> None:
    modules = {p.stem for p in folder.glob("*.py")} | {
        p.name for p in FOLDERS if p.parent == folder
    }
    package = ".".join(folder.relative_to(ROOT).parts)
    hidden = [
        name
        for file in (folder / "__init__.py", folder / "__init__.pyi")
        if file.exists()
        for name, source in names_bound(file)
        if name in modules and source != package
    ]
    assert hidden == []


def floors() -> dict[str, int]:
    """Floor of every room in the picture of the architecture, counted from the top."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    picture = next(block.text for block in blocks(text) if block.language == "")
    rooms = [re.split(r"\s{3,}", line)[0].split() for line in picture.strip().splitlines()]
    return {name: floor for floor, names in enumerate(rooms) for name in names}


def room_of(file: Path) -> str:
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def test_the_picture_shows_all_rooms() -> None:
    rooms = {room_of(file) for file in MODULES if file.parent != PACKAGE or file.name not in DOORS}
    assert rooms == set(floors())


def test_imports_go_only_downwards() -> None:
    floor_of = floors()
    upwards = [
        f"{file.relative_to(PACKAGE)} imports {name}"
        for file in MODULES
        if (room := room_of(file)) + ".py" not in DOORS
        for name in imported(file)
        if (other := name.split(".")[1] if "." in name else "__init__") != room
        and floor_of.get(other, -1) <= floor_of[room]
    ]
    assert upwards == []


def test_exporters_run_nothing() -> None:
    """Nor does the data know an engine: the picture has `loss` below `engines`."""
    for file in PACKAGE.glob("engines/*/export.py"):
        what_runs = (".session", ".evaluation", ".executable", ".subprocesses", ".production")
        assert all(list(file.parent.glob(f"{name[1:]}.py")) for name in what_runs[:2]), file
        running = {name for name in imported(file) if name.endswith(what_runs)}
        assert running == set(), file
