"""The frame that a run starts from, without contacts."""

from __future__ import annotations

from dataclasses import replace

from mld_ff.engines.start import Start, start_from
from mld_ff.loss.model import AgentLoss
from mld_ff.progress import Progress, no_progress
from mld_ff.trajectory import Trajectory

CONTACT_EV_PER_A = 10.0
"""Forces beyond this are of contacts; those of liquids at 300 K stay below 7."""


def start_at(
    loss: AgentLoss,
    frame: Trajectory,
    temperature_K: float = 300.0,
    seed: int = 1,
    minimize: bool | None = None,
    progress: Progress = no_progress,
    force: bool = False,
) -> Start:
    """What `start_from` makes of a frame, moved downhill first where it holds contacts (by OpenMM's
    minimiser, whichever engine goes on from there).

    minimize: None leaves alone frames with velocities, which come out of dynamics, and those
    without a force beyond CONTACT_EV_PER_A. A frame that was moved says so in its source. force: as
    of `Start`. Raises what `Start.check` and `openmm_system` raise.
    """
    start = start_from(frame, temperature_K, seed, loss.topology_kind, force)
    start.check(loss)
    if minimize is False or (minimize is None and frame.velocities is not None):
        return start
    from mld_ff.engines.openmm.minimization import relaxed

    moved = relaxed(loss, start, 0.0 if minimize else CONTACT_EV_PER_A)
    if moved is None:
        return start
    progress("minimize", 1, 1)
    return replace(start, frame=moved)
