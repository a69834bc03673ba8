"""A short run over every reader and loader; `regression/fuzz.py` is the long one."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from fuzzing import EXTXYZ, give, mutated, targets

from mld_ff.sources import open_source

INPUTS = 4


@pytest.mark.parametrize("name", sorted(targets()))
def test_damaged_files_are_refused_or_sound(name: str, tmp_path: Path) -> None:
    target, rng = targets()[name], random.Random(name)
    assert give(target, target.seed, tmp_path)
    for _ in range(INPUTS):
        give(target, mutated(target.seed, rng), tmp_path)


FOUND = {
    "atoms without number": ("extended XYZ", b"3\n", b"99999999999999999999\n"),
    "endless digits": ("CP2K argon/argon-pos-1.xyz", b"       3\n", b"9" * 5000 + b"\n"),
    "infinite cell": ("extended XYZ", b"9 0 0 0 9", b"9 0 0 1e400 9"),
    "cell of letters": ("CP2K npdb/npdb-pos-1.pdb", b"13.000 ", b"13.1p0 "),
    "energy of a dot": ("CP2K npdb/npdb-pos-1.pdb", b"E = -.0004465390", b"E = -."),
    "short row": ("CP2K point/point-forces-1_0.xyz", b" Ar ", b" "),
    "stress of asterisks": (
        "CP2K strs/strs.log",
        b" STRESS|      x ",
        b" STRESS|      x ** ",
    ),
    "infinite place": ("CP2K point/output", b"Ar1          0.0", b"Ar1  1e400   0.0"),
    "label of no text": ("CP2K point/output", b"Ar1          0.0", b"Ar\xf8          0.0"),
    "tiny cell": (
        "CP2K point/output",
        b"Vector a [angstrom]:      13.000",
        b"Vector a [angstrom]:  1e-308",
    ),
    "step without end": ("extended XYZ", b"Step=0", b"Step=" + b"9" * 30),
    "atoms of gigabytes": (
        "CP2K ndcd/ndcd-pos-1.dcd",
        b"\x04\x00\x00\x00\x04\x00\x00\x00",
        b"\x04\x00\x00\x00\x04\x00\x00\x7f",
    ),
    "endless step": ("CP2K strs/strs.log", b"MD| Step number  ", b"MD| Step number  " + b"9" * 30),
    "step beyond all": ("extended XYZ", b"Step=0", b"Step=1e400"),
    "unit to the 9999th": ("CP2K argon/argon.inp", b"ABC ", b"ABC [bohr^9999] "),
    "two momenta": ("extended XYZ", b"momenta:R:3", b"momenta:R:2"),
    "no key": ("extended XYZ", b"Lattice", b"=ttice"),
    "time of 1e308 ps": ("configuration", b"time_ps = 2", b"time_ps = 1e308"),
    "too large in eV/Å": ("CP2K argon/argon-frc-1.xyz", b"  0.00", b"  1e308 0.00"),
}
"""What a reader once took, or answered with another's error."""


@pytest.mark.parametrize("case", FOUND)
def test_what_fuzzing_found_stays_mended(case: str, tmp_path: Path) -> None:
    name, old, new = FOUND[case]
    target = targets()[name]
    assert old in target.seed, target.seed[:500]
    give(target, target.seed.replace(old, new, 1), tmp_path)


def test_frames_that_are_not_periodic(tmp_path: Path) -> None:
    (tmp_path / "a.xyz").write_text(EXTXYZ.replace('pbc="T T T"', 'pbc="T F T"'))
    assert open_source(tmp_path / "a.xyz").notes == [
        "3 of 3 frames are not periodic by their pbc: they were taken as periodic with their"
        " Lattice, images and all."
    ]
