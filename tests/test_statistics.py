"""Observables with their errors, against independent expectations."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from conftest import CUBE, frame_of, present, topology_of
from scipy.spatial import KDTree

from mld_ff.report.comparison import Compared
from mld_ff.report.diffusion import (
    diffusion_constant,
    mean_square_displacement,
    molecule_paths,
)
from mld_ff.report.observables import first_peak
from mld_ff.report.statistics import Statistic, mean
from mld_ff.report.structure import (
    Structure,
    join_blocks,
    measure_angles,
    measure_blocks,
    structure_statistics,
)
from mld_ff.survey import inspect, joined
from mld_ff.trajectory import Floats, Trajectory


def walk(frames: int, step: float, seed: int = 0, drift: float = 0.0) -> Trajectory:
    """A hundred sodium ions that walk at random and are wrapped into the box; `drift` moves all of
    them.
    """
    rng = np.random.default_rng(seed)
    steps = rng.normal(size=(frames, 100, 3)) * step + drift
    x = rng.uniform(0, 12, (100, 3)) + np.cumsum(steps, axis=0)
    first = frame_of(["Na"] * 100, x[0], CUBE)
    return replace(
        first,
        positions=x % 12,
        cell=np.repeat(first.cell, frames, axis=0),
        time=np.arange(0.0, 10.0 * frames, 10.0),
        step=20 * np.arange(frames),
    )


def test_diffusion_of_a_random_walk_across_boundaries() -> None:
    """D = step² / (2 interval); the drift of the box is no diffusion. The error is that of the mean
    of the ions.
    """
    constants = []
    for seed in range(4):
        frames = walk(2000, 0.1, seed, drift=0.05)
        (paths,) = molecule_paths(topology_of(frames), frames).values()
        constants.append(diffusion_constant(*mean_square_displacement(paths, 10.0, longest_ps=5.0)))
    true = 0.1**2 / (2 * 0.01)
    assert np.mean([d.value for d in constants]) == pytest.approx(true, rel=0.05)
    for d in constants:
        assert abs(d.value - true) < 4 * d.error < 0.4 * true


def test_no_diffusion_from_molecules_in_their_cages() -> None:
    frames = walk(60, 0.1)
    (paths,) = molecule_paths(topology_of(frames), frames).values()
    lag, msd = mean_square_displacement(paths, 10.0, longest_ps=0.15)
    assert (lag[-1], msd.shape) == (pytest.approx(0.15), (16, 100))
    assert np.isnan(diffusion_constant(lag, msd).value)


def test_angles_are_those_of_the_law_of_cosines(few: Trajectory) -> None:
    topology = topology_of(few[0])
    (degrees,) = measure_angles(topology, few[:2]).values()
    x, length = few.positions[1], few.cell[1, 0, 0]
    h1, h2 = topology.bonded["H", "O", "H"][5]
    (o,) = set(topology.neighbours[h1]) & set(topology.neighbours[h2])

    def distance(i: int, j: int) -> float:
        d = x[i] - x[j]
        return float(np.linalg.norm(d - length * np.round(d / length)))

    a, b, c = distance(h1, o), distance(h2, o), distance(h1, h2)
    assert degrees[1, 5] == pytest.approx(
        np.degrees(np.arccos((a**2 + b**2 - c**2) / (2 * a * b))), abs=0.01
    )


def test_first_peak_is_that_of_the_curve() -> None:
    r = np.arange(1, 6, 0.05)
    g = 1 + 1.8 * np.exp(-(((r - 2.78) / 0.15) ** 2)) + 0.3 * np.exp(-(((r - 4.5) / 0.4) ** 2))
    place, height = present(first_peak(r, g))
    assert place == pytest.approx(2.78, abs=0.005)
    assert height == pytest.approx(2.8, abs=0.02)
    assert first_peak(r, np.ones_like(r)) is None


def test_ideal_gas_has_no_structure() -> None:
    r, g = inspect(gas(100, 1), 5.0).radial_distribution("any:Na-Na")
    assert g[r > 1.5].mean() == pytest.approx(1, abs=0.01)


def test_statistics_of_water_have_the_short_names_and_errors(water: Trajectory) -> None:
    statistics = structure_statistics(measure_blocks(water[::8], 6.2))
    assert {"oh_mean_A", "oh_std_A", "hoh_mean_deg", "goo_peak_A", "goo_peak_height"} <= set(
        statistics
    )
    assert statistics["hoh_mean_deg"].value == pytest.approx(105.5, abs=0.3)
    assert all(s.error > 0 for s in statistics.values())
    assert (
        1.2 < statistics["hydrogen_bonds_per_molecule"].value < 2.0
    )  # every bond counted once, so at most two


def gas(frames: int, seed: int) -> Trajectory:
    """Atoms at random, but for frames in which two lie upon each other: those are refused."""
    rng = np.random.default_rng(seed)
    drawn: list[Floats] = []
    while len(drawn) < frames:
        positions = rng.uniform(0, 12, (100, 3))
        if not KDTree(positions, boxsize=12).query_pairs(0.1):
            drawn.append(positions)
    first = frame_of(["Na"] * 100, drawn[0], CUBE)
    return replace(
        first,
        positions=np.array(drawn),
        cell=np.repeat(first.cell, frames, axis=0),
        time=np.arange(float(frames)),
        step=np.arange(frames),
    )


def test_noise_of_a_radial_distribution_is_its_deviation_from_the_truth() -> None:
    """... which is 1 for an ideal gas. Another gas of infinite length would deviate as much from
    this reference.
    """
    told, true = [], []
    for seed in range(6):
        frames = gas(25, seed)
        blocks = measure_blocks(frames, 5.0)
        told.append(structure_statistics(blocks)["any:Na-Na mean_abs_dg"].value)
        r, g = join_blocks(blocks).inspection.radial_distribution("any:Na-Na")
        true.append(np.abs(g - 1)[r > 2].mean())
    assert np.mean(told) == pytest.approx(np.mean(true), rel=0.15)


def test_error_of_a_mean_from_blocks() -> None:
    """Of uncorrelated numbers it is that of their mean."""
    rng = np.random.default_rng(0)
    errors = [mean(rng.normal(300, 10, 1000)).error for _ in range(20)]
    assert np.mean(errors) == pytest.approx(10 / np.sqrt(1000), rel=0.2)


def test_too_short_a_run_has_no_errors_and_no_verdict(few: Trajectory) -> None:
    statistics = structure_statistics(measure_blocks(few[:5], 6.2))
    assert all(np.isnan(s.error) for s in statistics.values())
    assert np.isnan(mean(np.ones(5)).error)
    assert Compared(Statistic(1.0, np.nan), Statistic(1.0, 0.1)).within is None
    assert Compared(Statistic(1.0, 0.1), Statistic(1.2, 0.1)).within is True
    assert Compared(Statistic(1.0, 0.1), Statistic(1.3, 0.1)).within is False
    assert Compared(Statistic(1.0, 0.1), Statistic(1.3, 0.1), is_distance=True).within is True
    assert Compared(Statistic(1.3, 0.1), Statistic(1.0, 0.1), is_distance=True).within is False


def test_blocks_are_measured_once_and_joined_without_a_trace(water: Trajectory) -> None:
    """What five blocks joined tell is what all frames tell at once."""
    some = water[::20]
    expected, whole = inspect(some, 5.0), join_blocks(measure_blocks(some, 5.0)).inspection
    assert whole.frames == expected.frames and whole.time_fs == expected.time_fs
    assert (whole.volume, whole.density) == pytest.approx((expected.volume, expected.density))
    assert whole.warnings() == expected.warnings()
    for name, histogram in expected.survey.distances.items():
        counts = whole.survey.distances[name].counts
        assert np.array_equal(counts, histogram.counts)
        assert whole.survey.distances[name].mean == pytest.approx(histogram.mean)


def test_error_of_a_first_peak_is_its_scatter(water: Trajectory) -> None:
    """Of frames drawn at random: a maximum is higher in noisier curves, so that heights of blocks
    would not do.
    """
    rng = np.random.default_rng(0)
    values, errors = [], []
    single = [inspect(frame, 6.2) for frame in water[::8].chunks(1)]
    for _ in range(60):
        drawn = [single[k] for k in rng.integers(0, len(single), 60)]
        blocks = [
            Structure(joined(drawn[first : first + 12]), {}, np.zeros(0))
            for first in range(0, 60, 12)
        ]
        peak = structure_statistics(blocks)["goo_peak_A"]
        values.append(peak.value)
        errors.append(peak.error)
    assert np.sqrt(np.mean(np.square(errors))) == pytest.approx(np.std(values), rel=0.4)
