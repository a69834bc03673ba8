"""What a model is refused for, and what `--force` makes of it: one policy, said in every file."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from conftest import invent, topology_of

from mld_ff.calculator import Calculator
from mld_ff.consistency import examine_all
from mld_ff.engines.registry import ENGINES
from mld_ff.engines.settings import MD, Device
from mld_ff.engines.start import start_from
from mld_ff.errors import InputError
from mld_ff.inference import Basis, fit
from mld_ff.loss.free_pairs import SplineTerm
from mld_ff.loss.model import AgentLoss
from mld_ff.policy import FORCED, objections
from mld_ff.production.simulation import run
from mld_ff.trajectory import Trajectory
from mld_ff.verification import verify

PAIRS = Basis("power", (3.0,), cutoff_A=4.0, bond_degree=2)


def without(frame: Trajectory, *atoms: int) -> Trajectory:
    """Of water as O, H, H, O, H, H, …"""
    by_molecule = frame.select_atoms(topology_of(frame).molecule_order)
    assert by_molecule.symbols[:3] == ("O", "H", "H")
    return by_molecule.select_atoms(np.setdiff1d(np.arange(frame.n_atoms), atoms))


def wider(frame: Trajectory, factor: float) -> Trajectory:
    """Molecules as they are, farther from each other."""
    topology = topology_of(frame)
    x = topology.whole(frame.positions[0], frame.cell[0]).copy()
    for atoms in topology.molecules:
        x[atoms] += (factor - 1) * x[atoms].mean(axis=0)
    return replace(frame, positions=x[None], cell=factor * frame.cell)


def against(loss: AgentLoss, frame: Trajectory) -> list[str]:
    return objections(loss, topology_of(frame), frame)


def test_nothing_is_said_of_the_data_itself(few: Trajectory, power_water: AgentLoss) -> None:
    for frame in (few[0], few[20]):
        assert against(power_water, frame) == []


def test_a_run_far_hotter_than_the_data(
    few: Trajectory, power_water: AgentLoss, tmp_path: Path
) -> None:
    """A thermostat holds any temperature, and the pairs are then those of walls."""
    hot = MD(temperature_K=2000.0, time_ps=0.01, every_fs=5.0)
    known = power_water.provenance["temperature_K"]
    with pytest.raises(InputError) as caught:
        run(power_water, few[0], "lammps", tmp_path / "x", hot)
    assert str(caught.value) == (
        f"2000 K are asked for, and the data of the model had {known:.0f} K: pairs would come"
        f" closer than any that it learned. {FORCED}"
    )


MOLECULES: dict[str, tuple[tuple[int, ...], str]] = {
    "radical": ((1,), "1 HO"),
    "lone oxygen": ((1, 2), "1 O"),
    "lone hydrogen": ((0, 1), "1 H"),
    "several": ((1, 4, 5), "1 HO, 1 O"),
}


@pytest.mark.parametrize("case", MOLECULES)
def test_molecules_that_were_not_learned(
    case: str, few: Trajectory, power_water: AgentLoss, tmp_path: Path
) -> None:
    """The terms of water would cover them, and any engine run them."""
    removed, said = MOLECULES[case]
    frame = without(few[0], *removed)
    expected = (
        f"the system holds {said}, and the data of the model held only H2O: its forces there were"
        f" never learned. {FORCED}"
    )
    attempts: list[Callable[[], Any]] = [
        lambda: ENGINES["lammps"].export(power_water, start_from(frame), tmp_path / "x"),
        lambda: ENGINES["openmm"].export(power_water, start_from(frame), tmp_path / "x"),
        lambda: run(power_water, frame, "lammps", tmp_path / "x"),
        lambda: Calculator(power_water).calculate(
            Atoms(frame.symbols, frame.positions[0], cell=frame.cell[0], pbc=True)
        ),
    ]
    for attempt in attempts:
        with pytest.raises(InputError) as caught:
            attempt()
        assert str(caught.value) == expected
    assert not (tmp_path / "x").exists()


def test_densities_far_from_those_of_the_data(few: Trajectory, power_water: AgentLoss) -> None:
    assert power_water.domain.densities_g_per_cm3 == pytest.approx((0.9933, 0.9933), abs=1e-3)
    assert against(power_water, wider(few[0], 1.05)) == []
    said = "g/cm³, that of the data of the model 0.993 to 0.993 g/cm³"
    for factor, density in ((1.1, "0.746"), (0.92, "1.28")):
        (found,) = against(power_water, wider(few[0], factor))
        assert found == f"the density is {density} {said}" or found.startswith("the density is")
        assert density in found


def test_pairs_that_nobody_saw(few: Trajectory) -> None:
    """Two oxygens 12 Å apart, each with its hydrogens: their walls would begin at the cutoff."""
    term = SplineTerm(
        name="free:O-O",
        species=("O", "O"),
        coefficients=(0.0,) * 10,
        spacing_A=0.2,
        cutoff_A=3.0,
        wall_edge_A=3.0,
        wall_stiffness_eV_per_A3=10.0,
        coverage={"shortest_A": None, "longest_A": None, "counts": []},
    )
    loss = invent(few[0], cutoff=3.0)
    loss = replace(loss, terms=(*loss.bond_terms, term, *loss.free_terms[1:]))
    assert [t.name for t in loss.free_terms] == ["free:O-O", "free:O-H", "free:H-H"]
    assert against(loss, few[0]) == [
        "free:O-O is undetermined: the data held no such pair closer than 3 Å"
    ]


def test_walls_that_attract(few: Trajectory) -> None:
    loss = invent(few[0])
    assert against(loss, few[0]) == []
    first = loss.free_terms[0]
    slope = first.evaluate(np.array([first.wall_edge_A]))[1][0]
    falling = replace(
        first,
        wall_stiffness_eV_per_A3=0.0,
        coefficients=tuple(np.sign(-slope) * np.array(first.coefficients) * (-1.0)),
    )
    falling = falling if falling.evaluate(np.array([0.2]))[0][0] < 0 else flipped(falling)
    loss = replace(loss, terms=(*loss.bond_terms, falling, *loss.free_terms[1:]))
    assert against(loss, few[0]) == [
        "the wall of free:O-O below 2 Å attracts: pairs would fall into each other"
    ]


def flipped(term: Any) -> Any:
    return replace(term, coefficients=tuple(-c for c in term.coefficients))


# --- data -----------------------------------------------------------------------------------------


def test_too_few_independent_frames(water: Trajectory) -> None:
    close = water[:16]
    assert close.time[-1] - close.time[0] == pytest.approx(150.0)
    with pytest.raises(InputError) as caught:
        fit(close, PAIRS)
    said = (
        "16 frames over 150 fs are worth 4 that are independent (50 fs apart), too few for the 8"
        " blocks that a fit is made and tested on: give a longer run, or more of them"
    )
    assert str(caught.value) == f"{said}. {FORCED}"
    assert fit(close, PAIRS, force=True).loss.provenance["warnings"][0] == said
    assert said not in fit(water[::40], PAIRS).loss.provenance["warnings"]
    unknown = replace(close, time=np.zeros(16))
    assert said not in fit(unknown, PAIRS).loss.provenance["warnings"], "frames without times"


# --- forced ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
def test_the_warning_stands_in_every_file(
    engine: str, few: Trajectory, power_water: AgentLoss, tmp_path: Path
) -> None:
    """And engines still compute what numpy does."""
    frame = without(few[0], 1)
    out = tmp_path / "run"
    settings = MD(time_ps=0.001, every_fs=0.5)
    run(power_water, frame, engine, out, settings, Device("CPU"), force=True)
    warning = "the system holds 1 HO, and the data of the model held only H2O"
    assert json.loads((out / "run.json").read_text())["notes"][0].startswith(warning)
    exported = json.loads((out / "run.json").read_text())["exported_sha256"]
    texts = [name for name in exported if not name.endswith(".npz")]
    assert len(texts) > 4
    for name in texts:
        assert f"WARNING: {warning}" in (out / name).read_text(), name
    assert verify(power_water, frame, 1, {engine: out}, per_term=False).passed


def test_the_examination_of_several_runs_is_one_stage(few: Trajectory) -> None:
    told = list[tuple[str, int, int]]()
    examine_all([few, few[:2]], lambda *what: told.append(what))
    total = few.n_frames + 2
    assert {(what, n) for what, _, n in told} == {("examination", total)}
    assert [done for _, done, _ in told] == [0, few.n_frames, few.n_frames, total]
