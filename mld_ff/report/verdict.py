"""What a study comes to: what agrees, what does not, and what was learned and is no prediction."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mld_ff.report.comparison import Compared
from mld_ff.report.style import label_of
from mld_ff.report.symbols import is_matched, symbol_of

if TYPE_CHECKING:
    from mld_ff.report.study import Study


@dataclass(frozen=True)
class Verdict:
    """Of one run: observables by their symbols."""

    run: str
    """Its label."""
    agree: tuple[str, ...]
    differ: tuple[str, ...]
    """Each with how many joint standard errors it is away."""
    unknown: tuple[str, ...]
    """Of which the reference or the run has no error."""
    matched: tuple[str, ...]
    """Whatever they are: the model was matched to them."""


def verdicts(study: Study) -> list[Verdict]:
    """One of every run."""
    return [_verdict(study, name) for name in study.runs]


def _verdict(study: Study, run: str) -> Verdict:
    sorted_in: dict[str, list[str]] = {"agree": [], "differ": [], "unknown": [], "matched": []}
    for key, by_run in study.observables.items():
        compared, symbol = by_run[run], symbol_of(key).split(" [")[0]
        if study.is_matched and is_matched(key):
            sorted_in["matched"].append(symbol)
        elif compared.within is None:
            sorted_in["unknown"].append(symbol)
        elif compared.within:
            sorted_in["agree"].append(symbol)
        else:
            sorted_in["differ"].append(f"{symbol} ({_away(compared):.1f} errors)")
    return Verdict(label_of(run), **{name: tuple(of) for name, of in sorted_in.items()})


def _away(compared: Compared) -> float:
    """In joint standard errors."""
    joint = math.hypot(compared.learned.error, compared.reference.error)
    away = abs(compared.learned.value - compared.reference.value)
    return away / joint if joint else math.inf
