"""What OpenMM computes on: its platforms, their devices and precisions."""

from __future__ import annotations

import openmm

from mld_ff.engines.settings import Device
from mld_ff.errors import EngineError, InputError

PRECISIONS = ("single", "mixed", "double")
FIXED_PRECISION = {"CPU": "single between molecules, else double", "Reference": "double"}


def version() -> str:
    return str(openmm.Platform.getOpenMMVersion())


def devices() -> list[Device]:
    """One for every platform, the fastest first."""
    present = sorted(_platforms(), key=lambda platform: -platform.getSpeed())
    return [Device(platform.getName()) for platform in present]


def _platforms() -> list[openmm.Platform]:
    return [openmm.Platform.getPlatform(k) for k in range(openmm.Platform.getNumPlatforms())]


def platform_named(name: str | None) -> openmm.Platform:
    """The platform of that name, or the fastest present. Raises InputError naming the ones that are
    there.
    """
    present = _platforms()
    if name is None:
        return max(present, key=lambda p: p.getSpeed())
    for platform in present:
        if platform.getName().lower() == name.lower():
            return platform
    names = ", ".join(p.getName() for p in present)
    remedy = '; for CUDA: pip install "openmm[cuda12]"' if name.lower() == "cuda" else ""
    raise InputError(f"OpenMM has no platform {name!r} here; present: {names}{remedy}")


def context_of(system: openmm.System, device: Device | None = None) -> openmm.Context:
    """A Context of the System on a device.

    Raises InputError if the platform is not there or has no such precision.
    """
    device = device or Device()
    platform, precision = platform_named(device.platform), device.precision
    name = platform.getName()
    if precision not in (None, *PRECISIONS):
        raise InputError(f"the precision is {precision!r}; known: {', '.join(PRECISIONS)}")
    if precision and name in FIXED_PRECISION:
        raise InputError(
            f"{name} has no choice of precision: {FIXED_PRECISION[name]}; CUDA, HIP and OpenCL"
            " have one"
        )
    properties = {"Precision": precision} if precision else {}
    return openmm.Context(system, openmm.VerletIntegrator(0.001), platform, properties)


def find_device(device: Device) -> dict[str, str]:
    """What OpenMM would compute on: `platform`, `device` and `precision`. Raises as `context_of`,
    and EngineError if OpenMM cannot use the platform.
    """
    system = openmm.System()
    system.addParticle(1.0)
    try:
        context = context_of(system, device)
    except openmm.OpenMMException as error:
        name = platform_named(device.platform).getName()
        raise EngineError(f"OpenMM cannot use {name}: {error}") from None
    platform = context.getPlatform()
    properties = {
        name: platform.getPropertyValue(context, name) for name in platform.getPropertyNames()
    }
    threads = int(properties.get("Threads", 1))
    processor = "1 thread" if threads == 1 else f"{threads} threads"
    fixed = FIXED_PRECISION.get(platform.getName(), "")
    return {
        "platform": platform.getName(),
        "device": properties.get("DeviceName") or processor,
        "precision": properties.get("Precision", fixed),
    }
