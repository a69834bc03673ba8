"""Which model, which system, how long, by what: the facts of a study, and its methods section."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

import numpy as np

from mld_ff.engines.settings import MD
from mld_ff.geometry.topology import Topology
from mld_ff.loss.densities import DensityTerm
from mld_ff.loss.model import AgentLoss
from mld_ff.report.runs import EQUILIBRATION
from mld_ff.report.structure import LEAST_ANGLE_DEG, LONGEST_BOND_A
from mld_ff.report.style import REFERENCE, label_of
from mld_ff.report.symbols import formula_of
from mld_ff.tables import Table
from mld_ff.trajectory import Trajectory
from mld_ff.units import FS_TO_PS
from mld_ff.version import __version__

if TYPE_CHECKING:
    from mld_ff.report.study import Study

CITATIONS = {
    "method": "Y. Gusev, V. Vanchurin, Molecular Learning Dynamics, arXiv:2504.10560 (2025)",
    "openmm": "P. Eastman et al., OpenMM 8, J. Phys. Chem. B 128, 109 (2024)",
    "lammps": "A. P. Thompson et al., LAMMPS, Comput. Phys. Commun. 271, 108171 (2022)",
    "CP2K": "T. D. Kühne et al., CP2K, J. Chem. Phys. 152, 194103 (2020)",
    "analysis": "R. J. Gowers et al., MDAnalysis, Proc. 15th Python in Science Conf., 98 (2016)",
}
"""Of what a study rests on; `method` and `analysis` of every one."""


@dataclass(frozen=True)
class Simulated:
    """What one trajectory is of."""

    frames: int
    length_ps: float
    molecules: Mapping[str, int]
    """By formula."""
    volume_A3: float
    """Mean over the frames."""
    settings: MD | None = None
    """Of a run."""

    @classmethod
    def of(cls, frames: Trajectory, topology: Topology, settings: MD | None = None) -> Simulated:
        length_ps = float(frames.time[-1] - frames.time[0]) * FS_TO_PS
        volume = float(np.abs(np.linalg.det(frames.cell)).mean())
        return cls(frames.n_frames, length_ps, topology.formulas(), volume, settings)


def facts_table(study: Study) -> Table:
    """A row of the model, of the system, of every trajectory, and of who wrote this and when."""
    rows = [["model", describe_model(study.loss)]]
    reference = study.simulated.get(REFERENCE)
    if reference is not None:
        rows.append(["system", f"{_listed(reference.molecules)} in {reference.volume_A3:.0f} Å³"])
    for name, simulated in study.simulated.items():
        label = study.origin.name if name == REFERENCE else label_of(name)
        rows.append([label, _told(study, simulated)])
    rows.append(["written", f"{date.today().isoformat()} by mld_ff {__version__}"])
    return Table(["", ""], rows, "ll")


def describe_model(loss: AgentLoss) -> str:
    """Its terms, counted."""
    told = [f"{len(loss.free_terms)} kinds of free pairs", f"{len(loss.bond_terms)} of bonded ones"]
    orders = Counter(t.order for t in loss.channels if isinstance(t, DensityTerm))
    names = {0: "densities", 1: "vectors", 2: "quadrupoles"}
    told += [
        f"{n} channel{'s' if n > 1 else ''} of {names[order]}"
        for order, n in sorted(orders.items())
    ]
    if n := loss.provenance.get("n_coefficients"):
        told.append(f"{n} coefficients")
    if loss.provenance.get("matched"):
        told.append("distances matched to the reference's")
    return ", ".join(told)


def _listed(molecules: Mapping[str, int]) -> str:
    return ", ".join(f"{n} {formula_of(formula)}" for formula, n in molecules.items())


def _told(study: Study, simulated: Simulated) -> str:
    settings, origin = simulated.settings, study.origin
    told = [f"{simulated.frames} frames"]
    if settings is not None or origin.is_dynamics:
        told.append(f"{simulated.length_ps:.3g} ps")
    ensemble = settings.ensemble.upper() if settings else origin.ensemble
    temperature = settings.temperature_K if settings else origin.temperature_K
    timestep = settings.timestep_fs if settings else origin.timestep_fs
    told += [ensemble] if ensemble else []
    told += [f"{temperature:g} K"] if temperature else []
    told += [f"steps of {timestep:g} fs"] if timestep else []
    if settings is None and origin.version:
        told.append(f"version {origin.version}")
    return ", ".join(told)


def methods_paragraph(study: Study) -> str:
    """Text to copy: what was fitted, run and compared, with numbers in brackets for `citations`."""
    names = list(_cited(study))
    number = {name: f" [{k + 1}]" for k, name in enumerate(names)}
    p, reference = study.loss.provenance, study.origin.name
    sentences = []
    if study.tells_its_fit:
        learned = "forces and stresses" if p.get("stress_weight") else "forces"
        sentences.append(
            f"A force field ({describe_model(study.loss)}) was fitted by linear least squares to"
            f" the {learned} in {p['frames_train']} frames of {reference}"
            f"{number.get(study.origin.program or '', '')} with mld_ff"
            f" {__version__}{number['method']}, with a ridge of {p['ridge']:g} from"
            f" cross-validation over contiguous blocks; on {p['frames_test']} frames in blocks left"
            f" out the root mean square error of force components is {p['rmse_meV_per_A']:.0f}"
            " meV/Å."
        )
    for name, simulated in study.simulated.items():
        if (md := simulated.settings) is not None:
            engine = name.split()[0]
            sentences.append(
                f"{label_of(name)}{number.get(engine, '')} ran it for {md.time_ps:g} ps in the"
                f" {md.ensemble.upper()} ensemble at {md.temperature_K:g} K with steps of"
                f" {md.timestep_fs:g} fs"
                + ("" if md.ensemble == "nve" else f" and a damping time of {md.damping_fs:g} fs")
                + "."
            )
    sentences.append(
        f"The first {100 * EQUILIBRATION:.0f} % of each run was left out. Standard errors are those"
        " of a jack-knife over five contiguous blocks. Hydrogen bonds have a donor–acceptor"
        f" distance below {LONGEST_BOND_A:g} Å and an angle at the hydrogen above"
        f" {LEAST_ANGLE_DEG:g}°{number['analysis']}."
    )
    return " ".join(sentences)


def citations(study: Study) -> list[str]:
    """What `methods_paragraph` refers to, in order."""
    return list(_cited(study).values())


def _cited(study: Study) -> dict[str, str]:
    engines = [name.split()[0] for name, of in study.simulated.items() if of.settings is not None]
    names = dict.fromkeys(["method", study.origin.program or "", *engines, "analysis"])
    return {name: CITATIONS[name] for name in names if name in CITATIONS}


def provenance_table(study: Study) -> Table:
    """Files, checksums and directories."""
    source = study.loss.provenance.get("source", {})
    rows = [["frames fitted", ", ".join(source.get("files", [])) or "in memory"]]
    if sha256 := source.get("sha256"):
        rows.append(["their SHA-256", sha256])
    if study.origin.files:
        rows.append(["reference", ", ".join(study.origin.files)])
    if study.origin.sha256:
        rows.append(["its SHA-256", study.origin.sha256])
    rows += [[label_of(name), str(directory)] for name, directory in study.runs.items()]
    return Table(["", ""], rows, "ll")
