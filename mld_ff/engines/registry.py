"""The engines there are, and how one is chosen."""

from __future__ import annotations

from collections.abc import Iterable

from mld_ff.engines.engine import Engine
from mld_ff.engines.lammps.engine import LAMMPS
from mld_ff.engines.openmm.engine import OPENMM
from mld_ff.engines.settings import Device
from mld_ff.errors import InputError

ENGINES: dict[str, Engine] = {engine.name: engine for engine in (OPENMM, LAMMPS)}
"""By name, in the order in which they are listed everywhere."""


def engine_named(name: str) -> Engine:
    """Raises InputError naming the engines that are known."""
    if not isinstance(name, str) or name not in ENGINES:
        raise InputError(f"the engine is {name!r}; known: {', '.join(ENGINES)}")
    return ENGINES[name]


def find_engine(name: str, device: Device | None = None) -> dict[str, str]:
    """What an engine would compute on (`Engine.find`). Raises InputError or EngineError if a run
    would find something missing.
    """
    engine, device = engine_named(name), device or Device()
    if device.precision and "precision" not in engine.device_options:
        owners = " and ".join(e.label for e in engines_with("precision"))
        raise InputError(
            f"the precision is a setting of {owners}'s platforms; {engine.label} computes in"
            f" {engine.precision}"
        )
    if device.many_body and "many_body" not in engine.device_options:
        owners = " and ".join(e.label for e in engines_with("many_body"))
        raise InputError(
            f"--many-body is a choice of {owners}; {engine.label} has one way to compute densities"
        )
    if device.processes > 1 and "processes" not in engine.device_options:
        owners = " and ".join(e.label for e in engines_with("processes"))
        raise InputError(
            f"{device.processes} processes are asked for, which are a choice of {owners};"
            f" {engine.label} takes threads by itself: leave --processes out"
        )
    return engine.find(device)


def engines_with(option: str) -> list[Engine]:
    """Those that have a choice of a field of `Device`."""
    return [engine for engine in ENGINES.values() if option in engine.device_options]


def fastest(names: Iterable[str] = ENGINES) -> Engine:
    """Of these engines, the one that runs a loss with angles in least time; pairs alone are fast in
    all of them.
    """
    return min((engine_named(n) for n in names), key=lambda engine: engine.balanced_us_per_atom)
