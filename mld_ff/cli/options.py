"""Options that several verbs share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter, Token
from cyclopts.validators import Number

from mld_ff.cli.fields import Options, Whole, whole
from mld_ff.errors import InputError
from mld_ff.inference import Basis, parse_channels, parse_rank
from mld_ff.inference.basis import free_kinds
from mld_ff.inference.exponents import parse_exponents
from mld_ff.outputs import Results
from mld_ff.progress import Progress
from mld_ff.sources import open_source
from mld_ff.sources.registry import kind_of
from mld_ff.sources.source import FileSource
from mld_ff.trajectory import FrameSource, Trajectory
from mld_ff.units import FS_TO_PS

WATER_DENSITY_G_PER_CM3 = 0.997
WATER_COUNT = 64

Cp2kDir = Annotated[Path, Parameter(name="CP2K_DIR", help="Directory of the CP2K run.")]
Model = Annotated[Path, Parameter(name="MODEL", help="Model file written by `fit`.")]
Output = Annotated[Path, Parameter(alias="-o", help="Where to write.")]
"""A directory that work goes on in, which the library holds meanwhile."""
NewDirectory = Annotated[Output, Results()]
NewModel = Annotated[Output, Results(begins=b"{")]
Count = Annotated[Whole, Parameter(validator=Number(gte=1))]
Processes = Annotated[Count, Parameter(help="Processes of this machine to share the work.")]

Force = Annotated[
    bool,
    Parameter(
        help="Go on where a check refuses; what it said is a note then, and stands in the files."
    ),
]


# --- a CP2K run -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reading:
    """What to read of a CP2K run."""

    file: Annotated[tuple[str, ...], Parameter(metavar="ROLE=FILE")] = ()
    """Take this file: positions, forces, velocities, energies, cells, stress, input, log; may be
    repeated.
    """
    skip_ps: float = 0.0
    """Leave out the first stretch of the run (equilibration)."""

    def open(self, path: Path, require_forces: bool | None = True) -> FileSource:
        """Whatever lies there. require_forces: as in `open_source`."""
        return open_source(
            path,
            require_forces=require_forces,
            skip_fs=self.skip_ps / FS_TO_PS,
            files=self._named_files(path),
        )

    def _named_files(self, path: Path) -> dict[str, Path]:
        """By role; a name is looked up in the directory first."""
        if not self.file:
            return {}
        kind, files = kind_of(path), dict[str, Path]()
        if not kind.roles:
            raise InputError(
                f"--file names files of a directory; this is {kind.name}: leave it out", path
            )
        for item in self.file:
            role, _, name = item.partition("=")
            if role not in kind.roles or not name:
                raise InputError(
                    f"--file takes ROLE=FILE with a role of {', '.join(kind.roles)}; found {item!r}"
                )
            inside = path / name
            files[role] = inside if inside.exists() else Path(name)
        return files


READING = Options(Reading())


def notes_of(sources: list[FileSource]) -> list[str]:
    """What was decided while opening; of several runs, with the number of the run."""
    if len(sources) == 1:
        return sources[0].notes
    return [f"run {k}: {note}" for k, s in enumerate(sources, 1) for note in s.notes]


# --- a frame to start from ------------------------------------------------------------------------


@dataclass(frozen=True)
class Beginning:
    """The frame to start from: of a structure file or of a CP2K run."""

    structure: Path | None = None
    """Structure with a periodic box: PDB, mmCIF, GRO, LAMMPS data, PSF, prmtop, …"""
    coordinates: Path | None = None
    """Positions and box for a --structure without (PSF, prmtop): restart, PDB, …"""
    cp2k: Annotated[Path | None, Parameter(metavar="CP2K_DIR")] = None
    """CP2K run to take a frame of."""
    frame: int = -1
    """Which frame of the CP2K run; negative: from the end."""
    skip_ps: float = 0.0
    """Leave out the first stretch of the CP2K run (equilibration); frames count from its end."""
    file: Annotated[tuple[str, ...], Parameter(metavar="ROLE=FILE")] = ()
    """Of the CP2K run, take this file: positions, forces, velocities, energies, cells, stress,
    input, log; may be repeated.
    """

    @property
    def given(self) -> bool:
        return self.structure is not None or self.cp2k is not None

    def read(self) -> Trajectory:
        """The frame. Raises InputError unless it is told once where from."""
        from mld_ff.sources.structures import read_structure

        if (self.structure and self.cp2k) or not self.given:
            raise InputError(
                "give the atoms to start from: either --cp2k CP2K_DIR or --structure FILE"
            )
        if self.structure:
            if self.file or self.skip_ps or self.frame != type(self).frame:
                raise InputError(
                    "--frame, --skip and --file choose a frame of --cp2k CP2K_DIR: leave them out"
                    " with a --structure"
                )
            return read_structure(self.structure, self.coordinates)
        if self.coordinates:
            raise InputError("--coordinates belong to a --structure")
        assert self.cp2k is not None
        source = Reading(self.file, self.skip_ps).open(self.cp2k, require_forces=False)
        return self._frame_of(source)

    def _frame_of(self, source: FrameSource) -> Trajectory:
        wanted = self.frame + source.n_frames if self.frame < 0 else self.frame
        first = 0
        for frames in source.chunks():
            if 0 <= wanted - first < frames.n_frames:
                return frames[wanted - first]
            first += frames.n_frames
        raise InputError(
            f"frame {self.frame} was asked for; the run has {source.n_frames} frames", self.cp2k
        )


BEGINNING = Options(Beginning())


def _counts(_: Any, tokens: tuple[Token, ...]) -> tuple[int, ...]:
    return tuple(whole(word) for token in tokens for word in token.value.split(","))


def three_counts(type_: Any, tokens: tuple[Token, ...]) -> tuple[int, int, int]:
    """Of what is repeated along a, b, c: `2,2,1`."""
    counts = _counts(type_, tokens)
    if len(counts) != 3:
        raise ValueError(f"{tokens[0].value!r} is no list of three whole numbers, as 2,2,1")
    return counts[0], counts[1], counts[2]


def _names(_: Any, tokens: tuple[Token, ...]) -> tuple[str, ...]:
    """Of molecules; a file may have a comma in its name."""
    words = [token.value for token in tokens]
    return tuple(n for w in words for n in ([w] if Path(w).exists() else w.split(",")))


@dataclass(frozen=True)
class Mixture:
    """A box filled with molecules."""

    molecule: Annotated[tuple[str, ...], Parameter(converter=_names, metavar="NAME,NAME")] = (
        "H2O",
    )
    """H2O, CH3OH, … (names of ase.build.molecule) or files; several make a mixture."""
    count: Annotated[
        tuple[int, ...],
        Parameter(
            converter=_counts,
            metavar="N,N",
            help=f"How many of every --molecule. If not given, {WATER_COUNT} of water.",
        ),
    ] = ()
    density: Annotated[
        float | None,
        Parameter(metavar="g/cm³", help=f"If not given, {WATER_DENSITY_G_PER_CM3} for water."),
    ] = None

    def pack(self, seed: int, progress: Progress) -> Trajectory:
        """One frame. Raises InputError if counts or density are missing."""
        from mld_ff.sources.packing import Ingredient, find_molecule, pack

        water = self.molecule == ("H2O",)
        counts = self.count or ((WATER_COUNT,) if water else ())
        if len(counts) != len(self.molecule):
            raise InputError(
                f"every --molecule needs its --count; found {', '.join(self.molecule)} and"
                f" {len(counts)} counts"
            )
        if self.density is None and not water:
            raise InputError(
                f"give the --density of {' and '.join(self.molecule)} in g/cm³; only that of water"
                " has a default"
            )
        ingredients = [
            Ingredient(find_molecule(name), number)
            for name, number in zip(self.molecule, counts, strict=True)
        ]
        density = WATER_DENSITY_G_PER_CM3 if self.density is None else self.density
        return pack(ingredients, density, seed, progress)


MIXTURE = Options(Mixture())


# --- functions to fit -----------------------------------------------------------------------------


def _rank(_: Any, tokens: tuple[Token, ...]) -> int:
    try:
        return parse_rank(tokens[0].value)
    except InputError as error:
        raise ValueError(str(error)) from None


def _exponents(_: Any, tokens: tuple[Token, ...]) -> tuple[float, ...]:
    try:
        return tuple(n for token in tokens for n in parse_exponents(token.value))
    except InputError as error:
        raise ValueError(str(error)) from None


def _numbers(_: Any, tokens: tuple[Token, ...]) -> tuple[float, ...]:
    words = [word for token in tokens for word in token.value.split(",")]
    try:
        return tuple(map(float, words))
    except ValueError:
        raise ValueError(f"{','.join(words)!r} is no list of numbers, as 350,400") from None


Temperatures = Annotated[tuple[float, ...], Parameter(converter=_numbers, metavar="K,K")]


def _channels(_: Any, tokens: tuple[Token, ...]) -> tuple[int, ...]:
    try:
        return parse_channels(tokens[0].value)
    except InputError as error:
        raise ValueError(str(error)) from None


def basis_options(default: Basis, only: tuple[str, ...] = ()) -> Options:
    """Options for the functions to fit."""
    names = {"kind": "basis", "exponents": "exponent"}
    kind = Annotated[str, Parameter(choices=tuple(free_kinds()))]
    rank = Annotated[int, Parameter(converter=_rank, n_tokens=1, metavar="[RANK]")]
    numbers = Parameter(converter=_channels, n_tokens=1, metavar="N,N,N")
    channels = Annotated[tuple[int, ...], numbers]
    powers = Parameter(converter=_exponents, metavar="N,N")
    exponents = Annotated[tuple[float, ...], powers]
    charges = Annotated[str, Parameter(metavar="WORD")]
    types = {"kind": kind, "exponents": exponents, "collective": rank, "channels": channels}
    types["charges"] = charges
    return Options(default, only, names, types)


PAIRS = ("kind", "exponents", "spacing_A", "bond_degree", "cutoff_A", "topology", "stress")
"""Fields of a Basis that say how pairs are accumulated."""
BASIS = basis_options(Basis())
