"""OpenMM as an engine: evaluate frames with an exported System, and run it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import openmm

from mld_ff.errors import EngineError, InputError
from mld_ff.trajectory import Floats, Trajectory
from mld_ff.units import A_TO_NM, EV_PER_A_TO_KJ_PER_MOL_PER_NM, EV_TO_KJ_PER_MOL

PRECISIONS = ("single", "mixed", "double")
FIXED_PRECISION = {"CPU": "single between molecules, else double", "Reference": "double"}
DOWNHILL_EV_PER_A = 0.1
"""Root mean square of the forces at which a minimum is near enough; thermal ones are ten times
that.
"""


def platform_named(name: str | None) -> openmm.Platform:
    """The platform of that name, or the fastest present. Raises InputError naming the ones that are
    there.
    """
    present = [openmm.Platform.getPlatform(k) for k in range(openmm.Platform.getNumPlatforms())]
    if name is None:
        return max(present, key=lambda p: p.getSpeed())
    for platform in present:
        if platform.getName().lower() == name.lower():
            return platform
    names = ", ".join(p.getName() for p in present)
    remedy = '; for CUDA: pip install "openmm[cuda12]"' if name.lower() == "cuda" else ""
    raise InputError(f"OpenMM has no platform {name!r} here; present: {names}{remedy}")


def context_of(
    system: openmm.System, platform: str | None = None, precision: str | None = None
) -> openmm.Context:
    """A Context of the System on a platform (None: the fastest present), with a precision where it
    offers one.

    Raises InputError if the platform is not there or has no such precision.
    """
    chosen = platform_named(platform)
    name = chosen.getName()
    if precision not in (None, *PRECISIONS):
        raise InputError(f"the precision is {precision!r}; known: {', '.join(PRECISIONS)}")
    if precision and name in FIXED_PRECISION:
        raise InputError(
            f"{name} has no choice of precision: {FIXED_PRECISION[name]}; CUDA, HIP and OpenCL"
            " have one"
        )
    properties = {"Precision": precision} if precision else {}
    return openmm.Context(system, openmm.VerletIntegrator(0.001), chosen, properties)


def device_of(platform: str | None = None, precision: str | None = None) -> dict[str, str]:
    """What OpenMM would compute on: `platform`, `device` and `precision`. Raises as `context_of`,
    and EngineError if OpenMM cannot use the platform.
    """
    system = openmm.System()
    system.addParticle(1.0)
    try:
        context = context_of(system, platform, precision)
    except openmm.OpenMMException as error:
        raise EngineError(
            f"OpenMM cannot use {platform_named(platform).getName()}: {error}"
        ) from None
    chosen = context.getPlatform()
    found = {n: chosen.getPropertyValue(context, n) for n in chosen.getPropertyNames()}
    threads = int(found.get("Threads", 1))
    device = found.get("DeviceName") or ("1 thread" if threads == 1 else f"{threads} threads")
    fixed = FIXED_PRECISION.get(chosen.getName(), "")
    return {
        "platform": chosen.getName(),
        "device": device,
        "precision": found.get("Precision", fixed),
    }


def load_system(directory: Path | str) -> openmm.System:
    """The System of an exported directory. Raises InputError if it is not there."""
    file = Path(directory) / "system.xml"
    try:
        return openmm.XmlSerializer.deserialize(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"cannot be read: {error.strerror}; write it with `mld-ff export --engine openmm`", file
        ) from None
    except (openmm.OpenMMException, ValueError) as error:
        raise InputError(f"is not an OpenMM System: {error}", file) from None


def relaxed(
    system: openmm.System, frame: Trajectory, above_eV_per_A: float = 0.0
) -> Trajectory | None:
    """One frame moved downhill to the nearest minimum, or None if no force on an atom exceeds
    `above_eV_per_A`.

    Runs on the fastest platform present. Raises EngineError if a force is not finite.
    """
    context = context_of(system)
    context.setPeriodicBoxVectors(*(openmm.Vec3(*row) for row in frame.cell[0] * A_TO_NM))
    context.setPositions(frame.positions[0] * A_TO_NM)
    forces = (
        context.getState(forces=True).getForces(asNumpy=True)._value / EV_PER_A_TO_KJ_PER_MOL_PER_NM
    )
    if not np.isfinite(forces).all():
        raise EngineError(
            "a force on the starting frame is not finite: do atoms lie upon each other?"
        )
    if np.linalg.norm(forces, axis=1).max() <= above_eV_per_A:
        return None
    openmm.LocalEnergyMinimizer.minimize(context, DOWNHILL_EV_PER_A * EV_PER_A_TO_KJ_PER_MOL_PER_NM)
    positions = context.getState(positions=True).getPositions(asNumpy=True)._value / A_TO_NM
    return replace(
        frame, positions=np.array(positions)[None], origin=replace(frame.origin, minimized=True)
    )


def evaluate(
    directory: Path | str, frames: Trajectory, platform: str = "CPU", precision: str | None = None
) -> tuple[Floats, Floats]:
    """Potential energy (F,) [eV] and forces (F, N, 3) [eV/Å] of frames with the files of
    `export_openmm`.

    Frames must be in engine form (`Start.engine_frames`). Raises EngineError if OpenMM refuses the
    System.
    """
    system = load_system(directory)
    if system.getNumParticles() != frames.n_atoms:
        raise InputError(
            f"holds {system.getNumParticles()} atoms, the frames {frames.n_atoms}",
            Path(directory) / "system.xml",
        )
    energies, forces = [], []
    try:
        context = context_of(system, platform, precision)
        for f in range(frames.n_frames):
            context.setPeriodicBoxVectors(*(openmm.Vec3(*row) for row in frames.cell[f] * A_TO_NM))
            context.setPositions(frames.positions[f] * A_TO_NM)
            state = context.getState(energy=True, forces=True)
            energies.append(state.getPotentialEnergy()._value / EV_TO_KJ_PER_MOL)
            forces.append(
                np.array(state.getForces(asNumpy=True)._value) / EV_PER_A_TO_KJ_PER_MOL_PER_NM
            )
    except openmm.OpenMMException as error:
        raise EngineError(f"OpenMM refused {Path(directory) / 'system.xml'}: {error}") from None
    return np.array(energies), np.array(forces)
