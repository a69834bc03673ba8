"""What is installed here, and whether it computes what it should: every engine on everything that
it can compute on, and CP2K.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase.build import bulk

from mld_ff.engines.engine import Engine
from mld_ff.engines.registry import ENGINES
from mld_ff.engines.settings import Device
from mld_ff.engines.start import start_from
from mld_ff.errors import MldError
from mld_ff.loss.densities import DensityTerm
from mld_ff.loss.free_pairs import PowerTerm
from mld_ff.loss.model import AgentLoss
from mld_ff.progress import Progress, no_progress
from mld_ff.sources.cp2k.run.inputs import Reference, write_reference
from mld_ff.sources.cp2k.run.launch import check, find_cp2k, installed_version
from mld_ff.trajectory import Trajectory
from mld_ff.verification import verify

CUTOFF_A = 5.0
SHORTEST_A = 2.0
DISPLACEMENT_A = 0.2


@dataclass(frozen=True)
class Finding:
    """One program on one device."""

    program: str
    version: str
    """Empty where it is not known."""
    device: str
    """What it computes on."""
    said: str
    """What the check came to, or why there was none and what to do."""
    passed: bool | None
    """None where there is nothing to check."""
    seconds: float
    """That the check took."""


def examine(progress: Progress = no_progress) -> list[Finding]:
    """Check every engine on every device of this machine, and CP2K; some seconds.

    An engine passes if its energies and forces of a box of argon, pairs and densities of all
    orders, are numpy's (`mld_ff.verify`).
    """
    findings = []
    for k, engine in enumerate(ENGINES.values()):
        progress("doctor", k, len(ENGINES) + 1)
        findings += list(_engine(engine))
    progress("doctor", len(ENGINES), len(ENGINES) + 1)
    findings.append(_cp2k())
    progress("doctor", len(ENGINES) + 1, len(ENGINES) + 1)
    return findings


def _engine(engine: Engine) -> Iterator[Finding]:
    try:
        version, devices = engine.version(), engine.devices()
    except (MldError, ImportError) as error:
        yield Finding(engine.label, "", "", str(error), None, 0.0)
        return
    for device in devices:
        began, where = time.perf_counter(), ""
        try:
            where = ", ".join(v for k, v in engine.find(device).items() if v and k != "precision")
            said, passed = _verified(engine, device)
        except MldError as error:
            said, passed = " ".join(str(error).split()), False
        yield Finding(engine.label, version, where, said, passed, time.perf_counter() - began)


def _verified(engine: Engine, device: Device) -> tuple[str, bool]:
    frame, loss = _argon()
    with tempfile.TemporaryDirectory() as folder:
        engine.export(loss, start_from(frame), folder)
        result = verify(loss, frame, 1, {engine.name: Path(folder)}, device, per_term=False)
    worst = max(r.max_force_difference_eV_per_A for r in result.engines.values())
    allowed = "" if result.passed else f"; {engine.force_tolerance_eV_per_A:g} is allowed"
    return f"forces within {worst:.1e} eV/Å of numpy's{allowed}", result.passed


def _cp2k() -> Finding:
    """CP2K checks the syntax of an input that `mld-ff reference` writes."""
    began, version = time.perf_counter(), ""
    try:
        command = " ".join(find_cp2k())
    except MldError as error:
        said = f"{error}; only `reference`, `refine` and labels need it"
        return Finding("CP2K", "", "", said, None, 0.0)
    try:
        version = installed_version()
        with tempfile.TemporaryDirectory() as folder:
            write_reference(Path(folder), Reference(method="dft"), _argon()[0])
            check(folder)
        said, passed = "accepts our input", True
    except MldError as error:
        said, passed = str(error), False
    return Finding("CP2K", version, command, said, passed, time.perf_counter() - began)


def _argon() -> tuple[Trajectory, AgentLoss]:
    """32 atoms off their lattice sites, and a loss with a term of every kind that needs no
    bonds.
    """
    atoms = bulk("Ar", "fcc", a=5.26, cubic=True).repeat(2)
    atoms.rattle(DISPLACEMENT_A, seed=1)
    frame = Trajectory(
        symbols=tuple(atoms.get_chemical_symbols()),
        masses=atoms.get_masses(),
        positions=atoms.positions[None],
        cell=np.array(atoms.cell)[None],
        time=np.zeros(1),
        step=np.zeros(1, np.int64),
    )
    pairs = PowerTerm(
        name="free:Ar-Ar",
        species=("Ar", "Ar"),
        coefficients=(0.0, 500.0),
        cutoff_A=CUTOFF_A,
        exponents=(3.0,),
        wall_edge_A=SHORTEST_A,
        wall_stiffness_eV_per_A3=300.0,
    )
    densities = [
        DensityTerm(
            name=f"density:{order}",
            species=("Ar",),
            neighbours=("Ar-Ar" if order else "Ar",),
            functions=(3,),
            coefficients=(0.3, -0.2, 0.1),
            spacing_A=0.5,
            cutoff_A=CUTOFF_A,
            strength_eV=0.1,
            range=(0.0, 10.0),
            order=order,
        )
        for order in (0, 1, 2)
    ]
    return frame, AgentLoss(("Ar",), (pairs, *densities))
