"""Refinement with CP2K's network, in small: minutes, so not in the default run.

pytest -n 0 -s -m regression tests/regression/test_refinement.py
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import evaluate, present

from mld_ff import MD, AgentLoss, Basis, read_cp2k, refine
from mld_ff.errors import InputError
from mld_ff.geometry.topology import find_topology
from mld_ff.sources.cp2k.run.launch import find_cp2k
from mld_ff.workflows.refining.loop import Settings

EXAMPLE = Path(__file__).parents[2] / "examples/water/cp2k"
FRAMES = 30


def installed() -> bool:
    try:
        return bool(find_cp2k())
    except InputError:
        return False


pytestmark = [
    pytest.mark.regression,
    pytest.mark.skipif(not installed(), reason="CP2K is not installed (apt-get install cp2k)"),
]


def test_two_rounds_from_thirty_frames(tmp_path: Path) -> None:
    """Fewer frames leave what was sampled, and frames that nobody learned from are described no
    worse.
    """
    water = read_cp2k(EXAMPLE)
    settings = Settings(
        Basis(collective=4), nvt=MD(time_ps=1.0, every_fs=20.0), hot_K=(400.0,), frames_per_round=20
    )
    refined = refine(replace(water[100 : 100 + FRAMES], velocities=None), tmp_path, settings, 2)
    for told in refined.rounds:
        print(replace(told, runs={}), {name: run.new for name, run in told.runs.items()})
        labels = present(told.labels)
        assert labels.labelled > 0 and not labels.left_out
    first, second = (sum(run.new for run in told.runs.values()) for told in refined.rounds)
    assert second < first
    unseen = water[400::8]
    topology = find_topology(water.symbols, water.positions[0], water.cell[0])

    def error(loss: AgentLoss) -> float:
        pairs = zip(unseen.positions, unseen.cell, strict=True)
        forces = np.array([evaluate(loss, topology, x, c)[1] for x, c in pairs])
        return float(np.sqrt(((forces - present(unseen.forces)) ** 2).mean()))

    before, after = error(AgentLoss.load(tmp_path / "round-1" / "model.json")), error(refined.loss)
    print(f"unseen frames: {1e3 * before:.1f} meV/Å before, {1e3 * after:.1f} after")
    assert after < before
