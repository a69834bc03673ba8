"""How fast the reference and the learned runs went."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mld_ff.report.runs import LearnedRun
from mld_ff.report.style import REFERENCE
from mld_ff.units import FS_TO_PS

SECONDS_PER_DAY = 86400


@dataclass(frozen=True)
class Speed:
    """Of one trajectory."""

    steps_per_s: float
    ns_per_day: float
    ratio: float | None = None
    """How many times faster than the reference, in simulated time per wall time; None if that is
    not known.
    """


def compare_speeds(
    seconds_per_step: float | None,
    timestep_fs: float | None,
    n_atoms: int,
    runs: Sequence[LearnedRun],
) -> dict[str, Speed]:
    """By name, of all whose time is known; ratios only of as many atoms as the reference has.

    seconds_per_step, timestep_fs, n_atoms: the reference's; None if they are not known. A run's
    time is its wall time, start-up and output included.
    """
    speeds: dict[str, Speed] = {}
    if seconds_per_step and timestep_fs:
        speeds[REFERENCE] = _speed(timestep_fs, seconds_per_step)
    for run in runs:
        if run.wall_s:
            timestep_ps = run.settings.timestep_fs * FS_TO_PS
            n_steps = run.settings.time_ps / timestep_ps
            reference = speeds.get(REFERENCE) if len(run.atom_in_source) == n_atoms else None
            speeds[run.name] = _speed(run.settings.timestep_fs, run.wall_s / n_steps, reference)
    return speeds


def _speed(timestep_fs: float, seconds_per_step: float, reference: Speed | None = None) -> Speed:
    ns_per_day = SECONDS_PER_DAY / seconds_per_step * timestep_fs * 1e-6
    ratio = ns_per_day / reference.ns_per_day if reference else None
    return Speed(1 / seconds_per_step, ns_per_day, ratio)
