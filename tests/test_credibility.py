"""The page of credibility says what its record holds; the scores of MLIPAudit, on known runs."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from conftest import CUBE, frame_of, liquid
from credibility import FILE, tables
from mlipaudit import (
    EXPERIMENTS,
    WaterScore,
    experiment,
    first_drift,
    first_explosion,
    score_of,
    soft,
    stability_score,
    water_score,
)

from mld_ff.trajectory import concatenate


def test_page_shows_its_record() -> None:
    page = FILE.with_suffix(".md").read_text(encoding="utf-8")
    record = json.loads(FILE.read_text(encoding="utf-8"))
    assert "\n".join(tables(record)).split("\n\n") == [
        table for table in page.split("\n\n") if table.startswith(("| pair |", "| run |"))
    ]
    assert max(record["locality_eV_per_A"].values()) == 0 and "| 0 \\| 0 eV/Å |" in page
    assert f"| {record['not_extensive_eV']:.0e} eV |" in page


def test_water_score() -> None:
    """A peak in its place and an error of 0.1 are the whole score; neither is lost at once."""
    assert score_of(2.8, 0.1) == 1 and soft(0.0, 0.1) == 1
    assert score_of(2.8, 0.2) == pytest.approx((1 + np.exp(-3)) / 2)
    assert score_of(2.6, 0.1) == pytest.approx(score_of(3.0, 0.1)) == pytest.approx(0.9, abs=0.01)


def test_experiments() -> None:
    """Two of one year: alike beyond the first peak, 0.08 apart in its height."""
    (r, g), (_, other) = (experiment(name) for name in EXPERIMENTS)
    own = WaterScore(r, g, 10.0)
    assert own.rmse() < 1e-3 and own.score > 0.99 and own.peak_A == pytest.approx(2.8, abs=0.02)
    assert 0.05 < own.rmse("Soper 2013") < 0.06
    assert np.abs(g - other)[r > 3.5].max() < 0.03
    assert g.max() - other.max() == pytest.approx(0.08, abs=0.01)


def test_random_water_has_no_structure() -> None:
    """g of points anywhere is 1, to its noise, and far from the experiment's."""
    rng = np.random.default_rng(1)
    frames = [
        frame_of(["O"] * 200, rng.uniform(0, 12, (200, 3)), 12 * np.eye(3)) for _ in range(20)
    ]
    water = water_score(concatenate(frames))
    beyond = water.r_A > 3
    assert water.g[beyond].mean() == pytest.approx(1, abs=0.01)
    assert 0.25 < water.rmse() < 0.5 and water.end_A == 6


def test_stability() -> None:
    """A hydrogen that leaves for good is a drift, one that comes back is none; heat explodes."""
    frame = liquid(["H2O"] * 4, CUBE, seed=1)
    away = replace(frame, positions=frame.positions.copy())
    away.positions[0, 1] = [6.0, 6.0, 6.0]
    assert first_drift(concatenate([frame, frame])) == -1
    lost = first_drift(concatenate([frame, away, away]))
    assert lost == 1 and first_drift(concatenate([frame, away, frame])) == -1
    assert first_explosion(np.array([300.0, 310.0]), 300.0) == -1
    assert first_explosion(np.array([300.0, 310.0, 2e4]), 300.0) == 2
    assert first_explosion(np.array([1.0, 310.0]), 300.0) == 1
    assert stability_score(-1, -1, 3) == 1
    assert stability_score(-1, lost, 4) == 0.625 and stability_score(2, -1, 4) == 0.25
