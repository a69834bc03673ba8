"""mld_ff: from a CP2K trajectory to a force field that stock OpenMM and stock LAMMPS run."""

from mld_ff.build import build, read_config
from mld_ff.calculator import Calculator
from mld_ff.cp2k import open_cp2k, read_cp2k
from mld_ff.errors import CheckFailed, EngineError, InputError, MldError
from mld_ff.export.lammps import export_lammps
from mld_ff.export.openmm import export_openmm
from mld_ff.export.start import start_from
from mld_ff.inference import Basis, fit, scan
from mld_ff.learning import learn
from mld_ff.loss import AgentLoss
from mld_ff.match import match
from mld_ff.production import MD, read_run, run
from mld_ff.refine import refine
from mld_ff.structures import read_structure
from mld_ff.survey import inspect
from mld_ff.trajectory import Trajectory
from mld_ff.verify import verify

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
