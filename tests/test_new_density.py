"""What a new kind of density needs: the term itself, and in OpenMM an entry that says how its
functions become tables; LAMMPS's tables take it as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
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
from mld_ff.loss.densities import DensityTerm
from mld_ff.loss.model import KINDS, AgentLoss
from mld_ff.loss.terms import Term
from mld_ff.trajectory import Floats
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
            own: dict[str, Any] = {f.name: getattr(term, f.name) for f in fields(term)}
            terms.append(GaussianTerm(**own | {"spacing_A": 1.1}))
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
