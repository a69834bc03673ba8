"""A system: its pairs are searched once, whoever asks, and are those of all images."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from conftest import CUBE, TRICLINIC, liquid, topology_of
from hypothesis import given, settings
from hypothesis import strategies as st

from mld_ff.geometry import system as module
from mld_ff.geometry.pairs import Pairs, neighbour_pairs
from mld_ff.geometry.system import System, systems
from mld_ff.inference import Basis, Dataset, accumulate
from mld_ff.inference.errors import measure
from mld_ff.inference.sampling import blank_forms, with_ranges
from mld_ff.loss.model import AgentLoss
from mld_ff.survey import inspect
from mld_ff.trajectory import Trajectory
from mld_ff.workflows.matching.averages import Averages


class Counted:
    """Counts the searches for pairs."""

    def __init__(self) -> None:
        self.number = 0

    def per_frame(self, frames: Trajectory) -> float:
        """Since the last time."""
        number, self.number = self.number, 0
        return number / frames.n_frames


@pytest.fixture
def searches(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counted]:
    counted = Counted()

    def search(*arguments: Any) -> Pairs:
        counted.number += 1
        return neighbour_pairs(*arguments)

    monkeypatch.setattr(module, "neighbour_pairs", search)
    yield counted


def test_every_pass_searches_each_frame_once(
    few: Trajectory, collective_water: AgentLoss, searches: Counted
) -> None:
    """Sums and coverage of a fit, changes of bonds, densities, energies, virial, a survey."""
    few, basis = few[:12], Basis(collective=2)
    dataset = Dataset.of(few)
    assert dataset.topologies[0].bonded and searches.per_frame(few) == 1  # who keeps partners
    sums = blank_forms(dataset, basis)
    assert searches.per_frame(few) == 1
    data = accumulate(dataset, basis.terms, forms=sums)
    assert searches.per_frame(few) == 1
    with_ranges(collective_water.channels, dataset, collective_water.cutoff_A)
    assert searches.per_frame(few) == 1
    measure(dataset, collective_water, range(dataset.n_blocks))
    assert searches.per_frame(few) == 1
    topology = topology_of(few[0])
    Averages.of(collective_water, few, topology, pressure=True)
    assert searches.per_frame(few) == 1
    inspect(few, topology=topology)
    assert searches.per_frame(few) == 1
    for system in systems(topology, few, max(data.reach_A, collective_water.cutoff_A)):
        assert not system.changes
        collective_water.escapes(system)
        collective_water.evaluate(system)
        collective_water.densities(system)
        data.design(system)
    assert searches.per_frame(few) == 1


@settings(max_examples=40)
@given(st.floats(0.5, 6.0), st.integers(0, 20), st.booleans())
def test_pairs_are_those_of_a_search_of_their_own(cutoff: float, seed: int, cubic: bool) -> None:
    frame = liquid(["H2O"] * 6 + ["CH3OH"] * 2, CUBE if cubic else TRICLINIC, seed=seed)
    system = System(topology_of(frame), frame.positions[0], frame.cell[0], 6.0)
    expected = neighbour_pairs(frame.positions[0], frame.cell[0], cutoff)
    inside = system.within(cutoff)
    assert np.sort(inside.r) == pytest.approx(np.sort(expected.r))
    free = sum(len(pairs.r) for name, pairs in system.pairs(cutoff) if name.startswith("free:"))
    bonded = system.topology.is_bonded(expected.i, expected.j)
    assert free == (~bonded).sum()


def test_beyond_its_reach_nothing_is_known(few: Trajectory) -> None:
    (system,) = systems(topology_of(few[0]), few[0], 3.0)
    with pytest.raises(ValueError, match=r"pairs are known to 3 Å; asked for 4 Å"):
        system.within(4.0)
