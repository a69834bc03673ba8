"""What a new kind of density needs: the term itself, and in OpenMM an entry that says how its
functions become tables; LAMMPS's tables take it as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from conftest import TRICLINIC, evaluate, invent, liquid, topology_of, with_channels

from mld_ff.engines.openmm.densities import (
    DENSITIES,
    EMBEDDING_EXPRESSION,
    NO_PARABOLA,
    DensityTranslation,
    fading_parabola,
    sampled_tables,
)
from mld_ff.engines.settings import MD
from mld_ff.geometry.histogram import Histogram
from mld_ff.inference import Basis, fit
from mld_ff.loss.densities import DensityTerm
from mld_ff.loss.model import KINDS, AgentLoss
from mld_ff.loss.terms import Term
from mld_ff.production.simulation import run
from mld_ff.report.page import write_report
from mld_ff.report.study import compare_runs
from mld_ff.trajectory import Floats, Trajectory
from mld_ff.verification import verify


@dataclass(frozen=True, kw_only=True)
class GaussianTerm(DensityTerm):
    """Densities linear in (1 - (r/cutoff)²)³ exp(-(r/width)²), with widths of 1, 2, … spacings."""

    kind: ClassVar[str] = "gaussian"

    @property
    def grid(self) -> tuple[float, float]:
        """Of its tables."""
        return 0.02, self.cutoff_A

    def basis(self, neighbour: str, r: Floats, derivative: int = 0) -> Floats:
        here, c = self.slices[neighbour], self.cutoff_A
        k = 1 / (self.spacing_A * np.arange(1, here.stop - here.start + 1)) ** 2
        x = np.minimum(r / c, 1)[:, None]
        end, slope = (1 - x**2) ** 3, -6 * x * (1 - x**2) ** 2 / c
        decay = np.exp(-k * r[:, None] ** 2)
        return np.asarray((end * decay, (slope - 2 * k * r[:, None] * end) * decay)[derivative])


@dataclass(frozen=True)
class GaussianBasis(Basis):
    """What is fitted: Gaussians for the densities of every species."""

    def sums(
        self, seen: Mapping[tuple[str, str], Histogram], half_width_A: float
    ) -> tuple[DensityTerm, ...]:
        return tuple(as_gaussians(term) for term in super().sums(seen, half_width_A))


def as_gaussians(term: DensityTerm, **changes: Any) -> GaussianTerm:
    own: dict[str, Any] = {f.name: getattr(term, f.name) for f in fields(term)}
    return GaussianTerm(**own | changes)


def in_openmm() -> DensityTranslation:
    return DensityTranslation(sampled_tables, EMBEDDING_EXPRESSION, fading_parabola, NO_PARABOLA)


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """The lines that add it."""
    monkeypatch.setitem(KINDS, "gaussian", GaussianTerm)
    monkeypatch.setitem(DENSITIES, GaussianTerm, in_openmm())


def of_gaussians(loss: AgentLoss, centres: Sequence[str]) -> AgentLoss:
    """The loss with Gaussians for the channels of some species, which sample half of what they
    meet.
    """
    terms: list[Term] = []
    for term in loss.terms:
        if isinstance(term, DensityTerm) and term.species[0] in centres:
            terms.append(as_gaussians(term, spacing_A=1.1))
        else:
            terms.append(term)
    return replace(loss, terms=tuple(terms))


@pytest.mark.parametrize("centres", ["OHC", "OC"], ids=["all species", "some species"])
def test_both_engines_compute_a_new_density(centres: str, known: None, tmp_path: Path) -> None:
    """Alone, and beside channels of the kind that there was."""
    frame = liquid(["H2O"] * 6 + ["CH3OH"] * 4, TRICLINIC, seed=4)
    loss = of_gaussians(with_channels(invent(frame, cutoff=4.8), 1), centres)
    loss.save(tmp_path / "model.json")
    loss = AgentLoss.load(tmp_path / "model.json")
    assert {type(t) for t in loss.channels if t.species[0] in centres} == {GaussianTerm}
    energies, _ = evaluate(loss, topology_of(frame), frame.positions[0], frame.cell[0])
    assert all(abs(energies[t.name]) > 0.1 for t in loss.channels), energies
    result = verify(loss, frame, per_term=False)
    assert result.passed, result.to_dict()


def test_a_new_density_is_fitted_saved_verified_run_and_reported(
    known: None, undrawn: None, few: Trajectory, tmp_path: Path
) -> None:
    fitted = fit(few, GaussianBasis("power", collective=1, collective_spacing_A=0.6))
    pairs = fit(few, Basis("power"))
    errors = [f.errors.relative_rmse for f in (fitted, pairs)]
    assert all(errors[0][s] < 0.95 * errors[1][s] for s in "OH"), errors
    fitted.loss.save(tmp_path / "model.json")
    loss = AgentLoss.load(tmp_path / "model.json")
    assert {type(t) for t in loss.channels} == {GaussianTerm}
    assert verify(loss, few[0], per_term=False).passed
    run(loss, few[0], "lammps", tmp_path / "run", MD(time_ps=0.1))
    study = compare_runs(few, [tmp_path / "run"])
    write_report(tmp_path / "report", study)
    assert {"temperature_K", "oh_mean_A"} <= study.observables.keys()
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert "collective:O:1" in page
