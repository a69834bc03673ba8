"""Tables of a model: its errors, what the data determine, what they cover, its coefficients."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from mld_ff.geometry.histogram import Coverage
from mld_ff.loss.bonds import BondTerm
from mld_ff.loss.densities import DensityTerm
from mld_ff.loss.model import AgentLoss
from mld_ff.loss.terms import FreeTerm, PairTerm, Term
from mld_ff.tables import Table
from mld_ff.units import EV_TO_MEV

if TYPE_CHECKING:
    from mld_ff.report.recomputed import RecomputedForces
    from mld_ff.report.study import Study


def errors_table(loss: AgentLoss) -> Table:
    """Errors of forces on unseen frames by species, and what reciprocity costs."""
    p = loss.provenance
    pairs = p.get("relative_rmse_pairs", p["relative_rmse"])
    more = "relative_rmse_pairs" in p
    if more:
        whole = "with channels" if loss.channels else "with charges"
        fits = [whole, "pairs alone, reciprocal", "pairs alone, agents"]
    else:
        fits = ["reciprocal", "agents"]
    rows = []
    for s in loss.species:
        reciprocal, agents = pairs[s], p["relative_rmse_agent"][s]
        values = [reciprocal, agents, reciprocal - agents]
        if more:
            values.insert(0, p["relative_rmse"][s])
        rmse = p["rmse_meV_per_A_by_species"][s]
        rows.append([s, *(f"{value:.4f}" for value in values), f"{rmse:.0f}"])
    dashes = ["–"] * (len(fits) + 1)
    rows.append(["all", *dashes, f"{p['rmse_meV_per_A']:.0f}"])
    return Table(["species", *fits, "price of reciprocity", "RMSE [meV/Å]"], rows)


def certainty_table(study: Study) -> Table:
    """What the data determine."""
    loss = study.loss
    p = loss.provenance
    rank = f"{p['rank']} of {p['n_functions']} functions" if "rank" in p else "–"
    net_force = p["net_force_eV_per_A"]
    told = (
        "not known, as atoms were fixed"
        if net_force is None
        else f"{net_force:.2g} eV/Å per frame and component"
    )
    rows = [
        [
            "frames for training | testing",
            f"{p['frames_train']} | {p['frames_test']}, in contiguous blocks",
        ],
        ["coefficients that the model exports", f"{p['n_coefficients']}"],
        ["rank of the fit", rank],
        ["condition of the design", f"{p['condition']:.3g}"],
        ["ridge, by cross-validation over the training blocks", f"{p['ridge']:g}"],
        ["not determined by the data, left at zero", _listed(p["undetermined"])],
        ["resting on the ridge more than on the data", _listed(p["weakly_determined"])],
        ["net force on the box where it should vanish", told],
        *_noise_of_grid(loss, study.origin.name),
    ]
    for name, again in study.recomputed.items():
        rows += _changed_forces(loss, name, again)
    return Table(["of the fit", ""], rows, "ll")


def _listed(names: Sequence[str]) -> str:
    return f"{len(names)}: {', '.join(names)}" if names else "none"


def _noise_of_grid(loss: AgentLoss, reference: str) -> list[list[str]]:
    p = loss.provenance
    if (of_forces := p.get("force_noise_eV_per_A")) is None:
        return []
    noise = EV_TO_MEV * of_forces
    rows = []
    for s in [s for s in loss.species if s != "H"] or list(loss.species):
        share = min((noise / p["rmse_meV_per_A_by_species"][s]) ** 2, 1)
        rows.append(
            [
                f"noise of the forces of {reference} on {s} that this means",
                f"{noise:.2g} meV/Å, {100 * share:.1f} % of the squared error of the fit on {s}",
            ]
        )
    return rows


def _changed_forces(loss: AgentLoss, name: str, again: RecomputedForces) -> list[list[str]]:
    rows = []
    for s, difference in again.rms_difference_eV_per_A.items():
        changed = EV_TO_MEV * difference
        share = (changed / loss.provenance["rmse_meV_per_A_by_species"][s]) ** 2
        rows.append(
            [
                f"change of the forces on {s} in {again.frames} frames computed again ({name})",
                f"{changed:.2g} meV/Å, {100 * share:.1f} % of the squared error of the fit on {s}",
            ]
        )
    return rows


def coverage_table(loss: AgentLoss) -> Table:
    """What the data hold of every pair of atoms, and where its walls begin."""
    head = ["term", "pairs seen", "shortest [Å]", "longest [Å]", "wall [Å]", "error [meV]"]
    return Table(head, [_coverage(term) for term in loss.terms if isinstance(term, PairTerm)])


def _coverage(term: PairTerm) -> list[str]:
    seen = term.coverage
    if not seen.get("counts"):
        return [term.name, "none", "", "", "", ""]
    if isinstance(term, FreeTerm):
        walls = f"below {term.wall_edge_A:.2f}"
    else:
        assert isinstance(term, BondTerm)
        walls = f"below {term.range_A[0]:.2f}, above {term.range_A[1]:.2f}"
    return [
        term.name,
        f"{sum(seen['counts']):,}",
        f"{seen['shortest_A']:.3f}",
        f"{seen['longest_A']:.3f}",
        walls,
        _error_of_function(seen),
    ]


def _error_of_function(seen: Coverage) -> str:
    """Root mean square over the pairs seen."""
    if not (errors := seen.get("errors_eV")):
        return "–"
    return f"{EV_TO_MEV * math.sqrt(np.average(np.square(errors), weights=seen['counts'])):.2g}"


def coefficients_table(loss: AgentLoss) -> Table:
    """The paper's table 1: of the reciprocal loss, and of the loss of every species' own."""
    columns = [_coefficients(terms) for terms in (loss.terms, *loss.agents.values())]
    names = dict.fromkeys(name for column in columns for name in column)
    rows = [[*name, *(column.get(name, "–") for column in columns)] for name in names]
    agents = [f"agents {s}" for s in loss.agents]
    head = ["term", "coefficient", "reciprocal", *agents]
    return Table(head, rows, "ll" + "r" * len(columns))


def _coefficients(terms: Sequence[Term]) -> dict[tuple[str, str], str]:
    """Value ± error by term and coefficient."""
    return {
        (term.name, name): f"{value:.5g}" + ("" if math.isnan(error) else f" ± {error:.2g}")
        for term in terms
        for name, value, error in _numbers(term)
    }


def _numbers(term: Term) -> list[tuple[str, float, float]]:
    """Name, value and standard error (nan if not known) of what was inferred."""
    errors = term.coefficient_errors or (math.nan,) * len(term.coefficients)
    numbers = list(zip(term.coefficient_names, term.coefficients, errors, strict=True))
    if isinstance(term, DensityTerm):
        strength = ("strength", term.strength_eV, math.nan)
        return [strength, ("rest", term.rest, math.nan), *numbers]
    return numbers
