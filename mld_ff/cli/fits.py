"""What is printed of a fit, and of a build, which ends in more than one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mld_ff.cli.text import lines, noted, report_text, verify_text, warned
from mld_ff.tables import Table, number

if TYPE_CHECKING:
    from mld_ff.loss.provenance import ChannelsTold, CollectiveTold, Provenance
    from mld_ff.report.study import Study


def fit_text(d: Provenance, model: Path, notes: Sequence[str]) -> str:
    """d: what the model file tells of its fit (`AgentLoss.provenance`)."""
    told = [
        f"{model}: {d['n_coefficients']} coefficients from {d['frames_train']} frames, "
        f"tested on {d['frames_test']}"
    ]
    if why := d.get("no_molecules"):
        told.append(f"  no molecules, any two atoms are a pair: {why}")
    pairs = d.get("relative_rmse_pairs", {})
    for s, e in d["relative_rmse"].items():
        alone = f"pairs alone {pairs[s]:.3f}, and " if s in pairs else ""
        told.append(
            f"  {s}: relative RMSE {e:.3f} ({alone}without reciprocity"
            f" {d['relative_rmse_agent'][s]:.3f})"
        )
    error = d["rmse_meV_per_A"]
    told.append(f"  all forces: {error:.{0 if error >= 10 else 1}f} meV/Å")
    if "pressure_offset_bar" in d:
        told.append(_stress(d))
    if not d["errors_include_walls"]:
        told.append(
            "  (of the fitted functions; without the frames themselves, walls cannot be included)"
        )
    if "collective" in d:
        told.append(_curve_table(d["collective"]).text)
    if "channels" in d:
        told.append(_ladder_table(d["channels"]).text)
    if "charges_e" in d:
        told.append(_charges(d))
    if d["weakly_determined"]:
        told.append(f"resting on the ridge more than on data: {', '.join(d['weakly_determined'])}")
    if d["undetermined"]:
        told.append(f"not determined by the data and left at zero: {', '.join(d['undetermined'])}")
    told += [f"not checked: {text}" for text in d.get("unchecked", ())]
    return lines(*told, *noted(notes), *warned(d["warnings"]))


def _stress(d: Provenance) -> str:
    """What the pressure comes to."""
    learned = "" if d["stress_weight"] else ", which was not learned"
    return (
        f"  pressure{learned}: {d['pressure_offset_bar']:+.0f} bar on average, a component of the"
        f" stress of a frame {d['stress_rmse_bar']:.0f} bar"
    )


def _charges(d: Provenance) -> str:
    """Charges, and what they bring."""
    own, errors = d["charges"], d["charges"]["errors_e"]
    each = [
        f"{s} {q:+.4f}" + (f" ± {errors[s]:.4f}" if s in errors else "")
        for s, q in d["charges_e"].items()
    ]
    told = (
        f"  charges{' (given)' if own['given'] else ''}: {', '.join(each)} e; without them"
        f" {own['unseen_meV_per_A_without']:.1f} instead of {own['unseen_meV_per_A']:.1f} meV/Å"
        " unseen"
    )
    printed = [
        f"    {method}: " + ", ".join(f"{owner} {q:+.3f}" for owner, q in of.items()) + " e"
        for method, of in own.get("printed_e", {}).items()
    ]
    return lines(told, *printed)


def _curve_table(collective: CollectiveTold) -> Table:
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


def _ladder_table(channels: ChannelsTold) -> Table:
    """Errors over costs of channels with angles."""
    rows = [
        [
            ",".join(map(str, row["channels"])),
            f"{row['unseen_meV_per_A']:.1f}",
            f"{row['unseen_relative_rmse_molecules']:.3f}",
            f"{row['cost']:.1f}",
            "<- this model" if row["channels"] == channels["by_order"] else "",
        ]
        for row in channels["curve"]
    ]
    limit = [
        f"{channels['unseen_meV_per_A_whole_forms']:.1f}",
        f"{channels['unseen_relative_rmse_molecules_whole_forms']:.3f}",
    ]
    rows.append(["as many as can be", *limit, "", ""])
    head = ["channels of orders 0, 1, 2", "unseen meV/Å", "molecules", "cost", ""]
    caption = (
        f"densities to {channels['cutoff_A']:g} Å; molecules: relative RMSE of net forces and"
        " torques, unseen; cost: time per step in LAMMPS by what its styles take, pairs alone 1"
    )
    return Table(head, rows, "lrrrl", caption)


def build_text(study: Study, out: Path) -> str:
    assert study.verification is not None
    return lines(
        fit_text(study.loss.provenance, out / "model.json", []),
        verify_text(study.verification),
        report_text(study, out / "report.html"),
    )
