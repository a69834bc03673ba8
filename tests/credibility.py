"""Writes docs/credibility.json, which docs/credibility.md shows, and prints the page's tables.

python tests/credibility.py model.json 'OpenMM=run-openmm' 'network=examples/water/longer'

takes a model of water, and runs of it or CP2K's own by the names that they are to have.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Any

import numpy as np
from mlipaudit import (
    EXPERIMENTS,
    experiment,
    first_drift,
    first_explosion,
    stability_score,
    water_score,
)
from physicality import GRID_A, diatomic, largest_influence, not_extensive

import mld_ff
from mld_ff import AgentLoss
from mld_ff.geometry.topology import topology_of
from mld_ff.production.record import read_record
from mld_ff.production.results import read_log, read_run
from mld_ff.version import __version__

FILE = Path(__file__).parents[1] / "docs" / "credibility.json"
EXAMPLE = Path(__file__).parents[1] / "examples/water/cp2k"
SETTLING = 5
"""One part in so many of every run is left out of its g(r), as MLIPAudit does for densities."""


def measured(loss: AgentLoss, runs: dict[str, Path]) -> dict[str, Any]:
    frame = mld_ff.open_source(EXAMPLE, skip_fs=6800).read()[-1]
    x, cell = frame.positions[0], frame.cell[0]
    whole = topology_of(frame).whole(x, cell)
    pairs = [
        *((a, b, False) for a, b in combinations_with_replacement(loss.species[::-1], 2)),
        ("O", "H", True),
    ]
    experiments = {name: experiment(name) for name in EXPERIMENTS}
    return {
        "written_by": f"mld_ff {__version__}",
        "grid_A": rounded(GRID_A, 4),
        "diatomics": {
            f"{a}–{b}, {'one molecule' if bonded else 'no bond'}": of_pair(loss, a, b, bonded)
            for a, b, bonded in pairs
        },
        "locality_eV_per_A": {s: largest_influence(loss, "H2O", s) for s in loss.species},
        "not_extensive_eV": not_extensive(loss, frame.symbols, whole, cell),
        "experiments": {
            name: {"r_A": rounded(r, 2), "g": rounded(g, 4)} for name, (r, g) in experiments.items()
        },
        "runs": {name: of_run(path) for name, path in runs.items()},
    }


def of_pair(loss: AgentLoss, a: str, b: str, bonded: bool) -> dict[str, Any]:
    curve = diatomic(loss, (a, b), bonded)
    falls, rises = curve.falls_and_rises
    well = int(np.argmin(curve.energy_eV))
    return {
        "force_flips": curve.force_flips,
        "energy_minima": curve.energy_minima,
        "inflections": curve.inflections,
        "falls": rank(falls),
        "rises": rank(rises),
        "deepest_A": round(float(GRID_A[well]), 2),
        # apart atoms have none; those that a bond holds never are
        "energy_eV": rounded(curve.energy_eV - curve.energy_eV[well if bonded else -1], 4),
    }


def rank(correlation: float) -> float | None:
    return None if np.isnan(correlation) else round(correlation, 3)


def of_run(path: Path) -> dict[str, Any]:
    learned = (path / "run.json").exists()
    frames = read_run(path) if learned else mld_ff.open_source(path, require_forces=False).read()
    water = water_score(frames[frames.n_frames // SETTLING :])
    result: dict[str, Any] = {
        "n_waters": frames.n_atoms // 3,
        "time_ps": round(float(frames.time[-1] - frames.time[0]) / 1000),
        "peak_A": round(water.peak_A, 2),
        "peak": round(float(water.g.max()), 2),
        "rmse": {name: round(water.rmse(name), 3) for name in EXPERIMENTS},
        "end_A": round(water.end_A, 1),
        "score": round(water.score, 3),
        "r_A": rounded(water.r_A, 2),
        "g": rounded(water.g, 3),
    }
    if learned:
        exploded = first_explosion(
            read_log(path)["temperature_K"], read_record(path).settings.temperature_K
        )
        drifted = first_drift(frames)
        result["stability"] = stability_score(exploded, drifted, frames.n_frames)
    return result


def rounded(values: np.ndarray, digits: int) -> list[float]:
    return [round(float(v), digits) for v in values]


def tables(record: dict[str, Any]) -> Iterator[str]:
    """Lines of the page, in Markdown."""
    yield "| pair | force flips | energy minima | inflections | falls | rises | lowest at [Å] |"
    yield "|---|---|---|---|---|---|---|"
    for pair, one in record["diatomics"].items():
        numbers = [one[k] for k in ("force_flips", "energy_minima", "inflections")]
        ranks = ["–" if one[k] is None else f"{one[k]:.3f}" for k in ("falls", "rises")]
        yield f"| {pair} | {' | '.join(map(str, [*numbers, *ranks, one['deepest_A']]))} |"
    yield ""
    against = " | ".join(f"RMSE to {name}" for name in EXPERIMENTS)
    head = (
        f"run | waters | ps | first peak [Å] | height | {against} | up to [Å] | score | stability"
    )
    yield f"| {head} |"
    yield "|---|---|---|---|---|---|---|---|---|---|"
    for name, one in record["runs"].items():
        stable = one.get("stability", "–")
        errors = " | ".join(f"{one['rmse'][e]:.3f}" for e in EXPERIMENTS)
        yield (
            f"| {name} | {one['n_waters']} | {one['time_ps']} | {one['peak_A']:.2f} |"
            f" {one['peak']:.2f} | {errors} | {one['end_A']} | {one['score']:.3f} |"
            f" {stable} |"
        )


if __name__ == "__main__":
    model, *named = sys.argv[1:]
    record = measured(
        AgentLoss.load(model),
        {name: Path(path) for name, _, path in (word.partition("=") for word in named)},
    )
    text = json.dumps(record, ensure_ascii=False, allow_nan=False)
    FILE.write_text(f"{text}\n", encoding="utf-8")
    print("\n".join(tables(record)))
    print(record["locality_eV_per_A"], record["not_extensive_eV"])
