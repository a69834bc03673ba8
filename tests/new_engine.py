"""All that a new engine needs: one that writes its own text file, and computes it with numpy.

The line that adds it is `ENGINES["textbook"] = TEXTBOOK` (`mld_ff.engines.registry`).
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from MDAnalysis.lib.formats.libdcd import DCDFile
from scipy.interpolate import CubicHermiteSpline

from mld_ff.engines import dcd
from mld_ff.engines.engine import TRAJECTORY, Engine, RunFiles, Session
from mld_ff.engines.settings import DEFAULT_MD, MD, Device
from mld_ff.engines.start import Start
from mld_ff.errors import EngineError, InputError
from mld_ff.files import write_atomically
from mld_ff.loss.model import AgentLoss
from mld_ff.trajectory import Floats, Ints, Trajectory
from mld_ff.units import (
    A_PER_FS_TO_A_PER_PS,
    AMU_A2_PER_FS2_TO_EV,
    AMU_PER_A3_TO_G_PER_CM3,
    FS_TO_PS,
    KB_EV_PER_K,
)

SPACING_A = 0.005
NEAREST_A = 0.2
BONDS_A = (0.4, 4.0)
SYSTEM, LOG, VELOCITIES, CHECKPOINT, FINAL = (
    "system.txt",
    "log.textbook",
    "velocities.dcd",
    "checkpoint.textbook",
    "final.textbook",
)


# --- its file: sections of numbers, each under its name -------------------------------------------


def export(
    loss: AgentLoss,
    start: Start,
    directory: Path | str,
    settings: MD = DEFAULT_MD,
) -> list[Path]:
    """Cell [Å], atoms (species, mass [amu], positions [Å], velocities [Å/fs]), and of every term
    its pairs or species and a table of r [Å], energy [eV] and slope [eV/Å].
    """
    start.check(loss)
    if loss.channels:
        raise InputError("textbook computes pairs only: fit without --collective")
    topology, frame, terms = start.topology, start.frame, loss.terms_of(start.topology)
    assert frame.velocities is not None
    columns = (topology.species_index, frame.masses, frame.positions[0], frame.velocities[0])
    sections = {"cell": frame.cell[0], "atoms": np.column_stack(columns)}
    for path, name in topology.bonded_names.items():
        r = np.arange(*BONDS_A, SPACING_A)
        sections[f"{name} pairs"] = topology.bonded[path]
        sections[f"{name} table"] = np.column_stack([r, *terms[name].evaluate(r)])
    for a, b in topology.free:
        name = f"free:{a}-{b}"
        r = np.linspace(NEAREST_A, loss.cutoff_A, round(loss.cutoff_A / SPACING_A))
        sections[f"{name} species"] = np.array([[topology.species.index(s) for s in (a, b)]])
        sections[f"{name} table"] = np.column_stack([r, *terms[name].evaluate(r)])
    lines = []
    for name, rows in sections.items():
        lines += [f"[{name}]", *(" ".join(f"{x:.17g}" for x in row) for row in rows.tolist())]
    file = Path(directory) / SYSTEM
    write_atomically(file, "\n".join(lines) + "\n")
    return [file]


def read_sections(file: Path) -> dict[str, Floats]:
    try:
        text = file.read_text()
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}; export the system", file) from None
    sections = {}
    for part in text.split("[")[1:]:
        name, _, rows = part.partition("]\n")
        sections[name] = np.array([row.split() for row in rows.splitlines()], dtype=float)
    return sections


# --- what it computes -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Tabulated:
    """A function of one distance, on pairs of atoms."""

    i: Ints
    j: Ints
    function: CubicHermiteSpline
    reach_A: float


def read_system(file: Path) -> list[Tabulated]:
    """All terms; free pairs are those that no bonded term is of."""
    sections = read_sections(file)
    species = sections["atoms"][:, 0].astype(int)
    bonded, free = [], []
    for name, table in sections.items():
        term, _, what = name.partition(" ")
        if what == "table":
            function, reach = CubicHermiteSpline(*table.T), float(table[-1, 0])
            if f"{term} pairs" in sections:
                i, j = sections[f"{term} pairs"].astype(int).T
                bonded.append(Tabulated(i, j, function, reach))
            else:
                kinds = sections[f"{term} species"][0].astype(int)
                free.append((kinds, function, reach))
    is_free = np.triu(np.ones((len(species), len(species)), bool), 1)
    for term_of_bonds in bonded:
        is_free[term_of_bonds.i, term_of_bonds.j] = False
    i, j = np.nonzero(is_free)
    terms = list(bonded)
    for (a, b), function, reach in free:
        here = ((species[i] == a) & (species[j] == b)) | ((species[i] == b) & (species[j] == a))
        terms.append(Tabulated(i[here], j[here], function, reach))
    return terms


def energy_and_forces(
    terms: list[Tabulated], positions: Floats, cell: Floats
) -> tuple[float, Floats]:
    """[eV] and (N, 3) [eV/Å]"""
    energy, forces = 0.0, np.zeros_like(positions)
    for term in terms:
        vector = positions[term.j] - positions[term.i]
        # distances up to half of the cell's widths are those of the rounded images
        vector -= np.round(vector @ np.linalg.inv(cell)) @ cell
        r = np.linalg.norm(vector, axis=1)
        near = r < term.reach_A
        energy += float(term.function(r[near]).sum())
        pull = (term.function(r[near], 1) / r[near])[:, None] * vector[near]
        np.add.at(forces, term.i[near], pull)
        np.add.at(forces, term.j[near], -pull)
    return energy, forces


def evaluate(directory: Path, frames: Trajectory, device: Device) -> tuple[Floats, Floats]:
    terms, energies, forces = read_system(directory / SYSTEM), [], []
    for positions, cell in zip(frames.positions, frames.cell, strict=True):
        energy, force = energy_and_forces(terms, positions, cell)
        energies.append(energy)
        forces.append(force)
    return np.array(energies), np.array(forces)


# --- its molecular dynamics: velocity Verlet ------------------------------------------------------


def run(session: Session) -> None:
    settings, sections = session.settings, read_sections(session.files / SYSTEM)
    if settings.ensemble != "nve":
        raise EngineError(f"textbook knows nve only, not {settings.ensemble}")
    terms = read_system(session.files / SYSTEM)
    cell, atoms = sections["cell"], sections["atoms"]
    mass, step, x, v = atoms[:, 1:2], 0, atoms[:, 2:5], atoms[:, 5:8]
    if session.checkpoint:
        state = read_sections(session.checkpoint)
        step, x, v = int(state["step"][0, 0]), state["positions"], state["velocities"]
    energy, forces = energy_and_forces(terms, x, cell)
    half = settings.timestep_fs / 2 / (mass * AMU_A2_PER_FS2_TO_EV)
    with ExitStack() as open_files:
        log = open_files.enter_context((session.output / LOG).open("w"))
        frames, of_velocities = (
            open_files.enter_context(dcd_file(session.output / name, len(x), settings.every))
            for name in (TRAJECTORY, VELOCITIES)
        )
        while True:
            if step % settings.every == 0:
                kinetic = 0.5 * AMU_A2_PER_FS2_TO_EV * float((mass * v**2).sum())
                row = (
                    step * settings.timestep_fs * FS_TO_PS,
                    2 * kinetic / (3 * (len(x) - 1) * KB_EV_PER_K),
                    energy,
                    energy + kinetic,
                    mass.sum() / np.linalg.det(cell) * AMU_PER_A3_TO_G_PER_CM3,
                )
                print(step, *row, file=log, flush=True)
                frames.write(x, box_of(cell))
                of_velocities.write(v * A_PER_FS_TO_A_PER_PS, box_of(cell))
                session.at_step(step)
            if step % settings.keep == 0:
                write_state(session.output / CHECKPOINT, step, x, v)
            if step == settings.steps:
                break
            v = v + half * forces
            x = x + settings.timestep_fs * v
            energy, forces = energy_and_forces(terms, x, cell)
            v, step = v + half * forces, step + 1
    write_state(session.output / CHECKPOINT, step, x, v)
    write_state(session.output / FINAL, step, x, v)


def dcd_file(file: Path, n_atoms: int, every: int) -> DCDFile:
    opened = DCDFile(str(file), "w")
    opened.write_header("textbook", n_atoms, 0, every, 1.0, 1)
    return opened


def box_of(cell: Floats) -> Floats:
    """Lengths and cosines as DCD files have them: a, γ, b, β, α, c."""
    a, b, c = (float(np.linalg.norm(row)) for row in cell)
    angles = cell[0] @ cell[1] / (a * b), cell[0] @ cell[2] / (a * c), cell[1] @ cell[2] / (b * c)
    return np.array([a, angles[0], b, angles[1], angles[2], c])


def write_state(file: Path, step: int, x: Floats, v: Floats) -> None:
    lines = [f"[step]\n{step}"]
    for name, rows in (("positions", x), ("velocities", v)):
        lines += [f"[{name}]", *(" ".join(f"{value:.17g}" for value in row) for row in rows)]
    write_atomically(file, "\n".join([*lines, "[end]\n"]))


def read_log(file: Path) -> dict[str, Floats]:
    names = ("step", "time_ps", "temperature_K", "potential_eV", "total_eV", "density_g_per_cm3")
    return dict(zip(names, np.loadtxt(file, ndmin=2).T, strict=True))


TEXTBOOK = Engine(
    name="textbook",
    label="Textbook",
    export=export,
    evaluate=evaluate,
    find=lambda device: {},
    run=run,
    files=RunFiles(
        log=LOG,
        read_log=read_log,
        velocities=VELOCITIES,
        read_velocities=dcd.read_velocities,
        join_velocities=dcd.join,
        checkpoints=(CHECKPOINT,),
        final=FINAL,
        checkpoint_end=b"[end]\n",
    ),
    force_tolerance_eV_per_A=1e-4,
    balanced_us_per_atom=float("inf"),
    color="C2",
    linestyle=":",
    precision="double",
)
