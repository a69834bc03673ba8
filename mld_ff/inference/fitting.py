"""Fit: from a stream of frames to the loss, with its walls, and its errors on unseen frames."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from mld_ff.consistency import contradictions, examine_all
from mld_ff.geometry.histogram import Coverage, Histogram
from mld_ff.inference.accumulation import Accumulated, accumulate
from mld_ff.inference.basis import NO_CHANNELS, Basis
from mld_ff.inference.channels import ChannelsProblem
from mld_ff.inference.charges import Charges
from mld_ff.inference.collective import CollectiveFit, CollectiveProblem, channel_terms
from mld_ff.inference.dataset import Dataset, Source
from mld_ff.inference.errors import Errors, measure
from mld_ff.inference.ladder import told_of_channels
from mld_ff.inference.normal_equations import NormalEquations
from mld_ff.inference.parallel import in_one_thread
from mld_ff.inference.problem import Problem, jackknife_error
from mld_ff.inference.sampling import blank_forms, with_ranges
from mld_ff.inference.stress import balanced
from mld_ff.inference.words import LEARN
from mld_ff.loss.densities import DensityTerm
from mld_ff.loss.model import AgentLoss
from mld_ff.loss.provenance import Provenance
from mld_ff.loss.terms import PairTerm, Term, strongest_pull
from mld_ff.origin import OriginTold
from mld_ff.policy import domain_of, objections_to_data, refuse
from mld_ff.progress import Progress, no_progress
from mld_ff.survey import Survey
from mld_ff.trajectory import Floats

COSTLY = 2.0
"""Errors of forces over those of agents; a fit says so beyond."""


@dataclass(frozen=True)
class Fit:
    """What a fit came to."""

    loss: AgentLoss
    """Its `provenance` tells people what stands here."""
    data: Accumulated
    """What the frames said, all functions included."""
    problem: Problem
    """The least-squares problem of the pairs."""
    collective: CollectiveFit | None
    """How channels were chosen; None where pairs are all there is."""
    charges: Charges | None
    """What it says of charges; None where there are none."""
    errors: Errors
    """On the frames for testing."""

    @property
    def equations(self) -> NormalEquations:
        """Of the functions that were solved for: those of pairs, and after them those of forms.
        Beside forces there are virials, with the weight that they had."""
        if self.collective is not None:
            return self.collective.problem.solved
        return self.problem.solved

    @property
    def solution(self) -> Floats:
        """Coefficients of the functions of `equations`, (K,)."""
        if self.collective is not None:
            return self.collective.problem.coefficients(self.collective.refit)
        return self.problem.coefficients()[self.problem.kept]


@in_one_thread
def gather(
    source: Source, basis: Basis, progress: Progress = no_progress, processes: int = 1
) -> Accumulated:
    """What `fit` solves: one pass over the frames, two with densities."""
    dataset = Dataset.of(source, progress, processes, basis.topology)
    forms, stress = blank_forms(dataset, basis), basis.stress == LEARN
    return accumulate(dataset, basis.terms, forms=forms, stress=stress)


@in_one_thread
def fit(
    source: Source,
    basis: Basis | None = None,
    progress: Progress = no_progress,
    processes: int = 1,
    data: Accumulated | None = None,
    force: bool = False,
) -> Fit:
    """Infer the reciprocal loss from frames with forces, and tell how good it is on unseen ones.

    source: one, or several of one system. Two passes over them, four with densities, one before to
    see whether they contradict themselves, and one where there are hydrogens, to see whether they
    keep their partners; memory independent of the number of frames, numbers independent of that of
    processes and of threads. Blocks of contiguous frames are for training, every fifth for testing;
    only coverage, from which walls and ranges come, is that of all frames. The errors are those of
    the exported functions, walls included. The agent fit, every species its own loss, comes along
    in `agents` where pairs are all there is. data: what `gather` gave, if that has been done.
    force: go on where the policy has something against the data, and
    warn. Raises InputError on data that cannot be used.
    """
    basis = basis or Basis()
    dataset = Dataset.of(source, progress, processes, basis.topology)
    examined = examine_all(dataset.sources, dataset.progress)
    n_tested = len(dataset.tested)
    against = contradictions(examined[:n_tested], labels=examined[n_tested:])
    refuse(against, force)
    data = data or gather(dataset, basis)
    against += objections_to_data(dataset.tested, data.survey.times, dataset.n_blocks)
    refuse(against, force)
    problem = Problem.of(data)
    collective: CollectiveFit | None = None
    charges: Charges | None = None
    if data.forms:
        if not basis.collective:
            numbers = basis.channel_numbers or NO_CHANNELS
            wanted = replace(ChannelsProblem.of(data, problem), progress=dataset.progress)
            dataset.progress("channels", 0, 1)
            collective = wanted.minimised(numbers)
            dataset.progress("channels", 1, 1)
        else:
            collective = CollectiveProblem.of(data, problem).fit(basis.collective)
        charges = Charges.of(collective, dataset)
        loss = _with_channels(dataset, data, problem, collective, charges)
    else:
        problem = balanced(problem)
        loss = _of_pairs(data, problem)
    errors = measure(dataset, loss, problem.test)
    loss = replace(loss, domain=domain_of(data.survey.topology, dataset.firsts))
    unchecked = list(dict.fromkeys(text for one in examined for text in one.blind))
    return _told(Fit(loss, data, problem, collective, charges, errors), against, unchecked)


@in_one_thread
def solve(data: Accumulated) -> Fit:
    """The fit of pairs from accumulated frames alone (`read_shards`).

    Errors are those of the fitted functions without walls, as normal equations know them.
    """
    problem = balanced(Problem.of(data))
    loss, test = _of_pairs(data, problem), list(problem.test)
    square = problem.equations.residual(test, problem.coefficients())
    power = data.equations.power_bs[test].sum(axis=0)
    number = data.equations.number_bs[test].sum(axis=0)
    errors = Errors.of_sums(loss.species, square, power, number, include_walls=False)
    loss = replace(loss, domain=domain_of(data.survey.topology))
    return _told(Fit(loss, data, problem, None, None, errors), data.warnings)


# --- finished terms -------------------------------------------------------------------------------


def _of_pairs(data: Accumulated, problem: Problem) -> AgentLoss:
    """The loss where pairs are all there is."""
    species = data.survey.topology.species
    terms = _finished(problem, problem.coefficients(), problem.jackknife(), None, data.survey)
    agents = {
        name: _finished(problem, problem.coefficients(s), problem.jackknife(s), name, data.survey)
        for s, name in enumerate(species)
    }
    return AgentLoss(species, terms, agents=agents)


def _with_channels(
    dataset: Dataset,
    data: Accumulated,
    problem: Problem,
    collective: CollectiveFit,
    charges: Charges | None,
) -> AgentLoss:
    """The loss of pairs, channels and charges."""
    channels: list[DensityTerm] = []
    for form, of_form in collective.densities:
        channels += channel_terms(form, of_form)
    channels = with_ranges(channels, dataset, data.reach_A) if channels else []
    others = (*channels, charges.term) if charges else tuple(channels)
    best, each = problem.expand(collective.refit.pairs), problem.expand(collective.jackknife)
    pairs = _finished(problem, best, each, None, data.survey, others)
    return AgentLoss(data.survey.topology.species, (*pairs, *others))


def _finished(
    problem: Problem,
    best: Floats,
    each: Floats,
    agent: str | None,
    survey: Survey,
    others: Sequence[Term] = (),
) -> tuple[PairTerm, ...]:
    """Terms with coefficients, errors, coverage and walls; for an agent, a species, its own terms.

    best: coefficients (K,); each: those without each of the training blocks in turn, (B, K);
    others: terms that are not of pairs.
    """
    errors = jackknife_error(each)
    finished = []
    for k, term in enumerate(problem.terms):
        if agent is not None and agent not in term.species:
            continue
        here = problem.term_index == k
        seen = survey.distances[term.name]
        filled = replace(
            term,
            coefficients=tuple(best[here].tolist()),
            coefficient_errors=tuple(errors[here].tolist()),
            coverage=_coverage(term, seen, each[:, here]),
        )
        pull = partial(strongest_pull, others, term.species)
        outside = any(t.keeps_walls_outside for t in others) or bool(survey.topology.no_molecules)
        finished.append(filled.walled(seen, pull, outside))
    return tuple(finished)


def _coverage(term: PairTerm, seen: Histogram, each: Floats) -> Coverage:
    """Where the data were, and how sure the term is there.

    each: the term's coefficients without each of the training blocks in turn, (B, K).
    """
    histogram = seen.to_dict(term.coverage_width_A)
    bins = np.arange(len(histogram["counts"]), dtype=float)
    r: Floats = histogram["start_A"] + histogram["width_A"] * (bins + 0.5)
    errors = jackknife_error(each @ term.basis(r).T) if len(r) else np.zeros(0)
    return {**histogram, "errors_eV": [float(f"{e:.4g}") for e in errors]}


# --- what the model file tells people -------------------------------------------------------------


def _told(fit: Fit, against: Sequence[str] = (), unchecked: Sequence[str] = ()) -> Fit:
    """The fit whose loss says where it comes from, how good it is, what is against it, and why
    forces could not be checked."""
    problem, data, species = fit.problem, fit.data, fit.loss.species
    topology = data.survey.topology
    names = {f"{t.name} {c}" for t in fit.loss.terms for c in t.coefficient_names}
    exported = names - set(problem.undetermined)
    quality, temperatures = data.survey.forces, data.survey.temperatures
    of_charges = fit.charges.warning() if fit.charges else None
    of_agents = dict(zip(species, problem.agent_errors, strict=True))
    costly = _costly_reciprocity(fit.errors, of_agents)
    warnings = [*against, quality.warning(), _hopeless(fit.errors), costly, of_charges]
    provenance: Provenance = {
        "source": _origins(data),
        "frames_train": sum(data.frames_per_block[b] for b in problem.train),
        "frames_test": sum(data.frames_per_block[b] for b in problem.test),
        "frames_with_broken_bonds": data.left_out,
        "blocks_train": list(problem.train),
        "blocks_test": list(problem.test),
        "n_coefficients": len(exported),
        "n_functions": len(problem.names),
        "rank": problem.rank,
        "undetermined": list(problem.undetermined),
        "weakly_determined": [name for name in _weakly_determined(fit) if name in exported],
        "ridge": problem.ridge if fit.collective is None else fit.collective.problem.ridge_of_pairs,
        "condition": problem.condition,
        **_told_of_channels(fit),
        "stress_weight": _stress_weight(fit),
        **fit.errors.told(),
        "relative_rmse_agent": dict(zip(species, problem.agent_errors, strict=True)),
        "net_force_eV_per_A": quality.net_force,
        "force_noise_eV_per_A": quality.noise,
        "warnings": [text for text in warnings if text],
        "unchecked": list(unchecked),
        "no_molecules": topology.no_molecules,
        "temperature_K": float(np.mean(temperatures)) if temperatures else None,
    }
    return replace(fit, loss=replace(fit.loss, provenance=provenance))


def _weakly_determined(fit: Fit) -> tuple[str, ...]:
    if fit.collective is None:
        return fit.problem.weakly_determined(fit.problem.gram, fit.problem.ridge)
    collective = fit.collective.problem
    return fit.problem.weakly_determined(collective.gram_of_pairs, collective.ridge_of_pairs)


def _stress_weight(fit: Fit) -> float:
    """Of squared virials [eV²] for each atom, beside squared forces [eV²/Å²]."""
    return fit.problem.weight if fit.collective is None else fit.collective.problem.weight


def _told_of_channels(fit: Fit) -> Provenance:
    if fit.collective is None:
        return {}
    pairs_alone = fit.problem.relative_rmse(fit.problem.coefficients())
    by_species = dict(zip(fit.loss.species, pairs_alone.tolist(), strict=True))
    told: Provenance = {"relative_rmse_pairs": by_species}
    if not isinstance(fit.collective.problem, ChannelsProblem):
        return {**told, **fit.collective.problem.told(fit.collective)}
    told = {**told, **told_of_channels(fit.collective.problem, fit.collective)}
    return {**told, **fit.charges.told()} if fit.charges else told


def _hopeless(errors: Errors) -> str | None:
    species = [s for s, error in errors.relative_rmse.items() if error >= 1]
    if not species:
        return None
    return (
        "on frames that the fit has not seen it is worse than no force at all for"
        f" {', '.join(species)}: more or more varied frames are needed, or a simpler basis"
    )


def _costly_reciprocity(errors: Errors, of_agents: dict[str, float]) -> str | None:
    """Where agents of their own would do much better, if only for the forces on themselves."""
    times = {s: error / of_agents[s] for s, error in errors.relative_rmse.items() if of_agents[s]}
    costly = [f"{s} {ratio:.1f}" for s, ratio in times.items() if ratio > COSTLY]
    if not costly:
        return None
    return (
        "reciprocity is dear: errors of forces are so many times those of agents with losses of"
        f" their own: {', '.join(costly)}. The reference's forces are not of pairs with one"
        " function for both ends: more accuracy, charges or no fixed bonds may help"
    )


def _origins(data: Accumulated) -> OriginTold:
    """Where the frames come from: the source, or all files and the sources one by one."""
    sources: dict[str, OriginTold] = {}
    for share in data.shares:
        for source in share.runs:
            sources[json.dumps(source, sort_keys=True)] = source
    if len(sources) == 1:
        return next(iter(sources.values()))
    files = [file for source in sources.values() for file in source.get("files", [])]
    return {"files": files, "runs": list(sources.values())}
