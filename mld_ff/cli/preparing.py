"""Verbs that make what there is not yet: a box to start from, reference data; and what is here."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from mld_ff import doctor as checkup
from mld_ff.cli import text
from mld_ff.cli.console import Answer, verb
from mld_ff.cli.fields import Options, Whole, default_of
from mld_ff.cli.options import (
    BEGINNING,
    MIXTURE,
    Beginning,
    Count,
    Mixture,
    Output,
    Reading,
    three_counts,
)
from mld_ff.engines.start import start_from
from mld_ff.engines.structure import write_structure
from mld_ff.outputs import Results
from mld_ff.production.record import RECORD
from mld_ff.production.results import read_run
from mld_ff.progress import Progress
from mld_ff.sources import packing
from mld_ff.sources.cp2k.run.inputs import Reference, write_labels, write_reference
from mld_ff.sources.cp2k.run.resume import prepare
from mld_ff.trajectory import FrameSource, Trajectory, spread_frames

REFERENCE = Options(
    Reference(),
    only=(
        "method",
        "temperature_K",
        "steps",
        "timestep_fs",
        "damping_fs",
        "every",
        "seed",
        "functional",
        "basis",
        "cutoff_Ry",
        "rel_cutoff_Ry",
        "charge",
    ),
    names={"basis": "dft_basis", "cutoff_Ry": "grid_cutoff"},
)


@verb
def box(
    *,
    output: Annotated[
        Path,
        Parameter(alias="-o", help="Structure to write: .pdb, .cif, .gro or .xyz."),
        Results(b""),
    ],
    mixture: Annotated[Mixture, MIXTURE],
    beginning: Annotated[Beginning, BEGINNING],
    replicate: Annotated[
        tuple[int, int, int],
        Parameter(
            converter=three_counts,
            n_tokens=1,
            metavar="NA,NB,NC",
            help="Repeat the box along its three vectors.",
        ),
    ] = (1, 1, 1),
    seed: Annotated[Whole, Parameter(help="Of packing.")] = default_of(packing.pack, "seed"),
    progress: Progress,
) -> Answer:
    """Make a box to start from: molecules packed at a density, or copies of a frame side by
    side.
    """
    frame = beginning.read() if beginning.given else mixture.pack(seed, progress)
    start = start_from(packing.replicate(frame, replicate))
    write_structure(start, output)
    molecules = start.topology.formulas()
    data = {
        "file": str(output),
        "molecules": molecules,
        "cell_A": start.frame.cell[0].tolist(),
    }
    return Answer(data, text.box_text(output, start))


@verb
def reference(
    *,
    output: Output,
    settings: Annotated[Reference, REFERENCE],
    relax: Annotated[
        Whole | None,
        Parameter(
            help="Steps downhill before dynamics. If not given,"
            f" {Reference().relax_steps} for packed molecules, none for another frame."
        ),
    ] = None,
    mixture: Annotated[Mixture, MIXTURE],
    beginning: Annotated[Beginning, BEGINNING],
    label: Annotated[
        Path | None,
        Parameter(
            metavar="FRAMES",
            help="Compute energy and forces of these: a run's directory or extended XYZ.",
        ),
    ] = None,
    frames: Annotated[
        Count | None, Parameter(help="Label so many, spread evenly. If not given, all.")
    ] = None,
    run: Annotated[bool, Parameter(help="Run it too, or go on with it.")] = False,
    resume: Annotated[
        bool,
        Parameter(help="Run, or go on with, the input that lies in the output as it is."),
    ] = False,
    progress: Progress,
) -> Answer:
    """Write CP2K input that makes reference data; check it and run it where CP2K is installed."""
    said = ""
    if not resume and label:
        frame = _frames_to_label(label, frames, beginning.file)
        write_labels(output, settings, frame)
        said = text.labels_planned(settings, frame)
    elif not resume:
        frame = beginning.read() if beginning.given else mixture.pack(settings.seed, progress)
        if relax is not None or beginning.given:
            settings = replace(settings, relax_steps=relax or 0)
        write_reference(output, settings, frame)
        said = text.dynamics_planned(settings, frame)
    prepared = prepare(output, run or resume, progress)
    return Answer(prepared.to_dict(), text.reference_text(prepared, said))


def _frames_to_label(where: Path, number: int | None, files: tuple[str, ...]) -> Trajectory:
    """All or some frames of a run of ours, or of whatever else frames are read from."""
    source: FrameSource
    if (where / RECORD).exists():
        source = read_run(where)
    else:
        source = Reading(files).open(where, require_forces=False)
    return spread_frames(source, number or source.n_frames)


@verb
def doctor(*, progress: Progress) -> Answer:
    """Tell which engines, platforms, MPI and CP2K are here, and check each: do they compute what
    numpy does?
    """
    findings = checkup.examine(progress)
    failed = [f"{f.program}, {f.device}" for f in findings if f.passed is False]
    failure = f"{'; '.join(failed)} (see above)" if failed else ""
    data = {"findings": [vars(finding) for finding in findings]}
    return Answer(data, text.doctor_text(findings), failure)
