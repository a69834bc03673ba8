"""Every reader and loader, to be given damaged bytes: they may refuse with an error of ours, and
what they accept holds finite numbers.

The default suite gives each a few hundred (`test_fuzzing.py`); `regression/fuzz.py` goes on for as
long as one likes, guided by coverage.
"""

from __future__ import annotations

import json
import lzma
import random
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
from conftest import invent, waters, with_angles, with_channels
from cp2k_output import DATA

from mld_ff.configuration.toml import read_config
from mld_ff.errors import MldError
from mld_ff.inference import Basis, accumulate, read_shard, write_shard
from mld_ff.loss.model import AgentLoss
from mld_ff.production.record import read_record
from mld_ff.sources import open_source
from mld_ff.sources.cp2k import read_cp2k
from mld_ff.sources.structures import read_structure

SECONDS = 5
"""Of the processor's time, that a reader may take."""
FRAMES = 3
"""Of a trajectory of CP2K."""
LATTICE = "9 0 0 0 9 0 0 0 9"
EXTXYZ = "".join(
    f'3\nLattice="{LATTICE}" Properties=species:S:1:pos:R:3:forces:R:3:momenta:R:3 energy=-1.5'
    f' stress="1 0 0 0 1 0 0 0 1" Time={k} Step={k} pbc="T T T"\n'
    + "".join(
        f"{s} {x} 0.1 0.2 0.3 -0.1 {x} 0.01 0 0\n" for s, x in zip("OHH", (0, 1, 2), strict=True)
    )
    for k in range(3)
)
STRUCTURES = {
    "a.pdb": b"CRYST1   13.000   13.100   13.200  90.00  90.00  90.00 P 1           1\n"
    b"ATOM      1 AR   AR      1       0.000   0.000   0.000  1.00  0.00          AR\n"
    b"ATOM      2 AR   AR      2       4.000   0.100   0.200  1.00  0.00          AR\nEND\n",
    "a.gro": b"w\n3\n    1SOL     OW    1   0.126   0.624   0.679\n    1SOL    HW1    2   0.190"
    b"   0.661   0.747\n    1SOL    HW2    3   0.177   0.568   0.613\n   1.2   1.2   1.2\n",
    "a.cif": b"data_x\nloop_\n_atom_site.id\n_atom_site.type_symbol\n_atom_site.Cartn_x\n"
    b"_atom_site.Cartn_y\n_atom_site.Cartn_z\n1 Ar 0 0 0\n2 Ar 4 0 0\n#\n_cell.length_a 12\n"
    b"_cell.length_b 12\n_cell.length_c 12\n_cell.angle_alpha 90\n_cell.angle_beta 90\n"
    b"_cell.angle_gamma 90\n",
    "a.data": b"two\n\n2 atoms\n1 atom types\n0 12 xlo xhi\n0 12 ylo yhi\n0 12 zlo zhi\n\n"
    b"Masses\n\n"
    b"1 39.948\n\nAtoms # atomic\n\n1 1 0 0 0\n2 1 4 0 0\n",
    "POSCAR": b"two\n1.0\n12 0 0\n0 12 0\n0 0 12\nAr\n2\nCartesian\n0 0 0\n4 0 0\n",
}
RUN = {
    **{"engine": "lammps", "finished": True, "settings": {"temperature_K": 300.0, "time_ps": 1.0}},
    **{"symbols": ["Ar"], "masses_amu": [39.9], "atom_in_source": [0], "notes": ["x"]},
    **{"started_from": {"step": 0}, "device": {"platform": "CPU"}, "wall_s": 1.5},
    **{"ns_per_day": 2.5, "exported_sha256": {"a": "b"}},
}
TOML = b"""cp2k = "x"
output = "y"
engines = ["openmm", "lammps"]
skip_ps = 0.5
[fit]
kind = "power"
exponents = [3.0]
accuracy = "pairs"
[run]
temperature_K = 300.0
time_ps = 2
[match]
pressure_bar = 1.0
"""


@dataclass(frozen=True)
class Target:
    """A reader of one file, which may have others beside it."""

    name: str
    """Of the file."""
    seed: bytes
    read: Callable[[Path], object]
    """Called with the file."""
    beside: dict[str, bytes]


def _load(file: Path) -> object:
    loss = AgentLoss.load(file)
    return [term.coefficients for term in loss.terms]


@cache
def targets() -> dict[str, Target]:
    """By what is read."""
    with tempfile.TemporaryDirectory() as folder:
        frame = waters(8)
        loss = with_angles(with_channels(invent(frame, cutoff=3.0), 1), 1)
        loss.save(Path(folder) / "model.json")
        frames = frame[np.zeros(10, int)]
        forces = np.random.default_rng(1).normal(size=frames.positions.shape)
        basis = Basis("power", bond_degree=2, cutoff_A=2.5)
        frames = replace(frames, forces=forces, time=100.0 * np.arange(10.0))
        write_shard(accumulate(frames, basis.terms), Path(folder) / "a.npz")
        seeds = {p.name: p.read_bytes() for p in Path(folder).iterdir()}
    found = {
        "model": Target("model.json", seeds["model.json"], _load, {}),
        "shard": Target("a.npz", seeds["a.npz"], _shard, {}),
        "run": Target("run.json", json.dumps(RUN).encode(), lambda f: read_record(f.parent), {}),
        "configuration": Target("build.toml", TOML, read_config, {}),
        "extended XYZ": Target("a.xyz", EXTXYZ.encode(), _frames, {}),
    }
    for name, content in STRUCTURES.items():
        found[f"structure {name}"] = Target(name, content, read_structure, {})
    for run in ("argon", "npt", "npti", "ndcd", "npdb", "point", "strs", "fixed", "reftraj"):
        files = {
            f.name.removesuffix(".xz"): lzma.decompress(f.read_bytes())
            if f.suffix == ".xz"
            else f.read_bytes()
            for f in sorted((DATA / run).iterdir())
        }
        files = {name: _shortened(name, content) for name, content in files.items()}
        for name, content in files.items():
            # a restart says again what the input says, and takes the longest to read
            others = {o: t for o, t in files.items() if o != name and not o.endswith(".restart")}
            found[f"CP2K {run}/{name}"] = Target(name, content, _cp2k, others)
    return found


def _shortened(name: str, content: bytes) -> bytes:
    """The first frames of a trajectory: short files are read, and mutated, more often."""
    lines = content.splitlines(keepends=True)
    if not name.endswith(".xyz") or not lines[0].strip().isdigit():
        return content
    return b"".join(lines[: FRAMES * (int(lines[0]) + 2)])


def _shard(file: Path) -> object:
    return list(vars(read_shard(file).equations).values())


def _frames(file: Path) -> object:
    return open_source(file, require_forces=None).read()


def _cp2k(file: Path) -> object:
    return read_cp2k(file.parent, require_forces=None)


class Hung(Exception):
    """A reader took too long."""


def _interrupt(_: int, __: FrameType | None) -> None:
    raise Hung


@contextmanager
def _limited() -> Iterator[None]:
    before = signal.signal(signal.SIGPROF, _interrupt)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def give(target: Target, content: bytes, directory: Path) -> bool:
    """Let a reader read this content in a directory that is its own; returns whether it accepts it.

    Raises whatever a reader raises that is no error of ours, Hung after SECONDS, and AssertionError
    for numbers that are not finite.
    """
    for name, text in target.beside.items():
        if not (directory / name).exists():
            (directory / name).write_bytes(text)
    (directory / target.name).write_bytes(content)
    try:
        with _limited():
            found = target.read(directory / target.name)
    except MldError:
        return False
    for name, numbers in _arrays(found):
        assert np.isfinite(numbers).all(), f"{name} is not finite"
    return True


def _arrays(found: object) -> Iterator[tuple[str, Any]]:
    if is_dataclass(found):
        for field in fields(found):
            value = getattr(found, field.name)
            if isinstance(value, np.ndarray) and value.dtype.kind == "f":
                yield field.name, value
    elif isinstance(found, list):
        for value in found:
            yield "a value", np.asarray(value, dtype=np.float64)


INTERESTING = (
    *(b"nan", b"inf", b"-1", b"0", b"1e308", b"1e-308", b"99999999999999999999", b"1e400", b""),
    *(b"\n", b" ", b"=", b"&END", b"@INCLUDE a", b"${X}", b"{", b"[" * 50, b'"', b"\xff\xfe", b"*"),
    *(b"\xef\xbb\xbf", b"\0", b"null", b"true", b"-0.0", b"1D5", b"1/0", b"#", b"!", b"\t"),
)


def mutated(content: bytes, rng: random.Random) -> bytes:
    """Some bytes flipped, pieces cut, doubled, or replaced by what numbers and texts may be."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 8))):
        at = rng.randrange(len(data) + 1)
        end = min(len(data), at + rng.choice((1, 1, 2, 4, 8, 64, 1024)))
        match rng.randrange(6):
            case 0 if data:
                data[at % len(data)] ^= 1 << rng.randrange(8)
            case 1:
                del data[at:end]
            case 2:
                data[at:at] = data[at:end]
            case 3:
                data[at : at + rng.randrange(12)] = rng.choice(INTERESTING)
            case 4:
                words = bytes(data).split(b" ")
                words[rng.randrange(len(words))] = rng.choice(INTERESTING)
                data = bytearray(b" ".join(words))
            case _:
                del data[at:]
    return bytes(data)
