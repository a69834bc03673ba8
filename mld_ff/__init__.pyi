from .calculator import Calculator
from .configuration.toml import read_config
from .engines.lammps.export import export_lammps
from .engines.openmm.export import export_openmm
from .engines.settings import MD, Device
from .engines.start import start_from
from .errors import CheckFailed, EngineError, InputError, MldError
from .inference import Basis, Fit, fit, scan
from .loss.model import AgentLoss
from .pipeline import build
from .production.results import read_run
from .production.simulation import run
from .report import Study, compare_runs, write_report
from .sources.cp2k import open_cp2k, read_cp2k
from .sources.registry import open_source
from .sources.structures import read_structure
from .survey import inspect
from .trajectory import Trajectory
from .verification import verify
from .version import __version__
from .workflows.agents import learn
from .workflows.matching.loop import match
from .workflows.refining.loop import refine

__all__ = [
    "MD",
    "AgentLoss",
    "Basis",
    "Calculator",
    "CheckFailed",
    "Device",
    "EngineError",
    "Fit",
    "InputError",
    "MldError",
    "Study",
    "Trajectory",
    "__version__",
    "build",
    "compare_runs",
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
    "write_report",
]
