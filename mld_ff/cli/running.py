"""Verbs that hand a learned loss to engines, run it and tell what came of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from mld_ff import pipeline, verification
from mld_ff.cli import text
from mld_ff.cli.console import Answer, verb
from mld_ff.cli.engines import EngineName, Platform, Precision
from mld_ff.cli.fields import Each, Options, Whole, default_of
from mld_ff.cli.options import (
    BEGINNING,
    FILES,
    READING,
    Beginning,
    Count,
    Cp2kDir,
    Model,
    Output,
    Reading,
)
from mld_ff.engines.settings import MD
from mld_ff.loss.model import AgentLoss
from mld_ff.production import simulation
from mld_ff.production.results import excursions, read_log, read_record
from mld_ff.progress import Progress
from mld_ff.report import load_scan, study, write_report
from mld_ff.trajectory import Trajectory
from mld_ff.verification import ENGINES
from mld_ff.workflows.agents import learn

Minimize = Annotated[
    bool | None,
    Parameter(
        negative="--no-minimize",
        help="Move downhill first. If not given, structures without velocities in which a force"
        f" exceeds {simulation.CONTACT_EV_PER_A:g} eV/Å.",
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
    start = simulation.start_at(
        loss, beginning.read(), md.temperature_K, minimize=minimize, progress=progress
    )
    write = simulation.EXPORTS[engine]
    files = write(loss, start, output, md.temperature_K, md.timestep_fs, md.damping_fs)
    data = {
        "engine": engine,
        "files": [str(f) for f in files],
        "molecules": start.topology.formulas(),
        "minimized": start.frame.source.get("minimized", False),
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
        Each(ENGINES, Path, "Check these exported files of it instead of a fresh export."),
    ],
    platform: Annotated[
        str, Parameter(help="OpenMM's: CPU, CUDA, HIP, OpenCL or Reference.")
    ] = default_of(verification.verify, "platform"),
    precision: Precision = None,
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
        platform,
        precision,
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
    platform: Platform = None,
    precision: Precision = None,
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
    trajectory = simulation.run(
        loss, frame, engine, output, md, platform, progress, minimize, precision, resume
    )
    return Answer(_run_summary(loss, trajectory, output), text.run_text)


def _run_summary(loss: AgentLoss, trajectory: Trajectory, directory: Path) -> dict[str, Any]:
    log, record = read_log(directory), read_record(directory)
    return {
        "engine": record["engine"],
        "device": record["device"],
        "directory": str(directory),
        "frames": trajectory.n_frames,
        "time_ps": float(log["time_ps"][-1]),
        "mean_temperature_K": float(log["temperature_K"].mean()),
        "mean_potential_eV": float(log["potential_eV"].mean()),
        "mean_density_g_per_cm3": float(log["density_g_per_cm3"].mean()),
        "ns_per_day": record["ns_per_day"],
        "notes": record["notes"],
        "excursions": excursions(loss, trajectory),
    }


@verb
def report(
    *,
    reference: Annotated[Path, Parameter(metavar="CP2K_DIR", help="Directory of the CP2K run.")],
    trajectory: Annotated[Path, Parameter(metavar="RUN_DIR", help="Directory of `mld-ff run`.")],
    output: Output,
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
    seed: Annotated[
        Whole, Parameter(help="Draws the hydrogens whose bonds are shown.")
    ] = default_of(study, "seed"),
    reading: Annotated[Reading, READING],
    progress: Progress,
) -> Answer:
    """Compare a learned run with CP2K: one page, figures, and every number with its error."""
    explored = None if scan is None else load_scan(scan)
    source = reading.open(reference, require_forces=False)
    again = {str(d): Reading().open(d).read() for d in recomputed}
    compared = study(
        source, trajectory, seed=seed, scan=explored, recomputed=again, progress=progress
    )
    page = write_report(output, compared)
    data = json.loads((output / "report.json").read_text(encoding="utf-8"))
    del data["series"]
    return Answer({"page": str(page), **data}, text.report_text)


@verb
def build(
    config: Annotated[Path, Parameter(name="CONFIG.toml", help="See examples/water/build.toml.")],
    /,
    *,
    output: Annotated[
        Path | None, Parameter(alias="-o", help="Instead of the one in the configuration.")
    ] = None,
    progress: Progress,
) -> Answer:
    """Fit, export, verify, run in both engines and summarise: everything by one configuration."""
    out = pipeline.build(pipeline.read_config(config, output), progress)
    data = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    return Answer({"output": str(out), **data}, lambda d: text.build_text(d, out))


@verb
def agents(
    model: Model,
    /,
    *,
    output: Output,
    beginning: Annotated[Beginning, BEGINNING],
    md: Annotated[
        MD,
        Options(
            default_of(learn, "settings"),
            only=("temperature_K", "time_ps", "timestep_fs", "damping_fs", "every_fs", "seed"),
        ),
    ],
    progress: Progress,
) -> Answer:
    """Run the agents' own dynamics, every species by its own loss, beside that of the reciprocal
    loss (NVE and NVT).

    Runs in numpy and ASE, a few ms per step: the agents' forces are not reciprocal, which no MD
    engine takes. OpenMM and LAMMPS run the reciprocal loss only (`export`, `run`). Writes
    learning.json and learning.png.
    """
    learning = learn(AgentLoss.load(model), beginning.read(), output, md, progress)
    return Answer({"directory": str(output), **learning.summary()}, text.agents_text)
