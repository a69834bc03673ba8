"""Tables of a study: observables, speeds, engines against numpy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mld_ff.report.style import REFERENCE, label_of
from mld_ff.report.symbols import is_matched, symbol_of
from mld_ff.tables import Table, with_error
from mld_ff.verification import Verification

if TYPE_CHECKING:
    from mld_ff.report.study import Study

VERDICTS = {True: "yes", False: "no", None: "–"}


def observables_table(study: Study) -> Table:
    """A column with errors for the reference, and for every run one and a verdict."""
    observables = study.observables
    head = ["observable", study.origin.name]
    for name in study.runs:
        head += [label_of(name), "agrees"]
    rows = []
    for observable, compared in observables.items():
        reference = next(iter(compared.values())).reference
        symbol = symbol_of(observable)
        if study.is_matched and is_matched(observable):
            symbol += " (matched)"
        row = [symbol, with_error(reference.value, reference.error)]
        for of_run in compared.values():
            row += [with_error(of_run.learned.value, of_run.learned.error), VERDICTS[of_run.within]]
        rows.append(row)
    return Table(head, rows, "lr" + "rl" * len(study.runs))


def speed_table(study: Study) -> Table:
    """Steps per second and ns per day of all whose time is known."""
    reference = study.origin.name
    rows = [
        [
            reference if name == REFERENCE else label_of(name),
            f"{speed.steps_per_s:.4g}",
            f"{speed.ns_per_day:.4g}",
            "" if speed.ratio is None else f"{speed.ratio:.3g}",
        ]
        for name, speed in study.speeds.items()
    ]
    caption = (
        f"{reference}: {study.origin.remedies.timing}; runs: steps over wall time, start-up and"
        " output included. Ratios compare the methods only if all ran on the same machine with as"
        " many cores."
    )
    return Table(["", "steps/s", "ns/day", f"times faster than {reference}"], rows, caption=caption)


def why_no_ratio(study: Study) -> list[str]:
    """A sentence where it is not known how much faster a run is."""
    if REFERENCE not in study.speeds:
        what = "how much faster learned runs are"
        return [f"It is not known {what}: {study.origin.remedies.no_timing}."]
    return [
        f"How much faster {label_of(name)} is, is not known: its run was interrupted."
        for name in study.runs
        if name not in study.speeds
    ] + [
        f"How much faster {label_of(name)} is, is not told: its box has another number of atoms."
        for name, speed in study.speeds.items()
        if name != REFERENCE and speed.ratio is None
    ]


def verification_table(verification: Verification) -> Table:
    """Engines against numpy."""
    rows = [
        [
            label_of(name),
            f"{result.max_force_difference_eV_per_A:.1e}",
            result.worst_atom,
            f"{result.relative_energy_difference:.1e}",
            "passed" if result.passed else "FAILED",
        ]
        for name, result in verification.engines.items()
    ]
    head = [
        "engine",
        "largest force difference [eV/Å]",
        "on",
        "relative energy difference",
        "verdict",
    ]
    return Table(head, rows, "lrlrl")
