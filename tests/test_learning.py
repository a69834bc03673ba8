"""The agents' own dynamics: their forces, what ASE makes of them, and what broken reciprocity
does.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import ase.units
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.calculator import PropertyNotImplementedError
from ase.md.verlet import VelocityVerlet
from conftest import CUBE, TRICLINIC, evaluate, invent, liquid, named_pairs, topology_of

from mld_ff.calculator import Calculator
from mld_ff.engines.settings import MD
from mld_ff.errors import CheckFailed, InputError
from mld_ff.geometry.system import System
from mld_ff.geometry.topology import Topology
from mld_ff.loss.model import AgentLoss
from mld_ff.trajectory import Floats, Trajectory
from mld_ff.workflows.agents import AgentsCalculator, Learning, learn, temperatures

LIQUID = ["H2O"] * 4 + ["CH3OH"] * 2 + ["Na"]
DENSE = 0.68 * CUBE


def like_the_reciprocal(loss: AgentLoss) -> AgentLoss:
    """The same model whose agents have the reciprocal terms for their own."""
    agents = {s: tuple(t for t in loss.terms if s in t.species) for s in loss.species}
    return replace(loss, agents=agents)


def each_its_own(frame: Trajectory) -> AgentLoss:
    """An invented loss whose agents have other functions than the reciprocal one, and each
    other.
    """
    loss = invent(frame, cutoff=3.9, edge=2.7)
    agents = {}
    for k, s in enumerate(loss.species, start=2):
        mine = [t for t in loss.terms if s in t.species]
        agents[s] = tuple(
            replace(t, coefficients=tuple(k * c for c in t.coefficients)) for t in mine
        )
    return replace(loss, agents=agents)


def atoms_of(frame: Trajectory, calculator: object = None) -> Atoms:
    atoms = Atoms(frame.symbols, positions=frame.positions[0], cell=frame.cell[0], pbc=True)
    atoms.set_masses(frame.masses)
    if frame.velocities is not None:
        atoms.set_velocities(frame.velocities[0] / ase.units.fs)
    atoms.calc = calculator
    return atoms


def at_rest(frame: Trajectory) -> tuple[Topology, Trajectory]:
    assert frame.velocities is not None
    drift = np.einsum("fpc,p->fc", frame.velocities, frame.masses)[:, None] / frame.masses.sum()
    return topology_of(frame), replace(frame, velocities=frame.velocities - drift)


def momentum(atoms: Atoms) -> Floats:
    return np.asarray(atoms.get_momenta().sum(axis=0))


# --- forces ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", [DENSE, 0.68 * TRICLINIC], ids=["cube", "triclinic"])
def test_agents_forces_are_those_of_their_own_losses(cell: Floats) -> None:
    """Species by species against the reciprocal machinery with that species' terms (others' pairs
    at zero).
    """
    frame = liquid(LIQUID, cell)
    topology, loss = topology_of(frame), each_its_own(frame)
    forces = loss.evaluate_agents(
        System(topology, frame.positions[0], frame.cell[0], loss.cutoff_A)
    )
    for s in loss.species:
        own = {t.name: t for t in loss.agents[s]}
        alone = replace(loss, terms=tuple(own.get(t.name, t.zeroed()) for t in loss.terms))
        _, expected = evaluate(alone, topology, frame.positions[0], frame.cell[0])
        mine = np.array([x == s for x in frame.symbols])
        assert np.abs(expected[mine]).max() > 0.1
        assert forces[mine] == pytest.approx(expected[mine], abs=1e-12)
    assert np.abs(forces.sum(axis=0)).max() > 0.1


def test_agents_with_the_reciprocal_terms_exert_the_reciprocal_forces() -> None:
    """Exactly: the same terms in the same order."""
    frame = liquid(LIQUID, DENSE)
    topology, loss = topology_of(frame), like_the_reciprocal(invent(frame))
    _, expected = evaluate(loss, topology, frame.positions[0], frame.cell[0])
    assert np.array_equal(
        loss.evaluate_agents(System(topology, frame.positions[0], frame.cell[0], loss.cutoff_A)),
        expected,
    )


def test_model_without_agents_is_refused(tmp_path: Path) -> None:
    frame = liquid(LIQUID, DENSE)
    loss = invent(frame, cutoff=4.0)
    with pytest.raises(InputError, match=r"holds no loss of .*'s own: fit it again"):
        learn(loss, frame, tmp_path / "x")
    incomplete = {s: terms[1:] for s, terms in like_the_reciprocal(loss).agents.items()}
    with pytest.raises(InputError, match="has no term"):
        learn(replace(loss, agents=incomplete), frame, tmp_path / "x")
    assert not (tmp_path / "x").exists()


# --- calculators ----------------------------------------------------------------------------------


def test_calculators_are_the_numpy_reference(spline_water: AgentLoss, few: Trajectory) -> None:
    frame = few[7]
    topology = topology_of(frame)
    atoms = atoms_of(frame, Calculator(spline_water, topology))
    energies, forces = evaluate(spline_water, topology, frame.positions[0], frame.cell[0])
    assert np.array_equal(atoms.get_forces(), forces)
    assert (
        atoms.get_potential_energy()
        == atoms.get_potential_energy(force_consistent=True)
        == sum(energies.values())
    )
    atoms.calc = AgentsCalculator(spline_water, topology)
    expected = spline_water.evaluate_agents(
        System(topology, frame.positions[0], frame.cell[0], spline_water.cutoff_A)
    )
    assert np.array_equal(atoms.get_forces(), expected)
    with pytest.raises(PropertyNotImplementedError):
        atoms.get_potential_energy()


def test_calculator_refuses_other_atoms_and_open_boundaries(
    spline_water: AgentLoss, few: Trajectory
) -> None:
    atoms = atoms_of(few[0], AgentsCalculator(spline_water, topology_of(few[0])))
    atoms.pbc = (True, True, False)
    with pytest.raises(InputError, match="periodic along all three"):
        atoms.get_forces()
    atoms.pbc = True
    atoms.symbols[0] = "S"
    with pytest.raises(InputError, match="not those of the topology"):
        atoms.get_forces()


# --- what is conserved ----------------------------------------------------------------------------


def test_reciprocal_run_conserves_energy_and_momentum(
    spline_water: AgentLoss, few: Trajectory
) -> None:
    """NVE through ASE: the energy's deviation falls with the square of the time step, so it is the
    integrator's.
    """
    topology, frame = at_rest(few[20])
    deviation = {}
    for timestep in (0.25, 0.5):
        atoms = atoms_of(frame, Calculator(spline_water, topology))
        run = VelocityVerlet(atoms, timestep * ase.units.fs).irun(round(20 / timestep))
        deviation[timestep] = np.ptp([atoms.get_total_energy() for _ in run])
        assert np.abs(momentum(atoms)).max() < 1e-11
    assert deviation[0.25] < 1e-3 * atoms.get_kinetic_energy()
    assert deviation[0.5] / deviation[0.25] == pytest.approx(4, rel=0.25)


def test_equal_agents_conserve_momentum(spline_water: AgentLoss, few: Trajectory) -> None:
    topology, frame = at_rest(few[20])
    atoms = atoms_of(frame, AgentsCalculator(like_the_reciprocal(spline_water), topology))
    VelocityVerlet(atoms, 0.5 * ase.units.fs).run(20)
    assert np.abs(momentum(atoms)).max() < 1e-11


def test_agents_own_losses_push_the_box(spline_water: AgentLoss, few: Trajectory) -> None:
    """The momentum is the time integral of the sum of the agents' forces; ASE takes nothing away
    from it.
    """
    topology, frame = at_rest(few[20])
    atoms = atoms_of(frame, AgentsCalculator(spline_water, topology))
    timestep = 0.5 * ase.units.fs
    net = []
    for _ in VelocityVerlet(atoms, timestep).irun(20):
        forces = spline_water.evaluate_agents(
            System(topology, atoms.positions, atoms.cell.array, spline_water.cutoff_A)
        )
        net.append(forces.sum(axis=0))
    impulse = timestep * (np.sum(net, axis=0) - (net[0] + net[-1]) / 2)
    assert np.linalg.norm(net[0]) > 0.1
    assert np.linalg.norm(impulse) > 0.01
    assert momentum(atoms) == pytest.approx(impulse, abs=1e-10)


# --- temperatures ---------------------------------------------------------------------------------


def test_temperatures_of_species_are_the_sum_over_atoms() -> None:
    """In SI units, atom by atom, and whatever the drift of the box."""
    frame = liquid(LIQUID, DENSE)
    rng = np.random.default_rng(3)
    v = rng.normal(size=(frame.n_atoms, 3)) * 0.01
    drift = sum(m * x for m, x in zip(frame.masses, v, strict=True)) / sum(frame.masses)
    kelvin = temperatures(frame.symbols, frame.masses, v + np.array([0.3, -0.2, 0.1]))
    assert list(kelvin) == list(dict.fromkeys(frame.symbols))
    for s, temperature in kelvin.items():
        mine = [k for k in range(frame.n_atoms) if frame.symbols[k] == s]
        kinetic = sum(
            0.5 * frame.masses[k] * 1.66053907e-27 * ((v[k] - drift) @ (v[k] - drift)) * 1e10
            for k in mine
        )
        freedom = 3 * (len(mine) - sum(frame.masses[mine]) / sum(frame.masses))
        assert temperature == pytest.approx(2 * kinetic / (freedom * 1.380649e-23), rel=1e-6)


def test_temperatures_are_those_of_the_distribution() -> None:
    """Equal for all species if velocities are Maxwell's and the centre of mass is at rest."""
    symbols = ["Na", "O", "H", "H", "H"]
    masses = np.array([23.0, 16.0, 1.0, 1.0, 1.0])
    rng = np.random.default_rng(5)
    width = np.sqrt(ase.units.kB * 300 / masses) * ase.units.fs
    each = [
        temperatures(symbols, masses, rng.normal(size=(5, 3)) * width[:, None]) for _ in range(4000)
    ]
    for s in ("Na", "O", "H"):
        assert np.mean([t[s] for t in each]) == pytest.approx(300, rel=0.04)


# --- runs -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def learned(
    spline_water: AgentLoss, few: Trajectory, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Learning, Path]:
    directory = tmp_path_factory.mktemp("learning") / "run"
    return learn(spline_water, few[20], directory, MD(time_ps=0.03)), directory


def test_both_dynamics_start_from_the_same_frame(
    learned: tuple[Learning, Path], few: Trajectory
) -> None:
    runs = learned[0].runs
    assert set(runs) == {(d, e) for d in ("reciprocal", "agents") for e in ("NVE", "NVT")}
    first = runs["reciprocal", "NVE"]
    for run in runs.values():
        assert run.time_ps == pytest.approx([0, 0.01, 0.02, 0.03])
        assert run.kinetic_eV[0] == pytest.approx(first.kinetic_eV[0], rel=1e-12)
        assert run.loss_eV[0] == first.loss_eV[0]
        assert np.abs(run.momentum_amu_A_per_fs[0]).max() < 1e-12
    topology, frame = at_rest(few[20])
    assert frame.velocities is not None
    expected = temperatures(frame.symbols, frame.masses, frame.velocities[0])
    assert {s: t[0] for s, t in first.temperature_K.items()} == pytest.approx(expected, rel=1e-7)
    r = dict(named_pairs(topology, frame.positions[0], frame.cell[0], 1.0))["bonded:O-H"].r
    assert (first.mean_A["bonded:O-H"][0], first.deviation_A["bonded:O-H"][0]) == pytest.approx(
        (r.mean(), r.std())
    )


def test_reciprocal_gains_nothing_and_agents_do(learned: tuple[Learning, Path]) -> None:
    """Energy gained is, without a thermostat, the change of kinetic energy and reciprocal loss."""
    for (dynamics, ensemble), run in learned[0].runs.items():
        drift, gained = np.linalg.norm(run.drift_A_per_ps[-1]), np.abs(run.gained_eV).max()
        if dynamics == "reciprocal":
            assert drift < 1e-10 and gained < 0.03
        else:
            assert drift > 0.05 and gained > 0.1
        if ensemble == "NVE":
            total = run.kinetic_eV + run.loss_eV
            assert run.gained_eV == pytest.approx(total - total[0], abs=0.03)


def test_results_are_written_once(
    learned: tuple[Learning, Path], spline_water: AgentLoss, few: Trajectory
) -> None:
    learning, directory = learned
    data = json.loads((directory / "learning.json").read_text(encoding="utf-8"))
    assert data["finished"] is True and data["started_from"]["step"] == int(few.step[20])
    assert data["summary"] == learning.summary()
    assert np.shape(data["series"]["agents"]["NVT"]["net_force_eV_per_A"]) == (4, 3)
    assert (directory / "learning.png").stat().st_size > 10_000
    with pytest.raises(InputError, match="a result lies here already"):
        learn(spline_water, few[20], directory)


def test_runs_that_cannot_be_are_refused(
    spline_water: AgentLoss, few: Trajectory, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="2000 K are asked for"):
        learn(spline_water, few[20], tmp_path / "x", MD(2000.0, 0.01))
    with pytest.raises(
        CheckFailed, match=r"NVT: the atoms fly apart .* --timestep shorter than 40"
    ):
        learn(spline_water, few[20], tmp_path / "x", MD(time_ps=0.2, timestep_fs=40.0))
    assert not (tmp_path / "x").exists()


def test_a_frame_far_hotter_than_the_thermostat_runs_on(
    spline_water: AgentLoss, few: Trajectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mld_ff.workflows.agents._draw", lambda *_: None)
    settings = MD(20.0, 0.001, every_fs=0.5)
    for run in learn(spline_water, few[20], tmp_path / "x", settings).runs.values():
        assert len(run.time_ps) == 3


def test_any_molecules(tmp_path: Path) -> None:
    """Methanol, water and an ion; a loss invented at random heats up, and such a run ends early."""
    frame = liquid(LIQUID, DENSE, jitter=0.05)
    settings = MD(temperature_K=50, time_ps=0.02, timestep_fs=0.25, every_fs=1.0)
    learning = learn(each_its_own(frame), frame, tmp_path / "run", settings)
    assert {frozenset(bond.removeprefix("bonded:").split("-")) for bond in learning.bonds} == {
        frozenset(pair) for pair in ("OH", "CH", "CO")
    }
    for run in learning.runs.values():
        assert set(run.temperature_K) == {"O", "H", "C", "Na"}
        assert np.isfinite(run.kinetic_eV).all() and np.isfinite(run.gained_eV).all()
    assert learning.runs["agents", "NVE"].time_ps[-1] < 0.02
