"""Learning dynamics: every agent follows the gradient of its own loss, beside the dynamics of the
reciprocal loss.

The agents' own forces are not reciprocal: what A exerts on B is not minus what B exerts on A. So
momentum is not conserved, no potential energy exists, and no MD engine runs them natively: OpenMM
and LAMMPS apply every pair force to both atoms. Here numpy forces stand behind ASE calculators, and
ASE integrates (a few ms per step for 64 waters).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import ase.units
import numpy as np
from ase import Atoms
from ase.md.md import MolecularDynamics
from ase.md.nose_hoover_chain import NoseHooverChainNVT
from ase.md.verlet import VelocityVerlet

from mld_ff.calculator import Calculator
from mld_ff.engines.settings import MD
from mld_ff.engines.start import Start, start_from
from mld_ff.errors import CheckFailed, InputError
from mld_ff.files import write_atomically
from mld_ff.geometry.system import System
from mld_ff.geometry.topology import Topology
from mld_ff.loss.model import AgentLoss
from mld_ff.outputs import held, others
from mld_ff.policy import objections_to_temperature, refuse
from mld_ff.progress import Progress, no_progress
from mld_ff.trajectory import Floats, Trajectory
from mld_ff.units import (
    A_PER_FS_TO_A_PER_PS,
    AMU_A2_PER_FS2_TO_EV,
    EV_TO_MEV,
    FS_TO_PS,
    KB_EV_PER_K,
)

RECORD = "learning.json"
FIGURE = "learning.png"
DYNAMICS = ("reciprocal", "agents")
ENSEMBLES = ("NVE", "NVT")
SETTINGS = MD(time_ps=1.0)
RUNAWAY = 10.0
"""A run ends where its kinetic energy is this many times what the temperature asked for means, or
what it began with, if that is more."""


# --- forces for ASE -------------------------------------------------------------------------------


class AgentsCalculator(Calculator):
    """Every atom's own loss: `forces` (N, 3) [eV/Å] only, as AgentLoss.evaluate_agents gives them.

    There is no energy to offer, and asking for it raises ASE's PropertyNotImplementedError.
    """

    implemented_properties: ClassVar[list[str]] = ["forces"]

    def _evaluate(self, system: System) -> dict[str, Any]:
        return {"forces": self.loss.evaluate_agents(system)}


CALCULATORS: dict[str, type[Calculator]] = {"reciprocal": Calculator, "agents": AgentsCalculator}


# --- what is recorded -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Distance:
    """Of all pairs of one bonded term [Å]."""

    mean: float
    std: float
    """Standard deviation."""


@dataclass(frozen=True)
class SeriesSummary:
    """A run in numbers: drifts over all of it, temperatures and bonded distances over its second
    half.
    """

    time_ps: float
    """When it ended."""
    net_force_rms_eV_per_A: float
    """Root mean square, over time, of the sum of all forces."""
    final_momentum_amu_A_per_fs: float
    final_drift_A_per_ps: float
    """Of the centre of mass."""
    gained_eV: float
    """See `Series.gained_eV`, at the end."""
    gained_eV_per_ps: float
    """Slope of the same over all of the run."""
    temperature_K: Mapping[str, float]
    """By species."""
    distances_A: Mapping[str, Distance]
    """By bonded term."""


@dataclass(frozen=True)
class Series:
    """F moments of one run, every array (F,) but where said otherwise."""

    time_ps: Floats
    momentum_amu_A_per_fs: Floats
    """Of the whole box, (F, 3)."""
    drift_A_per_ps: Floats
    """Velocity of the centre of mass, (F, 3)."""
    net_force_eV_per_A: Floats
    """Sum of all forces, (F, 3)."""
    kinetic_eV: Floats
    loss_eV: Floats
    """The reciprocal loss where the atoms are: the potential energy of its own run, a yardstick for
    the agents'.
    """
    work_eV: Floats
    """Done by the forces so far; without a thermostat the change of kinetic energy."""
    temperature_K: Mapping[str, Floats]
    """By species; see `temperatures`."""
    mean_A: Mapping[str, Floats]
    """Mean over the pairs of every bonded term."""
    deviation_A: Mapping[str, Floats]
    """Standard deviation over the pairs of every bonded term."""

    @property
    def gained_eV(self) -> Floats:
        """Energy that the forces brought in from nowhere: work done beyond the fall of the
        reciprocal loss.

        Zero, up to the integrator's error, for the reciprocal loss with or without thermostat;
        without one, it is the change of kinetic energy plus reciprocal loss.
        """
        return np.asarray(self.work_eV + self.loss_eV - self.loss_eV[0])

    def summary(self) -> SeriesSummary:
        """The run in numbers."""
        half = slice(len(self.time_ps) // 2, None)
        slope = np.polyfit(self.time_ps, self.gained_eV, 1)[0] if len(self.time_ps) > 1 else 0.0
        distances = {}
        for name, mean in self.mean_A.items():
            variance = (self.deviation_A[name][half] ** 2).mean() + mean[half].var()
            distances[name] = Distance(float(mean[half].mean()), float(np.sqrt(variance)))
        net_force = np.sqrt((self.net_force_eV_per_A**2).sum(axis=1).mean())
        return SeriesSummary(
            time_ps=float(self.time_ps[-1]),
            net_force_rms_eV_per_A=float(net_force),
            final_momentum_amu_A_per_fs=float(np.linalg.norm(self.momentum_amu_A_per_fs[-1])),
            final_drift_A_per_ps=float(np.linalg.norm(self.drift_A_per_ps[-1])),
            gained_eV=float(self.gained_eV[-1]),
            gained_eV_per_ps=float(slope),
            temperature_K={s: float(t[half].mean()) for s, t in self.temperature_K.items()},
            distances_A=distances,
        )

    def to_dict(self) -> dict[str, Any]:
        def plain(value: Any) -> Any:
            return (
                {k: plain(v) for k, v in value.items()}
                if isinstance(value, Mapping)
                else value.tolist()
            )

        return {name: plain(value) for name, value in vars(self).items()}


@dataclass(frozen=True)
class Learning:
    """What `learn` found: from one frame, both dynamics in both ensembles."""

    settings: MD
    """Temperature, time, time step and seed of all runs; the thermostat's damping is that of NVT.
    """
    n_atoms: int
    bonds: tuple[str, ...]
    """The bonded terms that are bonds: those of atoms one bond apart."""
    runs: Mapping[tuple[str, str], Series]
    """By dynamics (`reciprocal`, `agents`) and ensemble (`NVE`, `NVT`)."""

    def summary(self) -> dict[str, Any]:
        """Numbers by dynamics and ensemble, as JSON keeps them; see Series.summary."""
        return {d: {e: asdict(self.runs[d, e].summary()) for e in ENSEMBLES} for d in DYNAMICS}

    def to_dict(self) -> dict[str, Any]:
        series = {d: {e: self.runs[d, e].to_dict() for e in ENSEMBLES} for d in DYNAMICS}
        return {
            "settings": vars(self.settings),
            "n_atoms": self.n_atoms,
            "summary": self.summary(),
            "series": series,
        }


def temperatures(symbols: Sequence[str], masses: Floats, velocities: Floats) -> dict[str, float]:
    """Kinetic temperature [K] of every species, in the frame of the centre of mass: a drift of the
    box is no heat.

    symbols (N,), masses (N,) [amu], velocities (N, 3) [Å/fs]. The centre of mass takes from every
    species its share of the mass, so that species s is left with 3 (N_s - M_s / M) degrees of
    freedom; together they are 3 N - 3.
    """
    relative = velocities - masses @ velocities / masses.sum()
    twice_kinetic = AMU_A2_PER_FS2_TO_EV * masses * (relative**2).sum(axis=1)
    kinetic_K = {}
    for species in dict.fromkeys(symbols):
        mine = np.array([s == species for s in symbols])
        freedom = 3 * (mine.sum() - masses[mine].sum() / masses.sum())
        kinetic_K[species] = (
            float(twice_kinetic[mine].sum() / (freedom * KB_EV_PER_K)) if freedom > 0 else 0.0
        )
    return kinetic_K


# --- runs -----------------------------------------------------------------------------------------


def learn(
    loss: AgentLoss,
    frame: Trajectory,
    directory: Path | str,
    settings: MD = SETTINGS,
    progress: Progress = no_progress,
) -> Learning:
    """Run the reciprocal loss and the agents' own losses from one frame, each with and without a
    thermostat.

    All four runs start from the same positions and velocities: those of `frame`, or drawn at the
    temperature where it has none; centre of mass at rest. Nothing is wrapped into the cell, and no
    motion of the centre of mass is removed. The thermostat takes such motion for heat, and where it
    has to carry off heat all the time, it does not hold its temperature exactly. A run that heats
    up beyond RUNAWAY ends early.

    directory: gets learning.json, with every series and its summary, and learning.png. Raises
    InputError if the model has no agent fit, does not cover the system or is not to run so hot, or
    the directory holds another result; CheckFailed if a time step is too long.
    """
    refuse(objections_to_temperature(loss, settings.temperature_K), force=False)
    start = start_from(frame, settings.temperature_K, settings.seed, loss.topology_kind)
    start.check(loss)
    for species in start.topology.species:  # what is missing is said before anything runs
        loss.terms_of(start.topology, species)
    loss.terms_of(start.topology)
    out = Path(directory)
    with held(out, "agents") as unfinished:
        if others(out) and not unfinished:
            raise InputError(
                "a result lies here already: choose another directory or remove this one", out
            )
        return _learn(loss, start, out, settings, progress)


def _learn(loss: AgentLoss, start: Start, out: Path, settings: MD, progress: Progress) -> Learning:
    frame = start.frame
    runs = {
        (d, e): _run(loss, start, d, e, settings, progress) for d in DYNAMICS for e in ENSEMBLES
    }
    bonds = tuple(name for path, name in start.topology.bonded_names.items() if len(path) == 2)
    learning = Learning(settings, frame.n_atoms, bonds, runs)
    _draw(learning, out / FIGURE)
    record = {
        "finished": True,
        "started_from": {**frame.origin.to_dict(), "step": int(frame.step[0])},
        **learning.to_dict(),
    }
    write_atomically(out / RECORD, json.dumps(record, allow_nan=False) + "\n")
    return learning


def _draw(learning: Learning, file: Path) -> None:
    from mld_ff.report.agents import Course, plot_learning  # loads matplotlib
    from mld_ff.report.style import save_figure

    courses = {
        key: Course(
            run.time_ps,
            np.linalg.norm(run.drift_A_per_ps, axis=1),
            run.gained_eV * EV_TO_MEV / learning.n_atoms,
            run.temperature_K,
            run.mean_A,
            run.deviation_A,
        )
        for key, run in learning.runs.items()
    }
    figure = plot_learning(courses, learning.bonds, learning.settings.temperature_K)
    save_figure(figure, file)


def _run(
    loss: AgentLoss, start: Start, dynamics: str, ensemble: str, settings: MD, progress: Progress
) -> Series:
    atoms = _atoms(start, CALCULATORS[dynamics](loss, start.topology))
    rows: list[dict[str, Any]] = []
    limit = max(
        RUNAWAY * 1.5 * len(atoms) * KB_EV_PER_K * settings.temperature_K,
        RUNAWAY * atoms.get_kinetic_energy(),
    )
    steps = _steps(atoms, _integrator(atoms, ensemble, settings), settings.steps)
    with np.errstate(over="ignore", invalid="ignore"):  # ASE's thermostat warns before we can tell
        for step, work in steps:
            if step % settings.every == 0:
                rows.append({"time_ps": step * settings.timestep_fs * FS_TO_PS, "work_eV": work})
                rows[-1] |= _moment(atoms, loss, start.topology)
                progress(f"{dynamics} {ensemble}", step, settings.steps)
                if not rows[-1]["kinetic_eV"] < limit:
                    break
    if not np.isfinite(rows[-1]["kinetic_eV"]):
        raise CheckFailed(
            f"{dynamics} {ensemble}: the atoms fly apart within {rows[-1]['time_ps']:g} ps: give a"
            f" --timestep shorter than {settings.timestep_fs:g} fs"
            + f", or a --damping longer than {settings.damping_fs:g} fs"
            * (ensemble == "NVT")
        )
    progress(f"{dynamics} {ensemble}", settings.steps, settings.steps)
    return Series(**_stacked(rows))


def _atoms(start: Start, calculator: Calculator) -> Atoms:
    frame = start.frame
    assert frame.velocities is not None
    atoms = Atoms(
        frame.symbols,
        positions=frame.positions[0],
        cell=frame.cell[0],
        pbc=True,
        calculator=calculator,
    )
    atoms.set_masses(frame.masses)
    atoms.set_velocities(frame.velocities[0] / ase.units.fs)
    return atoms


def _integrator(atoms: Atoms, ensemble: str, settings: MD) -> MolecularDynamics:
    timestep = settings.timestep_fs * ase.units.fs
    if ensemble == "NVE":
        return VelocityVerlet(atoms, timestep)
    # ASE's chain shares 3 N kT among all momenta; with the centre of mass at rest only 3 N - 3 of
    # them hold heat
    target_K = settings.temperature_K * (1 - 1 / len(atoms))
    return NoseHooverChainNVT(
        atoms, timestep, temperature_K=target_K, tdamp=settings.damping_fs * ase.units.fs
    )


def _steps(atoms: Atoms, integrator: MolecularDynamics, steps: int) -> Iterator[tuple[int, float]]:
    """Number of every step from 0 on, and the work [eV] that the forces have done up to it."""
    work, place, forces = 0.0, atoms.get_positions(), atoms.get_forces()
    for step, _ in enumerate(integrator.irun(steps)):
        new_place, new_forces = atoms.get_positions(), atoms.get_forces()
        work += float(((forces + new_forces) / 2 * (new_place - place)).sum())
        place, forces = new_place, new_forces
        yield step, work


def _moment(atoms: Atoms, loss: AgentLoss, topology: Topology) -> dict[str, Any]:
    """One moment of a Series, but for time and work."""
    masses, velocities = atoms.get_masses(), atoms.get_velocities() * ase.units.fs
    system = System(topology, atoms.get_positions(), atoms.cell.array, loss.cutoff_A)
    momentum = masses @ velocities
    distances = {topology.bonded_names[path]: pairs.r for path, pairs in system.bonded.items()}
    return {
        "momentum_amu_A_per_fs": momentum,
        "drift_A_per_ps": momentum / masses.sum() * A_PER_FS_TO_A_PER_PS,
        "net_force_eV_per_A": atoms.get_forces().sum(axis=0),
        "kinetic_eV": AMU_A2_PER_FS2_TO_EV / 2 * float(masses @ (velocities**2).sum(axis=1)),
        "loss_eV": loss.evaluate(system).energy,
        "temperature_K": temperatures(topology.symbols, masses, velocities),
        "mean_A": {name: r.mean() for name, r in distances.items()},
        "deviation_A": {name: r.std() for name, r in distances.items()},
    }


def _stacked(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Moments joined along time; dictionaries of numbers become dictionaries of arrays."""
    return {
        name: (
            _stacked([row[name] for row in rows])
            if isinstance(value, dict)
            else np.array([row[name] for row in rows])
        )
        for name, value in rows[0].items()
    }
