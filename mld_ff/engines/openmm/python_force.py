"""Channels of densities with angles → one PythonForce, in place of CustomGBForces.

OpenMM's own forces cannot sum vectors. This one calls `templates/mld_ff_densities.py`, compiled by
numba, which is exported beside run.py; it holds all channels, those of order 0 too, as they share
their neighbours. It computes on the CPU, whatever the platform.
"""

from __future__ import annotations

import math
import sys
from importlib.util import module_from_spec, spec_from_file_location
from types import ModuleType
from typing import Any

import numpy as np
import openmm

from mld_ff.errors import EngineError, InputError
from mld_ff.files import template_path
from mld_ff.geometry.topology import Topology
from mld_ff.loss.densities import DensityTerm
from mld_ff.loss.model import AgentLoss
from mld_ff.trajectory import Floats

MODULE = "mld_ff_densities"
"""What system.xml refers to; its file has this name."""
FILE = f"{MODULE}.py"


def densities_module() -> ModuleType:
    """The exported module, under the name that it has beside run.py."""
    if MODULE not in sys.modules:
        spec = spec_from_file_location(MODULE, template_path(FILE))
        assert spec is not None and spec.loader is not None
        module = module_from_spec(spec)
        sys.modules[MODULE] = module
        spec.loader.exec_module(module)
    return sys.modules[MODULE]


def python_force(loss: AgentLoss, topology: Topology) -> openmm.Force:
    """All channels of a loss. Raises EngineError if OpenMM is too old for a PythonForce, InputError
    if there are channels of other kinds than ours."""
    if not hasattr(openmm, "PythonForce"):
        raise EngineError(
            f"densities with angles need OpenMM 8.5 or later; this is {openmm.__version__}:"
            ' pip install "openmm>=8.5"'
        )
    channels = _channels(loss, topology)
    if other := [t.name for t in channels if type(t) is not DensityTerm]:
        raise InputError(f"OpenMM cannot compute {', '.join(other)} beside densities with angles")
    force = openmm.PythonForce(densities(loss, topology))
    force.setName(" ".join(t.name for t in channels))
    force.setUsesPeriodicBoundaryConditions(True)
    return force


def densities(loss: AgentLoss, topology: Topology) -> Any:
    """The object, of the exported module, that the force calls."""
    channels = _channels(loss, topology)
    return densities_module().Densities(
        kind=np.array(topology.species_index, np.int64),
        order=np.array([t.order for t in channels], np.int64),
        spacing=np.array([t.spacing_A for t in channels]),
        cutoff=np.array([t.cutoff_A for t in channels]),
        table=_tables(channels, topology.species),
        embedding=_embeddings(channels, topology.species),
    )


def _channels(loss: AgentLoss, topology: Topology) -> list[DensityTerm]:
    return [t for t in loss.channels if set(t.species) & set(topology.species)]


def _tables(channels: list[DensityTerm], species: tuple[str, ...]) -> Floats:
    """Polynomials (K, S, S, M, 4) that the functions are between their knots."""
    intervals = max(math.ceil(t.cutoff_A / t.spacing_A) for t in channels)
    n = len(species)
    tables = np.zeros((len(channels), n, n, intervals, 4))
    t = np.arange(4) / 4
    of_values = np.linalg.inv(np.vander(t, 4, increasing=True))
    places = np.arange(intervals)[:, None] + t
    for k, term in enumerate(channels):
        r = (term.cutoff_A - term.spacing_A * places).ravel()
        for a, centre in enumerate(species):
            for b, other in enumerate(species):
                for neighbour in term.neighbours:
                    if term.is_of(neighbour, centre, other):
                        values = term.density(neighbour, r).reshape(places.shape)
                        tables[k, a, b] = values @ of_values.T
    return tables


def _embeddings(channels: list[DensityTerm], species: tuple[str, ...]) -> Floats:
    """Strength, rest, range and fade of every channel for centres of every species, (K, S, 5)."""
    own = np.zeros((len(channels), len(species), 5))
    own[:, :, 4] = 1.0
    for k, term in enumerate(channels):
        for s, centre in enumerate(species):
            if centre in term.species:
                own[k, s] = term.strength_eV, term.rest, *term.range, term.fade
    return own
