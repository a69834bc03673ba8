"""Shards: whatever way frames are cut up, in files, processes or jobs, the sums and the loss are
those of one pass.
"""

from __future__ import annotations

import json
import lzma
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import invoke
from conftest import EXAMPLE, liquid, topology_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mld_ff.errors import InputError
from mld_ff.inference import (
    Accumulated,
    Basis,
    Part,
    accumulate,
    fit,
    read_shard,
    read_shards,
    solve,
    write_shard,
)
from mld_ff.loss.model import AgentLoss
from mld_ff.loss.terms import PairTerm
from mld_ff.origin import Origin
from mld_ff.sources.cp2k import open_cp2k
from mld_ff.trajectory import Trajectory

ROOT = Path(__file__).parents[1]
BASIS = Basis("spline", spacing_A=0.5, bond_degree=2, cutoff_A=5.0, accuracy="pairs")


def assert_same_coefficients(loss: AgentLoss, expected: AgentLoss) -> None:
    """To 1e-10 of the largest of each term, the agents' too; everything else of the terms to the
    bit.
    """
    pairs = list(zip(loss.terms, expected.terms, strict=True))
    for species, terms in expected.agents.items():
        pairs += zip(loss.agents[species], terms, strict=True)
    for a, b in pairs:
        size = max(map(abs, b.coefficients))
        assert a.coefficients == pytest.approx(b.coefficients, rel=1e-10, abs=1e-10 * size), a.name
        assert a.coverage == b.coverage, a.name
        assert isinstance(a, PairTerm) and isinstance(b, PairTerm)
        assert [w.edge_A for w in a.walls] == [w.edge_A for w in b.walls], a.name


@pytest.fixture(scope="module")
def two(few: Trajectory) -> list[Trajectory]:
    """Two runs of 16 molecules, told apart by their sources as those in files are; with stress."""
    few = few.select_atoms(np.concatenate(topology_of(few[0]).molecules[:16]))
    stress = 0.003 * np.random.default_rng(0).normal(size=(40, 3, 3))
    few = replace(few, stress=stress + stress.swapaxes(1, 2))
    cold = replace(few[:20], origin=replace(few.origin, sha256="cold"))
    return [cold, replace(few[20:], origin=replace(few.origin, sha256="warm"))]


@pytest.fixture(scope="module")
def one_pass(two: list[Trajectory]) -> AgentLoss:
    return fit(two, BASIS).loss


@pytest.fixture
def shard(two: list[Trajectory], tmp_path: Path) -> Callable[..., Path]:
    """Accumulate into a file of its own."""

    def write(name: str, source: Any = None, layout: Any = BASIS.terms, part: str = "1/1") -> Path:
        write_shard(
            accumulate(two if source is None else source, layout, part=Part.parse(part)),
            tmp_path / name,
        )
        return tmp_path / name

    return write


def refusal(files: list[Path]) -> str:
    with pytest.raises(InputError) as caught:
        read_shards(files)
    return str(caught.value)


# --- the same numbers -----------------------------------------------------------------------------


@settings(
    deadline=None, max_examples=4, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(order=st.integers(2, 9).flatmap(lambda n: st.permutations(range(1, n + 1))))
def test_parts_make_the_whole(
    order: list[int], shard: Callable[..., Path], one_pass: AgentLoss, two: list[Trajectory]
) -> None:
    """Cut anywhere, in any order; blocks are those of the whole."""
    data = read_shards([shard(f"{k}.npz", part=f"{k}/{len(order)}") for k in order])
    tenths = [np.bincount(np.arange(run.n_frames) * 10 // run.n_frames) for run in two]
    assert data.frames == 40 and data.frames_per_block == np.sum(tenths, axis=0).tolist()
    merged = solve(data).loss
    assert_same_coefficients(merged, one_pass)
    without_walls = solve(accumulate(two, BASIS.terms)).loss.provenance["relative_rmse"]
    expected = {
        k: v
        for k, v in one_pass.provenance.items()
        if "rmse" not in k and k not in ("errors_include_walls", "pressure_offset_bar", "unchecked")
    }
    found = dict(merged.provenance)
    for key, value in expected.items():
        assert found[key] == (pytest.approx(value) if isinstance(value, float) else value), key
    assert merged.domain == replace(one_pass.domain, densities_g_per_cm3=None)
    assert merged.provenance["errors_include_walls"] is False
    assert merged.provenance["relative_rmse_agent"] == pytest.approx(
        one_pass.provenance["relative_rmse_agent"]
    )
    assert merged.provenance["relative_rmse"] == pytest.approx(without_walls)


def test_runs_accumulated_on_their_own(
    shard: Callable[..., Path], two: list[Trajectory], one_pass: AgentLoss
) -> None:
    """A later run goes on with the functions of an earlier one; provenance names both."""
    first = shard("cold.npz", two[0])
    later = [shard(f"warm-{k}.npz", two[1], read_shard(first), f"{k}/2") for k in (1, 2)]
    merged = solve(read_shards([first, *later])).loss
    assert_same_coefficients(merged, one_pass)
    assert [run["sha256"] for run in merged.provenance["source"]["runs"]] == ["cold", "warm"]


def test_every_run_has_frames_for_training_and_for_testing(
    two: list[Trajectory], few: Trajectory
) -> None:
    """Nonsense in the fifth and the last tenth of either run teaches nothing."""
    runs = []
    for run in two:
        assert run.forces is not None
        forces = run.forces.copy()
        block = np.arange(run.n_frames) * 10 // run.n_frames
        forces[block % 5 == 4] = np.random.default_rng(0).normal(size=forces[block % 5 == 4].shape)
        runs.append(replace(run, forces=forces))
    expected, misled = fit(two, BASIS).loss, fit(runs, BASIS, force=True).loss
    assert misled.terms == expected.terms
    assert min(misled.provenance["relative_rmse"].values()) > 1


def test_an_error_in_a_process_is_that_error(few: Trajectory) -> None:
    wrong = replace(few[:8], symbols=("N", *few.symbols[1:]))
    with pytest.raises(InputError, match="0 processes are asked for"):
        fit(wrong, BASIS, processes=0)


@pytest.mark.parametrize(("start", "stop"), [(0, 3), (1, 2), (2, None), (2, 2)])
def test_part_of_a_source_is_that_part_of_its_frames(start: int, stop: int | None) -> None:
    source = open_cp2k(ROOT / "tests/data/cp2k/water64")
    whole, parts = source.read(), list(source.chunks(1, start, stop))
    assert len(parts) == len(range(source.n_frames)[start:stop])
    for k, part in enumerate(parts, start):
        for name in ("positions", "forces", "velocities", "energy", "step", "cell"):
            assert np.array_equal(getattr(part, name)[0], getattr(whole, name)[k]), name


# --- the command line -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two runs of 24 frames as CP2K prints them, cut from the example."""
    directories = []
    for number in range(2):
        directory = tmp_path_factory.mktemp(f"run-{number}")
        for role in ("pos", "frc"):
            with lzma.open(EXAMPLE / f"w64-{role}-1.xyz.xz", "rt") as file:
                lines = [next(file) for _ in range(48 * 194)]
            (directory / f"w64-{role}-1.xyz").write_text(
                "".join(lines[number * 24 * 194 : (number + 1) * 24 * 194])
            )
        for name in ("nnp.inp", "coord.inc"):
            (directory / name).write_text((EXAMPLE / name).read_text())
        directories.append(directory)
    return directories


def test_job_array_of_the_example(runs: list[Path], tmp_path: Path) -> None:
    """The shipped script, its scheduler replaced by a loop; then `fit`, beside a fit of the runs
    themselves.
    """
    command = tmp_path / "bin" / "mld-ff"
    command.parent.mkdir()
    command.write_text(
        f'#!/bin/sh\nexec {sys.executable} -c "from mld_ff.cli import main; main()" "$@"\n'
    )
    command.chmod(0o755)
    for task in (1, 2):
        environment = {
            "PATH": f"{command.parent}:{os.environ['PATH']}",
            "SLURM_ARRAY_TASK_COUNT": "2",
        }
        environment |= {"SLURM_ARRAY_TASK_ID": str(task), "PYTHONPATH": str(ROOT)}
        script = f"{ROOT}/examples/cluster/accumulate.sh"
        call = ["bash", script, *map(str, runs), "--basis", "power"]
        job = subprocess.run(
            call, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert job.returncode == 0, job.stderr
        assert f"shards/{task}.npz: 24 frames, part {task}/2" in job.stdout
    shards = sorted((tmp_path / "shards").iterdir())
    models = []
    for inputs in (shards, [*runs, "--basis", "power"]):
        done = invoke("fit", *inputs, "-o", tmp_path / "model.json", "--json", "--overwrite")
        assert done.exit_code == 0, done.stderr
        models.append((json.loads(done.stdout), AgentLoss.load(tmp_path / "model.json")))
    assert_same_coefficients(models[0][1], models[1][1])
    assert (models[0][0]["errors_include_walls"], models[1][0]["errors_include_walls"]) == (
        False,
        True,
    )
    assert models[0][0]["frames_train"] + models[0][0]["frames_test"] == 48


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["fit", "a.npz", "b.npz", "--cutoff", "5", "-o", "m.json"],
            "without options that choose functions or frames",
        ),
        (
            ["fit", "a.npz", "elsewhere", "-o", "m.json"],
            "without options that choose functions or frames",
        ),
        (["fit", "a.npz", "-o", "m.json"], "a.npz: cannot be read: No such file or directory"),
        (["accumulate", "x", "-o", "shard"], "shard: give it a name that ends in .npz"),
        (
            ["accumulate", "x", "--like", "a.npz", "--basis", "power", "-o", "s.npz"],
            "a.npz tells the functions",
        ),
        (
            ["accumulate", str(ROOT / "tests/data/cp2k/water64"), "--part", "9/8", "-o", "s.npz"],
            "there is no part 9/8: parts are 1/N to N/N",
        ),
        (
            ["accumulate", str(ROOT / "tests/data/cp2k/water64"), "--part", "3", "-o", "s.npz"],
            "a part is K/N, 3/8 for example; found '3'",
        ),
    ],
)
def test_options_that_do_not_fit(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = invoke(*arguments)
    assert done.exit_code == 2 and said in done.stderr.replace("\n", " "), done.stderr
    assert list(tmp_path.iterdir()) == []


# --- shards that do not make a whole --------------------------------------------------------------


def test_what_was_said_against_frames_is_told_by_the_fit(
    two: list[Trajectory], tmp_path: Path
) -> None:
    shards = []
    for k, said in enumerate(("forces are 3 times too large", "they were given twice")):
        data = accumulate(two, BASIS.terms, part=Part(k + 1, 2))
        data.warnings = (said,)
        write_shard(data, tmp_path / f"{k}.npz")
        shards.append(tmp_path / f"{k}.npz")
    warnings = solve(read_shards(shards)).loss.provenance["warnings"]
    assert warnings[:2] == ["forces are 3 times too large", "they were given twice"]


def test_missing_parts_and_parts_that_come_twice(
    shard: Callable[..., Path], two: list[Trajectory]
) -> None:
    third = [shard(f"{k}.npz", part=f"{k}/3") for k in (1, 2, 3)]
    assert refusal(third[1:2]).endswith("of 3 parts there is no part 1, 3")
    assert (
        refusal([*third, third[1]])
        == f"{third[1]}: holds the same frames as {third[1]}; they would count twice"
    )
    half = shard("half.npz", part="1/2")
    assert refusal([third[0], half]).endswith("parts of 2 and of 3 do not make a whole")
    alone = shard("alone.npz", two[0])
    assert refusal([*third, alone]).endswith("this run was accumulated twice; take one")
    other_name = replace(two[0], origin=replace(two[0].origin, sha256="0" * 64))
    copy = shard("copy.npz", other_name, read_shard(alone))
    assert refusal([alone, copy]) == (
        f"{copy}: holds the same frames as {alone}; they would count twice"
    )
    skipped = replace(
        two[0][3:], origin=replace(two[0].origin, frames_dropped={"skipped as equilibration": 3})
    )
    assert refusal([alone, shard("skipped.npz", skipped, read_shard(alone))]).endswith(
        "twice; take one"
    )


def test_functions_that_differ(shard: Callable[..., Path], two: list[Trajectory]) -> None:
    cold, warm = shard("cold.npz", two[0]), shard("warm.npz", two[1])
    said = refusal([cold, warm])
    assert said.startswith(
        f"{warm}: was accumulated with other functions than {cold} (bonded:O-H: r0_A 0.9"
    )
    assert said.endswith(f"accumulate it again with --like {cold}")
    other = shard("other.npz", two[1], Basis("power").terms)
    assert "other functions" in refusal([cold, other])
    short = shard("short.npz", replace(two[1][:8], origin=Origin()), read_shard(cold))
    assert read_shards([cold, short]).frames == 20 + 8
    assert "has 4 blocks of frames" in refusal(
        [cold, shard("few.npz", replace(two[1][:8], origin=Origin()))]
    )


def test_another_system(shard: Callable[..., Path], two: list[Trajectory]) -> None:
    frame = liquid(["H2O"] * 20 + ["NH3"] * 4, 12.444661 * np.eye(3))
    other = replace(
        frame,
        positions=frame.positions.repeat(8, axis=0),
        cell=frame.cell.repeat(8, axis=0),
        time=100.0 * np.arange(8.0),
        step=np.arange(8),
        forces=np.ones((8, frame.n_atoms, 3)),
    )
    expected = (
        r"16 H2O has not the same kinds of pairs as 20 H2O, 4 H3N: only runs of one system add up"
    )
    for wrong in ([other, two[0]], [two[0], other]):
        with pytest.raises(InputError, match="has not the same kinds of pairs as"):
            accumulate(wrong, BASIS.terms)
    with pytest.raises(InputError, match=expected):
        accumulate(two[0], accumulate(other, BASIS.terms))
    cold = shard("cold.npz", two[0])
    assert "has not the same kinds of pairs" in refusal([cold, shard("other.npz", other)])


@settings(
    deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_damaged_files_are_said(
    data: st.DataObject, shard: Callable[..., Path], tmp_path: Path
) -> None:
    """Cut off, or a byte changed: refused by a sentence with the file's name, or read as it was."""
    if not (whole := tmp_path / "whole.npz").exists():
        shard("whole.npz", part="1/9")
    expected: Accumulated = read_shard(whole)
    content = bytearray(whole.read_bytes())
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    else:
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    (tmp_path / "damaged.npz").write_bytes(content)
    try:
        shard_read = read_shard(tmp_path / "damaged.npz")
    except InputError as error:
        assert str(error).startswith(f"{tmp_path / 'damaged.npz'}: ")
    else:
        assert np.array_equal(shard_read.equations.gram_bskk, expected.equations.gram_bskk)
        assert shard_read.shares == expected.shares and shard_read.terms == expected.terms


def test_other_formats_and_versions(tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", a=np.ones(3))
    assert "is not a complete file of `mld-ff accumulate`" in refusal([tmp_path / "other.npz"])
    (tmp_path / "text.npz").write_text("{}")
    assert refusal([tmp_path / "text.npz"]).endswith("`mld-ff accumulate`: it is no .npz")
    head = json.dumps({"format": "mld_ff normal equations", "version": 2})
    np.savez(tmp_path / "later.npz", head=np.array(head))
    assert refusal([tmp_path / "later.npz"]).endswith(
        "has version 2; this mld_ff reads version 1: accumulate again"
    )
    assert refusal([]) == "no shard is given"
