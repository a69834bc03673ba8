"""mld_ff: from a CP2K trajectory to a force field that stock OpenMM and stock LAMMPS run."""

from mld_ff.calculator import Calculator
from mld_ff.engines.lammps.export import export_lammps
from mld_ff.engines.openmm.export import export_openmm
from mld_ff.engines.settings import MD
from mld_ff.engines.start import start_from
from mld_ff.errors import CheckFailed, EngineError, InputError, MldError
from mld_ff.inference import Basis, fit, scan
from mld_ff.loss.model import AgentLoss
from mld_ff.pipeline import build, read_config
from mld_ff.production.results import read_run
from mld_ff.production.simulation import run
from mld_ff.sources import open_source
from mld_ff.sources.cp2k import open_cp2k, read_cp2k
from mld_ff.sources.structures import read_structure
from mld_ff.survey import inspect
from mld_ff.trajectory import Trajectory
from mld_ff.verification import verify
from mld_ff.workflows.agents import learn
from mld_ff.workflows.matching.loop import match
from mld_ff.workflows.refining.loop import refine

__all__ = [
    "MD",
    "AgentLoss",
    "Basis",
    "Calculator",
    "CheckFailed",
    "EngineError",
    "InputError",
    "MldError",
    "Trajectory",
    "build",
    "export_lammps",
    "export_openmm",
    "fit",
    "inspect",
    "learn",
    "match",
    "open_cp2k",
    "open_source",
    "read_config",
    "read_cp2k",
    "read_run",
    "read_structure",
    "refine",
    "run",
    "scan",
    "start_from",
    "verify",
]
