"""Shards: accumulated frames in files of their own, from processes and cluster jobs that know
nothing of each other.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, fields
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from mld_ff.errors import InputError
from mld_ff.files import check_readable, write_atomically
from mld_ff.geometry.histogram import Histogram
from mld_ff.geometry.system import Change
from mld_ff.geometry.topology import Topology
from mld_ff.inference.accumulation import Accumulated, Share
from mld_ff.inference.dataset import Part, check_same_kinds
from mld_ff.inference.normal_equations import NormalEquations
from mld_ff.loss.limits import check_count, check_numbers
from mld_ff.loss.model import terms_from
from mld_ff.loss.terms import PairTerm
from mld_ff.survey import BROKEN_LISTED, ForceQuality, Survey

FORMAT, VERSION = "mld_ff normal equations", 1
SUFFIX = ".npz"
MOST_BYTES = 1 << 32
"""Of its arrays; 500 functions and six species have 0.1 GB."""
MOST_BLOCKS = 1000
VIRIALS = "virials_"
"""Before the names of their sums, where stress is learned."""
ROUNDING = 1e-6
"""Relative, of sums over frames."""


def write_shard(data: Accumulated, file: Path | str) -> None:
    """Write accumulated frames: a .npz file of arrays, and `head`, a JSON text, that tells what
    they are.

    Only blocks that hold frames are written. Never half-written. Raises InputError if there are
    forms: their means, and the ranges of their channels, take passes over all frames.
    """
    if data.forms:
        raise InputError(
            "a collective loss cannot be inferred from shards: fit the runs themselves", file
        )
    survey, topology = data.survey, data.survey.topology
    filled = np.flatnonzero(data.frames_per_block)
    head = {
        "format": FORMAT,
        "version": VERSION,
        "terms": [_told(t) for t in data.terms],
        "shares": [asdict(share) for share in data.shares],
        "warnings": list(data.warnings),
        "frames": data.frames,
        "frames_per_block": data.frames_per_block,
        "filled": filled.tolist(),
        "symbols": topology.symbols,
        "bonds": topology.bonds.tolist(),
        "no_molecules": topology.no_molecules,
        "cutoff_A": survey.cutoff_A,
        "forces": {
            k: v.tolist() if isinstance(v, np.ndarray) else v
            for k, v in vars(survey.forces).items()
        },
        "changes": [vars(c) for c in survey.changes[:BROKEN_LISTED]],
        "distances": {
            name: {**vars(h), "counts": h.counts.tolist()} for name, h in survey.distances.items()
        },
    }
    arrays = {name: array[filled] for name, array in vars(data.equations).items()}
    if data.virials is not None:
        arrays |= {VIRIALS + name: array[filled] for name, array in vars(data.virials).items()}
    arrays |= {"times": np.array(survey.times), "temperatures": np.array(survey.temperatures)}
    content = BytesIO()
    np.savez(content, head=np.array(json.dumps(head)), **arrays)
    write_atomically(Path(file), content.getvalue())


def read_shard(file: Path | str) -> Accumulated:
    """Read a file of `write_shard`. Raises InputError if it is none, is damaged, or is of another
    version.
    """
    check_readable(Path(file))
    try:
        with np.load(file, allow_pickle=False) as stored:
            if sum(member.file_size for member in stored.zip.infolist()) > MOST_BYTES:
                raise InputError(f"unpacks to more than {MOST_BYTES >> 30} GiB", file)
            head = json.loads(str(stored["head"]))
            if head["format"] != FORMAT:
                raise KeyError("format")
            if head["version"] != VERSION:
                raise InputError(
                    f"has version {head['version']!r}; this mld_ff reads version {VERSION}:"
                    " accumulate again",
                    file,
                )
            return _from_stored(head, stored)
    except InputError as error:
        raise error if error.file else InputError(str(error), file) from None
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror or error}", file) from None
    except Exception as error:  # damaged bytes: zipfile, zlib, tokenize, numpy may raise anything
        # that of numpy where there is no archive advises to load what could run commands
        what = "it is no .npz" if "contains pickled" in str(error) else error
        raise InputError(f"is not a complete file of `mld-ff accumulate`: {what}", file) from None


def _from_stored(head: dict[str, Any], stored: Any) -> Accumulated:
    filled, blocks = head["filled"], len(head["frames_per_block"])
    check_count("blocks", blocks, MOST_BLOCKS)
    equations = _sums(stored, "", filled, blocks)
    with_stress = any(name.startswith(VIRIALS) for name in stored)
    virials = _sums(stored, VIRIALS, filled, blocks) if with_stress else None
    quality: dict[str, Any] = {
        k: np.array(v) if isinstance(v, list) else v for k, v in head["forces"].items()
    }
    survey = Survey(
        Topology(
            tuple(head["symbols"]),
            np.array(head["bonds"], np.int64).reshape(-1, 2),
            str(head.get("no_molecules", "")),
        ),
        head["cutoff_A"],
        {
            name: Histogram(**{**h, "counts": np.array(h["counts"], np.int64)})
            for name, h in head["distances"].items()
        },
        ForceQuality(**quality),
        [Change(**{**change, "atoms": tuple(change["atoms"])}) for change in head["changes"]],
        stored["times"].tolist(),
        stored["temperatures"].tolist(),
    )
    shares = tuple(Share(tuple(share["runs"]), Part(**share["part"])) for share in head["shares"])
    terms = tuple(t for t in terms_from(head["terms"]) if isinstance(t, PairTerm))
    data = Accumulated(
        terms,
        survey,
        equations,
        head["frames_per_block"],
        virials=virials,
        frames=head["frames"],
        shares=shares,
        warnings=tuple(map(str, head.get("warnings", ()))),
    )
    _check_frames(data)
    functions = sum(len(t.coefficients) for t in terms)
    _check_sums("", equations, blocks, len(survey.topology.species), functions)
    if virials is not None:
        _check_sums(VIRIALS, virials, blocks, 1, functions)
    return data


def _sums(stored: Any, prefix: str, filled: list[int], blocks: int) -> NormalEquations:
    arrays = {}
    for name in [own.name for own in fields(NormalEquations)]:
        some = stored[prefix + name]
        arrays[name] = np.zeros((blocks, *some.shape[1:]))
        arrays[name][filled] = some
    return NormalEquations(**arrays)


def _check_frames(data: Accumulated) -> None:
    """Raise InputError unless blocks are those of the frames, bonds those of the atoms, and
    distances those of the terms."""
    topology = data.survey.topology
    if not data.shares:
        raise InputError("does not tell which runs its frames are of")
    if unseen := [term.name for term in data.terms if term.name not in data.survey.distances]:
        raise InputError(f"has no distances of {unseen[0]}")
    check_numbers("cutoff_A", data.survey.cutoff_A)
    whole = [isinstance(f, int) and f >= 0 for f in data.frames_per_block]
    if not all(whole) or sum(data.frames_per_block) != data.frames:
        raise InputError(f"its blocks do not hold the {data.frames} frames that it tells of")
    if topology.bonds.size and not 0 <= topology.bonds.min() <= topology.bonds.max() < (
        topology.n_atoms
    ):
        raise InputError(f"tells of bonds to atoms beyond its {topology.n_atoms}")


def _check_sums(
    prefix: str, sums: NormalEquations, blocks: int, species: int, functions: int
) -> None:
    """Raise InputError unless there are frames whose sums these can be."""
    like = NormalEquations.zeros(0, species, functions)
    for name, array in vars(sums).items():
        expected = (blocks, *getattr(like, name).shape[1:])
        if array.shape != expected:
            raise InputError(f"{prefix}{name} has the shape {array.shape}; expected {expected}")
        if not np.isfinite(array).all():
            raise InputError(f"{prefix}{name} should hold finite numbers")
    squares = np.einsum("bskk->bsk", sums.gram_bskk)
    most = squares * sums.power_bs[:, :, None] * (1 + ROUNDING)
    # (Σ XF)² ≤ Σ X² Σ F²: otherwise a fit would leave less than nothing of the forces
    if min(squares.min(), sums.power_bs.min()) < 0 or (sums.moment_bsk**2 > most).any():
        raise InputError("its sums contradict each other: no frames have them")


def read_shards(files: Sequence[Path | str]) -> Accumulated:
    """All shards of one or more runs, added up: what one pass over the runs gives.

    Raises InputError as `read_shard`, and if shards do not belong together, if a part is missing or
    comes twice, or if bonds keep breaking.
    """
    total: Accumulated | None = None
    origin: dict[tuple[str, Part], Path | str] = {}
    of_forces: dict[bytes, Path | str] = {}
    for file in files:
        shard = read_shard(file)
        forces = shard.equations.power_bs.sum(axis=0)
        same = of_forces.get(forces.tobytes())  # copies of runs have other names
        if forces.any():
            of_forces[forces.tobytes()] = file
        for share in shard.shares:
            key = json.dumps(share.runs, sort_keys=True), share.part
            same = origin.get(key, same)
            origin[key] = file
        if same is not None:
            raise InputError(f"holds the same frames as {same}; they would count twice", file)
        if total is None:
            total = shard
        else:
            _check_alike(shard, total, file, files[0])
            total.merge(shard)
    if total is None:
        raise InputError("no shard is given")
    _check_complete(list(origin))
    total.check_reactions()
    return total


def _check_alike(
    shard: Accumulated, first: Accumulated, file: Path | str, first_file: Path | str
) -> None:
    try:
        check_same_kinds(shard.survey.topology, first.survey.topology)
    except InputError as error:
        raise InputError(str(error), file) from None
    if len(shard.frames_per_block) != len(first.frames_per_block):
        raise InputError(
            f"has {len(shard.frames_per_block)} blocks of frames, {first_file} has"
            f" {len(first.frames_per_block)}: accumulate the shorter run with --like {first_file}",
            file,
        )
    for own, other in zip(shard.terms, first.terms, strict=True):
        a, b = own.to_dict(), other.to_dict()
        if a != b:
            key = next(k for k in {**a, **b} if a.get(k) != b.get(k))
            raise InputError(
                f"was accumulated with other functions than {first_file} ({own.name}: {key}"
                f" {a.get(key)!r} against {b.get(key)!r}): accumulate it again with --like"
                f" {first_file}",
                file,
            )


def _check_complete(shares: list[tuple[str, Part]]) -> None:
    """Raise InputError if parts are missing, or if frames may be in two shards."""
    together = list(dict.fromkeys(runs for runs, _ in shares))
    for runs in together:
        parts = [part for r, part in shares if r == runs]
        name = ", ".join(file for run in json.loads(runs) for file in run.get("files", [])[:1])
        if len(cuts := {part.of for part in parts}) > 1:
            raise InputError(
                f"{name}: parts of {' and of '.join(map(str, sorted(cuts)))} do not make a whole"
            )
        of = parts[0].of
        if missing := [str(k) for k in range(1, of + 1) if Part(k, of) not in parts]:
            raise InputError(f"{name}: of {of} parts there is no part {', '.join(missing)}")
    seen: list[dict[str, Any]] = []
    for run in (run for runs in together for run in json.loads(runs)):
        for other in seen:
            same_files = run.get("sha256") is not None and run["sha256"] == other.get("sha256")
            if run == other or (same_files and run["frames_dropped"] != other["frames_dropped"]):
                raise InputError(
                    f"{', '.join(run.get('files', [])[:1])}: this run was accumulated twice;"
                    " take one"
                )
        seen.append(run)


def _told(term: PairTerm) -> dict[str, Any]:
    """What the term does not have by default (its range, before a fit, has no end, which is no
    number of JSON)."""
    usual = [own.name for own in fields(term) if getattr(term, own.name) == own.default]
    return {name: value for name, value in term.to_dict().items() if name not in usual}
