"""Waves of charges, what Ewald's sum has beside its pairs, for `mld_ff_neighbours.py`: charges are
spread over a grid, which a fast Fourier transform turns into waves.

Smooth particle mesh Ewald (Essmann et al., J. Chem. Phys. 103, 8577 (1995)). Lengths here are in
angstrom, energies in eV.
"""

import numpy as np
from mld_ff_neighbours import FAST
from numba import njit
from scipy.fft import irfftn, rfftn
from scipy.interpolate import BSpline
from scipy.special import factorial

MOST_POINTS = 1 << 30
"""Of a grid that a computer holds."""
COULOMB_EV_A = 14.399645478425668
"""Energy of two charges of 1 e at 1 angstrom."""
ORDER = 8
"""Of the splines, each of which reaches so many points along every axis. For 512 waters a grid of
35³ points is as exact as one of 63³ with OpenMM's order of 5, and takes 1.6 instead of 2.7 ms."""
SPLINE, POINTS = BSpline.basis_element(np.arange(ORDER + 1.0)), np.arange(ORDER)
PIECES = np.array([SPLINE(POINTS[::-1], nu=n) / factorial(n) for n in POINTS[::-1]])
"""Weights of the points that a place reaches, (ORDER, ORDER): by powers of how far it is beyond the
first one, the highest power first, and by points."""


class Waves:
    """Charges in all of their periodic images, those of an atom's own included, on all atoms.

    charges (N,) [e], before an even background unless they are neutral. alpha [1/angstrom]: where
    near and far part; pairs have erfc(alpha r)/r. grid (3,): points along the vectors of the cell.
    """

    def __init__(self, charges, alpha, grid):
        fits = (
            charges.ndim == 1
            and charges.dtype.kind == "f"
            and np.isfinite(charges).all()
            and grid.shape == (3,)
            and grid.dtype.kind == "i"
            and (grid >= ORDER).all()
            and np.prod(grid, dtype=float) < MOST_POINTS
            and 0 < alpha < np.inf
        )
        if not fits:
            raise ValueError("its arrays do not belong together; export it again")
        self.n_atoms, self.charges, self.alpha = len(charges), charges.astype(float), float(alpha)
        self.grid = tuple(grid.tolist())
        n0, n1, n2 = self.grid
        orders = np.fft.fftfreq(n0, 1 / n0), np.fft.fftfreq(n1, 1 / n1), np.arange(n2 // 2 + 1.0)
        self._orders = np.stack(np.meshgrid(*orders, indexing="ij"), axis=-1)
        self._splines = np.sinc(self._orders / self.grid).prod(axis=-1) ** (2 * ORDER)
        self._cell = self._strength = None

    def evaluate(self, positions, cell):
        """Energy [eV] and forces (N, 3) [eV/angstrom] of atoms at positions (N, 3) in a cell."""
        if not np.array_equal(cell, self._cell):
            self._cell, self._strength = cell.copy(), self._strength_in(cell)
        # a grid's point, not a length, is the unit of a place
        to_places = np.linalg.inv(cell) * self.grid
        places = positions @ to_places
        first, weights, slopes = _weights(places, self.grid, PIECES)
        density, n2 = _spread(first, weights, self.charges, self.grid), self.grid[2]
        density[:, :, : ORDER - 1] += density[:, :, n2:]
        waves = rfftn(density[:, :, :n2])
        energy = _take_energy(waves, self._strength, n2)
        potential = irfftn(waves, s=self.grid, overwrite_x=True)
        potential = np.concatenate([potential, potential[:, :, : ORDER - 1]], axis=2)
        gradient = _gather(first, weights, slopes, potential)
        own = self.alpha / np.sqrt(np.pi) * (self.charges**2).sum()
        forces = -self.charges[:, None] * (gradient @ to_places.T)
        return COULOMB_EV_A * (energy - own), COULOMB_EV_A * forces

    def _strength_in(self, cell):
        """Of every wave (n0, n1, n2 // 2 + 1): 4π/(V k²) exp(-k²/4α²), over what the splines make
        of it, going and coming, sinc(order / n)**ORDER each along every axis.

        Interpolation in place of that, as in the article, has 10 times the error of energies.
        """
        k = 2 * np.pi * self._orders @ np.linalg.inv(cell).T
        square = np.einsum("xyzd,xyzd->xyz", k, k)
        square[0, 0, 0] = np.inf  # that background
        points, volume = np.prod(self.grid), abs(np.linalg.det(cell))
        coulomb = 4 * np.pi / volume / square * np.exp(-square / (4 * self.alpha**2))
        return coulomb / self._splines * points


@njit(cache=True, fastmath=FAST, nogil=True)
def _weights(places, grid, pieces):
    """First of the points that every place reaches along every axis, (N, 3), what they weigh,
    (N, 3, ORDER), and the slopes of that.
    """
    first = np.empty((len(places), 3), np.int64)
    weights = np.empty((len(places), 3, ORDER))
    slopes = np.zeros((len(places), 3, ORDER))
    for i in range(len(places)):
        for d in range(3):
            cells = np.floor(places[i, d] / grid[d])
            inside = places[i, d] - cells * grid[d]
            if not 0 <= inside <= grid[d]:
                inside = 0.0  # farther away than digits reach: any place will do inside the arrays
            # what is rounded up to the end of the grid is 1 beyond its last point
            first[i, d] = min(int(inside), grid[d] - 1)
            beyond = inside - first[i, d]
            for c in range(ORDER):
                weights[i, d, c] = pieces[0, c]
            for power in range(1, ORDER):
                for c in range(ORDER):
                    slopes[i, d, c] = slopes[i, d, c] * beyond + weights[i, d, c]
                    weights[i, d, c] = weights[i, d, c] * beyond + pieces[power, c]
    return first, weights, slopes


@njit(cache=True, fastmath=FAST, nogil=True)
def _spread(first, weights, charges, grid):
    """Charges on the points of a grid. Its last axis goes on by ORDER - 1 points, which are the
    first ones again: so the points that a place reaches along it lie side by side.

    Of single precision, which changes forces of water by 3e-7 eV/angstrom and spares a third of the
    time of transforms.
    """
    density = np.zeros((grid[0], grid[1], grid[2] + ORDER - 1), np.float32)
    for i in range(len(charges)):
        for a in range(ORDER):
            x = (first[i, 0] + a) % grid[0]
            of_x = charges[i] * weights[i, 0, a]
            for b in range(ORDER):
                y = first[i, 1] + b
                y = y if y < grid[1] else y - grid[1]
                of_y = of_x * weights[i, 1, b]
                line = density[x, y, first[i, 2] : first[i, 2] + ORDER]
                for c in range(ORDER):
                    line[c] += of_y * weights[i, 2, c]
    return density


@njit(cache=True, fastmath=FAST, nogil=True)
def _take_energy(waves, strength, last):
    """Energy of the waves [e²/angstrom]; they become those of the potential. All but the first of
    the last axis, and the last one of an even number, stand for their opposites too.
    """
    energy, points = 0.0, strength.shape[0] * strength.shape[1] * last
    for x in range(waves.shape[0]):
        for y in range(waves.shape[1]):
            for z in range(waves.shape[2]):
                times = 1 if z == 0 or 2 * z == last else 2
                wave = waves[x, y, z]
                energy += times * strength[x, y, z] * (wave.real**2 + wave.imag**2)
                waves[x, y, z] = wave * strength[x, y, z]
    return energy / (2 * points)


@njit(cache=True, fastmath=FAST, nogil=True)
def _gather(first, weights, slopes, potential):
    """Gradient (N, 3) by places of a potential on such a grid."""
    gradient, n0, n1 = np.zeros((len(first), 3)), potential.shape[0], potential.shape[1]
    for i in range(len(first)):
        for a in range(ORDER):
            x = (first[i, 0] + a) % n0
            along_x = along_y = along_z = 0.0
            for b in range(ORDER):
                y = first[i, 1] + b
                y = y if y < n1 else y - n1
                line = potential[x, y, first[i, 2] : first[i, 2] + ORDER]
                value = slope = 0.0
                for c in range(ORDER):
                    value += line[c] * weights[i, 2, c]
                    slope += line[c] * slopes[i, 2, c]
                along_x += value * weights[i, 1, b]
                along_y += value * slopes[i, 1, b]
                along_z += slope * weights[i, 1, b]
            gradient[i, 0] += along_x * slopes[i, 0, a]
            gradient[i, 1] += along_y * weights[i, 0, a]
            gradient[i, 2] += along_z * weights[i, 0, a]
    return gradient
