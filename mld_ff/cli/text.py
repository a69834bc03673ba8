"""What commands print where `--json` is not asked for: the same dictionaries as text."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def reference_text(d: dict[str, Any]) -> str:
    return "\n".join([d["input"], *(f"note: {n}" for n in d["notes"])])


def inspection_text(d: dict[str, Any]) -> str:
    def counted(numbers: dict[str, int]) -> str:
        return ", ".join(f"{n} {name}" for name, n in numbers.items())

    temperature = d["temperature_K"]
    lines = [
        f"files        {', '.join(d['source']['files'])}",
        f"frames       {d['frames']}, {d['time_fs'][0] / 1000:g} to {d['time_fs'][1] / 1000:g} ps",
        f"atoms        {counted(d['atoms'])}; molecules {counted(d['molecules'])}",
        "cell         " + "; ".join(" ".join(f"{x:g}" for x in row) for row in d["cell_A"]) + " Å",
        f"density      {d['density_g_per_cm3']:.3f} g/cm³",
        f"has          {', '.join(k for k, v in d['has'].items() if v) or 'positions only'}",
    ]
    if temperature:
        lines.append(f"temperature  {temperature['mean']:.1f} ± {temperature['std']:.1f} K")
    if d["has"]["forces"]:
        lines.append(
            f"forces       net {d['net_force_eV_per_A']:.2g} eV/Å per frame and component; "
            f"rms on heavy atoms {d['force_rms_heavy_eV_per_A']:.2f} eV/Å"
        )
    lines += ["", f"{'distances':<22}{'shortest':>9}{'longest':>9}{'mean':>9}{'std':>9}  Å"]
    lines += [
        f"{name:<22}{v['shortest']:9.3f}{v['longest']:9.3f}{v['mean']:9.4f}{v['std']:9.4f} "
        f" ({v['count']} pairs)"
        for name, v in d["distances_A"].items()
    ]
    return "\n".join(
        [*lines, "", *(f"note: {n}" for n in d["notes"]), *(f"warning: {w}" for w in d["warnings"])]
    ).rstrip()


def run_text(d: dict[str, Any]) -> str:
    lines = [
        f"{d['time_ps']:g} ps in {d['directory']}, mean temperature {d['mean_temperature_K']:.1f}"
        f" K, density {d['mean_density_g_per_cm3']:.3f} g/cm³"
    ]
    if d["ns_per_day"]:
        lines.append(f"{d['ns_per_day']:.3g} ns/day")
    if d["device"]:
        lines.append("on {platform}, {device}, precision {precision}".format(**d["device"]))
    if outside := d["excursions"]:
        worst = max(outside, key=outside.__getitem__)
        lines.append(
            f"densities outside their sampled range: at most {100 * outside[worst]:.3g} % of one"
            f" channel's ({worst})"
        )
    return "\n".join([*lines, *(f"note: {n}" for n in d["notes"])])


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
        lines += _curve_lines(d["collective"])
    if d["weakly_determined"]:
        lines.append(f"resting on the ridge more than on data: {', '.join(d['weakly_determined'])}")
    if d["undetermined"]:
        lines.append(f"not determined by the data and left at zero: {', '.join(d['undetermined'])}")
    return "\n".join(
        [*lines, *(f"note: {n}" for n in d["notes"]), *(f"warning: {w}" for w in d["warnings"])]
    )


def accumulate_text(d: dict[str, Any]) -> str:
    lines = [f"{d['file']}: {d['frames']} frames, part {d['part']}, {d['bytes'] / 1e6:.1f} MB"]
    return "\n".join([*lines, *(f"note: {n}" for n in d["notes"])])


def _curve_lines(collective: dict[str, Any]) -> list[str]:
    lines = [
        f"{'channels per species':<22}{'cross-validated':>16}{'unseen':>10} "
        f" meV/Å{'molecules':>12}{'cost':>8}"
    ]
    for row in collective["curve"]:
        validated = row["cross_validated_meV_per_A"]
        here = "  <- this model" if row["rank"] == collective["rank"] else ""
        lines.append(
            f"{row['rank']:<22}{'–' if validated is None else format(validated, '.1f'):>16}"
            f"{row['unseen_meV_per_A']:10.1f}{row['unseen_relative_rmse_molecules']:19.3f}{row['cost']:8.0f}{here}"
        )
    return [
        *lines,
        (
            "molecules: relative RMSE of net forces and torques, unseen; cost: time per step in"
            " LAMMPS, pairs alone 1"
        ),
    ]


def scan_text(d: dict[str, Any]) -> str:
    lines = [
        f"{s}: best exponent {n:g}, relative RMSE {d['relative_rmse'][s]:.3f}"
        for s, n in d["best_exponent"].items()
    ]
    errors = ", ".join(f"{s} {e:.3f}" for s, e in d["relative_rmse_best_pair"].items())
    lines.append(
        f"best pair of exponents {d['best_pair'][0]:g} and {d['best_pair'][1]:g}: {errors}"
    )
    return "\n".join([*lines, *d["files"]])


def report_text(d: dict[str, Any]) -> str:
    def number(value: float | None, error: float | None) -> str:
        return (
            "–" if value is None else f"{value:.4g} ± " + ("?" if error is None else f"{error:.2g}")
        )

    lines = [f"{'observable':<32}{'learned':>20}{'CP2K':>20}  agree"]
    for name, c in d["observables"].items():
        agree = {True: "yes", False: "no", None: "–"}[c["within"]]
        learned, expected = (
            number(c["learned"], c["learned_error"]),
            number(c["reference"], c["reference_error"]),
        )
        lines.append(f"{name:<32}{learned:>20}{expected:>20}  {agree}")
    if "ratio" in d["speed"]:
        lines.append(f"{d['speed']['ratio']:.3g} times faster than CP2K")
    return "\n".join([*lines, *(f"note: {n}" for n in d["notes"]), f"open {d['page']}"])


def refine_text(d: dict[str, Any]) -> str:
    lines = [f"{'round':<6}{'meV/Å':>8}{'on new':>8}{'new':>7}{'labelled':>10}  runs"]
    for r in d["rounds"]:
        before = (
            "–" if r.get("rmse_on_new_meV_per_A") is None else f"{r['rmse_on_new_meV_per_A']:.0f}"
        )
        runs = "; ".join(
            f"{name} {run['new']} of {run['frames']} new"
            + (f", ends {run['stopped']}" if run["stopped"] else "")
            for name, run in r["runs"].items()
        )
        new, labelled = f"{100 * r['new_fraction']:.1f} %", r.get("labelled", "–")
        lines.append(
            f"{r['round']:<6}{r['rmse_meV_per_A']:8.1f}{before:>8}{new:>7}{labelled:>10}  {runs}"
        )
        lines += [f"      left out: {text}" for text in r.get("left_out", [])]
    end = (
        "nothing new is seen any more"
        if d["finished"]
        else "new frames were still seen: give more --rounds"
    )
    return "\n".join(
        [
            *lines,
            f"{d['model']}: {d['rmse_meV_per_A']:.1f} meV/Å on unseen frames of the run; {end}",
        ]
    )


def match_text(d: dict[str, Any]) -> str:
    names = list(d["noise"])
    told = any("pressure_bar" in r for r in d["rounds"])
    heads = "".join(f"{n:>11}" for n in names) + f"{'pressure [bar]':>18}" * told
    lines = [f"{'round':<6}{'meV/Å':>8}{'price':>9}{'step':>7}{heads}"]
    for r in d["rounds"]:
        cells = "".join(f"{r['mean_abs_dg'][n]:11.4f}" for n in names)
        cells += f"{r['pressure_bar']:11.0f} ± {r['error_bar']:<4.0f}" if told else ""
        lines.append(
            f"{r['round']:<6}{r['rmse_meV_per_A']:8.1f}{100 * r['price']:7.2f}"
            f" %{r['step']:7.2f}{cells}"
        )
    lines.append(f"{'noise of CP2K':<30}" + "".join(f"{d['noise'][n]:11.4f}" for n in names))
    end = (
        "no step is worth taking any more"
        if d["finished"]
        else "steps were still long: give more --rounds"
    )
    return "\n".join(
        [
            *lines,
            (
                "price: growth of the squared error of forces; step: standard deviation of the"
                " energy that it adds, kT; free:…: mean |Δg| to CP2K beyond 2 Å"
            ),
            f"{d['model']}: {d['rmse_meV_per_A']:.1f} meV/Å on unseen frames; {end}",
            *(f"note: {n}" for n in d["notes"]),
        ]
    )


def verify_text(d: dict[str, Any]) -> str:
    names = list(d["engines"])
    lines = [f"{'energy [eV]':<22}{'numpy':>16}" + "".join(f"{n:>16}" for n in names)]
    rows = {"all terms": (d["energy_eV"], [d["engines"][n]["energy_eV"] for n in names])}
    rows |= {
        t: (e, [d["engines"][n]["terms_eV"].get(t, float("nan")) for n in names])
        for t, e in d["terms_eV"].items()
    }
    lines += [
        f"{t:<22}{e:16.6f}" + "".join(f"{x:16.6f}" for x in row) for t, (e, row) in rows.items()
    ]
    for n, r in d["engines"].items():
        terms = r["terms_force_difference_eV_per_A"]
        worst = max(terms, key=terms.__getitem__, default="")
        alone = f", of one term alone {terms[worst]:.1e} ({worst})" if terms else ""
        lines.append(
            f"{n}: largest force difference {r['max_force_difference_eV_per_A']:.1e} eV/Å on"
            f" {r['worst_atom']}{alone} (tolerance {r['force_tolerance_eV_per_A']:.0e}), energy"
            f" {r['relative_energy_difference']:.1e} relative (tolerance"
            f" {d['energy_tolerance']:.0e}): {'passed' if r['passed'] else 'FAILED'}"
        )
    return "\n".join(lines)


def build_text(d: dict[str, Any], out: Path) -> str:
    lines = [
        fit_text({**d["fit"], "model": str(out / "model.json"), "notes": []}),
        verify_text(d["verify"]),
    ]
    names = list(d["observables"])
    lines.append(f"{'observable':<28}" + "".join(f"{n:>10}" for n in names))
    for key in dict.fromkeys(k for values in d["observables"].values() for k in values):
        row = [d["observables"][n].get(key) for n in names]
        lines.append(
            f"{key:<28}" + "".join(f"{'–' if x is None else format(x, '.4g'):>10}" for x in row)
        )
    lines.append(f"open {out / 'summary.html'}")
    return "\n".join(lines)


def agents_text(d: dict[str, Any]) -> str:
    runs = {
        f"{dynamics} {e}": d[dynamics][e]
        for dynamics in ("reciprocal", "agents")
        for e in d[dynamics]
    }
    first = next(iter(runs.values()))
    rows = {
        "time [ps]": [f"{r['time_ps']:.3g}" for r in runs.values()],
        "net force, rms [eV/Å]": [f"{r['net_force_rms_eV_per_A']:.2g}" for r in runs.values()],
        "final drift of the box [Å/ps]": [
            f"{r['final_drift_A_per_ps']:.2g}" for r in runs.values()
        ],
        "energy gained [eV/ps]": [f"{r['gained_eV_per_ps']:.2g}" for r in runs.values()],
    }
    rows |= {
        f"T of {s} [K]": [f"{r['temperature_K'][s]:.1f}" for r in runs.values()]
        for s in first["temperature_K"]
    }
    for name in first["distances_A"]:
        values = [r["distances_A"][name] for r in runs.values()]
        rows[f"{name} [Å]"] = [f"{v['mean']:.3f} ± {v['std']:.3f}" for v in values]
    lines = [f"{'':<30}" + "".join(f"{n:>18}" for n in runs)]
    lines += [
        f"{name:<30}" + "".join(f"{cell:>18}" for cell in cells) for name, cells in rows.items()
    ]
    return "\n".join(
        [*lines, f"temperatures and distances: second half of each run; in {d['directory']}"]
    )
