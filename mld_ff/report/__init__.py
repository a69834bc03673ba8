"""Figures and pages that a person can read, and the numbers behind them."""

from mld_ff.report.exponents import (
    load_scan,
    plot_exponents,
    plot_plane,
    plot_sensitivities,
    write_scan,
)
from mld_ff.report.learned import (
    plot_bonded_functions,
    plot_channels,
    plot_errors,
    plot_forces,
    plot_pair_functions,
)
from mld_ff.report.observables import first_peak, measure
from mld_ff.report.page import write_report
from mld_ff.report.plots import plot_bonded, plot_kinetic_energy, plot_radial_distributions
from mld_ff.report.study import Study, compare_runs
from mld_ff.report.style import REFERENCE, save_figure

__all__ = [
    "REFERENCE",
    "Study",
    "compare_runs",
    "first_peak",
    "load_scan",
    "measure",
    "plot_bonded",
    "plot_bonded_functions",
    "plot_channels",
    "plot_errors",
    "plot_exponents",
    "plot_forces",
    "plot_kinetic_energy",
    "plot_pair_functions",
    "plot_plane",
    "plot_radial_distributions",
    "plot_sensitivities",
    "save_figure",
    "write_report",
    "write_scan",
]
