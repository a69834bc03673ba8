"""Verbs that run what was learned and learn from it, or watch it learn."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from mld_ff.cli import text
from mld_ff.cli.console import Answer, verb
from mld_ff.cli.engines import EngineName
from mld_ff.cli.fields import Options, default_of
from mld_ff.cli.options import (
    BEGINNING,
    READING,
    Beginning,
    Count,
    Cp2kDir,
    Force,
    Model,
    Output,
    Reading,
    Temperatures,
    basis_options,
    notes_of,
)
from mld_ff.engines.settings import MD
from mld_ff.inference import Basis
from mld_ff.loss.model import AgentLoss
from mld_ff.progress import Progress
from mld_ff.sources.cp2k.run.inputs import Reference
from mld_ff.workflows.agents import learn
from mld_ff.workflows.matching import loop as matching
from mld_ff.workflows.matching.settings import Settings as MatchingSettings
from mld_ff.workflows.refining import loop as refining

REFINING = refining.Settings()
MATCHING = MatchingSettings()


@verb
def refine(
    cp2k_dir: Cp2kDir,
    /,
    *,
    output: Output,
    rounds: Annotated[
        Count, Parameter(help="At most. Raise it to go on with a finished refinement.")
    ] = default_of(refining.refine, "rounds"),
    settings: Annotated[
        refining.Settings,
        Options(
            REFINING,
            only=("engine", "hot_K", "frames_per_round"),
            types={"engine": EngineName, "hot_K": Temperatures},
        ),
    ],
    md: Annotated[
        MD,
        Options(
            REFINING.nvt,
            only=("temperature_K", "time_ps", "timestep_fs", "damping_fs", "every_fs", "seed"),
        ),
    ],
    labels: Annotated[
        Reference,
        Options(
            REFINING.reference,
            only=("method", "functional", "basis", "cutoff_Ry", "rel_cutoff_Ry", "charge"),
            names={"basis": "dft_basis", "cutoff_Ry": "grid_cutoff"},
        ),
    ],
    basis: Annotated[Basis, basis_options(REFINING.basis)],
    force: Force = False,
    reading: Annotated[Reading, READING],
    progress: Progress,
) -> Answer:
    """Run what was learned, let CP2K label what is new there, fit again, until nothing new is seen.

    Goes on where it was left. Where CP2K is not installed, it writes CP2K's input and says how to
    come back.
    """
    settings = replace(settings, basis=basis, reference=labels, nvt=md)
    source = reading.open(cp2k_dir)
    refinement = refining.refine(source, output, settings, rounds, progress=progress, force=force)
    model = output / refining.MODEL
    data = {"model": str(model), **refinement.to_dict(), **_caveats(refinement.loss)}
    return Answer(data, text.refine_text(refinement, model))


@verb
def match(
    *runs: Annotated[
        Path,
        Parameter(
            name="CP2K_DIR",
            required=True,
            help="CP2K runs of one box at one temperature, with or without forces.",
        ),
    ],
    output: Output,
    labels: Annotated[
        tuple[Path, ...],
        Parameter(
            metavar="CP2K_DIR",
            help="Frames with forces for the fit alone (of `refine`); may be repeated.",
        ),
    ] = (),
    rounds: Annotated[Count, Parameter(help="Runs at most. Raise it to go on.")] = default_of(
        matching.match, "rounds"
    ),
    settings: Annotated[
        MatchingSettings,
        Options(
            MATCHING,
            only=("engine", "platform", "price", "pressure_bar"),
            types={"engine": EngineName},
        ),
    ],
    md: Annotated[MD, Options(MATCHING.md, only=("time_ps", "timestep_fs", "damping_fs", "seed"))],
    basis: Annotated[Basis, basis_options(MATCHING.basis)],
    force: Force = False,
    reading: Annotated[Reading, READING],
    progress: Progress,
) -> Answer:
    """Fit, run, and move what was fitted until distances occur as often as in CP2K, as far as
    forces allow.

    Goes on where it was left. Structure at this temperature and density is then matched, not
    predicted.
    """
    settings = replace(settings, basis=basis, md=md)
    sources = [reading.open(run, require_forces=None) for run in runs]
    labelled = [Reading().open(directory) for directory in labels]
    matched = matching.match(sources, output, settings, rounds, labelled, progress, force)
    model, notes = output / matching.MODEL, notes_of(sources)
    data = {"model": str(model), **matched.to_dict(), "notes": notes, **_caveats(matched.loss)}
    return Answer(data, text.match_text(matched, model, notes))


def _caveats(loss: AgentLoss) -> dict[str, list[str]]:
    """As the model file holds them, for `--json`."""
    told = loss.provenance
    return {"unchecked": told.get("unchecked", []), "warnings": told.get("warnings", [])}


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
    data = {"directory": str(output), **learning.summary()}
    return Answer(data, text.agents_text(learning, output))
