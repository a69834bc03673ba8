"""Looks after a run while an engine computes it: speed, its disk, its temperature, distances and
densities in the frames it writes.
"""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from mld_ff.engines import dcd
from mld_ff.engines.engine import TRAJECTORY, Engine
from mld_ff.engines.settings import MD
from mld_ff.errors import CheckFailed, EngineError, InputError
from mld_ff.geometry.system import System
from mld_ff.geometry.topology import Topology
from mld_ff.loss.escapes import Escape
from mld_ff.loss.model import AgentLoss
from mld_ff.production.results import read_log
from mld_ff.production.road import departures
from mld_ff.production.sessions import first_step, frames_before
from mld_ff.progress import Progress
from mld_ff.trajectory import Floats
from mld_ff.units import FS_TO_PS

DENSITIES_EVERY = 10
"""Frames between those whose densities are looked at, which takes some steps' time (192 atoms,
eight channels: 10 ms)."""
LOGS_TAKE = 0.01
"""Of the time of a run, at most, to read its log again and again."""
LEAST_DISK_BYTES = 1 << 20
PS_PER_S_TO_NS_PER_DAY = 86.4


@dataclass
class Watch:
    """Of one session of a run, which may have been going on before."""

    run: Path
    directory: Path
    """Where the session writes: that of the run, or one inside it."""
    engine: Engine
    loss: AgentLoss
    topology: Topology
    """Of the atoms in the engine's order."""
    settings: MD
    progress: Progress
    force: bool = False
    """Whether a run that leaves the road goes on."""

    def __post_init__(self) -> None:
        self.escapes: dict[str, tuple[int, int, Escape]] = {}
        """By term: frames with pairs or densities outside of what was sampled, and step and pair or
        atom of the worst.
        """
        self.ns_per_day: float | None = None
        self._frames = self._with_densities = 0
        self._earlier_seen = self.directory == self.run
        self._began: tuple[int, float] | None = None
        self._read_again = 0.0

    def at_step(self, step: int) -> None:
        """The engine is at a step. Raises EngineError if it cannot write any more, CheckFailed if
        it is to stop.
        """
        self.check_place()
        now = time.monotonic()
        self._began = self._began or (step, now)
        done, elapsed = step - self._began[0], now - self._began[1]
        what = self.engine.name
        if done and elapsed:
            done_ps = done * self.settings.timestep_fs * FS_TO_PS
            self.ns_per_day = done_ps / elapsed * PS_PER_S_TO_NS_PER_DAY
            what += f": {self.ns_per_day:.3g} ns/day"
        self.look()
        self.check_road()
        self.progress(what, step, self.settings.steps)

    def check_road(self) -> None:
        """Raise CheckFailed if the run runs away; asked again at most so often that reading its log
        takes LOGS_TAKE of the time.
        """
        began = time.monotonic()
        if self.force or began < self._read_again:
            return
        try:
            log = read_log(self.run)
        except InputError:  # no row yet
            return
        finally:
            took = time.monotonic() - began
            self._read_again = began + took / LOGS_TAKE
        for sentence in departures(log, self.settings, self.topology.n_atoms, ended=False):
            raise CheckFailed(sentence)

    def check_place(self) -> None:
        """Raise EngineError if there is nowhere to write to any more."""
        if not self.directory.is_dir():
            raise EngineError(
                f"{self.directory} has vanished while {self.engine.name} was writing to it"
            )
        if shutil.disk_usage(self.directory).free < LEAST_DISK_BYTES:
            raise EngineError(
                f"the disk of {self.directory} is full: make room and go on with --resume"
            )

    def look(self) -> None:
        """Check the frames that were written since the last time; first of all, those of earlier
        sessions.
        """
        if (first := first_step(self.directory, self.engine)) is not None:
            before = frames_before(first, self.engine, self.settings.every)
            self._look_at_earlier(before)
            self._frames += self._look_at(self.directory / TRAJECTORY, self._frames, None, before)

    def _look_at_earlier(self, frames: int | None) -> None:
        if not self._earlier_seen:
            self._earlier_seen = True
            self._look_at(self.run / TRAJECTORY, 0, frames, 0)

    def _look_at(self, file: Path, start: int, end: int | None, before: int) -> int:
        """Check the frames of a file from `start` to before `end`, or all that are complete; how
        many there were.

        before: frames of the run before the file.
        """
        complete = dcd.complete_frames(file)
        complete = complete if end is None else min(end, complete)
        if complete <= start:
            return 0
        first = before + start + self.engine.files.first_frame
        for number, (positions, cell) in enumerate(dcd.frames_from(file, start, complete), first):
            for escape in self._escapes(number, positions, cell):
                if escape.is_new:
                    self._note(self.settings.every * number, escape)
        return complete - start

    def _escapes(self, number: int, positions: Floats, cell: Floats) -> list[Escape]:
        loss = self.loss
        if not loss.channels or number % DENSITIES_EVERY:
            return loss.escapes(System(self.topology, positions, cell, loss.shortest_reach_A))
        self._with_densities += 1
        system = System(self.topology, positions, cell, loss.cutoff_A)
        return loss.escapes(system) + loss.density_escapes(system)

    def _note(self, step: int, escape: Escape) -> None:
        if self.settings.on_escape == "stop":
            raise CheckFailed(f"{escape.what}: step {step}, {escape}")
        number, at, worst = self.escapes.get(escape.term, (0, step, escape))
        if escape.outside > worst.outside:
            at, worst = step, escape
        self.escapes[escape.term] = number + 1, at, worst

    def finish(self) -> list[str]:
        """What is to be said of the whole run, one sentence for each term."""
        self.look()
        self._look_at_earlier(None)
        frames = frames_before(self.settings.steps + 1, self.engine, self.settings.every)
        seen = frames, self._with_densities
        return [
            f"in {number} of {seen[len(worst.atoms) == 1]} frames {worst.what}, at worst in step"
            f" {step}, {worst}"
            for number, step, worst in self.escapes.values()
        ]
