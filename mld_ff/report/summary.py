"""The page that a build leaves behind."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from mld_ff.files import read_template, to_json, write_atomically
from mld_ff.loss.model import AgentLoss
from mld_ff.report.style import label_of
from mld_ff.verification import Verification


def write_summary(
    out: Path,
    loss: AgentLoss,
    verification: Verification,
    compared: Mapping[str, Mapping[str, float | None]],
    speeds: Mapping[str, str],
    figures: Sequence[tuple[str, Path]],
) -> Path:
    """summary.html (self-contained) and summary.json in `out`; returns the page.

    compared: observables of the reference and of every run. speeds: a phrase per engine. figures:
    caption and file.
    """
    p = loss.provenance
    data: dict[str, Any] = {
        "fit": {k: v for k, v in p.items() if k != "source"},
        "verify": verification.to_dict(),
        "observables": compared,
        "speed": speeds,
    }
    write_atomically(out / "summary.json", to_json(data, indent=1))
    page = Template(read_template("summary.html")).substitute(
        style=read_template("style.css"),
        files=escape(", ".join(p["source"].get("files", []))),
        molecules=escape(", ".join(f"{n} {f}" for f, n in p["molecules"].items())),
        frames=f"{p['frames_train']} for training, {p['frames_test']} for testing",
        coefficients=p["n_coefficients"],
        warnings="".join(
            f"<p class=warning>{escape(w)}</p>" for w in [*p["warnings"], *_matched(p)]
        ),
        errors=_errors_table(loss),
        verification=_verification_table(verification),
        observables=_observables_table(compared),
        speeds=escape("; ".join(f"{label_of(k)} {v}" for k, v in speeds.items())),
        figures="".join(embedded(caption, file) for caption, file in figures),
    )
    write_atomically(out / "summary.html", page)
    return out / "summary.html"


def _matched(provenance: Mapping[str, Any]) -> list[str]:
    matched = provenance.get("matched")
    return [f"The model's {matched['note']}."] if matched else []


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """An HTML table."""

    def row(cells: Sequence[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{escape(c)}</{tag}>" for c in cells) + "</tr>"

    return f"<table>{row(head, 'th')}{''.join(row(r, 'td') for r in rows)}</table>"


def _errors_table(loss: AgentLoss) -> str:
    p = loss.provenance
    heads = {"relative_rmse": "relative RMSE", "relative_rmse_pairs": "pairs alone"}
    heads |= {
        "relative_rmse_agent": (
            "pairs without reciprocity" if loss.channels else "without reciprocity"
        )
    }
    kinds = [kind for kind in heads if kind in p]
    rows = [
        [s, *(f"{p[k][s]:.3f}" for k in kinds), f"{p['rmse_meV_per_A_by_species'][s]:.0f}"]
        for s in loss.species
    ]
    rows.append(["all", *("" for _ in kinds), f"{p['rmse_meV_per_A']:.0f}"])
    return table(["species", *(heads[k] for k in kinds), "RMSE [meV/Å]"], rows)


def _verification_table(verification: Verification) -> str:
    rows = [
        [
            label_of(name),
            f"{r.max_force_difference_eV_per_A:.1e}",
            f"{r.relative_energy_difference:.1e}",
            "passed" if r.passed else "FAILED",
        ]
        for name, r in verification.engines.items()
    ]
    return table(
        ["engine", "largest force difference [eV/Å]", "relative energy difference", "verdict"], rows
    )


def _observables_table(compared: Mapping[str, Mapping[str, float | None]]) -> str:
    names = list(dict.fromkeys(name for values in compared.values() for name in values))

    def cell(value: float | None) -> str:
        return "–" if value is None else f"{value:.4g}"

    rows = [[name, *(cell(values.get(name)) for values in compared.values())] for name in names]
    return table(["observable", *(label_of(k) for k in compared)], rows)


def embedded(caption: str, file: Path) -> str:
    """An HTML figure that carries its PNG."""
    data = base64.b64encode(file.read_bytes()).decode("ascii")
    image = f'<img alt="{escape(caption)}" src="data:image/png;base64,{data}">'
    return f"<figure>{image}<figcaption>{escape(caption)}</figcaption></figure>"
