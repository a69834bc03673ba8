"""Scan: which exponents carry the information? The paper's figure 2, from one pass over the
data.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Any

import numpy as np

from mld_ff.errors import InputError
from mld_ff.files import read_json
from mld_ff.geometry.radial import power_basis
from mld_ff.geometry.topology import Topology
from mld_ff.inference.accumulation import Accumulated, accumulate
from mld_ff.inference.basis import Basis
from mld_ff.inference.normal_equations import Indices, NormalEquations
from mld_ff.inference.problem import Problem
from mld_ff.loss.bonds import BondTerm
from mld_ff.loss.free_pairs import PowerTerm
from mld_ff.loss.limits import MOST_POWERS
from mld_ff.loss.terms import FreeTerm, PairTerm
from mld_ff.origin import OriginTold
from mld_ff.progress import Progress, no_progress
from mld_ff.trajectory import Floats, FrameSource, Trajectory

EXPONENTS = tuple(0.5 * k for k in range(1, 21))
DIGITS = 9
"""Exponents are told apart to this many digits."""


@dataclass(frozen=True, kw_only=True)
class PowerGrid(FreeTerm):
    """Every function that some power law with exponents of the grid needs: S r^-n, S² r^-(n+m)."""

    functions: tuple[tuple[int, float], ...]
    """(number of factors, sum of their exponents)."""

    @property
    def coefficient_names(self) -> tuple[str, ...]:
        return tuple(f"{m},{p:g}" for m, p in self.functions)

    def basis(self, r: Floats, derivative: int = 0) -> Floats:
        return power_basis(r, self.cutoff_A, self.functions, derivative)


@dataclass(frozen=True)
class Sensitivity:
    """How much an invariant, or a whole term, lowers the error of each species, everything else
    refitted without it.
    """

    name: str
    relative_rmse_without: dict[str, float]
    relative_rmse_gain: dict[str, float]


@dataclass(frozen=True)
class ExponentScan:
    """Relative RMSE on test blocks over the exponents; E exponents, S species."""

    species: tuple[str, ...]
    exponents: tuple[float, ...]
    plane: Floats
    """Reciprocal fit with the exponents n and m, (E, E, S), symmetric; the diagonal is one exponent
    alone.
    """
    agents: Floats
    """The same for the agent fit."""
    sensitivities: tuple[Sensitivity, ...]
    """At the best pair of exponents of the reciprocal fit."""
    source: OriginTold = field(default_factory=OriginTold)
    """Where the frames come from."""

    @property
    def one(self) -> Floats:
        """Relative RMSE with one exponent, (E, S)."""
        return np.asarray(np.einsum("nns->ns", self.plane))

    @property
    def best_exponent(self) -> dict[str, float]:
        """The single exponent with the least error of each species."""
        return {
            s: self.exponents[int(np.argmin(self.one[:, k]))] for k, s in enumerate(self.species)
        }

    @property
    def relative_rmse(self) -> dict[str, float]:
        """The least of each species with a single exponent."""
        return {s: float(self.one[:, k].min()) for k, s in enumerate(self.species)}

    @property
    def best_pair(self) -> tuple[float, float]:
        """The pair of exponents with the least mean error of all species."""
        n, m = self._best_point
        return self.exponents[n], self.exponents[m]

    @property
    def relative_rmse_best_pair(self) -> dict[str, float]:
        """Of each species with that pair."""
        return dict(zip(self.species, self.plane[self._best_point].tolist(), strict=True))

    @property
    def _best_point(self) -> tuple[int, int]:
        return divmod(int(np.argmin(self.plane.mean(axis=2))), len(self.exponents))

    def to_dict(self) -> dict[str, Any]:
        return {
            "best_exponent": self.best_exponent,
            "relative_rmse": self.relative_rmse,
            "best_pair": list(self.best_pair),
            "relative_rmse_best_pair": self.relative_rmse_best_pair,
            "exponents": list(self.exponents),
            "species": list(self.species),
            "plane": self.plane.tolist(),
            "plane_agent": self.agents.tolist(),
            "sensitivities": [vars(s) for s in self.sensitivities],
            "source": self.source,
        }

    @classmethod
    def load(cls, file: Path | str) -> ExponentScan:
        """Read what `to_dict` wrote as JSON. Raises InputError if the file does not hold it."""
        try:
            data = read_json(Path(file), "a scan", "mld-ff scan")
            return cls(
                tuple(data["species"]),
                tuple(data["exponents"]),
                np.array(data["plane"], dtype=float),
                np.array(data["plane_agent"], dtype=float),
                tuple(Sensitivity(**s) for s in data["sensitivities"]),
                data["source"],
            )
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"holds no scan ({type(error).__name__}); make one with `mld-ff scan`", file
            ) from None


def scan(
    source: FrameSource,
    exponents: Sequence[float] = EXPONENTS,
    bond_degree: int = 4,
    cutoff_A: float | None = None,
    progress: Progress = no_progress,
) -> ExponentScan:
    """Fit with every exponent and every pair of exponents, bonded terms refitted each time; reads
    the data once.

    Errors are those of the fitted functions, without walls, on the test blocks of `fit`. Raises
    InputError as `fit`.
    """
    basis = Basis("power", tuple(exponents), bond_degree=bond_degree, cutoff_A=cutoff_A)
    data = accumulate(source, lambda *system: _grid(basis, *system), progress, stress=False)
    points = list(combinations_with_replacement(range(len(exponents)), 2))
    species = data.survey.topology.species
    plane, agents = (np.zeros((len(exponents), len(exponents), len(species))) for _ in range(2))
    for done, (n, m) in enumerate(points, 1):
        problem = _problem(data, sorted({exponents[n], exponents[m]}))
        plane[n, m] = plane[m, n] = problem.relative_rmse(problem.coefficients())
        own = [problem.relative_rmse(problem.coefficients(s))[s] for s in range(len(species))]
        agents[n, m] = agents[m, n] = own
        progress("exponents", done, len(points))
    scanned = ExponentScan(species, tuple(exponents), plane, agents, (), source.origin.to_dict())
    best = _problem(data, sorted(set(scanned.best_pair)))
    return replace(scanned, sensitivities=tuple(_sensitivities(best, species)))


def _grid(
    basis: Basis, frame: Trajectory, topology: Topology, half_width_A: float
) -> tuple[PairTerm, ...]:
    """The bonded terms of the basis, and for free pairs all functions of the grid."""
    sums = sorted(
        {round(n + m, DIGITS) for n, m in combinations_with_replacement(basis.exponents, 2)}
    )
    functions = (*((1, round(n, DIGITS)) for n in basis.exponents), *((2, p) for p in sums))
    return tuple(
        (
            PowerGrid(
                name=t.name,
                species=t.species,
                coefficients=(0.0,) * len(functions),
                cutoff_A=t.cutoff_A,
                functions=functions,
            )
            if isinstance(t, FreeTerm)
            else t
        )
        for t in basis.terms(frame, topology, half_width_A)
    )


def _problem(data: Accumulated, exponents: Sequence[float]) -> Problem:
    """The problem of a power law with the given exponents, from the grid's normal equations."""
    terms: list[PairTerm] = []
    chosen: list[int] = []
    at = 0
    for term in data.terms:
        n = len(term.coefficients)
        if isinstance(term, PowerGrid):
            zeros = (0.0,) * (len(exponents) + len(exponents) * (len(exponents) + 1) // 2)
            power = PowerTerm(
                name=term.name,
                species=term.species,
                coefficients=zeros,
                cutoff_A=term.cutoff_A,
                exponents=tuple(exponents),
            )
            chosen += [
                at + term.functions.index((len(p), round(sum(p), DIGITS))) for p in power.products
            ]
            terms.append(power)
        else:
            chosen += range(at, at + n)
            terms.append(term)
        at += n
    equations = data.equations.select(np.array(chosen))
    return Problem.of(Accumulated(tuple(terms), data.survey, equations, data.frames_per_block))


def _sensitivities(problem: Problem, species: Sequence[str]) -> Iterator[Sensitivity]:
    full = problem.relative_rmse(problem.coefficients())
    for name, functions in _parts(problem):
        left = np.setdiff1d(np.arange(len(problem.names)), functions)
        without = _error_with(problem, problem.equations.select(left), left)
        yield Sensitivity(
            name,
            dict(zip(species, without.tolist(), strict=True)),
            dict(zip(species, (without - full).tolist(), strict=True)),
        )


def _error_with(problem: Problem, equations: NormalEquations, functions: Indices) -> Floats:
    kept = np.isin(problem.kept, functions)
    place = np.flatnonzero(np.isin(functions, problem.kept))
    reduced = equations.select(place)
    every = range(equations.power_bs.shape[1])
    c = reduced.solve(problem.train, every, problem.penalty[np.ix_(kept, kept)], problem.ridge)
    power = equations.power_bs[list(problem.test)].sum(axis=0)
    return np.asarray(np.sqrt(reduced.residual(problem.test, c) / power))


def _parts(problem: Problem) -> Iterator[tuple[str, Indices]]:
    """Name and functions of every invariant, and of every term as a whole."""
    for k, term in enumerate(problem.terms):
        here = np.flatnonzero(problem.term_index == k)
        yield term.name, here
        if isinstance(term, PowerTerm) and len(term.exponents) > 1:
            for n in term.exponents:
                yield f"{term.name} r^{-n:g}", here[[n in product for product in term.products]]
        if isinstance(term, BondTerm) and len(here) > 2:
            yield f"{term.name} beyond harmonic", here[2:]


def parse_exponents(text: str) -> tuple[float, ...]:
    """Exponents from `START:STOP:STEP` (both ends included) or a list with commas. Raises
    InputError.
    """
    try:
        if ":" in text:
            start, stop, step = map(float, text.split(":"))
            if not 0 <= (stop - start) / step < MOST_POWERS:
                raise InputError(
                    f"{text!r} are {(stop - start) / step + 1:.3g} exponents; at most"
                    f" {MOST_POWERS} are taken"
                )
            return tuple(round(float(n), DIGITS) for n in np.arange(start, stop + step / 2, step))
        return tuple(float(n) for n in text.split(","))
    except (ValueError, ZeroDivisionError):
        raise InputError(
            f"exponents are START:STOP:STEP or a list like 1,2,3.5; found {text!r}"
        ) from None
