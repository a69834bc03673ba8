"""Where frames come from, and what their source advises where something is missing or wrong."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypedDict

UNCONVERGED = "SCF not converged"
"""Reason in `Origin.frames_dropped`."""


@dataclass(frozen=True)
class Remedies:
    """What to say, and what to do, if something is missing; a source that knows better says so."""

    forces: str = "compute them with the method of the reference"
    """Follows "no forces: "."""
    force_noise: str = (
        "Compute the forces of these frames again with tighter settings of the reference method."
    )
    """A sentence: what to do if forces do not add up to zero."""
    temperature: str = "it has neither velocities nor a thermostat; give frames with velocities"
    """Follows "the temperature of the run is not known: "."""
    kinetic_energy: str = "these frames have no velocities"
    """Follows "the kinetic energy is not known: "."""
    inconsistent: str = "Look at what wrote the frames, and convert them to eV, Å and fs."
    """A sentence: what to do if forces, energies, velocities and times contradict each other."""
    cell: str = "Give the cell that the frames were computed in."
    """A sentence: what to do if positions contradict the cell."""
    denser: str = "Write its positions and velocities {often} or more often."
    """A sentence: how to get frames that resolve vibrations. {often} stands for `every 3.5 fs` or
    `every step`, {steps} for the MD steps that are as long.
    """
    one_by_one: str = "they have no times"
    """Why frames are no dynamics, in a few words."""
    timing: str = "the seconds per step that its files tell, on the machine that it ran on"
    """Where `seconds_per_step` comes from."""
    no_timing: str = "the reference does not tell how long its steps took"


class OriginTold(TypedDict, total=False):
    """An `Origin` as files tell it; of several sources in one all their `files`, and each by itself
    in `runs`."""

    files: list[str]
    sha256: str | None
    program: str | None
    version: str | None
    project: str | None
    ensemble: str | None
    timestep_fs: float | None
    temperature_K: float | None
    frames_dropped: dict[str, int]
    engine: str | None
    finished: bool | None
    packed: bool
    repeated: list[int] | None
    minimized: bool
    frames: int
    """Where frames were taken from it: how many it has, from `first_step` on."""
    first_step: int
    runs: list[OriginTold]


@dataclass(frozen=True)
class Origin:
    """Where frames come from; what is not known is None."""

    files: tuple[str, ...] = ()
    """Names, relative to the directory that was opened."""
    sha256: str | None = None
    """Of the files' contents, one after the other."""
    program: str | None = None
    """That computed the forces, as people write it."""
    version: str | None = None
    project: str | None = None
    ensemble: str | None = None
    """In upper case."""
    timestep_fs: float | None = None
    temperature_K: float | None = None
    """That the run was set to."""
    frames_dropped: Mapping[str, int] = field(default_factory=dict)
    """Number of frames left out, by reason."""
    is_dynamics: bool = True
    """Whether the frames follow one another in time."""
    engine: str | None = None
    """That made a run of a learned loss."""
    finished: bool | None = None
    """Whether such a run came to its end."""
    packed: bool = False
    """Whether molecules were packed into a box here."""
    repeated: tuple[int, int, int] | None = None
    """How often the box was repeated along its vectors."""
    minimized: bool = False
    """Whether the frame was moved downhill here."""
    method: str | None = None
    """That computed the forces, in a few words of the program's own."""
    biases: tuple[str, ...] = ()
    """What adds to the forces that the method gives, and is not in its energy."""
    constraints: tuple[str, ...] = ()
    """What keeps distances and other coordinates from moving, against the forces."""
    slab: bool = False
    """Whether images along c do nothing to dipoles across the cell: periodic along a and b alone,
    or with a correction."""
    remedies: Remedies = field(default=Remedies(), repr=False)

    @property
    def name(self) -> str:
        """Who computed the forces, within a sentence."""
        return self.program or "the reference"

    @property
    def thermostat_K(self) -> float | None:
        """Temperature [K] that a thermostat held at constant volume; None where there was none."""
        return self.temperature_K if (self.ensemble or "").startswith("NVT") else None

    def denser(self, stride_fs: float) -> str:
        """How to get frames at most `stride_fs` apart; infinite: at any stride."""
        if math.isinf(stride_fs):
            return self.remedies.denser.format(often="every step", steps=1)
        steps = max(1, int(stride_fs / self.timestep_fs)) if self.timestep_fs else 1
        return self.remedies.denser.format(often=f"every {stride_fs:.2g} fs", steps=steps)

    def to_dict(self) -> OriginTold:
        """As files tell it; facts of a run that were looked for and not found are null."""
        told: OriginTold = {}
        if self.files:
            told["files"] = list(self.files)
        if self.sha256 is not None:
            told["sha256"] = self.sha256
            told |= {
                "program": self.program,
                "version": self.version,
                "project": self.project,
                "ensemble": self.ensemble,
                "timestep_fs": self.timestep_fs,
                "temperature_K": self.temperature_K,
                "frames_dropped": dict(self.frames_dropped),
            }
        if self.engine is not None:
            told |= {"engine": self.engine, "finished": self.finished}
        if self.packed:
            told["packed"] = True
        if self.repeated is not None:
            told["repeated"] = list(self.repeated)
        if self.minimized:
            told["minimized"] = True
        return told


__all__ = ["UNCONVERGED", "Origin", "Remedies"]
