"""Boxes packed here: the molecules asked for, whole, at their density, and apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.io import write
from ase.neighborlist import neighbor_list
from conftest import waters
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mld_ff.errors import InputError
from mld_ff.geometry.topology import find_topology
from mld_ff.sources.packing import Ingredient, contact_limit, find_molecule, pack, replicate
from mld_ff.trajectory import Trajectory
from mld_ff.units import AMU_PER_A3_TO_G_PER_CM3


def contacts(frame: Trajectory, size: int) -> dict[tuple[str, str], float]:
    """ASE's shortest distance between molecules of `size` atoms, periodic images included, by
    elements.
    """
    atoms = Atoms(frame.symbols, positions=frame.positions[0], cell=frame.cell[0], pbc=True)
    i, j, r, shift = neighbor_list("ijdS", atoms, 3.5)
    apart = (i // size != j // size) | (shift != 0).any(axis=1)
    shortest: dict[tuple[str, str], float] = {}
    for a, b, distance in zip(i[apart], j[apart], r[apart], strict=True):
        pair = (frame.symbols[a], frame.symbols[b])
        shortest[pair] = min(shortest.get(pair, 9.0), float(distance))
    return shortest


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.sampled_from([("H2O", 1.1), ("CH3OH", 0.85), ("NH3", 0.7), ("C6H6", 0.85), ("CH3CN", 0.8)]),
    st.integers(1, 40),
    st.floats(0.3, 1.0),
    st.integers(0, 9),
)
def test_packed_molecules_keep_count_density_shape_and_distance(
    liquid: tuple[str, float], count: int, dilution: float, seed: int
) -> None:
    name, densest = liquid
    molecule = find_molecule(name)
    if name in ("C6H6", "CH3CN"):
        count = max(count, 8)  # a flat or long molecule does not fit into a cube of its own volume
    frame = pack([Ingredient(molecule, count)], densest * dilution, seed)
    assert frame.symbols == tuple(molecule.get_chemical_symbols()) * count
    volume = np.linalg.det(frame.cell[0])
    assert frame.masses.sum() / volume * AMU_PER_A3_TO_G_PER_CM3 == pytest.approx(
        densest * dilution
    )
    for (a, b), shortest in contacts(frame, len(molecule)).items():
        assert shortest >= contact_limit(a, b) - 1e-6, (a, b)
    for x in frame.positions[0].reshape(count, -1, 3):
        inner = np.linalg.norm(x[:, None] - x, axis=-1)
        assert inner == pytest.approx(molecule.get_all_distances(), abs=1e-6)


def test_packing_is_liquid_like_and_repeatable() -> None:
    frame = waters(64)
    assert find_topology(frame.symbols, frame.positions[0], frame.cell[0]).formulas() == {"H2O": 64}
    assert (frame.positions == waters(64).positions).all()
    assert (frame.positions != waters(64, seed=2).positions).any()
    assert contact_limit("O", "H") == pytest.approx(1.768)


def test_a_mixture_has_all_its_molecules(tmp_path: Path) -> None:
    file = tmp_path / "methanol.xyz"
    write(file, find_molecule("CH3OH"))
    mixture = [Ingredient(find_molecule("H2O"), 20), Ingredient(find_molecule(str(file)), 5)]
    frame = pack(mixture, 0.9)
    topology = find_topology(frame.symbols, frame.positions[0], frame.cell[0])
    assert topology.formulas() == {"H2O": 20, "CH4O": 5}


def test_what_cannot_be_packed_is_said() -> None:
    with pytest.raises(InputError, match=r"do not fit into a cube of .* lower the density"):
        waters(8, density=4.0)
    with pytest.raises(InputError, match="CH3OH"):
        find_molecule("CH3OHH")
    with pytest.raises(InputError, match="positive density"):
        waters(8, density=0)
    with pytest.raises(
        InputError, match=r"^3e\+08 atoms are asked for; a box holds at most 1e\+07$"
    ):
        waters(10**8)
    with pytest.raises(InputError, match=r"^3e\+09 atoms are asked for"):
        replicate(waters(1), (1000, 1000, 1000))
    with pytest.raises(InputError, match=r"^the seed is -1"):
        pack([Ingredient(find_molecule("H2O"), 1)], 1.0, seed=-1)
