"""What a model file tells of its coefficients, and of the data that they come from.

A fit writes it, matching adds to it, and reports show it. Every field may be missing, as models
can be written by hand; `check_record` sees to it that what is there can be shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from types import NoneType, UnionType
from typing import Any, TypedDict, get_args, get_origin, get_type_hints, is_typeddict

from mld_ff.errors import InputError
from mld_ff.loss.limits import MOST_TERMS, check_count, is_number
from mld_ff.names import shown
from mld_ff.origin import OriginTold


@dataclass(frozen=True)
class Domain:
    """The matter that a model was learned from: what it may be used for (`policy`)."""

    molecules: tuple[str, ...] = ()
    """Formulas of the molecules, and of atoms alone, in the data; empty: not known, or none."""
    densities_g_per_cm3: tuple[float, float] | None = None
    """The least and the most of the data."""

    def to_dict(self) -> dict[str, Any]:
        between = self.densities_g_per_cm3
        return {
            "molecules": list(self.molecules),
            "densities_g_per_cm3": None if between is None else list(between),
        }

    @classmethod
    def from_dict(cls, data: Any) -> Domain:
        """Raises InputError if it is none."""
        check_record("domain", data, _DomainInFile)
        between = data.get("densities_g_per_cm3")
        if between is not None and len(between) != 2:
            raise InputError(
                f"domain: densities_g_per_cm3 should be two numbers; found {shown(between)}"
            )
        check_count("molecules in the domain", len(data.get("molecules", ())), MOST_TERMS)
        return cls(
            molecules=tuple(data.get("molecules", ())),
            densities_g_per_cm3=None if between is None else (between[0], between[1]),
        )


class _DomainInFile(TypedDict, total=False):
    molecules: list[str]
    densities_g_per_cm3: list[float] | None


class ErrorsTold(TypedDict, total=False):
    """Of atoms, and of the net forces and torques of molecules."""

    unseen_meV_per_A: float
    unseen_relative_rmse_molecules: float


class RankTold(ErrorsTold, total=False):
    """Error over cost of the staged fit."""

    rank: int
    """Channels of every species."""
    channels: int
    """Of all together."""
    cost: float
    """Time per step in LAMMPS; pairs alone: 1."""
    cross_validated_meV_per_A: float | None


class StepTold(ErrorsTold, total=False):
    """Error over cost."""

    channels: list[int]
    """Of orders 0, 1, 2."""
    cost: float
    """Time per step in LAMMPS; pairs alone: 1."""


class CollectiveTold(TypedDict, total=False):
    """How channels of the staged fit came about."""

    rank: int
    ridge: float
    curve: list[RankTold]


class ChannelsTold(TypedDict, total=False):
    """How channels of densities of all orders came about."""

    numbers: dict[str, int]
    """By form."""
    by_order: list[int]
    cutoff_A: float
    ridge: float
    curve: list[StepTold]
    unseen_meV_per_A_whole_forms: float
    unseen_relative_rmse_molecules_whole_forms: float


class ChargesTold(TypedDict, total=False):
    """How sure charges are, and what they bring."""

    errors_e: dict[str, float]
    given: bool
    free_numbers: int
    determined: bool
    printed_e: dict[str, dict[str, float]]
    """By the methods of the data's program, by species or type of atom."""
    unseen_meV_per_A: float
    unseen_meV_per_A_without: float


class MatchedTold(TypedDict, total=False):
    """What distances were matched to."""

    temperature_K: float
    time_ps: float
    price: float
    """Growth of the squared error of forces."""
    mean_abs_dg: dict[str, float]
    noise: dict[str, float]
    pressure_bar: float
    error_bar: float
    runs: list[OriginTold]
    note: str


class Provenance(TypedDict, total=False):
    """How the coefficients came about, and how good they are. Errors: on frames for testing."""

    source: OriginTold
    frames_train: int
    frames_test: int
    frames_with_broken_bonds: int
    blocks_train: list[int]
    blocks_test: list[int]
    n_coefficients: int
    """That are exported."""
    n_functions: int
    rank: int
    """How many of the functions the data tell apart."""
    undetermined: list[str]
    weakly_determined: list[str]
    ridge: float
    condition: float
    relative_rmse: dict[str, float]
    """By species."""
    relative_rmse_pairs: dict[str, float]
    """Of pairs alone, where there is more."""
    relative_rmse_agent: dict[str, float]
    """Of pairs alone, every species its own loss."""
    rmse_meV_per_A: float
    rmse_meV_per_A_by_species: dict[str, float]
    errors_include_walls: bool
    stress_weight: float
    """Of squared virials [eV²] over N, beside squared forces [eV²/Å²]."""
    pressure_offset_bar: float
    """Mean of the fit less that of the data, where these hold stress."""
    pressure_rmse_bar: float
    stress_rmse_bar: float
    """Of a component."""
    net_force_eV_per_A: float | None
    force_noise_eV_per_A: float | None
    warnings: list[str]
    unchecked: list[str]
    """Why nothing in the data says whether the forces are true; empty where something does."""
    no_molecules: str
    """Why there are none; empty if there are."""
    temperature_K: float | None
    collective: CollectiveTold
    channels: ChannelsTold
    charges_e: dict[str, float]
    charges: ChargesTold
    matched: MatchedTold


BY_SPECIES = ("relative_rmse", "relative_rmse_agent", "rmse_meV_per_A_by_species")
ALWAYS = (
    *("frames_train", "frames_test", "n_coefficients", "ridge", "condition", "rmse_meV_per_A"),
    *("undetermined", "weakly_determined", "net_force_eV_per_A"),
)
"""What every fit tells, besides BY_SPECIES."""


NAMED = {str: "a text", bool: "true or false"}


def tells_of_a_fit(provenance: Provenance, species: Sequence[str]) -> bool:
    """Whether all is there that a fit tells, so that reports can show it."""
    told: Mapping[str, Any] = provenance
    return all(name in told for name in (*ALWAYS, *BY_SPECIES)) and all(
        s in told[name] for name in BY_SPECIES for s in species
    )


def check_record(what: str, value: Any, kind: Any) -> None:
    """Raise InputError unless a value of JSON is of a kind: a TypedDict, a dataclass, a list or a
    table of kinds, several kinds, or text, number and the like; keys that these do not name may
    hold anything."""
    if is_typeddict(kind) or is_dataclass(kind):
        _check(what, value, isinstance(value, Mapping), "a table")
        for key, own in get_type_hints(kind).items():
            if key in value:
                check_record(f"{what}: {key}", value[key], own)
        return
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (dict, Mapping):
        _check(what, value, isinstance(value, Mapping), "a table")
        for key, own in value.items():
            check_record(f"{what}: {shown(key)}", own, arguments[1])
    elif origin in (list, tuple, Sequence):
        _check(what, value, isinstance(value, (list, tuple)), "a list")
        for own in value:
            check_record(what, own, arguments[0])
    elif origin is UnionType:  # something, or null
        if value is not None:
            check_record(what, value, next(own for own in arguments if own is not NoneType))
    elif kind is float:
        _check(what, value, is_number(value), "a finite number")
    elif kind is int:
        _check(what, value, is_number(value) and isinstance(value, int), "a whole number")
    else:
        _check(what, value, isinstance(value, kind), NAMED[kind])


def _check(what: str, value: Any, holds: bool, expected: str) -> None:
    if not holds:
        raise InputError(f"{what} should be {expected}; found {shown(value)}")
