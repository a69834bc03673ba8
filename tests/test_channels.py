"""Few channels of densities of all orders, found on the normal equations."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import liquid, topology_of
from threadpoolctl import threadpool_limits

from mld_ff.configuration.toml import read_config
from mld_ff.errors import InputError
from mld_ff.geometry.system import systems
from mld_ff.inference import Basis, fit, parse_channels
from mld_ff.inference.channels import ChannelsProblem
from mld_ff.inference.dataset import Dataset
from mld_ff.inference.fitting import Fit
from mld_ff.inference.ladder import LADDER
from mld_ff.inference.sampling import blank_forms
from mld_ff.loss.densities import DensityTerm, NeighbourSums
from mld_ff.loss.model import AgentLoss
from mld_ff.loss.terms import Term
from mld_ff.trajectory import Trajectory
from mld_ff.workflows.refining.novelty import Judge

BASIS = Basis(channels=(1, 1, 1), spacing_A=0.5, charges="none", collective_spacing_A=0.8)
FRAMES = 24


def gas() -> Trajectory:
    """Frames of 24 atoms that no bonds connect, at random about a grid."""
    one = liquid(["Ne", "He"] * 12, 7.6 * np.eye(3), jitter=0.0)
    rng = np.random.default_rng(7)
    positions = one.positions + 0.25 * rng.normal(size=(FRAMES, one.n_atoms, 3)).clip(-2, 2)
    every = np.arange(FRAMES)
    cells = np.repeat(one.cell, FRAMES, axis=0)
    frames = replace(
        one, positions=positions, cell=cells, time=100.0 * every.astype(float), step=every
    )
    return replace(frames, forces=np.zeros_like(positions))


def truth(frames: Trajectory) -> AgentLoss:
    """Pairs, and a channel of every kind that the fit can express."""
    rng = np.random.default_rng(8)
    topology = topology_of(frames[0])
    pairs = BASIS.terms(frames[0], topology)
    terms: list[Term] = [
        replace(t, coefficients=tuple(0.1 * rng.normal(size=len(t.coefficients)))) for t in pairs
    ]
    for number, form in enumerate(blank_forms(Dataset.of(frames), BASIS)):
        sums, mean = form.term, form.mean
        assert isinstance(sums, DensityTerm)
        a = rng.normal(size=len(sums.coefficients))
        channel = replace(
            sums,
            name=f"{sums.name}:1",
            coefficients=tuple(a),
            strength_eV=0.05 * (-1) ** number,
            rest=float(a @ mean),
            range=(-1e6, 1e6),
        )
        terms.append(channel)
    return AgentLoss(topology.species, tuple(terms))


@pytest.fixture(scope="module")
def frames() -> Trajectory:
    plain = gas()
    loss, topology = truth(plain), topology_of(plain[0])
    forces = [loss.evaluate(s).forces for s in systems(topology, plain, loss.cutoff_A)]
    return replace(plain, forces=np.array(forces))


@pytest.fixture(scope="module")
def fitted(frames: Trajectory) -> Fit:
    return fit(frames, BASIS)


def test_channels_are_recovered(fitted: Fit, frames: Trajectory) -> None:
    """Forces of one channel of each kind are explained by one channel of each kind."""
    assert max(fitted.errors.relative_rmse.values()) < 1e-2
    known = {t.name: t for t in truth(frames).channels}
    assert {t.name for t in fitted.loss.channels} == set(known)
    for term in fitted.loss.angular_channels:
        both = [term, known[term.name]]
        assert np.sign(term.strength_eV) == np.sign(known[term.name].strength_eV)
        every = [
            term.densities(both, NeighbourSums(term, system))
            for system in systems(topology_of(frames[0]), frames, term.cutoff_A)
        ]
        ours, theirs = np.concatenate(every).transpose(1, 0, 2).reshape(2, -1)
        cosine = ours @ theirs / np.linalg.norm(ours) / np.linalg.norm(theirs)
        assert abs(cosine) > 0.999, term.name


def test_processes_and_threads_give_the_same_bytes(fitted: Fit, frames: Trajectory) -> None:
    said: list[tuple[str, int, int]] = []
    with threadpool_limits(2):
        again = fit(frames, BASIS, lambda *what: said.append(what), processes=2).loss
    assert again.dumps() == fitted.loss.dumps()
    assert ("invariants and normal equations", FRAMES, FRAMES) in said
    ends = {what: (done, total) for what, done, total in said}
    assert {"examination", "channels", "test on unseen frames"} <= set(ends)
    assert said[-1][0] == "other numbers of channels"
    assert all(done == total for done, total in ends.values()), "no bar stays short of its end"


def test_a_fit_tells_its_channels(fitted: Fit) -> None:
    told = fitted.loss.provenance["channels"]
    assert told["numbers"] == {
        "collective:Ne": 1,
        "collective:He": 1,
        "vector": 1,
        "quadrupole": 1,
    }
    assert told["by_order"] == [1, 1, 1]
    rows = {tuple(row["channels"]): row for row in told["curve"]}
    assert set(rows) == {(0, 0, 0), (1, 1, 1), *LADDER}
    assert [row["cost"] for row in told["curve"]] == sorted(row["cost"] for row in told["curve"])
    problem = fitted.collective
    assert problem is not None and isinstance(problem.problem, ChannelsProblem)
    residual = fitted.equations.residual(fitted.problem.test, fitted.solution)[0]
    number = fitted.equations.number_bs[list(fitted.problem.test), 0].sum()
    assert np.sqrt(residual / number) * 1000 == pytest.approx(
        fitted.errors.rmse_meV_per_A, rel=0.05, abs=0.5
    )
    assert rows[1, 1, 1]["unseen_meV_per_A"] == pytest.approx(np.sqrt(residual / number) * 1000)
    assert rows[0, 0, 0]["unseen_meV_per_A"] > 3 * rows[1, 1, 1]["unseen_meV_per_A"]


def test_densities_of_channels_have_variance_one_and_ranges(
    fitted: Fit, frames: Trajectory
) -> None:
    loss, topology = fitted.loss, topology_of(frames[0])
    sizes: dict[str, list[np.ndarray]] = {t.name: [] for t in loss.channels}
    for system in systems(topology, frames, loss.cutoff_A):
        for name, values in loss.densities(system).items():
            sizes[name].append(values)
    for term in loss.channels:
        values = np.concatenate(sizes[term.name])
        assert (values.min(), values.max()) == pytest.approx(term.range)
        assert ((values - term.rest) ** 2).mean() == pytest.approx(1.0, rel=0.1)


def test_densities_beyond_their_range_are_found(fitted: Fit, frames: Trajectory) -> None:
    """Of each channel the worst atom; none in the data, and no tensor is too short."""
    loss, topology = fitted.loss, topology_of(frames[0])
    system = next(systems(topology, frames, loss.cutoff_A))
    assert not loss.density_escapes(system)
    narrow = [replace(t, range=(t.rest, t.rest), fade=0.1) for t in loss.channels]
    escapes = {e.term: e for e in replace(loss, terms=tuple(narrow)).density_escapes(system)}
    for term, (name, sizes) in zip(narrow, loss.densities(system).items(), strict=True):
        beyond = sizes if term.order else np.abs(sizes - term.rest)
        centres = np.flatnonzero(np.isin(topology.symbols, term.species))
        worst = topology.atom_name(centres[np.argmax(beyond)])
        assert (name, escapes[name].atoms) == (term.name, (worst,))
        assert escapes[name].outside == pytest.approx(beyond.max())
    text = str(escapes["vector:1"])
    assert re.fullmatch(r"vector:1, (He|Ne)\d+: \d+\.\d{3}, more than 0\.000", text)


def test_walls_beside_angles_begin_outside(fitted: Fit) -> None:
    for term in fitted.loss.free_terms:
        assert term.wall_edge_A < term.sampled_A[0] - 0.015
        assert term.wall_stiffness_eV_per_A3 >= 300


def test_a_model_goes_through_its_file(fitted: Fit, tmp_path: Path) -> None:
    fitted.loss.save(tmp_path / "model.json")
    assert AgentLoss.load(tmp_path / "model.json").terms == fitted.loss.terms


def test_frames_of_the_data_are_not_new(fitted: Fit, frames: Trajectory) -> None:
    """What is new is told from the whole forms, of all orders."""
    judge = Judge(fitted, frames)
    verdicts = [judge.judge(frames[f]) for f in range(0, FRAMES, 8)]
    assert not any(verdict.unsound for verdict in verdicts)
    squeezed = replace(
        frames[3], positions=0.9 * frames.positions[3:4], cell=0.9 * frames.cell[3:4]
    )
    assert judge.judge(squeezed).new


def test_channels_in_a_configuration(tmp_path: Path) -> None:
    file = tmp_path / "build.toml"
    file.write_text('cp2k = "x"\n[fit]\nchannels = [2, 2, 1]\n')
    assert read_config(file).basis.channels == (2, 2, 1)
    file.write_text('cp2k = "x"\n[fit]\nchannels = [2.5, 2, 1]\n')
    with pytest.raises(
        InputError, match=r"channels are \[2.5, 2, 1\]; expected three whole numbers"
    ):
        read_config(file)


def test_channels_on_the_command_line() -> None:
    assert parse_channels("2,2,2") == (2, 2, 2)
    assert Basis(accuracy="balanced").channel_numbers == (2, 2, 2)
    assert Basis(accuracy="balanced", channels=(1, 0, 3)).channel_numbers == (1, 0, 3)
    assert Basis(accuracy="balanced", collective=2).channel_numbers == ()
    with pytest.raises(InputError) as caught:
        parse_channels("two")
    assert str(caught.value) == (
        "channels are three numbers, of order 0 for each species, of order 1 and of order 2:"
        " 2,2,2; found 'two'"
    )


@pytest.mark.parametrize(
    ("channels", "collective", "expected"),
    [
        (
            (1, 1),
            0,
            "the channels are [1, 1]; expected three whole numbers: of order 0 for each species,"
            " of order 1 and of order 2",
        ),
        (
            (0, 0, 0),
            0,
            "the channels are [0, 0, 0], none at all: leave them out",
        ),
        (
            (1, 1, 1),
            6,
            "channels come instead of a collective loss: ask for one of the two",
        ),
    ],
)
def test_impossible_channels_are_refused(
    channels: tuple[int, ...], collective: int, expected: str
) -> None:
    with pytest.raises(InputError) as caught:
        Basis(channels=channels, collective=collective)
    assert str(caught.value) == expected
