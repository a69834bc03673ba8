"""A frame moved downhill, by OpenMM whichever engine runs it then."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import openmm

from mld_ff.engines.openmm.evaluation import forces_in, set_frame
from mld_ff.engines.openmm.neighbours import system_on
from mld_ff.engines.openmm.platforms import context_of
from mld_ff.engines.settings import Device
from mld_ff.engines.start import Start
from mld_ff.errors import EngineError
from mld_ff.loss.model import AgentLoss
from mld_ff.trajectory import Trajectory
from mld_ff.units import A_TO_NM, EV_PER_A_TO_KJ_PER_MOL_PER_NM

DOWNHILL_EV_PER_A = 0.1
"""Root mean square of the forces at which a minimum is near enough; thermal ones are ten times
that.
"""


def relaxed(loss: AgentLoss, start: Start, above_eV_per_A: float = 0.0) -> Trajectory | None:
    """The frame of a start moved downhill to the nearest minimum, or None if no force on an atom
    exceeds `above_eV_per_A`.

    Runs on the fastest platform present. Raises EngineError if a force is not finite, and as
    `openmm_system` does.
    """
    frame, device = start.frame, Device()
    context = context_of(system_on(device, loss, start), device)
    set_frame(context, frame, 0)
    forces = forces_in(context.getState(forces=True))
    if not np.isfinite(forces).all():
        raise EngineError(
            "a force on the starting frame is not finite: do atoms lie upon each other?"
        )
    if np.linalg.norm(forces, axis=1).max() <= above_eV_per_A:
        return None
    openmm.LocalEnergyMinimizer.minimize(context, DOWNHILL_EV_PER_A * EV_PER_A_TO_KJ_PER_MOL_PER_NM)
    positions = context.getState(positions=True).getPositions(asNumpy=True)._value / A_TO_NM
    return replace(
        frame, positions=np.array(positions)[None], origin=replace(frame.origin, minimized=True)
    )
