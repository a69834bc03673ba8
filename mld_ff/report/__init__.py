"""Figures and pages that a person can read, and the numbers behind them."""

from mld_ff.report.exponents import (
    load_scan,
    plot_exponents,
    plot_plane,
    plot_sensitivities,
    write_scan,
)
from mld_ff.report.observables import first_peak, observables
from mld_ff.report.page import write_report
from mld_ff.report.plots import (
    plot_bonded,
    plot_forces,
    plot_kinetic_energy,
    plot_pair_functions,
    plot_radial_distributions,
)
from mld_ff.report.study import Study, study
from mld_ff.report.style import REFERENCE, save_figure
from mld_ff.report.summary import write_summary

__all__ = [
    "REFERENCE",
    "Study",
    "first_peak",
    "load_scan",
    "observables",
    "plot_bonded",
    "plot_exponents",
    "plot_forces",
    "plot_kinetic_energy",
    "plot_pair_functions",
    "plot_plane",
    "plot_radial_distributions",
    "plot_sensitivities",
    "save_figure",
    "study",
    "write_report",
    "write_scan",
    "write_summary",
]
