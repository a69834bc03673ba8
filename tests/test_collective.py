"""The collective loss: what is inferred of it, and how engines and users see it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import (
    CUBE,
    TEST_FRAMES,
    TRICLINIC,
    evaluate,
    invent,
    liquid,
    topology_of,
    with_channels,
)

from mld_ff.cli import with_ranks
from mld_ff.configuration.toml import read_config
from mld_ff.engines.lammps.export import export_lammps
from mld_ff.engines.openmm.evaluation import load_system
from mld_ff.engines.openmm.export import export_openmm
from mld_ff.engines.start import start_from
from mld_ff.errors import EngineError, InputError
from mld_ff.geometry.system import System
from mld_ff.inference import Accumulated, Basis, accumulate, fit, parse_rank
from mld_ff.inference.channels import OfForm
from mld_ff.inference.collective import (
    Channels,
    CollectiveProblem,
    channel_terms,
    unit_variance,
    variance,
)
from mld_ff.inference.dataset import Dataset
from mld_ff.inference.design import DensityForm, molecules_matrix
from mld_ff.inference.problem import Problem
from mld_ff.inference.sampling import blank_forms
from mld_ff.inference.words import AUTO
from mld_ff.loss.model import AgentLoss
from mld_ff.production.results import excursions
from mld_ff.trajectory import Trajectory
from mld_ff.verification import verify
from mld_ff.workflows.agents import learn

# --- inference ------------------------------------------------------------------------------------

COARSE = Basis(
    spacing_A=0.4, cutoff_A=4.0, collective=AUTO, collective_cutoff_A=3.5, collective_spacing_A=0.8
)


@pytest.fixture(scope="module")
def coarse(few: Trajectory) -> Accumulated:
    return accumulate(few, COARSE.terms, forms=blank_forms(Dataset.of(few), COARSE))


def test_design_and_channels_are_the_loss(few: Trajectory, coarse: Accumulated) -> None:
    """Any quadratic form in the deviations of the sums: its columns give the forces of all its
    channels.
    """
    topology, x, cell = topology_of(few[0]), few.positions[0], few.cell[0]
    form, other = coarse.forms
    assert isinstance(form, DensityForm)
    assert form.term.name == "collective:O" and other.term.name == "collective:H"
    half = np.random.default_rng(2).normal(size=(len(form.mean), len(form.mean)))
    strengths, vectors = np.linalg.eigh(half + half.T)
    channels = Channels(0.01 * strengths, vectors)
    features = form.features(System(topology, x, cell, 3.5))
    terms = channel_terms(form, channels)
    loss = replace(invent(few[0]), terms=(*invent(few[0]).terms, *terms)).only(
        *(t.name for t in terms)
    )
    energies, forces = evaluate(loss, topology, x, cell)
    squares = channels.products(form) @ channels.strengths
    assert features.forces @ squares == pytest.approx(forces.ravel(), abs=1e-10)
    a, b = form.products
    sums = features.sums
    assert (sums[:, a, 0] * sums[:, b, 0] @ squares).sum() == pytest.approx(sum(energies.values()))
    assert np.abs(sums.mean(axis=0)).max() < 0.2  # means are those of all frames, and of this run


def test_forms_are_diagonal_in_their_second_moment(coarse: Accumulated) -> None:
    """With all channels kept, the staged fit is the form itself; every density has variance one."""
    problem = CollectiveProblem.of(coarse, Problem.of(coarse))
    train = problem.pairs.train
    for form, channels in zip(coarse.forms, problem.full.channels, strict=True):
        second = form.second_baa[list(train)].sum(axis=0) / form.number_b[list(train)].sum()
        metric = channels.vectors.T @ second @ channels.vectors
        assert metric == pytest.approx(np.eye(len(metric)), abs=1e-6)
        assert (np.diff(np.abs(channels.strengths)) <= 0).all()
    errors = [
        problem.squares(problem.refit(problem.full, train, rank), train).sum()
        for rank in (1, 2, 4, 99)
    ]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < problem.squares(problem.full, train).sum()


def test_channels_that_cancel_are_made_independent(coarse: Accumulated) -> None:
    """Two of a search, nearly the same with opposite signs: the form stays what it is."""
    form, train = coarse.forms[0], Problem.of(coarse).train
    unit, _ = unit_variance(form, train)
    rng = np.random.default_rng(3)
    one, change = rng.normal(size=(2, unit.shape[1]))
    z = np.array([10 * one, 10 * one + change])
    found = OfForm(form, np.array([1.0, -1.0]), unit, z, np.zeros((2, len(unit))))
    own, expected = found.channels(z, train), found.coefficients(z)
    assert np.abs(own.products(form) @ own.strengths - expected).max() < 1e-9 * abs(expected).max()
    metric = own.vectors.T @ variance(form, train) @ own.vectors
    assert metric == pytest.approx(np.eye(2), abs=1e-9)
    assert own.strengths.min() < 0 < own.strengths.max()
    assert np.abs(own.strengths).max() < 0.3 * (z**2).sum(axis=1).max()


def test_forces_on_molecules() -> None:
    """Net force, and torque about the middle over the diameter, of molecules across the boundary;
    an ion has none.
    """
    frame = liquid(["CH3OH", "H2O", "Na"], TRICLINIC, seed=3)
    topology, x, cell = topology_of(frame), frame.positions[0], frame.cell[0]
    forces = np.random.default_rng(0).normal(size=x.shape)
    on_molecules = molecules_matrix(System(topology, x, cell, 0.0)) @ forces.ravel()
    whole = topology.whole(x, cell)
    for atoms, (net, torque) in zip(
        topology.molecules, on_molecules.reshape(-1, 2, 3), strict=True
    ):
        arm = whole[atoms] - whole[atoms].mean(axis=0)
        diameter = 2 * np.sqrt((arm**2).sum(axis=1).mean()) or 1.0
        assert net == pytest.approx(forces[atoms].sum(axis=0))
        assert torque == pytest.approx(np.cross(arm, forces[atoms]).sum(axis=0) / diameter)


def test_channels_lower_the_error(few: Trajectory, collective_water: AgentLoss) -> None:
    """40 frames and two channels; the error told is that of the exported functions on frames not
    seen.
    """
    p = collective_water.provenance
    assert [t.name for t in collective_water.channels] == [
        f"collective:{s}:{k}" for s in "OH" for k in (1, 2)
    ]
    assert collective_water.agents == {}
    for s in "OH":
        assert p["relative_rmse"][s] < 0.75 * p["relative_rmse_pairs"][s]
    assert few.forces is not None
    topology = topology_of(few[0])
    forces = [
        evaluate(collective_water, topology, few.positions[f], few.cell[f])[1] for f in TEST_FRAMES
    ]
    assert p["rmse_meV_per_A"] == pytest.approx(
        1e3 * np.sqrt(((forces - few.forces[TEST_FRAMES]) ** 2).mean())
    )
    curve = {row["rank"]: row for row in p["collective"]["curve"]}
    assert p["collective"]["rank"] == 2 and curve[2]["channels"] == 4
    assert curve[2]["unseen_meV_per_A"] == pytest.approx(
        p["rmse_meV_per_A"], rel=0.05
    )  # there without walls
    assert curve[6]["unseen_meV_per_A"] < curve[1]["unseen_meV_per_A"]


def test_ranges_are_those_of_all_frames(few: Trajectory, collective_water: AgentLoss) -> None:
    topology = topology_of(few[0])
    every = [
        collective_water.densities(System(topology, x, c, collective_water.cutoff_A))
        for x, c in zip(few.positions, few.cell, strict=True)
    ]
    for t in collective_water.channels:
        rho = np.concatenate([of_frame[t.name] for of_frame in every])
        assert t.range == pytest.approx((rho.min(), rho.max()))
        assert sum(t.coverage["counts"]) == len(rho)
        assert rho.mean() == pytest.approx(t.rest, abs=0.02)
        assert rho[: len(rho)].std() == pytest.approx(1, abs=0.1)
    assert set(excursions(collective_water, few).values()) == {0.0}
    squeezed = replace(few, positions=0.97 * few.positions, cell=0.97 * few.cell)
    outside = excursions(collective_water, squeezed, most=7)
    assert (
        list(outside) == [t.name for t in collective_water.channels]
        and max(outside.values()) > 0.001
    )


def test_test_frames_teach_nothing(few: Trajectory) -> None:
    """Not even the choice of the rank."""
    assert few.forces is not None
    expected = fit(few, COARSE).loss
    nonsense = few.forces.copy()
    nonsense[TEST_FRAMES] = np.random.default_rng(0).normal(size=nonsense[TEST_FRAMES].shape)
    misled = fit(replace(few, forces=nonsense), COARSE).loss
    assert misled.terms == expected.terms
    assert min(misled.provenance["relative_rmse"].values()) > 1
    curve = {
        row["rank"]: row["cross_validated_meV_per_A"] or np.inf
        for row in expected.provenance["collective"]["curve"]
    }
    rank = expected.provenance["collective"]["rank"]
    assert curve[rank] <= 1.02 * min(curve.values()) < min(e for r, e in curve.items() if r < rank)


def test_agents_are_those_of_pairs_alone(
    few: Trajectory, collective_water: AgentLoss, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"no loss of O's own: fit it again .* --accuracy pairs"):
        learn(collective_water, few[0], tmp_path / "agents")
    assert not (tmp_path / "agents").exists()


# --- engines --------------------------------------------------------------------------------------


def test_bonded_pairs_count_in_densities_only(
    few: Trajectory, collective_water: AgentLoss, tmp_path: Path
) -> None:
    """In LAMMPS by a factor that leaves them on its list; files of pairs alone are as ever."""
    start = start_from(few[0])
    export_lammps(collective_water, start, tmp_path / "a")
    text = (tmp_path / "a" / "forcefield.lmp").read_text()
    assert "special_bonds lj/coul 1e-20 1.0 1.0\n" in text
    assert "pair_style hybrid/overlay table spline 6000 eam/he eam/he\n" in text
    assert "pair_coeff * * eam/he 2 collective.2.eam O H\n" in text
    pairs = collective_water.only(*(t.name for t in collective_water.free_terms))
    export_lammps(pairs, start, tmp_path / "b")
    text = (tmp_path / "b" / "forcefield.lmp").read_text()
    assert (
        "special_bonds lj/coul 0.0 1.0 1.0\n" in text and "pair_style table spline 6000\n" in text
    )
    assert not list((tmp_path / "b").glob("*.eam"))


def test_isotopes_share_their_channels(
    few: Trajectory, collective_water: AgentLoss, tmp_path: Path
) -> None:
    masses = few.masses.copy()
    masses[few.symbols.index("H")] = 2.014
    start = start_from(replace(few[0], masses=masses))
    export_lammps(collective_water, start, tmp_path)
    assert "eam/he 1 collective.1.eam O H H\n" in (tmp_path / "forcefield.lmp").read_text()


def test_verify_looks_at_every_channel(
    few: Trajectory, collective_water: AgentLoss, tmp_path: Path
) -> None:
    """And notices a density that is off by a thousandth."""
    result = verify(collective_water, few, 1)
    assert result.passed
    for engine in result.engines.values():
        assert list(engine.terms_force_difference_eV_per_A) == [
            t.name for t in collective_water.terms
        ]
        assert max(engine.terms_force_difference_eV_per_A.values()) < 1e-4
        scale = sum(map(abs, result.terms_eV.values()))
        assert engine.terms_eV == pytest.approx(result.terms_eV, abs=1e-5 * scale)
    start = start_from(few[0])
    export_lammps(collective_water, start, tmp_path / "lammps")
    file = tmp_path / "lammps" / "collective.1.eam"
    lines = file.read_text().splitlines()
    grid = lines[4].split()
    lines[4] = " ".join(
        [*grid[:5], repr(float(grid[5]) + 0.01)]
    )  # every embedding shifted by a hundredth
    file.write_text("\n".join(lines) + "\n")
    try:
        spoilt = verify(collective_water, few, 1, {"lammps": tmp_path / "lammps"}, per_term=False)
    except EngineError:
        return
    assert not spoilt.passed


def test_a_system_without_one_of_the_species(tmp_path: Path) -> None:
    """Its channels are not there, nor is it a neighbour of others."""
    loss = with_channels(invent(liquid(["H2O"] * 4 + ["Na", "Na"], CUBE)))
    start = start_from(liquid(["H2O"] * 4, CUBE))
    energies, _ = evaluate(loss, start.topology, start.frame.positions[0], start.frame.cell[0])
    assert energies["collective:Na:1"] == 0 and energies["collective:O:1"] != 0
    assert verify(loss, start.frame, 1, per_term=False).passed
    export_openmm(loss, start, tmp_path)
    system = load_system(tmp_path)
    names = [f.getName() for f in system.getForces()]
    assert "collective:O:1 collective:H:1" in names and not any(
        "Na:1" in n and "collective" in n for n in names
    )


# --- what users write -----------------------------------------------------------------------------


def test_rank_on_the_command_line() -> None:
    assert with_ranks(["fit", "x", "--collective", "-o", "y"]) == [
        "fit",
        "x",
        "--collective",
        "auto",
        "-o",
        "y",
    ]
    assert with_ranks(["fit", "--collective"]) == ["fit", "--collective", "auto"]
    assert with_ranks(["fit", "--collective", "6", "x"]) == ["fit", "--collective", "6", "x"]
    assert parse_rank("6") == 6 and parse_rank("auto") == AUTO
    for nonsense in ("-3", "many", "1.5", True):
        with pytest.raises(InputError, match="the number of channels for each species, or auto"):
            parse_rank(nonsense)


@pytest.mark.parametrize(("text", "rank"), [('"auto"', AUTO), ("6", 6), ("0", 0)])
def test_rank_in_a_configuration(text: str, rank: int, tmp_path: Path) -> None:
    file = tmp_path / "build.toml"
    file.write_text(f'cp2k = "x"\n[fit]\ncollective = {text}\n')
    assert read_config(file).basis.collective == rank
    file.write_text('cp2k = "x"\n[fit]\ncollective = -7\n')
    with pytest.raises(InputError, match="-7 channels of the collective loss are asked for"):
        read_config(file)
