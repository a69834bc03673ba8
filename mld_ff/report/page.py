"""The page of a study, with its figures and its numbers as files beside it.

Two pages say the same: `report.html` answers (zoom, values, frames in three dimensions), and
`report-light.html` holds pictures alone, small enough for a letter. Both are whole: no network.
"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import PIL.Image
from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup, escape
from matplotlib.figure import Figure

from mld_ff.files import read_template, to_json, write_atomically
from mld_ff.progress import Progress, no_progress
from mld_ff.report import methods
from mld_ff.report.certainty import (
    certainty_table,
    coefficients_table,
    coverage_table,
    errors_table,
)
from mld_ff.report.comparison import WITHIN, Drawing
from mld_ff.report.exponents import draw_scan
from mld_ff.report.learned import draw_loss
from mld_ff.report.movies import FRAMES
from mld_ff.report.observables import COMPARED_FROM_A
from mld_ff.report.structure import LEAST_ANGLE_DEG, LONGEST_BOND_A
from mld_ff.report.structures3d import scenes, viewer_script
from mld_ff.report.study import Study
from mld_ff.report.style import REFERENCE, label_of, save_figure
from mld_ff.report.summary import (
    observables_table,
    speed_table,
    verification_table,
    why_no_ratio,
)
from mld_ff.report.verdict import verdicts

PAGE, LIGHT, NUMBERS, FIGURES = "report.html", "report-light.html", "report.json", "figures"
COLOURS_OF_PICTURES = 96
"""Enough that no curve nor map changes to the eye."""
SECTIONS = {
    "trajectories": (FRAMES, "hydrogen_bonds", "force_error"),
    "structure": ("rdf", "bonded", "angles"),
    "forces": ("forces", "errors"),
    "loss": ("pairs", "bonds", "three_body", "channels"),
    "invariants": ("exponents", "plane", "sensitivities"),
}
"""Which figures a section of the page shows; all others are of dynamics."""


@dataclass(frozen=True)
class Image:
    """A figure as the page carries it."""

    name: str
    caption: str
    alt: str
    png: str
    """In base64."""
    panels: tuple[str, ...] = ()
    """Elements that a script draws into, instead of the picture."""


def write_report(out: Path | str, study: Study, progress: Progress = no_progress) -> Path:
    """report.html and report-light.html (each self-contained), report.json (every curve drawn, and
    every number of the page) and figures/ as PNG and SVG; returns the page.
    """
    from mld_ff.report.interactive import embed  # Bokeh takes a second to load

    out = Path(out)
    write_atomically(out / NUMBERS, to_json(study.to_dict()))
    drawings = _drawings(study)
    images = {}
    for k, (name, drawing) in enumerate(drawings.items()):
        progress("report", k, len(drawings) + 1)
        images[name] = _drawn(out / FIGURES, name, drawing)
    progress("report", len(drawings), len(drawings) + 1)
    write_atomically(out / LIGHT, _render(study, images))
    figures = {name: drawing.figure for name, drawing in drawings.items() if name != FRAMES}
    script, panels = embed(figures)
    alive = {name: replace(im, panels=tuple(panels.get(name, ()))) for name, im in images.items()}
    titles = {REFERENCE: f"{study.origin.name}, the reference"}
    scripts = {
        "curves": script,
        "viewer": viewer_script() if study.movies else "",
        "scenes": to_json(scenes(study.movies, titles)).replace("</", "<\\/"),
        "own": read_template("report.js"),
    }
    write_atomically(out / PAGE, _render(study, alive, scripts))
    progress("report", len(drawings) + 1, len(drawings) + 1)
    return out / PAGE


def light_page(study: Study) -> str:
    """What `write_report` writes into report-light.html, and no file."""
    with TemporaryDirectory() as figures:
        return _render(study, {k: _drawn(Path(figures), k, d) for k, d in _drawings(study).items()})


def _drawings(study: Study) -> dict[str, Drawing]:
    loss = draw_loss(study.loss, study.tells_its_fit)
    return study.drawings | loss | draw_scan(study.scan)


def _render(
    study: Study, images: Mapping[str, Image], scripts: Mapping[str, str] | None = None
) -> str:
    """scripts: that make the page answer; None for pictures alone."""
    environment = Environment(
        loader=FunctionLoader(read_template),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"prose": _prose, "symbol": _symbol}
    placed = {name for names in SECTIONS.values() for name in names}
    sections = SECTIONS | {"dynamics": tuple(name for name in images if name not in placed)}
    loss, verification = study.loss, study.verification
    return environment.get_template("report.html").render(
        study=study,
        provenance=loss.provenance,
        runs=[label_of(name) for name in study.runs],
        facts=methods.facts_table(study),
        verdicts=verdicts(study),
        observables=observables_table(study),
        speeds=speed_table(study),
        no_ratio=why_no_ratio(study),
        verification=None if verification is None else verification_table(verification),
        errors=errors_table(loss) if study.tells_its_fit else None,
        certainty=certainty_table(study) if study.tells_its_fit else None,
        coverage=coverage_table(loss),
        coefficients=coefficients_table(loss),
        drawn={s: [images[n] for n in names if n in images] for s, names in sections.items()},
        scripts=scripts and {name: Markup(text) for name, text in scripts.items()},
        methods=methods.methods_paragraph(study),
        citations=methods.citations(study),
        files=methods.provenance_table(study),
        limits=_limits(),
    )


def _limits() -> dict[str, Any]:
    """What definitions on the page name."""
    return {
        "within": WITHIN,
        "compared_from_A": COMPARED_FROM_A,
        "longest_bond_A": LONGEST_BOND_A,
        "least_angle_deg": LEAST_ANGLE_DEG,
    }


def _prose(text: str) -> Markup:
    """A sentence for a page: what stands between back-ticks is set as code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def _symbol(text: str) -> Markup:
    """A symbol for a page: what follows `_` is set below the line."""
    return Markup(re.sub(r"_([A-Za-z]+)", r"<sub>\1</sub>", str(escape(text))))


def _drawn(directory: Path, name: str, drawing: Drawing) -> Image:
    """A figure as the page carries it, written as files too."""
    figure = drawing.figure
    png = save_figure(figure, directory / f"{name}.png")
    figure.set_layout_engine("none")  # it stays as it is, and costs as much as drawing
    save_figure(figure, directory / f"{name}.svg")
    return Image(name, drawing.caption, _alt(figure), base64.b64encode(_small(png)).decode("ascii"))


def _small(png: Path) -> bytes:
    """A picture of COLOURS_OF_PICTURES colours: a third of the bytes."""
    small = io.BytesIO()
    with PIL.Image.open(png) as picture:
        picture.convert("RGB").quantize(COLOURS_OF_PICTURES).save(small, "PNG", optimize=True)
    return small.getvalue()


def _alt(figure: Figure) -> str:
    """What the panels of a figure show, for those who do not see it."""
    axes = [a for a in figure.axes if a.get_visible() and a.get_xlabel()]
    if not axes:
        return "Picture"
    titles = [t for a in axes if (t := a.get_title() or a.get_title("left"))]
    what = f"{axes[0].get_ylabel()} over {axes[0].get_xlabel()}"
    return f"{what}: {', '.join(titles)}" if titles else what
