"""Observables of a liquid that shows them all."""

from __future__ import annotations

from conftest import present

from mld_ff.report import measure
from mld_ff.survey import Inspection


def measured(inspection: Inspection, reference: Inspection | None = None) -> dict[str, float]:
    """`measure`, none of whose values may be missing."""
    return {name: present(value) for name, value in measure(inspection, reference).items()}
