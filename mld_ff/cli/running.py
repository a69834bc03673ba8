"""Verbs that hand a learned loss to engines: export, verify, run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from mld_ff import verification
from mld_ff.cli import text
from mld_ff.cli.console import Answer, verb
from mld_ff.cli.engines import EngineName
from mld_ff.cli.fields import Each, Options, default_of
from mld_ff.cli.options import (
    BEGINNING,
    READING,
    Beginning,
    Count,
    Cp2kDir,
    Force,
    Model,
    NewDirectory,
    Output,
    Reading,
)
from mld_ff.engines.registry import ENGINES
from mld_ff.engines.settings import MD, Device
from mld_ff.loss.model import AgentLoss
from mld_ff.production import simulation
from mld_ff.production.preparation import CONTACT_EV_PER_A, start_at
from mld_ff.production.results import outcome_of
from mld_ff.progress import Progress

Minimize = Annotated[
    bool | None,
    Parameter(
        negative="--no-minimize",
        help="Move downhill first. If not given, structures without velocities in which a force"
        f" exceeds {CONTACT_EV_PER_A:g} eV/Å.",
    ),
]


@verb
def export(
    model: Model,
    /,
    *,
    engine: EngineName,
    output: NewDirectory,
    beginning: Annotated[Beginning, BEGINNING],
    minimize: Minimize = None,
    md: Annotated[MD, Options(MD(), only=("temperature_K", "timestep_fs", "damping_fs"))],
    force: Force = False,
    progress: Progress,
) -> Answer:
    """Write the files that an engine runs without mld_ff."""
    loss = AgentLoss.load(model)
    frame = beginning.read()
    start = start_at(loss, frame, md.temperature_K, md.seed, minimize, progress, force)
    files, warnings = ENGINES[engine].export(loss, start, output, md), start.check(loss)
    data = {
        "engine": engine,
        "files": [str(file) for file in files],
        "molecules": start.topology.formulas(),
        "minimized": start.frame.origin.minimized,
        "warnings": warnings,
    }
    return Answer(data, text.export_text(engine, files, start, warnings))


@verb
def verify(
    model: Model,
    cp2k_dir: Cp2kDir,
    /,
    *,
    frames: Annotated[Count, Parameter(help="How many frames, spread over the run.")] = default_of(
        verification.verify, "n_frames"
    ),
    exported: Annotated[
        dict[str, Path],
        Each(tuple(ENGINES), Path, "Check these exported files of it instead of a fresh export."),
    ],
    device: Annotated[Device, Options(default_of(verification.verify, "device"))],
    reading: Annotated[Reading, READING],
    progress: Progress,
) -> Answer:
    """Hold energies and forces of OpenMM and LAMMPS against the numpy reference on the same
    frames.
    """
    result = verification.verify(
        AgentLoss.load(model),
        reading.open(cp2k_dir, require_forces=False),
        frames,
        exported or None,
        device,
        progress=progress,
    )
    differs = "an engine differs from the numpy reference by more than the tolerance"
    failure = "" if result.passed else differs
    return Answer(result.to_dict(), text.verify_text(result), failure)


@verb
def run(
    model: Model,
    /,
    *,
    engine: EngineName,
    output: Output,
    beginning: Annotated[Beginning, BEGINNING],
    minimize: Minimize = None,
    md: Annotated[MD, Options(MD())],
    device: Annotated[Device, Options(Device())],
    resume: Annotated[
        bool,
        Parameter(help="Go on with the run in the output, if there is one, from its checkpoint."),
    ] = False,
    force: Force = False,
    progress: Progress,
) -> Answer:
    """Run molecular dynamics in OpenMM or LAMMPS; after a kill, the same command with --resume goes
    on.
    """
    frame, loss = beginning.read(), AgentLoss.load(model)
    trajectory = simulation.run(
        loss, frame, engine, output, md, device, progress, minimize, resume, force
    )
    outcome = outcome_of(output, loss, trajectory)
    return Answer(outcome.to_dict(), text.run_text(outcome))
