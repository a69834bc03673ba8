"""Figures and pages that a person can read, and the numbers behind them."""

from mld_ff.report.observables import first_peak, observables
from mld_ff.report.plots import (
    plot_bonded,
    plot_forces,
    plot_pair_functions,
    plot_radial_distributions,
    plot_temperature,
)
from mld_ff.report.scan import plot_exponents, plot_plane, plot_sensitivities, write_scan
from mld_ff.report.study import Study, study, write_report
from mld_ff.report.style import REFERENCE, save_figure
from mld_ff.report.summary import write_summary

__all__ = [
    "REFERENCE",
    "Study",
    "first_peak",
    "observables",
    "plot_bonded",
    "plot_exponents",
    "plot_forces",
    "plot_pair_functions",
    "plot_plane",
    "plot_radial_distributions",
    "plot_sensitivities",
    "plot_temperature",
    "save_figure",
    "study",
    "write_report",
    "write_scan",
    "write_summary",
]
