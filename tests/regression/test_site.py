"""The documentation as pages: built without a warning, complete, and at home without a network.

pytest -n 0 -m regression tests/regression/test_site.py
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from browsing import DESKTOP, PHONE, chromium_browser, window
from documents import DOCUMENTS, ROOT

from mld_ff.configuration.schema import schema

if TYPE_CHECKING:
    from playwright.sync_api import Browser

browser = pytest.fixture(scope="module")(chromium_browser)

pytestmark = pytest.mark.regression
DRAWN = "document.querySelectorAll('mjx-container').length"
SHOWN = (
    "index",
    "docs/method",
    "docs/api",
    "docs/build-toml",
    "docs/credibility",
    "docs/notebook",
    "docs/tutorials/own-data",
)


@pytest.fixture(scope="module")
def site() -> Path:
    command = [sys.executable, "-m", "nox", "--sessions", "site"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return ROOT / "build" / "site"


def test_every_document_is_a_page(site: Path) -> None:
    """And is in the navigation: Sphinx warns of one that is not."""
    for document in DOCUMENTS:
        assert (site / document.relative_to(ROOT)).with_suffix(".html").exists(), document


def test_what_is_generated(site: Path) -> None:
    """The schema and the reference are those of the code."""
    assert json.loads((site / "build.schema.json").read_text(encoding="utf-8")) == schema()
    keys = (site / "docs/build-toml.html").read_text(encoding="utf-8")
    assert all(f">{key}<" in keys for key in ("cp2k", "accuracy", "pressure_bar", "damping_fs"))
    names = (site / "docs/api.html").read_text(encoding="utf-8")
    assert all(f'id="mld_ff.{name}"' in names for name in ("fit", "Basis.accuracy", "MD.seed"))


def test_what_is_drawn_and_run(site: Path) -> None:
    """Recorded tables as plots, and the notebook with what its cells answered."""
    credibility = (site / "docs/credibility.html").read_text(encoding="utf-8")
    assert all(f"{name}.svg" in credibility for name in ("diatomics", "water"))
    assert "speed.svg" in (site / "tests/benchmarks/README.html").read_text(encoding="utf-8")
    for page in ("docs/tutorials/accuracy", "docs/results"):
        assert "accuracy.svg" in (site / f"{page}.html").read_text(encoding="utf-8")
    notebook = (site / "docs/notebook.html").read_text(encoding="utf-8")
    assert "<iframe srcdoc" in notebook and ">True\n" in notebook


@pytest.mark.parametrize(("width", "scheme"), [(DESKTOP, "light"), (PHONE, "dark")])
@pytest.mark.parametrize("name", SHOWN)
def test_pages_fit_and_ask_nobody(
    browser: Browser, site: Path, name: str, width: int, scheme: str
) -> None:
    with window(browser, site / f"{name}.html", width, scheme, folder=site) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.locator("h1").count() == 1


def test_formulas_and_search_work_offline(browser: Browser, site: Path) -> None:
    with window(browser, site / "docs/method.html", DESKTOP, folder=site) as page:
        page.locator("mjx-container[display=true]").first.wait_for()
        formulas = page.locator(".math").count()
        page.wait_for_function(
            "(n) => document.querySelectorAll('mjx-container').length >= n", arg=formulas
        )
        assert formulas > 20 and page.locator("mjx-merror").count() == 0
    with window(browser, site / "search.html", DESKTOP, folder=site) as page:
        page.locator("input[name=q]").first.fill("thermostat")
        page.keyboard.press("Enter")
        page.locator("#search-results li").first.wait_for()
