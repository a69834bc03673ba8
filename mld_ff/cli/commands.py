"""The command line: every verb is a few lines around one library call."""

from __future__ import annotations

import math
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bars

from mld_ff.cli import text as answers
from mld_ff.engines.settings import MD
from mld_ff.errors import CheckFailed, InputError, MldError
from mld_ff.files import to_json
from mld_ff.inference import SUFFIX, Basis, Part, parse_rank
from mld_ff.inference import fit as infer
from mld_ff.loss.model import AgentLoss
from mld_ff.production.simulation import EXPORTS
from mld_ff.progress import Progress
from mld_ff.sources.cp2k import CP2KSource, open_cp2k
from mld_ff.sources.structures import read_structure
from mld_ff.survey import inspect as survey
from mld_ff.trajectory import FrameSource, Trajectory
from mld_ff.units import FS_TO_PS

app = typer.Typer(
    help="From a CP2K trajectory to a force field that stock OpenMM and stock LAMMPS run.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
TRACEBACK_VARIABLE = "MLD_FF_TRACEBACK"
SECONDS_BETWEEN_LINES = 60
errors = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)


class Engine(StrEnum):
    """Engines that run the force field."""

    openmm = "openmm"
    lammps = "lammps"


class Ensemble(StrEnum):
    """What a run holds constant."""

    nve = "nve"
    nvt = "nvt"
    npt = "npt"


class OnEscape(StrEnum):
    """What to do if a pair leaves the distances that the data sampled."""

    warn = "warn"
    stop = "stop"


class ReferenceMethod(StrEnum):
    """How CP2K computes energy and forces."""

    nnp = "nnp"
    dft = "dft"
    xtb = "xtb"


class Precision(StrEnum):
    """Of OpenMM's platforms CUDA, HIP and OpenCL."""

    single = "single"
    mixed = "mixed"
    double = "double"


class Kind(StrEnum):
    """Functions of free pairs."""

    spline = "spline"
    power = "power"


Json = Annotated[
    bool,
    typer.Option("--json", help="Print one JSON object on standard output and nothing else there."),
]
Cp2kDir = Annotated[Path, typer.Argument(metavar="CP2K_DIR", help="Directory of the CP2K run.")]
File = Annotated[
    list[str] | None,
    typer.Option(
        "--file",
        metavar="ROLE=FILE",
        help="Take this file: positions, forces, velocities, energies, cells, input.",
    ),
]
Skip = Annotated[
    float,
    typer.Option("--skip", help="Leave out the first stretch of the run, ps (equilibration)."),
]
Model = Annotated[Path, typer.Argument(metavar="MODEL", help="Model file written by `fit`.")]
Output = Annotated[Path, typer.Option("--output", "-o", help="Where to write.")]
StructureFile = Annotated[
    Path | None,
    typer.Option(
        "--structure",
        help="Structure with a periodic box: PDB, mmCIF, GRO, LAMMPS data, PSF, prmtop, …",
    ),
]
Coordinates = Annotated[
    Path | None,
    typer.Option(
        "--coordinates",
        help="Positions and box for a --structure without (PSF, prmtop): restart, PDB, …",
    ),
]
Molecules = Annotated[
    list[str] | None,
    typer.Option(
        "--molecule",
        help=(
            "H2O, CH3OH, … (names of ase.build.molecule) or a file; repeat for a mixture. Default:"
            " H2O."
        ),
    ),
]
Counts = Annotated[
    list[int] | None,
    typer.Option("--count", help="How many, once for every --molecule. Default: 64 of water."),
]
Density = Annotated[float | None, typer.Option("--density", help="g/cm³; default 0.997 for water.")]
Cp2kOption = Annotated[Path | None, typer.Option("--cp2k", help="CP2K run to take a frame of.")]
Frame = Annotated[int, typer.Option(help="Which frame of the CP2K run; negative: from the end.")]
BasisKind = Annotated[
    Kind | None, typer.Option("--basis", help="Functions of free pairs; default: spline.")
]
Exponent = Annotated[
    list[float] | None,
    typer.Option(help="Exponent n of a power law r^-n; may be repeated. Default: 3."),
]
BondDegree = Annotated[
    int | None, typer.Option(help="Degree of bonded polynomials; 2 is harmonic. Default: 4.")
]
Spacing = Annotated[float | None, typer.Option(help="Knot spacing of splines, Å; default 0.4.")]
Cutoff = Annotated[
    float | None, typer.Option(help="Å; default 5.5, or half the cell if that is shorter.")
]
Collective = Annotated[
    str | None,
    typer.Option(
        metavar="[RANK]",
        help=(
            "Add a loss quadratic in sums over neighbours: RANK channels per species; without RANK,"
            " what pays."
        ),
    ),
]
Processes = Annotated[int, typer.Option(min=1, help="Processes of this machine to share the work.")]
Temperature = Annotated[float, typer.Option("--temperature", help="K")]
Timestep = Annotated[float, typer.Option("--timestep", help="fs")]
Minimize = Annotated[
    bool | None,
    typer.Option(
        "--minimize/--no-minimize",
        help=(
            "Move downhill first. Default: structures without velocities in which a force exceeds"
            " 10 eV/Å."
        ),
    ),
]
PrecisionOption = Annotated[
    Precision | None,
    typer.Option("--precision", help="Of CUDA, HIP or OpenCL; default: OpenMM's own, single."),
]
Damping = Annotated[
    float, typer.Option("--damping", help="Time constant of the thermostat, fs (CP2K's TIMECON).")
]


@app.command()
def inspect(
    cp2k_dir: Cp2kDir,
    file: File = None,
    cutoff: Annotated[float | None, typer.Option(help="Å")] = None,
    skip: Skip = 0.0,
    json_: Json = False,
) -> None:
    """Tell what a CP2K run holds and how good its forces are."""
    with reporting(json_) as (progress, answer):
        source = _open(cp2k_dir, file, skip, require_forces=False)
        found = survey(source, cutoff, progress).to_dict()
        answer({**found, "notes": source.notes, "source": source.source}, answers.inspection_text)


@app.command()
def fit(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="CP2K_DIR...", help="CP2K runs of one system, or files of `accumulate`."
        ),
    ],
    output: Output,
    basis: BasisKind = None,
    exponent: Exponent = None,
    bond_degree: BondDegree = None,
    spacing: Spacing = None,
    cutoff: Cutoff = None,
    collective: Collective = None,
    skip: Skip = 0.0,
    processes: Processes = 1,
    file: File = None,
    json_: Json = False,
) -> None:
    """Infer the loss from CP2K runs and write the model file."""
    from mld_ff.inference import read_shards, solve

    with reporting(json_) as (progress, answer):
        functions = _basis(basis, exponent, bond_degree, spacing, cutoff, collective)
        if shards := [run for run in runs if run.suffix == SUFFIX]:
            if len(shards) < len(runs) or functions or skip or file:
                raise InputError(
                    f"{shards[0]} holds accumulated frames, functions included: give such files"
                    " only, without options that choose functions or frames"
                )
            loss, notes = solve(read_shards(shards)), []
        else:
            sources = [_open(run, file, skip) for run in runs]
            loss, notes = infer(sources, Basis(**functions), progress, processes), _notes(sources)
        loss.save(output)
        answer({**loss.provenance, "notes": notes, "model": str(output)}, answers.fit_text)


@app.command()
def accumulate(
    runs: Annotated[
        list[Path], typer.Argument(metavar="CP2K_DIR...", help="CP2K runs of one system.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Where to write, a .npz file.")],
    part: Annotated[
        str, typer.Option(metavar="K/N", help="Only the K-th of N parts of all frames.")
    ] = "1/1",
    like: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Take the functions of this file: runs are added to earlier ones."
        ),
    ] = None,
    basis: BasisKind = None,
    exponent: Exponent = None,
    bond_degree: BondDegree = None,
    spacing: Spacing = None,
    cutoff: Cutoff = None,
    skip: Skip = 0.0,
    processes: Processes = 1,
    file: File = None,
    json_: Json = False,
) -> None:
    """Sum what frames say about the coefficients, in jobs of their own; `fit` takes the files of
    all parts.

    Of pairs only: a collective loss takes several passes over all frames, which `fit --processes`
    shares here.
    """
    from mld_ff.inference import accumulate as add_up
    from mld_ff.inference import read_shard, write_shard

    with reporting(json_) as (progress, answer):
        functions = _basis(basis, exponent, bond_degree, spacing, cutoff)
        if like and functions:
            raise InputError(f"{like} tells the functions: leave out the options that choose them")
        if output.suffix != SUFFIX:
            raise InputError(f"give it a name that ends in {SUFFIX}", output)
        layout = read_shard(like) if like else Basis(**functions).terms
        sources = [_open(run, file, skip) for run in runs]
        data = add_up(sources, layout, progress, processes, Part.parse(part))
        write_shard(data, output)
        told = {
            "frames": data.frames,
            "frames_with_broken_bonds": data.left_out,
            "bytes": output.stat().st_size,
        }
        answer(
            {"file": str(output), "part": part, **told, "notes": _notes(sources)},
            answers.accumulate_text,
        )


@app.command()
def scan(
    cp2k_dir: Cp2kDir,
    output: Output,
    exponents: Annotated[
        str, typer.Option(help="START:STOP:STEP, or a list with commas.")
    ] = "0.5:10:0.5",
    bond_degree: Annotated[
        int, typer.Option(help="Degree of bonded polynomials; 2 is harmonic.")
    ] = 4,
    cutoff: Annotated[float | None, typer.Option(help="Å")] = None,
    skip: Skip = 0.0,
    file: File = None,
    json_: Json = False,
) -> None:
    """Map the error over the exponents of one and of two invariants, and what each invariant is
    worth.
    """
    from mld_ff.inference.exponents import parse_exponents
    from mld_ff.inference.exponents import scan as explore
    from mld_ff.report import write_scan

    with reporting(json_) as (progress, answer):
        found = explore(
            _open(cp2k_dir, file, skip), parse_exponents(exponents), bond_degree, cutoff, progress
        )
        files = write_scan(output, found)
        answer({**found.to_dict(), "files": [str(f) for f in files]}, answers.scan_text)


@app.command()
def export(
    model: Model,
    engine: Annotated[Engine, typer.Option()],
    output: Output,
    structure: StructureFile = None,
    coordinates: Coordinates = None,
    cp2k: Cp2kOption = None,
    frame: Frame = -1,
    minimize: Minimize = None,
    temperature: Temperature = 300.0,
    timestep: Timestep = 0.5,
    damping: Damping = 100.0,
    file: File = None,
    json_: Json = False,
) -> None:
    """Write the files that OpenMM or LAMMPS runs without mld_ff."""
    from mld_ff.production.simulation import start_at

    with reporting(json_) as (progress, answer):
        loss = AgentLoss.load(model)
        one = _frame(structure, cp2k, frame, file, coordinates)
        start = start_at(loss, one, temperature, minimize=minimize, progress=progress)
        files = EXPORTS[engine](loss, start, output, temperature, timestep, damping)
        minimized = start.frame.source.get("minimized", False)
        molecules = start.topology.formulas()
        answer(
            {
                "engine": engine.value,
                "files": [str(f) for f in files],
                "molecules": molecules,
                "minimized": minimized,
            },
            lambda d: "\n".join(d["files"]),
        )


@app.command()
def verify(
    model: Model,
    cp2k_dir: Cp2kDir,
    frames: Annotated[int, typer.Option(min=1, help="How many frames, spread over the run.")] = 5,
    openmm: Annotated[
        Path | None, typer.Option(help="Check these exported files instead of a fresh export.")
    ] = None,
    lammps: Annotated[
        Path | None, typer.Option(help="Check these exported files instead of a fresh export.")
    ] = None,
    platform: Annotated[
        str, typer.Option(help="OpenMM platform: CPU, CUDA, HIP, OpenCL or Reference.")
    ] = "CPU",
    precision: PrecisionOption = None,
    file: File = None,
    json_: Json = False,
) -> None:
    """Hold energies and forces of OpenMM and LAMMPS against the numpy reference on the same
    frames.
    """
    from mld_ff.verification import verify as check

    with reporting(json_) as (progress, answer):
        source = _open(cp2k_dir, file, require_forces=False)
        given = {k: v for k, v in (("openmm", openmm), ("lammps", lammps)) if v}
        result = check(
            AgentLoss.load(model),
            source,
            frames,
            given or None,
            platform,
            precision,
            progress=progress,
        )
        answer(result.to_dict(), answers.verify_text)
        if not result.passed:
            raise CheckFailed(
                "an engine differs from the numpy reference by more than the tolerance"
            )


@app.command()
def run(
    model: Model,
    engine: Annotated[Engine, typer.Option()],
    output: Output,
    structure: StructureFile = None,
    coordinates: Coordinates = None,
    cp2k: Cp2kOption = None,
    frame: Frame = -1,
    minimize: Minimize = None,
    temperature: Temperature = 300.0,
    time: Annotated[float, typer.Option(help="ps")] = 20.0,
    timestep: Timestep = 0.5,
    damping: Damping = 100.0,
    every: Annotated[float, typer.Option(help="fs between frames of the trajectory.")] = 10.0,
    platform: Annotated[
        str | None,
        typer.Option(help="CPU, CUDA, HIP, OpenCL or Reference; default: the fastest present."),
    ] = None,
    precision: PrecisionOption = None,
    seed: Annotated[int, typer.Option(help="Of velocities, where the frame has none.")] = 1,
    velocities: Annotated[
        bool, typer.Option("--velocities", help="Write those of every frame too.")
    ] = False,
    ensemble: Annotated[
        Ensemble, typer.Option(help="Thermostat: Nosé–Hoover chain; npt: and a barostat.")
    ] = Ensemble.nvt,
    pressure: Annotated[float, typer.Option(help="bar, of npt.")] = 1.0,
    checkpoint: Annotated[float, typer.Option(help="ps between checkpoints.")] = 10.0,
    on_escape: Annotated[
        OnEscape,
        typer.Option(
            help="If a pair leaves the distances that the data sampled: say so at the end, or stop."
        ),
    ] = OnEscape.warn,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Go on with the run in the output, if there is one, from its checkpoint.",
        ),
    ] = False,
    file: File = None,
    json_: Json = False,
) -> None:
    """Run molecular dynamics in OpenMM or LAMMPS; after a kill, the same command with --resume goes
    on.
    """
    from mld_ff.production.results import excursions, read_log, read_record
    from mld_ff.production.simulation import run as produce

    with reporting(json_) as (progress, answer):
        settings = MD(
            temperature,
            time,
            timestep,
            damping,
            every,
            seed,
            velocities,
            ensemble.value,
            pressure,
            checkpoint,
            on_escape.value,
        )
        start = _frame(structure, cp2k, frame, file, coordinates)
        loss = AgentLoss.load(model)
        trajectory = produce(
            loss,
            start,
            engine.value,
            output,
            settings,
            platform,
            progress,
            minimize,
            precision,
            resume,
        )
        log, record = read_log(output), read_record(output)
        answer(
            {
                "engine": engine.value,
                "device": read_record(output)["device"],
                "directory": str(output),
                "frames": trajectory.n_frames,
                "time_ps": float(log["time_ps"][-1]),
                "mean_temperature_K": float(log["temperature_K"].mean()),
                "mean_potential_eV": float(log["potential_eV"].mean()),
                "mean_density_g_per_cm3": float(log["density_g_per_cm3"].mean()),
                "ns_per_day": record["ns_per_day"],
                "notes": record["notes"],
                "excursions": excursions(loss, trajectory),
            },
            answers.run_text,
        )


@app.command()
def report(
    reference: Annotated[Path, typer.Option(metavar="CP2K_DIR", help="Directory of the CP2K run.")],
    trajectory: Annotated[
        list[Path],
        typer.Option(
            metavar="RUN_DIR", help="Directory of `mld-ff run`; repeat for runs of the same model."
        ),
    ],
    output: Output,
    skip: Skip = 0.0,
    scan: Annotated[
        Path | None, typer.Option(metavar="SCAN_DIR", help="Show this `mld-ff scan` too.")
    ] = None,
    recomputed: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="CP2K_DIR",
            help=(
                "Forces of some of the same frames, computed again on a denser grid or moved"
                " against it, which tell "
                "the noise of CP2K's forces; may be repeated."
            ),
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Draws the hydrogens whose bonds are shown.")] = 1,
    file: File = None,
    json_: Json = False,
) -> None:
    """Compare learned runs with CP2K: one page, figures, and every number with its error."""
    from mld_ff.report import compare_runs, load_scan, write_report

    with reporting(json_) as (progress, answer):
        explored = None if scan is None else load_scan(scan)
        source = _open(reference, file, skip, require_forces=False)
        again = {str(d): _open(d, None).read() for d in recomputed or []}
        study = compare_runs(
            source, trajectory, seed=seed, scan=explored, recomputed=again, progress=progress
        )
        page = write_report(output, study)
        answer(
            {"page": str(page), **study.summary()},
            lambda _: answers.report_text(study, page),
        )


@app.command()
def build(
    config: Annotated[
        Path, typer.Argument(metavar="CONFIG.toml", help="See examples/water/build.toml.")
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Instead of the one in the configuration.")
    ] = None,
    json_: Json = False,
) -> None:
    """Fit, export, verify, run in both engines and report: everything by one configuration."""
    from mld_ff.pipeline import build as make
    from mld_ff.pipeline import read_config

    with reporting(json_) as (progress, answer):
        settings = read_config(config, output)
        study = make(settings, progress)
        answer(
            {"output": str(settings.output), **study.summary()},
            lambda _: answers.build_text(study, settings.output),
        )


@app.command()
def agents(
    model: Model,
    output: Output,
    structure: StructureFile = None,
    coordinates: Coordinates = None,
    cp2k: Cp2kOption = None,
    frame: Frame = -1,
    temperature: Temperature = 300.0,
    time: Annotated[float, typer.Option(help="ps")] = 1.0,
    timestep: Timestep = 0.5,
    damping: Damping = 100.0,
    every: Annotated[float, typer.Option(help="fs between moments recorded.")] = 10.0,
    seed: Annotated[int, typer.Option(help="Of velocities, where the frame has none.")] = 1,
    file: File = None,
    json_: Json = False,
) -> None:
    """Run the agents' own dynamics, every species by its own loss, beside that of the reciprocal
    loss (NVE and NVT).

    Runs in numpy and ASE, a few ms per step: the agents' forces are not reciprocal, which no MD
    engine takes. OpenMM and LAMMPS run the reciprocal loss only (`export`, `run`). Writes
    learning.json and learning.png.
    """
    from mld_ff.workflows.agents import learn

    with reporting(json_) as (progress, answer):
        settings = MD(temperature, time, timestep, damping, every, seed)
        found = learn(
            AgentLoss.load(model),
            _frame(structure, cp2k, frame, file, coordinates),
            output,
            settings,
            progress,
        )
        answer({"directory": str(output), **found.summary()}, answers.agents_text)


@app.command()
def box(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Structure to write: .pdb, .cif, .gro or .xyz.")
    ],
    molecule: Molecules = None,
    count: Counts = None,
    density: Density = None,
    structure: StructureFile = None,
    coordinates: Coordinates = None,
    cp2k: Cp2kOption = None,
    frame: Frame = -1,
    replicate: Annotated[
        tuple[int, int, int],
        typer.Option(help="Repeat the box along its three vectors.", metavar="NA NB NC"),
    ] = (1, 1, 1),
    seed: Annotated[int, typer.Option(help="Of packing.")] = 1,
    file: File = None,
    json_: Json = False,
) -> None:
    """Make a box to start from: molecules packed at a density, or copies of a frame side by
    side.
    """
    from mld_ff.engines.start import start_from
    from mld_ff.engines.structure import write_structure
    from mld_ff.sources.packing import replicate as copies

    with reporting(json_) as (_, answer):
        packed = structure is None and cp2k is None
        one = (
            _packed(molecule, count, density, seed)
            if packed
            else _frame(structure, cp2k, frame, file, coordinates)
        )
        start = start_from(copies(one, replicate))
        write_structure(start, output)
        cell = start.frame.cell[0].tolist()
        answer(
            {"file": str(output), "molecules": start.topology.formulas(), "cell_A": cell},
            lambda d: (
                f"{d['file']}: {', '.join(f'{n} {name}' for name, n in d['molecules'].items())}"
            ),
        )


@app.command()
def reference(
    output: Output,
    method: Annotated[
        ReferenceMethod,
        typer.Option(help="Network of water, DFT (with D3), or GFN1-xTB (any molecules)."),
    ] = ReferenceMethod.nnp,
    molecule: Molecules = None,
    count: Counts = None,
    density: Density = None,
    structure: StructureFile = None,
    coordinates: Coordinates = None,
    cp2k: Cp2kOption = None,
    frame: Frame = -1,
    label: Annotated[
        Path | None,
        typer.Option(
            metavar="FRAMES",
            help="Compute energy and forces of these: a run's directory or extended XYZ.",
        ),
    ] = None,
    frames: Annotated[
        int | None, typer.Option(min=1, help="Label so many, spread evenly. Default: all.")
    ] = None,
    temperature: Temperature = 300.0,
    steps: Annotated[int, typer.Option(help="MD steps in all.")] = 10000,
    timestep: Timestep = 0.5,
    damping: Damping = 50.0,
    every: Annotated[int, typer.Option(help="Steps between frames.")] = 20,
    relax: Annotated[
        int | None, typer.Option(help="Steps downhill before dynamics. Default: 50 if packed.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of packing and of velocities.")] = 1,
    functional: Annotated[str, typer.Option(help="BLYP, PBE or revPBE.")] = "BLYP",
    basis: Annotated[
        str, typer.Option(help="Name in CP2K's BASIS_MOLOPT or BASIS_SET.")
    ] = "DZVP-MOLOPT-SR-GTH",
    cutoff: Annotated[float, typer.Option(help="Of the real-space grid, Ry.")] = 400.0,
    rel_cutoff: Annotated[float, typer.Option(help="Ry")] = 50.0,
    run: Annotated[bool, typer.Option("--run", help="Run it too, or go on with it.")] = False,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="Run, or go on with, the input that lies in the output as it is."
        ),
    ] = False,
    file: File = None,
    json_: Json = False,
) -> None:
    """Write CP2K input that makes reference data; check it and run it where CP2K is installed."""
    from mld_ff.sources.cp2k.run import inputs as ref
    from mld_ff.sources.cp2k.run.resume import summarise

    with reporting(json_) as (progress, answer):
        if not resume:
            packed = structure is None and cp2k is None
            relax_steps = relax if relax is not None else 50 if packed else 0
            settings = ref.Reference(
                method.value,
                temperature,
                steps,
                timestep,
                damping,
                every,
                relax_steps,
                seed,
                functional,
                basis,
                cutoff,
                rel_cutoff,
            )
            if label:
                ref.write_labels(output, settings, _frames_to_label(label, frames, file))
            else:
                box = (
                    _packed(molecule, count, density, seed)
                    if packed
                    else _frame(structure, cp2k, frame, file, coordinates)
                )
                ref.write_reference(output, settings, box)
        answer(summarise(output, run or resume, progress), answers.reference_text)


@app.command()
def refine(
    cp2k_dir: Cp2kDir,
    output: Output,
    method: Annotated[
        ReferenceMethod, typer.Option(help="Of the labels; that of the CP2K run.")
    ] = ReferenceMethod.nnp,
    rounds: Annotated[
        int, typer.Option(min=1, help="At most. Raise it to go on with a finished refinement.")
    ] = 3,
    frames_per_round: Annotated[int, typer.Option(min=1, help="To label at most.")] = 20,
    temperature: Temperature = 300.0,
    hot: Annotated[
        list[float] | None, typer.Option(help="K, of a second run; may be repeated. Default: 400.")
    ] = None,
    time: Annotated[float, typer.Option(help="Of every run, ps.")] = 5.0,
    timestep: Timestep = 0.5,
    damping: Damping = 100.0,
    every: Annotated[float, typer.Option(help="fs between frames that are looked at.")] = 20.0,
    engine: Annotated[Engine, typer.Option()] = Engine.lammps,
    seed: Annotated[int, typer.Option(help="Of velocities.")] = 1,
    basis: Annotated[Kind, typer.Option(help="Functions of free pairs.")] = Kind.spline,
    exponent: Annotated[
        list[float] | None, typer.Option(help="Exponent n of a power law r^-n; may be repeated.")
    ] = None,
    bond_degree: Annotated[
        int, typer.Option(help="Degree of bonded polynomials; 2 is harmonic.")
    ] = 4,
    spacing: Annotated[float, typer.Option(help="Knot spacing of splines, Å.")] = 0.4,
    cutoff: Annotated[
        float | None, typer.Option(help="Å; default 5.5, or half the cell if that is shorter.")
    ] = None,
    collective: Collective = None,
    functional: Annotated[str, typer.Option(help="Of DFT: BLYP, PBE or revPBE.")] = "BLYP",
    dft_basis: Annotated[str, typer.Option(help="Name in CP2K's files.")] = "DZVP-MOLOPT-SR-GTH",
    grid_cutoff: Annotated[float, typer.Option(help="Of the real-space grid, Ry.")] = 400.0,
    rel_cutoff: Annotated[float, typer.Option(help="Ry")] = 50.0,
    skip: Skip = 0.0,
    file: File = None,
    json_: Json = False,
) -> None:
    """Run what was learned, let CP2K label what is new there, fit again, until nothing new is seen.

    Goes on where it was left. Where CP2K is not installed, it writes CP2K's input and says how to
    come back.
    """
    from mld_ff.sources.cp2k.run.inputs import Reference
    from mld_ff.workflows.refining.loop import Settings
    from mld_ff.workflows.refining.loop import refine as improve

    with reporting(json_) as (progress, answer):
        settings = Settings(
            Basis(
                basis.value,
                tuple(exponent or (3.0,)),
                spacing,
                bond_degree,
                cutoff,
                parse_rank(collective or 0),
            ),
            Reference(
                method.value,
                functional=functional,
                basis=dft_basis,
                cutoff_Ry=grid_cutoff,
                rel_cutoff_Ry=rel_cutoff,
            ),
            MD(temperature, time, timestep, damping, every, seed),
            tuple(hot or (400.0,)),
            frames_per_round,
            engine.value,
        )
        found = improve(_open(cp2k_dir, file, skip), output, settings, rounds, progress=progress)
        answer({"model": str(output / "model.json"), **found.to_dict()}, answers.refine_text)


@app.command()
def match(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="CP2K_DIR...",
            help="CP2K runs of one box at one temperature, with or without forces.",
        ),
    ],
    output: Output,
    labels: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="CP2K_DIR",
            help="Frames with forces for the fit alone (of `refine`); may be repeated.",
        ),
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Runs at most. Raise it to go on.")] = 5,
    price: Annotated[
        float,
        typer.Option(
            help="By how much, at most, the squared error of forces may grow for structure."
        ),
    ] = 0.02,
    pressure: Annotated[
        float | None,
        typer.Option(
            help=(
                "bar, that the cell of the CP2K run shall have, at any price, so that runs at that"
                " pressure keep "
                "its density. Default: as it comes out; forces do not tell it."
            )
        ),
    ] = None,
    time: Annotated[float, typer.Option(help="Of every run, ps.")] = 50.0,
    timestep: Timestep = 0.5,
    damping: Damping = 100.0,
    engine: Annotated[Engine, typer.Option()] = Engine.lammps,
    platform: Annotated[
        str | None, typer.Option(help="OpenMM's; default: the fastest present.")
    ] = None,
    seed: Annotated[
        int, typer.Option(help="Of velocities, where the last frame of the first run has none.")
    ] = 1,
    basis: BasisKind = None,
    exponent: Exponent = None,
    bond_degree: BondDegree = None,
    spacing: Spacing = None,
    cutoff: Cutoff = None,
    collective: Collective = None,
    skip: Skip = 0.0,
    file: File = None,
    json_: Json = False,
) -> None:
    """Fit, run, and move what was fitted until distances occur as often as in CP2K, as far as
    forces allow.

    Goes on where it was left. Structure at this temperature and density is then matched, not
    predicted.
    """
    from mld_ff.workflows.matching.loop import Settings
    from mld_ff.workflows.matching.loop import match as improve

    with reporting(json_) as (progress, answer):
        settings = Settings(
            Basis(**_basis(basis, exponent, bond_degree, spacing, cutoff, collective)),
            MD(time_ps=time, timestep_fs=timestep, damping_fs=damping, every_fs=20.0, seed=seed),
            engine.value,
            platform,
            price,
            pressure,
        )
        sources = [_open(run, file, skip, require_forces=None) for run in runs]
        found = improve(
            sources, output, settings, rounds, [_open(d, None) for d in labels or []], progress
        )
        answer(
            {"model": str(output / "model.json"), **found.to_dict(), "notes": _notes(sources)},
            answers.match_text,
        )


def main() -> None:
    """Entry point of `mld-ff`."""
    app(_with_values(sys.argv[1:]))


def _with_values(arguments: list[str]) -> list[str]:
    """Arguments in which `--collective` without a rank says `auto`."""
    following = [*arguments[1:], ""]
    chosen = [
        (a, "auto") if a == "--collective" and not re.fullmatch(r"-?\d+|auto", b) else (a,)
        for a, b in zip(arguments, following, strict=True)
    ]
    return [word for words in chosen for word in words]


Answer = Callable[[dict[str, Any], Callable[[dict[str, Any]], str]], None]


@contextmanager
def reporting(as_json: bool) -> Iterator[tuple[Progress, Answer]]:
    """Progress on standard error, the answer on standard output, errors as a paragraph and an exit
    code.
    """

    def answer(data: dict[str, Any], text: Callable[[dict[str, Any]], str]) -> None:
        answered.append(True)
        sys.stdout.write(to_json(data) if as_json else text(data) + "\n")

    answered: list[bool] = []
    try:
        with progress_bars() as progress:
            yield progress, answer
        return
    except InputError as error:
        said, code = f"error: {error}", 2
    except MldError as error:
        said, code = f"{'check failed' if isinstance(error, CheckFailed) else 'engine'}: {error}", 1
    except KeyboardInterrupt:
        said, code = "interrupted", 1
    except Exception as error:
        if os.environ.get(TRACEBACK_VARIABLE):
            raise
        said, code = (
            f"unexpected {type(error).__name__}: {error} (set {TRACEBACK_VARIABLE}=1 to see where)",
            1,
        )
    errors.print(said)
    if as_json and not answered:
        sys.stdout.write(to_json({"error": said, "exit_code": code}))
    raise typer.Exit(code)


@contextmanager
def progress_bars() -> Iterator[Progress]:
    """A bar per stage on a terminal; elsewhere a line when it is done, and one a minute until
    then.
    """
    if not errors.is_terminal:
        began: dict[str, tuple[float, int]] = {}
        said: dict[str, float] = {}

        def line(what: str, done: int, total: int) -> None:
            stage, now = what.partition(":")[0], time.monotonic()
            start, before = began.setdefault(stage, (now, done))
            last = said.setdefault(stage, now)
            if done >= total and last < math.inf:
                said[stage] = math.inf
                errors.print(f"{stage}: done")
            elif now - last > SECONDS_BETWEEN_LINES and done > before:
                said[stage] = now
                left = timedelta(seconds=round((total - done) * (now - start) / (done - before)))
                errors.print(f"{what}, {100 * done / total:.0f} %, {left} left")

        yield line
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Bars(*columns, console=errors) as bars:
        tasks: dict[str, Any] = {}

        def bar(what: str, done: int, total: int) -> None:
            stage = what.partition(":")[0]
            if stage not in tasks:
                tasks[stage] = bars.add_task(what, total=total)
            bars.update(tasks[stage], description=what, completed=done)

        yield bar


def _basis(
    kind: Kind | None,
    exponents: list[float] | None,
    bond_degree: int | None,
    spacing: float | None,
    cutoff: float | None,
    collective: str | None = None,
) -> dict[str, Any]:
    """The fields of Basis that were given."""
    fields = {
        "kind": kind and kind.value,
        "exponents": tuple(exponents) if exponents else None,
        "bond_degree": bond_degree,
        "spacing_A": spacing,
        "cutoff_A": cutoff,
        "collective": parse_rank(collective) if collective else None,
    }
    return {name: value for name, value in fields.items() if value is not None}


def _notes(sources: list[CP2KSource]) -> list[str]:
    return [
        f"run {k}: {n}" if len(sources) > 1 else n
        for k, s in enumerate(sources, 1)
        for n in s.notes
    ]


ROLES = ("positions", "forces", "velocities", "energies", "cells", "input")


def _open(
    directory: Path,
    named: list[str] | None,
    skip_ps: float = 0.0,
    require_forces: bool | None = True,
) -> CP2KSource:
    """require_forces: None for those runs alone that have a file of them."""
    files: dict[str, Any] = {}
    for item in named or []:
        role, _, name = item.partition("=")
        if role not in ROLES or not name:
            raise InputError(
                f"--file takes ROLE=FILE with a role of {', '.join(ROLES)}; found {item!r}"
            )
        inside = directory / name
        files[role] = inside if inside.exists() else Path(name)
    if require_forces is None:
        require_forces = open_cp2k(directory, require_forces=False, **files).has_forces_file
    return open_cp2k(directory, require_forces=require_forces, skip_fs=skip_ps / FS_TO_PS, **files)


def _frame(
    structure: Path | None,
    cp2k: Path | None,
    index: int,
    named: list[str] | None,
    coordinates: Path | None,
) -> Trajectory:
    """The frame to start from."""
    if (structure is None) == (cp2k is None):
        raise InputError("give the atoms to start from: either --cp2k CP2K_DIR or --structure FILE")
    if structure is not None:
        return read_structure(structure, coordinates)
    if coordinates is not None:
        raise InputError("--coordinates belong to a --structure")
    assert cp2k is not None
    source: FrameSource = _open(cp2k, named, require_forces=False)
    wanted = index + source.n_frames if index < 0 else index
    at = 0
    for frames in source.chunks():
        if 0 <= wanted - at < frames.n_frames:
            return frames[wanted - at]
        at += frames.n_frames
    raise InputError(f"frame {index} was asked for; the run has {source.n_frames} frames", cp2k)


def _packed(
    molecules: list[str] | None, counts: list[int] | None, density: float | None, seed: int
) -> Trajectory:
    """A box filled with molecules."""
    from mld_ff.sources.packing import Ingredient, find_molecule, pack

    names = molecules or ["H2O"]
    numbers = counts or ([64] if names == ["H2O"] else [])
    if len(numbers) != len(names):
        raise InputError(
            f"every --molecule needs its --count; found {', '.join(names)} and {len(numbers)}"
            " counts"
        )
    if density is None and names != ["H2O"]:
        raise InputError(
            f"give the --density of {' and '.join(names)} in g/cm³; only that of water has a"
            " default"
        )
    mixture = [
        Ingredient(find_molecule(name), number) for name, number in zip(names, numbers, strict=True)
    ]
    return pack(mixture, 0.997 if density is None else density, seed)


def _frames_to_label(where: Path, number: int | None, named: list[str] | None) -> Trajectory:
    """All or some frames of a CP2K run, a run of ours, or an extended XYZ file."""
    from mld_ff.production.results import RECORD, read_run
    from mld_ff.sources.structures import read_xyz
    from mld_ff.trajectory import spread_frames

    if where.is_dir():
        ours = (where / RECORD).exists()
        found: FrameSource = read_run(where) if ours else _open(where, named, require_forces=False)
    else:
        found = read_xyz(where)
    return spread_frames(found, number or found.n_frames)
