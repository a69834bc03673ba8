"""Settings of molecular dynamics, the same for every engine."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from mld_ff.errors import InputError, check_positive, check_seed
from mld_ff.subprocesses import check_processes
from mld_ff.units import FS_TO_PS

Ensemble = Literal["nve", "nvt", "npt"]
OnEscape = Literal["warn", "stop"]
Precision = Literal["single", "mixed", "double"]
ManyBody = Literal["python", "native"]
MOST_STEPS = 1e12
"""Of a run: years on any machine."""
ENSEMBLES = get_args(Ensemble)
ON_ESCAPE = get_args(OnEscape)


@dataclass(frozen=True)
class MD:
    """Settings of a run."""

    temperature_K: float = 300.0
    """That the thermostat holds, and at which velocities are drawn."""
    time_ps: float = 20.0
    """Length of the run."""
    timestep_fs: float = 0.5
    """Of the integrator."""
    damping_fs: float = 100.0
    """Time constant of the Nosé–Hoover chain: CP2K's TIMECON, LAMMPS's Tdamp, 1 / OpenMM's
    collisionFrequency.
    """
    every_fs: float = 10.0
    """Between frames of the trajectory and lines of the log."""
    seed: int = 1
    """Of the velocities, where the starting frame has none."""
    velocities: bool = False
    """Write those of every frame too."""
    ensemble: Ensemble = "nvt"
    """What is held constant: nve, nvt (Nosé–Hoover chain), or npt (OpenMM: Monte Carlo barostat
    that moves molecules; LAMMPS: Nosé–Hoover barostat).
    """
    pressure_bar: float = 1.0
    """Of npt."""
    checkpoint_ps: float = 10.0
    """Between checkpoints: a run that is killed loses no more."""
    on_escape: OnEscape = "warn"
    """What to do if a pair leaves the distances that the data sampled by more than 0.03 Å, or an
    atom the densities: warn at the end, or stop.
    """

    def __post_init__(self) -> None:
        names = (
            "temperature_K",
            "time_ps",
            "timestep_fs",
            "damping_fs",
            "every_fs",
            "checkpoint_ps",
        )
        check_positive(**{name: getattr(self, name) for name in names})
        check_seed(self.seed)
        for name, known in {"ensemble": ENSEMBLES, "on_escape": ON_ESCAPE}.items():
            if getattr(self, name) not in known:
                raise InputError(f"{name} is {getattr(self, name)!r}; known: {', '.join(known)}")
        if not math.isfinite(self.pressure_bar):
            raise InputError(f"pressure_bar is {self.pressure_bar}; it must be a number")
        if self.damping_fs < self.timestep_fs:
            raise InputError(
                f"damping_fs is {self.damping_fs:g}, shorter than a step of {self.timestep_fs:g}"
                " fs: is it in fs? Liquids take 50 to 100"
            )
        if self.pressure_bar != MD.pressure_bar and self.ensemble != "npt":
            raise InputError(
                f"pressure_bar is {self.pressure_bar:g}, which {self.ensemble} does not hold:"
                " choose the ensemble npt, or leave it out"
            )
        lengths_fs = {
            "time_ps": self.time_ps / FS_TO_PS,
            "checkpoint_ps": self.checkpoint_ps / FS_TO_PS,
            "every_fs": self.every_fs,
        }
        for name, length_fs in lengths_fs.items():
            if length_fs > MOST_STEPS * self.timestep_fs:
                raise InputError(
                    f"{name} is {getattr(self, name):g}: more than {MOST_STEPS:.0e} steps of"
                    f" {self.timestep_fs:g} fs"
                )
        if self.steps < self.every:
            raise InputError(
                f"a run of {self.time_ps:g} ps ends before its first frame: every_fs is"
                f" {self.every_fs:g}; run longer or write frames more often"
            )

    @property
    def steps(self) -> int:
        return max(1, round(self.time_ps / (self.timestep_fs * FS_TO_PS)))

    @property
    def every(self) -> int:
        """Steps between frames."""
        return max(1, round(self.every_fs / self.timestep_fs))

    @property
    def keep(self) -> int:
        """Steps between checkpoints."""
        return max(1, round(self.checkpoint_ps / (self.timestep_fs * FS_TO_PS)))


DEFAULT_MD = MD()


@dataclass(frozen=True)
class Device:
    """What an engine computes on; an engine that has no choice of a field leaves it alone."""

    platform: str | None = None
    """Of OpenMM: CPU, CUDA, HIP, OpenCL or Reference. If not given, the fastest present."""
    precision: Precision | None = None
    """Of OpenMM's CUDA, HIP and OpenCL. If not given, the platform's own, single."""
    many_body: ManyBody | None = None
    """How OpenMM computes densities, and pairs beside charges with these: in Python, compiled by
    numba, on the CPU, or by its own forces. If not given, whichever is faster on the platform.
    """
    processes: int = 1
    """Processes of this machine to share the work of LAMMPS."""

    def __post_init__(self) -> None:
        check_processes(self.processes)
