"""What a new kind of term needs: the term itself, and a line that adds it to those that are known.

LAMMPS's tables take it as it is. OpenMM takes free pairs as tables, or, which is faster, by an
expression in one more function; bonds need theirs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import openmm
import pytest
from conftest import CUBE, TRICLINIC, invent, liquid
from openmm import app

from mld_ff.engines.openmm.bonds import BOND_ENERGIES
from mld_ff.engines.openmm.export import export_openmm
from mld_ff.engines.openmm.free_pairs import FREE_FORCES, walled_force
from mld_ff.engines.settings import MD
from mld_ff.engines.start import start_from
from mld_ff.errors import InputError
from mld_ff.inference import Basis, fit
from mld_ff.loss.bonds import BondTerm
from mld_ff.loss.model import KINDS, AgentLoss
from mld_ff.loss.terms import FreeOptions, FreeTerm, Term
from mld_ff.production.simulation import run
from mld_ff.report.page import write_report
from mld_ff.report.study import compare_runs
from mld_ff.trajectory import Floats, Trajectory
from mld_ff.units import A_TO_NM, EV_TO_KJ_PER_MOL
from mld_ff.verification import verify

# --- a free term: exponentials that vanish with two derivatives at the cutoff ---------------------


@dataclass(frozen=True, kw_only=True)
class ExponentialTerm(FreeTerm):
    """Linear in (1 - (r/cutoff)²)³ exp(-r/λ)."""

    kind: ClassVar[str] = "exponential"
    lengths_A: tuple[float, ...]

    @property
    def coefficient_names(self) -> tuple[str, ...]:
        return tuple(f"{length:g} Å" for length in self.lengths_A)

    @property
    def layout(self) -> tuple[object, ...]:
        return self.cutoff_A, self.lengths_A

    def basis(self, r: Floats, derivative: int = 0) -> Floats:
        x, c = np.minimum(r / self.cutoff_A, 1)[:, None], self.cutoff_A
        s, s1 = (1 - x**2) ** 3, -6 * x * (1 - x**2) ** 2 / c
        s2 = (24 * x**2 * (1 - x**2) - 6 * (1 - x**2) ** 2) / c**2
        k = 1 / np.array(self.lengths_A)
        return np.asarray(
            np.exp(-r[:, None] * k) * (s, s1 - k * s, s2 - 2 * k * s1 + k**2 * s)[derivative]
        )

    @classmethod
    def blank(cls, name: str, species: tuple[str, str], options: FreeOptions) -> Self:
        lengths = (0.25, 0.5, 1.0, 2.0)
        return cls(
            name=name,
            species=species,
            coefficients=(0.0,) * len(lengths),
            cutoff_A=options.cutoff_A,
            lengths_A=lengths,
        )


def exponential_force(
    terms: Sequence[FreeTerm], species: Sequence[str]
) -> openmm.CustomNonbondedForce:
    first = terms[0]
    assert isinstance(first, ExponentialTerm)
    sums = "+".join(
        f"c{k}*exp(-y/{length * A_TO_NM!r})" for k, length in enumerate(first.lengths_A)
    )
    coefficients = {
        f"c{k}": [t.coefficients[k] * EV_TO_KJ_PER_MOL for t in terms]
        for k in range(len(first.coefficients))
    }
    return walled_force(
        f"({sums})*(1-(y/{first.cutoff_A * A_TO_NM!r})^2)^3", coefficients, terms, species
    )


# --- a bonded term: Morse's function --------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class MorseTerm(BondTerm):
    """Linear in (1 - exp(-a (r - r0)))²."""

    kind: ClassVar[str] = "morse"
    per_A: float

    def basis(self, r: Floats, derivative: int = 0) -> Floats:
        a, e = self.per_A, np.exp(-self.per_A * (r - self.r0_A))[:, None]
        return np.asarray(
            ((1 - e) ** 2, 2 * a * e * (1 - e), 2 * a**2 * e * (2 * e - 1))[derivative]
        )


def morse_energy(term: BondTerm) -> str:
    assert isinstance(term, MorseTerm)
    depth = term.coefficients[0] * EV_TO_KJ_PER_MOL
    return f"{depth!r}*(1-exp(-{term.per_A / A_TO_NM!r}*(r-{term.r0_A * A_TO_NM!r})))^2"


# --- what comes of it -----------------------------------------------------------------------------


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """The lines that add them."""
    monkeypatch.setitem(KINDS, "exponential", ExponentialTerm)
    monkeypatch.setitem(KINDS, "morse", MorseTerm)
    monkeypatch.setitem(BOND_ENERGIES, MorseTerm, morse_energy)


@pytest.fixture
def fast(known: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The line that gives the free term its expression."""
    monkeypatch.setitem(FREE_FORCES, ExponentialTerm, exponential_force)


def with_new_terms(loss: AgentLoss) -> AgentLoss:
    """The loss with exponentials for free pairs, those of O with lengths of their own, and Morse's
    bonds.
    """
    terms: list[Term] = []
    for t in loss.terms:
        own = {f.name: getattr(t, f.name) for f in fields(t)}
        if isinstance(t, FreeTerm):
            lengths = (0.7, 1.1) if "O" in t.species else (0.5,)
            coefficients = (4.0, -1.5)[: len(lengths)]
            kept = {f.name: own[f.name] for f in fields(FreeTerm)}
            terms.append(
                ExponentialTerm(**kept | {"lengths_A": lengths, "coefficients": coefficients})
            )
        elif isinstance(t, BondTerm):
            terms.append(MorseTerm(**own | {"per_A": 2.1, "coefficients": (4.5,)}))
    return replace(loss, terms=tuple(terms))


@pytest.mark.parametrize("openmm_by", ["known", "fast"])
def test_both_engines_compute_a_new_term(
    openmm_by: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """OpenMM by tables, and by an expression."""
    request.getfixturevalue(openmm_by)
    frame = liquid(["H2O"] * 6 + ["Na"], TRICLINIC, seed=4)
    loss = with_new_terms(invent(frame))
    loss.save(tmp_path / "model.json")
    loss = AgentLoss.load(tmp_path / "model.json")
    assert {t.kind for t in loss.terms} == {"exponential", "morse"}
    by_tables = openmm_by == "known"
    verified = verify(loss, frame, per_term=by_tables)
    assert verified.passed, verified.to_dict()
    for engine in verified.engines.values() if by_tables else ():
        assert max(engine.terms_force_difference_eV_per_A.values()) < 2e-4


def test_a_new_term_is_fitted_saved_verified_run_and_reported(
    known: None, undrawn: None, few: Trajectory, tmp_path: Path
) -> None:
    basis = Basis("exponential", cutoff_A=5.0)  # type: ignore[arg-type]  # unknown to the types
    fitted = fit(few, basis)
    assert {t.kind for t in fitted.loss.free_terms} == {"exponential"}
    assert fitted.errors.relative_rmse["O"] < 0.6
    fitted.loss.save(tmp_path / "model.json")
    loss = AgentLoss.load(tmp_path / "model.json")
    assert verify(loss, few[0], per_term=False).passed
    run(loss, few[0], "lammps", tmp_path / "run", MD(time_ps=0.1))
    study = compare_runs(few, [tmp_path / "run"])
    write_report(tmp_path / "report", study)
    assert {"temperature_K", "oh_mean_A"} <= study.observables.keys()
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert page.count(">0.25 Å<") == len(loss.free_terms) == 3


def test_a_kind_that_no_fit_begins_with_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(KINDS, "given", FreeTerm)
    with pytest.raises(InputError, match=r"is 'given'; those that can be fitted: spline, power$"):
        Basis("given")  # type: ignore[arg-type]  # unknown to the types


def test_new_terms_are_in_forcefield_xml(fast: None, tmp_path: Path) -> None:
    frame = liquid(["H2O"] * 8, CUBE)
    export_openmm(with_new_terms(invent(frame)), start_from(frame), tmp_path)
    text = (tmp_path / "forcefield.xml").read_text()
    assert "exp(-y/" in text and "exp(-21.0*" in text


def test_forcefield_xml_holds_tables(known: None, tmp_path: Path) -> None:
    frame = liquid(["H2O"] * 8, CUBE)
    export_openmm(with_new_terms(invent(frame)), start_from(frame), tmp_path)
    topology = app.PDBFile(str(tmp_path / "topology.pdb")).topology
    forcefield = app.ForceField(str(tmp_path / "forcefield.xml"))
    made = forcefield.createSystem(topology, nonbondedMethod=app.CutoffPeriodic)
    exported = openmm.XmlSerializer.deserialize((tmp_path / "system.xml").read_text())
    energies = []
    for system in (made, exported):
        context = openmm.Context(
            system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatform("CPU")
        )
        context.setPositions(start_from(frame).frame.positions[0] / 10)
        energies.append(context.getState(energy=True).getPotentialEnergy()._value)
    assert energies[0] == pytest.approx(energies[1], rel=1e-6) and abs(energies[0]) > 1


def test_new_terms_are_differentiated_rightly(known: None) -> None:
    r, h = np.linspace(0.8, 4.9, 40), 1e-5
    for t in with_new_terms(invent(liquid(["H2O"] * 2, CUBE))).pair_terms:
        for d in (1, 2):
            slope = (t.basis(r + h, d - 1) - t.basis(r - h, d - 1)) / (2 * h)
            assert t.basis(r, d) == pytest.approx(slope, abs=1e-6, rel=1e-6)
