"""A short run over every reader and loader; `regression/fuzz.py` is the long one."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from fuzzing import give, mutated, targets

INPUTS = 4


@pytest.mark.parametrize("name", sorted(targets()))
def test_damaged_files_are_refused_or_sound(name: str, tmp_path: Path) -> None:
    target, rng = targets()[name], random.Random(name)
    assert give(target, target.seed, tmp_path)
    for _ in range(INPUTS):
        give(target, mutated(target.seed, rng), tmp_path)
