"""What all frames sample of distances and densities: which sums a collective loss is made of, and
between what values the densities of its channels lie.

Both take a pass over the frames of their own, because one begins where the other ends: means are
needed before products are accumulated, ranges after channels are chosen.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations_with_replacement

import numpy as np

from mld_ff.geometry.histogram import Coverage, Histogram
from mld_ff.geometry.pairs import BIN_A
from mld_ff.geometry.system import systems
from mld_ff.geometry.topology import Topology
from mld_ff.inference.basis import Basis
from mld_ff.inference.charge_terms import charge_term, with_printed
from mld_ff.inference.dataset import Dataset
from mld_ff.inference.design import ChargeForm, DensityForm, Form
from mld_ff.inference.words import MOLECULES, PRINTED
from mld_ff.loss.densities import DensityTerm
from mld_ff.loss.model import AgentLoss
from mld_ff.trajectory import Floats, Trajectory

FADE = 0.05
"""The embedding of a channel becomes straight within this part of the sampled range of densities,
outside of it."""
DENSITY_BIN = 0.25
"""Of histograms of densities, whose standard deviation is about one."""

Distances = dict[tuple[str, str], Histogram]
"""Of all pairs, bonded or free, by their species in the order of the topology."""


def blank_forms(dataset: Dataset, basis: Basis) -> list[Form]:
    """The forms to accumulate: those of densities, about the means over all frames, and then that
    of charges."""
    forms: list[Form] = []
    if basis.has_densities:
        reach_A = basis.reach(dataset.half_width)
        seen: Distances = {}
        for _, distances in dataset.over_all("distances", _distances, reach_A):
            for pair, histogram in distances.items():
                seen.setdefault(pair, Histogram()).merge(histogram)
        for term in basis.sums(seen, dataset.half_width):
            forms.append(DensityForm.of(term, _means(term, seen, dataset)))
    topologies = dataset.topologies
    charges = charge_term(basis, topologies, dataset.half_width)
    if charges is None:
        return forms
    charges = replace(charges, slab=dataset.is_slab)
    asked = basis.charges_of(topologies[0])
    molecules = asked == MOLECULES
    if asked in PRINTED:
        charges = with_printed(charges, dataset.sources, topologies, asked)
    return [*forms, ChargeForm.of(charges, topologies, molecules)]


def _means(term: DensityTerm, seen: Distances, dataset: Dataset) -> Floats:
    """Of every sum (A,), from the distances of all frames."""
    if term.order:  # no direction is special
        return np.zeros(len(term.coefficients))
    (centre,) = term.species
    centres = sum(s.symbols.count(centre) * s.n_frames for s in dataset.sources)
    means = np.zeros(len(term.coefficients))
    for t, here in term.slices.items():
        counts = (seen.get((centre, t)) or seen[t, centre]).counts
        if t == centre:  # either of the two is the other's neighbour
            counts = 2 * counts
        r = BIN_A * (np.arange(len(counts), dtype=np.float64) + 0.5)
        means[here] = counts @ term.basis(t, r) / centres
    return means


def _distances(reach_A: float, topology: Topology, frames: Trajectory) -> Distances:
    species, index = topology.species, topology.species_index
    kinds = list(combinations_with_replacement(range(len(species)), 2))
    seen = {(species[a], species[b]): Histogram() for a, b in kinds}
    for system in systems(topology, frames, reach_A):
        pairs = system.within(reach_A)
        low = np.minimum(index[pairs.i], index[pairs.j])
        high = np.maximum(index[pairs.i], index[pairs.j])
        for a, b in kinds:
            seen[species[a], species[b]].add(pairs.r[(low == a) & (high == b)])
    return seen


def with_ranges(
    channels: Sequence[DensityTerm], dataset: Dataset, reach_A: float
) -> list[DensityTerm]:
    """Channels with the range of densities that the frames sampled.

    reach_A: that of the whole loss, as another reach gives pairs in another order, and sums that
    differ in the last digit: frames of the data would lie outside their own range.
    """
    loss = AgentLoss(dataset.topologies[0].species, tuple(channels))
    seen = {t.name: SeenDensities(t.rest) for t in channels}
    for _, densities in dataset.over_all("densities", _densities, (loss, reach_A)):
        for name, more in densities.items():
            seen[name].merge(more)
    return [seen[t.name].give_range(t) for t in channels]


@dataclass
class SeenDensities:
    """Densities of one channel that were seen."""

    rest: float
    lowest: float = math.inf
    highest: float = -math.inf
    bins: Counter[int] = field(default_factory=Counter)
    """Counts by bin; the first begins at `rest`."""

    def add(self, rho: Floats) -> None:
        self.lowest = min(self.lowest, float(rho.min()))
        self.highest = max(self.highest, float(rho.max()))
        bins = np.floor((rho - self.rest) / DENSITY_BIN).astype(int)
        places, counts = np.unique(bins, return_counts=True)
        self.bins.update(dict(zip(places.tolist(), counts.tolist(), strict=True)))

    def merge(self, other: SeenDensities) -> None:
        """Add what was seen elsewhere."""
        self.lowest, self.highest = min(self.lowest, other.lowest), max(self.highest, other.highest)
        self.bins.update(other.bins)

    def give_range(self, term: DensityTerm) -> DensityTerm:
        """The term with this range, and this coverage."""
        fade = FADE * (self.highest - self.lowest)
        ends = self.lowest, self.highest
        return replace(term, range=ends, fade=fade, coverage=self.to_dict())

    def to_dict(self) -> Coverage:
        first, last = min(self.bins), max(self.bins)
        return {
            "lowest": round(self.lowest, 6),
            "highest": round(self.highest, 6),
            "start": round(self.rest + first * DENSITY_BIN, 6),
            "width": DENSITY_BIN,
            "counts": [self.bins[k] for k in range(first, last + 1)],
        }


def _densities(
    shared: tuple[AgentLoss, float], topology: Topology, frames: Trajectory
) -> dict[str, SeenDensities]:
    """Of every channel in frames whose bonds hold."""
    loss, reach_A = shared
    seen = {t.name: SeenDensities(t.rest) for t in loss.channels}
    for system in systems(topology, frames, reach_A):
        if not system.changes:
            for name, rho in loss.densities(system).items():
                seen[name].add(rho)
    return seen
