"""Structure compared: distances, angles and hydrogen bonds of runs beside the reference."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mld_ff.geometry.topology import TopologyKind
from mld_ff.progress import Progress
from mld_ff.report.comparison import Comparison, Drawing, rounded
from mld_ff.report.plots import Band, plot_bonded, plot_radial_distributions
from mld_ff.report.statistics import spread
from mld_ff.report.structure import Structure, join_blocks, measure_blocks, structure_statistics
from mld_ff.report.style import REFERENCE, label_of
from mld_ff.survey import Inspection
from mld_ff.trajectory import Floats, Trajectory

FRAMES_FOR_STRUCTURE = 2000
"""Distances and angles are measured in at most this many frames, spread evenly: more would hardly
tell more.
"""
RAREST_ANGLES = 1e-4
"""This fraction of the angles at either end is not drawn."""
ANGLE_BINS = 60
BOND_BIN_A = 0.01


def compare_structure(
    frames: Mapping[str, Trajectory],
    cutoff_A: float | None,
    kind: TopologyKind,
    progress: Progress,
) -> Comparison:
    """Distances to the cutoff (None: the default for the reference's cell), angles, hydrogen
    bonds; without molecules coordination numbers instead of the latter.
    """
    comparison = Comparison()
    wholes: dict[str, Structure] = {}
    for done, (name, every) in enumerate(frames.items()):
        progress("structure", done, len(frames))
        some = spread(every, FRAMES_FOR_STRUCTURE)
        shells = wholes[REFERENCE].shells if wholes else None
        blocks = measure_blocks(some, cutoff_A, kind, shells)
        wholes[name] = join_blocks(blocks)
        reference = None if name == REFERENCE else wholes[REFERENCE].inspection
        comparison.statistics[name] = structure_statistics(blocks, reference)
        cutoff_A = wholes[REFERENCE].inspection.survey.cutoff_A
        _note(comparison, name, wholes[name].inspection, every.n_frames)
    progress("structure", len(frames), len(frames))
    inspections = {name: whole.inspection for name, whole in wholes.items()}
    _draw_radial_distributions(comparison, inspections)
    _draw_bonded(comparison, inspections)
    _draw_angles(comparison, {name: whole.angles for name, whole in wholes.items()})
    return comparison


def _note(comparison: Comparison, name: str, inspection: Inspection, n_frames: int) -> None:
    label = label_of(name)
    comparison.notes += [f"{label}: {warning}" for warning in inspection.warnings()]
    if inspection.frames < n_frames:
        comparison.notes.append(
            f"Distances and angles of {label} are those of {inspection.frames}"
            f" frames, spread evenly over {n_frames}."
        )


def _draw_radial_distributions(
    comparison: Comparison, inspections: Mapping[str, Inspection]
) -> None:
    free = [n for n in inspections[REFERENCE].survey.distances if not n.startswith("bonded:")]
    if not free:
        return
    figure = plot_radial_distributions(inspections)
    comparison.drawings["rdf"] = Drawing("Radial distribution functions.", figure)
    comparison.series["rdf"] = {
        name: {
            pair: rounded(inspection.radial_distribution(pair))
            for pair in free
            if pair in inspection.survey.distances
        }
        for name, inspection in inspections.items()
    }


def _draw_bonded(comparison: Comparison, inspections: Mapping[str, Inspection]) -> None:
    if (figure := plot_bonded(inspections)) is None:
        return
    comparison.drawings["bonded"] = Drawing("Distances inside molecules.", figure)
    comparison.series["bonded"] = {
        name: {
            pair: histogram.to_dict(BOND_BIN_A)
            for pair, histogram in inspection.survey.distances.items()
            if pair.startswith("bonded:")
        }
        for name, inspection in inspections.items()
    }


def _draw_angles(
    comparison: Comparison, angles: Mapping[str, Mapping[tuple[str, ...], Floats]]
) -> None:
    curves: dict[str, list[Band]] = {name: [] for name in angles}
    paths = [
        path for path in angles[REFERENCE] if all(path in of_run for of_run in angles.values())
    ]
    for path in paths:
        every = np.concatenate([of_run[path].ravel() for of_run in angles.values()])
        low, high = np.quantile(every, (RAREST_ANGLES, 1 - RAREST_ANGLES)).tolist()
        edges = np.linspace(low, high, ANGLE_BINS + 1)
        centres = (edges[1:] + edges[:-1]) / 2
        for name, of_run in angles.items():
            curves[name].append((centres, np.histogram(of_run[path], edges, density=True)[0]))
    if paths:
        titles = ["–".join(path) for path in paths]
        comparison.draw("angles", "Bond angles.", titles, curves, ("angle [°]", "density [1/°]"))
