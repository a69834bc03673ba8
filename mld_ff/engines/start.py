"""The frame that exported files start from, as engines want it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from mld_ff.engines.residues import to_parmed
from mld_ff.geometry.pairs import check_cutoff
from mld_ff.geometry.slabs import VACUUM_A, check_vacuum, gaps, in_one_piece
from mld_ff.geometry.topology import Topology, TopologyKind, topology_of
from mld_ff.loss.model import AgentLoss
from mld_ff.policy import objections, refuse
from mld_ff.trajectory import Floats, Ints, Trajectory
from mld_ff.units import AMU_A2_PER_FS2_TO_EV, KB_EV_PER_K

if TYPE_CHECKING:
    import parmed


@dataclass(frozen=True)
class Start:
    """One frame with its topology: atoms grouped by molecule, molecules whole, cell reduced, slabs
    in the middle of their cell, velocities given.
    """

    topology: Topology
    frame: Trajectory
    """One frame; velocities are never None."""
    order: Ints
    """Index in the source of every atom here, (N,)."""
    force: bool = False
    """Whether what the policy refuses is a warning in the files that are made."""

    def engine_frames(self, frames: Trajectory) -> Trajectory:
        """Frames of the same source in the form of `frame`: order of atoms, cell, whole
        molecules, place of a slab.
        """
        return _engine_form(frames, self.order, self.topology)

    def check(self, loss: AgentLoss) -> list[str]:
        """What the policy has against it, if that is a warning, and what vacuum means for charges.
        Raises InputError unless the model
        covers the system, which its charges leave neutral, with a vacuum if they are those of a
        slab, its cutoff fits into the cell and the policy has nothing against it.
        """
        loss.terms_of(self.topology)
        if loss.charges:
            loss.charges.of_atoms(self.topology)
            if loss.charges.slab:
                check_vacuum(
                    self.frame.positions[0],
                    self.frame.cell[0],
                    "give such a box, or fit charges to data that are periodic along c",
                )
        if loss.cutoff_A:
            check_cutoff(loss.cutoff_A, self.frame.half_width)
        warnings = objections(loss, self.topology, self.frame)
        refuse(warnings, self.force)
        of_images = loss.charges and not loss.charges.slab
        return warnings + (_of_vacuum(self.frame) if of_images else [])

    @property
    def has_vacuum(self) -> bool:
        """Whether it is a slab, a wire or a cluster."""
        return bool(gaps(self.frame.positions[0], self.frame.cell[0])[0].max() > VACUUM_A)

    @property
    def structure(self) -> parmed.Structure:
        """ParmEd Structure of the frame."""
        assert self.frame.velocities is not None
        frame = self.frame
        return to_parmed(
            self.topology, frame.positions[0], frame.cell[0], frame.masses, self.frame.velocities[0]
        )

    def charged(self, loss: AgentLoss) -> parmed.Structure:
        """`structure`, whose atoms have the model's charges. Raises InputError as `check` does."""
        self.check(loss)
        structure = self.structure
        if loss.charges:
            for atom, charge in zip(structure, loss.charges.of_atoms(self.topology), strict=True):
                atom.charge = float(charge)
        return structure


def start_from(
    frame: Trajectory,
    temperature_K: float = 300.0,
    seed: int = 1,
    topology: TopologyKind | None = None,
    force: bool = False,
) -> Start:
    """Bring one frame of any source into the form that engines want.

    Velocities are drawn from the Maxwell–Boltzmann distribution at `temperature_K` where the frame
    has none; their centre of mass is set at rest. topology: that of the model
    (`AgentLoss.topology_kind`), None to find out from the frame.
    """
    in_source = topology_of(frame, topology)
    order = in_source.molecule_order
    own = in_source.select(order)
    frame = _engine_form(frame, order, own)
    velocities = frame.velocities
    if velocities is None:
        velocities = _maxwell_boltzmann(frame.masses, temperature_K, seed)[None]
    at_rest = (
        velocities - np.einsum("fpc,p->fc", velocities, frame.masses)[:, None] / frame.masses.sum()
    )
    return Start(own, replace(frame, velocities=at_rest), order, force)


def _of_vacuum(frame: Trajectory) -> list[str]:
    """What to know of charges in slabs, wires or clusters: engines sum over all images."""
    thick, _ = gaps(frame.positions[0], frame.cell[0])
    wide = [f"{d:.0f} Å along {x}" for x, d in zip("abc", thick, strict=True) if d > VACUUM_A]
    if not wide:
        return []
    return [
        f"there is a vacuum of {' and '.join(wide)}, and charges act on their images across it, as"
        " in the fit, which sums over all three dimensions but for slabs along c that CP2K computed"
        " with PERIODIC XY or SURFACE_DIPOLE_CORRECTION"
    ]


def _engine_form(frames: Trajectory, order: Ints, topology: Topology) -> Trajectory:
    frames = frames.select_atoms(order).standard_cell()
    placed = [_placed(topology, p, c) for p, c in zip(frames.positions, frames.cell, strict=True)]
    return replace(frames, positions=np.array(placed))


def _placed(topology: Topology, positions: Floats, cell: Floats) -> Floats:
    """With whole molecules; a slab in the middle of its cell, as GPUs wrap ions into that."""
    thick, _ = gaps(positions, cell)
    if thick[2] <= VACUUM_A:
        return topology.whole(positions, cell)
    return in_one_piece(topology, positions, cell)


def _maxwell_boltzmann(masses: Floats, temperature_K: float, seed: int) -> Floats:
    """Velocities (N, 3) [Å/fs] of masses (N,) [amu]."""
    width = np.sqrt(KB_EV_PER_K * temperature_K / (masses * AMU_A2_PER_FS2_TO_EV))
    return np.asarray(np.random.default_rng(seed).normal(size=(len(masses), 3)) * width[:, None])
