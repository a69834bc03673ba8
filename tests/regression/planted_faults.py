"""Plant faults in the code that exports, and see whether `verify` notices: signs, factors, numbers
off by one, arguments swapped, statements left out.

    python tests/regression/planted_faults.py --most 200 --seed 1 --told faults.jsonl

Every fault is one change of one module of `engines/openmm` or `engines/lammps`, in a process of its
own; numpy stays as it is. Survivors are printed with their line: each is to be explained or caught.
Six losses are verified, the first of which has pairs, channels, angles and charges, until one
notices.
"""

from __future__ import annotations

import argparse
import ast
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from pathlib import Path
from types import ModuleType
from typing import Any

TESTS = Path(__file__).parent.parent
sys.path.insert(0, str(TESTS))

from conftest import (  # noqa: E402
    TRICLINIC,
    free_term,
    invent,
    liquid,
    with_angles,
    with_channels,
)
from engine_cases import charged  # noqa: E402
from test_new_density import GaussianTerm, of_gaussians  # noqa: E402
from test_new_term import ExponentialTerm  # noqa: E402
from test_slabs import model, slab  # noqa: E402

import mld_ff.verification  # noqa: E402, F401
from mld_ff.loss.model import AgentLoss  # noqa: E402
from mld_ff.loss.terms import FreeTerm, Term  # noqa: E402
from mld_ff.trajectory import Trajectory  # noqa: E402

PACKAGE = TESTS.parent / "mld_ff"
MODULES = (
    *(f"engines/openmm/{m}" for m in ("free_pairs", "bonds", "densities", "angles", "charges")),
    *(f"engines/openmm/{m}" for m in ("expressions", "system", "topology", "neighbours", "export")),
    *(f"engines/lammps/{m}" for m in ("tables", "embedded_atoms", "angular_densities", "export")),
    "engines/lammps/data",
)
AGAIN = ("mld_ff.engines", "mld_ff.verification", "mld_ff.production")
"""Modules that are imported after a fault is planted, or import one that is."""
SECONDS = 300


def places(tree: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """Kinds of faults, and nodes where they can be planted; nothing in texts, types and errors."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, (ast.Raise, ast.JoinedStr, ast.Import, ast.ImportFrom, ast.Assert)):
            continue
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield from (place for part in node.body for place in _within(part))
            continue
        yield from _within(node)


def _within(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Add, ast.Sub)):
        yield "sign", node
    if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Mult, ast.Div)):
        yield "factor", node
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        yield "minus", node
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        yield "number", node
    if isinstance(node, ast.Call) and len(node.args) >= 2:
        yield "swapped", node
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        yield "left out", node
    if isinstance(node, ast.AnnAssign):
        yield from (place for part in [node.value] if part for place in _within(part))
        return
    yield from places(node)


def plant(kind: str, node: Any) -> None:
    """Change a node in place."""
    match kind:
        case "sign":
            node.op = ast.Sub() if isinstance(node.op, ast.Add) else ast.Add()
        case "factor":
            node.op = ast.Div() if isinstance(node.op, ast.Mult) else ast.Mult()
        case "minus":
            node.op = ast.UAdd()
        case "number":
            node.value = node.value + 1 if isinstance(node.value, int) else 2 * node.value + 0.1
        case "swapped":
            node.args[0], node.args[1] = node.args[1], node.args[0]
        case "left out":
            node.value = ast.Constant(None)


class Planted(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports one module with a fault."""

    def __init__(self, name: str, file: Path, number: int) -> None:
        self.name, self.file, self.number = name, file, number

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != self.name:
            return None
        return importlib.util.spec_from_file_location(name, self.file, loader=self)

    def exec_module(self, module: ModuleType) -> None:
        tree = ast.parse(self.file.read_text(encoding="utf-8"))
        plant(*list(places(tree))[self.number])
        exec(compile(ast.fix_missing_locations(tree), str(self.file), "exec"), vars(module))


def every_fault() -> list[tuple[str, int, str, int]]:
    """Module, number of the place in it, kind and line."""
    found = []
    for module in MODULES:
        tree = ast.parse((PACKAGE / f"{module}.py").read_text(encoding="utf-8"))
        for number, (kind, node) in enumerate(places(tree)):
            found.append((module, number, kind, getattr(node, "lineno", 0)))
    return found


def losses() -> list[tuple[AgentLoss, Trajectory]]:
    """The one that has everything first, as it notices the most."""
    water = liquid(["H2O"] * 20, TRICLINIC, seed=4)
    pairs = invent(water, cutoff=4.8)
    own = free_term(("O", "H"), cutoff=4.8, edge=1.5)  # walls at other places
    pairs = replace(pairs, terms=tuple(own if t.name == own.name else t for t in pairs.terms))
    angles = with_angles(with_channels(pairs, 2), 2)
    angles = replace(angles, terms=angles.terms[:-1])  # one more of order 1 than of order 2
    every = [
        charged(angles, water),
        invent(water, "power", (2.0, 3.0), cutoff=4.0, degree=3),
        pairs,
        charged(pairs, water),
        of_gaussians(with_channels(_of_exponentials(pairs), 1), "OH"),
    ]
    # one charge for each element: LAMMPS's tables hold what is near
    brine = slab(26.0, tilted=True)
    return [*((loss, water) for loss in every), (model(brine), brine)]


def _of_exponentials(loss: AgentLoss) -> AgentLoss:
    """Free terms of a kind that OpenMM has no expression for."""
    terms: list[Term] = []
    for term in loss.terms:
        if isinstance(term, FreeTerm):
            own = {f.name: getattr(term, f.name) for f in fields(FreeTerm)}
            own |= {"coefficients": (5.0, -1.0), "lengths_A": (0.5, 1.0)}
            term = ExponentialTerm(**own)
        terms.append(term)
    return replace(loss, terms=tuple(terms))


def verified(every: list[tuple[AgentLoss, Trajectory]], engine: str) -> str:
    """How verify notices a fault of an engine; empty if it does not."""
    from mld_ff.engines.openmm import densities
    from mld_ff.engines.registry import ENGINES
    from mld_ff.errors import MldError
    from mld_ff.verification import verify

    for other in {*ENGINES} - {engine}:
        del ENGINES[other]
    densities.DENSITIES[GaussianTerm] = densities.DensityTranslation(
        densities.sampled_tables,
        densities.EMBEDDING_EXPRESSION,
        densities.fading_parabola,
        densities.NO_PARABOLA,
    )
    for number, (loss, frame) in enumerate(every, 1):
        try:
            result = verify(loss, frame, 1, per_term=False)
        except MldError as error:
            return f"refused: {type(error).__name__}, loss {number}"
        except Exception as error:
            return f"stopped: {type(error).__name__}, loss {number}"
        for one in result.engines.values():
            if one.passed:
                continue
            seen = one.max_force_difference_eV_per_A > one.force_tolerance_eV_per_A
            energy = one.relative_energy_difference > one.energy_tolerance
            return (
                f"differs: {'forces' if seen else 'energy' if energy else 'walls'}, loss {number}"
            )
    return ""


def outcome(every: list[tuple[AgentLoss, Trajectory]], module: str, number: int) -> str:
    """Of one fault, in a process of its own, which imports engines anew."""
    reads, writes = os.pipe()
    if not (child := os.fork()):
        os.close(reads)
        silent = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silent, 1)
        os.dup2(silent, 2)
        try:
            for name in [n for n in sys.modules if n.startswith(AGAIN)]:
                del sys.modules[name]
            if number >= 0:
                name = f"mld_ff.{module.replace('/', '.')}"
                sys.meta_path.insert(0, Planted(name, PACKAGE / f"{module}.py", number))
            said = verified(every, module.split("/")[1])
        except BaseException as error:
            said = f"stopped: {type(error).__name__}"
        os.write(writes, said.encode() or b"-")
        os._exit(0)
    os.close(writes)
    began = time.monotonic()
    while os.waitpid(child, os.WNOHANG)[0] == 0:
        if time.monotonic() - began > SECONDS:
            os.kill(child, 9)
            os.waitpid(child, 0)
            return "stopped: too slow"
        time.sleep(0.05)
    with os.fdopen(reads) as stream:
        said = stream.read()
    return "" if said == "-" else said or "stopped: the process ended"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--most", type=int, default=200)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--only", default="", help="Part of MODULE:LINE, as it is printed.")
    options.add_argument("--survivors", type=Path, help="Only those of such a told file.")
    options.add_argument("--told", type=Path, default=Path("faults.jsonl"))
    options.add_argument("--skip", type=int, default=0, help="So many of the shuffled faults.")
    chosen = options.parse_args()
    os.environ["TMPDIR"] = tempfile.mkdtemp(dir="/dev/shm")
    every = losses()
    for engine in ("openmm", "lammps"):
        said = outcome(every, f"engines/{engine}/export", -1)
        assert said == "", f"verify does not pass without a fault: {said}"
    faults = every_fault()
    print(len(faults), "faults can be planted", flush=True)
    random.Random(chosen.seed).shuffle(faults)
    faults = [f for f in faults if chosen.only in f"{f[0]}.py:{f[3]}"]
    if chosen.survivors:
        told = [json.loads(line) for line in chosen.survivors.read_text().splitlines()]
        left = {(t["module"], t["line"], t["kind"]) for t in told if t["outcome"] == "survived"}
        faults = [f for f in faults if (f[0], f[3], f[2]) in left]
    counts = Counter[str]()
    with chosen.told.open("w") as stream:
        for module, number, kind, line in faults[chosen.skip : chosen.skip + chosen.most]:
            said = outcome(every, module, number)
            counts[said.partition(",")[0] or "survived"] += 1
            row = {"module": module, "line": line, "kind": kind, "outcome": said or "survived"}
            stream.write(json.dumps(row) + "\n")
            stream.flush()
            if not said:
                text = (PACKAGE / f"{module}.py").read_text().splitlines()[line - 1].strip()
                print(f"survived: {module}.py:{line} {kind}: {text}", flush=True)
    print(dict(counts))


if __name__ == "__main__":
    main()
