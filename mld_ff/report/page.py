"""The page of a study: what `study` found, as HTML, figures and JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping
from html import escape
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from mld_ff.files import read_template, to_json, write_atomically
from mld_ff.loss.densities import DensityTerm
from mld_ff.loss.model import AgentLoss
from mld_ff.loss.terms import PairTerm, Term
from mld_ff.report.exponents import plot_exponents, plot_plane, plot_sensitivities
from mld_ff.report.plots import plot_bonded_functions, plot_errors, plot_pair_functions
from mld_ff.report.study import Compared, Study
from mld_ff.report.style import REFERENCE, label_of, save_figure
from mld_ff.report.summary import embedded, table
from mld_ff.units import EV_TO_MEV

HOW_TO_SCAN = (
    "<p class=note>Which exponents carry the information, and what each invariant is worth, is not"
    " shown: make it with <code>mld-ff scan CP2K_DIR -o scan/</code> and name it with <code>mld-ff"
    " report … --scan scan/</code>.</p>"
)


def write_report(out: Path, found: Study) -> Path:
    """report.html (self-contained), report.json (every number drawn) and figures as PNG and SVG;
    returns the page.
    """
    data: dict[str, Any] = {
        "engine": found.engine,
        "observables": {n: c.to_dict() for n, c in found.observables.items()},
        "speed": found.speed,
        "fit": {k: v for k, v in found.loss.provenance.items() if k != "source"},
        "terms": {t.name: {"coverage": dict(t.coverage)} for t in found.loss.terms},
        "scan": None if found.scan is None else found.scan.to_dict(),
        "recomputed": found.recomputed,
        "notes": found.notes,
        "series": found.series,
    }
    write_atomically(out / "report.json", to_json(data))
    page = Template(read_template("report.html")).substitute(
        style=read_template("style.css"),
        engine=label_of(found.engine),
        observables=_observables(found.observables),
        speed=_speed(found),
        notes="".join(f"<p class=note>{escape(n)}</p>" for n in found.notes),
        figures=_drawn(out, found.figures),
        errors=_errors(found.loss),
        certainty=_certainty(found),
        coverage=_coverage(found.loss),
        loss=_drawn(out, _of_loss(found.loss)),
        scan=HOW_TO_SCAN if found.scan is None else _drawn(out, _of_scan(found)),
        coefficients=_coefficients(found.loss),
    )
    write_atomically(out / "report.html", page)
    return out / "report.html"


Captioned = Mapping[str, tuple[str, Figure]]
"""Caption and figure by file name."""


def _drawn(out: Path, figures: Captioned) -> str:
    """Figures as HTML, which carries them, and as files beside it."""
    images = []
    for name, (caption, figure) in figures.items():
        figure.savefig(out / f"{name}.svg")
        figure.set_layout_engine("none")  # it stays as it is, and costs as much as drawing
        images.append(embedded(caption, save_figure(figure, out / f"{name}.png")))
    return "".join(images)


def _of_loss(loss: AgentLoss) -> Captioned:
    told = (
        "with twice its error (band: jack-knife over contiguous blocks of frames, of the function"
        " as a whole, since errors of its coefficients are correlated); grey: how many pairs the"
        " data hold; dotted: walls, where they hold none."
    )
    figures = {
        "errors": (
            "Relative RMSE of forces on frames that the fit has not seen.",
            plot_errors(loss),
        )
    }
    if loss.free_terms:
        figures["pairs"] = (f"Learned loss of free pairs, {told}", plot_pair_functions(loss))
    if (bonded := plot_bonded_functions(loss)) is not None:
        figures["bonds"] = (f"Learned loss of bonded pairs, {told}", bonded)
    return figures


def _of_scan(found: Study) -> Captioned:
    scan = found.scan
    assert scan is not None
    return {
        "exponents": (
            "Relative RMSE over the exponent of one invariant, all else refitted.",
            plot_exponents(scan),
        ),
        "plane": (
            "Relative RMSE over the exponents of two invariants; crosses: the least.",
            plot_plane(scan),
        ),
        "sensitivities": (
            (
                "What each invariant, with its partners refitted, takes off the relative RMSE of"
                " each species."
            ),
            plot_sensitivities(scan),
        ),
    }


def _observables(compared: Mapping[str, Compared]) -> str:
    def number(value: float, error: float) -> str:
        if math.isnan(value):
            return "–"
        return f"{value:.4g} ± " + ("?" if math.isnan(error) else f"{error:.2g}")

    verdict = {True: "yes", False: "no", None: "–"}
    rows = [
        [
            name,
            number(c.learned, c.learned_error),
            number(c.reference, c.reference_error),
            verdict[c.within],
        ]
        for name, c in compared.items()
    ]
    return table(["observable", "learned", REFERENCE, "agree"], rows)


def _speed(found: Study) -> str:
    s, rows = found.speed, []
    for who, name, source in (
        (
            REFERENCE,
            "cp2k",
            found.origin.remedies.timing,
        ),
        (
            label_of(found.engine),
            "learned",
            (
                "steps of the run over its wall time in run.json, start-up and output included, on"
                " the machine of the run"
            ),
        ),
    ):
        if f"{name}_steps_per_s" in s:
            rows.append(
                [who, f"{s[f'{name}_steps_per_s']:.4g}", f"{s[f'{name}_ns_per_day']:.4g}", source]
            )
    told = table(["", "steps/s", "ns/day", "where from"], rows) if rows else ""
    if "ratio" in s:
        return (
            told
            + f"<p>The learned run is {s['ratio']:.3g} times faster, in simulated time per wall"
            " time. That compares the methods only if both ran on the same machine with as many"
            " cores.</p>"
        )
    missing = (
        found.origin.remedies.no_timing if "cp2k_steps_per_s" not in s else "the run did not finish"
    )
    return told + f"<p>How much faster the learned run is, is not known: {missing}.</p>"


def _errors(loss: AgentLoss) -> str:
    p = loss.provenance
    pairs = p.get("relative_rmse_pairs", p["relative_rmse"])
    head = ["species", "reciprocal", "agents", "price of reciprocity", "RMSE [meV/Å]"]
    if loss.channels:
        head[:4] = [
            "species",
            "with channels",
            "pairs alone, reciprocal",
            "pairs alone, agents",
            "price of reciprocity",
        ]
    rows = []
    for s in loss.species:
        values = [pairs[s], p["relative_rmse_agent"][s], pairs[s] - p["relative_rmse_agent"][s]]
        first = [p["relative_rmse"][s]] if loss.channels else []
        rows.append(
            [
                s,
                *(f"{x:.4f}" for x in (*first, *values)),
                f"{p['rmse_meV_per_A_by_species'][s]:.0f}",
            ]
        )
    return table(head, rows)


def _certainty(found: Study) -> str:
    """What the data determine, in a table."""
    loss = found.loss
    p = loss.provenance

    def listed(names: list[str]) -> str:
        return f"{len(names)}: {', '.join(names)}" if names else "none"

    rows = [
        [
            "frames for training | testing",
            f"{p['frames_train']} | {p['frames_test']}, in contiguous blocks",
        ],
        ["coefficients that the model exports", f"{p['n_coefficients']}"],
        ["rank of the fit", f"{p['rank']} of {p['n_functions']} functions" if "rank" in p else "–"],
        ["condition of the design", f"{p['condition']:.3g}"],
        ["ridge, by cross-validation over the training blocks", f"{p['ridge']:g}"],
        ["not determined by the data, left at zero", listed(p["undetermined"])],
        ["resting on the ridge more than on the data", listed(p["weakly_determined"])],
        [
            "net force on the box where it should vanish",
            f"{p['net_force_eV_per_A']:.2g} eV/Å per frame and component",
        ],
    ]
    heavy = [s for s in loss.species if s != "H"] or list(loss.species)
    if "force_noise_eV_per_A" in p:
        noise = EV_TO_MEV * p["force_noise_eV_per_A"]
        for s in heavy:
            error = p["rmse_meV_per_A_by_species"][s]
            rows.append(
                [
                    f"noise of CP2K's forces on {s} that this means",
                    (
                        f"{noise:.2g} meV/Å, {min((noise / error) ** 2, 1):.1%} of the squared"
                        f" error of the fit on {s}"
                    ),
                ]
            )
    for name, again in found.recomputed.items():
        for s, difference in again["rms_difference_eV_per_A"].items():
            changed = EV_TO_MEV * difference
            share = (changed / p["rmse_meV_per_A_by_species"][s]) ** 2
            rows.append(
                [
                    (
                        f"change of the forces on {s} in {again['frames']} frames computed again"
                        f" ({name})"
                    ),
                    f"{changed:.2g} meV/Å, {share:.1%} of the squared error of the fit on {s}",
                ]
            )
    return table(["of the fit", ""], rows)


def _coverage(loss: AgentLoss) -> str:
    rows = []
    for term in loss.terms:
        if not isinstance(term, PairTerm):
            continue
        seen = term.coverage
        if not seen.get("counts"):
            rows.append([term.name, "none", "", "", "", ""])
            continue
        walls = ", ".join(
            f"{'below' if wall.inward > 0 else 'above'} {wall.edge_A:.2f}" for wall in term.walls
        )
        shortest, longest = f"{seen['shortest_A']:.3f}", f"{seen['longest_A']:.3f}"
        rows.append(
            [
                term.name,
                f"{sum(seen['counts']):,}",
                shortest,
                longest,
                walls,
                _error_of_function(seen),
            ]
        )
    return table(
        ["term", "pairs seen", "shortest [Å]", "longest [Å]", "wall [Å]", "error [meV]"], rows
    )


def _error_of_function(seen: Mapping[str, Any]) -> str:
    """Root mean square over the pairs seen."""
    if not (errors := seen.get("errors_eV")):
        return "–"
    return f"{EV_TO_MEV * math.sqrt(np.average(np.square(errors), weights=seen['counts'])):.2g}"


def _coefficients(loss: AgentLoss) -> str:
    """The paper's table 1: of the reciprocal loss, and of the loss of every species' own."""
    columns = [loss.terms, *loss.agents.values()]
    values = [
        {
            (term.name, name): f"{value:.5g}" + ("" if math.isnan(error) else f" ± {error:.2g}")
            for term in terms
            for name, value, error in _numbers(term)
        }
        for terms in columns
    ]
    names = dict.fromkeys(name for column in values for name in column)
    rows = [[*name, *(column.get(name, "–") for column in values)] for name in names]
    return table(["term", "coefficient", "reciprocal", *(f"agents {s}" for s in loss.agents)], rows)


def _numbers(term: Term) -> list[tuple[str, float, float]]:
    """Name, value and standard error (nan if not known) of what was inferred."""
    errors = term.coefficient_errors or (math.nan,) * len(term.coefficients)
    found = list(zip(term.coefficient_names, term.coefficients, errors, strict=True))
    if isinstance(term, DensityTerm):
        found = [("strength", term.strength_eV, math.nan), ("rest", term.rest, math.nan), *found]
    return found
