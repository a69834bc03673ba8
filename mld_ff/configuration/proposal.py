"""A first configuration for data that nobody has looked at yet, with the reason of every choice."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mld_ff.engines.registry import ENGINES
from mld_ff.engines.settings import MD, Device
from mld_ff.errors import MldError
from mld_ff.geometry.pairs import default_cutoff
from mld_ff.inference.basis import LONGEST_CUTOFF_A
from mld_ff.inference.words import ACCURACIES, DEFAULT_ACCURACY
from mld_ff.progress import Progress, no_progress
from mld_ff.survey import Inspection, inspect
from mld_ff.trajectory import Floats, FrameSource
from mld_ff.units import FS_TO_PS
from mld_ff.version import __version__

PARTS = 10
"""Of a trajectory, compared with one another."""
MOST_LEFT_OUT = 5
"""Of these parts."""
UNSETTLED = 3.0
"""A part is equilibration if its temperature is off by so many deviations of the later parts."""
RUN_PS = 20.0
FEW_FRAMES = 100


@dataclass(frozen=True)
class Choice:
    """A line of a configuration."""

    key: str
    value: str | float | int | tuple[str, ...]
    reason: str

    @property
    def line(self) -> str:
        value = list(self.value) if isinstance(self.value, tuple) else self.value
        told = f"{self.key} = {json.dumps(value, ensure_ascii=False)}"
        return f"{told:<28} # {self.reason}"


def propose(
    source: FrameSource, where: Path, directory: Path, progress: Progress = no_progress
) -> str:
    """The text of a configuration for frames with forces.

    where: the path that was opened; directory: where the text will lie, which paths in it are
    relative to. Raises InputError as `inspect` does.
    """
    seen = inspect(source, progress=progress)
    first_ps, last_ps = (time * FS_TO_PS for time in seen.time_fs)
    atoms = ", ".join(f"{n} {kind}" for kind, n in seen.survey.topology.formulas().items())
    head = [
        f"written by mld_ff {__version__} for {atoms}: {seen.frames} frames,"
        f" {first_ps:g} to {last_ps:g} ps, {seen.density:.3f} g/cm³",
        "`mld-ff build` runs it, `mld-ff build --dry-run` says how long that takes here;",
        "`mld-ff schema` describes every key",
        *(f"note: {note}" for note in source.notes),
        *(f"warning: {warning}" for warning in seen.warnings()),
    ]
    if seen.frames < FEW_FRAMES:
        head.append(f"warning: {seen.frames} frames are few; errors on unseen ones tell how few")
    sections = {
        "": _of_data(source, seen, where, directory),
        "fit": _of_fit(source),
        "run": _of_run(source, seen),
    }
    lines = [f"# {line}" for line in head]
    for name, choices in sections.items():
        lines += ["", *([f"[{name}]"] if name else []), *(choice.line for choice in choices)]
    return "\n".join(lines) + "\n"


def _of_data(source: FrameSource, seen: Inspection, where: Path, directory: Path) -> list[Choice]:
    path = os.path.relpath(where.resolve(), directory.resolve())
    skip_ps, reason = _equilibration(_temperatures(source, seen), np.array(seen.survey.times))
    here = tuple(name for name in ENGINES if _is_here(name))
    missing = [engine.label for name, engine in ENGINES.items() if name not in here]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    told = f"{' and '.join(missing)} not found (`mld-ff doctor`)" if missing else "all are here"
    return [
        Choice("cp2k", path, f"{source.origin.name}'s, relative to this file"),
        Choice("skip_ps", skip_ps, reason),
        Choice("engines", here or tuple(ENGINES), told),
        Choice("processes", cores or 1, "cores of this machine; numbers do not depend on them"),
    ]


def _is_here(engine: str) -> bool:
    try:
        ENGINES[engine].find(Device())
    except (MldError, ImportError):
        return False
    return True


def _temperatures(source: FrameSource, seen: Inspection) -> Floats:
    """[K] of every frame, by the source's own account or from velocities; empty without either."""
    logged = source.logged_temperature
    return np.array(seen.survey.temperatures) if logged is None else logged


def _equilibration(temperatures: Floats, times: Floats) -> tuple[float, str]:
    """How much to leave out [ps], by temperature, and why."""
    if len(temperatures) < 2 * PARTS:
        return 0.0, "no temperatures tell whether the beginning has settled"
    parts = [float(part.mean()) for part in np.array_split(temperatures, PARTS)]
    for k in range(MOST_LEFT_OUT + 1):
        mean, deviation = float(np.mean(parts[k + 1 :])), float(np.std(parts[k + 1 :], ddof=1))
        if abs(parts[k] - mean) > UNSETTLED * deviation:
            continue
        if k == 0:
            return 0.0, f"from the beginning on it is at {mean:.0f} ± {deviation:.0f} K"
        first = np.array_split(times, PARTS)[k][0]
        skip = float(np.ceil((first - times[0]) * FS_TO_PS * 100) / 100)
        return skip, f"before, it is at {parts[0]:.0f} K, then at {mean:.0f} ± {deviation:.0f} K"
    return 0.0, "it never settles: temperatures drift all along"


def _of_fit(source: FrameSource) -> list[Choice]:
    cutoff = round(default_cutoff(source.half_width, LONGEST_CUTOFF_A), 3)
    why = "beyond, pairs cost time and add nothing to water"
    if cutoff < LONGEST_CUTOFF_A:
        why = f"half the smallest width of the cell; {LONGEST_CUTOFF_A:g} Å in a larger one"
    words = ", ".join(ACCURACIES)
    return [
        Choice("accuracy", DEFAULT_ACCURACY, f"{words}: each is better and slower than the last"),
        Choice("cutoff_A", cutoff, why),
    ]


def _of_run(source: FrameSource, seen: Inspection) -> list[Choice]:
    origin, default = source.origin, MD()
    measured = _temperatures(source, seen)
    if origin.temperature_K:
        temperature, why = origin.temperature_K, f"that {origin.name}'s thermostat was set to"
    elif len(measured):
        temperature, why = round(float(measured.mean()), 1), "the mean of the data"
    else:
        temperature, why = default.temperature_K, "not known from the data: check it"
    step = min(origin.timestep_fs or default.timestep_fs, _longest_step_fs(source))
    return [
        Choice("temperature_K", temperature, why),
        Choice("time_ps", RUN_PS, "a look; structure needs 50 ps, diffusion more"),
        Choice("timestep_fs", step, f"{origin.name}'s, at most what the lightest atom stands"),
        Choice("damping_fs", default.damping_fs, "of the thermostat; CP2K's TIMECON"),
    ]


def _longest_step_fs(source: FrameSource) -> float:
    """Half a femtosecond with hydrogen; elsewhere vibrations are slower by the root of masses."""
    return 0.5 if source.masses.min() < 1.5 else 1.0 if source.masses.min() < 12.5 else 2.0
