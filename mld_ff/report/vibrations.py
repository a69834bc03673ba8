"""Vibrational densities of states of runs beside the reference."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from mld_ff.report.comparison import Comparison
from mld_ff.report.runs import LearnedRun
from mld_ff.report.spectrum import spectra
from mld_ff.report.style import REFERENCE, subject
from mld_ff.trajectory import Trajectory


def compare_vibrations(reference: Trajectory, runs: Sequence[LearnedRun]) -> Comparison:
    """Of all trajectories at one resolution; where one does not tell them, of none."""
    comparison = Comparison()
    frames = {subject(REFERENCE): reference} | {subject(run.name): run.settled for run in runs}
    remedies: dict[str, Callable[[float], str]] = {subject(REFERENCE): reference.origin.denser}
    remedies |= {subject(run.name): run_again(run) for run in runs}
    temperature_K = max(run.settings.temperature_K for run in runs)
    by_subject, comparison.notes = spectra(frames, temperature_K, remedies)
    if not by_subject:
        return comparison
    names = [REFERENCE, *(run.name for run in runs)]
    by_name = {name: by_subject[subject(name)] for name in names}
    comparison.statistics = {name: spectrum.numbers for name, spectrum in by_name.items()}
    species = list(by_name[REFERENCE].density)
    curves = {
        name: [(spectrum.per_cm, spectrum.density[s], spectrum.error[s]) for s in species]
        for name, spectrum in by_name.items()
    }
    caption = (
        "Vibrational density of states: power spectrum of the velocities of each species, its"
        f" integral 1, with block errors (bands); lines are {by_name[REFERENCE].width_per_cm:.0f}"
        " cm⁻¹ wide."
    )
    axes = ("wavenumber [cm⁻¹]", "density [1/cm⁻¹]")
    comparison.draw("spectrum", caption, species, curves, axes)
    return comparison


def run_again(run: LearnedRun) -> Callable[[float], str]:
    """What to do for a run with frames at a stride [fs]."""

    def advise(stride_fs: float) -> str:
        timestep = run.settings.timestep_fs
        every = max(1, int(stride_fs / timestep)) * timestep if math.isfinite(stride_fs) else 10.0
        return f"Run it with `mld-ff run … --velocities --every {every:g}`."

    return advise
