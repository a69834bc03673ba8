"""The page of a report in a browser: it answers, at any width, light and dark, and asks nobody.

pytest -n 0 -m regression tests/regression/test_browser.py
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from browsing import DESKTOP, PHONE, chromium_browser, window
from conftest import EXAMPLE

from mld_ff.engines.settings import MD
from mld_ff.loss.model import AgentLoss
from mld_ff.production.simulation import run
from mld_ff.report import compare_runs, write_report
from mld_ff.sources.cp2k import open_cp2k
from mld_ff.trajectory import Trajectory

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

browser = pytest.fixture(scope="module")(chromium_browser)

pytestmark = pytest.mark.regression
FIGURES = "figure[data-name]"
ALTS = "[...document.querySelectorAll('figure[data-name] img')].map((image) => image.alt)"
FRAMES_SHOWN = "movie.viewers.map((viewer) => viewer.structure.pinned()[0].structure)"
SIZES_OF_PANELS = """Bokeh.documents.flatMap((d) => [...d.roots()]).map((panel) => {
    const { width, height } = Bokeh.index.find_one(panel).frame.bbox;
    return [width, height];
})"""
PLACE_OF_POINT = """([name, renderer, k]) => {
    const panel = panelsOf(name)[0], view = Bokeh.index.find_one(panel);
    const { data } = curvesOf(panel)[renderer][1];
    const box = view.canvas_view.el.getBoundingClientRect();
    const { x_scale, y_scale } = view.frame;
    return {
        value: [data.x[k], data.y[k]],
        at: [box.x + x_scale.compute(data.x[k]), box.y + y_scale.compute(data.y[k])],
    };
}"""


@pytest.fixture(scope="module")
def report(
    power_water: AgentLoss, water: Trajectory, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    out = tmp_path_factory.mktemp("page")
    run(power_water, water[600], "lammps", out / "run", MD(time_ps=0.5, every_fs=5.0))
    study = compare_runs(open_cp2k(EXAMPLE, skip_fs=5000), [out / "run"])
    write_report(out, study)
    (out / "notebook.html").write_text(study._repr_html_(), encoding="utf-8")
    return out


@contextmanager
def opened(browser: Browser, page_file: Path, width: int, scheme: Any = "light") -> Iterator[Page]:
    """The report in a window, once its figures are drawn."""
    with window(browser, page_file, width, scheme) as page:
        page.wait_for_function("Bokeh.documents.length > 0 && Bokeh.documents[0].is_idle")
        yield page


def show(page: Page, element: str) -> None:
    page.evaluate("(id) => document.getElementById(id).scrollIntoView()", element)


def point(page: Page, *of: Any) -> tuple[list[float], list[float]]:
    """Value of a point of a figure (name, curve, number) and where it is in the window."""
    show(page, f"figure-{of[0]}")
    found = page.evaluate(PLACE_OF_POINT, list(of))
    return found["value"], found["at"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [DESKTOP, PHONE])
def test_page_fits_in_light_and_dark(
    browser: Browser, report: Path, width: int, scheme: str
) -> None:
    with opened(browser, report / "report.html", width, scheme) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        brightness = sum(int(x) for x in re.findall(r"\d+", background)[:3]) / 3
        assert (brightness < 60) if scheme == "dark" else (brightness > 200)
        assert all(len(alt) > 5 for alt in page.evaluate(ALTS))
        sizes = page.evaluate(SIZES_OF_PANELS)
        assert len(sizes) == page.locator("figure.answers .panel").count() > 10
        assert min(min(size) for size in sizes) > 100, sizes


@pytest.mark.parametrize(("width", "scheme"), [(DESKTOP, "light"), (PHONE, "dark")])
def test_a_picked_point_shows_its_frame(
    browser: Browser, report: Path, width: int, scheme: str
) -> None:
    with opened(browser, report / "report.html", width, scheme) as page:
        show(page, "movie")
        page.wait_for_function("document.documentElement.dataset.movie === 'open'")
        assert page.evaluate(FRAMES_SHOWN) == [0, 0]
        (time_ps, _), at = point(page, "force_error", 0, 5)
        page.mouse.click(*at)
        page.wait_for_function(f"{FRAMES_SHOWN}.every((frame) => frame === 5)")
        assert page.locator("#time").inner_text() == f"{time_ps:.2f} ps"
        page.locator("#frame").focus()
        page.keyboard.press("ArrowRight")
        page.wait_for_function(f"{FRAMES_SHOWN}.every((frame) => frame === 6)")


def test_frames_play_and_are_coloured(browser: Browser, report: Path) -> None:
    with opened(browser, report / "report.html", DESKTOP) as page:
        show(page, "movie")
        page.wait_for_function("document.documentElement.dataset.movie === 'open'")
        page.locator("#play").click()
        page.wait_for_function(f"{FRAMES_SHOWN}[0] > 1")
        page.locator("#play").click(force=True)  # not waiting until nothing moves
        assert page.locator("#play").get_attribute("aria-pressed") == "false"
        page.select_option("#colour", "force error [meV/Å]")
        page.check("#hbonds", force=True)
        page.check("#shell", force=True)
        look = page.evaluate("movie.viewers[0].saveSettings().structure[0]")
        assert look["color"]["property"] == "force error [meV/Å]"
        assert look["shape"] == "hydrogen bonds" and look["environments"]["activated"] is True


def test_values_are_read_and_saved(browser: Browser, report: Path) -> None:
    """Under the pointer, and as files: what report.json holds."""
    series = json.loads((report / "report.json").read_text(encoding="utf-8"))["series"]
    r, g = series["rdf"]["reference"]["free:O-O"]
    k = g.index(max(g))
    with opened(browser, report / "report.html", DESKTOP) as page:
        value, at = point(page, "rdf", 0, k)
        assert value == pytest.approx([r[k], g[k]], rel=1e-6)
        page.mouse.move(*at)
        page.get_by_text(f"{g[k]:.4g}").first.wait_for()
        for kind, holds in {"csv": f"{value[0]}", "svg": "<svg"}.items():
            with page.expect_download() as download:
                page.locator(f"#figure-rdf [data-save={kind}]").click()
            assert download.value.suggested_filename.endswith(f".{kind}")
            assert holds in Path(download.value.path()).read_text(encoding="utf-8")


def test_pictures_show_without_scripts(browser: Browser, report: Path) -> None:
    """The light page, and the full one with scripts off."""
    for name in ("report.html", "report-light.html"):
        context = browser.new_context(java_script_enabled=False)
        page = context.new_page()
        page.goto((report / name).as_uri())
        pictures = page.locator(f"{FIGURES} img")
        assert pictures.count() == len(list((report / "figures").glob("*.png")))
        assert all(picture.is_visible() for picture in pictures.all())
        assert not any(panel.is_visible() for panel in page.locator(".panels, #movie").all())
        context.close()


def test_a_study_shows_itself_in_a_notebook(browser: Browser, report: Path) -> None:
    """What a cell that ends with it holds: the light page, with its own styles, in a frame."""
    with window(browser, report / "notebook.html", DESKTOP) as page:
        frame = page.frame_locator("iframe")
        pictures = frame.locator(f"{FIGURES} img")
        assert pictures.count() == len(list((report / "figures").glob("*.png")))
        assert pictures.first.evaluate("(image) => image.naturalWidth") > 100
        assert page.locator("h1").count() == 0 < frame.locator("h1").count()
