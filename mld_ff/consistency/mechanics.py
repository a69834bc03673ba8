"""What mechanics says of a stretch of frames: forces do the work that the energy tells and give
the accelerations, and velocities move the atoms.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from mld_ff.consistency.proportion import Proportion
from mld_ff.consistency.work import Path, lasting_bonds_of
from mld_ff.geometry.motion import displacements
from mld_ff.trajectory import Floats, Trajectory
from mld_ff.units import AMU_A2_PER_FS2_TO_EV

FEW, MANY, SURE = 4, 10, 30
"""Intervals between frames: with fewer nothing is told; from so many on a correlation is one, and
from so many on the lack of one is."""
CLEAR, PERFECT = 0.8, 0.95
"""Correlations, with many frames and with few. Between the work of the forces and the energy water
has 0.99 at 10 fs, an acid 0.97 at 5 fs, silica 0.92 at 40 fs."""
ROUGH = (1 / 30, 4.0)
"""Of energies over works that hardly correlate, in dynamics: in 50 systems 0.16 to 1.05."""
UNRELATED, UNEXPLAINED = 0.6, 2.2
"""Forces are not of these positions where correlations are lower than the one, and what works leave
unexplained is so many times the square of their coarseness: 0.9 to 1.1 times in salts and brine
too far apart, 2.3 to 5 times in water every 10 fs with exchanged axes or hydrogens. With 10 to 13
intervals brine every 50 fs has up to 2.8, and 4 % of its stretches would be refused; from 20 on
none (1.6), nor of water every 50 or 70 fs."""
FAR_A = 0.7
"""Atoms that move by more between frames (water in 80 fs) may have met others on their way, of
which these frames know nothing."""
UNORDERED = 4.0
"""By this factor the rule may err for frames in no order, whose intervals are far (20 frames of
copper, rattled by 0.02 to 0.35 Å, forces exact: 2.4 times too large)."""
SLOW = 0.2
"""Correlation of forces from frame to frame below which vibrations are faster than frames follow
them, and look like slower ones."""
BETTER = 3.0
"""By this factor must forces of another frame leave less unexplained."""


@dataclass(frozen=True)
class Comparison:
    """Something given beside what it should be."""

    proportion: Proportion | None = None
    """None where it was not compared."""
    between: tuple[float, float] = (0.0, np.inf)
    """Where what should be over what is given lies, without its sign."""
    shift: int = 0
    """Of the frames to which what is given belongs: 1 if every frame has what the next should."""
    is_rough: bool = False
    """Whether the factor is known in its order of magnitude only."""
    is_unrelated: bool = False
    """Whether the two have nothing to do with each other."""
    unchecked: str = ""
    """Why nothing can be said."""

    @property
    def off(self) -> bool:
        """Whether it is not as it should be."""
        if self.unchecked or self.proportion is None:
            return False
        return self.is_unrelated or bool(self.shift) or self.is_reversed or self.is_scaled

    @property
    def is_reversed(self) -> bool:
        return self.proportion is not None and self.proportion.value < 0

    @property
    def is_scaled(self) -> bool:
        return not self.between[0] <= 1 <= self.between[1]

    @property
    def factor(self) -> float:
        """What is given over what should be, without its sign."""
        return 1 / self.proportion.middle if self.proportion else np.nan


def _unchecked(why: str) -> Comparison:
    return Comparison(unchecked=why)


@dataclass(frozen=True)
class Mechanics:
    """Of contiguous frames."""

    frames: Trajectory

    @cached_property
    def _moves(self) -> Floats:
        return displacements(self.frames.positions, self.frames.cell)

    @cached_property
    def work(self) -> Comparison:
        """Forces: the change of the potential energy is −∫F·dx, whatever time passes and whatever
        thermostat acts; by the trapezoidal rule along a path on which molecules turn.
        """
        frames = self.frames
        if frames.energy is None or frames.forces is None:
            return _unchecked(f"there are no {'energies' if frames.energy is None else 'forces'}")
        if frames.origin.biases:
            return _unchecked("the run was biased")
        if (frames.cell != frames.cell[:1]).any():
            return _unchecked("the cell changes, and what it does to the energy is not known")
        rise = np.diff(frames.energy)
        if len(rise) < FEW:
            return _unchecked(f"{len(frames.energy)} frames are too few")
        if not rise.any():
            return _unchecked("all energies are equal")
        if self._far:
            return _unchecked(f"atoms move by more than {FAR_A} Å from frame to frame")
        topology = lasting_bonds_of(frames)
        path, forces = Path(frames, topology), frames.forces
        work = path.work(forces)
        found, shift = Proportion.of(rise, work), 0
        if len(rise) >= FEW + 2:
            before, after = (path.work(np.roll(forces, k, axis=0)) for k in (1, -1))
            shift, here = _shift(rise[1:-1], [w[1:-1] for w in (before, work, after)])
            found = here if shift else found
        coarse = _coarseness(work, Path(frames, topology, 2).work(forces))
        if _is_vague(found):
            return self._roughly(found, coarse)
        low, high = found.range(coarse)
        if not frames.origin.is_dynamics:
            return Comparison(found, (low / UNORDERED, high * UNORDERED), is_rough=True)
        return Comparison(found, (low, high), shift)

    @property
    def _far(self) -> bool:
        return float(np.sqrt((self._moves**2).sum(axis=2).mean())) > FAR_A

    def _roughly(self, found: Proportion, coarse: float) -> Comparison:
        """What size and sign alone tell of forces and energies. coarse: of works."""
        low, high = (found.middle / limit for limit in reversed(ROUGH))
        sure = found.frames >= MANY and self.frames.origin.is_dynamics
        backwards = found.correlation < -0.3 and abs(found.value) > found.sure_error
        rough = Comparison(found, (low, high), is_rough=True)
        if sure and (backwards or not low <= 1 <= high):
            return rough
        correlation = abs(found.correlation)
        sure = sure and found.frames >= SURE
        if sure and correlation < UNRELATED and 1 - correlation**2 > UNEXPLAINED * coarse**2:
            return replace(rough, is_unrelated=True)
        return _unchecked(
            "frames are too far apart for the work of forces to follow the energy, or these are not"
            " of one method"
        )

    @cached_property
    def accelerations(self) -> Comparison:
        """Forces: they are masses times accelerations, by Numerov's rule of fourth order,
        x₊ − 2x + x₋ = h² (a₊ + 10a + a₋)/12.
        """
        frames = self.frames
        if frames.forces is None:
            return _unchecked("there are no forces")
        if frames.origin.constraints:
            return _unchecked("coordinates were constrained")
        if why := self._no_steps():
            return _unchecked(why)
        h, forces = float(frames.time[1] - frames.time[0]), frames.forces
        if (forces[1:] * forces[:-1]).sum() < SLOW * (forces**2).sum():
            return _unchecked("frames are too far apart")
        pull = AMU_A2_PER_FS2_TO_EV * frames.masses[:, None] * np.diff(self._moves, axis=0) / h**2
        plain = Proportion.of(pull, forces[1:-1])
        found = Proportion.of(pull, (forces[2:] + 10 * forces[1:-1] + forces[:-2]) / 12)
        shift = 0
        if len(pull) >= FEW:
            stop = len(forces)
            at = [forces[2 + k : stop - 2 + k] for k in (-1, 0, 1)]
            shift, here = _shift(pull[1:-1], at)
            found = here if shift else found
        if shift:
            return Comparison(found, found.range(), shift)
        coarse = abs(found.value - plain.value) / abs(found.value) if found.value else np.inf
        return self._judged(found, found.range(coarse))

    def _judged(self, found: Proportion, between: tuple[float, float]) -> Comparison:
        """Over long steps accelerations fall short of the forces, and keep their sign: sin²(ωh/2)
        over (ωh/2)² of them are seen.
        """
        if not _is_vague(found, PERFECT):
            return Comparison(found, between)
        sure = found.frames >= MANY and abs(found.value) > 2 * found.sure_error
        if not (sure and abs(found.correlation) > 0.2):
            return _unchecked("frames are too far apart")
        low = between[0] if found.correlation > 0.5 else 0.0
        judged = Comparison(found, (low, np.inf), is_rough=True)
        return judged if judged.off else _unchecked("frames are too far apart")

    @cached_property
    def velocities(self) -> Comparison:
        """They move the atoms, by Simpson's rule: x₊ − x₋ = h (v₊ + 4v + v₋)/3."""
        frames, v = self.frames, self.frames.velocities
        if v is None:
            return _unchecked("there are none")
        if why := self._no_steps():
            return _unchecked(why)
        h, moves = float(frames.time[1] - frames.time[0]), self._moves
        compared = []
        for name in frames.species:  # heavy atoms may be slow enough where hydrogens are not
            own = np.array([s == name for s in frames.symbols])
            d, u = moves[:, own], v[:, own]
            found = Proportion.of((d[1:] + d[:-1]) / 2, h * (u[2:] + 4 * u[1:-1] + u[:-2]) / 6)
            plain = Proportion.of(d, h * (u[1:] + u[:-1]) / 2)
            coarse = abs(found.value - plain.value) / abs(found.value) if found.value else np.inf
            if not _is_vague(found):
                compared.append(Comparison(found, found.range(coarse)))
        if not compared:
            return _unchecked("frames are too far apart")
        return max(compared, key=lambda c: c.proportion.correlation**2 if c.proportion else 0.0)

    def _no_steps(self) -> str:
        """Why frames are no steps of equal length in time; empty if they are."""
        time = self.frames.time
        if not self.frames.origin.is_dynamics:
            return f"the frames are no dynamics ({self.frames.origin.remedies.one_by_one})"
        if len(time) < FEW + 1:
            return f"{len(time)} frames are too few"
        steps = np.diff(time)
        if not (steps[0] > 0 and np.allclose(steps, steps[0], rtol=1e-3)):
            return "frames are not equally far apart in time"
        return ""


def _coarseness(work: Floats, twice: Floats) -> float:
    """Relative error of works, by those over two intervals at once. Where intervals are short the
    rule errs by their third power, and this is three times its error; where they are long, it errs
    by as much.
    """
    once = work[1:] + work[:-1]
    if not (once**2).sum() > 0:
        return np.inf
    return float(np.sqrt(((twice - once) ** 2).sum() / (once**2).sum()))


def _shift(expected: Floats, given: list[Floats]) -> tuple[int, Proportion]:
    """Where what is expected stands: 1 if it is with the frame before, which then has what belongs
    to the next, −1 if with the frame after, 0 where it should; and how it compares there.

    given: of the frame before, the frame, and the frame after.
    """
    found = [Proportion.of(expected, numbers) for numbers in given]
    best = max(range(3), key=lambda k: abs(found[k].correlation))
    left, here = (1 - found[k].correlation ** 2 for k in (best, 1))
    if best == 1 or _is_vague(found[best]) or not left * BETTER < here:
        return 0, found[1]
    return 1 - best, found[best]


def _is_vague(found: Proportion, clear: float = CLEAR) -> bool:
    needed = clear if found.frames >= MANY else PERFECT
    return not (np.isfinite(found.error) and abs(found.correlation) >= needed)
