"""Files of strangers: no name, text or number of theirs runs a command, hangs or takes all
memory.
"""

from __future__ import annotations

import json
import os
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import CUBE, invent, liquid, waters, with_angles, with_channels
from fuzzing import EXTXYZ
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from mld_ff import report
from mld_ff.cli import main
from mld_ff.cli.console import printable
from mld_ff.configuration.toml import read_config
from mld_ff.engines.lammps.evaluation import evaluate
from mld_ff.engines.registry import ENGINES
from mld_ff.engines.settings import MD, Device
from mld_ff.engines.start import start_from
from mld_ff.engines.structure import write_structure
from mld_ff.errors import InputError
from mld_ff.files import read_json, read_template
from mld_ff.geometry.topology import Topology
from mld_ff.inference import Basis, accumulate, read_shard, write_shard
from mld_ff.loss.model import AgentLoss
from mld_ff.loss.provenance import Provenance
from mld_ff.origin import Origin
from mld_ff.production.simulation import run
from mld_ff.report.page import write_report
from mld_ff.report.study import Study
from mld_ff.sources import open_source
from mld_ff.sources.cp2k import read_cp2k
from mld_ff.sources.cp2k.run.inputs import Reference
from mld_ff.sources.structures import read_structure
from mld_ff.trajectory import Trajectory

HOSTILE = (
    *"\n\r\0\x1b\u2028\x85 \"'&#;\\%é\N{CYRILLIC SMALL LETTER A}",
    *("${x}", "$(x)", "<script>", "&END", "../"),
)
HARMLESS = ("O", "H", "H_w", "O1", "Na+", "free:O-H", ":1", ".", "vector")
INJECTED = "shell touch X"
FRAME = waters(20)
START = start_from(FRAME)
LOSS = with_channels(invent(FRAME, cutoff=3.0), 1)
names = st.lists(st.sampled_from((*HOSTILE, *HARMLESS)), min_size=1, max_size=4).map("".join)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    with_angles(LOSS, 1).save(tmp_path / "model.json")
    return tmp_path / "model.json"


def changed(file: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    data = json.loads(file.read_text())
    change(data)
    file.write_text(json.dumps(data))
    return file


def first(data: dict[str, Any], kind: str) -> dict[str, Any]:
    found: dict[str, Any] = next(term for term in data["terms"] if term["kind"] == kind)
    return found


# --- names ----------------------------------------------------------------------------------------

PLACES: dict[str, Callable[[dict[str, Any], str], object]] = {
    "name": lambda data, name: first(data, "bond").update(name=name),
    "species of a term": lambda data, name: first(data, "spline").update(species=["O", name]),
    "path": lambda data, name: first(data, "bond").update(path=["O", name]),
    "neighbours": lambda data, name: first(data, "collective").update(neighbours=["O", name]),
    "species": lambda data, name: data.update(species=["O", name]),
    "agents": lambda data, name: data["agents"].update({name: []}),
}


@settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@example(place="name", name="bonded:O1-H_w", last="")
@given(place=st.sampled_from(sorted(PLACES)), name=names, last=st.sampled_from(("", INJECTED)))
def test_a_name_is_one_word_or_refused(place: str, name: str, last: str, tmp_path: Path) -> None:
    file = tmp_path / "model.json"
    with_angles(LOSS, 1).save(file)
    hostile = name + (f"\n{last}" if last else "")
    try:
        loss = AgentLoss.load(changed(file, lambda data: PLACES[place](data, hostile)))
    except InputError as error:
        assert str(error).isprintable(), error
        return
    assert re.fullmatch(r"[A-Za-z][\w+:.-]*", hostile, re.ASCII), hostile
    if place == "name":
        assert_nothing_injected(loss, hostile, tmp_path)


def assert_nothing_injected(loss: AgentLoss, name: str, directory: Path) -> None:
    """The files of every engine hold the name, and no line that begins with anything of its own."""
    named = replace(loss, terms=tuple(t for t in loss.terms if t not in loss.angular_channels))
    for engine in ENGINES.values():
        for file in engine.export(named, START, directory / engine.name, MD()):
            if file.suffix == ".xml":
                ET.parse(file)
    lines = (directory / "lammps" / "forcefield.lmp").read_text().splitlines()
    assert f" bond.table {name}" in "".join(lines)
    known = {"#", "bond_style", "bond_coeff", "special_bonds", "comm_modify", "pair_style"}
    assert {line.split()[0] for line in lines} <= known | {"pair_coeff"}


@pytest.mark.parametrize("name", ["timestep\nshell touch X", "a b", "", "a" * 300, "${T}", 3, None])
def test_names_of_terms_that_are_refused(name: Any, model: Path) -> None:
    with pytest.raises(InputError, match=r"model\.json: .* is no name of a term: expected letters"):
        AgentLoss.load(changed(model, lambda data: first(data, "bond").update(name=name)))


def test_hostile_names_cannot_come_in_by_data(tmp_path: Path) -> None:
    hostile = f"O\n{INJECTED}"
    for refused in (
        lambda: Topology((hostile, "H"), np.zeros((0, 2), np.int64)),
        lambda: replace(FRAME, symbols=(hostile, *FRAME.symbols[1:])),
        lambda: invent(FRAME).only().__class__((hostile,), ()),
    ):
        with pytest.raises(InputError, match=r"'O\\nshell touch X' is no name of a species"):
            refused()
    lattice = " ".join(map(str, CUBE.ravel()))
    for symbol in ("${T}", "<b>", "O;x"):
        file = tmp_path / "frames.xyz"
        file.write_text(f'1\nLattice="{lattice}" Properties=species:S:1:pos:R:3\n{symbol} 0 0 0\n')
        for read in (read_structure, lambda f: open_source(f, require_forces=False)):
            with pytest.raises(InputError, match=r"is no element|ASE cannot read it"):
                read(file)
    with pytest.raises(InputError, match=r"the basis is 'x\\n&END'; expected one word"):
        Reference(basis="x\n&END")


# --- free texts -----------------------------------------------------------------------------------


@settings(
    deadline=None, max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(text=names)
def test_texts_stay_texts(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of provenance and origin: in the page, in JSON and on a terminal."""
    monkeypatch.setattr(report.page, "draw_loss", lambda *_: {})
    hostile = f"<script>{text}</script>\n{INJECTED}"
    provenance: Provenance = {"warnings": [hostile], "matched": {"note": hostile}}
    loss = replace(LOSS, provenance=provenance)
    page = write_report(tmp_path, Study(loss, {}, {}, Origin(program=hostile)))
    for file in (page, page.with_name(report.page.LIGHT)):
        written = file.read_text(encoding="utf-8")
        assert hostile not in written and written.count("&lt;script&gt;") > 2
    assert "<script" not in written, "the light page holds no scripts"
    loss.save(tmp_path / "model.json")
    assert AgentLoss.load(tmp_path / "model.json").provenance == provenance
    shown = printable(json.dumps(provenance, ensure_ascii=False))
    assert json.loads(shown) == provenance and shown.isprintable()
    assert not set(printable(hostile)) & set("\x1b\0\r\x85\u2028")


# --- numbers --------------------------------------------------------------------------------------

REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "cutoff of nothing": ("spline", {"cutoff_A": 0}, "cutoff_A is 0; expected 0.5 to 50"),
    "endless cutoff": ("spline", {"cutoff_A": 1e9}, "cutoff_A is 1000000000.0; expected 0.5 to 50"),
    "endless digits": ("spline", {"cutoff_A": 10**400}, "cutoff_A should hold finite numbers"),
    "knots upon each other": ("spline", {"spacing_A": 0}, "spacing_A is 0; expected 0.02 to 5"),
    "coefficients for 29 TiB": (
        "spline",
        {"coefficients": [0.1] * 20_000},
        "20000 values of coefficients; exp",
    ),
    "more than knots": ("spline", {"coefficients": [0.1] * 40}, "40 coefficients of free:"),
    "wall beyond": ("spline", {"wall_edge_A": 9}, "wall_edge_A is 9; expected 0 to 3"),
    "wall that pulls": ("spline", {"wall_stiffness_eV_per_A3": -1}, "is -1; expected 0 to 1e+06"),
    "wall of infinite force": ("bond", {"wall_stiffness_eV_per_A3": [1e308, 1]}, "is 1e+308; exp"),
    "errors of others": (
        "spline",
        {"coefficient_errors": [1.0]},
        "coefficient_errors should be as",
    ),
    "errors that are none": (
        "spline",
        {"coefficient_errors": -1},
        "coefficient_errors should be a",
    ),
    "three species": ("spline", {"species": ["O", "O", "H"]}, "is of 3 species; expected 2"),
    "text for species": ("spline", {"species": "OH"}, "species should be a list of names"),
    "coverage": ("spline", {"coverage": {"counts": ["x"]}}, "coverage should hold finite numbers"),
    "other path": ("bond", {"path": ["O", "O"]}, "its path of O, O; expected the two ends"),
    "range": ("bond", {"range_A": [2.0, 1.0]}, "the end of range_A is 1.0; expected 2 to 20"),
    "degree": ("bond", {"coefficients": [1.0] * 99}, "99 coefficients of bonded:"),
    "fade": ("collective", {"fade": 0}, "fade is 0; it must be positive"),
    "half a function": ("collective", {"functions": [2.5, 4.5]}, "2.5 functions; expected a whole"),
    "negative": ("collective", {"functions": [-1, 8]}, "functions of O is -1; expected 0 to 11"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_numbers_that_are_refused(case: str, model: Path) -> None:
    kind, change, said = REFUSED[case]
    with pytest.raises(InputError, match=r"model\.json: ") as caught:
        AgentLoss.load(changed(model, lambda data: first(data, kind).update(change)))
    assert said in str(caught.value)


def test_files_that_are_no_json(tmp_path: Path) -> None:
    texts = {"[" * 100_000: "it is nested too deeply", "[NaN]": "NaN is no number"}
    for text, said in texts.items():
        (tmp_path / "a.json").write_text(text)
        with pytest.raises(InputError, match=said):
            read_json(tmp_path / "a.json", "a model file")


# --- shards ---------------------------------------------------------------------------------------


def pickled(_: dict[str, Any]) -> dict[str, Any]:
    return {"power_bs": np.array([Path("x")], dtype=object)}


def head(arrays: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {"head": np.array(json.dumps(json.loads(str(arrays["head"])) | changes))}


FORGED: dict[str, tuple[Callable[[dict[str, Any]], dict[str, Any]], str]] = {
    "NaN": (lambda a: {"power_bs": a["power_bs"] * np.nan}, "power_bs should hold finite numbers"),
    "too small": (lambda a: {"power_bs": a["power_bs"] * 1e-9}, "its sums contradict each other"),
    "negative": (lambda a: {"power_bs": -a["power_bs"]}, "its sums contradict each other"),
    "shape": (lambda a: {"moment_bsk": a["moment_bsk"][:, :, 1:]}, "moment_bsk has the shape"),
    "no runs": (lambda a: head(a, shares=[]), "does not tell which runs its frames are of"),
    "no distances": (lambda a: head(a, distances={}), "has no distances of bonded:O-H"),
    "no cutoff": (lambda a: head(a, cutoff_A="x"), "cutoff_A should hold finite numbers"),
    "pickle": (pickled, "Object arrays cannot be loaded when allow_pickle=False"),
}


def ten_frames() -> Trajectory:
    """With forces at random."""
    forces = np.random.default_rng(1).normal(size=(10, FRAME.n_atoms, 3))
    return replace(FRAME[np.zeros(10, int)], forces=forces, time=100.0 * np.arange(10.0))


@pytest.fixture(scope="module")
def shard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("shard") / "some.npz"
    basis = Basis("power", bond_degree=2, cutoff_A=4.0)
    write_shard(accumulate(ten_frames(), basis.terms), file)
    assert read_shard(file).frames == 10
    return file


@pytest.mark.parametrize("case", FORGED)
def test_sums_that_no_forces_have(case: str, shard: Path, tmp_path: Path) -> None:
    change, said = FORGED[case]
    with np.load(shard) as stored:
        arrays = dict(stored)
    np.savez(tmp_path / "bad.npz", **{**arrays, **change(arrays)})
    with pytest.raises(InputError, match=said):
        read_shard(tmp_path / "bad.npz")


# --- what engines are given -----------------------------------------------------------------------


@pytest.mark.parametrize(("engine", "program"), [("openmm", "run.py"), ("lammps", "in.nvt")])
def test_a_run_goes_on_with_our_program_only(engine: str, program: str, tmp_path: Path) -> None:
    loss, frame = invent(FRAME, cutoff=3.0), replace(FRAME, velocities=np.zeros((1, 60, 3)))
    out, device = tmp_path / "run", Device("CPU" if engine == "openmm" else None)
    short = MD(time_ps=0.005, every_fs=1, checkpoint_ps=0.005)
    run(loss, frame, engine, out, short, device)
    foreign = "print 'mine'\n"
    (out / program).write_text(foreign)
    longer = replace(short, time_ps=0.01)
    with pytest.raises(InputError, match=rf"{program}: was changed since this run began"):
        run(loss, frame, engine, out, longer, device, resume=True)
    assert (out / program).read_text() == foreign
    changed(out / "run.json", lambda record: record.pop("exported_sha256"))
    (out / "argparse.py").write_text("raise SystemExit('a module beside run.py was imported')\n")
    assert run(loss, frame, engine, out, longer, device, resume=True).step[-1] == 20
    assert (out / program).read_text() == read_template(program)


@pytest.mark.parametrize(
    "line", ["shell touch X", "pair_style python 5", "pair_coeff $(1) 1", 'print "&']
)
def test_exported_files_of_others_run_nothing(line: str, tmp_path: Path) -> None:
    ENGINES["lammps"].export(LOSS, START, tmp_path, MD())
    with (tmp_path / "forcefield.lmp").open("a") as file:
        file.write(f"{line}\n")
    with pytest.raises(InputError, match=r"forcefield\.lmp:\d+: holds .*, which no export writes"):
        evaluate(tmp_path, START.frame)


# --- options that would be ignored ----------------------------------------------------------------


def test_options_without_an_effect(tmp_path: Path) -> None:
    ignored = {
        Basis(exponents=(2.0,)): "exponents [2.0] are those of power laws",
        Basis("power", spacing_A=0.2): "spacing_A 0.2 is that of splines",
        Basis(
            collective_cutoff_A=5.0, accuracy="pairs"
        ): "collective_cutoff_A 5.0 is that of densities",
    }
    for basis, said in ignored.items():
        with pytest.raises(InputError, match=re.escape(said)):
            accumulate(ten_frames(), basis.terms)
    config = tmp_path / "build.toml"
    config.write_text('cp2k = "x"\nskip_ps = nan\n')
    with pytest.raises(InputError, match="skip_ps should be a number, found nan"):
        read_config(config)
    write_structure(START, tmp_path / "frames.xyz")
    with pytest.raises(InputError, match=r"skip_fs is -5000\.0; it must be a number, 0 or more"):
        open_source(tmp_path / "frames.xyz", require_forces=False, skip_fs=-5000.0)


def test_liquids_of_all_kinds_still_have_names() -> None:
    """What a pattern must let through."""
    for molecules in (["CH3OH", "NH3"], ["CH3Cl", "H2O"]):
        frame = liquid(molecules * 3, CUBE)
        assert invent(frame).terms_of(start_from(frame).topology)


@pytest.mark.parametrize(
    "command",
    [
        "inspect NAME.xyz",
        "inspect . --file positions=NAME",
        "fit NAME.npz -o m",
        "verify NAME.json .",
        "build NAME.toml",
        "report --reference . --trajectory run -o out",
    ],
)
@pytest.mark.parametrize("kind", ["a FIFO", "a device"])
def test_what_is_no_file_is_not_read(
    kind: str,
    command: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Reading would wait for ever, or never end."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    for name in ("NAME", "NAME.xyz", "NAME.npz", "NAME.json", "NAME.toml", "run/log"):
        if kind == "a FIFO":
            os.mkfifo(name)
        else:
            Path(name).symlink_to("/dev/zero")
    if command.startswith("report"):
        (tmp_path / "a.xyz").write_text(EXTXYZ)
        command = command.replace(" . ", " a.xyz ")
    with pytest.raises(SystemExit) as caught:
        main(command.split())
    assert caught.value.code == 2
    assert f": is {kind}, where a file is read" in capsys.readouterr().err


def test_zeros_without_end(tmp_path: Path) -> None:
    """What a full disk leaves: gigabytes that take no room, and no memory either."""
    file = tmp_path / "a-pos-1.xyz"
    with file.open("wb") as stream:
        stream.truncate(1 << 34)
    with pytest.raises(InputError, match=r"a-pos-1\.xyz:1: "):
        read_cp2k(tmp_path)
