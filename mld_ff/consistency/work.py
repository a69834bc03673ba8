"""The work that forces do from frame to frame, along a path on which molecules turn.

Along the straight line between two frames a bond that turns by an angle θ is shortened on its
way: a stiff one then takes (1 − cos θ) times its force times its length for work, in a gas of N₂
every 50 fs 25 times what the energy changes by. So the path is that of a molecule's centre, of its
rotation as a rigid body (Kabsch, Acta Cryst. A 32, 922 (1976)), and of what is left as seen by the
molecule.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial.transform import Rotation

from mld_ff.errors import InputError
from mld_ff.geometry.motion import displacements
from mld_ff.geometry.topology import Topology, topology_of
from mld_ff.trajectory import Floats, Ints, Trajectory

UPRIGHT = 1e-3
"""Weight of no rotation at all: linear molecules have an angle that their atoms do not tell."""


@dataclass(frozen=True)
class _Turn:
    """Of M molecules of n atoms, from every one of F frames to another, W of them. Single atoms are
    moved and no more."""

    atoms: Ints
    """(M, n)."""
    moved: Floats
    """Their centres [Å], (W, M, 3)."""
    rotation: Floats
    """Matrices that take rows of the first frame to those of the other, (W, M, 3, 3)."""
    angle: Floats
    """The same as axes times angles, (W, M, 3)."""
    around: Floats
    """Positions around centres in all frames [Å], (F, M, n, 3)."""
    bent: Floats
    """What is left of the motion once it is turned back [Å], (W, M, n, 3)."""


class Path:
    """Of all atoms from every frame to the one `step` later."""

    def __init__(self, frames: Trajectory, topology: Topology, step: int = 1) -> None:
        """Of F frames in one cell. topology: bonds that last."""
        self.step = step
        whole = topology.whole(frames.positions, frames.cell)
        self._turns = [_turn(frames, whole, atoms, step) for atoms in _alike(topology)]

    def work(self, forces: Floats) -> Floats:
        """By the trapezoidal rule [eV], (F - step,). forces: of every frame, (F, N, 3)."""
        return np.asarray(sum(self._of(turn, forces[:, turn.atoms]) for turn in self._turns))

    def _of(self, turn: _Turn, forces: Floats) -> Floats:
        first, last = slice(None, -self.step), slice(self.step, None)
        net = forces.sum(axis=2)
        work = np.einsum("wmc,wmc->w", net[first] + net[last], turn.moved)
        if turn.atoms.shape[1] > 1:
            torque = np.cross(turn.around, forces).sum(axis=2)
            back = np.einsum("wmnc,wmdc->wmnd", forces[last], turn.rotation)
            work += np.einsum("wmc,wmc->w", torque[first] + torque[last], turn.angle)
            work += np.einsum("wmnc,wmnc->w", forces[first] + back, turn.bent)
        return np.asarray(-work / 2)


def bonds_of(frames: Trajectory) -> Topology:
    """Of the first frame. Raises InputError, which names its step, for atoms that coincide."""
    try:
        return topology_of(frames)
    except InputError as error:
        raise InputError(f"step {frames.step[0]}: {error}") from None


def lasting_bonds_of(frames: Trajectory) -> Topology:
    """Those of the first frame that no later one breaks: a proton that is handed on is an atom of
    its own. All frames have one cell.
    """
    topology = bonds_of(frames)
    i, j = topology.bonds.T
    along = (frames.positions[:, j] - frames.positions[:, i]) @ np.linalg.inv(frames.cell[0])
    lengths = np.linalg.norm((along - np.round(along)) @ frames.cell[0], axis=2)
    lasts = (lengths < topology.breaking_lengths_A).all(axis=0)
    return replace(topology, bonds=topology.bonds[lasts])


def _alike(topology: Topology) -> Iterator[Ints]:
    """Atoms of molecules, (M, n), by their number of atoms."""
    for size in sorted({len(atoms) for atoms in topology.molecules}):
        yield np.array([atoms for atoms in topology.molecules if len(atoms) == size])


def _turn(frames: Trajectory, whole: Floats, atoms: Ints, step: int) -> _Turn:
    masses = frames.masses[atoms][..., None]
    own = whole[:, atoms]
    centre = (masses * own).sum(axis=2) / masses.sum(axis=1)
    moves = displacements(centre, frames.cell)
    moved = np.asarray(sum(moves[k : len(moves) - step + 1 + k] for k in range(step)))
    if atoms.shape[1] == 1:  # nothing turns, and 1,440 ions took 80 % of the time
        nothing = np.empty(0)
        return _Turn(atoms, moved, nothing, nothing, nothing, nothing)
    around = own - centre[:, :, None]
    first, last = around[:-step], around[step:]
    rotation = _rotations(first, last, masses)
    bent = np.einsum("wmnc,wmdc->wmnd", last, rotation) - first
    return _Turn(atoms, moved, rotation, _angles(rotation), around, bent)


def _rotations(first: Floats, last: Floats, masses: Floats) -> Floats:
    """That bring `first` nearest to `last`, (W, M, n, 3), by least squares with masses."""
    product = np.einsum("wmnc,wmnd->wmcd", masses * first, last)
    size = np.sqrt(
        np.einsum("wmnc,wmnc->wm", masses * first, first)
        * np.einsum("wmnc,wmnc->wm", masses * last, last)
    )
    left, _, right = np.linalg.svd(product + UPRIGHT * size[..., None, None] * np.eye(3))
    left[..., 2] *= np.sign(np.linalg.det(left @ right))[..., None]
    return np.asarray(left @ right)


def _angles(rotation: Floats) -> Floats:
    """Axes times angles of matrices that act on rows."""
    columns = np.swapaxes(rotation, -1, -2).reshape(-1, 3, 3)
    return np.asarray(Rotation.from_matrix(columns).as_rotvec()).reshape(*rotation.shape[:-1])
