"""Refinement: what is new is labelled and learned, other data are refused; a killed one goes on."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import invoke
from conftest import COLD_K, SHORT, TEACHER_BASIS, Teacher, evaluate, present, run_of

from mld_ff.engines.settings import MD
from mld_ff.errors import CheckFailed, InputError
from mld_ff.loss.model import AgentLoss
from mld_ff.origin import UNCONVERGED, Origin
from mld_ff.progress import Progress
from mld_ff.sources.cp2k.run.launch import CP2K_VARIABLE
from mld_ff.trajectory import Trajectory
from mld_ff.units import HARTREE_PER_BOHR_TO_EV_PER_A
from mld_ff.workflows.refining.labels import check_labels
from mld_ff.workflows.refining.loop import Refinement, Settings, refine
from mld_ff.workflows.refining.round import Picked, RefinementRound
from mld_ff.workflows.rounds import begin

HOT_K = 450.0
SETTINGS = Settings(
    TEACHER_BASIS, nvt=MD(COLD_K, 0.2, every_fs=10.0), hot_K=(HOT_K,), frames_per_round=20
)


@pytest.fixture(scope="module")
def told() -> list[tuple[str, int, int]]:
    """The progress of `refined`."""
    return []


@pytest.fixture(scope="module")
def refined(
    cold_water: Trajectory,
    teacher: Teacher,
    tmp_path_factory: pytest.TempPathFactory,
    told: list[tuple[str, int, int]],
) -> tuple[Path, Refinement]:
    out = tmp_path_factory.mktemp("refine")
    progress: Progress = lambda *what: told.append(what)  # noqa: E731
    return out, refine(cold_water, out, SETTINGS, 1, teacher, progress=progress)


@pytest.mark.usefixtures("refined")
def test_every_part_of_a_round_is_a_stage_of_its_own(
    told: list[tuple[str, int, int]],
) -> None:
    stages: dict[str, list[tuple[int, int]]] = {}
    for what, done, total in told:
        stages.setdefault(what.partition(":")[0], []).append((done, total))
    assert {"round 1 examination", f"round 1 run-{HOT_K:g}K openmm"} <= stages.keys()
    for name, steps in stages.items():
        assert steps == sorted(steps) and len({total for _, total in steps}) == 1, name
        assert "run-" in name or steps[-1][0] == steps[-1][1], name  # runs may be stopped


def number_labelled(refined: tuple[Path, Refinement]) -> int:
    """Frames that the one round learned from."""
    return present(refined[1].rounds[0].labels).labelled


def rmse(loss: AgentLoss, frames: Trajectory) -> float:
    mine = present(Teacher(loss, frames[0]).label(frames).forces)
    return float(np.sqrt(((mine - present(frames.forces)) ** 2).mean()))


# --- the whole ------------------------------------------------------------------------------------


def test_hot_frames_that_nobody_saw_are_described_better(
    refined: tuple[Path, Refinement], cold_water: Trajectory, teacher: Teacher, tmp_path: Path
) -> None:
    """The teacher's own run, hot and from another frame, is what both models are held against."""
    out, refinement = refined
    first, last = AgentLoss.load(out / "round-1" / "model.json"), AgentLoss.load(out / "model.json")
    assert last == refinement.loss
    hot = teacher.label(
        run_of(
            teacher.loss, cold_water[3], tmp_path / "hot", MD(HOT_K, 0.2, every_fs=10.0, seed=77)
        )[10:]
    )
    assert rmse(last, hot) < rmse(first, hot)
    # the teacher's wall bends the attraction of hydrogen bonds within 0.1 Å, which no wall
    # elsewhere can copy
    names = [t.name for t in last.terms if t.name != "free:O-H"]
    apart = Teacher(teacher.loss.only(*names), cold_water[0]).label(hot)
    assert rmse(last.only(*names), apart) < 0.5 * rmse(first.only(*names), apart)


def test_what_a_round_tells(refined: tuple[Path, Refinement], teacher: Teacher) -> None:
    out, refinement = refined
    (told,) = refinement.rounds
    state = json.loads((out / "refine.json").read_text())
    assert state["rounds"] == json.loads(json.dumps([told.to_dict()]))
    assert told.labels is not None and 0 < told.labels.labelled <= 20
    assert not told.quiet and not refinement.finished
    assert teacher.asked[0] == told.labels.labelled + 1  # one that the source knows
    assert told.runs["run-450K"].new > told.runs["run-100K"].new
    assert present(told.labels.rmse_on_new_meV_per_A) > told.rmse_meV_per_A
    provenance = refinement.loss.provenance
    assert (provenance["frames_test"], provenance["frames_train"]) == (4, 16 + told.labels.labelled)
    assert {f.name for f in (out / "round-1").iterdir()} == {
        "model.json",
        "picked.json",
        "run-100K",
        "run-450K",
    }
    times = [
        (f["run"], f["frame"])
        for f in json.loads((out / "round-1/picked.json").read_text())["frames"]
    ]
    assert len(set(times)) == len(times)


def as_killed(refined: tuple[Path, Refinement], where: Path, *missing: str) -> Path:
    """A copy of the finished refinement as it stood before some of its files, and its round, were
    written.
    """
    shutil.copytree(refined[0], where)
    for name in ("model.json", *missing):
        (where / name).unlink()
    state = json.loads((where / "refine.json").read_text())
    (where / "refine.json").write_text(json.dumps({**state, "rounds": []}))
    return where


def test_killed_in_a_run_it_goes_on_and_comes_to_the_same(
    refined: tuple[Path, Refinement], cold_water: Trajectory, teacher: Teacher, tmp_path: Path
) -> None:
    out = as_killed(
        refined, tmp_path / "killed", "round-1/picked.json", "round-1/run-450K/trajectory.dcd"
    )
    kept, broken = (out / "round-1" / name / "run.json" for name in ("run-100K", "run-450K"))
    broken.write_text(broken.read_text().replace('"finished": true', '"finished": false'))
    before = kept.read_bytes()
    assert refine(cold_water, out, SETTINGS, 1, teacher) == refined[1]
    assert kept.read_bytes() == before, "a finished run was made again"
    assert (out / "model.json").read_bytes() == (refined[0] / "model.json").read_bytes()


def test_killed_before_and_while_frames_are_labelled(
    refined: tuple[Path, Refinement], cold_water: Trajectory, teacher: Teacher, tmp_path: Path
) -> None:
    def killed(*_: Any) -> Trajectory:
        raise KeyboardInterrupt

    out = as_killed(refined, tmp_path / "killed")
    with pytest.raises(KeyboardInterrupt):
        refine(cold_water, out, SETTINGS, 1, killed)
    assert not (out / "model.json").exists()
    assert refine(cold_water, out, SETTINGS, 1, teacher) == refined[1]


def test_labels_may_be_made_elsewhere(
    refined: tuple[Path, Refinement],
    cold_water: Trajectory,
    teacher: Teacher,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without CP2K its input is left, and a sentence; with CP2K's output beside it, the same call
    goes on.
    """
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv(CP2K_VARIABLE, raising=False)
    out = as_killed(refined, tmp_path / "elsewhere")
    with pytest.raises(
        InputError, match=r"frames wait for their forces in .*round-1/labels: no CP2K found"
    ) as said:
        refine(cold_water, out, SETTINGS, 1)
    assert "cp2k.psmp -i nnp.inp -o label.out" in str(
        said.value
    ) and "give this command again" in str(said.value)
    as_cp2k_writes(out / "round-1/labels", teacher)
    resumed = refine(cold_water, out, SETTINGS, 1)
    assert present(resumed.rounds[0].labels).labelled == number_labelled(refined)
    assert resumed.loss.provenance["rmse_meV_per_A"] == pytest.approx(
        refined[1].loss.provenance["rmse_meV_per_A"], rel=1e-4
    )


def as_cp2k_writes(labels: Path, teacher: Teacher) -> None:
    """label-pos-1.xyz, label-frc-1.xyz, label-1.ener and label-1.cell of the frames.xyz that lies
    there.
    """
    text = (labels / "frames.xyz").read_text()
    n = len(teacher.topology.symbols)
    lines = text.splitlines()
    cell = np.array(
        [
            [float(x) for x in row.split()[1:]]
            for row in (labels / "system.inc").read_text().splitlines()[1:4]
        ]
    )
    forces, energies, cells = [], ["# Step"], ["# Step"]
    for k in range(len(lines) // (n + 2)):
        head, rows = (
            lines[k * (n + 2) : k * (n + 2) + 2],
            lines[k * (n + 2) + 2 : (k + 1) * (n + 2)],
        )
        x = np.array([[float(v) for v in row.split()[1:]] for row in rows])
        f = evaluate(teacher.loss, teacher.topology, x, cell)[1] / HARTREE_PER_BOHR_TO_EV_PER_A
        atoms = zip(teacher.topology.symbols, f, strict=True)
        forces += [*head, *(f"{s} " + " ".join(f"{v:.10f}" for v in row) for s, row in atoms)]
        energies.append(f"{k + 1} 0.0 0.0 0.0 -1.0 0.0 0.0")
        cells.append(
            f"{k + 1} 0.0 "
            + " ".join(f"{v:.10f}" for v in cell.ravel())
            + f" {np.linalg.det(cell):.10f}"
        )
    for name, rows in (
        ("pos-1.xyz", lines),
        ("frc-1.xyz", forces),
        ("1.ener", energies),
        ("1.cell", cells),
    ):
        (labels / f"label-{name}").write_text("\n".join(rows) + "\n")


# --- refusals -------------------------------------------------------------------------------------


def test_other_settings_and_other_data_are_refused(
    refined: tuple[Path, Refinement], cold_water: Trajectory, teacher: Teacher, tmp_path: Path
) -> None:
    out, _ = refined
    other = replace(
        SETTINGS,
        nvt=replace(SETTINGS.nvt, time_ps=1.0),
        basis=replace(TEACHER_BASIS, bond_degree=2),
    )
    with pytest.raises(
        InputError, match=r"basis bond_degree was 4, now is 2; nvt time_ps was 0\.2, now is 1\.0"
    ):
        refine(cold_water, out, other, 1, teacher)
    with pytest.raises(InputError, match="begun with another reference"):
        refine(replace(cold_water, origin=Origin(sha256="other")), out, SETTINGS, 1, teacher)
    (tmp_path / "notes.txt").write_text("mine")
    done = invoke("refine", SHORT, "-o", tmp_path, "--json")
    assert (
        done.exit_code == 2
        and "is not empty and holds no refine.json" in json.loads(done.stdout)["error"]
    )
    (tmp_path / "refine.json").write_text("{")
    with pytest.raises(
        InputError, match=r"refine\.json:1: is not the state of a refinement: Expecting"
    ):
        refine(cold_water, tmp_path, SETTINGS, 1, teacher)


def continued(refined: tuple[Path, Refinement], cold_water: Trajectory, label: Any) -> Refinement:
    """What follows when the labels of the finished round are read again."""
    return refine(cold_water, refined[0], SETTINGS, 1, label)


def test_labels_of_another_method_are_refused(
    refined: tuple[Path, Refinement], cold_water: Trajectory, teacher: Teacher
) -> None:
    def other_method(*given: Any) -> Trajectory:
        labelled = teacher(*given)
        assert labelled.forces is not None
        return replace(labelled, forces=1.1 * labelled.forces)

    with pytest.raises(
        CheckFailed, match=r"differ from those of that run by .* \(10 % of the force"
    ):
        continued(refined, cold_water, other_method)
    with pytest.raises(InputError, match="labels of other frames"):
        continued(
            refined,
            cold_water,
            lambda *given: replace(labels := teacher(*given), positions=labels.positions + 0.01),
        )
    with pytest.raises(InputError, match="were to be labelled"):
        continued(refined, cold_water, lambda *given: teacher(*given)[:-1])


def test_labels_of_monstrous_forces_and_without_convergence_are_not_learned(
    refined: tuple[Path, Refinement], cold_water: Trajectory, teacher: Teacher, tmp_path: Path
) -> None:
    def monstrous(*given: Any) -> Trajectory:
        labelled = teacher(*given)
        assert labelled.forces is not None
        labelled.forces[-1, 5] = 50.0
        origin = replace(labelled.origin, frames_dropped={UNCONVERGED: 1})
        return replace(labelled, origin=origin)[np.array([0, *range(2, labelled.n_frames)])]

    (told,) = refine(
        cold_water, as_killed(refined, tmp_path / "monstrous"), SETTINGS, 1, monstrous
    ).rounds
    labels = present(told.labels)
    assert labels.labelled == number_labelled(refined) - 2
    assert labels.left_out[0].endswith("ps: its self-consistent field did not converge")
    assert "a force of 86.6 eV/Å" in labels.left_out[1]


# --- files that were edited between two commands --------------------------------------------------


def edited(file: Path, keys: tuple[str | int, ...], value: object) -> None:
    """Put a value into a file of JSON."""
    data = json.loads(file.read_text())
    inner = data
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    file.write_text(json.dumps(data))


@pytest.mark.parametrize(
    ("keys", "value", "said"),
    [
        (("rounds", 0, "runs"), [], "'list' object has no attribute 'items'"),
        (("rounds", 0), "x", "dictionary update sequence"),
        (("rounds", 0, "rmse_meV_per_A"), "9", "rmse_meV_per_A should be a finite number"),
        (("rounds", 0, "quiet"), "false", "does not hold what its rounds did"),
        (("rounds", 0, "round"), 2, "its rounds one after the other"),
        (("settings",), [], "is not the state of a refinement"),
    ],
)
def test_an_edited_state_is_refused(
    refined: tuple[Path, Refinement],
    tmp_path: Path,
    keys: tuple[str | int, ...],
    value: object,
    said: str,
) -> None:
    for name in ("refine.json", "model.json"):
        shutil.copy(refined[0] / name, tmp_path)
    state = tmp_path / "refine.json"
    head = {k: v for k, v in json.loads(state.read_text()).items() if k != "rounds"}
    assert len(begin(state, head, RefinementRound).rounds) == 1
    edited(state, keys, value)
    with pytest.raises(InputError, match=rf"refine\.json: .*{said}"):
        begin(state, head, RefinementRound)


@pytest.mark.parametrize(
    ("keys", "value", "said"),
    [
        (("runs",), 1, "does not hold what was picked"),
        (("threshold",), None, "threshold should be a finite number"),
        (("frames", 0, "frame"), -1, "frame -1 of .* is none of the runs"),
        (("frames", 0, "frame"), 10**6, "is none of the runs"),
        (("frames", 0, "run"), "../elsewhere", "of '../elsewhere' is none of the runs"),
    ],
)
def test_an_edited_choice_is_refused(
    refined: tuple[Path, Refinement],
    tmp_path: Path,
    keys: tuple[str | int, ...],
    value: object,
    said: str,
) -> None:
    shutil.copy(refined[0] / "round-1/picked.json", tmp_path)
    edited(tmp_path / "picked.json", keys, value)
    with pytest.raises(InputError, match=rf"picked\.json: .*{said}"):
        Picked.read(tmp_path / "picked.json")


def test_labels_of_other_atoms_are_refused(cold_water: Trajectory) -> None:
    fewer = cold_water.select_atoms(np.arange(3))
    labels = replace(fewer, step=np.arange(1, fewer.n_frames + 1))
    with pytest.raises(InputError, match="labels of other frames"):
        check_labels(Path("labels"), cold_water, labels, cold_water)
    with pytest.raises(InputError, match="give this command again: it goes on"):
        check_labels(Path("labels"), cold_water, labels[:2], cold_water)
