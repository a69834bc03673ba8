"""An engine as the rest of mld_ff knows it: one record, filled in by the engine's own folder.

Nothing here, and no record, loads an engine: its functions are imported when they are called.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from mld_ff.engines.settings import DEFAULT_MD, MD, Device, ManyBody
from mld_ff.trajectory import Floats, Trajectory

if TYPE_CHECKING:
    from mld_ff.engines.start import Start
    from mld_ff.loss.model import AgentLoss

SMALL_CELL_A = 12.5
"""That of 64 waters."""
SOFT_EV_PER_A2 = 40.0
"""Of a bond of water among any pairs it is 35; where molecules are told apart, below 10."""
TRAJECTORY = "trajectory.dcd"
"""What every session writes: positions [Å] in float32, molecules whole, and cells."""


@dataclass(frozen=True)
class Session:
    """A stretch of molecular dynamics that an engine computes in one go."""

    files: Path
    """Directory of the exported files."""
    output: Path
    """Where it writes: that directory, or one inside it."""
    checkpoint: Path | None
    """In `files`; what it goes on from. None: from the exported start."""
    settings: MD
    """`settings.steps` counts from the very start of the run, whatever the checkpoint."""
    device: Device
    at_step: Callable[[int], None]
    """Is told the step every now and then. It may raise: the engine then has to stop."""


class Export(Protocol):
    """Write the files that the engine runs without mld_ff; returns them.

    Of the settings, temperature, timestep and damping are in the files.
    """

    def __call__(
        self,
        loss: AgentLoss,
        start: Start,
        directory: Path | str,
        settings: MD = DEFAULT_MD,
    ) -> list[Path]: ...


class Evaluate(Protocol):
    """Energies (F,) [eV] and forces (F, N, 3) [eV/Å] of frames in engine form
    (`Start.engine_frames`), computed by the engine from exported files.
    """

    def __call__(
        self, directory: Path, frames: Trajectory, device: Device
    ) -> tuple[Floats, Floats]: ...


@dataclass(frozen=True)
class RunFiles:
    """What an engine leaves of a session, beside TRAJECTORY, and how that is read."""

    log: str
    """Name of its log. Every row of numbers begins with the step, and holds six at least, with
    commas or blanks between.
    """
    read_log: Callable[[Path], dict[str, Floats]]
    """Columns of a log: `step`, `time_ps`, `temperature_K`, `potential_eV`, `total_eV`, and what
    else it tells of `density_g_per_cm3`, `pressure_bar`, `conserved_eV`. Raises InputError if
    there are none.
    """
    velocities: str
    """Name of the file of velocities, written if `MD.velocities` says so."""
    read_velocities: Callable[[Path], Floats]
    """Velocities (F, N, 3) [Å/fs] of its complete frames. Raises InputError if it cannot be read.
    """
    join_velocities: Callable[[Path, Path, int], None]
    """Make `file` its first `n` frames and those of `more`: called with file, more, n."""
    checkpoints: tuple[str, ...]
    """Names of the files that a session can go on from; the newest complete one counts."""
    final: str
    """Name of the state at the end."""
    checkpoint_end: bytes = b""
    """The last bytes of a checkpoint that was written as a whole."""
    first_frame: int = 0
    """Number of the first frame of a trajectory: 0 if the frame that the run starts from is
    written, 1 if not.
    """


@dataclass(frozen=True)
class Engine:
    """All that verification, production, report, `build` and the command line know of an engine."""

    name: str
    """In options, configurations and files."""
    label: str
    """In sentences and figures."""
    export: Export
    evaluate: Evaluate
    find: Callable[[Device], dict[str, str]]
    """What it would compute on, as run.json keeps it: `platform`, `device` and `precision`, or
    nothing if there is nothing to tell. Raises InputError or EngineError if the engine, or what is
    asked of it, is not there.
    """
    run: Callable[[Session], None]
    """Compute a session. Raises EngineError, with the engine's own words, if it stops or warns."""
    files: RunFiles
    force_tolerance_eV_per_A: float
    """By how much a force may differ from numpy's, in cells up to SMALL_CELL_A and with free pairs
    up to SOFT_EV_PER_A2.
    """
    balanced_us_per_atom: float
    """CPU time [µs] of an atom and step of water with angles (tests/benchmarks/README.md:
    `balanced`, 1,536 atoms, one thread), by which `fastest` chooses.
    """
    color: str
    """Of its curves, as matplotlib names colours."""
    linestyle: str = "-"
    device_options: tuple[str, ...] = ()
    """Fields of `Device` that it has a choice of."""
    precision: str = ""
    """What it computes in, if it has no choice."""
    rounds_positions: bool = False
    """Whether it keeps positions in float32, whose rounding grows with the cell, and moves forces
    by so much times the curvature of the energy.
    """
    many_body_ways: Callable[[Device], tuple[ManyBody, ...]] | None = None
    """In which ways it can compute sums over neighbours on a device, the faster first; None if
    there is no choice.
    """
    version: Callable[[], str] = lambda: ""
    """As the engine writes it. Raises InputError if the engine is not there."""
    devices: Callable[[], list[Device]] = lambda: [Device()]
    """That it can compute on here, each of which `mld-ff doctor` tries."""

    def force_tolerance(self, cell: Floats, stiffness_eV_per_A2: float = 0.0) -> float:
        """By how much [eV/Å] a force may differ from numpy's in a cell (3, 3) [Å], where free pairs
        are so stiff.
        """
        if not self.rounds_positions:
            return self.force_tolerance_eV_per_A
        longest_A = float(np.linalg.norm(cell, axis=1).max())
        size, bonds = longest_A / SMALL_CELL_A, stiffness_eV_per_A2 / SOFT_EV_PER_A2
        return self.force_tolerance_eV_per_A * max(size, 1.0) * max(bonds, 1.0)

    def chosen(self, device: Device) -> Device:
        """Of a device, what this engine has a choice of."""
        return Device(**{name: getattr(device, name) for name in self.device_options})


def lazily(module: str, name: str) -> Callable[..., Any]:
    """A function of a module, which is imported when the function is first called."""

    def function(*arguments: Any, **options: Any) -> Any:
        return getattr(import_module(module), name)(*arguments, **options)

    return function
