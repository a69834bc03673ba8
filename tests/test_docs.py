"""What the Markdown files show is true: commands, Python lines, links, paths (see documents.py)."""

from __future__ import annotations

import re
import tomllib
from dataclasses import fields

import pytest
import test_house as house
from documents import (
    DOCUMENTS,
    ROOT,
    anchors,
    blocks,
    commands,
    inline_commands,
    links,
    paths_named,
    refusal,
)

import mld_ff
from mld_ff.engines.settings import MD
from mld_ff.inference.normal_equations import NormalEquations
from mld_ff.loss.model import KINDS

TEXTS = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in DOCUMENTS}
README = "README.md"
FENCES = {"", "bash", "bash run", "python", "toml", "json"}
TUTORIALS = [name for name in TEXTS if name.startswith("docs/tutorials/")]
every_document = pytest.mark.parametrize("name", TEXTS)


def test_documents_are_there() -> None:
    assert {
        "README.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "docs/architecture.md",
        "docs/file-formats.md",
        "docs/glossary.md",
        "docs/results.md",
        "docs/sharp-edges.md",
        "examples/acid/README.md",
        "examples/cluster/README.md",
        "examples/copper/README.md",
        "examples/methanol/README.md",
        "examples/silica/README.md",
        "examples/water-dft/README.md",
        "examples/water/README.md",
        "tests/benchmarks/README.md",
        "tests/regression/README.md",
    } <= set(TEXTS)


def test_the_rest_runs_beside_the_main_command() -> None:
    (built,) = [
        words for b in blocks(TEXTS[README]) for words in commands(b.text) if words[0] == "build"
    ]
    first = next(b for b in blocks(TEXTS["examples/water/README.md"]) if b.language == "bash")
    assert list(commands(first.text)) == [built]
    python = {n for n, text in TEXTS.items() if "python" in {b.language for b in blocks(text)}}
    assert python - {*TUTORIALS} == {README, "docs/usage.md"}


@every_document
def test_fences_say_how_they_are_tested(name: str) -> None:
    assert {block.language for block in blocks(TEXTS[name])} <= FENCES
    assert not re.search(r"^ {4,}mld-ff ", TEXTS[name], re.MULTILINE), "fence commands with ```bash"


@every_document
def test_commands_are_accepted(name: str) -> None:
    text = TEXTS[name]
    scripts = [b.text for b in blocks(text) if b.language in ("bash", "bash run")]
    whole = [words for script in scripts for words in commands(script)]
    refused = {" ".join(words): refusal(words) for words in whole}
    refused |= {" ".join(words): refusal(words, whole=False) for words in inline_commands(text)}
    assert {words: said for words, said in refused.items() if said} == {}


def test_a_wrong_command_is_refused() -> None:
    assert list(commands('x=$(mld-ff fit A -o b) && sbatch --wrap "mld-ff verify b A" # no')) == [
        ["fit", "A", "-o", "b"],
        ["verify", "b", "A"],
    ]
    assert refusal(["fit", "A", "-o", "b", "--collective"]) is None
    assert "--spacings" in str(refusal(["fit", "A", "-o", "b", "--spacings", "0.2"]))
    assert "--spacing" in str(refusal(["fit", "A", "-o", "b", "--spacing", "0.2 nm"]))
    assert "fitt" in str(refusal(["fitt", "A"]))
    assert refusal(["fit", "A"]) is not None
    assert refusal(["fit", "A"], whole=False) is None


@every_document
def test_links_lead_somewhere(name: str) -> None:
    dead = []
    for link in links(TEXTS[name]):
        if link.startswith(("https://", "http://")):
            continue
        file, _, anchor = link.partition("#")
        target = (ROOT / name).parent / file if file else ROOT / name
        if not target.exists() or (
            anchor and anchor not in anchors(target.read_text(encoding="utf-8"))
        ):
            dead.append(link)
    assert dead == []


@every_document
def test_paths_that_are_named_exist(name: str) -> None:
    if name == "CHANGELOG.md":
        return  # it names what was
    made = re.compile(r"examples/[\w-]+/output\b")
    missing = {
        path
        for path in paths_named(TEXTS[name])
        if not made.match(path)
        and not (ROOT / path).exists()
        and not (ROOT / f"{path}.py").exists()
        and not ((ROOT / name).parent / path).exists()
    }
    assert missing == set()


def test_every_page_of_docs_is_linked_from_readme() -> None:
    pages = {name for name in TEXTS if name.startswith("docs/")}
    assert pages <= {link.partition("#")[0] for link in links(TEXTS[README])}


def test_every_field_is_in_file_formats() -> None:
    text = TEXTS["docs/file-formats.md"]
    records = (*KINDS.values(), MD, NormalEquations)
    named = {field.name for record in records for field in fields(record)}
    assert {name for name in named if f"`{name}`" not in text} == set()


def test_every_name_is_in_the_reference() -> None:
    text = (ROOT / "docs" / "api.rst").read_text(encoding="utf-8")
    listed = re.findall(r"^\.\. auto\w+:: mld_ff\.(\w+)$", text, re.MULTILINE)
    assert sorted(listed) == sorted({*mld_ff.__all__} - {"__version__"})


def test_names_of_the_glossary_are_in_the_code() -> None:
    """Classes stand in the file or folder that is told."""
    rows = re.findall(
        r"^\| (`[A-Z].*?) \| .* \| `(.*)` \|$", TEXTS["docs/glossary.md"], re.MULTILINE
    )
    assert len(rows) > 10
    for names, place in rows:
        files = [ROOT / place] if (ROOT / place).is_file() else (ROOT / place).glob("*.py")
        code = "".join(file.read_text(encoding="utf-8") for file in files)
        for name in re.findall(r"\w+", names):
            assert re.search(rf"^class {name}\b", code, re.MULTILINE), (name, place)


def test_the_table_of_rooms_is_the_code() -> None:
    """Every file of every room, and what the room imports of those above `trajectory`."""
    text, floor_of = TEXTS["docs/architecture.md"], house.floors()
    rows = re.findall(r"^\| `(\w+)` \| (.*) \|(.*) \|$", text, re.MULTILINE)
    for room, files, imports in rows:
        modules = [f for f in house.MODULES if house.room_of(f) == room]
        stems = {f.stem for f in modules if (house.PACKAGE / room).is_dir()} - {"__init__"}
        assert {stem for stem in stems if f"`{stem}`" not in files} == set(), room
        used = {name.split(".")[1] for f in modules for name in house.imported(f) if "." in name}
        above = {r for r in used - {room} if floor_of[r] < floor_of["trajectory"]}
        assert set(re.findall(r"\w+", imports)) == above, room
    above = {room for room, floor in floor_of.items() if floor < floor_of["trajectory"]}
    assert {room for room, *_ in rows} == above


def test_the_changelog_knows_the_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert f"## [{project['version']}]" in TEXTS["CHANGELOG.md"]
    assert f"license: {project['license']}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert (ROOT / "LICENSE").read_text(encoding="utf-8").startswith("MIT License")
