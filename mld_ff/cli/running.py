"""Verbs that hand a learned loss to engines: export, verify, run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from mld_ff import verification
from mld_ff.cli import text
from mld_ff.cli.console import Answer, verb
from mld_ff.cli.engines import EngineName
from mld_ff.cli.fields import Each, Options, default_of
from mld_ff.cli.options import BEGINNING, FILES, Beginning, Count, Cp2kDir, Model, Output, Reading
from mld_ff.engines.registry import ENGINES
from mld_ff.engines.settings import MD, Device
from mld_ff.loss.model import AgentLoss
from mld_ff.production import simulation
from mld_ff.production.preparation import CONTACT_EV_PER_A, start_at
from mld_ff.production.record import read_record
from mld_ff.production.results import excursions, read_log
from mld_ff.progress import Progress
from mld_ff.trajectory import Trajectory

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
    output: Output,
    beginning: Annotated[Beginning, BEGINNING],
    minimize: Minimize = None,
    md: Annotated[MD, Options(MD(), only=("temperature_K", "timestep_fs", "damping_fs"))],
    progress: Progress,
) -> Answer:
    """Write the files that an engine runs without mld_ff."""
    loss = AgentLoss.load(model)
    start = start_at(loss, beginning.read(), md.temperature_K, minimize=minimize, progress=progress)
    files = ENGINES[engine].export(loss, start, output, md)
    data = {
        "engine": engine,
        "files": [str(f) for f in files],
        "molecules": start.topology.formulas(),
        "minimized": start.frame.origin.minimized,
    }
    return Answer(data, lambda d: "\n".join(d["files"]))


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
    reading: Annotated[Reading, FILES],
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
    return Answer(result.to_dict(), text.verify_text, "" if result.passed else differs)


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
    progress: Progress,
) -> Answer:
    """Run molecular dynamics in OpenMM or LAMMPS; after a kill, the same command with --resume goes
    on.
    """
    frame, loss = beginning.read(), AgentLoss.load(model)
    trajectory = simulation.run(loss, frame, engine, output, md, device, progress, minimize, resume)
    return Answer(_run_summary(loss, trajectory, output), text.run_text)


def _run_summary(loss: AgentLoss, trajectory: Trajectory, directory: Path) -> dict[str, Any]:
    log, record = read_log(directory), read_record(directory)
    return {
        "engine": record.engine,
        "device": record.device,
        "directory": str(directory),
        "frames": trajectory.n_frames,
        "time_ps": float(log["time_ps"][-1]),
        "mean_temperature_K": float(log["temperature_K"].mean()),
        "mean_potential_eV": float(log["potential_eV"].mean()),
        "mean_density_g_per_cm3": float(log["density_g_per_cm3"].mean()),
        "ns_per_day": record.ns_per_day,
        "notes": record.notes,
        "excursions": excursions(loss, trajectory),
    }
