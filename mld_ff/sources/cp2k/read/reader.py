"""CP2K output as a stream of frames: join the files of a run on the step number, check and convert
every frame.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mld_ff.errors import InputError, check_not_negative
from mld_ff.origin import Origin
from mld_ff.sources.cp2k.read.accelerations import (
    LOOKED_AT,
    Verdict,
    factor_and_sentence,
    find_unit,
    unit_by_comparison,
)
from mld_ff.sources.cp2k.read.advice import (
    REMEDIES,
    UNKNOWN_ENERGIES,
    ZERO_FORCES,
    frames_in_log,
    no_forces,
    what_forces_hold,
)
from mld_ff.sources.cp2k.read.dipoles import find_dipoles
from mld_ff.sources.cp2k.read.discover import RunFiles
from mld_ff.sources.cp2k.read.formats import open_indices
from mld_ff.sources.cp2k.read.index import FrameIndex, in_our_units
from mld_ff.sources.cp2k.read.join import Join, join_frames
from mld_ff.sources.cp2k.read.kinds import resolve_atoms
from mld_ff.sources.cp2k.read.logtables import force_tables, tables_of_logs
from mld_ff.sources.cp2k.read.populations import read_charges
from mld_ff.sources.cp2k.read.runinfo import (
    calculations_by_step,
    cp2k_version,
    find_settings,
    logs_of_run,
    read_logs,
    resolve_cell,
    with_logs,
    with_vacuum,
)
from mld_ff.sources.cp2k.read.stress import Stresses, find_stresses
from mld_ff.sources.cp2k.read.tables import read_energies, read_seconds, read_temperatures
from mld_ff.sources.source import CHUNK, FileSource
from mld_ff.sources.textfiles import sha256
from mld_ff.trajectory import Floats, Ints, PrintedCharges, PrintedDipole, Trajectory, half_width
from mld_ff.units import HARTREE_TO_EV

_CP2K_TIMESTEP = 0.5


class CP2KSource(FileSource):
    """The frames of a CP2K run, streamed; made by `open_cp2k`.

    Memory is that of one chunk, besides some tens of bytes for every frame (its step, time, energy,
    cell).
    """

    def __init__(
        self,
        files: RunFiles,
        require_forces: bool | None,
        explicit: frozenset[str],
        skip_fs: float = 0.0,
    ) -> None:
        self.notes = []
        self._files = files
        logs = read_logs(files)
        settings = find_settings(files, logs, self.notes)
        self._logs = logs_of_run(logs, files, settings, self.notes)
        self._settings = with_logs(settings, self._logs)
        self._indices: dict[str, FrameIndex] = open_indices(files, self._logs, self.notes)
        if require_forces is None:
            require_forces = "forces" in self._indices
        for role in sorted(settings.in_log - self._indices.keys()):
            self._miss(role, required=role == "forces" and require_forces)
        if require_forces and "forces" not in self._indices:
            raise InputError(no_forces(files.project), files.where)
        self.symbols, self.masses = resolve_atoms(
            self._indices, self._settings.kinds or {}, self.notes
        )
        self._calculations = calculations_by_step(self._logs)
        positions = self._indices["positions"]
        printed = None if positions.cell is None else (positions.step, positions.cell)
        cells = resolve_cell(files, self._settings, printed, self._logs, self.notes)
        must_join = (
            {"positions"}
            | (explicit & self._indices.keys())
            | ({"forces"} if require_forces else set())
        )
        unconverged = {s for s, c in self._calculations.items() if not c.converged}
        self._join: Join = join_frames(self._indices, must_join, cells, unconverged, self.notes)
        self._cells = with_vacuum(cells, self._settings, self._first_positions(), self.notes)
        self._time, self._energy = self._times_and_energies()
        self._find_units()
        self._fixed = self._find_fixed()
        self.notes += what_forces_hold(self._settings, self._is_optimization)
        if skip_fs:
            self._skip(skip_fs)
        self._stresses = self._find_stresses()
        self.origin = self._describe()

    @property
    def n_frames(self) -> int:
        return len(self._join.step)

    @cached_property
    def seconds_per_step(self) -> float | None:
        """Median wall time of an MD step by CP2K's own timing in the .ener file; None without
        one.
        """
        if "energies" not in self._files.one:
            return None
        seconds = read_seconds(self._files.one["energies"])
        return float(np.median(seconds[seconds > 0])) if (seconds > 0).any() else None

    @cached_property
    def logged_temperature(self) -> Floats | None:
        """Kinetic temperature [K] of every frame (F,) by the .ener file; None where it does not
        hold all of them.
        """
        if "energies" not in self._files.one:
            return None
        steps, values = read_temperatures(self._files.one["energies"])
        of_frames = _filled(np.full(self.n_frames, np.nan), self._join.step, steps, values)
        return of_frames if np.isfinite(of_frames).all() else None

    @cached_property
    def printed_dipole(self) -> PrintedDipole | None:
        """By FORCE_EVAL / DFT / PRINT / MOMENTS or FORCE_EVAL / MM / PRINT / DIPOLE."""
        steps, cell = self._join.step, self._cells.at(self._join.step[:1])[0]
        told = (self._files.dipoles, self._calculations)
        return find_dipoles(*told, steps, self._time, cell, self.notes)

    @cached_property
    def printed_charges(self) -> Mapping[str, PrintedCharges]:
        """By the logs."""
        return read_charges([log.path for log in self._logs], len(self.symbols))

    @cached_property
    def half_width(self) -> float:
        """Half the smallest width of the cell in any frame [Å]: the longest cutoff allowed."""
        return half_width(self._cells.at(self._join.step))

    def chunks(
        self, size: int = CHUNK, start: int = 0, stop: int | None = None
    ) -> Iterator[Trajectory]:
        """Successive trajectories of at most `size` of the frames from `start` to before `stop`,
        each read and checked as it is asked for; those before are passed over, ten times as fast.

        Raises InputError, with file and line, for numbers that are not finite, atoms in another
        order, and frames whose forces are all zero.
        """
        if size < 1:
            raise ValueError(f"size must be at least 1, found {size}")
        stop = self.n_frames if stop is None else stop
        streams = {role: self._frames(role, start, stop) for role in self._join.wanted}
        for first in range(start, stop, size):
            some = slice(first, min(first + size, stop))
            arrays = {
                role: np.array(list(islice(stream, some.stop - first)))
                for role, stream in streams.items()
            }
            yield self._trajectory(some, arrays)

    def _trajectory(self, frames: slice, arrays: dict[str, Floats]) -> Trajectory:
        step = self._join.step[frames]
        cell, velocities = self._cells.at(step), arrays.get("velocities")
        stress = None
        if self._stresses is not None:
            stress = self._stresses.of(frames, cell, self.masses, velocities)
        return Trajectory(
            symbols=self.symbols,
            masses=self.masses,
            positions=arrays["positions"],
            cell=cell,
            time=self._time[frames],
            step=step,
            forces=arrays.get("forces"),
            velocities=velocities,
            stress=stress,
            energy=None if self._energy is None else self._energy[frames],
            fixed=self._fixed,
            origin=self.origin,
        )

    def _frames(self, role: str, start: int, stop: int) -> Iterator[Floats]:
        """One property of the joined frames from `start` to before `stop`, each (N, 3), in eV, Å,
        fs.
        """
        index = self._indices[role]
        factor = index.own_factor or self._settings.factor(role)
        printed, steps = self._printed(role, start, stop), self._join.step[start:stop]
        for frame, ((values, line), step) in enumerate(zip(printed, steps, strict=True), start):
            if role == "forces" and not values.any() and not self._is_perfect_crystal(frame):
                raise InputError(f"step {step}: {ZERO_FORCES}", index.path, line or None)
            yield in_our_units(values, factor, index.path, line)

    def _miss(self, role: str, required: bool) -> None:
        """Say where what stands in the log is to be had from. Raises InputError if required."""
        log = next((log.path.name for log in self._logs), "LOG")
        n_atoms = self._indices["positions"].n_atoms
        told = frames_in_log(role, n_atoms, log, self._files.project)
        if required:
            raise InputError(told, self._files.where)
        self.notes.append(f"{told[0].upper()}{told[1:]}.")

    def _first_positions(self) -> Floats:
        """[Å], (N, 3)."""
        factor = self._indices["positions"].own_factor or self._settings.factor("positions")
        return np.asarray(self._raw("positions", 0, 1)[0] * factor)

    def _find_stresses(self) -> Stresses | None:
        if self._settings.vacuum_along:  # there is no volume that it could be of
            return None
        table, has_velocities = self._files.one.get("stress"), "velocities" in self._join.wanted
        constrained = bool(self._settings.constraints)
        found = (self._calculations, self._join.step, self._is_dynamics)
        return find_stresses(table, *found, has_velocities, constrained, self.notes)

    def _is_perfect_crystal(self, frame: int) -> bool:
        """Whether forces vanish by symmetry: where a run begins, and only there."""
        return frame == 0 and self.n_frames > 1 and bool(self._raw("forces", 1, 2).any())

    def _printed(self, role: str, start: int, stop: int) -> Iterator[tuple[Floats, int]]:
        """Frames in the unit of the file, each (N, 3), and the lines where they begin."""
        wanted = self._join.wanted[role]
        here = np.zeros_like(wanted)
        here[np.flatnonzero(wanted)[start:stop]] = True
        return self._indices[role].frames(here)

    def _raw(self, role: str, start: int, stop: int) -> Floats:
        """Those frames, (F, N, 3)."""
        return np.array([values for values, _ in self._printed(role, start, stop)])

    def _find_fixed(self) -> NDArray[np.bool_] | None:
        """Components of forces that are exactly zero in the first frames while nothing moves there:
        FIXED_ATOMS, which CP2K does not tell with the forces.
        """
        if "forces" not in self._join.wanted or self.n_frames < 2:
            return None
        positions, forces = (self._raw(role, 0, 2) for role in ("positions", "forces"))
        fixed = (forces == 0).all(axis=0) & (positions[0] == positions[1])
        if not fixed.any() or fixed.all():
            return None
        atoms = int(fixed.any(axis=1).sum())
        self.notes.append(
            f"{atoms} of {len(fixed)} atoms were fixed: they do not move, and their forces, zero,"
            " are left out of the fit."
        )
        return np.asarray(fixed)

    def _find_units(self) -> None:
        """Let the log, else mechanics, tell the units that no file states."""
        if self._files.inputs or "restart" in self._files.one or not self._is_dynamics:
            return
        units = dict(self._settings.units or {})
        for role in ("forces", "velocities"):
            if role not in self._join.wanted or self._indices[role].own_factor:
                continue
            verdict = self._unit_by_log() if role == "forces" else None
            if verdict is None:
                steps = self._join.step[: LOOKED_AT + 2]
                verdict = find_unit(role, self._raw, self._time, self._cells.at(steps), self.masses)
            units[role], sentence = factor_and_sentence(role, verdict)
            self.notes += [sentence] if sentence else []
        self._settings = replace(self._settings, units=units)

    def _unit_by_log(self) -> Verdict | None:
        """By the table of forces that the log has of a frame."""
        steps = self._join.step.tolist()
        table = next((t for t in tables_of_logs(self._logs) if t.step in steps), None)
        if table is None:
            return None
        index, at = force_tables([table]), steps.index(table.step)
        values, _ = next(index.frames(np.ones(1, dtype=bool)))
        expected, given = values * (index.own_factor or 1.0), self._raw("forces", at, at + 1)[0]
        if expected.shape != given.shape:  # rows of the table are missing
            return None
        verdict = unit_by_comparison("forces", expected, given)
        return verdict and replace(verdict, by=table.path.name)

    @property
    def _is_optimization(self) -> bool:
        """Whether steps are those of an optimization: the run says so, or nothing tells a time."""
        settings = self._settings
        if settings.run_type or settings.ensemble:
            return settings.is_optimization
        index = self._indices["positions"]
        return bool(np.isnan(index.time).all() and np.isfinite(index.energy).all()) and (
            "energies" not in self._files.one
        )

    @property
    def _is_dynamics(self) -> bool:
        settings = self._settings
        by_forces = settings.ensemble != "REFTRAJ" and not settings.is_path_integral
        return by_forces and not self._is_optimization

    def _times_and_energies(self) -> tuple[Floats, Floats | None]:
        """Times [fs] and potential energies [eV]: comment lines first, then .ener, then step times
        TIMESTEP.
        """
        index, wanted = self._indices["positions"], self._join.wanted["positions"]
        time, energy = index.time[wanted], index.energy[wanted] * HARTREE_TO_EV
        if "energies" in self._files.one and not (
            np.isfinite(time).all() and np.isfinite(energy).all()
        ):
            table_step, table_time, table_energy = read_energies(self._files.one["energies"])
            time = _filled(time, self._join.step, table_step, table_time)
            energy = _filled(energy, self._join.step, table_step, table_energy)
        if not np.isfinite(energy).all() and self._calculations:
            steps = np.array(sorted(self._calculations), dtype=np.int64)
            of_log = np.array([self._calculations[step].energy for step in steps.tolist()])
            energy = _filled(energy, self._join.step, steps, of_log * HARTREE_TO_EV)
        if self._is_optimization:
            time = np.zeros(self.n_frames)
        if not np.isfinite(time).all():
            timestep = self._settings.timestep
            if timestep is None:
                self.notes.append(
                    "No file says the time of every frame; CP2K's default TIMESTEP of 0.5 fs is"
                    " assumed."
                )
            time = np.asarray(self._join.step * (timestep or _CP2K_TIMESTEP), dtype=np.float64)
        if not np.isfinite(energy).all():
            self.notes.append(UNKNOWN_ENERGIES)
            return time, None
        return time, energy

    def _skip(self, skip_fs: float) -> None:
        """Leave out the frames of the first `skip_fs`."""
        check_not_negative(skip_fs=skip_fs)
        if self._is_optimization:
            raise InputError(
                "no stretch of time can be skipped: the frames are steps of an optimization",
                self._files.where,
            )
        keep = self._time >= self._time[0] + skip_fs
        if not keep.any():
            raise InputError(
                f"nothing is left: {skip_fs:g} fs are to be skipped, the frames span "
                f"{self._time[-1] - self._time[0]:g} fs",
                self._files.where,
            )
        wanted = {role: mask.copy() for role, mask in self._join.wanted.items()}
        for mask in wanted.values():
            mask[np.flatnonzero(mask)[~keep]] = False
        dropped = {**self._join.dropped, "skipped as equilibration": int((~keep).sum())}
        self._join = Join(self._join.step[keep], wanted, dropped)
        self._time = self._time[keep]
        self._energy = None if self._energy is None else self._energy[keep]

    def _describe(self) -> Origin:
        logs = [log.path for log in self._logs]
        used = list(dict.fromkeys([*self._files.one.values(), *self._files.inputs, *logs]))
        settings, remedies = self._settings, REMEDIES
        if self._is_optimization:
            remedies = replace(remedies, one_by_one=settings.run_type or "an optimization")
        elif settings.is_path_integral:
            remedies = replace(remedies, one_by_one="PINT, whose beads springs move too")
        return Origin(
            files=tuple(_relative(file, self._files.where) for file in used),
            sha256=sha256(used),
            program="CP2K",
            version=cp2k_version(self._logs),
            project=settings.project or self._files.project,
            ensemble=settings.ensemble,
            timestep_fs=settings.timestep,
            temperature_K=settings.temperature,
            frames_dropped=self._join.dropped,
            is_dynamics=self._is_dynamics,
            method=settings.method,
            biases=settings.biases,
            constraints=settings.constraints,
            slab=settings.is_slab,
            remedies=remedies,
        )


def _filled(values: Floats, steps: Ints, table_step: Ints, table_values: Floats) -> Floats:
    """`values` with the NaN among them replaced by those of a table that has the step."""
    if not len(table_step):
        return values
    place = np.minimum(np.searchsorted(table_step, steps), len(table_step) - 1)
    usable = np.isnan(values) & (table_step[place] == steps)
    return np.where(usable, table_values[place], values)


def _relative(file: Path, where: Path | None) -> str:
    return str(file.relative_to(where)) if where and file.is_relative_to(where) else file.name
