"""Numbers of every kind of term are those that were frozen (frozen.py says how to freeze anew)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from frozen import evaluated, invented, load

from mld_ff.loss.model import KINDS

FROZEN = {kind: (loss, frame, numbers) for kind, loss, frame, numbers in load()}
SAME = 1e-9
"""[eV, eV/Å], and as a fraction: a sum in another order differs by some 1e-13."""


@pytest.mark.parametrize("kind", FROZEN)
def test_numbers_are_frozen(kind: str) -> None:
    loss, frame, numbers = FROZEN[kind]
    now = evaluated(loss, frame)
    energies = {name: e for name, e in now.energies.items() if e}
    assert energies == pytest.approx(numbers["energies_eV"], rel=SAME, abs=SAME)
    assert now.forces == pytest.approx(np.array(numbers["forces_eV_per_A"]), rel=SAME, abs=SAME)
    assert now.virial == pytest.approx(np.array(numbers["virial_eV"]), rel=SAME, abs=SAME)
    # each acts on this liquid, or nothing was frozen
    assert np.abs(now.forces).max() > 0.01


def test_every_kind_is_frozen() -> None:
    frozen = {type(term).kind for loss, _, _ in FROZEN.values() for term in loss.terms}
    assert frozen == set(KINDS)
    assert invented().keys() == FROZEN.keys()


def test_a_coefficient_cannot_change_unnoticed() -> None:
    """By a millionth, in any kind."""
    for kind, (loss, frame, numbers) in FROZEN.items():
        grown = tuple(
            replace(t, coefficients=tuple(c * (1 + 1e-6) for c in t.coefficients))
            for t in loss.terms
        )
        forces = evaluated(replace(loss, terms=grown), frame).forces
        frozen = np.array(numbers["forces_eV_per_A"])
        assert (forces == pytest.approx(frozen, rel=SAME, abs=SAME)) == (kind == "walls alone")
