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


def draw_speed() -> Figure:
    """CPU time per step and atom over the number of atoms, both engines."""
    figure = Figure(figsize=(8.0, 3.4), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    page, heading = "tests/benchmarks/README", "Accuracy against speed"
    for axis, corner in zip(axes, ("LAMMPS", "OpenMM, CPU"), strict=True):
        models = ("pairs", "collective", "fast", "balanced", "best", "uf3")
        table = recorded_table(page, heading, corner)
        for name, color in zip(models, COLOURS, strict=False):
            cells = {size: cell for size, cell in table.get(name, {}).items() if cell[:1].isdigit()}
            atoms = [int(size.split()[0].replace(",", "")) for size in cells]
            times = [float(cell) for cell in cells.values()]
            axis.plot(atoms, times, "o-", color=color, label=name, markersize=4)
        axis.set(xscale="log", yscale="log", xlabel="atoms", title=corner)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("CPU time per step and atom [µs]")
    axes[0].legend(frameon=False, ncols=2, fontsize=8)
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
    axis.plot(*record["experiment"].values(), color="0.6", lw=4, label="experiment (Soper 2013)")
    for (name, run), color in zip(record["runs"].items(), COLOURS, strict=False):
        axis.plot(run["r_A"], run["g"], color=color, lw=1.2, label=name)
    axis.set(xlim=(2.2, 10), xlabel="r [Å]", ylabel="$g_{OO}$")
    axis.grid(alpha=0.3)
    axis.legend(frameon=False, fontsize=8)
    return figure


PLOTS: Mapping[tuple[str, str], tuple[str, Callable[[], Figure], str]] = {
    ("tests/benchmarks/README", "Accuracy against speed"): (
        "speed",
        draw_speed,
        "CPU time per step and atom over the number of atoms, in LAMMPS and OpenMM",
    ),
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
