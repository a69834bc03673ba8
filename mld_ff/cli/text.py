"""What commands print where `--json` is not asked for: the same answers as sentences and tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

import numpy as np

from mld_ff.policy import density_of
from mld_ff.tables import Table, number
from mld_ff.units import FS_TO_PS

if TYPE_CHECKING:
    from mld_ff.consistency import Examination
    from mld_ff.doctor import Finding
    from mld_ff.engines.start import Start
    from mld_ff.inference import ExponentScan
    from mld_ff.pipeline import Step
    from mld_ff.production.results import RunOutcome
    from mld_ff.report.study import Study
    from mld_ff.sources.cp2k.run.inputs import Reference
    from mld_ff.sources.cp2k.run.resume import Prepared
    from mld_ff.sources.source import FileSource
    from mld_ff.survey import Inspection
    from mld_ff.trajectory import Trajectory
    from mld_ff.verification import EngineResult, Verification
    from mld_ff.workflows.agents import Learning
    from mld_ff.workflows.matching.loop import Matching
    from mld_ff.workflows.refining.loop import Refinement
    from mld_ff.workflows.refining.round import RunSeen


DIFFERENCES = (
    *("forces [eV/Å]", "  on", "of one term alone", "  of", "  allowed"),
    *("energy, relative", "  allowed", "forces in walls, relative", "  of", "  allowed"),
    "verdict",
)
"""Rows of what `verify` found of an engine."""


def dynamics_planned(settings: Reference, frame: Trajectory) -> str:
    """What an input of molecular dynamics asks of CP2K."""
    time_ps = settings.steps * settings.timestep_fs * FS_TO_PS
    return (
        f"{counted(Counter(frame.symbols))} by {settings.method}: {time_ps:g} ps at"
        f" {settings.temperature_K:g} K in {settings.steps} steps, every {settings.every} a frame"
    )


def labels_planned(settings: Reference, frames: Trajectory) -> str:
    """What an input of labels asks of CP2K."""
    atoms = counted(Counter(frames.symbols))
    return f"energy and forces of {frames.n_frames} frames of {atoms} by {settings.method}"


def reference_text(prepared: Prepared, planned: str) -> str:
    """planned: by the command itself; empty where it goes on with an input that lies there."""
    said = f"{prepared.input}: {planned}" if planned else str(prepared.input)
    return lines(said, *noted(prepared.notes))


def inspection_text(
    inspection: Inspection, examination: Examination, against: Sequence[str], source: FileSource
) -> str:
    topology, forces = inspection.survey.topology, inspection.survey.forces
    first_ps, last_ps = (time * FS_TO_PS for time in inspection.time_fs)
    span = f"{first_ps:g} to {last_ps:g} ps"
    if not source.origin.is_dynamics:
        span = f"one by one ({source.origin.remedies.one_by_one})"
    cell = "; ".join(" ".join(f"{x:g}" for x in row) for row in inspection.cell)
    why = topology.no_molecules
    molecules = f"no molecules, as {why}" if why else f"molecules {counted(topology.formulas())}"
    facts = [
        ["files", ", ".join(source.origin.files)],
        ["frames", f"{inspection.frames}, {span}"],
        ["atoms", f"{counted(Counter(topology.symbols))}; {molecules}"],
        ["cell", f"{cell} Å"],
        ["density", f"{inspection.density:.3f} g/cm³"],
        ["has", ", ".join(k for k, v in inspection.has.items() if v) or "positions only"],
    ]
    if temperatures := inspection.survey.temperatures:
        kelvin, deviation = np.mean(temperatures), np.std(temperatures)
        facts.append(["temperature", f"{kelvin:.1f} ± {deviation:.1f} K"])
    if inspection.has["forces"]:
        net = "net not known, as atoms were fixed"
        if forces.net_force is not None:
            net = f"net {forces.net_force:.2g} eV/Å per frame and component"
        facts.append(["forces", f"{net}; rms on heavy atoms {forces.heavy_rms:.2f} eV/Å"])
    for method, each in inspection.charges_e.items():
        told = ", ".join(f"{owner} {q:+.3f} ± {std:.3f}" for owner, (q, std) in each.items())
        facts.append([f"{method} charges", f"{told} e"])
    distances = [
        [
            name,
            *(f"{r:.3f}" for r in (seen.shortest, seen.longest)),
            *(f"{r:.4f}" for r in (seen.mean, seen.deviation)),
            str(seen.n),
        ]
        for name, seen in inspection.survey.distances.items()
        if seen.n
    ]
    head = ["distances [Å]", "shortest", "longest", "mean", "std", "pairs"]
    return lines(
        Table(["", ""], facts, "ll").text,
        "",
        Table(head, distances).text,
        *noted(source.notes),
        *(f"not checked: {text}" for text in examination.unchecked),
        *warned([*against, *inspection.warnings()]),
    )


def run_text(outcome: RunOutcome) -> str:
    told = [
        f"{outcome.time_ps:g} ps in {outcome.directory}, mean temperature"
        f" {outcome.mean_temperature_K:.1f} K, density {outcome.mean_density_g_per_cm3:.3f} g/cm³"
    ]
    if outcome.ns_per_day:
        told.append(f"{outcome.ns_per_day:.3g} ns/day")
    if device := outcome.device:
        place = [device[key] for key in ("platform", "device") if key in device]
        told.append(f"on {', '.join(place)}, precision {device['precision']}")
    if outside := outcome.excursions:
        worst = max(outside, key=outside.__getitem__)
        told.append(
            f"densities outside their sampled range: at most {100 * outside[worst]:.3g} % of one"
            f" channel's ({worst})"
        )
    beside = (
        f"mld-ff report --reference CP2K_DIR --trajectory {quote(str(outcome.directory))} -o report"
    )
    return lines(*told, *noted(outcome.notes), f"compare it with CP2K: {beside}")


def scan_text(scan: ExponentScan, files: Sequence[str]) -> str:
    least = scan.relative_rmse
    told = [
        f"{s}: best exponent {n:g}, relative RMSE {least[s]:.3f}"
        for s, n in scan.best_exponent.items()
    ]
    errors = ", ".join(f"{s} {e:.3f}" for s, e in scan.relative_rmse_best_pair.items())
    n, m = scan.best_pair
    return lines(*told, f"best pair of exponents {n:g} and {m:g}: {errors}", *files)


def report_text(study: Study, page: Path) -> str:
    from mld_ff.report.style import label_of
    from mld_ff.report.summary import observables_table

    speeds = [
        f"{label_of(name)}: {speed.ns_per_day:.3g} ns/day"
        + (f", {speed.ratio:.3g} times faster than {study.origin.name}" if speed.ratio else "")
        for name, speed in study.speeds.items()
    ]
    return lines(
        observables_table(study).text,
        *speeds,
        *(f"note: {n}" for n in study.notes),
        f"open {page}",
    )


def plan_text(steps: Sequence[Step], out: Path) -> str:
    rows = [[s.what, "?" if s.seconds is None else _duration(s.seconds), s.said] for s in steps]
    known = [step.seconds for step in steps if step.seconds is not None]
    total = f"{_duration(sum(known))} and the time of verification and report, into {out}"
    return lines(Table(["step", "takes", ""], rows, "lrl").text, total)


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else str(timedelta(seconds=round(seconds)))


def refine_text(refinement: Refinement, model: Path) -> str:
    rows = [
        [
            str(r.round),
            f"{r.rmse_meV_per_A:.1f}",
            number(r.labels.rmse_on_new_meV_per_A if r.labels else None, ".0f"),
            f"{100 * r.new_fraction:.1f} %",
            str(r.labels.labelled) if r.labels else "–",
            "; ".join(_looked_at(name, run) for name, run in r.runs.items()),
        ]
        for r in refinement.rounds
    ]
    end = (
        "nothing new is seen any more"
        if refinement.finished
        else "new frames were still seen: give more --rounds"
    )
    return lines(
        Table(["round", "meV/Å", "on new", "new", "labelled", "runs"], rows, "lrrrrl").text,
        *(
            f"left out in round {r.round}: {why}"
            for r in refinement.rounds
            for why in (r.labels.left_out if r.labels else ())
        ),
        f"{model}: {refinement.rmse_meV_per_A:.1f} meV/Å on unseen frames of the run; {end}",
        *warned(refinement.loss.provenance.get("warnings", ())),
    )


def _looked_at(name: str, run: RunSeen) -> str:
    end = f", ends {run.stopped}" if run.stopped else ""
    return f"{name} {run.new} of {run.frames} new{end}"


def match_text(matching: Matching, model: Path, notes: Sequence[str]) -> str:
    names, told_of_fit = list(matching.noise), matching.loss.provenance
    told = any(r.pressure_bar is not None for r in matching.rounds)
    rows = [
        [
            str(r.round),
            f"{r.rmse_meV_per_A:.1f}",
            f"{100 * r.price:.2f} %",
            f"{r.step:.2f}",
            *(f"{r.mean_abs_dg[n]:.4f}" for n in names),
            *([f"{r.pressure_bar:.0f} ± {r.error_bar:.0f}"] if told else []),
        ]
        for r in matching.rounds
    ]
    noise = [f"{matching.noise[n]:.4f}" for n in names]
    rows.append(["noise of the reference", "", "", "", *noise, *([""] if told else [])])
    head = ["round", "meV/Å", "price", "step", *names, *(["pressure [bar]"] if told else [])]
    caption = (
        "price: growth of the squared error of forces; step: standard deviation of the"
        " energy that it adds, kT; free:… or any:…: mean |Δg| to the reference beyond 2 Å"
    )
    end = (
        "no step is worth taking any more"
        if matching.finished
        else "steps were still long: give more --rounds"
    )
    return lines(
        Table(head, rows, caption=caption).text,
        f"{model}: {matching.rounds[-1].rmse_meV_per_A:.1f} meV/Å on unseen frames; {end}",
        *noted(notes),
        *(f"not checked: {text}" for text in told_of_fit.get("unchecked", ())),
        *warned(told_of_fit.get("warnings", ())),
    )


def verify_text(verification: Verification) -> str:
    engines = verification.engines
    energies: dict[str, list[float | None]] = {
        "all terms": [verification.energy_eV, *(r.energy_eV for r in engines.values())]
    }
    for term, energy in verification.terms_eV.items():
        energies[term] = [energy, *(r.terms_eV.get(term) for r in engines.values())]
    rows = [[name, *(number(x, ".6f") for x in values)] for name, values in energies.items()]
    return lines(
        Table(["energy [eV]", "numpy", *engines], rows).text,
        "",
        _differences(engines).text,
        *noted(_not_visited(verification)),
    )


def _differences(engines: Mapping[str, EngineResult]) -> Table:
    """The largest differences of every engine, where they are, and what is allowed."""
    columns = zip(DIFFERENCES, *map(_differences_of, engines.values()), strict=True)
    return Table(["largest difference from numpy", *engines], [*columns])


def _differences_of(result: EngineResult) -> list[str]:
    terms = result.terms_force_difference_eV_per_A
    worst = max(terms, key=terms.__getitem__, default="")
    return [
        f"{result.max_force_difference_eV_per_A:.1e}",
        result.worst_atom,
        number(terms.get(worst), ".1e"),
        worst or "–",
        f"{result.force_tolerance_eV_per_A:.0e}",
        f"{result.relative_energy_difference:.1e}",
        f"{result.energy_tolerance:.0e}",
        f"{result.walls_force_difference:.1e}",
        result.worst_in_walls or "–",
        f"{result.walls_tolerance:.0e}",
        "passed" if result.passed else "FAILED",
    ]


def _not_visited(verification: Verification) -> list[str]:
    if not verification.walls_not_visited:
        return []
    return [
        f"walls of {', '.join(verification.walls_not_visited)} were not looked into: no pair of the"
        " first frame can be pressed there"
    ]


def agents_text(learning: Learning, directory: Path) -> str:
    runs = [run.summary() for run in learning.runs.values()]
    rows = [
        ["time [ps]", *(f"{run.time_ps:.3g}" for run in runs)],
        ["net force, rms [eV/Å]", *(f"{run.net_force_rms_eV_per_A:.2g}" for run in runs)],
        ["final drift of the box [Å/ps]", *(f"{run.final_drift_A_per_ps:.2g}" for run in runs)],
        ["energy gained [eV/ps]", *(f"{run.gained_eV_per_ps:.2g}" for run in runs)],
    ]
    for s in runs[0].temperature_K:
        rows.append([f"T of {s} [K]", *(f"{run.temperature_K[s]:.1f}" for run in runs)])
    for name in runs[0].distances_A:
        lengths = [run.distances_A[name] for run in runs]
        rows.append([f"{name} [Å]", *(f"{r.mean:.3f} ± {r.std:.3f}" for r in lengths)])
    return lines(
        Table(["", *(" ".join(names) for names in learning.runs)], rows).text,
        f"temperatures and distances: second half of each run; in {directory}",
    )


def doctor_text(findings: Sequence[Finding]) -> str:
    verdicts = {True: "ok", False: "FAILED", None: "not here"}
    rows = [
        [
            f"{f.program} {f.version}".rstrip(),
            f.device,
            verdicts[f.passed],
            f"{f.said} ({f.seconds:.1f} s)" if f.seconds else f.said,
        ]
        for f in findings
    ]
    return Table(["program", "on", "", "check"], rows, "llll").text


def lines(*several: str) -> str:
    return "\n".join(several)


def noted(notes: Sequence[str]) -> list[str]:
    """Lines of notes."""
    return [f"note: {note}" for note in notes]


def warned(warnings: Sequence[str]) -> list[str]:
    """Lines of warnings."""
    return [f"warning: {warning}" for warning in warnings]


def export_text(engine: str, files: Sequence[Path], start: Start, warnings: Sequence[str]) -> str:
    """Answer of `export`: its files, what they are of, and how to check and run them."""
    directory = files[0].parent
    rows = [[file.name, f"{file.stat().st_size / 1e3:.1f} kB"] for file in files]
    return lines(
        Table([str(directory), "size"], rows).text,
        f"{counted(start.topology.formulas())}, {start.frame.n_atoms} atoms",
        f"check them: mld-ff verify MODEL CP2K_DIR --{engine} {quote(str(directory))}",
        *warned(warnings),
    )


def box_text(file: Path, start: Start) -> str:
    """Answer of `box`: what is in it, its size, and what to do with it."""
    lengths = np.linalg.norm(start.frame.cell[0], axis=1)
    return lines(
        f"{file}: {counted(start.topology.formulas())}",
        f"{start.frame.n_atoms} atoms, {' × '.join(f'{a:.2f}' for a in lengths)} Å,"
        f" {density_of(start.frame):.3f} g/cm³",
        f"run a model in it: mld-ff run MODEL --engine lammps --structure {quote(str(file))}"
        " -o run",
    )


def counted(numbers: Mapping[str, int]) -> str:
    """Numbers of things by their names."""
    return ", ".join(f"{n} {name}" for name, n in numbers.items())
