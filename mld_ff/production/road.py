"""Whether a run does what was asked of it: temperature, conserved energy, density."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

import numpy as np

from mld_ff.engines.settings import MD
from mld_ff.errors import EngineError
from mld_ff.trajectory import Floats
from mld_ff.units import FS_TO_PS, KB_EV_PER_K

SETTLED = 20.0
"""Time constants of the thermostat until a run from any start is judged while it goes on; one that
ends before is judged by WILD."""
WILD = 5.0
"""Times the temperature asked for."""
RUNAWAY = 2.0
"""The same, of a run that has settled; a thermostat of water holds it to 1 %."""
TEMPERATURE_OFF = 0.1
"""Of the temperature asked for: so far may the mean of the second half be off, beside its noise."""
SIGMAS = 5.0
ENERGY_MOVED, ENERGY_MOVED_PER_NS = 0.1, 1.0
"""Of the kinetic energy: so far may the conserved energy move, and further with time. Water with
angles moves by 0.004 in 0.5 ns, with its table of 0.5 fs."""
DENSITY_OFF = 2.0
"""By this factor may the density depart from that of the start: beyond it is another phase."""
LONG_PS = 1.0
"""A run that ends is hot by RUNAWAY after this time, however slow its thermostat."""
LEAST_ROWS = 10
"""Of a log, before energies are compared."""
REMEDY = (
    "the model does not hold this system together here, or the step is too long: start from a frame"
    " without contacts (--minimize), try half the --timestep, or learn frames of what went wrong"
    " (`mld-ff refine`)"
)
FROM_A_LARGER_BOX = (
    "the barostat made the box narrower than twice the model's cutoff, which OpenMM cannot compute:"
    " start from a larger one (`mld-ff box --cp2k CP2K_DIR --replicate 2,2,2 -o box.pdb`, then"
    " --structure box.pdb), or run in LAMMPS"
)
ADVICE = {
    r"lost atoms|out of range atoms|neighbor bins|inner cutoff": REMEDY,
    r"\bnan\b|bond atoms? .*missing": REMEDY,
    r"less than twice the nonbonded cutoff": FROM_A_LARGER_BOX,
}
"""By engines' words."""


def departures(
    log: Mapping[str, Floats], settings: MD, n_atoms: int, ended: bool = True
) -> list[str]:
    """What a run does that was not asked for, a sentence each; nothing of a healthy run.

    log: as `read_log` gives it, from step 0 on. ended: whether nothing comes after it; a run that
    goes on is only told of when it runs away.
    """
    found = [_runaway(log, settings, n_atoms, ended)]
    if ended:
        found += [
            _mean_temperature(log, settings, n_atoms),
            _energy(log, settings, n_atoms),
            _density(log, settings),
        ]
    return [sentence for sentence in found if sentence]


def advised(error: EngineError) -> EngineError:
    """With what to do, where an engine's words say what happened."""
    for words, advice in ADVICE.items():
        if re.search(words, str(error), re.IGNORECASE):
            return EngineError(f"{error}: {advice}")
    return error


def _runaway(log: Mapping[str, Floats], settings: MD, n_atoms: int, ended: bool) -> str:
    """Far too hot in the latest stretch."""
    time, temperature = log["time_ps"], log["temperature_K"]
    asked = settings.temperature_K
    if settings.ensemble == "nve":  # it has whatever the start has
        asked = max(asked, float(temperature[0]))
    settled = SETTLED * settings.damping_fs * FS_TO_PS
    if time[-1] < settled and not ended:
        return ""
    factor = RUNAWAY if time[-1] >= settled or (ended and time[-1] >= LONG_PS) else WILD
    stretch = min(settled, float(time[-1])) / 2
    mean = float(temperature[time >= time[-1] - stretch].mean())
    if mean < factor * asked + SIGMAS * _spread(settings, n_atoms):  # NaN is no temperature
        return ""
    remedy = REMEDY
    if time[-1] < settled:
        remedy = (
            f"the thermostat has not had its {settled:.3g} ps ({SETTLED:g} --damping); or {remedy}"
        )
    return (
        f"the temperature of the last {stretch:.3g} ps, to {time[-1]:.4g} ps, is {mean:.0f} K,"
        f" where {asked:.4g} K was asked for: {remedy}"
    )


def _mean_temperature(log: Mapping[str, Floats], settings: MD, n_atoms: int) -> str:
    """Whether the thermostat held it, in the second half."""
    time, asked = log["time_ps"], settings.temperature_K
    half, damping = float(time[-1]) / 2, settings.damping_fs * FS_TO_PS
    if settings.ensemble == "nve" or half < SETTLED * damping:
        return ""
    mean = float(log["temperature_K"][time >= half].mean())
    noise = _spread(settings, n_atoms) / math.sqrt(half / (2 * damping))
    if abs(mean - asked) < TEMPERATURE_OFF * asked + SIGMAS * noise:
        return ""
    return (
        f"the mean temperature of the second half is {mean:.0f} ± {noise:.0f} K, where {asked:g} K"
        f" was asked for: {REMEDY}"
    )


def _energy(log: Mapping[str, Floats], settings: MD, n_atoms: int) -> str:
    """Whether what the integrator conserves moves."""
    energy = log.get("conserved_eV", log["total_eV"] if settings.ensemble == "nve" else None)
    if energy is None or len(energy) < LEAST_ROWS or not np.isfinite(energy).all():
        return ""
    fifth = len(energy) // 5
    moved = float(energy[-fifth:].mean() - energy[:fifth].mean())
    kinetic = 1.5 * n_atoms * KB_EV_PER_K * settings.temperature_K
    time = float(log["time_ps"][-1])
    if abs(moved) < kinetic * (ENERGY_MOVED + ENERGY_MOVED_PER_NS * time * 1e-3):
        return ""
    return (
        f"the energy that should be conserved moved by {moved:.3g} eV in {time:.4g} ps, and the"
        f" kinetic energy is {kinetic:.3g} eV: {REMEDY}"
    )


def _density(log: Mapping[str, Floats], settings: MD) -> str:
    """Whether a box that follows a pressure is still the same phase."""
    density = log["density_g_per_cm3"]
    mean, start = float(density[len(density) // 2 :].mean()), float(density[0])
    if settings.ensemble != "npt" or start / DENSITY_OFF < mean < start * DENSITY_OFF:
        return ""
    return (
        f"the mean density of the second half is {mean:.3g} g/cm³, where the run began at"
        f" {start:.3g} g/cm³: the model does not hold it at {settings.pressure_bar:g} bar; match"
        " the pressure (`mld-ff match --pressure`)"
    )


def _spread(settings: MD, n_atoms: int) -> float:
    """Standard deviation of the temperature of a canonical ensemble [K]."""
    return settings.temperature_K * math.sqrt(2 / max(3 * n_atoms - 3, 1))
