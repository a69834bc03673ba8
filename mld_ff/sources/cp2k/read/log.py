"""What CP2K's log says of a run: settings, the cell, and every calculation of energy and forces.

Formats are those that the releases 5 to 2026 print: `ATOMIC FORCES` or `FORCES|`, `STEP NUMBER` or
`MD| Step number`, cell lengths in bohr or Å.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from ase.geometry import cellpar_to_cell
from scipy.linalg import polar

from mld_ff.errors import InputError
from mld_ff.sources.cp2k.read.units import PRESSURE, unit_factor
from mld_ff.sources.textfiles import open_binary
from mld_ff.trajectory import Floats
from mld_ff.units import BOHR_TO_A, DEBYE_TO_E_A

_SAME_A = 2e-3
"""Vectors are printed to three decimals: those made from lengths and angles agree as well."""
LARGEST_STRAIN = 0.1
"""Beyond, the order in which a cell was strained matters: its vectors, found as `_unturned` does,
were off by 7e-8 Å after a strain of 0.0007 and 3e-4 Å after 0.13 (two runs of NPT_F)."""
_RIGHT_DEG = 1e-5
_SAME_LENGTH = 5e-7
"""Lengths in bohr have seven digits before release 8: what the vectors say in Å is not worse."""


@dataclass(eq=False)
class Calculation:
    """One calculation of energy and forces."""

    method: str
    """QS, FIST, MIXED, …"""
    energy: float
    """[hartree]"""
    converged: bool
    """Whether all its self-consistent fields converged."""
    cell: Floats | None
    """[Å], (3, 3)."""
    step: int | None = None
    """None for a single point."""
    forces_line: int = 0
    """Where its table of forces begins; 0 without one."""
    coordinates_line: int = 0
    """Of a single point: where the table of its atoms begins; 0 without one."""
    stress: Floats | None = None
    """As CP2K prints it, positive under pressure, without the atoms' motion [eV/Å³], (3, 3)."""
    dipole: Floats | None = None
    """Of the box, up to multiples of halves of its vectors [e Å], (3,)."""


@dataclass(eq=False)
class Log:
    """What a log holds; None where it does not say."""

    path: Path
    version: str | None = None
    started: str = ""
    """When the program started, as text that sorts."""
    project: str | None = None
    input_name: str | None = None
    """Of the input that the program was given."""
    run_type: str | None = None
    ensemble: str | None = None
    timestep: float | None = None
    """[fs]"""
    temperature: float | None = None
    """[K]"""
    cell: Floats | None = None
    """[Å], (3, 3), at the start."""
    is_turned: bool = False
    """Whether the shape of the cell changed so much that its lengths and angles do not tell how it
    lies."""
    coordinates_line: int = 0
    """Where the table of starting coordinates begins; 0 without one."""
    calculations: list[Calculation] = field(default_factory=list)


def read_log(path: Path, start: Floats | None = None) -> Log:
    """Read a log to its end. Raises InputError if it is a damaged compressed file.

    start: the cell (3, 3) [Å] that the run began with, where the log has lengths and angles alone
    (PRINT_LEVEL LOW).
    """
    reader = _Reader(Log(path, cell=start))
    with open_binary(path) as stream:
        for number, line in enumerate(stream, 1):
            match = _LINE.match(line)
            if match:
                reader.take(number, line.decode("utf-8", "replace"))
    reader.finish()
    return reader.log


class _Reader:
    """The state of reading: which step the calculations will turn out to be of."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self._pending: list[Calculation] = []
        self._of_step: Calculation | None = None
        """That of the step whose block is being read."""
        self._initial: Calculation | None = None
        """Before the first step, whose number tells that of this one."""
        self._failed = False
        self._vectors: list[list[float]] = []
        self._lengths: list[float] = []
        self._angles: list[float] = []
        self._current: Floats | None = log.cell
        self._stress_rows: list[list[float]] = []
        self._stress_factor = 1.0
        self._optimization_step: int | None = None
        self._coordinates_line = 0
        self._dipole: Floats | None = None
        """That of the calculation whose energy follows."""

    def take(self, number: int, line: str) -> None:
        """Take a line that may matter."""
        if "ATOMIC FORCES in" in line or "Atomic forces [" in line:
            if self._pending:
                self._pending[-1].forces_line = number
            return
        if "ATOMIC COORDINATES IN" in line:
            self._coordinates_line = number
            self.log.coordinates_line = self.log.coordinates_line or number
            return
        if "SCF run NOT converged" in line:
            self._failed = True
            return
        for pattern, handle in _HANDLERS:
            if match := pattern.match(line):
                # numbers that are none, or no cell: such a line tells nothing
                with suppress(ValueError, AssertionError, np.linalg.LinAlgError, InputError):
                    handle(self, match)
                return

    def finish(self) -> None:
        """What is left at the end, or where another run begins: a single point, an optimization,
        or a step that was not finished.
        """
        if self._optimization_step is not None:
            self._emit_last(self._optimization_step)
        elif self._initial is not None:
            self._initial.step = 0
        elif self._pending and all(c.step is None for c in self.log.calculations):
            self._emit_last(None)
            self.log.calculations[-1].coordinates_line = self._coordinates_line
        self._pending, self._initial, self._optimization_step = [], None, None

    # --- calculations -----------------------------------------------------------------------------

    def energy(self, match: re.Match[str]) -> None:
        value = _number(match[2])
        cell = self._current if self._optimization_step is not None else None
        calculation = Calculation(match[1], value, not self._failed, cell, dipole=self._dipole)
        self._pending.append(calculation)
        self._failed, self._dipole = False, None

    def _whole(self) -> list[Calculation]:
        """The calculations that wait; parts of a mixed one are one with it."""
        whole, converged = list[Calculation](), True
        for calculation in self._pending:
            converged = converged and calculation.converged
            if calculation.method == self._pending[-1].method:
                calculation.converged = converged
                whole.append(calculation)
                converged = True
        self._pending = []
        return whole

    def _emit_last(self, step: int | None) -> None:
        """Of an optimization's step, the last: those before it looked along a line."""
        for calculation in self._whole()[-1:]:
            calculation.step, calculation.cell = step, self._current
            self.log.calculations.append(calculation)

    def begins(self, _: re.Match[str]) -> None:
        """Dynamics begin, or go on after a restart."""
        for calculation in self._whole()[-1:]:
            calculation.cell = self._current
            self._initial = calculation
            self.log.calculations.append(calculation)

    def step(self, match: re.Match[str]) -> None:
        """A step is done; where only every k-th is announced, those before it count backwards."""
        number, whole = int(match[1]), self._whole()
        for back, calculation in enumerate(reversed(whole)):
            calculation.step = number - back
        if self._initial is not None:
            self._initial.step = number - len(whole)
            self._initial = None
        self.log.calculations += whole
        self._of_step = whole[-1] if whole else None

    def optimization(self, match: re.Match[str]) -> None:
        number = int(match[1])
        self._emit_last(number - 1)
        self._optimization_step = number

    def started(self, match: re.Match[str]) -> None:
        self.finish()
        self._coordinates_line = 0
        self.log.started = self.log.started or match[1]

    # --- cells ------------------------------------------------------------------------------------

    def vector(self, match: re.Match[str]) -> None:
        """One of the start, with its length to more decimals."""
        row = np.array([_finite(match[k]) for k in (2, 3, 4)])
        length = float(np.linalg.norm(row))
        if not 0 < length < math.inf:  # as of numbers whose squares are none
            raise ValueError("no vector")
        self._vectors.append((row * (_finite(match[5]) / length)).tolist())
        self._angles = []

    def angle(self, match: re.Match[str]) -> None:
        self._angles.append(_finite(match[1]))
        if len(self._vectors) == len(self._angles) == 3:
            cell = np.array(self._vectors)
            self._lengths = np.linalg.norm(cell, axis=1).tolist()
            exact = cellpar_to_cell([*self._lengths, *self._angles])
            self._current = exact if np.allclose(exact, cell, atol=_SAME_A) else cell
            self._vectors = []
            if self.log.cell is None:
                self.log.cell = self._current

    def initial_angles(self, match: re.Match[str]) -> None:
        """At PRINT_LEVEL LOW no vectors are printed; of a box these say as much."""
        right = [_finite(match[k]) for k in (1, 2, 3)]
        if self.log.cell is None and self._lengths and np.allclose(right, 90, atol=_RIGHT_DEG):
            self._current = self.log.cell = np.diag(self._lengths)
            if self._initial is not None:
                self._initial.cell = self._current

    def initial_lengths(self, match: re.Match[str]) -> None:
        """Of the start of dynamics, to more decimals than the vectors."""
        self._scale(match)
        if self._initial is not None:
            self._initial.cell = self._current
        if not any(calculation.step for calculation in self.log.calculations):
            self.log.cell = self._current

    def lengths(self, match: re.Match[str]) -> None:
        self._scale(match)
        if self._of_step is not None:
            self._of_step.cell = self._current

    def angles(self, match: re.Match[str]) -> None:
        """Of a cell whose shape changes; its lengths stand before."""
        if self._current is None or self.log.cell is None:
            return
        lengths = np.linalg.norm(self._current, axis=1)
        parameters = [*lengths, *(_finite(match[k]) for k in (1, 2, 3))]
        self._current, strain = _unturned(self.log.cell, cellpar_to_cell(parameters))
        self.log.is_turned = self.log.is_turned or strain > LARGEST_STRAIN
        if self._of_step is not None:
            self._of_step.cell = self._current

    def _scale(self, match: re.Match[str]) -> None:
        factor = BOHR_TO_A if match[1] == "bohr" else 1.0
        lengths = np.array([factor * _finite(match[k]) for k in (2, 3, 4)])
        if self._current is not None:
            longer = lengths / np.linalg.norm(self._current, axis=1)
            if np.abs(longer - 1).max() > _SAME_LENGTH:
                self._current = self._current * longer[:, np.newaxis]
        self._lengths = lengths.tolist()

    def dipole(self, match: re.Match[str]) -> None:
        self._dipole = dipole_of(match)

    # --- stress -----------------------------------------------------------------------------------

    def stress_begins(self, match: re.Match[str]) -> None:
        self._stress_factor = unit_factor(match[1], PRESSURE)
        self._stress_rows = []

    def stress_row(self, match: re.Match[str]) -> None:
        self._stress_rows.append([_number(match[k]) for k in (1, 2, 3)])
        if len(self._stress_rows) == 3 and self._pending and self._pending[-1].stress is None:
            stress = np.array(self._stress_rows) * self._stress_factor
            self._pending[-1].stress = stress if np.isfinite(stress).all() else None


def _unturned(start: Floats, cell: Floats) -> tuple[Floats, float]:
    """A cell turned so that the strain that takes `start` to it is symmetric, and that strain.

    CP2K's barostat (NPT_F) strains a cell at a symmetric rate, without turning it.
    """
    turn, strain = polar(np.linalg.inv(start) @ cell, side="left")
    return np.asarray(cell @ turn.T), float(np.abs(strain - np.eye(3)).max())


def dipole_of(match: re.Match[str]) -> Floats:
    """[e Å], (3,), of a line that DIPOLE matches."""
    return DEBYE_TO_E_A * np.array([_number(text) for text in match.groups() if text])


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:  # asterisks, where a number needs more room
        return float("nan")


def _finite(text: str) -> float:
    """Raises ValueError for what is no number of a cell."""
    if not math.isfinite(value := float(text)):
        raise ValueError(text)
    return value


def _fact(name: str, of: type[str] | type[float] = str) -> Callable[[_Reader, re.Match[str]], None]:
    """A fact of the log, taken where it stands first."""

    def handle(reader: _Reader, match: re.Match[str]) -> None:
        if getattr(reader.log, name) is None:
            setattr(reader.log, name, of(match[1]))

    return handle


_N = r"\s+(\S+)"
_THREE = 3 * _N
DIPOLE = (
    rf" (?:(?:MM|TB)_DIPOLE\| Moment \[Debye\]|MM DIPOLE \[[\w -]+\]\(Debye\)\|){_THREE}\s*$"
    r"|    X=\s*(\S+)\s*Y=\s*(\S+)\s*Z=\s*(\S+)\s+Total="
)
"""In debye: FIST (since release 8, and before), xTB, and &DFT &PRINT &MOMENTS, which writes
`XX=` of higher moments."""
_HANDLERS: list[tuple[re.Pattern[str], Callable[[_Reader, re.Match[str]], None]]] = [
    (re.compile(pattern), handle)
    for pattern, handle in [
        (r" ENERGY\| Total FORCE_EVAL \( *(\w+) *\) energy.*?\s(\S+)\s*$", _Reader.energy),
        (r" MD\| Step number\s+(\d{1,18})\b", _Reader.step),
        (r" STEP NUMBER\s+=\s+(\d{1,18})\b", _Reader.step),
        (r" MD_INI\| MD initialization", _Reader.begins),
        (r" MD_ENERGIES\| Initialization proceeding", _Reader.begins),
        (r" OPTIMIZATION STEP:\s+(\d{1,18})\b", _Reader.optimization),
        (r".{20,30}PROGRAM STARTED AT\s+(\S+ \S+)", _Reader.started),
        (
            r" CELL\| Vector ([abc]) \[angstrom\]:?" + _THREE + r"\s+\|[abc]\|\s*=" + _N,
            _Reader.vector,
        ),
        (r" CELL\| Angle \([abc],[abc]\), \w+\s+\[degree\]:" + _N, _Reader.angle),
        (r" MD_INI\| Cell lengths \[(ang)\]" + _THREE, _Reader.initial_lengths),
        (r" INITIAL CELL LNTHS\[(bohr)\]\s+=" + _THREE, _Reader.initial_lengths),
        (r" MD_INI\| Cell angles \[deg\]" + _THREE, _Reader.initial_angles),
        (r" INITIAL CELL ANGLS\[deg\]\s+=" + _THREE, _Reader.initial_angles),
        (r" MD\| Cell lengths \[(ang)\]" + _THREE, _Reader.lengths),
        (r" CELL LNTHS\[(bohr)\]\s+=" + _THREE, _Reader.lengths),
        (r" MD\| Cell angles \[deg\]" + _THREE, _Reader.angles),
        (r" CELL ANGLS\[deg\]\s+=" + _THREE, _Reader.angles),
        (DIPOLE, _Reader.dipole),
        (r" STRESS\| .*[Ss]tress tensor \[(\w+)\]\s*$", _Reader.stress_begins),
        (r" STRESS TENSOR \[(\w+)\]\s*$", _Reader.stress_begins),
        (r" STRESS\|\s+[xyz]" + _THREE + r"\s*$", _Reader.stress_row),
        (r"  [XYZ]" + _THREE + r"\s*$", _Reader.stress_row),
        (r" CP2K\| version string:\s+CP2K version (\S+)", _fact("version")),
        (r" CP2K\| Input file name\s+(\S+)", _fact("input_name")),
        (r" GLOBAL\| Project name\s+(\S+)", _fact("project")),
        (r" GLOBAL\| Run type\s+(\S+)", _fact("run_type")),
        (r" MD(?:_PAR)?\| Ensemble [Tt]ype\s+(\S+)", _fact("ensemble")),
        (r" MD(?:_PAR)?\| Time [Ss]tep \[fs\]\s+(\S+)", _fact("timestep", float)),
        (r" MD(?:_PAR)?\| Temperature \[K\]\s+(\S+)\s*$", _fact("temperature", float)),
    ]
]
_LINE = re.compile(
    rb" (?:CELL|ENERGY|MD|MD_INI|MD_PAR|MD_ENERGIES|GLOBAL|CP2K|STRESS|FORCES)\|"
    rb"| (?:STEP NUMBER|CELL LNTHS|CELL ANGLS|INITIAL CELL|OPTIMIZATION STEP|STRESS TENSOR)"
    rb"| ATOMIC FORCES in|  [XYZ] |.{20,30}PROGRAM STARTED AT| MODULE \w+: +ATOMIC COORD"
    rb"|.*SCF run NOT converged| (?:MM|TB)_DIPOLE\|| MM DIPOLE|    X="
)
"""Lines that may matter; of 600,000 lines a second most are passed over by this alone."""
