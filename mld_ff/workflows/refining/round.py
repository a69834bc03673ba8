"""What a round of refinement tells, as refine.json keeps it, and which frames it picked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from mld_ff.errors import InputError
from mld_ff.files import read_json, to_json, write_atomically
from mld_ff.loss.provenance import check_record
from mld_ff.names import shown
from mld_ff.workflows.rounds import NO_RECORD, REMOVE


@dataclass(frozen=True)
class RunSeen:
    """What a run of a round showed, up to its first unsound frame."""

    frames: int
    new: int
    """How many of the frames are new."""
    median_novelty: float | None
    """Over the frames (`Verdict.novelty`); None where there are none."""
    frames_beyond_range: int
    """How many leave what was sampled."""
    beyond_range_A: Mapping[str, float]
    """By term, how far at most [Å, or units of a density]; only those that do."""
    stopped: str | None
    """Why the run does not count to its end."""


@dataclass(frozen=True)
class PickedFrame:
    """A frame to label."""

    run: str
    """Name of its run, which is that of the directory."""
    frame: int
    """Its index in that run."""
    time_ps: float
    novelty: float
    """See `Verdict`."""
    beyond: Mapping[str, float]
    """See `Verdict`."""


@dataclass(frozen=True)
class Picked:
    """What the runs of a round showed, and which frames of them to label."""

    quiet: bool
    """Whether nothing new was seen: there is nothing to label."""
    new_fraction: float
    """What part of the frames of all runs is new."""
    threshold: float
    """Of the leverage, beyond which a frame is new."""
    largest_force_eV_per_A: float
    """Of the reference."""
    runs: Mapping[str, RunSeen]
    """By name."""
    frames: tuple[PickedFrame, ...]

    def write(self, file: Path) -> None:
        write_atomically(file, to_json(asdict(self), indent=1))

    @classmethod
    def read(cls, file: Path) -> Self:
        """What `write` wrote. Raises InputError if it is something else."""
        data = read_json(file, "what was picked")
        try:
            runs = {name: RunSeen(**run) for name, run in data["runs"].items()}
            frames = tuple(PickedFrame(**frame) for frame in data["frames"])
            picked = cls(**{**data, "runs": runs, "frames": frames})
            check_record("it", asdict(picked), cls)
        except NO_RECORD as error:
            raise InputError(f"does not hold what was picked ({error}): {REMOVE}", file) from None
        for one in frames:
            name = one.run  # which is that of a directory beside the file
            if (
                name not in runs
                or Path(name).name != name
                or not 0 <= one.frame < runs[name].frames
            ):
                what = f"frame {one.frame} of {shown(name)} is none of the runs' frames"
                raise InputError(f"{what}: {REMOVE}", file)
        return picked


@dataclass(frozen=True)
class Labelled:
    """What came of the labels of a round."""

    labelled: int
    """Frames that were learned from."""
    left_out: tuple[str, ...]
    """Which were not, and why, a sentence each."""
    rmse_on_new_meV_per_A: float | None
    """Of the model of the round, which has not seen them; None if nothing could be learned."""


@dataclass(frozen=True)
class RefinementRound:
    """The fit of a round, what its runs showed, and what was labelled."""

    round: int
    """Its number, from 1 on."""
    rmse_meV_per_A: float
    """Of a force component on the test frames of the reference."""
    relative_rmse: Mapping[str, float]
    """The same by species, over the size of the force (`Errors`)."""
    runs: Mapping[str, RunSeen]
    """By name."""
    new_fraction: float
    """What part of the frames of all runs is new."""
    quiet: bool
    """Whether nothing new was seen."""
    labels: Labelled | None = None
    """None if it was quiet."""

    def to_dict(self) -> dict[str, Any]:
        """As JSON keeps it, what is told of labels beside the rest."""
        data = asdict(self)
        return data | (data.pop("labels") or {})

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        own = dict(data)
        own["runs"] = {name: RunSeen(**run) for name, run in data["runs"].items()}
        if not data["quiet"]:
            left_out, before = tuple(own.pop("left_out")), own.pop("rmse_on_new_meV_per_A")
            own["labels"] = Labelled(own.pop("labelled"), left_out, before)
        one = cls(**own)
        check_record("a round", asdict(one), cls)
        return one
