"""The model file: what is saved is loaded again, and what is no model file is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import (
    CUBE,
    energy_and_forces,
    invent,
    liquid,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from mld_ff.errors import InputError
from mld_ff.geometry.histogram import Coverage
from mld_ff.loss.bonds import BondTerm
from mld_ff.loss.free_pairs import PowerTerm, SplineTerm
from mld_ff.loss.model import AgentLoss
from mld_ff.loss.provenance import Domain, Provenance
from mld_ff.trajectory import Trajectory


@pytest.fixture
def model(tmp_path: Path) -> Path:
    file = tmp_path / "model.json"
    frame = liquid(["H2O", "CH3OH"], CUBE)
    spline, power = invent(frame), invent(frame, "power", (2.7, -1.0))
    mixed = (*spline.terms[:-2], *power.terms[-2:])
    coverage: Coverage = {"counts": [1, 2], "start_A": 1.5}
    covered = tuple(
        replace(t, coefficient_errors=(0.1,) * len(t.coefficients), coverage=coverage)
        for t in mixed
    )
    told: Provenance = {"ridge": 1e-7, "blocks_test": [1, 2], "matched": {"note": "π"}}
    domain = Domain(("H2O", "CH4O"), (0.9, 1.1))
    AgentLoss(spline.species, covered, told, domain=domain).save(file)
    return file


def test_save_and_load_give_the_same_bytes(
    model: Path, tmp_path: Path, spline_water: AgentLoss
) -> None:
    loss = AgentLoss.load(model)
    assert {type(t) for t in loss.terms} == {BondTerm, SplineTerm, PowerTerm}
    loss.save(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == model.read_bytes()
    spline_water.save(tmp_path / "new" / "fitted.json")
    fitted = AgentLoss.load(tmp_path / "new" / "fitted.json")
    assert fitted.terms == spline_water.terms and fitted.species == spline_water.species
    fitted.save(tmp_path / "refitted.json")
    assert (tmp_path / "refitted.json").read_bytes() == (
        tmp_path / "new" / "fitted.json"
    ).read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "again.json",
        "model.json",
        "new",
        "refitted.json",
    ]


def test_loaded_model_computes_the_same(
    model: Path, spline_water: AgentLoss, few: Trajectory
) -> None:
    spline_water.save(model)
    loaded, original = (
        energy_and_forces(loss, few[0]) for loss in (AgentLoss.load(model), spline_water)
    )
    assert loaded[0] == original[0] and np.array_equal(loaded[1], original[1])


def load_error(file: Path, change: Callable[[dict[str, Any]], None]) -> str:
    data = json.loads(file.read_text())
    change(data)
    file.write_text(json.dumps(data))
    with pytest.raises(InputError) as caught:
        AgentLoss.load(file)
    return str(caught.value)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"version": 2}, "has version 2; this mld_ff reads version 1: fit again"),
        (
            {"format": "other"},
            (
                "is not a model file: \"format\" should be 'mld_ff agent loss'; write one with"
                " `mld-ff fit`"
            ),
        ),
        (
            {"units": {"energy": "kcal/mol", "length": "angstrom"}},
            (
                "has units {'energy': 'kcal/mol', 'length': 'angstrom'}; expected {'energy': 'eV',"
                " 'length': 'angstrom'}"
            ),
        ),
    ],
)
def test_other_formats_are_refused(model: Path, change: dict[str, Any], expected: str) -> None:
    assert load_error(model, lambda data: data.update(change)) == f"{model}: {expected}"


def test_unknown_kind_and_field_are_refused(model: Path) -> None:
    text = model.read_text()
    error = load_error(model, lambda data: data["terms"][0].update(kind="morse"))
    name = json.loads(text)["terms"][0]["name"]
    assert (
        error == f"{model}: term {name!r} is of unknown kind 'morse'; known: power, spline, bond,"
        " collective, charge"
    )
    model.write_text(text)
    error = load_error(model, lambda data: data["terms"][1].update(colour="red"))
    name = json.loads(text)["terms"][1]["name"]
    assert error == f"{model}: term {name!r} has fields that this version does not know: ['colour']"


@pytest.mark.parametrize("missing", ["version", "units", "species", "terms", "provenance"])
def test_incomplete_model_is_refused(model: Path, missing: str) -> None:
    error = load_error(model, lambda data: data.pop(missing))
    assert error.startswith(f"{model}: is not a complete model file: ") and missing in error


TOLD_WRONGLY: list[tuple[str, Any, str]] = [
    ("relative_rmse", {"O": "good"}, "relative_rmse: 'O' should be a finite number; found 'good'"),
    ("relative_rmse", [0.1], "relative_rmse should be a table; found [0.1]"),
    ("blocks_train", [0, 1.5], "blocks_train should be a whole number; found 1.5"),
    ("source", {"files": "all"}, "source: files should be a list; found 'all'"),
    ("source", {"runs": [{"frames": True}]}, "source: runs: frames should be a whole number"),
    ("matched", {"note": None}, "matched: note should be a text; found None"),
    ("errors_include_walls", "yes", "errors_include_walls should be true or false; found 'yes'"),
]


@pytest.mark.parametrize(("key", "value", "said"), TOLD_WRONGLY)
def test_provenance_that_cannot_be_shown(model: Path, key: str, value: Any, said: str) -> None:
    error = load_error(model, lambda data: data["provenance"].update({key: value}))
    assert error.startswith(f"{model}: provenance: {said}")


def test_provenance_that_says_more(model: Path) -> None:
    data = json.loads(model.read_text())
    data["provenance"]["colour"] = [{"red": 1}]
    model.write_text(json.dumps(data))
    assert dict(AgentLoss.load(model).provenance)["colour"] == [{"red": 1}]


@pytest.mark.parametrize(
    "domain", [[], {"molecules": [1]}, {"densities_g_per_cm3": [1]}, {"densities_g_per_cm3": "1"}]
)
def test_domains_that_are_none(model: Path, domain: Any) -> None:
    error = load_error(model, lambda data: data.update(domain=domain))
    assert error.startswith(f"{model}: domain")


def test_term_without_coefficients_is_refused(model: Path) -> None:
    error = load_error(model, lambda data: data["terms"][0].pop("coefficients"))
    assert error.startswith(f"{model}: is not a complete model file: ") and "coefficients" in error


@settings(deadline=None, max_examples=50)
@given(share=st.floats(0, 0.999))
def test_truncated_model_is_refused(tmp_path_factory: pytest.TempPathFactory, share: float) -> None:
    frame = liquid(["H2O"] * 2, CUBE)
    file = tmp_path_factory.mktemp("cut") / "model.json"
    text = invent(frame).dumps()
    cut = text[: int(share * (len(text) - 2))]
    file.write_text(cut)
    with pytest.raises(InputError) as caught:
        AgentLoss.load(file)
    assert str(caught.value).startswith(f"{file}:") and "is not a model file" in str(caught.value)


def test_model_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        AgentLoss.load(tmp_path / "none.json")
    assert str(caught.value) == (
        f"{tmp_path / 'none.json'}: cannot be read: No such file or directory; write one with"
        " `mld-ff fit`"
    )
    with pytest.raises(InputError, match="is a directory, not a model file; write one with"):
        AgentLoss.load(tmp_path)


def test_failed_save_leaves_the_old_file(model: Path) -> None:
    """JSON has no infinity: refused before anything is written."""
    before = model.read_bytes()
    loss = AgentLoss.load(model)
    with pytest.raises(ValueError, match="JSON"):
        replace(loss, provenance={"ridge": float("inf")}).save(model)
    assert model.read_bytes() == before and [p.name for p in model.parent.iterdir()] == [
        "model.json"
    ]
