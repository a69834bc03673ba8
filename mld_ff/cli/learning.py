"""Verbs that read CP2K runs and learn a loss."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import Annotated

from cyclopts import Parameter

from mld_ff import inference, survey
from mld_ff.cli import fits, text
from mld_ff.cli.console import Answer, verb
from mld_ff.cli.fields import default_of
from mld_ff.cli.options import (
    BASIS,
    PAIRS,
    READING,
    Cp2kDir,
    Force,
    NewDirectory,
    NewModel,
    Processes,
    Reading,
    basis_options,
    notes_of,
)
from mld_ff.consistency import contradictions, examine, examine_all
from mld_ff.errors import InputError
from mld_ff.geometry.pairs import LONGEST_A
from mld_ff.inference import SUFFIX, Basis, Dataset, Part
from mld_ff.inference.exponents import EXPONENTS, parse_exponents
from mld_ff.inference.words import LEARN
from mld_ff.outputs import Results
from mld_ff.policy import refuse
from mld_ff.progress import Progress


@verb
def inspect(
    cp2k_dir: Cp2kDir,
    /,
    *,
    cutoff: Annotated[
        float | None,
        Parameter(
            metavar="Å",
            help=f"Longest distance to look at. If not given, {LONGEST_A:g} Å, or half the smallest"
            " width of the cell if that is shorter.",
        ),
    ] = None,
    basis: Annotated[Basis, basis_options(Basis(), ("topology",))],
    reading: Annotated[Reading, READING],
    progress: Progress,
) -> Answer:
    """Tell what a CP2K run holds and how good its forces are."""
    source = reading.open(cp2k_dir, require_forces=False)
    inspection = survey.inspect(source, cutoff, progress, basis.topology)
    examination = examine(source, progress)
    against = contradictions([examination])
    data = {
        **inspection.to_dict(),
        "contradictions": against,
        "not_checked": list(examination.unchecked),
        "notes": source.notes,
        "source": source.origin.to_dict(),
    }
    return Answer(data, text.inspection_text(inspection, examination, against, source))


@verb
def fit(
    *runs: Annotated[
        Path,
        Parameter(
            name="CP2K_DIR",
            required=True,
            help="CP2K runs of one system, or files of `accumulate`.",
        ),
    ],
    output: NewModel,
    basis: Annotated[Basis | None, BASIS] = None,
    processes: Processes = default_of(inference.fit, "processes"),
    force: Force = False,
    reading: Annotated[Reading, READING],
    progress: Progress,
) -> Answer:
    """Infer the loss from CP2K runs and write the model file."""
    shards = [run for run in runs if run.suffix == SUFFIX]
    notes: list[str] = []
    if shards:
        if len(shards) < len(runs) or basis or reading != Reading():
            raise InputError(
                f"{shards[0]} holds accumulated frames, functions included: give such files only,"
                " without options that choose functions or frames"
            )
        loss = inference.solve(inference.read_shards(shards)).loss
    else:
        sources = [reading.open(run) for run in runs]
        loss = inference.fit(sources, basis, progress, processes, force=force).loss
        notes = notes_of(sources)
    loss.save(output)
    data = {**loss.provenance, "notes": notes, "model": str(output)}
    beside = "CP2K_DIR" if shards else runs[0]
    check = f"check it in both engines: mld-ff verify {quote(str(output))} {quote(str(beside))}"
    return Answer(data, text.lines(fits.fit_text(loss.provenance, output, notes), check))


@verb
def accumulate(
    *runs: Annotated[
        Path, Parameter(name="CP2K_DIR", required=True, help="CP2K runs of one system.")
    ],
    output: Annotated[
        Path, Parameter(alias="-o", help=f"Where to write, a {SUFFIX} file."), Results(b"PK")
    ],
    part: Annotated[
        str, Parameter(metavar="K/N", help="Only the K-th of N parts of all frames.")
    ] = "1/1",
    like: Annotated[
        Path | None,
        Parameter(
            metavar="FILE", help="Take the functions of this file: runs are added to earlier ones."
        ),
    ] = None,
    basis: Annotated[Basis | None, basis_options(Basis(), PAIRS)] = None,
    processes: Processes = default_of(inference.accumulate, "processes"),
    force: Force = False,
    reading: Annotated[Reading, READING],
    progress: Progress,
) -> Answer:
    """Sum what frames say about the coefficients, in jobs of their own; `fit` takes the files of
    all parts.

    Of pairs only: densities take several passes over all frames, which `fit --processes` shares
    here.
    """
    if like and basis:
        raise InputError(f"{like} tells the functions: leave out the options that choose them")
    if output.suffix != SUFFIX:
        raise InputError(f"give it a name that ends in {SUFFIX}", output)
    functions = basis or Basis()
    before = inference.read_shard(like) if like else None
    layout = functions.terms if before is None else before
    sources = [reading.open(run) for run in runs]
    against = contradictions(examine_all(sources, progress))
    refuse(against, force)
    dataset = Dataset.of(sources, progress, processes, functions.topology)
    stress = functions.stress == LEARN if before is None else before.virials is not None
    sums = inference.accumulate(dataset, layout, part=Part.parse(part), stress=stress)
    sums.warnings = tuple(against)
    inference.write_shard(sums, output)
    size, notes = output.stat().st_size, [*notes_of(sources), *against]
    data = {
        "file": str(output),
        "part": part,
        "frames": sums.frames,
        "frames_with_broken_bonds": sums.left_out,
        "bytes": size,
        "notes": notes,
    }
    told = f"{output}: {sums.frames} frames, part {part}, {size / 1e6:.1f} MB"
    return Answer(data, text.lines(told, *text.noted(notes)))


@verb
def scan(
    cp2k_dir: Cp2kDir,
    /,
    *,
    output: NewDirectory,
    exponents: Annotated[
        str, Parameter(metavar="N,N", help="A list, or START:STOP:STEP.")
    ] = ",".join(f"{n:g}" for n in EXPONENTS),
    basis: Annotated[Basis, basis_options(Basis(), ("bond_degree", "cutoff_A"))],
    reading: Annotated[Reading, READING],
    progress: Progress,
) -> Answer:
    """Map the error over the exponents of one and of two invariants, and what each invariant is
    worth.
    """
    from mld_ff.report import write_scan

    errors = inference.scan(
        reading.open(cp2k_dir),
        parse_exponents(exponents),
        basis.bond_degree,
        basis.cutoff_A,
        progress,
    )
    files = [str(file) for file in write_scan(output, errors)]
    return Answer({**errors.to_dict(), "files": files}, text.scan_text(errors, files))
