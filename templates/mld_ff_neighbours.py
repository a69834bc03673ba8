"""Sums over neighbours in place of OpenMM's own forces: pairs with what is near of charges, beside
their waves (`mld_ff_waves.py`), and densities (`mld_ff_densities.py`).

On a CPU this takes a small part of the time. run.py imports it where numba, SciPy and vesin are
installed; it needs no mld_ff. What it computes with is read from neighbours.npz, which holds
numbers only. Lengths here are in angstrom, energies in eV.
"""

from concurrent.futures import ThreadPoolExecutor
from threading import Lock

import numpy as np
from numba import njit
from openmm import PythonForce
from vesin import NeighborList

NM_TO_A, EV_TO_KJ_PER_MOL = 10.0, 96.48533212331
FAR_SKIN_A, NEAR_SKIN_A = 2.0, 0.4
"""So far beyond the cutoff pairs are listed, and picked of these, until atoms have moved so far."""
MOST_THREADS = 2
"""So many compute pairs and waves here; OpenMM's own forces share each of these among all."""
LEAST_SHARED = 1000
"""Atoms whose parts are shared among threads: 512 waters take 3.0 instead of 4.0 ms a step, but 64
waters 1.2 instead of 0.9."""
FAST = {"contract", "reassoc", "arcp", "nsz"}
"""Of floating-point arithmetic, what may be rearranged: sums and products, but no NaN is lost."""


def replace_forces(system, file, threads=1, asked=True):
    """Let this module compute what `file` names, instead of the forces of those names.

    file: neighbours.npz. threads: of OpenMM; its own pairs, which are faster with more than
    MOST_THREADS, stay then unless Python is asked for. Returns whether it computes anything.
    Raises ValueError if the file does not belong to the system.
    """
    names = [force.getName() for force in system.getForces()]
    replaced, parts = [], []
    for of_parts, every in read_parts(file, with_pairs=asked or threads <= MOST_THREADS):
        of_another = any(part.n_atoms != system.getNumParticles() for part in every)
        if of_another or not set(of_parts) <= set(names):
            raise ValueError("it belongs to another system.xml; export both again")
        replaced += of_parts
        parts += every
    if any(names.count(name) > 1 for name in replaced):
        raise ValueError("two forces of the system have the name of one that is replaced")
    for k in sorted((names.index(name) for name in replaced), reverse=True):
        system.removeForce(k)
    if parts:
        force = PythonForce(Together(parts, threads))
        force.setName(" ".join(replaced))
        force.setUsesPeriodicBoundaryConditions(True)
        system.addForce(force)
    return bool(parts)


def read_parts(file, with_pairs=True):
    """Names of forces, and what replaces these: `Densities`, one for every grid, and, if they are
    asked for, `Pairs` with `Waves`.
    """
    with np.load(file, allow_pickle=False) as file_of_arrays:
        arrays = dict(file_of_arrays)
    of_densities, of_pairs = (arrays.pop(f"forces_of_{n}").tolist() for n in ("densities", "pairs"))
    groups = {}
    for name, array in arrays.items():
        group, argument = name.split(".")
        groups.setdefault(group, {})[argument] = array
    of_charges = [groups.pop(group, None) for group in ("pairs", "waves")]
    found = []
    if of_densities:
        from mld_ff_densities import Densities  # which imports this module

        found.append((of_densities, [Densities(**group) for group in groups.values()]))
    if of_pairs and with_pairs:
        from mld_ff_waves import Waves  # so does this

        if None in of_charges:
            raise ValueError("it is of an earlier version; export it again")
        found.append((of_pairs, [Pairs(**of_charges[0]), Waves(**of_charges[1])]))
    return found


class Together:
    """Energy and forces of all parts, as a function of an OpenMM State.

    Of several Contexts one computes at a time: parts keep what they found in the last call.
    """

    def __init__(self, parts, threads):
        self.parts, self.threads, self.alone = parts, threads, Lock()

    def __reduce__(self):
        return Together, (self.parts, self.threads)

    def __call__(self, state):
        positions = state.getPositions(asNumpy=True)._value * NM_TO_A
        cell = np.array(state.getPeriodicBoxVectors(asNumpy=True)._value) * NM_TO_A
        if not (np.isfinite(positions).all() and np.isfinite(cell).all()):
            return np.nan, np.full_like(positions, np.nan)
        with self.alone:
            found = self._evaluate(positions, cell)
        energy, forces = sum(part[0] for part in found), sum(part[1] for part in found)
        return energy * EV_TO_KJ_PER_MOL, forces * (EV_TO_KJ_PER_MOL * NM_TO_A)

    def _evaluate(self, positions, cell):
        first, *others = self.parts
        if self.threads == 1 or not others or first.n_atoms < LEAST_SHARED:
            return [part.evaluate(positions, cell) for part in self.parts]
        # anew in every step, for 0.1 ms: threads that wait do not survive a fork
        with ThreadPoolExecutor(self.threads - 1) as pool:
            tasks = [pool.submit(part.evaluate, positions, cell) for part in others]
            return [first.evaluate(positions, cell), *(task.result() for task in tasks)]


class Neighbours:
    """Lists every pair within a cutoff, and few beyond it, once.

    vesin lists seldom, to far beyond the cutoff; of these pairs the near ones are picked often.
    """

    def __init__(self, cutoff, bonded, n_atoms):
        self.cutoff = cutoff
        apart = {i * n_atoms + j for pair in bonded for i, j in (pair, pair[::-1])}
        bonded = np.array(sorted(apart), np.int64)
        self.bonded = bonded, np.searchsorted(bonded, n_atoms * np.arange(n_atoms + 1))
        self._cells = np.zeros((n_atoms, 3))
        self._far = self._near = None

    def find(self, positions, cell):
        """Places of atoms (N, 3) in any cell, and pairs of them that are not bonded: where those of
        each atom begin, (N + 1,), the other atom, and which of the offsets (K, 3) to add to its
        place.
        """
        places = positions - self._cells @ cell
        if not self._holds(self._far, places, cell, FAR_SKIN_A - NEAR_SKIN_A):
            self._list(positions, cell)
            places = positions - self._cells @ cell
        offsets = self._shifts @ cell
        if not self._holds(self._near, places, cell, NEAR_SKIN_A):
            reach = self.cutoff + NEAR_SKIN_A
            pairs = _within(reach, places, offsets, *self.bonded, *self._far[2])
            self._near = places, cell.copy(), pairs
        return places, (*self._near[2], offsets)

    def _holds(self, listed, places, cell, skin):
        """Whether no pair can have come nearer by so much since they were listed."""
        if listed is None:
            return False
        then, old_cell, _ = listed
        moved = places - then
        farthest, stretched = np.einsum("nd,nd->n", moved, moved).max(), 0.0
        if not np.array_equal(cell, old_cell):
            stretched = ((self._shifts @ (cell - old_cell)) ** 2).sum(axis=1).max()
        return 2 * np.sqrt(farthest) + np.sqrt(stretched) < skin

    def _list(self, positions, cell):
        self._cells = np.floor(positions @ np.linalg.inv(cell))
        places = positions - self._cells @ cell
        search = NeighborList(cutoff=self.cutoff + FAR_SKIN_A, full_list=False, sorted=True)
        i, j, shift = search.compute(points=places, box=cell, periodic=True, quantities="ijS")
        most = np.abs(shift).max(initial=0)
        n = 2 * most + 1
        self._shifts = np.indices((n, n, n)).reshape(3, -1).T - float(most)
        first = np.searchsorted(i, np.arange(len(places) + 1))
        image = (shift + most) @ np.array([n * n, n, 1])
        self._far = places, cell.copy(), (first, j.astype(np.int32), image.astype(np.int32))
        self._near = None


class Sums:
    """Energy and forces of a sum over neighbours."""

    def __init__(self, kind, cutoff, bonded=()):
        self.n_atoms, self.neighbours = len(kind), Neighbours(float(cutoff), bonded, len(kind))

    def evaluate(self, positions, cell):
        """Energy [eV] and forces (N, 3) [eV/angstrom]."""
        return self.compute(*self.neighbours.find(positions, cell))

    def compute(self, places, listed):
        """... of what `Neighbours.find` returns."""
        raise NotImplementedError


class Pairs(Sums):
    """Functions of pairs, with what is near of charges.

    kind (N,): of every atom, of K; those of a kind have one species and one charge. bonded (B, 2):
    atoms that do nothing to each other here. grid (3,): spacing of squares of distances, the least
    of them, and cutoff. table (K, K, M, 4): energy of a pair of two kinds, polynomials of t in
    interval m, where m + t = (r**2 - least) / spacing.
    """

    def __init__(self, kind, bonded, grid, table):
        n_kinds, intervals = len(table), table.shape[2]
        fits = (
            # the compiled loop does not look whether an index is inside
            table.shape == (n_kinds, n_kinds, intervals, 4)
            and intervals > 0
            and kind.dtype.kind == "i"
            and ((kind >= 0) & (kind < n_kinds)).all()
            and bonded.shape == (len(bonded), 2)
            and ((bonded >= 0) & (bonded < len(kind))).all()
            and grid.shape == (3,)
            and (grid > 0).all()
            and np.isfinite(grid).all()
        )
        if not fits:
            raise ValueError("its arrays do not belong together; export it again")
        super().__init__(kind, grid[2], bonded.tolist())
        self.parameters = kind, tuple(map(float, grid)), table

    def compute(self, places, listed):
        return _pair_forces(places, *listed, *self.parameters)


@njit(cache=True, nogil=True)
def _within(reach, places, offsets, bonded, bonds_of, first, other, image):
    """Of listed pairs those within reach that are not among the bonded ones, sorted i * N + j, of
    which those of each atom begin at bonds_of (N + 1,).
    """
    n_atoms, found = len(places), 0
    begin, near, of_near = np.empty_like(first), np.empty_like(other), np.empty_like(image)
    for i in range(n_atoms):
        begin[i] = found
        for p in range(first[i], first[i + 1]):
            j, square, free = other[p], 0.0, True
            for d in range(3):
                square += (places[j, d] - places[i, d] + offsets[image[p], d]) ** 2
            for b in range(bonds_of[i], bonds_of[i + 1]):
                free = free and bonded[b] != i * n_atoms + j
            if free and square < reach * reach:
                near[found], of_near[found] = j, image[p]
                found += 1
    begin[n_atoms] = found
    return begin, near[:found].copy(), of_near[:found].copy()


@njit(cache=True, fastmath=FAST, nogil=True)
def _pair_forces(places, first, other, image, offsets, kind, grid, table):
    """Energy and forces (N, 3). Tables of squares spare the roots."""
    spacing, least, cutoff = grid
    forces, energy = np.zeros((len(places), 3)), 0.0
    for i in range(len(places)):
        x_i, y_i, z_i = places[i, 0], places[i, 1], places[i, 2]
        force_x = force_y = force_z = 0.0
        for p in range(first[i], first[i + 1]):
            j = other[p]
            x = places[j, 0] - x_i + offsets[image[p], 0]
            y = places[j, 1] - y_i + offsets[image[p], 1]
            z = places[j, 2] - z_i + offsets[image[p], 2]
            square = x * x + y * y + z * z
            if not square < cutoff * cutoff:
                continue
            place = (square - least) / spacing
            m = min(max(int(place), 0), table.shape[2] - 1)
            t, c = place - m, table[kind[i], kind[j], m]
            c0, c1, c2, c3 = c[0], c[1], c[2], c[3]
            energy += c0 + t * (c1 + t * (c2 + t * c3))
            pull = 2 / spacing * (c1 + t * (2 * c2 + t * (3 * c3)))
            force_x, force_y, force_z = force_x + pull * x, force_y + pull * y, force_z + pull * z
            forces[j, 0] -= pull * x
            forces[j, 1] -= pull * y
            forces[j, 2] -= pull * z
        forces[i, 0] += force_x
        forces[i, 1] += force_y
        forces[i, 2] += force_z
    return energy, forces
