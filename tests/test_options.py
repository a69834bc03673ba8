"""Options of the command line are the settings of the library: names, units, defaults, meaning."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
from command_line import invoke
from conftest import present

import mld_ff.cli
from mld_ff import inference
from mld_ff.cli import ROOMS, app, preparing, workflows
from mld_ff.cli.fields import Whole
from mld_ff.cli.options import Beginning, Mixture, Reading
from mld_ff.engines.settings import MD
from mld_ff.errors import InputError
from mld_ff.inference import Basis
from mld_ff.loss.model import AgentLoss
from mld_ff.production import simulation
from mld_ff.sources.cp2k.run.inputs import Reference
from mld_ff.workflows import agents
from mld_ff.workflows.matching import loop as matching
from mld_ff.workflows.matching.settings import Settings as MatchingSettings
from mld_ff.workflows.refining import loop as refining

VERBS = [name for name in app if not name.startswith("-")]
FIELDS = {
    "basis": ("kind", "basis"),
    "exponent": ("exponents",),
    "dft-basis": ("basis",),
    "grid-cutoff": ("cutoff_Ry",),
}
"""Of options that are called otherwise than their field without its unit."""
UNITS = ("_A", "_K", "_Ry", "_bar", "_fs", "_ps")
OTHER_TEXTS = {"functional": "PBE", "dft-basis": "TZVP", "basis": "TZVP", "collective": "6"}
OTHER_TEXTS |= {"charges": "learn"}
BESIDES = {("run", "pressure"): ("--ensemble", "npt")}
"""Without which an option would change nothing, and is refused."""


@dataclass(frozen=True)
class Case:
    """A verb that hands settings to a function of the library."""

    words: tuple[str, ...]
    """What must be given."""
    room: Any
    function: str
    """Of the library, as `room` knows it."""
    parameter: str
    """Of the function: the settings."""
    default: Any
    """What the library uses where no settings are given."""
    besides: tuple[str, ...] = ()
    """Options that are no settings."""


OF_A_FRAME = ("structure", "coordinates", "cp2k", "frame", "skip", "file")
CASES = {
    "fit": Case(
        ("fit", "cp2k", "-o", "x"),
        inference,
        "fit",
        "basis",
        None,
        ("output", "overwrite", "processes", "force", "file", "skip", "json"),
    ),
    "run": Case(
        ("run", "m.json", "--engine", "lammps", "-o", "x"),
        simulation,
        "run",
        "settings",
        MD(),
        (
            *OF_A_FRAME,
            *("engine", "output", "minimize", "platform", "precision", "many_body", "processes"),
            *("resume", "force", "json"),
        ),
    ),
    "agents": Case(
        ("agents", "m.json", "-o", "x"),
        workflows,
        "learn",
        "settings",
        agents.SETTINGS,
        (*OF_A_FRAME, "output", "json"),
    ),
    "match": Case(
        ("match", "cp2k", "-o", "x"),
        matching,
        "match",
        "settings",
        MatchingSettings(),
        ("output", "labels", "rounds", "force", "file", "skip", "json"),
    ),
    "refine": Case(
        ("refine", "cp2k", "-o", "x"),
        refining,
        "refine",
        "settings",
        refining.Settings(),
        ("output", "rounds", "force", "file", "skip", "json"),
    ),
    "reference": Case(
        ("reference", "-o", "x"),
        preparing,
        "write_reference",
        "reference",
        Reference(),
        (
            *OF_A_FRAME,
            *("output", "relax", "molecule", "count", "density", "label", "frames"),
            *("run", "resume", "json"),
        ),
    ),
}


class Stop(InputError):
    """Raised in place of the work."""


@pytest.fixture
def settings_of(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """What a verb hands to the library, with further words on its line."""
    monkeypatch.setattr(Reading, "open", lambda *_, **__: None)
    monkeypatch.setattr(Beginning, "read", lambda *_: None)
    monkeypatch.setattr(Mixture, "pack", lambda *_: None)
    monkeypatch.setattr(AgentLoss, "load", lambda *_: None)

    def asked(case: Case, *more: str) -> Any:
        signature = inspect.signature(getattr(case.room, case.function))
        handed: list[Any] = []
        app[case.words[0]]  # imported before its library is patched

        def stop(*arguments: Any, **options: Any) -> None:
            handed.append(signature.bind(*arguments, **options).arguments[case.parameter])
            raise Stop("here")

        with monkeypatch.context() as patched:
            patched.setattr(case.room, case.function, stop)
            done = invoke(*case.words, *more)
        assert done.stderr == "error: here\n", (more, done.stderr)
        return handed[0]

    return asked


def parameters_of(verb: str) -> list[inspect.Parameter]:
    command = present(app[verb].default_command)
    return list(inspect.signature(command).parameters.values())


def leaves(settings: Any, of: str = "") -> Iterator[tuple[str, Any]]:
    """Every field with its value; those of settings within settings as `basis spacing_A`."""
    for name, value in (settings if isinstance(settings, dict) else asdict(settings)).items():
        if isinstance(value, dict):
            yield from leaves(value, name)
        else:
            yield f"{of} {name}".strip(), value


def another(option: str, type_: Any, default: Any) -> tuple[list[str], Any]:
    """Words that give an option another value than its default, and that value."""
    choices: tuple[str, ...] = ()
    while get_origin(type_) is not None and hasattr(type_, "__metadata__"):
        for extra in type_.__metadata__:
            choices = getattr(extra, "choices", None) or choices
        type_ = get_args(type_)[0]
    if choices:
        other = next(choice for choice in choices if choice != default)
        return [f"--{option}", other], other
    if get_origin(type_) is Literal:
        other = next(choice for choice in get_args(type_) if choice != default)
        return [f"--{option}", other], other
    for optional in get_args(type_):
        if default is None and get_origin(optional) is Literal:
            other = get_args(optional)[0]
            return [f"--{option}", other], other
    if type_ is bool:
        return [f"--{option}"], True
    if option == "platform":
        return [f"--{option}", "openmm"], "openmm"
    if option == "channels":
        return [f"--{option}", "2,1,1"], (2, 1, 1)
    if option in ("spacing", "collective-spacing"):
        return [f"--{option}", "0.8"], 0.8
    if option in OTHER_TEXTS:
        text = OTHER_TEXTS[option]
        return [f"--{option}", text], int(text) if text.isdigit() else text
    if isinstance(default, tuple):
        return [f"--{option}", "35", f"--{option}", "2.5"], (35.0, 2.5)
    value = 4.5 if default is None else default + 1 if isinstance(default, int) else 1.25 * default
    return [f"--{option}", str(value)], value


@pytest.mark.parametrize("verb", CASES)
def test_without_options_the_settings_are_those_of_the_library(
    verb: str, settings_of: Callable[..., Any]
) -> None:
    assert settings_of(CASES[verb]) == CASES[verb].default


@pytest.mark.parametrize("verb", CASES)
def test_every_option_changes_its_own_field_and_no_other(
    verb: str, settings_of: Callable[..., Any]
) -> None:
    case = CASES[verb]
    before = dict(leaves(case.default or Basis()))
    keywords = [p for p in parameters_of(verb) if p.kind is p.KEYWORD_ONLY]
    options = [p for p in keywords if p.name not in case.besides]
    assert {p.name for p in keywords} == {p.name for p in options} | {*case.besides}
    for parameter in options:
        option = parameter.name.replace("_", "-")
        words, value = another(option, parameter.annotation, parameter.default)
        besides = BESIDES.get((verb, option), ())
        after = dict(leaves(settings_of(case, *besides, *words)))
        others = dict(leaves(settings_of(case, *besides))) if besides else before
        changed = {name: after[name] for name in after if after[name] != others[name]}
        assert list(changed.values()) == [value], (words, changed)
        field = next(iter(changed)).split()[-1]
        alike = (parameter.name, *(parameter.name + unit for unit in UNITS))
        assert field in FIELDS.get(option, alike)


@pytest.mark.parametrize("verb", VERBS)
def test_help_shows_units_defaults_and_what_every_option_means(
    verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "1000")
    done = invoke(verb, "-h")
    assert done.exit_code == 0 and done.stderr == ""
    rows = done.stdout.splitlines()
    for parameter in parameters_of(verb):
        if parameter.kind is not parameter.KEYWORD_ONLY:
            continue
        option = "--" + parameter.name.replace("_", "-")
        (row,) = (row for row in rows if row.strip("│* ").startswith(f"{option} "))
        said = row.rstrip("│ ").split("  ")[-1].strip()
        assert len(said) >= len("Of npt.") and not said.startswith("["), f"{option} says nothing"
        assert "[default: False]" not in said and "[default: ()]" not in said
        if isinstance(parameter.default, int | float) and parameter.default not in (0, False):
            assert f"[default: {parameter.default:g}]" in row


def test_help_names_units(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    rows = invoke("run", "--help").stdout
    for option in (
        *("--temperature K", "--time ps", "--timestep fs", "--pressure bar", "--every fs"),
    ):
        assert f" {option} " in rows
    assert " --spacing Å " in invoke("fit", "--help").stdout
    for verb in ("refine", "reference"):
        assert " --grid-cutoff Ry " in invoke(verb, "--help").stdout
    assert " --hot K,K " in invoke("refine", "--help").stdout


def test_verbs_type_no_number_of_their_own() -> None:
    """Defaults of options are the library's; only how often a box is repeated is not there."""
    typed = []
    for room in ROOMS:
        source = Path(mld_ff.cli.__file__).with_name(f"{room}.py").read_text(encoding="utf-8")
        for verb in ast.parse(source).body:
            if isinstance(verb, ast.FunctionDef):
                defaults = [*verb.args.defaults, *(d for d in verb.args.kw_defaults if d)]
                typed += [
                    f"{verb.name} {ast.unparse(default)}"
                    for default in defaults
                    for node in ast.walk(default)
                    if isinstance(node, ast.Constant) and isinstance(node.value, int | float)
                    if not isinstance(node.value, bool)
                ]
    assert set(typed) == {"box (1, 1, 1)"}


@pytest.mark.parametrize("verb", VERBS)
def test_whole_numbers_are_read_strictly(verb: str) -> None:
    """An option of plain `int` would read 2.7 as 3."""
    for parameter in parameters_of(verb):
        assert not _plain(parameter.annotation), parameter


def _plain(type_: Any) -> bool:
    if type_ is int:
        return True
    metadata = getattr(type_, "__metadata__", ())
    if any(getattr(m, "converter", None) for m in metadata):
        return False
    return any(_plain(inner) for inner in get_args(type_) if inner is not Whole)


LISTS = [("fit", "exponent"), ("box", "count"), ("refine", "hot")]


@pytest.mark.parametrize(("verb", "option"), LISTS)
def test_lists_are_written_with_commas_or_by_repeating(verb: str, option: str) -> None:
    begun = (verb, "-o", "y") if verb == "box" else (verb, "x", "-o", "y")
    for words in ((f"--{option}", "3,6"), (f"--{option}", "3", f"--{option}", "6")):
        _, bound, _ = app.parse_args([*begun, *words], exit_on_error=False, print_error=False)
        assert bound.kwargs[option] == (3, 6)


@pytest.mark.parametrize(
    ("verb", "option", "numbers"),
    [
        ("fit", "--exponent", "3 6"),
        ("fit", "--channels", "2 2 2"),
        ("scan", "--exponents", "-1 2.5 3"),
        ("refine", "--hot", "350 400"),
        ("box", "--replicate", "2 2 1"),
        ("box", "--count", "64, 8"),
    ],
)
def test_lists_with_spaces_are_told_of_commas(verb: str, option: str, numbers: str) -> None:
    done = invoke(verb, "x", "-o", "y", option, *numbers.split())
    meant = f"{option} {numbers.replace(',', '').replace(' ', ',')}"
    said = f"error: {option} {numbers}: lists are written with commas, {meant}\n"
    assert (done.exit_code, done.stdout, done.stderr) == (2, "", said)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--basis SZV -o y", "--basis is called --dft-basis now: mld-ff reference --dft-basis SZV"),
        (
            "--cutoff=300 -o y",
            "--cutoff is called --grid-cutoff now: mld-ff reference --grid-cutoff=300",
        ),
    ],
)
def test_options_of_earlier_versions_are_told_by_their_names(words: str, said: str) -> None:
    done = invoke("reference", *words.split())
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == f"error: {said} -o y (`mld-ff reference --help`)\n"


def test_molecules_are_a_list_too(tmp_path: Path) -> None:
    file = tmp_path / "box.pdb"
    words = ("box", "--molecule", "H2O,CH3OH", "--count", "2,3", "--density", "0.3", "-o", file)
    assert "2 H2O, 3 CH4O" in invoke(*words).stdout


@pytest.mark.parametrize(
    "words",
    [
        ("fit", "x", "--exponent", "3,x", "-o", "m.json"),
        ("refine", "x", "--hot", "350,x", "-o", "y"),
        ("box", "--count", "2,x", "-o", "x.pdb"),
        ("box", "--count", "2.7", "-o", "x.pdb"),
        ("box", "--replicate", "2,2,1.5", "-o", "x.pdb"),
        ("box", "--replicate", "2,2", "-o", "x.pdb"),
        ("fit", "x", "--bond-degree", "2.7", "-o", "m.json"),
        ("fit", "x", "--processes", "0", "-o", "m.json"),
    ],
)
def test_numbers_that_cannot_be_are_refused(
    words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = invoke(*words)
    assert done.exit_code == 2 and words[1 if words[0] == "box" else 2] in done.stderr
    assert done.stdout == "" and list(tmp_path.iterdir()) == []
