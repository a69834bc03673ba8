"""What commands print where `--json` is not asked for: the same answers as sentences and tables."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mld_ff.tables import Table, number

if TYPE_CHECKING:
    from mld_ff.report.study import Study


def reference_text(d: dict[str, Any]) -> str:
    return _lines(d["input"], *_notes(d))


def inspection_text(d: dict[str, Any]) -> str:
    facts = [
        ["files", ", ".join(d["source"]["files"])],
        ["frames", f"{d['frames']}, {d['time_fs'][0] / 1000:g} to {d['time_fs'][1] / 1000:g} ps"],
        ["atoms", f"{_counted(d['atoms'])}; molecules {_counted(d['molecules'])}"],
        ["cell", "; ".join(" ".join(f"{x:g}" for x in row) for row in d["cell_A"]) + " Å"],
        ["density", f"{d['density_g_per_cm3']:.3f} g/cm³"],
        ["has", ", ".join(k for k, v in d["has"].items() if v) or "positions only"],
    ]
    if temperature := d["temperature_K"]:
        facts.append(["temperature", f"{temperature['mean']:.1f} ± {temperature['std']:.1f} K"])
    if d["has"]["forces"]:
        net, heavy = d["net_force_eV_per_A"], d["force_rms_heavy_eV_per_A"]
        forces = f"net {net:.2g} eV/Å per frame and component; rms on heavy atoms {heavy:.2f} eV/Å"
        facts.append(["forces", forces])
    distances = [
        [
            name,
            *(f"{v[key]:.3f}" for key in ("shortest", "longest")),
            *(f"{v[key]:.4f}" for key in ("mean", "std")),
            str(v["count"]),
        ]
        for name, v in d["distances_A"].items()
    ]
    head = ["distances [Å]", "shortest", "longest", "mean", "std", "pairs"]
    return _lines(
        Table(["", ""], facts, "ll").text,
        "",
        Table(head, distances).text,
        *_notes(d),
        *(f"warning: {w}" for w in d["warnings"]),
    )


def run_text(d: dict[str, Any]) -> str:
    lines = [
        f"{d['time_ps']:g} ps in {d['directory']}, mean temperature {d['mean_temperature_K']:.1f}"
        f" K, density {d['mean_density_g_per_cm3']:.3f} g/cm³"
    ]
    if d["ns_per_day"]:
        lines.append(f"{d['ns_per_day']:.3g} ns/day")
    if device := d["device"]:
        place = [device[key] for key in ("platform", "device") if key in device]
        lines.append(f"on {', '.join(place)}, precision {device['precision']}")
    if outside := d["excursions"]:
        worst = max(outside, key=outside.__getitem__)
        lines.append(
            f"densities outside their sampled range: at most {100 * outside[worst]:.3g} % of one"
            f" channel's ({worst})"
        )
    return _lines(*lines, *_notes(d))


def accumulate_text(d: dict[str, Any]) -> str:
    line = f"{d['file']}: {d['frames']} frames, part {d['part']}, {d['bytes'] / 1e6:.1f} MB"
    return _lines(line, *_notes(d))


def fit_text(d: dict[str, Any]) -> str:
    lines = [
        f"{d['model']}: {d['n_coefficients']} coefficients from {d['frames_train']} frames, "
        f"tested on {d['frames_test']}"
    ]
    pairs = d.get("relative_rmse_pairs", {})
    for s, e in d["relative_rmse"].items():
        alone = f"pairs alone {pairs[s]:.3f}, and " if s in pairs else ""
        lines.append(
            f"  {s}: relative RMSE {e:.3f} ({alone}without reciprocity"
            f" {d['relative_rmse_agent'][s]:.3f})"
        )
    lines.append(f"  all forces: {d['rmse_meV_per_A']:.0f} meV/Å")
    if not d["errors_include_walls"]:
        lines.append(
            "  (of the fitted functions; without the frames themselves, walls cannot be included)"
        )
    if "collective" in d:
        lines.append(_curve_table(d["collective"]).text)
    if "channels" in d:
        whole = d["channels"]["unseen_meV_per_A_whole_forms"]
        lines.append(
            f"  channels: {', '.join(f'{n} of {s}' for s, n in d['channels']['numbers'].items())}"
            f" (as many as can be: {whole:.0f} meV/Å)"
        )
    if d["weakly_determined"]:
        lines.append(f"resting on the ridge more than on data: {', '.join(d['weakly_determined'])}")
    if d["undetermined"]:
        lines.append(f"not determined by the data and left at zero: {', '.join(d['undetermined'])}")
    return _lines(*lines, *_notes(d), *(f"warning: {w}" for w in d["warnings"]))


def _curve_table(collective: dict[str, Any]) -> Table:
    """Errors over the number of channels."""
    rows = [
        [
            str(row["rank"]),
            number(row["cross_validated_meV_per_A"], ".1f"),
            f"{row['unseen_meV_per_A']:.1f}",
            f"{row['unseen_relative_rmse_molecules']:.3f}",
            f"{row['cost']:.0f}",
            "<- this model" if row["rank"] == collective["rank"] else "",
        ]
        for row in collective["curve"]
    ]
    head = ["channels per species", "cross-validated", "unseen meV/Å", "molecules", "cost", ""]
    caption = (
        "molecules: relative RMSE of net forces and torques, unseen; cost: time per step in"
        " LAMMPS, pairs alone 1"
    )
    return Table(head, rows, "lrrrrl", caption)


def scan_text(d: dict[str, Any]) -> str:
    lines = [
        f"{s}: best exponent {n:g}, relative RMSE {d['relative_rmse'][s]:.3f}"
        for s, n in d["best_exponent"].items()
    ]
    errors = ", ".join(f"{s} {e:.3f}" for s, e in d["relative_rmse_best_pair"].items())
    n, m = d["best_pair"]
    return _lines(*lines, f"best pair of exponents {n:g} and {m:g}: {errors}", *d["files"])


def report_text(study: Study, page: Path) -> str:
    from mld_ff.report.style import label_of
    from mld_ff.report.summary import observables_table

    speeds = [
        f"{label_of(name)}: {speed.ns_per_day:.3g} ns/day"
        + (f", {speed.ratio:.3g} times faster than {study.origin.name}" if speed.ratio else "")
        for name, speed in study.speeds.items()
    ]
    return _lines(
        observables_table(study).text,
        *speeds,
        *(f"note: {n}" for n in study.notes),
        f"open {page}",
    )


def build_text(study: Study, out: Path) -> str:
    model = {**study.loss.provenance, "model": str(out / "model.json"), "notes": []}
    assert study.verification is not None
    return _lines(
        fit_text(model),
        verify_text(study.verification.to_dict()),
        report_text(study, out / "report.html"),
    )


def refine_text(d: dict[str, Any]) -> str:
    rows = [
        [
            str(r["round"]),
            f"{r['rmse_meV_per_A']:.1f}",
            number(r.get("rmse_on_new_meV_per_A"), ".0f"),
            f"{100 * r['new_fraction']:.1f} %",
            str(r.get("labelled", "–")),
            "; ".join(_looked_at(name, run) for name, run in r["runs"].items()),
        ]
        for r in d["rounds"]
    ]
    end = (
        "nothing new is seen any more"
        if d["finished"]
        else "new frames were still seen: give more --rounds"
    )
    return _lines(
        Table(["round", "meV/Å", "on new", "new", "labelled", "runs"], rows, "lrrrrl").text,
        *(
            f"left out in round {r['round']}: {text}"
            for r in d["rounds"]
            for text in r.get("left_out", [])
        ),
        f"{d['model']}: {d['rmse_meV_per_A']:.1f} meV/Å on unseen frames of the run; {end}",
    )


def _looked_at(name: str, run: dict[str, Any]) -> str:
    end = f", ends {run['stopped']}" if run["stopped"] else ""
    return f"{name} {run['new']} of {run['frames']} new{end}"


def match_text(d: dict[str, Any]) -> str:
    names = list(d["noise"])
    told = any("pressure_bar" in r for r in d["rounds"])
    rows = [
        [
            str(r["round"]),
            f"{r['rmse_meV_per_A']:.1f}",
            f"{100 * r['price']:.2f} %",
            f"{r['step']:.2f}",
            *(f"{r['mean_abs_dg'][n]:.4f}" for n in names),
            *([f"{r['pressure_bar']:.0f} ± {r['error_bar']:.0f}"] if told else []),
        ]
        for r in d["rounds"]
    ]
    noise = [f"{d['noise'][n]:.4f}" for n in names]
    rows.append(["noise of the reference", "", "", "", *noise, *([""] if told else [])])
    head = ["round", "meV/Å", "price", "step", *names, *(["pressure [bar]"] if told else [])]
    caption = (
        "price: growth of the squared error of forces; step: standard deviation of the"
        " energy that it adds, kT; free:…: mean |Δg| to the reference beyond 2 Å"
    )
    end = (
        "no step is worth taking any more"
        if d["finished"]
        else "steps were still long: give more --rounds"
    )
    return _lines(
        Table(head, rows, caption=caption).text,
        f"{d['model']}: {d['rmse_meV_per_A']:.1f} meV/Å on unseen frames; {end}",
        *_notes(d),
    )


def verify_text(d: dict[str, Any]) -> str:
    engines: dict[str, dict[str, Any]] = d["engines"]
    energies = [["all terms", d["energy_eV"], *(r["energy_eV"] for r in engines.values())]]
    for term, energy in d["terms_eV"].items():
        energies.append([term, energy, *(r["terms_eV"].get(term) for r in engines.values())])
    rows = [[name, *(number(x, ".6f") for x in values)] for name, *values in energies]
    return _lines(
        Table(["energy [eV]", "numpy", *engines], rows).text,
        *(_verdict(name, result, d["energy_tolerance"]) for name, result in engines.items()),
    )


def _verdict(engine: str, result: dict[str, Any], energy_tolerance: float) -> str:
    terms = result["terms_force_difference_eV_per_A"]
    worst = max(terms, key=terms.__getitem__, default="")
    alone = f", of one term alone {terms[worst]:.1e} ({worst})" if terms else ""
    return (
        f"{engine}: largest force difference {result['max_force_difference_eV_per_A']:.1e} eV/Å on"
        f" {result['worst_atom']}{alone} (tolerance {result['force_tolerance_eV_per_A']:.0e}),"
        f" energy {result['relative_energy_difference']:.1e} relative (tolerance"
        f" {energy_tolerance:.0e}): {'passed' if result['passed'] else 'FAILED'}"
    )


def agents_text(d: dict[str, Any]) -> str:
    runs = {
        f"{dynamics} {ensemble}": run
        for dynamics in ("reciprocal", "agents")
        for ensemble, run in d[dynamics].items()
    }
    first = next(iter(runs.values()))
    quantities = {
        "time [ps]": ("time_ps", ".3g"),
        "net force, rms [eV/Å]": ("net_force_rms_eV_per_A", ".2g"),
        "final drift of the box [Å/ps]": ("final_drift_A_per_ps", ".2g"),
        "energy gained [eV/ps]": ("gained_eV_per_ps", ".2g"),
    }
    rows = [
        [name, *(format(run[key], form) for run in runs.values())]
        for name, (key, form) in quantities.items()
    ]
    for s in first["temperature_K"]:
        rows.append([f"T of {s} [K]", *(f"{r['temperature_K'][s]:.1f}" for r in runs.values())])
    for name in first["distances_A"]:
        lengths = [run["distances_A"][name] for run in runs.values()]
        rows.append([f"{name} [Å]", *(f"{r['mean']:.3f} ± {r['std']:.3f}" for r in lengths)])
    return _lines(
        Table(["", *runs], rows).text,
        f"temperatures and distances: second half of each run; in {d['directory']}",
    )


def _lines(*lines: str) -> str:
    return "\n".join(lines)


def _notes(d: dict[str, Any]) -> list[str]:
    return [f"note: {note}" for note in d["notes"]]


def _counted(numbers: Mapping[str, int]) -> str:
    return ", ".join(f"{n} {name}" for name, n in numbers.items())
