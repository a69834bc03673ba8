"""Verbs that tell what came of it: a report of one run, or everything by one configuration."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import Annotated

from cyclopts import Parameter

from mld_ff import pipeline
from mld_ff.cli import fits, text
from mld_ff.cli.console import Answer, verb
from mld_ff.cli.fields import Whole, default_of
from mld_ff.cli.options import READING, Cp2kDir, Force, NewDirectory, Reading
from mld_ff.configuration import proposal
from mld_ff.configuration import schema as schemas
from mld_ff.configuration.toml import read_config
from mld_ff.files import to_json, write_atomically
from mld_ff.inference.words import parse_charges
from mld_ff.outputs import Results
from mld_ff.progress import Progress
from mld_ff.report import compare_runs, load_scan, write_report


@verb
def report(
    *,
    reference: Annotated[Path, Parameter(metavar="CP2K_DIR", help="Directory of the CP2K run.")],
    trajectory: Annotated[
        tuple[Path, ...],
        Parameter(
            metavar="RUN_DIR",
            help="Directory of `mld-ff run`; repeat for runs of the same model.",
        ),
    ],
    output: NewDirectory,
    scan: Annotated[
        Path | None, Parameter(metavar="SCAN_DIR", help="Show this `mld-ff scan` too.")
    ] = None,
    recomputed: Annotated[
        tuple[Path, ...],
        Parameter(
            metavar="CP2K_DIR",
            help="Forces of some of the same frames, computed again on a denser grid or moved"
            " against it, which tell the noise of CP2K's forces; may be repeated.",
        ),
    ] = (),
    charges: Annotated[
        str | None,
        Parameter(
            metavar="O=-0.8,H=0.4",
            help="By element [e], for dipoles, dielectric constant and infrared spectrum; the"
            " model's if not given.",
        ),
    ] = None,
    seed: Annotated[
        Whole, Parameter(help="Draws the hydrogens whose bonds are shown.")
    ] = default_of(compare_runs, "seed"),
    reading: Annotated[Reading, READING],
    progress: Progress,
) -> Answer:
    """Compare learned runs with CP2K: one page, figures, and every number with its error."""
    explored = None if scan is None else load_scan(scan)
    source = reading.open(reference, require_forces=False)
    again = {str(d): Reading().open(d).read() for d in recomputed}
    study = compare_runs(
        source,
        trajectory,
        seed=seed,
        scan=explored,
        recomputed=again,
        charges_e=parse_charges(charges) if charges else None,
        progress=progress,
    )
    page = write_report(output, study, progress)
    data = {"page": str(page), **study.summary()}
    return Answer(data, text.report_text(study, page))


@verb
def init(
    cp2k_dir: Cp2kDir,
    /,
    *,
    output: Annotated[
        Path,
        Parameter(alias="-o", help="Configuration to write."),
        Results(b"# written by mld_ff "),
    ] = Path("build.toml"),
    reading: Annotated[Reading, READING],
    progress: Progress,
) -> Answer:
    """Look at the data and write a configuration for `build`, with the reason of every choice."""
    source = reading.open(cp2k_dir)
    content = proposal.propose(source, cp2k_dir, output.parent, progress)
    write_atomically(output, content)
    said = f"{content}\n{output}: `mld-ff build {quote(str(output))}` runs it"
    return Answer({"file": str(output), "text": content}, said)


@verb
def schema() -> Answer:
    """Print the JSON schema of the configuration of `build`, by which editors check and complete
    it.
    """
    told = schemas.schema()
    return Answer(told, to_json(told).rstrip())


@verb
def build(
    config: Annotated[
        Path,
        Parameter(name="CONFIG.toml", help="By `mld-ff init`; as examples/water/build.toml."),
    ],
    /,
    *,
    output: Annotated[
        Path | None, Parameter(alias="-o", help="Instead of the one in the configuration.")
    ] = None,
    dry_run: Annotated[
        bool, Parameter(help="Only say what would be done, and how long it would take here.")
    ] = False,
    force: Force = False,
    progress: Progress,
) -> Answer:
    """Fit, export, verify, run in both engines and report: everything by one configuration."""
    settings = read_config(config, output)
    if dry_run:
        steps = pipeline.plan(settings, progress)
        told = {"output": str(settings.output), "steps": [vars(step) for step in steps]}
        return Answer(told, text.plan_text(steps, settings.output))
    study = pipeline.build(settings, progress, force)
    data = {"output": str(settings.output), **study.summary()}
    return Answer(data, fits.build_text(study, settings.output))
