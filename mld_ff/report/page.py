"""The page of a study, with its figures and its numbers as files beside it."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FunctionLoader, StrictUndefined

from mld_ff.files import read_template, to_json, write_atomically
from mld_ff.inference import ExponentScan
from mld_ff.report.certainty import (
    certainty_table,
    coefficients_table,
    coverage_table,
    errors_table,
)
from mld_ff.report.comparison import Drawing
from mld_ff.report.exponents import plot_exponents, plot_plane, plot_sensitivities
from mld_ff.report.learned import (
    plot_bonded_functions,
    plot_channels,
    plot_errors,
    plot_pair_functions,
)
from mld_ff.report.study import Study
from mld_ff.report.style import label_of, save_figure
from mld_ff.report.summary import (
    observables_table,
    speed_table,
    verification_table,
    why_no_ratio,
)

PAGE, NUMBERS, FIGURES = "report.html", "report.json", "figures"


@dataclass(frozen=True)
class Image:
    """A figure as the page carries it."""

    caption: str
    png: str
    """In base64."""


def write_report(out: Path, study: Study) -> Path:
    """report.html (self-contained), report.json (every curve drawn, and every number of the page)
    and figures/ as PNG and SVG; returns the page.
    """
    write_atomically(out / NUMBERS, to_json(study.to_dict()))
    environment = Environment(
        loader=FunctionLoader(read_template),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    loss, verification = study.loss, study.verification
    page = environment.get_template("report.html").render(
        study=study,
        provenance=loss.provenance,
        runs=[label_of(name) for name in study.runs],
        observables=observables_table(study),
        speeds=speed_table(study),
        no_ratio=why_no_ratio(study),
        verification=None if verification is None else verification_table(verification),
        errors=errors_table(loss) if study.tells_its_fit else None,
        certainty=certainty_table(study) if study.tells_its_fit else None,
        coverage=coverage_table(loss),
        coefficients=coefficients_table(loss),
        figures_of_runs=_drawn(out / FIGURES, study.drawings),
        figures_of_loss=_drawn(out / FIGURES, _draw_loss(study)),
        figures_of_scan=_drawn(out / FIGURES, _draw_scan(study.scan)),
    )
    write_atomically(out / PAGE, page)
    return out / PAGE


def _drawn(directory: Path, drawings: Mapping[str, Drawing]) -> list[Image]:
    """Figures as the page carries them, written as files too."""
    images = []
    for name, drawing in drawings.items():
        png = save_figure(drawing.figure, directory / f"{name}.png")
        drawing.figure.set_layout_engine("none")  # it stays as it is, and costs as much as drawing
        drawing.figure.savefig(directory / f"{name}.svg")
        images.append(Image(drawing.caption, base64.b64encode(png.read_bytes()).decode("ascii")))
    return images


def _draw_loss(study: Study) -> dict[str, Drawing]:
    loss, drawings = study.loss, {}
    told = (
        "with twice its error (band: jack-knife over contiguous blocks of frames, of the function"
        " as a whole, since errors of its coefficients are correlated); grey: how many pairs the"
        " data hold; dotted: walls, where they hold none."
    )
    if study.tells_its_fit:
        caption = "Relative RMSE of forces on frames that the fit has not seen."
        drawings["errors"] = Drawing(caption, plot_errors(loss))
    if loss.free_terms:
        caption = f"Learned loss of free pairs, {told}"
        drawings["pairs"] = Drawing(caption, plot_pair_functions(loss))
    if (bonded := plot_bonded_functions(loss)) is not None:
        drawings["bonds"] = Drawing(f"Learned loss of bonded pairs, {told}", bonded)
    if (channels := plot_channels(loss)) is not None:
        caption = (
            "What a neighbour at r adds to the density of each channel, by species (dotted: closer"
            " than any neighbour in the data), and what a density one away from its mean costs; the"
            " variance of every density is one."
        )
        drawings["channels"] = Drawing(caption, channels)
    return drawings


def _draw_scan(scan: ExponentScan | None) -> dict[str, Drawing]:
    if scan is None:
        return {}
    return {
        "exponents": Drawing(
            "Relative RMSE over the exponent of one invariant, all else refitted.",
            plot_exponents(scan),
        ),
        "plane": Drawing(
            "Relative RMSE over the exponents of two invariants; crosses: the least.",
            plot_plane(scan),
        ),
        "sensitivities": Drawing(
            "What each invariant, with its partners refitted, takes off the relative RMSE of each"
            " species.",
            plot_sensitivities(scan),
        ),
    }
