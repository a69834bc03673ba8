"""Extended XYZ as ASE writes it, the common tongue of all programs that ASE reads.

Taken are `Lattice`, positions, forces [eV/Å], `momenta` (ASE's units) or `velocities` [Å/fs],
energy [eV], stress [eV/Å³] and `Time` [fs]. Comment lines are read once when the file is opened,
numbers when they are asked for, one chunk at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from io import StringIO
from itertools import islice
from pathlib import Path

import numpy as np
from ase import units
from ase.atoms import Atoms
from ase.io.extxyz import key_val_str_to_dict, read_xyz
from ase.stress import voigt_6_to_full_3x3_stress

from mld_ff.errors import InputError, check_not_negative
from mld_ff.origin import Origin, Remedies
from mld_ff.sources.source import CHUNK, FileSource, SourceKind
from mld_ff.sources.textfiles import Lines, is_count, open_binary, sha256
from mld_ff.trajectory import Floats, Ints, Trajectory, half_width

SUFFIXES = (".xyz", ".extxyz")
COMPRESSED = (".gz", ".bz2", ".xz")
TIMES = ("Time", "time", "time_fs")
STEPS = ("Step", "step")
QUANTITIES = {
    "forces": ("forces", "force", "REF_forces", "ref_forces", "DFT_forces", "dft_forces"),
    "velocities": ("momenta", "velocities", "vel"),
    "energy": ("energy", "REF_energy", "ref_energy", "DFT_energy", "dft_energy"),
    "stress": ("stress", "REF_stress", "ref_stress", "DFT_stress", "dft_stress"),
}
"""Names under which programs write them; the first that the file has is taken."""

LAST_STEP = 2**63 - 1
MOST_COLUMNS = 1000
NO_TIME = "no Time [fs] in their comment lines"
NOT_IN_ORDER = "a Time that does not grow from frame to frame"
REMEDIES = Remedies(
    forces="write them as columns `forces` [eV/Å], as ASE does where atoms have a calculator",
    temperature="it has no velocities; write them as columns `momenta` (ASE) or `velocities`",
    kinetic_energy="these frames have no columns `momenta` or `velocities`",
    inconsistent=(
        "Extended XYZ has forces in eV/Å, energies in eV, times in fs, `momenta` in ASE's units and"
        " `velocities` in Å/fs: convert what wrote the file, or its columns."
    ),
    cell='Write the cell that the frames were computed in as Lattice="ax ay az bx …" in Å.',
    denser="Write frames with `momenta` or `velocities` {often} or more often.",
    one_by_one=NO_TIME,
)


@dataclass(frozen=True)
class _Text:
    """One frame as text."""

    number: int
    """From 1."""
    line: int
    """Of its number of atoms."""
    comment: str
    rows: list[bytes]


@dataclass(frozen=True)
class _Head:
    """What the comment line of a frame says."""

    number: int
    line: int
    cell: Floats
    """[Å], (3, 3)."""
    time: float | None
    """[fs]."""
    step: int | None
    names: frozenset[str]
    """Of all that is there, columns and keys."""
    is_periodic: bool


def is_extxyz(path: Path) -> bool:
    """Whether the name is that of an XYZ file, compressed or not."""
    plain = path.with_suffix("") if path.suffix.lower() in COMPRESSED else path
    return plain.suffix.lower() in SUFFIXES


def open_extxyz(
    path: Path | str, *, require_forces: bool | None = True, skip_fs: float = 0.0
) -> ExtXYZSource:
    """Open an extended XYZ file, plain or compressed; parameters as `SourceKind.open`.

    Frames without times are taken one by one: whatever needs time is then left out. Raises
    InputError for frames without a cell, and for whatever else cannot be used.
    """
    file, notes, dropped = Path(path), list[str](), dict[str, int]()
    heads = _read_heads(file, notes)
    if bounded := sum(not head.is_periodic for head in heads):
        notes.append(
            f"{bounded} of {len(heads)} frames are not periodic by their pbc: they were taken as"
            " periodic with their Lattice, images and all."
        )
    names = _names_taken(heads, notes)
    if require_forces is None:
        require_forces = "forces" in names
    if require_forces:
        heads = _with_forces(heads, names.get("forces"), file, dropped, notes)
    if skip_fs:
        heads = _without_beginning(heads, skip_fs, file, dropped)
    return ExtXYZSource(file, heads, names, dropped, notes)


class ExtXYZSource(FileSource):
    """The frames of an extended XYZ file, streamed; made by `open_extxyz`.

    Memory is that of one chunk, besides about a kilobyte for every frame (its cell, time, names).
    """

    def __init__(
        self,
        file: Path,
        heads: list[_Head],
        names: dict[str, str],
        dropped: dict[str, int],
        notes: list[str],
    ) -> None:
        self.notes = notes
        self._file, self._heads = file, heads
        self._names = dict[str, str]()
        for quantity, name in names.items():
            if all(name in head.names for head in heads):
                self._names[quantity] = name
            else:
                notes.append(f"Some frames have no {quantity}: they were left out of all.")
        self._cell, self._step = np.array([head.cell for head in heads]), _steps(heads)
        self._time, no_dynamics = _times(heads)
        text = next(_texts(file))
        first = _atoms(text, file)
        self.symbols, self.masses = tuple(first.get_chemical_symbols()), first.get_masses()
        self.origin = Origin(
            files=(file.name,),
            sha256=sha256([file]),
            frames_dropped=dropped,
            is_dynamics=not no_dynamics,
            remedies=replace(REMEDIES, one_by_one=no_dynamics),
        )

    @property
    def n_frames(self) -> int:
        return len(self._heads)

    @property
    def half_width(self) -> float:
        return half_width(self._cell)

    def chunks(
        self, size: int = CHUNK, start: int = 0, stop: int | None = None
    ) -> Iterator[Trajectory]:
        """Successive trajectories of at most `size` of the frames from `start` to before `stop`.

        Raises InputError, with file, line and frame, for numbers that are not finite and for atoms
        that are not those of the first frame.
        """
        if size < 1:
            raise ValueError(f"size must be at least 1, found {size}")
        stop = self.n_frames if stop is None else stop
        wanted = {head.number for head in self._heads[start:stop]}
        frames = (self._read(text) for text in _texts(self._file) if text.number in wanted)
        for first in range(start, stop, size):
            here = slice(first, min(first + size, stop))
            some = list(islice(frames, here.stop - first))
            if len(some) < here.stop - first:
                raise InputError(
                    "the file has become shorter while it was read; start again", self._file
                )
            yield self._trajectory(here, some)

    def _read(self, text: _Text) -> dict[str, Floats]:
        """The numbers of a frame, by the names of Trajectory's fields."""
        atoms = _atoms(text, self._file)
        if tuple(atoms.get_chemical_symbols()) != self.symbols:
            raise InputError(
                f"frame {text.number} has other atoms than the first, or in another order",
                self._file,
                text.line,
            )
        numbers = {}
        for quantity, name in {"positions": "positions", **self._names}.items():
            values = _values(atoms, quantity, name)
            if values is None or not np.isfinite(values).all():
                raise InputError(
                    f"frame {text.number}: expected finite numbers, found others among its"
                    f" {quantity}",
                    self._file,
                    text.line,
                )
            numbers[quantity] = values
        return numbers

    def _trajectory(self, here: slice, frames: list[dict[str, Floats]]) -> Trajectory:
        arrays = {
            quantity: np.array([numbers[quantity] for numbers in frames])
            for quantity in ("positions", *self._names)
        }
        return Trajectory(
            symbols=self.symbols,
            masses=self.masses,
            cell=self._cell[here],
            time=self._time[here],
            step=self._step[here],
            origin=self.origin,
            **arrays,
        )


EXTXYZ = SourceKind(
    "extended XYZ (.xyz, .extxyz, each also .gz, .bz2, .xz)", is_extxyz, open_extxyz
)


# --- which frames ---------------------------------------------------------------------------------


def _names_taken(heads: list[_Head], notes: list[str]) -> dict[str, str]:
    """By quantity: under which of its names the file has it, in the first frame that does."""
    present = frozenset[str]().union(*(head.names for head in heads))
    taken = {}
    for quantity, names in QUANTITIES.items():
        known = [name for name in names if name in present]
        if known:
            taken[quantity] = known[0]
        if known and known[0] != names[0]:
            notes.append(f"`{known[0]}` was taken as {quantity}.")
    return taken


def _with_forces(
    heads: list[_Head], name: str | None, file: Path, dropped: dict[str, int], notes: list[str]
) -> list[_Head]:
    kept = [head for head in heads if name in head.names]
    if not kept:
        raise InputError(f"the frames hold no forces: {REMEDIES.forces}", file)
    if lost := len(heads) - len(kept):
        dropped["no forces"] = lost
        notes.append(f"{lost} of {len(heads)} frames dropped that have no `{name}`.")
    return kept


def _without_beginning(
    heads: list[_Head], skip_fs: float, file: Path, dropped: dict[str, int]
) -> list[_Head]:
    check_not_negative(skip_fs=skip_fs)
    time, no_dynamics = _times(heads)
    if no_dynamics:
        raise InputError(f"no stretch of time can be skipped: the frames have {no_dynamics}", file)
    late = time >= time[0] + skip_fs
    if not late.any():
        raise InputError(
            f"nothing is left: {skip_fs:g} fs are to be skipped, the frames span"
            f" {time[-1] - time[0]:g} fs",
            file,
        )
    dropped["skipped as equilibration"] = int((~late).sum())
    return [heads[k] for k in np.flatnonzero(late)]


def _times(heads: list[_Head]) -> tuple[Floats, str]:
    """Times [fs] (F,), and why the frames are no dynamics (empty if they are); zeros if none are
    known.
    """
    told = [head.time for head in heads if head.time is not None]
    if len(told) < len(heads):
        return np.zeros(len(heads)), NO_TIME
    time = np.array(told, dtype=np.float64)
    return time, "" if (np.diff(time) > 0).all() else NOT_IN_ORDER


def _steps(heads: list[_Head]) -> Ints:
    """MD steps (F,); numbers of the frames from 0 where they do not tell frames apart."""
    told = [head.step for head in heads if head.step is not None]
    if len(set(told)) == len(heads):
        return np.array(told, dtype=np.int64)
    return np.array([head.number - 1 for head in heads], dtype=np.int64)


# --- text -----------------------------------------------------------------------------------------


def _texts(file: Path, notes: list[str] | None = None) -> Iterator[_Text]:
    """The complete frames of a file; `notes` say if the last one is half-written."""
    with open_binary(file) as stream:
        lines, number = Lines(stream), 0
        while (header := lines.take(1)) and header[0].strip():
            line, number = lines.number, number + 1
            if not is_count(header[0].strip()):
                text = header[0].decode("utf-8", "replace").strip()[:60]
                raise InputError(
                    f"expected the number of atoms of frame {number}, found '{text}'", file, line
                )
            n_atoms = int(header[0])
            comment, *rows = lines.take(1 + n_atoms) or [b""]
            if len(rows) < n_atoms or _is_cut_off(rows):
                if notes is not None:
                    notes.append(
                        f"{file.name}: the last frame (line {line}) is half-written and was"
                        " dropped."
                    )
                return
            yield _Text(number, line, comment.decode("utf-8", "replace").strip(), rows)


def _is_cut_off(rows: list[bytes]) -> bool:
    """Whether the last line of the file lacks its end."""
    return not rows[-1].endswith(b"\n") and len(rows[-1].rstrip()) < len(rows[0].rstrip())


def _read_heads(file: Path, notes: list[str]) -> list[_Head]:
    heads = [_head(text, file) for text in _texts(file, notes)]
    if not heads:
        raise InputError("holds no complete frame", file)
    return heads


def _head(text: _Text, file: Path) -> _Head:
    try:
        told = key_val_str_to_dict(text.comment)
        properties = str(told.get("Properties", "")).split(":")
        columns = properties[::3]
        if sum(int(number) for number in properties[2::3]) > MOST_COLUMNS:
            raise ValueError(f"its Properties tell of more than {MOST_COLUMNS} columns")
        cell = np.array(told["Lattice"], dtype=np.float64).T if "Lattice" in told else None
        times = [float(told[name]) for name in TIMES if name in told]
        steps = [int(told[name]) for name in STEPS if name in told]
        if not np.isfinite([*(() if cell is None else cell.flat), *times]).all():
            raise ValueError("its Lattice or time is no finite number")
        if any(abs(step) > LAST_STEP for step in steps):
            raise ValueError("its step is no number that fits into 64 bits")
    except (IndexError, OverflowError, TypeError, ValueError) as error:
        raise InputError(
            f"the comment line of frame {text.number} cannot be read: {error}", file, text.line + 1
        ) from None
    if cell is None or cell.shape != (3, 3) or not abs(np.linalg.det(cell)) > 0:
        raise InputError(
            f'frame {text.number}: frames need a cell: write extended XYZ, with Lattice="ax ay az'
            ' bx …" in Å',
            file,
            text.line + 1,
        )
    if "Properties" in told and not {"pos", "positions"} & {*columns}:
        raise InputError(
            f"frame {text.number} has no positions: its columns are {', '.join(columns)}",
            file,
            text.line + 1,
        )
    return _Head(
        text.number,
        text.line,
        cell,
        times[0] if times else None,
        steps[0] if steps else None,
        frozenset((*told, *columns)),
        bool(np.all(told.get("pbc", True))),
    )


def _atoms(text: _Text, file: Path) -> Atoms:
    rows = b"".join(text.rows).decode("utf-8", "replace")
    try:
        atoms = next(read_xyz(StringIO(f"{len(text.rows)}\n{text.comment}\n{rows}\n"), 0))
        if not atoms.numbers.all():
            raise KeyError("X")
        return atoms
    except Exception as error:  # ASE's parsers raise whatever their parsing hits
        why = f"ASE cannot read it: {type(error).__name__}: {error}"
        if isinstance(error, KeyError):
            why = f"{error} is no element, which the column species should hold"
        raise InputError(f"frame {text.number}: {why}", file, text.line) from None


def _values(atoms: Atoms, quantity: str, name: str) -> Floats | None:
    """One quantity of a frame in eV, Å, fs; None if that is not what the name holds."""
    results = {} if atoms.calc is None else atoms.calc.results
    try:
        values = np.array({**atoms.arrays, **atoms.info, **results}[name], dtype=np.float64)
        if name == "momenta":
            return np.asarray(atoms.get_velocities() * units.fs).reshape(len(atoms), 3)
        if quantity == "stress":
            full = voigt_6_to_full_3x3_stress(values) if values.size == 6 else values
            return np.asarray(full.reshape(3, 3))
        return values.reshape(()) if quantity == "energy" else values.reshape(len(atoms), 3)
    except (KeyError, TypeError, ValueError):
        return None
