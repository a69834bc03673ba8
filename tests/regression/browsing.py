"""Pages in headless Chromium."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

DESKTOP, PHONE = 1200, 390
PATIENCE_MS = 300_000
"""WebGL is computed by the CPU here."""


def chromium_browser() -> Iterator[Browser]:
    """For a fixture. Skips the tests where it is not installed."""
    playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    if (chromium := shutil.which("chromium")) is None:
        pytest.skip("no chromium here: apt-get install chromium")
    options = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=chromium, args=options)
        yield browser
        browser.close()


@contextmanager
def window(
    browser: Browser,
    page_file: Path,
    width: int,
    scheme: Any = "light",
    folder: Path | None = None,
) -> Iterator[Page]:
    """A page that is shown. In the end, nothing was wrong on its console, and it asked for nothing:
    for files in the `folder`, if one is given.
    """
    size: Any = {"width": width, "height": 900}
    context = browser.new_context(viewport=size, color_scheme=scheme, reduced_motion="reduce")
    context.set_default_timeout(PATIENCE_MS)
    errors: list[str] = []
    asked: list[str] = []
    page = context.new_page()
    page.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(page_file.as_uri())
    yield page
    context.close()
    ours = ("data:", "blob:") if folder is None else ("data:", "blob:", folder.as_uri())
    elsewhere = {url for url in asked if not url.startswith(ours)} - {page_file.as_uri()}
    assert errors == [] and elsewhere == set()
