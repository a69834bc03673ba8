"""The documentation as pages: `nox --sessions site` builds them, into build/site.

The source directory is the whole repository, so that README, the pages beside this file and those
of examples and tests stay where they are, and their links to each other hold in both forms.
"""

from __future__ import annotations

import inspect
import json
import re
import shutil
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from mld_ff.configuration.schema import schema

sys.path.insert(0, str(Path(__file__).parent))
from plots import with_plots

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
NAVIGATION = {
    "Begin": ("docs/tutorials/own-data", "docs/tutorials/accuracy", "docs/tutorials/salt"),
    "Go on": ("docs/tutorials/refining", "docs/tutorials/cluster"),
    "Scripts of your own": (
        "docs/tutorials/openmm",
        "docs/tutorials/ase",
        "docs/tutorials/partners",
        "docs/notebook",
    ),
    "Use": ("docs/usage", "docs/build-toml", "docs/file-formats", "docs/api"),
    "Understand": ("docs/method", "docs/glossary", "docs/architecture", "docs/threat-model"),
    "How good is it?": (
        "docs/results",
        "docs/sharp-edges",
        "docs/credibility",
        "tests/benchmarks/README",
        "tests/regression/README",
    ),
    "Examples": (
        "examples/water/README",
        "examples/water/results/README",
        "examples/water-dft/README",
        "examples/methanol/README",
        "examples/silica/README",
        "examples/acid/README",
        "examples/copper/README",
        "examples/cluster/README",
    ),
    "Project": ("CHANGELOG", "CONTRIBUTING", "SECURITY"),
}
FRONT = "README"

project = PROJECT["name"]
version = release = PROJECT["version"]
author = PROJECT["authors"][0]["name"]
project_copyright = author
root_doc = FRONT
include_patterns = [
    f"{page}.{kind}"
    for kind in ("md", "rst", "ipynb")
    for page in (FRONT, *sum(NAVIGATION.values(), ()))
]
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinx-mathjax-offline",
    "sphinx_copybutton",
]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 300  # [s] of a cell; all take 15 s of an idle core
nb_merge_streams = True
highlight_language = "none"
default_role = "code"  # docstrings mark code as Markdown does
nitpicky = False

ARRAYS = {
    "Floats": "ndarray[tuple[Any, ...], dtype[float64]]",
    "Ints": "ndarray[tuple[Any, ...], dtype[int64]]",
}
autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True

html_theme = "furo"
html_title = f"{project} {release}"
html_copy_source = False
html_show_search_summary = False  # they are fetched, which browsers forbid for files
html_show_sphinx = False


def navigation() -> str:
    """The tree of pages, which Markdown has no word for: it ends the front page here alone."""
    trees = []
    for caption, pages in NAVIGATION.items():
        names = "\n".join(f"/{page}" for page in pages)
        trees.append(f"```{{toctree}}\n:hidden:\n:caption: {caption}\n\n{names}\n```\n")
    return "\n".join(trees).replace("\n\n/", "\n\nThe first five minutes <self>\n/", 1)


def add_navigation(_: Sphinx, page: str, text: list[str]) -> None:
    if page == FRONT:
        text[0] += f"\n{navigation()}"


def add_plots(_: Sphinx, page: str, text: list[str]) -> None:
    text[0] = with_plots(page, text[0], ROOT / "build" / "plots")


class BuildSchema(SphinxDirective):
    """Every key of build.toml, by section, as `mld-ff schema` has them."""

    def run(self) -> list[nodes.Node]:
        self.env.note_reread()  # it follows code, of which Sphinx knows nothing
        return self.parse_text_to_nodes("\n".join(schema_lines()), allow_section_headings=True)


def schema_lines() -> Iterator[str]:
    keys: dict[str, Any] = schema()["properties"]
    sections = {name: key for name, key in keys.items() if key.get("type") == "object"}
    yield from keys_list({name: key for name, key in keys.items() if name not in sections})
    for name, section in sections.items():
        yield from (f"[{name}]", "-" * (len(name) + 2), "", section["description"], "")
        yield from keys_list(section["properties"])


def keys_list(keys: dict[str, Any]) -> Iterator[str]:
    """Names with what they may be, and below them what they mean: a table is too wide for a
    phone.
    """
    for name, key in keys.items():
        default = (
            f" Default: `{json.dumps(key['default'])}`"
            if key.get("default") not in (None, [])
            else ""
        )
        yield from (f"`{name}`: {values(key)}", f"   {key.get('description', '')}{default}", "")


def values(key: dict[str, Any]) -> str:
    """What a key may be, in words."""
    if "enum" in key:
        return ", ".join(f"`{json.dumps(word)}`" for word in key["enum"])
    if "anyOf" in key:
        return " or ".join(values(one) for one in key["anyOf"])
    if "const" in key:
        return f"`{json.dumps(key['const'])}`"
    return f"list of {values(key['items'])}" if key["type"] == "array" else str(key["type"])


def shorten_types(
    _: Sphinx,
    what: str,
    name: str,
    obj: Any,
    options: object,
    signature: str | None,
    returns: str | None,
) -> tuple[str, str] | None:
    """Types without the modules that they come from, arrays by the names that the code has."""
    if signature is None:
        return None
    short = [re.sub(r"~(?:\w+\.)+(?=\w)", "", text or "") for text in (signature, returns)]
    for alias, array in ARRAYS.items():
        short = [text.replace(array, alias) for text in short]
    return short[0], short[1]


def list_parameters(
    _: Sphinx, what: str, name: str, obj: Any, options: object, lines: list[str]
) -> None:
    """Docstrings say `name: meaning` of parameters in running text; pages list them."""
    if what not in ("function", "method", "class") or "::" in "".join(lines):
        return
    names = "|".join(map(re.escape, inspect.signature(obj).parameters)) or "$^"
    begins = re.compile(rf"(?:^|(?<=[.;] ))((?:{names})(?:, (?:{names}))*): (?=\S)")
    text = "\n".join(lines)
    for paragraph in text.split("\n\n"):
        listed = begins.sub(r"\n\n- **\1**: ", " ".join(paragraph.split()))
        if "\n" in listed:
            text = text.replace(paragraph, listed.replace(". Raises ", ".\n\nRaises "))
    lines[:] = text.strip().split("\n")


def finish(app: Sphinx, error: Exception | None) -> None:
    """The first page by the name that servers look for, and the schema as a file."""
    if not error:
        shutil.copy(Path(app.outdir, f"{FRONT}.html"), Path(app.outdir, "index.html"))
        text = json.dumps(schema(), indent=1, ensure_ascii=False)
        Path(app.outdir, "build.schema.json").write_text(text, encoding="utf-8")


def setup(app: Sphinx) -> None:
    app.add_directive("build-schema", BuildSchema)
    app.connect("source-read", add_navigation)
    app.connect("source-read", add_plots)
    app.connect("autodoc-process-docstring", list_parameters)
    app.connect("autodoc-process-signature", shorten_types)
    app.connect("build-finished", finish)
