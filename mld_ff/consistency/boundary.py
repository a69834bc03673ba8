"""Whether the cell is that of the positions: atoms that face each other through a face of the cell
are as far apart as those within, those that leave by one come back at the other, and no face is
empty.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mld_ff.consistency.work import bonds_of
from mld_ff.geometry.pairs import Pairs, neighbour_pairs
from mld_ff.geometry.topology import Topology
from mld_ff.trajectory import Floats, Ints, Trajectory

REACH_A = 4.0
"""Nearest neighbours are sought to here."""
SHELL = 1.25
"""The first shell of neighbours is within so many times the usual distance of the nearest."""
SURE = 4.0
"""Standard deviations."""
LEAST_A = 0.05
"""Shorter errors of a cell vector are never told: nearest neighbours on both sides of a face are
not quite those within."""
FEW = 10
"""Neighbours through a plane, of a frame: others may be the same once more. A gas has fewer."""
CHANCE = 8.0
"""Decimal logarithm of the odds against."""
LEAST_FEWER = 0.25
"""Fraction of neighbours through a plane that faces must lack."""
SURFACE_A = 4.0
"""Empty: a surface."""
PLANES_APART_A = 1.2
"""Along a vector planes of a crystal are farther apart than this, and may leave a gap between
layers; those of a liquid are not."""
PLANES = np.linspace(0.25, 0.75, 9)
"""Along a cell vector, in fractions of it: those near faces lack the neighbours beyond."""


@dataclass(frozen=True)
class _Neighbours:
    """M neighbours of the first shells of a frame that are not bonded."""

    farther: Floats
    """Than is usual for their kind [Å], (M,)."""
    first: Floats
    """Fractional coordinates as they are given, (M, 3)."""
    second: Floats
    images: Floats
    """Of the second, in cell vectors, (M, 3)."""
    along: Floats
    """Components of their direction along the cell vectors, (M, 3)."""
    r: Floats
    """[Å], (M,)."""
    kind: Ints
    """By the two species, (M,)."""
    number: Ints
    """That tells pairs of atoms apart, (M,)."""

    def through_face(self, a: int) -> tuple[Floats, Floats]:
        """Of neighbours on both sides of a face: component along the vector, and `farther`."""
        own = self.images[:, a] != 0
        return (self.along * self.images)[own, a], self.farther[own]

    def through_plane(self, a: int, at: float) -> tuple[Floats, Floats]:
        """Of those on both sides of a plane within the cell."""
        sides = np.floor(self.second[:, a] - at) - np.floor(self.first[:, a] - at)
        own = (self.images[:, a] == 0) & (sides != 0)
        return (self.along[:, a] * sides)[own], self.farther[own]


@dataclass(frozen=True)
class Boundary:
    """What the positions say of the cell."""

    errors_A: tuple[float, float, float]
    """By how much each of its vectors is too long; 0 where they say nothing against it."""
    lengths_A: tuple[float, float, float]
    gaps_A: tuple[float, float, float]
    """Empty at the faces that each leads through, beyond what is empty elsewhere."""
    unchecked: tuple[str, ...]
    """Why one of them cannot be told, a sentence each."""


def look_at(frames: Sequence[Trajectory]) -> Boundary:
    """Of single frames or stretches of a trajectory, in their order."""
    first = frames[0]
    gaps, within = _gaps(first.positions[0], first.cell[0])
    seen = [_neighbours(frame) for frame in frames]
    lengths = np.linalg.norm(first.cell[0], axis=1)
    errors, unchecked = [0.0, 0.0, 0.0], []
    for a, name in enumerate("abc"):
        is_surface = gaps[a] >= SURFACE_A or (gaps[a] > 1 and within[a] > PLANES_APART_A)
        jumped, beyond = _jumps(frames, a), _beyond_faces(seen, a)
        if jumped or (beyond is not None and not is_surface):
            errors[a] = jumped or beyond or 0.0
        else:
            empty = f": {gaps[a]:.1f} Å of it are empty" if gaps[a] > 1 else ""
            unchecked.append(
                f"{name} = {lengths[a]:.4g} Å (hardly any atoms face each other along it{empty})"
            )
    e, n = errors, lengths.tolist()
    return Boundary((e[0], e[1], e[2]), (n[0], n[1], n[2]), gaps, tuple(unchecked))


def _gaps(
    positions: Floats, cell: Floats
) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """[Å] Along every cell vector: the longest stretch without atoms, less the next one, and the
    next one."""
    fractional = np.sort((positions @ np.linalg.inv(cell)) % 1.0, axis=0)
    around = np.diff(np.concatenate([fractional, fractional[:1] + 1]), axis=0)
    longest = np.sort(around, axis=0)[::-1]
    lengths = np.linalg.norm(cell, axis=1)
    second = longest[1] * lengths if len(longest) > 1 else np.zeros(3)
    a, b, c = (longest[0] * lengths - second).tolist()
    next_a, next_b, next_c = second.tolist()
    return (a, b, c), (next_a, next_b, next_c)


def _neighbours(frame: Trajectory) -> _Neighbours:
    x, cell = frame.positions[0], frame.cell[0]
    topology = bonds_of(frame)
    pairs = neighbour_pairs(x, cell, min(REACH_A, frame.half_width))
    pairs = pairs[~topology.is_bonded(pairs.i, pairs.j)]
    kind, farther = _kinds(topology, pairs), np.full(len(pairs.r), np.nan)
    for one in np.unique(kind):
        own = kind == one
        first = own & (pairs.r < SHELL * _usual_distance(pairs[own]))
        farther[first] = pairs.r[first] - pairs.r[first].mean()
    near = np.isfinite(farther)
    pairs = pairs[near]
    inverse = np.linalg.inv(cell)
    axes = cell / np.linalg.norm(cell, axis=1)[:, None]
    return _Neighbours(
        farther[near],
        x[pairs.i] @ inverse,
        x[pairs.j] @ inverse,
        np.round((pairs.vector - (x[pairs.j] - x[pairs.i])) @ inverse),
        pairs.unit @ axes.T,
        pairs.r,
        kind[near],
        pairs.i * frame.n_atoms + pairs.j,
    )


def _kinds(topology: Topology, pairs: Pairs) -> Ints:
    two = np.sort([topology.species_index[pairs.i], topology.species_index[pairs.j]], axis=0)
    return np.asarray(two[0] * len(topology.species) + two[1])


def _usual_distance(pairs: Pairs) -> float:
    """Median over atoms of the distance of the nearest neighbour."""
    nearest = np.full(int(max(pairs.i.max(), pairs.j.max())) + 1, np.inf)
    np.minimum.at(nearest, pairs.i, pairs.r)
    np.minimum.at(nearest, pairs.j, pairs.r)
    return float(np.median(nearest[np.isfinite(nearest)]))


def _beyond_faces(seen: Sequence[_Neighbours], a: int) -> float | None:
    """By how much a cell vector is too long [Å], by neighbours through its faces and through planes
    anywhere else: they are farther from each other, or fewer. 0 where they say nothing against it;
    None where there are too few of them.

    A crystal has longer bonds through some planes than through others, a liquid has not: the planes
    tell by how much faces may differ, and so does their number in a frame (in eight frames of 1 ps
    a face lacked 32 % of the pairs of CO₂, 27 % of those of benzene; planes differed by 6 %). Of
    pairs r apart in any direction a gap d leaves (1 − d/r)².
    """
    planes = [_excess([frame.through_plane(a, t) for frame in seen]) for t in PLANES]
    excess, _, numbers = np.array(planes).T
    if (numbers < FEW * len(seen)).any():
        return None
    own, error, number = _excess([frame.through_face(a) for frame in seen])
    few, counted = 1 - number / numbers.mean(), np.sqrt(len(seen) / numbers.mean())
    if few > max(SURE * np.hypot(numbers.std(ddof=1) / numbers.mean(), counted), LEAST_FEWER):
        r = np.concatenate([frame.r for frame in seen]).mean()
        return float(r * (1 - np.sqrt(1 - few)))
    if overlap := _overlap(seen, a):
        return -overlap
    farther, usual = own - excess.mean(), np.hypot(excess.std(ddof=1), error)
    return float(farther) if abs(farther) > max(SURE * usual, LEAST_A) else 0.0


def _overlap(seen: Sequence[_Neighbours], a: int) -> float:
    """By how much [Å] pairs through faces are closer than any within, if so many of them are that
    it cannot be chance: the closest of all are as often within as others are.
    """
    kind, r, number = (
        np.concatenate([getattr(frame, name) for frame in seen]) for name in ("kind", "r", "number")
    )
    images = np.concatenate([frame.images for frame in seen])
    crossed = images != 0
    within = ~crossed.any(axis=1)
    own = crossed[:, a] & (crossed.sum(axis=1) == 1)
    odds, closer = 0.0, [np.zeros(0)]
    for one in np.unique(kind):
        of_kind = kind == one
        inside = int((of_kind & within).sum())
        if inside < FEW:
            continue
        least = float(r[of_kind & within].min())
        close = of_kind & own & (r < least)
        chance = 1 - inside / int(of_kind.sum())
        if close.any():
            odds -= len(np.unique(number[close])) * np.log10(chance)
            closer.append(least - r[close])
    return float(np.concatenate(closer).max()) if odds > CHANCE else 0.0


def _excess(parts: Sequence[tuple[Floats, Floats]]) -> tuple[float, float, int]:
    """By least squares: how much longer a cell vector makes distances, by their components along
    it, its standard error if frames know no more than one, and how many they are.
    """
    component, farther = (np.concatenate([part[k] for part in parts]) for k in (0, 1))
    square = float(component @ component)
    if not square:
        return 0.0, np.inf, len(farther)
    value = float(component @ farther) / square
    left = component * (farther - value * component)
    return value, float(np.sqrt(len(parts) * (left @ left)) / square), len(farther)


def _jumps(frames: Sequence[Trajectory], a: int) -> float:
    """By how much the cell vector is too long [Å], by atoms that left through its faces and were
    put back at the others; 0 where none did, or they say nothing against it.
    """
    jumped, usual = [], []
    for some in frames:
        if some.n_frames < 2:
            continue
        fractional = np.einsum("fpc,fcd->fpd", some.positions, np.linalg.inv(some.cell))
        steps = np.diff(fractional, axis=0)[..., a] * np.linalg.norm(some.cell[0, a])
        images = np.round(np.diff(fractional, axis=0)[..., a])
        moves = steps - images * np.linalg.norm(some.cell[0, a])
        jumped.append((-images * moves)[images != 0])
        usual.append(moves[images == 0])
    if not jumped or len(found := np.concatenate(jumped)) < 3:
        return 0.0
    size = float(np.sqrt((np.concatenate(usual) ** 2).mean()))
    error = float(np.median(found))
    return error if abs(error) > 4 * size else 0.0
