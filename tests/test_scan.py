"""The scan over exponents: what was planted is found, and every point is the fit that it stands
for.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import evaluate, invent, topology_of

from mld_ff.errors import InputError
from mld_ff.inference import Basis, Problem, accumulate, scan
from mld_ff.inference.exponents import parse_exponents
from mld_ff.report import load_scan, write_scan
from mld_ff.trajectory import Trajectory


@pytest.fixture(scope="module")
def planted(few: Trajectory) -> Trajectory:
    """Water frames with the forces of a power law with exponent 2.5 and quartic bonds."""
    loss = invent(few[0], "power", (2.5,), edge=1.0)
    bonds = (replace(t, range_A=(0.5, 3.0)) for t in loss.bond_terms)
    wide = replace(loss, terms=(*bonds, *loss.free_terms))
    topology = topology_of(few[0])
    forces = [
        evaluate(wide, topology, x, c)[1] for x, c in zip(few.positions, few.cell, strict=True)
    ]
    return replace(few, forces=np.array(forces))


def test_planted_exponent_is_found(planted: Trajectory) -> None:
    scanned = scan(planted, (1.0, 1.5, 2.0, 2.5, 3.0, 4.0), cutoff_A=5.0)
    assert scanned.best_exponent == {"O": 2.5, "H": 2.5}
    assert scanned.one[3].max() < 1e-4
    assert np.delete(scanned.one, 3, axis=0).min() > 1e-3
    assert 2.5 in scanned.best_pair


def test_points_are_the_fits_they_stand_for(few: Trajectory) -> None:
    scanned = scan(few, (1.0, 3.0, 4.5), cutoff_A=5.0)
    assert np.array_equal(scanned.plane, scanned.plane.transpose(1, 0, 2))
    n, m = (scanned.exponents.index(e) for e in scanned.best_pair)
    assert scanned.plane[n, m].mean() == scanned.plane.mean(axis=2).min()
    assert (
        list(scanned.to_dict()["relative_rmse_best_pair"].values()) == scanned.plane[n, m].tolist()
    )
    for exponents, point in (((3.0,), scanned.plane[1, 1]), ((1.0, 4.5), scanned.plane[0, 2])):
        problem = Problem.of(accumulate(few, Basis("power", exponents, cutoff_A=5.0).terms))
        assert problem.relative_rmse(problem.coefficients()) == pytest.approx(point, rel=1e-6)


def test_sensitivities_are_fits_without(few: Trajectory) -> None:
    scanned = scan(few, (1.0, 3.0), cutoff_A=5.0)
    by_name = {s.name: s for s in scanned.sensitivities}
    assert {
        "bonded:O-H",
        "bonded:O-H beyond harmonic",
        "free:O-H",
        "free:O-H r^-1",
        "free:O-H r^-3",
    } <= set(by_name)
    assert by_name["bonded:O-H"].relative_rmse_without["H"] > 0.5
    harmonic = Problem.of(
        accumulate(few, Basis("power", (1.0, 3.0), bond_degree=4, cutoff_A=5.0).terms)
    )
    full = harmonic.relative_rmse(harmonic.coefficients())
    for s in scanned.sensitivities:
        for k, species in enumerate(("O", "H")):
            assert s.relative_rmse_gain[species] == pytest.approx(
                s.relative_rmse_without[species] - full[k], abs=1e-6
            )


def test_files(few: Trajectory, tmp_path: Path) -> None:
    files = write_scan(tmp_path, scan(few[::4], (2.0, 3.0), cutoff_A=5.0))
    written = json.loads((tmp_path / "scan.json").read_text())
    assert set(written["best_exponent"]) == set(written["relative_rmse"]) == {"O", "H"}
    assert all(f.stat().st_size > 1000 for f in files)
    again = load_scan(tmp_path)
    assert again.to_dict() == written and again.source == few.origin.to_dict()
    (tmp_path / "scan.json").write_text('{"species": []}')
    with pytest.raises(InputError, match="holds no scan"):
        load_scan(tmp_path)


def test_exponents_as_text() -> None:
    assert parse_exponents("0.5:2:0.5") == (0.5, 1.0, 1.5, 2.0)
    assert parse_exponents("1,6,-1") == (1.0, 6.0, -1.0)
    with pytest.raises(InputError, match="START:STOP:STEP or a list"):
        parse_exponents("one")
