"""Data that lie: what contradicts itself is told with its likely cause, and nothing else is."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from conftest import CUBE, frame_of, liquid, present
from cp2k_output import DATA
from hypothesis import given, settings
from hypothesis import strategies as st

from mld_ff.cli import main
from mld_ff.consistency import contradictions, examine
from mld_ff.consistency.boundary import look_at
from mld_ff.consistency.mechanics import Mechanics
from mld_ff.consistency.repeats import Prints, told_of
from mld_ff.consistency.words import lies
from mld_ff.errors import InputError
from mld_ff.inference import Basis, fit
from mld_ff.origin import Origin
from mld_ff.policy import FORCED
from mld_ff.sources import open_source
from mld_ff.sources.cp2k import read_cp2k
from mld_ff.sources.cp2k.read.advice import REMEDIES
from mld_ff.sources.cp2k.read.inputfile import parse_input
from mld_ff.sources.cp2k.read.method import method_of
from mld_ff.trajectory import Floats, Trajectory
from mld_ff.units import AMU_A2_PER_FS2_TO_EV

EXAMPLES = Path(__file__).parent.parent / "examples"
NAMES = ("water every 10 fs", "acid every 10 fs", "silica every 40 fs", "argon", "fixed atoms")
SYSTEMS = st.sampled_from(NAMES)
FACTORS = st.floats(0.7, 5).map(lambda x: 10**x) | st.floats(-5, -0.7).map(lambda x: 10**x)
few = settings(max_examples=10, deadline=None, database=None)


@cache
def read(name: str) -> Trajectory:
    frames = {
        "acid every 10 fs": lambda: read_cp2k(EXAMPLES / "acid" / "cp2k"),
        "silica every 40 fs": lambda: read_cp2k(EXAMPLES / "silica" / "cp2k"),
        "argon": lambda: read_cp2k(DATA / "argon"),
        "fixed atoms": lambda: read_cp2k(DATA / "fixed"),
        "water every 10 fs": lambda: next(open_source(EXAMPLES / "water" / "cp2k").chunks(64)),
    }[name]()
    return frames[:64]


def told(frames: Trajectory) -> list[str]:
    """Of forces, energies, times and velocities, without the advice."""
    return [lie.split(". ")[0] for lie in lies(Mechanics(frames), frames.origin)]


def twice(frames: Trajectory, **fields: Any) -> Trajectory:
    """Once more after their end."""
    names = ("positions", "cell", "time", "step", "forces", "energy")
    arrays: dict[str, Any] = {
        name: np.concatenate([getattr(frames, name), fields.get(name, getattr(frames, name))])
        for name in names
    }
    return replace(frames, velocities=None, stress=None, **arrays)


# --- honest data ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_said_of_honest_data(name: str) -> None:
    assert examine(read(name)).lies == ()
    assert told(read(name)[::2]) == []


@pytest.mark.parametrize("name", sorted(p.name for p in DATA.iterdir()))
def test_nothing_is_said_of_any_other_data(name: str) -> None:
    """NPT, thermostats, frames 2 to 400 fs apart, single points, salts."""
    source = open_source(DATA / name, require_forces=None)
    assert examine(next(source.chunks(24))).lies == ()


@settings(max_examples=30, deadline=None, database=None)
@given(SYSTEMS, st.integers(0, 40), st.integers(1, 8), st.integers(5, 64))
def test_nothing_is_said_of_a_part(name: str, start: int, every: int, length: int) -> None:
    """Few frames, far apart: chance correlates forces and energies in some."""
    assert told(read(name)[start::every][:length]) == []


def test_nothing_is_said_of_a_few_frames_of_brine() -> None:
    assert told(read_cp2k(DATA / "brine")[84:95]) == []  # a correlation of 0.18, by chance


@few
@given(SYSTEMS, st.integers(0, 100))
def test_images_do_not_matter(name: str, seed: int) -> None:
    frames, rng = read(name), np.random.default_rng(seed)
    images = rng.integers(-2, 3, size=frames.positions.shape)
    moved = frames.positions + np.einsum("fpc,fcd->fpd", images, frames.cell)
    assert told(replace(frames, positions=moved)) == []


def test_what_cannot_be_checked_is_said() -> None:
    frames = replace(read("water every 10 fs"), energy=None, velocities=None)
    far = "frames are too far apart"
    expected: tuple[str, ...] = ("forces against energies: there are no energies",)
    expected += (f"forces against accelerations: {far}",)
    assert examine(frames).unchecked == expected
    assert examine(replace(frames[:3], forces=None)).unchecked == ()
    other = examine(replace(frames, cell=3 * frames.cell)).unchecked[2]
    assert other.startswith("the cell: a = 37.33 Å (hardly any atoms face each other along it: 2")


def gas(stride_fs: float, seed: int, frames: int = 60) -> Trajectory:
    """16 molecules of N₂ that fly, turn, vibrate and do not see each other, by formulas."""
    rng, kT, m = np.random.default_rng(seed), 0.02585, 14.007
    stiffness, edge, per_amu = 143.0, 12.0, AMU_A2_PER_FS2_TO_EV
    first, second = np.linalg.qr(rng.normal(size=(16, 3, 2)))[0].transpose(2, 0, 1)
    angular = np.abs(rng.normal(size=16)) * np.sqrt(kT / per_amu / (m / 2)) / 1.1
    time = np.arange(frames, dtype=np.float64) * stride_fs
    angle = angular * time[:, None]
    along = np.cos(angle)[..., None] * first + np.sin(angle)[..., None] * second
    size = np.sqrt(2 * kT * rng.exponential(size=16) / stiffness)
    phase = rng.uniform(0, 2 * np.pi, 16)
    longer = size * np.cos(np.sqrt(2 * stiffness / per_amu / m) * time[:, None] + phase)
    centre = rng.uniform(0, edge, (16, 3))
    centre = centre + rng.normal(0, np.sqrt(kT / per_amu / 2 / m), (16, 3)) * time[:, None, None]
    half = (1.1 + longer)[..., None] * along / 2
    force = stiffness * longer[..., None] * along
    start = frame_of(["N"] * 32, np.zeros((32, 3)), edge * np.eye(3))
    return replace(
        start,
        positions=np.stack([centre - half, centre + half], axis=2).reshape(frames, 32, 3),
        cell=np.repeat(start.cell, frames, axis=0),
        time=time,
        step=np.arange(frames),
        forces=np.stack([force, -force], axis=2).reshape(frames, 32, 3),
        energy=stiffness / 2 * (longer**2).sum(axis=1),
    )


@pytest.mark.parametrize("stride_fs", [50.0, 200.0])
def test_a_gas_may_turn_as_far_as_it_likes(stride_fs: float) -> None:
    """Along straight lines its stiff bonds did up to a hundred times the work of their forces."""
    for seed in range(2):
        frames = gas(stride_fs, seed)
        assert examine(frames).lies == ()
        if stride_fs <= 50:
            assert told(replace(frames, forces=2 * present(frames.forces)))[0].startswith(
                "forces are 2"
            )


# --- planted lies ---------------------------------------------------------------------------------


@few
@given(SYSTEMS, FACTORS, st.booleans())
def test_forces_in_other_units(name: str, factor: float, is_reversed: bool) -> None:
    frames = read(name)
    sign = -1 if is_reversed else 1
    (said,) = told(replace(frames, forces=sign * factor * present(frames.forces)))
    large = f"{'large' if factor > 1 else 'small'}"
    assert said.startswith("forces are ") and f"times too {large}" in said
    found = float(said.split()[2])
    assert found == pytest.approx(max(factor, 1 / factor), rel=0.25)
    assert ("wrong sign" in said) == is_reversed


UNITS = {51.4220675: "eV/Å", 1185.82: "kcal/mol/Å", 4961.5: "kJ/mol/Å", 49614.7: "kJ/mol/nm"}


@pytest.mark.parametrize("factor", UNITS)
@pytest.mark.parametrize("name", NAMES)
def test_the_unit_is_named(name: str, factor: float) -> None:
    frames = read(name)
    (said,) = told(replace(frames, forces=factor * present(frames.forces)))
    assert f"(as {UNITS[factor]} taken for hartree/bohr would be)" in said


@few
@given(SYSTEMS)
def test_forces_of_the_wrong_sign(name: str) -> None:
    frames = read(name)
    (said,) = told(replace(frames, forces=-present(frames.forces)))
    assert said.startswith("forces have the wrong sign, by ")


@few
@given(SYSTEMS, st.sampled_from([1, -1]), st.sampled_from([1.0, -1.0]))
def test_forces_of_another_frame(name: str, by: int, sign: float) -> None:
    frames = read(name)
    rolled = sign * np.roll(present(frames.forces), -by, axis=0)
    lying = replace(frames, forces=rolled)[1:-1]
    (said,) = told(lying)
    wrong = " and have the wrong sign" if sign < 0 else ""
    which = "next" if by > 0 else "previous"
    assert said.startswith(f"every frame has the forces of the {which} one{wrong}, by ")


@pytest.mark.parametrize("case", ["axes exchanged", "x reversed", "backwards"])
def test_forces_of_other_positions(case: str) -> None:
    frames = read("water every 10 fs")
    f = present(frames.forces)
    lies = {"axes exchanged": f[..., [1, 0, 2]], "x reversed": f * [-1, 1, 1], "backwards": f[::-1]}
    (said,) = told(replace(frames, forces=lies[case]))
    assert said.startswith("forces are not those of these positions (a correlation of ")


@few
@given(FACTORS, st.booleans())
def test_velocities_in_other_units(factor: float, is_reversed: bool) -> None:
    frames = read("water every 10 fs")
    sign = -1 if is_reversed else 1
    (said,) = told(replace(frames, velocities=sign * factor * present(frames.velocities)))
    assert said.startswith("velocities are ")
    assert float(said.split()[2]) == pytest.approx(max(factor, 1 / factor), rel=0.2)
    assert ("wrong sign" in said) == is_reversed


@few
@given(st.sampled_from(NAMES[3:]), FACTORS)
def test_times_and_energies(name: str, factor: float) -> None:
    """Where frames are close, forces and accelerations tell who lies."""
    frames = read(name)
    (said,) = told(replace(frames, time=factor * frames.time))
    assert said.startswith("times are ")
    assert float(said.split()[2]) == pytest.approx(max(factor, 1 / factor), rel=0.05)
    (said,) = told(replace(frames, energy=factor * present(frames.energy)))
    before = "energies are not those of these forces: they change "
    assert said.startswith(before)
    assert float(said.removeprefix(before).split()[0]) == pytest.approx(factor, rel=0.05)


@settings(max_examples=6, deadline=None, database=None)
@given(
    st.sampled_from(["water every 10 fs", "silica every 40 fs"]),
    st.integers(0, 2),
    st.sampled_from([0.94, 0.95, 1.12, 1.15, 1.2]),
    st.booleans(),
)
def test_a_cell_that_is_not_the_cell(
    name: str, vector: int, factor: float, is_wrapped: bool
) -> None:
    frames = read(name)[:8]
    if is_wrapped:
        s = frames.positions @ np.linalg.inv(frames.cell[0])
        frames = replace(frames, positions=(s - np.floor(s)) @ frames.cell[0])
    cell = frames.cell.copy()
    cell[:, vector] *= factor
    errors = look_at([frames[k : k + 1] for k in range(8)]).errors_A
    assert errors == (0.0, 0.0, 0.0)
    errors = look_at([replace(frames, cell=cell)[k : k + 1] for k in range(8)]).errors_A
    assert np.sign(errors).tolist() == [np.sign(factor - 1) * (k == vector) for k in range(3)]
    length = float(np.linalg.norm(frames.cell[0, vector]))
    assert abs(errors[vector]) < 3 * abs(factor - 1) * length


def test_the_cell_is_named() -> None:
    frames = read("silica every 40 fs")
    (lie,) = examine(replace(frames, cell=frames.cell * np.array([1.0, 1.0, 1.05]))).lies
    assert lie.startswith(
        "the cell does not fit the positions: by atoms at its faces c, 15.036 Å, is too long by"
    )
    assert "--file cells=FILE" in lie


def test_lies_that_begin_within() -> None:
    """A run that was continued with other settings of what is printed."""
    frames = read("silica every 40 fs")
    longer = twice(twice(frames), forces=51.4 * np.tile(present(frames.forces), (2, 1, 1)))
    assert examine(longer[:128]).lies == ()
    (lie,) = examine(longer).lies
    assert lie.startswith("forces are ") and "eV/Å taken for hartree/bohr" in lie


# --- frames given twice ---------------------------------------------------------------------------


def against(*runs: Trajectory) -> list[str]:
    return contradictions([examine(run) for run in runs])


def test_frames_that_are_given_twice() -> None:
    frames = read("silica every 40 fs")
    some = frames[10:40:2]
    copy = replace(some, positions=some.positions.round(4) + frames.cell[0, 0])
    (said,) = against(frames, copy)
    assert said.startswith(
        "15 frames are given twice (frame 1 of run 2 is frame 11 of run 1): what"
    )
    assert against(frames[:50], frames[49:]) == []  # a run that was continued
    assert against(twice(frames[:20]))[-1].startswith(
        "20 frames are given twice (frame 21 is frame 1): what errors are told on"
    )


def test_labels_of_two_methods() -> None:
    frames = read("silica every 40 fs")
    noise = np.random.default_rng(0).normal(size=present(frames.forces).shape)
    other = replace(frames, forces=present(frames.forces) + 0.2 * noise)
    (said,) = against(frames, other)
    assert said.endswith("with other forces: labels of two methods; give those of one")
    shifted = replace(frames[:40], energy=present(frames.energy)[:40] + 2.0 * frames.n_atoms)
    (said,) = against(frames[50:], shifted)
    assert said == (
        "the potential energies of run 1 and run 2 differ by 2 eV per atom: they are of two"
        " methods; give runs of one"
    )
    runs = [frames[:32], frames[32:]]
    named = [
        replace(run, origin=Origin(method=method_of(parse_input(DATA / path))))
        for run, path in zip(runs, ("blyp/dft.inp", "argon/argon.inp"), strict=True)
    ]
    assert against(*named) == [
        "the runs are of several methods (run 1 QS BECKE88 LYP DFTD3, run 2 FIST): give runs of one"
    ]


# --- where it is said -----------------------------------------------------------------------------


def test_a_fit_refuses_unless_forced() -> None:
    frames = read("water every 10 fs")
    lying = replace(frames, forces=-present(frames.forces), origin=Origin(remedies=REMEDIES))
    basis = Basis("power", (3.0,), cutoff_A=3.0, bond_degree=2)
    with pytest.raises(InputError) as caught:
        fit(lying, basis)
    assert str(caught.value) == (
        "forces have the wrong sign, by the change of the potential energy."
        f" {REMEDIES.inconsistent} {FORCED}"
    )
    warnings = fit(lying, basis, force=True).loss.provenance["warnings"]
    assert warnings[0].startswith("forces have the wrong sign")


def test_inspect_tells(capsys: pytest.CaptureFixture[str]) -> None:
    main(["inspect", str(DATA / "argon")])
    out = " ".join(capsys.readouterr().out.split())
    assert "not checked: the cell: a = 13 Å (hardly any atoms face each other along it" in out


# --- honest data that look odd --------------------------------------------------------------------


def labelled(positions: Floats, crystal: Atoms) -> Trajectory:
    """Single points of a crystal, by EMT."""
    energies, forces = [], []
    for x in positions:
        atoms = crystal.copy()
        atoms.positions, atoms.calc = x, EMT()
        energies.append(atoms.get_potential_energy())
        forces.append(atoms.get_forces())
    frame = frame_of(crystal.get_chemical_symbols(), positions[0], crystal.cell[:])
    n = len(positions)
    return replace(
        frame,
        positions=positions,
        cell=np.repeat(frame.cell, n, axis=0),
        time=np.zeros(n),
        step=np.arange(n),
        forces=np.array(forces),
        energy=np.array(energies),
        origin=Origin(is_dynamics=False),
    )


def test_single_points_in_any_order_are_no_lies() -> None:
    """Rattled by little and by much: intervals between them are far, and the rule errs by 2; a
    wrong unit is still told."""
    crystal = bulk("Cu", cubic=True) * 2
    rng = np.random.default_rng(3)
    sizes = rng.uniform(0.02, 0.35, size=(20, 1, 1))
    frames = labelled(crystal.positions + sizes * rng.normal(size=(20, 32, 3)), crystal)
    assert contradictions([examine(frames)]) == []
    assert frames.forces is not None
    (lie,) = contradictions([examine(replace(frames, forces=51.4 * frames.forces))])
    assert "forces are far too large" in lie


def test_finite_displacements_are_no_repeats() -> None:
    crystal = bulk("Cu", cubic=True) * 2
    moves = [(atom, axis, d) for atom in (0, 9, 20) for axis in range(3) for d in (0.01, -0.01)]
    positions = np.repeat(crystal.positions[None], len(moves), axis=0)
    for k, (atom, axis, d) in enumerate(moves):
        positions[k, atom, axis] += d
    assert contradictions([examine(labelled(positions, crystal))]) == []


def test_energies_of_other_mixtures_do_not_compare() -> None:
    few, more = (
        Prints.of(replace(liquid(["H2O"] * n + ["Na"], CUBE), energy=np.array([-468.0 * n - 1300])))
        for n in (8, 12)
    )
    assert told_of([few, more]) == []
