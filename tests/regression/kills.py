"""Kill -9 at random times whatever writes, and see that the same call goes on to equal numbers.

    python tests/regression/kills.py --kills 200 --seed 1 --told kills.jsonl

64 ions of molten NaCl (tests/data/cp2k/nacl), runs of 2 ps; for `reference` CP2K's GFN1-xTB of two
waters, 10 steps, and 6 frames to label. Every trial begins a task in a process
of its own, kills it at a random time, repeats until a task ends by itself, and compares what lies
there with what a task left that nobody killed. After each kill every JSON file must be whole.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

TESTS = Path(__file__).parent.parent
sys.path.insert(0, str(TESTS))

import numpy as np  # noqa: E402
from conftest import Teacher, waters  # noqa: E402

from mld_ff.configuration.config import Config  # noqa: E402
from mld_ff.engines.settings import MD, Device  # noqa: E402
from mld_ff.inference import Basis, fit, scan  # noqa: E402
from mld_ff.loss.model import AgentLoss  # noqa: E402
from mld_ff.pipeline import build  # noqa: E402
from mld_ff.production.simulation import run  # noqa: E402
from mld_ff.report import write_scan  # noqa: E402
from mld_ff.sources.cp2k import read_cp2k  # noqa: E402
from mld_ff.sources.cp2k.run.inputs import (  # noqa: E402
    Reference,
    write_labels,
    write_reference,
)
from mld_ff.sources.cp2k.run.resume import run_reference  # noqa: E402
from mld_ff.workflows.matching.loop import match  # noqa: E402
from mld_ff.workflows.matching.settings import Settings as MatchingSettings  # noqa: E402
from mld_ff.workflows.refining.loop import Settings, refine  # noqa: E402

NACL = TESTS / "data" / "cp2k" / "nacl"
BASIS = Basis(cutoff_A=5.0, spacing_A=0.5, accuracy="pairs")
Task = Callable[[Path], object]
MOST = 8
"""Kills of a trial, after which it is let end."""
SAME_EV_PER_A = 1e-4
"""Forces of CP2K, whose iterations begin elsewhere after a kill."""
LONG_S = 20.0
"""Tasks that take longer are tried in one round of four."""


class Forces:
    """Of frames that CP2K computed; equal if they are nearly so."""

    def __init__(self, directory: Path) -> None:
        frames = read_cp2k(directory)
        assert frames.forces is not None
        self.steps, self.forces = frames.step.tolist(), frames.forces

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Forces)
            and self.steps == other.steps
            and bool(np.abs(self.forces - other.forces).max() < SAME_EV_PER_A)
        )

    def __hash__(self) -> int:
        raise TypeError


class Tasks:
    """What is killed; each is a call with a directory of its own."""

    def __init__(self) -> None:
        self.frames = read_cp2k(NACL)
        self.loss = fit(self.frames, BASIS, force=True).loss
        hot = self.frames.origin.temperature_K or 1200.0
        self.md = MD(hot, time_ps=2.0, timestep_fs=2.0, every_fs=20.0, checkpoint_ps=0.5)
        self.teacher = Teacher(self.loss, self.frames[0])
        self.labelled = self.teacher.label(replace(self.frames, energy=None))

    def fit(self, out: Path) -> None:
        fit(self.frames, BASIS, force=True).loss.save(out / "model.json")

    def scan(self, out: Path) -> None:
        write_scan(out, scan(self.frames, (2.0, 3.0), cutoff_A=4.0))

    def run(self, engine: str, out: Path) -> None:
        device = Device("CPU") if engine == "openmm" else None
        begun = (out / "run" / "run.json").exists()
        if (out / "run").exists() and not begun:  # as the message says: remove it
            shutil.rmtree(out / "run")
        frame = self.frames[-1]
        run(
            self.loss,
            frame,
            engine,
            out / "run",
            self.md,
            device,
            resume=begun,
            force=True,
        )

    def match(self, out: Path) -> None:
        settings = MatchingSettings(BASIS, replace(self.md, time_ps=1.0), "lammps")
        match(self.frames, out, settings, rounds=2, force=True)

    def refine(self, out: Path) -> None:
        nvt = replace(self.md, time_ps=0.5)
        settings = Settings(BASIS, nvt=nvt, hot_K=(), frames_per_round=5, engine="lammps")
        refine(self.labelled, out, settings, rounds=1, label=self.teacher, force=True)

    def build(self, out: Path) -> None:
        md = replace(self.md, time_ps=0.2)
        build(Config(NACL, out, BASIS, md, ("lammps",)), force=True)

    def dynamics(self, out: Path) -> None:
        reference = Reference("xtb", steps=10, every=2, relax_steps=2)
        write_reference(out / "reference", reference, waters(2, density=0.1))
        run_reference(out / "reference")

    def labels(self, out: Path) -> None:
        frames = waters(2, density=0.1)[np.zeros(6, dtype=int)]
        stretched = frames.positions * np.linspace(0.98, 1.02, 6)[:, None, None]
        frames = replace(frames, positions=stretched)
        write_labels(out / "reference", Reference("xtb"), frames)
        run_reference(out / "reference")

    def named(self) -> dict[str, Task]:
        return {
            "fit": self.fit,
            "scan": self.scan,
            "run lammps": partial(self.run, "lammps"),
            "run openmm": partial(self.run, "openmm"),
            "match": self.match,
            "refine": self.refine,
            "build": self.build,
            "reference dynamics": self.dynamics,
            "reference labels": self.labels,
        }


def begin(task: Task, out: Path) -> int:
    """In a process of its own; returns its id. It ends with 0, or with 1 and why in `why`."""
    if child := os.fork():
        return child
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)
    os.dup2(silent, 2)
    try:
        task(out)
    except BaseException as error:
        (out.parent / "why").write_text(f"{type(error).__name__}: {error}")
        os._exit(1)
    os._exit(0)


def check_whole(out: Path) -> None:
    """Raise unless every JSON and model file can be read."""
    for file in out.rglob("*.json"):
        if not file.name.startswith("."):
            json.loads(file.read_text(encoding="utf-8"))
    for file in out.rglob("model.json"):
        AgentLoss.load(file)


def numbers(out: Path) -> dict[str, object]:
    """What must be equal, by file."""
    found: dict[str, object] = {}
    for file in sorted(out.rglob("model.json")):
        terms = AgentLoss.load(file).terms
        found[str(file.relative_to(out))] = [t.coefficients for t in terms]
    for file in sorted(out.rglob("run.json")):
        found[str(file.relative_to(out))] = json.loads(file.read_text())["finished"]
    for folder in sorted(out.rglob("reference")):
        found[folder.name] = Forces(folder)
    for file in sorted(out.rglob("exponents.json")):
        found[str(file.relative_to(out))] = json.loads(file.read_text())
    return found


def whole(task: Task, folder: Path) -> tuple[dict[str, object], float]:
    """Numbers and seconds of a task that nobody kills."""
    out = folder / "whole"
    out.mkdir()
    began = time.monotonic()
    _, status = os.waitpid(begin(task, out), 0)
    if status:
        raise SystemExit((folder / "why").read_text())
    return numbers(out), time.monotonic() - began


def trial(task: Task, folder: Path, seconds: float, rng: random.Random) -> tuple[int, str]:
    """Kill until it ends by itself; how often, and what was wrong."""
    out, kills = folder / "killed", 0
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    while True:
        child, until = begin(task, out), time.monotonic() + rng.uniform(0.0, 1.1 * seconds)
        ended = 0
        while not ended and time.monotonic() < until:
            ended, status = os.waitpid(child, os.WNOHANG)
            time.sleep(0.005)
        if ended:
            break
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        kills += 1
        try:
            check_whole(out)
        except Exception as error:
            return kills, f"not whole: {error}"
        if kills >= MOST:
            _, status = os.waitpid(begin(task, out), 0)
            break
    return kills, (folder / "why").read_text() if status else ""


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--kills", type=int, default=200)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--told", type=Path, default=Path("kills.jsonl"))
    options.add_argument("--only", default="")
    chosen = options.parse_args()
    rng, kills, wrong = random.Random(chosen.seed), Counter[str](), 0
    tasks = {n: t for n, t in Tasks().named().items() if chosen.only in n}
    with tempfile.TemporaryDirectory() as where, chosen.told.open("w") as told:
        expected = {}
        for name, task in tasks.items():
            (Path(where) / name).mkdir()
            expected[name] = whole(task, Path(where) / name)
            print(f"{name}: {expected[name][1]:.1f} s", flush=True)
        rounds = itertools.count()
        while sum(kills.values()) < chosen.kills:
            number = next(rounds)
            for name, task in tasks.items():
                if expected[name][1] > LONG_S and number % 4:
                    continue
                folder = Path(where) / name
                count, why = trial(task, folder, expected[name][1], rng)
                kills[name] += count
                if not why and numbers(folder / "killed") != expected[name][0]:
                    why = "other numbers"
                wrong += bool(why)
                told.write(json.dumps({"task": name, "kills": count, "wrong": why}) + "\n")
                told.flush()
                if why:
                    print(f"{name} after {count} kills: {why}", flush=True)
    print(dict(kills), sum(kills.values()), "kills,", wrong, "wrong")


if __name__ == "__main__":
    main()
