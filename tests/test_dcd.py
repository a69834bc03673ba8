"""DCD trajectories of engines: what a damaged one says."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from mld_ff.engines import dcd
from mld_ff.errors import InputError
from mld_ff.trajectory import Floats

HEAD = 276


def written(file: Path, positions: Floats, edge_A: float = 20.0) -> bytes:
    """As OpenMM and LAMMPS write them: three blocks, and four in every frame."""

    def block(content: bytes) -> bytes:
        length = struct.pack("<i", len(content))
        return length + content + length

    numbers = [len(positions), 0, 10, 10 * len(positions), *[0] * 5, 0, 1, *[0] * 8, 24]
    content = block(b"CORD" + struct.pack("<20i", *numbers))
    content += block(struct.pack("<i", 2) + b" " * 160) + block(
        struct.pack("<i", positions.shape[1])
    )
    for x in positions.astype("<f4"):
        content += block(struct.pack("<6d", edge_A, 90.0, edge_A, 90.0, 90.0, edge_A))
        content += b"".join(block(x[:, k].tobytes()) for k in range(3))
    file.write_bytes(content)
    return content


@pytest.fixture
def positions() -> Floats:
    return np.random.default_rng(0).uniform(0, 20, (3, 4, 3))


def test_what_is_written_is_read(tmp_path: Path, positions: Floats) -> None:
    written(tmp_path / "t.dcd", positions)
    read, cells = dcd.read(tmp_path / "t.dcd")
    assert read == pytest.approx(positions, abs=1e-5)
    assert cells == pytest.approx(np.repeat(20 * np.eye(3)[None], 3, axis=0))


FLIPS = [0, 4, 40, 48, 52, 88, 92, 93, 94, 95, 260, 264, 268, 270, 271, 272]
"""Bytes of the head on which it depends where frames begin and end."""


@pytest.mark.parametrize("byte", FLIPS)
def test_one_flipped_bit_in_the_head(byte: int, tmp_path: Path, positions: Floats) -> None:
    """Is refused at once, in whatever bit: readers ask for all memory, or never end."""
    content = written(tmp_path / "t.dcd", positions)
    for bit in range(8):
        flipped = bytearray(content)
        flipped[byte] ^= 1 << bit
        (tmp_path / "t.dcd").write_bytes(flipped)
        with pytest.raises(InputError, match=r"damaged|cannot be read as a DCD file"):
            dcd.read(tmp_path / "t.dcd")


@pytest.mark.parametrize("edge", [np.nan, 0.0])
def test_cells_that_are_none(edge: float, tmp_path: Path, positions: Floats) -> None:
    written(tmp_path / "t.dcd", positions, edge)
    with pytest.raises(InputError, match="is damaged: frame 1 has no cell"):
        dcd.read(tmp_path / "t.dcd")


def test_a_head_that_was_cut_off(tmp_path: Path, positions: Floats) -> None:
    content = written(tmp_path / "t.dcd", positions)
    for length in (0, 3, 95, 200, HEAD - 1, HEAD, HEAD + 100):
        (tmp_path / "t.dcd").write_bytes(content[:length])
        assert dcd.complete_frames(tmp_path / "t.dcd") == 0
        with pytest.raises(InputError, match="did the run stop before its first frame"):
            dcd.read(tmp_path / "t.dcd")
