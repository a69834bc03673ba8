"""Energies and forces of frames, computed by OpenMM from exported files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openmm

from mld_ff.engines.openmm.neighbours import NUMBERS, compute_in_python, many_body_on
from mld_ff.engines.openmm.platforms import context_of
from mld_ff.engines.settings import Device
from mld_ff.errors import EngineError, InputError
from mld_ff.trajectory import Floats, Trajectory
from mld_ff.units import A_TO_NM, EV_PER_A_TO_KJ_PER_MOL_PER_NM, EV_TO_KJ_PER_MOL

CPU = Device("CPU")


def load_system(directory: Path | str) -> openmm.System:
    """The System of an exported directory. Raises InputError if it is not there, or if reading it
    could run code.
    """
    file = Path(directory) / "system.xml"
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"cannot be read: {error.strerror}; write it with `mld-ff export --engine openmm`", file
        ) from None
    except ValueError as error:
        raise InputError(f"is not an OpenMM System: {error}", file) from None
    # OpenMM unpickles a PythonForce where it reads one; a numbered character could hide its name
    if "PythonForce" in text or "&#" in text:
        raise InputError(
            "holds a PythonForce, or characters as numbers that could hide one: reading it could"
            " run any code; export the model again with `mld-ff export --engine openmm`",
            file,
        )
    try:
        return openmm.XmlSerializer.deserialize(text)
    except (openmm.OpenMMException, ValueError) as error:
        raise InputError(f"is not an OpenMM System: {error}", file) from None


def evaluate(
    directory: Path | str, frames: Trajectory, device: Device = CPU
) -> tuple[Floats, Floats]:
    """Potential energy (F,) [eV] and forces (F, N, 3) [eV/Å] of frames with the files of
    `export_openmm`.

    Frames must be in engine form (`Start.engine_frames`). Raises EngineError if OpenMM refuses the
    System.
    """
    system, numbers = load_system(directory), Path(directory) / NUMBERS
    if system.getNumParticles() != frames.n_atoms:
        raise InputError(
            f"holds {system.getNumParticles()} atoms, the frames {frames.n_atoms}",
            Path(directory) / "system.xml",
        )
    if numbers.exists() and many_body_on(device) == "python":
        compute_in_python(system, numbers, device)
    energies, forces = [], []
    try:
        context = context_of(system, device)
        for f in range(frames.n_frames):
            set_frame(context, frames, f)
            state = context.getState(energy=True, forces=True)
            energies.append(state.getPotentialEnergy()._value / EV_TO_KJ_PER_MOL)
            forces.append(forces_in(state))
    except openmm.OpenMMException as error:
        raise EngineError(f"OpenMM refused {Path(directory) / 'system.xml'}: {error}") from None
    return np.array(energies), np.array(forces)


def set_frame(context: openmm.Context, frames: Trajectory, f: int) -> None:
    """Bring a Context to frame number f."""
    context.setPeriodicBoxVectors(*(openmm.Vec3(*row) for row in frames.cell[f] * A_TO_NM))
    context.setPositions(frames.positions[f] * A_TO_NM)


def forces_in(state: openmm.State) -> Floats:
    """Forces (N, 3) [eV/Å]."""
    return np.array(state.getForces(asNumpy=True)._value) / EV_PER_A_TO_KJ_PER_MOL_PER_NM
