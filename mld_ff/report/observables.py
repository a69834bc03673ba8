"""Distances as numbers to compare between the reference and a learned run."""

from __future__ import annotations

import numpy as np
from scipy.signal import find_peaks

from mld_ff.survey import Inspection
from mld_ff.trajectory import Floats

COMPARED_FROM_A = 2.0
"""Radial distribution functions are compared from here to the cutoff."""
PROMINENCE = 0.1
"""Of peaks and minima that are more than noise."""


def first_peak(r: Floats, g: Floats) -> tuple[float, float] | None:
    """Place [Å] and height of the first peak of g(r) above 1, by a parabola through its top; None
    if there is none.
    """
    tops, _ = find_peaks(g, height=1.0, prominence=PROMINENCE)
    if not len(tops):
        return None
    k = int(tops[0])
    a, b, c = np.polyfit(r[k - 1 : k + 2], g[k - 1 : k + 2], 2)
    place = -b / (2 * a)
    return float(place), float(np.polyval((a, b, c), place))


def mean_abs_dg(r: Floats, g: Floats, expected: Floats) -> float:
    """Mean |Δg| of two radial distributions beyond COMPARED_FROM_A, as far as both go; r (B,) [Å]
    of the first.
    """
    n = min(len(g), len(expected))
    return float(np.abs(g[:n] - expected[:n])[r[:n] > COMPARED_FROM_A].mean())


def measure(inspection: Inspection, reference: Inspection | None = None) -> dict[str, float | None]:
    """Numbers to compare: mean and deviation of bonded distances, first peaks of g(r), mean |Δg| to
    the reference.
    """
    measured: dict[str, float | None] = {}
    for name, histogram in inspection.survey.distances.items():
        if name.startswith("bonded:"):
            measured[f"{name} mean_A"], measured[f"{name} std_A"] = (
                histogram.mean,
                histogram.deviation,
            )
            continue
        r, g = inspection.radial_distribution(name)
        peak = first_peak(r, g)
        measured[f"{name} peak_A"], measured[f"{name} peak_height"] = peak or (None, None)
        if reference is not None:
            _, g0 = reference.radial_distribution(name)
            measured[f"{name} mean_abs_dg"] = mean_abs_dg(r, g, g0)
    return measured
