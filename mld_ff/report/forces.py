"""Forces of the loss against the reference's, in frames that no fit has seen."""

from __future__ import annotations

import numpy as np

from mld_ff.geometry.system import systems
from mld_ff.geometry.topology import topology_of
from mld_ff.inference.dataset import block_range
from mld_ff.loss.model import AgentLoss
from mld_ff.report.comparison import Comparison, Drawing
from mld_ff.report.learned import plot_forces
from mld_ff.report.statistics import spread
from mld_ff.trajectory import Floats, Trajectory

FRAMES_WITH_FORCES = 20
"""Forces of so many frames of the reference, spread evenly, are drawn."""


def compare_forces_of_loss(loss: AgentLoss, reference: Trajectory) -> Comparison:
    """A figure of forces in unseen frames; a note where there are none, nothing without forces."""
    if reference.forces is None:
        return Comparison()
    seen = seen_by_fit(loss, reference)
    if seen is not None and seen.all():
        return Comparison(notes=["Forces are not drawn: the fit has seen all of these frames."])
    frames = spread(reference if seen is None else reference[~seen], FRAMES_WITH_FORCES)
    assert frames.forces is not None
    learned = forces_of(loss, frames)
    pairs: dict[str, tuple[Floats, Floats]] = {}
    for species in loss.species:
        mine = np.array([[s == species] * 3 for s in frames.symbols])
        if frames.fixed is not None:
            mine &= ~frames.fixed
        pairs[species] = frames.forces[:, mine].ravel(), learned[:, mine].ravel()
    which = "that the fit has not seen"
    if seen is None:
        which = "; whether the fit has seen them is not known"
    caption = (
        f"Components of the forces in {frames.n_frames} frames {which}: learned against"
        f" {frames.origin.name}, brighter where there are more."
    ).replace(" ;", ";")
    return Comparison(drawings={"forces": Drawing(caption, plot_forces(pairs))})


def forces_of(loss: AgentLoss, frames: Trajectory) -> Floats:
    """Those of the loss [eV/Å], (F, N, 3)."""
    every = systems(topology_of(frames, loss.topology_kind), frames, loss.cutoff_A)
    return np.array([loss.evaluate(system).forces for system in every])


def seen_by_fit(loss: AgentLoss, reference: Trajectory) -> np.ndarray | None:
    """Which frames of the reference were fitted, (F,); None where that is not known.

    A fit leaves out frames at the beginning of its files alone, and so ends where they end.
    """
    provenance = loss.provenance
    source = provenance.get("source", {})
    sources = source.get("runs", [source])
    known = all({"sha256", "frames"} <= set(one) for one in sources)
    if not known or not {"blocks_train", "blocks_test"} <= set(provenance):
        return None
    seen = np.zeros(reference.n_frames, bool)
    n_blocks = 1 + max((*provenance["blocks_train"], *provenance["blocks_test"]))
    for one in sources:
        if one["sha256"] != reference.origin.sha256:
            continue
        later = reference.n_frames - one["frames"]
        for block in provenance["blocks_train"]:
            start, stop = block_range(block, one["frames"], n_blocks)
            seen[max(start + later, 0) : max(stop + later, 0)] = True
    return None if reference.origin.sha256 is None else seen
