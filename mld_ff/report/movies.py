"""Frames to look at: the reference and the runs at the same times, beside each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from ase import Atoms
from ase.visualize.plot import plot_atoms
from matplotlib.figure import Figure

from mld_ff.geometry.topology import Topology, topology_of
from mld_ff.loss.model import AgentLoss
from mld_ff.report.comparison import Comparison, Drawing
from mld_ff.report.forces import forces_of
from mld_ff.report.structure import LEAST_ANGLE_DEG, LONGEST_BOND_A, donors, find_hydrogen_bonds
from mld_ff.report.style import REFERENCE, label_of, panels
from mld_ff.trajectory import Floats, Ints, Trajectory
from mld_ff.units import EV_TO_MEV, FS_TO_PS

FRAMES = "frames"
"""The figure of the first ones."""
FRAMES_SHOWN = 40
ATOMS_SHOWN = 12_000
"""Of all frames of a trajectory together: 0.3 MB of the page, and larger boxes show fewer."""


@dataclass(frozen=True)
class Movie:
    """Some frames of one trajectory, molecules whole and in the box."""

    frames: Trajectory
    hydrogen_bonds: Ints
    """Frame, hydrogen and acceptor, (B, 3)."""
    force_error: Floats | None = None
    """How far the loss is from the reference's forces on each atom [eV/Å], (F, N)."""


def compare_frames(
    loss: AgentLoss, trajectories: Mapping[str, Trajectory], is_dynamics: bool
) -> Comparison:
    """Movies of all trajectories, with what every frame of them says: a point each to pick."""
    frames = _at_same_times(trajectories, is_dynamics)
    comparison = Comparison()
    topology = topology_of(frames[REFERENCE], loss.topology_kind)
    for name, some in frames.items():
        own = topology_of(some, loss.topology_kind)
        pairs = zip(some.positions, some.cell, strict=True)
        inside = replace(some, positions=np.array([own.whole(x, cell) for x, cell in pairs]))
        error = None
        if name == REFERENCE and some.forces is not None:
            error = np.linalg.norm(forces_of(loss, some) - some.forces, axis=2)
        bonds = find_hydrogen_bonds(own, inside)
        comparison.movies[name] = Movie(inside, bonds, error)
    caption = "The first of the frames compared, seen along the third vector of the cell."
    comparison.drawings[FRAMES] = Drawing(caption, _plot_first(comparison.movies))
    what = "time [ps]" if is_dynamics else "frame"
    x = {
        name: (some.time - some.time[0]) * FS_TO_PS
        if is_dynamics
        else np.arange(some.n_frames, dtype=float)
        for name, some in frames.items()
    }
    _draw_hydrogen_bonds(comparison, topology, x, what)
    error = comparison.movies[REFERENCE].force_error
    if error is not None:
        _draw_errors(comparison, (x[REFERENCE], error), frames[REFERENCE].origin.name, what)
    return comparison


def _plot_first(movies: Mapping[str, Movie]) -> Figure:
    figure, axes = panels(len(movies))
    for axis, (name, movie) in zip(axes, movies.items(), strict=True):
        frames = movie.frames
        atoms = Atoms(frames.symbols, frames.positions[0], cell=frames.cell[0], pbc=True)
        plot_atoms(atoms, axis, radii=0.4)
        axis.set(title=label_of(name), xticks=[], yticks=[])
    return figure


def _draw_hydrogen_bonds(
    comparison: Comparison, topology: Topology, x: Mapping[str, Floats], what: str
) -> None:
    if not donors(topology):
        return
    curves = {}
    for name, movie in comparison.movies.items():
        counts = np.bincount(movie.hydrogen_bonds[:, 0], minlength=movie.frames.n_frames)
        curves[name] = [(x[name], counts / len(topology.molecules))]
    comparison.draw(
        "hydrogen_bonds",
        f"Hydrogen bonds in the frames shown above (donor–acceptor below {LONGEST_BOND_A:g} Å,"
        f" angle at the hydrogen above {LEAST_ANGLE_DEG:g}°). Pick a point to see its frame.",
        ["hydrogen bonds per molecule"],
        curves,
        (what, "per molecule"),
        points=set(curves),
        picker=True,
    )


def _draw_errors(
    comparison: Comparison, curve: tuple[Floats, Floats], reference: str, what: str
) -> None:
    x, error = curve
    comparison.draw(
        "force_error",
        f"Error of the learned forces in {reference}'s frames shown above, seen by the fit or not."
        " Pick a point to see its frame; colour its atoms by their errors.",
        ["error of forces"],
        {REFERENCE: [(x, EV_TO_MEV * np.sqrt((error**2).mean(axis=1) / 3))]},
        (what, "RMSE [meV/Å]"),
        points={REFERENCE},
        picker=True,
    )


def _at_same_times(
    trajectories: Mapping[str, Trajectory], is_dynamics: bool
) -> dict[str, Trajectory]:
    """As many frames of each, spread over what all last, or over all where there are no times."""
    n_atoms = max(t.n_atoms for t in trajectories.values())
    fewest = min(t.n_frames for t in trajectories.values())
    n = min(FRAMES_SHOWN, max(ATOMS_SHOWN // n_atoms, 1), fewest)
    if not is_dynamics:
        return {
            name: t[np.linspace(0, t.n_frames - 1, n).round().astype(int)]
            for name, t in trajectories.items()
        }
    last = min(float(t.time[-1] - t.time[0]) for t in trajectories.values())
    return {
        name: t[np.abs(t.time[:, None] - t.time[0] - np.linspace(0, last, n)).argmin(axis=0)]
        for name, t in trajectories.items()
    }
