"""Averages: what frames in equilibrium say of the coefficients of pairs, beside the forces.

In equilibrium a frame x has the probability exp(-U(x)/kT)/Z, and U = Σ c_k u_k + … is linear in the
coefficients of pairs. So the log-likelihood of a run's frames has the gradient (⟨u⟩_model -
⟨u⟩_run)/kT and the curvature -cov_model(u)/kT²: it is largest where distances occur as often in the
model's own run as in the reference. (Relative entropy: Shell, J. Chem. Phys. 129, 144108 (2008).)
Forces tell slopes, and leave combinations of coefficients almost free that structure is sensitive
to: those are moved, and what that costs in force error is held below a limit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from mld_ff.errors import InputError
from mld_ff.geometry.system import System, systems
from mld_ff.geometry.topology import Topology
from mld_ff.inference.accumulation import Accumulated
from mld_ff.loss.model import AgentLoss
from mld_ff.loss.terms import PairTerm, strongest_pull
from mld_ff.progress import Progress, no_progress
from mld_ff.trajectory import Floats, FrameSource


@dataclass(frozen=True)
class Averages:
    """Means and covariance, over frames, of the K unit energies of a loss's pairs
    (`unit_energies`).

    Of a run of the loss itself there may be more: the pressure without its ideal part [eV/Å³], and
    what every coefficient adds to it, 2K + 1 columns in all.
    """

    mean: Floats
    covariance: Floats
    frames: int

    @classmethod
    def of(
        cls,
        loss: AgentLoss,
        source: FrameSource,
        topology: Topology,
        pressure: bool = False,
        progress: Progress = no_progress,
    ) -> Averages:
        """Over all frames whose bonds hold. Raises InputError if there are none."""
        columns = _with_pressure if pressure else unit_energies
        parts: list[Averages] = []
        done = 0
        for frames in source.chunks():
            every = systems(topology, frames, loss.cutoff_A)
            rows = [columns(loss, system) for system in every if not system.changes]
            if rows:
                parts.append(cls.of_rows(np.array(rows)))
            done += frames.n_frames
            progress("averages", done, source.n_frames)
        if not parts:
            raise InputError("bonds are broken in every frame: nothing to average")
        return pooled(parts, [part.frames for part in parts])

    @classmethod
    def of_rows(cls, rows: Floats) -> Averages:
        """Of the columns of every frame, (F, C)."""
        away = rows - rows.mean(axis=0)
        return cls(rows.mean(axis=0), away.T @ away / len(rows), len(rows))

    def length(self, change: Floats, kT_eV: float) -> float:
        """Of a step of the coefficients (K,): standard deviation over kT of the energy that it
        adds.
        """
        k = len(change)
        variance = float(change @ self.covariance[:k, :k] @ change)
        return math.sqrt(max(variance, 0.0)) / kT_eV

    def moved(self, change: Floats, kT_eV: float) -> Averages:
        """As a run with other coefficients would give them, in linear response."""
        k = len(change)
        mean = self.mean - self.covariance[:, :k] @ change / kT_eV
        if len(mean) > k:
            mean[k] += self.mean[k + 1 :] @ change
        return replace(self, mean=mean)


def pooled(parts: Sequence[Averages], weights: Sequence[float] | Floats) -> Averages:
    """Of all parts together, each with its weight."""
    w = np.asarray(weights, dtype=np.float64) / np.sum(weights)
    mean = w @ np.array([part.mean for part in parts])
    away = np.array([part.mean for part in parts]) - mean
    covariance = (
        np.einsum("p,pkl->kl", w, [part.covariance for part in parts]) + (away.T * w) @ away
    )
    return Averages(mean, covariance, sum(part.frames for part in parts))


def unit_energies(loss: AgentLoss, system: System) -> Floats:
    """Energy (K,) [eV per unit] of every coefficient of the loss's pairs in one frame, walls
    without their cubic part.

    The order is that of `pair_coefficients`.
    """
    of_terms = [_beyond_walls(t, t.pairs_of(system).r)[0].sum(axis=0) for t in loss.pair_terms]
    return np.concatenate(of_terms)


def _with_pressure(loss: AgentLoss, system: System) -> Floats:
    """See Averages, (2K + 1,)."""
    volume = abs(np.linalg.det(system.cell))
    energies, pressures = [], []
    for term in loss.pair_terms:
        r = term.pairs_of(system).r
        energy, slope = _beyond_walls(term, r)
        energies.append(energy.sum(axis=0))
        pressures.append(-r @ slope / (3 * volume))
    pressure = -np.trace(loss.evaluate(system).virial) / (3 * volume)
    return np.concatenate([*energies, [pressure], *pressures])


def _beyond_walls(term: PairTerm, r: Floats) -> tuple[Floats, Floats]:
    """The term's functions and their derivatives (P, K), in walls the parabolas that these begin
    with."""
    values, slopes = term.basis(r), term.basis(r, 1)
    for wall in term.walls:
        beyond, edge = wall.beyond(r), np.array([wall.edge_A])
        x = (r[beyond] - wall.edge_A)[:, None]
        energy, slope, curvature = (term.basis(edge, d) for d in range(3))
        values[beyond] = energy + x * (slope + x / 2 * curvature)
        slopes[beyond] = slope + x * curvature
    return values, slopes


def pair_coefficients(loss: AgentLoss) -> Floats:
    """(K,)."""
    return np.concatenate([term.coefficients for term in loss.pair_terms])


def with_pair_coefficients(loss: AgentLoss, coefficients: Floats, data: Accumulated) -> AgentLoss:
    """The loss with other coefficients of pairs, and walls that fit them; errors remain those of
    the fit."""
    new, at = dict[str, PairTerm](), 0
    others = [term for term in loss.terms if not isinstance(term, PairTerm)]
    no_molecules = bool(data.survey.topology.no_molecules)
    outside = no_molecules or any(t.keeps_walls_outside for t in others)
    for term in loss.pair_terms:
        own = coefficients[at : at + len(term.coefficients)]
        at += len(own)
        changed = replace(term, coefficients=tuple(own.tolist()))
        pull = partial(strongest_pull, others, term.species)
        seen = data.survey.distances[term.name]
        new[term.name] = changed.walled(seen, pull, outside)
    return replace(loss, terms=tuple(new.get(t.name, t) for t in loss.terms))
