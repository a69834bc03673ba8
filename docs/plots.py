"""Figures of recorded numbers, drawn when the pages are built: Markdown files keep the tables.

`PLOTS` says under which heading of which page each stands.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from matplotlib.figure import Figure

ROOT = Path(__file__).parents[1]
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Told apart by all (Okabe and Ito)."""
MODELS = ("pairs", "collective", "fast", "balanced", "best", "uf3")
"""Whose times are recorded."""


def recorded_table(page: str, heading: str, corner: str) -> dict[str, dict[str, str]]:
    """Cells of the table under a heading whose first cell is `corner`, by row and column."""
    text = (ROOT / f"{page}.md").read_text(encoding="utf-8")
    section = text.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    rows = [
        [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        for line in section[section.index(f"| {corner} |") :].split("\n\n", 1)[0].splitlines()
    ]
    columns = rows[0][1:]
    return {row[0].strip("*"): dict(zip(columns, row[1:], strict=True)) for row in rows[2:]}


def speed_tables() -> dict[str, dict[str, dict[str, str]]]:
    """Recorded times, and errors, of both engines."""
    page, heading = "tests/benchmarks/README", "Accuracy against speed"
    return {name: recorded_table(page, heading, name) for name in ("LAMMPS", "OpenMM, CPU")}


def draw_speed() -> Figure:
    """CPU time per step and atom over the number of atoms, both engines."""
    figure = Figure(figsize=(8.0, 3.8), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    for axis, (engine, table) in zip(axes, speed_tables().items(), strict=True):
        for name, color in zip(MODELS, COLOURS, strict=False):
            cells = {
                int(size.split()[0].replace(",", "")): float(cell)
                for size, cell in table.get(name, {}).items()
                if size.endswith("atoms") and cell[:1].isdigit()
            }
            axis.plot([*cells], [*cells.values()], "o-", color=color, label=name, markersize=4)
        axis.set(xscale="log", yscale="log", xlabel="atoms", title=engine)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("CPU time per step and atom [µs]")
    lines = axes[0].get_legend_handles_labels()
    figure.legend(*lines, loc="outside lower center", ncols=len(MODELS), frameon=False)
    return figure


def draw_accuracy() -> Figure:
    """Error of unseen forces over CPU time per step and atom, of 1,536 atoms; native water as a
    line.
    """
    figure = Figure(figsize=(8.0, 4.2), layout="constrained")
    axis = figure.subplots()
    tables, size = speed_tables(), "1,536 atoms"
    errors = {name: float(tables["LAMMPS"][name]["unseen forces [meV/Å]"]) for name in MODELS}
    for (engine, table), color, right in zip(tables.items(), COLOURS, (True, False), strict=False):
        times = {name: float(table[name][size]) for name in MODELS if name in table}
        points = [errors[name] for name in times]
        axis.plot([*times.values()], points, "o", color=color, label=engine)
        native = float(table["native water, 6.2 Å \\| 9 Å"][size].split("|")[1])
        axis.axvline(native, color=color, lw=0.9, ls=":", label=f"{engine}, native water, 9 Å")
        for name, time_us in times.items():
            axis.annotate(
                name,
                (time_us, errors[name]),
                (6, 5) if right else (-6, -11),
                textcoords="offset points",
                ha="left" if right else "right",
                color=color,
            )
    axis.set(xscale="log", xlim=(0.4, 150), xlabel="CPU time per step and atom [µs]")
    axis.set(ylim=(0, 220), ylabel="error of unseen forces [meV/Å]")
    axis.legend(frameon=False)
    return figure


def draw_diatomics() -> Figure:
    """Energies of pairs of atoms over their distance: the whole of each, and near its zero."""
    record = json.loads((ROOT / "docs" / "credibility.json").read_text(encoding="utf-8"))
    figure = Figure(figsize=(8.0, 3.4), layout="constrained")
    wall, well = figure.subplots(1, 2)
    for (pair, one), color in zip(record["diatomics"].items(), COLOURS, strict=False):
        for axis in (wall, well):
            axis.plot(record["grid_A"], one["energy_eV"], color=color, label=pair)
    wall.set(xlabel="r [Å]", ylabel="energy [eV]", yscale="symlog", title="to 0.18 Å")
    well.set(xlabel="r [Å]", ylim=(-6, 6), title="near zero")
    for axis in (wall, well):
        axis.grid(alpha=0.3)
    well.legend(frameon=False, fontsize=8)
    return figure


def draw_water() -> Figure:
    """g_OO of runs, of CP2K's network and of experiment."""
    record = json.loads((ROOT / "docs" / "credibility.json").read_text(encoding="utf-8"))
    figure = Figure(figsize=(8.0, 3.4), layout="constrained")
    axis = figure.subplots()
    for (name, measured), style in zip(record["experiments"].items(), ("-", ":"), strict=True):
        label = f"experiment, {name}"
        axis.plot(*measured.values(), color="0.6", lw=4, ls=style, label=label)
    for (name, run), color in zip(record["runs"].items(), COLOURS, strict=False):
        axis.plot(run["r_A"], run["g"], color=color, lw=1.2, label=name)
    axis.set(xlim=(2.2, 10), xlabel="r [Å]", ylabel="$g_{OO}$")
    axis.grid(alpha=0.3)
    axis.legend(frameon=False, fontsize=8)
    return figure


ACCURACY = (
    "accuracy",
    draw_accuracy,
    "Error of unseen forces over CPU time per step and atom, in LAMMPS and OpenMM",
)
PLOTS: Mapping[tuple[str, str], tuple[str, Callable[[], Figure], str]] = {
    ("tests/benchmarks/README", "Accuracy against speed"): (
        "speed",
        draw_speed,
        "CPU time per step and atom over the number of atoms, in LAMMPS and OpenMM",
    ),
    ("docs/tutorials/accuracy", "Which to take"): ACCURACY,
    ("docs/results", "Speed"): ACCURACY,
    ("docs/credibility", "Diatomics"): (
        "diatomics",
        draw_diatomics,
        "Energy of pairs of atoms over their distance",
    ),
    ("docs/credibility", "Water against experiment"): (
        "water",
        draw_water,
        "Radial distribution function of the oxygens: experiment, CP2K's network and runs",
    ),
}


def with_plots(page: str, text: str, folder: Path) -> str:
    """The text of a page with pictures under its headings, drawn into a folder of ours."""
    for (where, heading), (name, draw, meaning) in PLOTS.items():
        if where == page:
            folder.mkdir(parents=True, exist_ok=True)
            draw().savefig(folder / f"{name}.svg", facecolor="white")
            picture = f"![{meaning}](/{folder.relative_to(ROOT)}/{name}.svg)"
            found = f"\n## {heading}\n"
            if found not in text:
                raise ValueError(f"{page} has no heading {heading!r}, under which {name} stands")
            text = text.replace(found, f"{found}\n{picture}\n")
    return text
