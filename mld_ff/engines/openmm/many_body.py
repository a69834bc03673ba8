"""Channels of densities as numbers in a file, and who computes them: OpenMM's own forces, or
`templates/mld_ff_densities.py` in a PythonForce.

system.xml holds OpenMM's own forces, which run everywhere. The module, compiled by numba, is
exported beside run.py and takes their place in memory: the XML of a PythonForce would be a pickle,
which runs code where it is read.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from importlib.util import module_from_spec, spec_from_file_location
from io import BytesIO
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import openmm

from mld_ff.engines.openmm.angles import angular_names, angular_sets
from mld_ff.engines.openmm.densities import density_sets, name_of
from mld_ff.engines.openmm.platforms import platform_named
from mld_ff.engines.openmm.system import openmm_system
from mld_ff.engines.settings import Device, ManyBody
from mld_ff.engines.start import Start
from mld_ff.errors import EngineError, InputError
from mld_ff.files import template_path
from mld_ff.geometry.topology import Topology
from mld_ff.loss.densities import DensityTerm
from mld_ff.loss.model import AgentLoss
from mld_ff.trajectory import Floats

MODULE, NUMBERS = "mld_ff_densities.py", "densities.npz"
"""Exported files."""
FASTER_IN_PYTHON = ("CPU", "Reference")
"""Platforms on which OpenMM's own forces take a multiple of the time, with angles 1,200 times as
long (tests/benchmarks/README.md).
"""


def many_body_ways(device: Device) -> tuple[ManyBody, ...]:
    """In which ways densities can be computed on a device, the faster first."""
    if not hasattr(openmm, "PythonForce"):
        return ("native",)
    on_cpu = platform_named(device.platform).getName() in FASTER_IN_PYTHON
    return ("python", "native") if on_cpu else ("native", "python")


def many_body_on(device: Device) -> ManyBody:
    """How densities are computed on a device: as asked for, or the faster way. Raises EngineError
    if OpenMM is too old for what is asked for.
    """
    ways = many_body_ways(device)
    if device.many_body in (None, *ways):
        return device.many_body or ways[0]
    raise EngineError(
        f"--many-body python needs OpenMM 8.5 or later; this is {openmm.__version__}:"
        ' pip install "openmm>=8.5"'
    )


def compute_in_python(system: openmm.System, numbers: Path | BytesIO) -> None:
    """Replace OpenMM's own forces by the module. Raises InputError if the file of numbers belongs
    to another system.
    """
    file = numbers if isinstance(numbers, Path) else None
    try:
        densities_module().replace_forces(system, numbers)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"cannot be used: {error}", file) from None


def system_on(device: Device, loss: AgentLoss, start: Start) -> openmm.System:
    """`openmm_system`, with densities computed as `many_body_on` says; never written to a file."""
    system, numbers = openmm_system(loss, start), densities_file(loss, start.topology)
    if numbers and many_body_on(device) == "python":
        compute_in_python(system, BytesIO(numbers))
    return system


def densities_file(loss: AgentLoss, topology: Topology) -> bytes | None:
    """densities.npz, what the module computes with (`docs/file-formats.md`); None where there are
    no densities. Kinds that the module does not know stay with OpenMM's own forces.
    """
    names = [
        *(name_of(s.values()) for kind, s in density_sets(loss, topology) if kind is DensityTerm),
        *(
            name
            for channels in angular_sets(loss, topology)
            if type(channels[0]) is DensityTerm
            for name in angular_names(channels)
        ),
    ]
    if not names:
        return None
    grids: dict[tuple[float, float], list[DensityTerm]] = {}
    for channel in loss.channels:  # those without strength too: numba compiles for their number
        if type(channel) is DensityTerm:
            grids.setdefault(channel.grid, []).append(channel)
    arrays: dict[str, Any] = {"forces": np.array(names)}
    for n, channels in enumerate(grids.values()):
        arrays |= {f"{n}.{name}": a for name, a in _arrays(channels, topology).items()}
    file = BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def densities_module() -> ModuleType:
    """Our own copy of the exported module; that of a stranger's directory is a program."""
    name = MODULE.removesuffix(".py")
    if name not in sys.modules:
        spec = spec_from_file_location(name, template_path(MODULE))
        assert spec is not None and spec.loader is not None
        module = module_from_spec(spec)
        spec.loader.exec_module(module)
        sys.modules[name] = module
    return sys.modules[name]


def _arrays(channels: Sequence[DensityTerm], topology: Topology) -> dict[str, Floats]:
    """Of channels on one grid, as `Densities` of the module takes them."""
    species = topology.species
    numbers = {s: [t for t in channels if t.order == 0 and t.species == (s,)] for s in species}
    tensors = [t for order in (1, 2) for t in channels if t.order == order]
    n0, (spacing, cutoff) = max(map(len, numbers.values())), channels[0].grid
    intervals = math.ceil(cutoff / spacing)
    n_functions = 2 * n0 + len(tensors)
    table = np.zeros((len(species), len(species), intervals, 4, n_functions))
    embedding = np.zeros((len(species), n0, 5))
    embedding[:, :, 4] = 1.0
    for a, one in enumerate(species):
        for k, t in enumerate(numbers[one]):
            embedding[a, k] = t.strength_eV, t.rest, *t.range, t.fade
        for b, other in enumerate(species):
            for k, t in enumerate(numbers[one]):
                table[a, b, :, :, k] = _polynomials(t, one, other)
            for k, t in enumerate(numbers[other]):
                table[a, b, :, :, n0 + k] = _polynomials(t, other, one)
            for k, t in enumerate(tensors):
                table[a, b, :, :, 2 * n0 + k] = _polynomials(t, one, other)
    n1 = sum(t.order == 1 for t in tensors)
    return {
        "kind": np.array(topology.species_index, np.int64),
        "grid": np.array([spacing, cutoff]),
        "numbers": np.array([n0, n1, len(tensors) - n1]),
        "table": table,
        "embedding": embedding,
        "strength": np.array([t.strength_eV for t in tensors]),
    }


def _polynomials(term: DensityTerm, centre: str, other: str) -> Floats:
    """Coefficients (M, 4) of what a function is between its knots: cubics through four values."""
    spacing, cutoff = term.grid
    t = np.arange(4) / 4
    of_values = np.linalg.inv(np.vander(t, 4, increasing=True))
    places = np.arange(math.ceil(cutoff / spacing))[:, None] + t
    for neighbour in term.neighbours:
        if term.is_of(neighbour, centre, other):
            values = term.density(neighbour, (cutoff - spacing * places).ravel())
            return np.asarray(values.reshape(places.shape) @ of_values.T)
    return np.zeros(places.shape)
