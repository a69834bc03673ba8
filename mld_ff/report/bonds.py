"""Bonds against time: their mean and deviation, and single ones from a common start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mld_ff.geometry.pairs import minimum_image
from mld_ff.geometry.topology import Topology, TopologyKind, topology_of
from mld_ff.report.comparison import Comparison
from mld_ff.report.plots import Band
from mld_ff.report.runs import LearnedRun
from mld_ff.report.spectrum import longest_stride
from mld_ff.report.style import REFERENCE, label_of
from mld_ff.trajectory import Floats, Ints, Trajectory
from mld_ff.units import FS_TO_PS

RANDOM_HYDROGENS = 4
SAME_START_FS = 200.0
FEWEST_AFTER_START = 10
"""The reference must hold this many frames from the common start on."""


def compare_bonds(frames: Mapping[str, Trajectory], kind: TopologyKind) -> Comparison:
    """Mean and deviation of O–H bonds (of another kind, where there are none) against time."""
    comparison = Comparison()
    first = frames[REFERENCE]
    topology = topology_of(first, kind)
    kinds = [path for path in topology.bonded if len(path) == 2]
    if not kinds:
        return comparison
    shown = ("O", "H") if ("O", "H") in kinds else kinds[-1]
    common = min(float(t.time[-1] - t.time[0]) for t in frames.values())
    curves: dict[str, list[Band]] = {}
    for name, every in frames.items():
        t = every[every.time - every.time[0] <= common]
        pairs = topology_of(t, kind).bonded[shown]
        r = _lengths(t, pairs)
        time = (t.time - t.time[0]) * FS_TO_PS
        curves[name] = [(time, r.mean(axis=1)), (time, r.std(axis=1))]
    bond = "–".join(shown)
    comparison.draw(
        "bond_in_time",
        f"Mean and deviation of all {bond} bonds against time (thin) and their running means"
        " (thick).",
        [f"mean {bond}", f"deviation of {bond}"],
        curves,
        ("time [ps]", "[Å]"),
        running_mean=True,
        ls="-",
    )
    return comparison


@dataclass(frozen=True)
class _Stretch:
    """A trajectory from the common start on."""

    frames: Trajectory
    pairs: Ints
    """The atoms of the bonds followed, (B, 2)."""
    start_fs: float
    """Time of the start; the first frame may come later."""

    @property
    def duration_fs(self) -> float:
        return float(self.frames.time[-1]) - self.start_fs

    def curves(self, end_fs: float) -> list[Band]:
        """Length of every bond over time [ps]."""
        time_fs = self.frames.time - self.start_fs
        within = time_fs <= end_fs
        lengths = _lengths(self.frames[within], self.pairs)
        return [(time_fs[within] * FS_TO_PS, of_bond) for of_bond in lengths.T]


def compare_same_start(
    reference: Trajectory, runs: Sequence[LearnedRun], kind: TopologyKind, seed: int = 1
) -> Comparison:
    """The paper's figure 5: bonds to hydrogens drawn at random, all runs from the same positions
    and velocities as the reference.
    """
    comparison = Comparison()
    starts = {run.name: _start(reference, run) for run in runs}
    began = next((row for row in starts.values() if row is not None), None)
    chosen = [run for run in runs if began is not None and starts[run.name] == began]
    if left_out := [run for run in runs if run not in chosen]:
        comparison.notes.append(_why_left_out(left_out, len(runs)))
    topology = topology_of(reference, kind)
    pairs = _random_hydrogens(topology, seed)
    if began is None or not len(pairs):
        return comparison
    after = reference[began:]
    stretches = {REFERENCE: _Stretch(after, pairs, float(after.time[0]))}
    for run in chosen:
        place = np.argsort(run.atom_in_source)
        stretches[run.name] = _Stretch(run.frames, np.asarray(place[pairs]), 0.0)
    resolved_fs = longest_stride(after, max(run.settings.temperature_K for run in chosen))
    titles = [f"{topology.symbols[x]}{x + 1}–H{h + 1}" for h, x in pairs.tolist()]
    _draw_same_start(comparison, stretches, titles, resolved_fs)
    return comparison


def _start(reference: Trajectory, run: LearnedRun) -> int | None:
    """Which frame of the reference the run began with; None if it did not, or too few follow."""
    rows = np.flatnonzero(reference.step == run.start_step)
    same_files = run.start_sha256 == reference.origin.sha256
    if not same_files or not len(rows) or reference.n_frames - rows[0] < FEWEST_AFTER_START:
        return None
    return int(rows[0])


def _why_left_out(runs: Sequence[LearnedRun], n_runs: int) -> str:
    if len(runs) < n_runs:
        names = " and ".join(label_of(run.name) for run in runs)
        return f"Bonds from the same start are those of runs that began together, without {names}."
    who = "the learned run" if n_runs == 1 else "learned runs"
    return (
        f"Bonds from the same start are left out: {who} did not start from a frame of"
        " this reference with frames after it (start one with `mld-ff run … --cp2k … --frame"
        " 0`)."
    )


def _random_hydrogens(topology: Topology, seed: int) -> Ints:
    """Bonds (B, 2) of hydrogens drawn at random: hydrogen, and what it is bonded to."""
    bonds = [
        (h, topology.neighbours[h][0])
        for h, s in enumerate(topology.symbols)
        if s == "H" and topology.neighbours[h]
    ]
    if not bonds:
        return np.zeros((0, 2), np.int64)
    number = min(RANDOM_HYDROGENS, len(bonds))
    drawn = np.random.default_rng(seed).choice(len(bonds), number, replace=False)
    return np.array([bonds[k] for k in drawn])


def _draw_same_start(
    comparison: Comparison,
    stretches: Mapping[str, _Stretch],
    titles: Sequence[str],
    resolved_fs: float,
) -> None:
    """resolved_fs: frames further apart than this do not resolve the vibration."""
    caption = (
        f"Bonds of {len(titles)} hydrogens drawn at random, from the same positions and velocities."
    )
    coarse = {
        name
        for name, stretch in stretches.items()
        if float(np.diff(stretch.frames.time).mean()) > resolved_fs
    }
    if coarse:
        caption += (
            f" Points where frames are further apart than the {resolved_fs:.1f} fs that the"
            " vibration asks for: lines between them would be wrong."
        )
    end_fs = min(SAME_START_FS, *(stretch.duration_fs for stretch in stretches.values()))
    curves = {name: stretch.curves(end_fs) for name, stretch in stretches.items()}
    axes = ("time [ps]", "r [Å]")
    comparison.draw("same_start", caption, titles, curves, axes, points=coarse, ls="-", lw=1.0)


def _lengths(frames: Trajectory, pairs: Ints) -> Floats:
    """Distances (F, P) [Å] of pairs (P, 2), nearest images."""
    each = [
        minimum_image(x, cell, pairs).r
        for x, cell in zip(frames.positions, frames.cell, strict=True)
    ]
    return np.array(each)
