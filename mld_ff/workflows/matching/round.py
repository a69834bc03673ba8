"""What a round of matching tells, as match.json keeps it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from mld_ff.loss.provenance import check_record


@dataclass(frozen=True, kw_only=True)
class MatchingRound:
    """The model of a round, its run, and the step that follows."""

    round: int
    """Its number, from 1 on."""
    rmse_meV_per_A: float
    """Of a force component on unseen frames."""
    relative_rmse: Mapping[str, float]
    """The same by species, over the size of the force (`Errors`)."""
    price: float
    """By what part the squared error of forces grew (`Valley.price`)."""
    mean_abs_dg: Mapping[str, float]
    """Mean |Δg| of the run to the reference, by kind of free pair."""
    pressure_bar: float | None = None
    """Of the run, where one was asked for."""
    error_bar: float | None = None
    """Of that pressure."""
    step: float
    """Length [kT] of the step that all runs so far ask for (`Averages.length`)."""
    done: bool
    """Whether no step is worth taking."""

    def to_dict(self) -> dict[str, Any]:
        """As JSON keeps it: pressure and error are there if one was asked for."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        one = cls(**data)
        check_record("a round", asdict(one), cls)
        return one
