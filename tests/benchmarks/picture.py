"""Accuracy against speed, as recorded in README.md beside this file (1,536 atoms, one core).

python tests/benchmarks/picture.py accuracy-against-speed.png
"""

from __future__ import annotations

import math
import sys

from matplotlib.figure import Figure

RECORDED = {
    # model: unseen forces of water [meV/Å]; CPU time per step and atom [µs], LAMMPS and OpenMM
    "pairs": (202.8, 0.55, 1.60),
    "collective": (110.4, 3.46, 2.73),
    "fast": (68.9, 2.89, 2.40),
    "balanced": (54.3, 6.83, 3.57),
    "best": (46.0, 18.05, 4.77),
    "uf3": (51.0, 53.14, math.nan),
}
NATIVE = {"LAMMPS": 2.97, "OpenMM": 3.12}
"""Flexible three-site water, particle-mesh Ewald, 9 Å."""
COLOURS = {"LAMMPS": "#D55E00", "OpenMM": "#0072B2"}


def draw() -> Figure:
    figure = Figure(figsize=(6.0, 4.0), layout="constrained")
    axis = figure.subplots()
    for k, (engine, color) in enumerate(COLOURS.items(), 1):
        points = [(name, one[0], one[k]) for name, one in RECORDED.items() if one[k] > 0]
        axis.plot([p[2] for p in points], [p[1] for p in points], "o", color=color, label=engine)
        axis.axvline(NATIVE[engine], color=color, lw=0.9, ls=":")
        for name, error, time_us in points:
            side = (5, 5) if engine == "LAMMPS" else (-5, -11)
            align = "left" if engine == "LAMMPS" else "right"
            axis.annotate(
                name,
                (time_us, error),
                side,
                textcoords="offset points",
                ha=align,
                fontsize=8,
                color=color,
            )
    axis.text(3.15, 195, "native water,\nPME, 9 Å", fontsize=8, color="0.3", va="top")
    axis.set(
        xscale="log",
        xlabel="CPU time per step and atom [µs]",
        ylabel="error of unseen forces [meV/Å]",
        ylim=(0, 220),
        xlim=(0.4, 100),
        xticks=(1, 10, 100),
        xticklabels=("1", "10", "100"),
    )
    axis.legend(frameon=False, loc="upper right")
    return figure


if __name__ == "__main__":
    draw().savefig(sys.argv[1], dpi=150)
