"""Dipoles, dielectric constants and infrared spectra of runs beside the reference."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mld_ff.geometry.slabs import VACUUM_A, gaps
from mld_ff.geometry.topology import Topology, TopologyKind, topology_of
from mld_ff.report.comparison import Comparison
from mld_ff.report.dipoles import (
    FEWEST_MEMORIES,
    are_molecules_neutral,
    box_dipole,
    charges_of_atoms,
    dielectric,
    molecular_dipoles,
    so_far,
)
from mld_ff.report.infrared import Absorption, absorption
from mld_ff.report.plots import Band
from mld_ff.report.runs import LearnedRun
from mld_ff.report.spectrum import (
    STRETCH_FROM,
    Resolution,
    bond_wavenumbers,
    common_resolution,
    stride_of,
)
from mld_ff.report.statistics import evenly_spaced, mean
from mld_ff.report.style import PRINTED, REFERENCE, subject
from mld_ff.report.vibrations import run_again
from mld_ff.trajectory import Floats, PrintedDipole, Trajectory
from mld_ff.units import CM_TO_FS, DEBYE_TO_E_A, FS_TO_PS

BINS = 60
BY_CHARGES = "by the model's charges, which are those that forces know, not those of electrons"
SMOOTH = 8.0
"""A printed dipole that jumps by this many times what nine in ten of its steps are below is not one
path: point charges in a Berry phase cross the boundary of the cell."""


@dataclass(frozen=True)
class _Charged:
    """A trajectory with charges."""

    frames: Trajectory
    topology: Topology
    charges: Floats
    """[e], (N,)."""
    dipole: Floats
    """Of the box [e Å], (F, 3)."""
    temperature_K: float

    @property
    def volume_A3(self) -> float:
        return float(np.abs(np.linalg.det(self.frames.cell)).mean())


def compare_electrostatics(
    reference: Trajectory,
    runs: Sequence[LearnedRun],
    kind: TopologyKind,
    charges_e: Mapping[str, float],
    printed: PrintedDipole | None = None,
    temperature_K: float | None = None,
) -> Comparison:
    """By the same charges on all frames, beside the dipole that the reference printed.

    temperature_K: of the reference; that of the first run where it is not known.
    """
    comparison = Comparison()
    of_run = {run.name: float(run.temperature_K.mean()) for run in runs}
    kelvin = {REFERENCE: temperature_K or next(iter(of_run.values()))} | of_run
    charged = {
        name: _charged(frames, kind, charges_e, kelvin[name])
        for name, frames in {REFERENCE: reference, **{r.name: r.settled for r in runs}}.items()
    }
    _add_molecules(comparison, charged)
    if uneven := [subject(name) for name, c in charged.items() if not evenly_spaced(c.frames)]:
        comparison.notes.append(
            f"Dielectric constant and infrared spectrum are left out: frames of"
            f" {' and '.join(uneven)} are not equally far apart in time."
        )
        return comparison
    _add_dielectric(comparison, charged)
    remedies: dict[str, Callable[[float], str]] = {subject(REFERENCE): reference.origin.denser}
    remedies |= {subject(run.name): run_again(run) for run in runs}
    _add_infrared(comparison, charged, remedies, printed)
    return comparison


def _charged(
    frames: Trajectory, kind: TopologyKind, charges_e: Mapping[str, float], kelvin: float
) -> _Charged:
    topology = topology_of(frames, kind)
    charges = charges_of_atoms(charges_e, topology)
    return _Charged(frames, topology, charges, box_dipole(frames, topology, charges), kelvin)


def _add_molecules(comparison: Comparison, charged: Mapping[str, _Charged]) -> None:
    """Mean dipoles of neutral molecules, and how they are spread."""
    each = {n: molecular_dipoles(c.frames, c.topology, c.charges) for n, c in charged.items()}
    formulas = list(each[REFERENCE])
    if not formulas:
        return
    curves: dict[str, list[Band]] = {}
    for name, by_formula in each.items():
        comparison.statistics[name] = {
            f"dipole:{formula} mean_D": mean(by_formula[formula].mean(axis=1) / DEBYE_TO_E_A)
            for formula in formulas
        }
        curves[name] = [_distribution(by_formula[f].ravel() / DEBYE_TO_E_A) for f in formulas]
    caption = f"Dipoles of molecules {BY_CHARGES}."
    comparison.draw("dipoles", caption, formulas, curves, ("dipole [D]", "density [1/D]"))


def _distribution(values: Floats) -> Band:
    density, edges = np.histogram(values, BINS, density=True)
    return (edges[1:] + edges[:-1]) / 2, density


def _add_dielectric(comparison: Comparison, charged: Mapping[str, _Charged]) -> None:
    if not all(are_molecules_neutral(c.charges, c.topology) for c in charged.values()):
        comparison.notes.append(
            "No dielectric constant is told: atoms or molecules have a net charge, and what"
            " conducts has no finite one. Their itinerant dipole, followed without jumps at the"
            " boundary, is in the infrared spectrum."
        )
        return
    reference = charged[REFERENCE].frames
    if gaps(reference.positions[0], reference.cell[0])[0].max() > VACUUM_A:
        comparison.notes.append(
            "No dielectric constant is told: a vacuum is in the box, and that of the whole box is"
            " nothing's."
        )
        return
    curves: dict[str, list[Band]] = {}
    for name, c in charged.items():
        found = dielectric(c.dipole, stride_of(c.frames), c.volume_A3, c.temperature_K)
        comparison.statistics.setdefault(name, {})["dielectric_constant"] = found.constant
        if not found.is_told:
            comparison.notes.append(
                f"{subject(name)[0].upper()}{subject(name)[1:]} is too short for a dielectric"
                f" constant: {found.length_ps:.3g} ps are {found.length_ps / found.memory_ps:.2g}"
                " times that which the correlation of the box's dipole takes to vanish"
                f" ({found.memory_ps:.2g} ps, more in a longer run), and {FEWEST_MEMORIES:.0f} are"
                " needed for an error of 15 %."
            )
        time_ps = (c.frames.time - c.frames.time[0]) * FS_TO_PS
        k, constant = so_far(c.dipole, c.volume_A3, c.temperature_K)
        until = time_ps[k - 1]
        path = (c.dipole[k - 1] - c.dipole.mean(axis=0)) / DEBYE_TO_E_A
        curves[name] = [(until, constant), *((until, x) for x in path.T)]
    caption = (
        "Static dielectric constant of the frames so far, from fluctuations of the box's dipole"
        f" {BY_CHARGES}; it is told where it has become flat. Then that dipole less its mean [D]."
        " Periodic boxes in a conductor; with fixed charges the constant at infinite frequency is"
        " 1."
    )
    titles = ["dielectric constant", *("dipole of the box, " + axis for axis in "xyz")]
    comparison.draw("dielectric", caption, titles, curves, ("time [ps]", "ε, or [D]"))


def _add_infrared(
    comparison: Comparison,
    charged: Mapping[str, _Charged],
    remedies: Mapping[str, Callable[[float], str]],
    printed: PrintedDipole | None,
) -> None:
    kelvin = max(c.temperature_K for c in charged.values())
    by_subject = {subject(name): c.frames for name, c in charged.items()}
    resolution, against = common_resolution(by_subject, kelvin, remedies, velocities=False)
    if resolution is None:
        comparison.notes += [f"The infrared spectrum is left out: {text}" for text in against]
        return
    reference = charged[REFERENCE]
    bonds = bond_wavenumbers(reference.frames, kelvin)
    begins = STRETCH_FROM * max(bonds.values(), default=np.inf)
    spectra: dict[str, Absorption] = {}
    for name, c in charged.items():
        every = resolution.every[subject(name)]
        stride_fs = every * stride_of(c.frames)
        spectra[name] = absorption(
            c.dipole[::every],
            *(stride_fs, c.volume_A3, c.temperature_K, resolution.lag_fs, resolution.per_cm),
            begins,
        )
        if (band := spectra[name].stretch) is not None:
            comparison.statistics.setdefault(name, {})["infrared:stretch_per_cm"] = band
    if printed is not None:
        own = _of_printed(printed, reference, resolution, comparison.notes)
        spectra |= {PRINTED: own} if own is not None else {}
    curves = {n: [(s.per_cm, s.coefficient, s.error)] for n, s in spectra.items()}
    caption = (
        "Infrared absorption α times refractive index n, from the autocorrelation of the current"
        f" Σ q v {BY_CHARGES}, with block errors (bands); a Hann window makes lines"
        f" {CM_TO_FS / resolution.lag_fs:.0f} cm⁻¹ wide. Classical; the harmonic quantum correction"
        " gives the same."
        + (" Dotted: from the dipole that the reference printed." if PRINTED in spectra else "")
    )
    axes = ("wavenumber [cm⁻¹]", "α n [cm⁻¹]")
    comparison.draw("infrared", caption, ["infrared spectrum"], curves, axes)


def _of_printed(
    printed: PrintedDipole, reference: _Charged, resolution: Resolution, notes: list[str]
) -> Absorption | None:
    """None where it does not tell one, with a note."""
    left_out = "The infrared spectrum of the reference's own dipole is left out:"
    stride_fs = printed.stride_fs
    if stride_fs is None:
        notes.append(f"{left_out} it was not printed at equal times.")
        return None
    if stride_fs > CM_TO_FS / (2 * resolution.per_cm[-1]) * (1 + 1e-3):
        notes.append(f"{left_out} it was printed every {stride_fs:g} fs only.")
        return None
    step = np.abs(np.diff(printed.dipole, axis=0))
    if (step.max(axis=0) > SMOOTH * np.quantile(step, 0.9, axis=0)).any():
        notes.append(
            f"{left_out} it jumps where point charges cross the boundary, as the periodic dipoles"
            " of CP2K's FIST and xTB do; print it with PERIODIC .FALSE."
        )
        return None
    every = max(1, int(CM_TO_FS / (2 * resolution.per_cm[-1]) / stride_fs + 1e-6))
    dipole = printed.dipole[::every]
    if len(dipole) * every * stride_fs * 0.75 / 5 < resolution.lag_fs:
        notes.append(f"{left_out} it is shorter than the frames.")
        return None
    volume, kelvin = reference.volume_A3, reference.temperature_K
    return absorption(
        dipole, every * stride_fs, volume, kelvin, resolution.lag_fs, resolution.per_cm
    )
