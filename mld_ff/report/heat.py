"""Temperature and kinetic energy of runs beside the reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from mld_ff.report.comparison import Comparison, Drawing, rounded
from mld_ff.report.plots import kinetic_energy_per_kelvin, plot_kinetic_energy
from mld_ff.report.runs import LearnedRun
from mld_ff.report.statistics import mean
from mld_ff.report.style import REFERENCE, subject
from mld_ff.trajectory import Floats, Trajectory
from mld_ff.units import FS_TO_PS

CAPTION = (
    "Kinetic energy against time (thin) and its running mean (thick); dotted: what the"
    " thermostat is set to."
)


OTHER_TEMPERATURE = 0.1
"""Runs whose mean temperature is off by more than this part of the reference's are at another."""


def other_temperatures(mean_K: Mapping[str, float]) -> list[str]:
    """A sentence for every run at another temperature than the reference, by their means."""
    known = mean_K.get(REFERENCE)
    return [
        f"{subject(name)} ran at {value:.0f} K, the reference at {known:.0f} K: what"
        " they differ by is the temperature as well as the model."
        for name, value in mean_K.items()
        if known and name != REFERENCE and abs(value - known) > OTHER_TEMPERATURE * known
    ]


def compare_heat(
    reference: Trajectory, temperature_K: Floats | None, runs: Sequence[LearnedRun]
) -> Comparison:
    """Over all of the reference, and over what is left of runs after their first stretch.

    temperature_K: of the reference's frames, (F,), where its velocities do not tell it.
    """
    comparison = Comparison()
    heat: dict[str, tuple[Floats, Floats]] = {}
    if reference.velocities is not None:
        temperature_K = reference.temperature()
    if temperature_K is None:
        comparison.notes.append(
            "The reference's kinetic energy is not known:"
            f" {reference.origin.remedies.kinetic_energy}."
        )
    else:
        time_ps = np.asarray((reference.time - reference.time[0]) * FS_TO_PS)
        heat[REFERENCE] = time_ps, temperature_K
        comparison.statistics[REFERENCE] = {"temperature_K": mean(temperature_K)}
    for run in runs:
        heat[run.name] = run.time_ps, run.temperature_K
        settled = run.temperature_K[run.time_ps >= run.settled.time[0] * FS_TO_PS]
        comparison.statistics[run.name] = {"temperature_K": mean(settled)}
    comparison.notes += other_temperatures(
        {name: of["temperature_K"].value for name, of in comparison.statistics.items()}
    )
    n_atoms = {run.name: run.frames.n_atoms for run in runs} | {REFERENCE: reference.n_atoms}
    target_K = {run.name: run.settings.temperature_K for run in runs}
    target_K[REFERENCE] = runs[0].settings.temperature_K
    figure = plot_kinetic_energy(heat, n_atoms, target_K)
    comparison.drawings["kinetic_energy"] = Drawing(CAPTION, figure)
    comparison.series["kinetic_energy_eV_per_atom"] = {
        name: rounded((time_ps, temperature * kinetic_energy_per_kelvin(n_atoms[name])))
        for name, (time_ps, temperature) in heat.items()
    }
    return comparison
