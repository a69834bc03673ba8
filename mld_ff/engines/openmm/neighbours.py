"""Sums over neighbours, densities and pairs beside charges, as numbers in a file, and who computes
them: OpenMM's own forces, or `templates/mld_ff_neighbours.py` in a PythonForce.

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
from mld_ff.engines.openmm.charges import ORDER_IN_PYTHON, grid, waves
from mld_ff.engines.openmm.densities import density_sets, name_of
from mld_ff.engines.openmm.free_pairs import free_sets
from mld_ff.engines.openmm.platforms import platform_named
from mld_ff.engines.openmm.system import openmm_system
from mld_ff.engines.settings import Device, ManyBody
from mld_ff.engines.start import Start
from mld_ff.errors import EngineError, InputError
from mld_ff.files import template_path
from mld_ff.geometry.topology import Topology
from mld_ff.loss.charges import ChargeTerm
from mld_ff.loss.densities import DensityTerm
from mld_ff.loss.ewald import near
from mld_ff.loss.model import AgentLoss
from mld_ff.loss.terms import FreeTerm
from mld_ff.trajectory import Floats
from mld_ff.units import A_TO_NM, E2_PER_A_TO_EV

MODULES = ("mld_ff_neighbours.py", "mld_ff_waves.py", "mld_ff_densities.py")
NUMBERS = "neighbours.npz"
"""Exported files."""
SQUARE_SPACING_A2, LEAST_SQUARE_A2 = 0.02, 0.04
"""Of tables of pairs, cubics in r²: forces of water err by 5e-6 eV/Å, and finer ones are no longer
near to the processor: 0.0064 takes 1.9 instead of 1.3 ms for 512 waters.
"""
OF_ENDS = np.array([[1, 0, -3, 2], [0, 0, 3, -2], [0, 1, -2, 1], [0, 0, -1, 1]])
"""Hermite's: values at 0 and 1 and slopes there, times this, are coefficients of a cubic."""
FASTER_IN_PYTHON = ("CPU", "Reference")
"""Platforms on which OpenMM's own forces take a multiple of the time, with angles 1,200 times as
long (tests/benchmarks/README.md).
"""


def many_body_ways(device: Device) -> tuple[ManyBody, ...]:
    """In which ways sums over neighbours can be computed on a device, the faster first."""
    if not hasattr(openmm, "PythonForce"):
        return ("native",)
    on_cpu = platform_named(device.platform).getName() in FASTER_IN_PYTHON
    return ("python", "native") if on_cpu else ("native", "python")


def many_body_on(device: Device) -> ManyBody:
    """How sums over neighbours are computed on a device: as asked for, or the faster way. Raises
    EngineError if OpenMM is too old for what is asked for.
    """
    ways = many_body_ways(device)
    if device.many_body in (None, *ways):
        return device.many_body or ways[0]
    raise EngineError(
        f"--many-body python needs OpenMM 8.5 or later; this is {openmm.__version__}:"
        ' pip install "openmm>=8.5"'
    )


def compute_in_python(system: openmm.System, numbers: Path | BytesIO, device: Device) -> None:
    """Replace OpenMM's own forces by the module: all that it can compute if that is asked for, or
    what is faster. Raises InputError if the file of numbers belongs to another system.
    """
    file = numbers if isinstance(numbers, Path) else None
    platform, asked = platform_named(device.platform), device.many_body == "python"
    on_cpu = platform.getName() == "CPU"
    threads = int(platform.getPropertyDefaultValue("Threads")) if on_cpu else 1
    try:
        neighbours_module().replace_forces(system, numbers, threads, asked)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"cannot be used: {error}", file) from None


def system_on(device: Device, loss: AgentLoss, start: Start) -> openmm.System:
    """`openmm_system`, with sums over neighbours as `many_body_on` says; never a file."""
    system, numbers = openmm_system(loss, start), neighbours_file(loss, start)
    if numbers and many_body_on(device) == "python":
        compute_in_python(system, BytesIO(numbers), device)
    return system


def neighbours_file(loss: AgentLoss, start: Start) -> bytes | None:
    """neighbours.npz, what the module computes with (`docs/file-formats.md`); None where that is
    nothing. Kinds that the module does not know stay with OpenMM's own forces.
    """
    topology = start.topology
    names = [
        *(name_of(s.values()) for kind, s in density_sets(loss, topology) if kind is DensityTerm),
        *(
            name
            for channels in angular_sets(loss, topology)
            if type(channels[0]) is DensityTerm
            for name in angular_names(channels)
        ),
    ]
    free, charges = _charged_pairs(loss, topology), loss.charges
    if not names and not free:
        return None
    grids: dict[tuple[float, float], list[DensityTerm]] = {}
    for channel in loss.channels:  # those without strength too: numba compiles for their number
        if type(channel) is DensityTerm:
            grids.setdefault(channel.grid, []).append(channel)
    groups = {str(n): _arrays(alike, topology) for n, alike in enumerate(grids.values())}
    names_of_pairs = [" ".join(term.name for term in alike) for alike in free]
    if free and charges:
        names_of_pairs.append(charges.name)
        together = [term for alike in free for term in alike]
        groups["pairs"] = _arrays_of_pairs(together, charges, topology)
        groups["waves"] = _arrays_of_waves(charges, start)
    arrays: dict[str, Any] = {
        "forces_of_densities": np.array(names, str),
        "forces_of_pairs": np.array(names_of_pairs, str),
    }
    for group, of_group in groups.items():
        arrays |= {f"{group}.{name}": array for name, array in of_group.items()}
    file = BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def neighbours_module() -> ModuleType:
    """Our own copy of the exported module; that of a stranger's directory is a program."""
    names = [file.removesuffix(".py") for file in MODULES]
    for name, file in zip(names, MODULES, strict=True):
        if name not in sys.modules:
            spec = spec_from_file_location(name, template_path(file))
            assert spec is not None and spec.loader is not None
            module = module_from_spec(spec)
            spec.loader.exec_module(module)
            sys.modules[name] = module
    return sys.modules[names[0]]


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


def _charged_pairs(loss: AgentLoss, topology: Topology) -> list[list[FreeTerm]]:
    """Free terms, by the forces that hold them, where one of these computes what is near of charges
    (`put_near_in_pairs`); else none.
    """
    free = free_sets(loss, topology)
    ends = {max(term.cutoff_A for term in alike) for alike in free}
    return free if loss.charges and loss.charges.cutoff_A in ends else []


def _arrays_of_pairs(
    free: Sequence[FreeTerm], charges: ChargeTerm, topology: Topology
) -> dict[str, Floats]:
    """As `Pairs` of the module takes them."""
    cutoff = max(term.cutoff_A for term in free)
    intervals = math.ceil((cutoff**2 - LEAST_SQUARE_A2) / SQUARE_SPACING_A2)
    square, spacing = np.linspace(LEAST_SQUARE_A2, cutoff**2, intervals + 1, retstep=True)
    r = np.sqrt(square)

    def cubics(energy: Floats, slope: Floats) -> Floats:
        """With the energy and its slope at both ends."""
        energies, slopes = energy[:, None], slope[:, None] / (2 * r[:, None]) * spacing
        ends = np.hstack([energies[:-1], energies[1:], slopes[:-1], slopes[1:]])
        return np.asarray(ends @ OF_ENDS)

    own = np.stack([topology.species_index, charges.of_atoms(topology)])
    kinds, kind = np.unique(own, axis=1, return_inverse=True)
    functions = {frozenset(t.species): cubics(*t.evaluate(r)) for t in free}
    of_charges = E2_PER_A_TO_EV * cubics(*near(r, waves(charges)[0] * A_TO_NM))
    table = np.zeros((len(kinds.T), len(kinds.T), intervals, 4))
    for a, (one, q) in enumerate(kinds.T):
        for b, (other, p) in enumerate(kinds.T):
            species = frozenset(topology.species[int(s)] for s in (one, other))
            table[a, b] = functions.get(species, 0.0) + q * p * of_charges
    bonded = [pairs.reshape(-1, 2) for pairs in topology.bonded.values()]
    return {
        "kind": kind.ravel().astype(np.int64),
        "bonded": np.concatenate([np.zeros((0, 2), np.int64), *bonded]).astype(np.int64),
        "grid": np.array([spacing, LEAST_SQUARE_A2, cutoff]),
        "table": table,
    }


def _arrays_of_waves(charges: ChargeTerm, start: Start) -> dict[str, Floats]:
    """As `Waves` of the module takes them."""
    return {
        "charges": np.asarray(charges.of_atoms(start.topology), float),
        "alpha": np.array(waves(charges)[0] * A_TO_NM),
        "grid": np.array(grid(charges, start.frame.cell[0] * A_TO_NM, ORDER_IN_PYTHON)),
    }
