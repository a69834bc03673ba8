"""What the page of a report says first: verdict, symbols, and which frames no fit has seen."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import EXAMPLE

from mld_ff.engines.settings import MD
from mld_ff.loss.model import AgentLoss
from mld_ff.loss.provenance import Provenance
from mld_ff.report import Study
from mld_ff.report.forces import seen_by_fit
from mld_ff.report.methods import Simulated, citations, methods_paragraph
from mld_ff.report.statistics import UNKNOWN, Statistic
from mld_ff.report.summary import observables_table
from mld_ff.report.symbols import formula_of, symbol_of
from mld_ff.report.verdict import Verdict, verdicts
from mld_ff.sources.cp2k import open_cp2k
from mld_ff.trajectory import Trajectory

REFERENCE = {
    "goo_peak_A": Statistic(2.80, 0.01),
    "hoh_mean_deg": Statistic(105.5, 0.3),
    "temperature_K": Statistic(300.0, 3.0),
    "diffusion_A2_per_ps": UNKNOWN,
}
LEARNED = {
    "goo_peak_A": Statistic(2.85, 0.0),
    "hoh_mean_deg": Statistic(106.7, 0.4),
    "temperature_K": Statistic(303.0, 4.0),
    "diffusion_A2_per_ps": Statistic(0.2, 0.1),
}


def study(loss: AgentLoss) -> Study:
    statistics = {"reference": REFERENCE, "openmm": LEARNED}
    simulated = {"openmm": Simulated(100, 1.0, {"H2O": 64}, 1900.0, MD(time_ps=1.0))}
    return Study(loss, {"openmm": Path("run")}, {}, statistics=statistics, simulated=simulated)


def test_verdict(power_water: AgentLoss) -> None:
    """Differences in joint standard errors; what was matched is no prediction, right or wrong."""
    (verdict,) = verdicts(study(power_water))
    assert verdict == Verdict(
        run="OpenMM",
        agree=("T",),
        differ=("g_OO first peak (5.0 errors)", "⟨∠HOH⟩ (2.4 errors)"),
        unknown=("D",),
        matched=(),
    )
    matched: Provenance = {**power_water.provenance, "matched": {"note": "distances were matched"}}
    again = study(replace(power_water, provenance=matched))
    (verdict,) = verdicts(again)
    assert verdict.matched == ("g_OO first peak", "⟨∠HOH⟩") and verdict.differ == ()
    names = [row[0] for row in observables_table(again).rows]
    assert names == [
        "g_OO first peak [Å] (matched)",
        "⟨∠HOH⟩ [°] (matched)",
        "T [K]",
        "D [Å²/ps]",
    ]


@pytest.mark.parametrize(
    ("key", "symbol"),
    [
        ("free:O-H peak_A", "g_OH first peak [Å]"),
        ("any:Na-Cl mean_abs_dg", "|Δg_NaCl|"),
        ("bonded:H-O-H mean_A", "⟨r_HOH⟩ in molecules [Å]"),
        ("angle:H-C-H std_deg", "σ(∠HCH) [°]"),
        ("spectrum:H stretch_per_cm", "stretching band of H [cm⁻¹]"),
        ("diffusion_A2_per_ps CH4O", "D of CH₄O [Å²/ps]"),
        ("of_another_version", "of_another_version"),
    ],
)
def test_symbols(key: str, symbol: str) -> None:
    assert symbol_of(key) == symbol


def test_methods_cite_what_they_name(power_water: AgentLoss) -> None:
    told = study(power_water)
    paragraph, cited = methods_paragraph(told), citations(told)
    assert f"{power_water.provenance['rmse_meV_per_A']:.0f} meV/Å" in paragraph
    assert all(f"[{k + 1}]" in paragraph for k in range(len(cited)))
    assert any("OpenMM" in one for one in cited) and not any("LAMMPS" in one for one in cited)


def test_frames_that_the_fit_has_seen(power_water: AgentLoss, water: Trajectory) -> None:
    """Blocks of the fit are found in the same files though fewer or more frames are read; of other
    files none was seen; where files are not known, nobody knows.
    """
    source = open_cp2k(EXAMPLE)
    provenance: Provenance = {
        "source": {"sha256": source.origin.sha256, "frames": 600},
        "blocks_train": [0, 1, 2, 3, 5, 6, 7, 8],
        "blocks_test": [4, 9],
    }
    loss = replace(power_water, provenance=provenance)
    frames = replace(water, origin=source.origin)
    assert frames.n_frames == 687
    seen = seen_by_fit(loss, frames)
    assert seen is not None and seen.sum() == 480
    unseen = np.flatnonzero(~seen)
    assert {*unseen} == {*range(87), *range(87 + 240, 87 + 300), *range(87 + 540, 687)}
    later = seen_by_fit(loss, frames[600:])
    assert later is not None and np.array_equal(later, seen[600:])
    elsewhere = seen_by_fit(loss, replace(frames, origin=replace(source.origin, sha256="0")))
    assert elsewhere is not None and not elsewhere.any()
    assert seen_by_fit(loss, replace(frames, origin=replace(source.origin, sha256=None))) is None
    assert seen_by_fit(replace(power_water, provenance={}), frames) is None


def test_formulas_as_they_are_printed() -> None:
    for name, said in {"H2O": "H₂O", "C2H6O": "C₂H₆O", "NaCl": "NaCl", "run-2": "run-2"}.items():
        assert formula_of(name) == said
