"""Inputs for CP2K that make reference data: molecular dynamics from a frame, or energy and forces
of given frames.

What is written are the templates of `templates/cp2k` with the defaults of their `@SET` lines
replaced, and the atoms beside them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from mld_ff.errors import InputError, check_seed
from mld_ff.files import read_template, write_files
from mld_ff.names import check_word
from mld_ff.sources.cp2k.read.discover import role_of
from mld_ff.sources.cp2k.run.frames import cell_table, system, xyz
from mld_ff.trajectory import Trajectory

Method = Literal["dft", "nnp", "xtb"]
METHODS = get_args(Method)
FUNCTIONALS = {"BLYP": "GTH-BLYP", "PBE": "GTH-PBE", "revPBE": "GTH-PBE"}
"""By CP2K's name, which its D3 table shares: the pseudopotentials made for the functional."""
ATOMS = "system.inc"


@dataclass(frozen=True)
class Reference:
    """How reference data are made."""

    method: Method = "nnp"
    """How energy and forces are computed: dft, Born–Oppenheimer DFT with D3; nnp, the committee
    network of water; xtb, GFN1-xTB, for any molecules.
    """
    temperature_K: float = 300.0
    """Of the thermostat."""
    steps: int = 10000
    """Of molecular dynamics, in all."""
    timestep_fs: float = 0.5
    """Of the integrator."""
    damping_fs: float = 50.0
    """Time constant of the Nosé–Hoover chain, CP2K's TIMECON."""
    every: int = 20
    """Steps between frames."""
    relax_steps: int = 50
    """Steps of the relaxation that precedes dynamics; 0 for none."""
    seed: int = 1
    """Of the velocities."""
    functional: str = "BLYP"
    """Of DFT: BLYP, PBE or revPBE."""
    basis: str = "DZVP-MOLOPT-SR-GTH"
    """Of DFT: name in CP2K's BASIS_MOLOPT or BASIS_SET."""
    cutoff_Ry: float = 400.0
    """Of DFT's real-space grid."""
    rel_cutoff_Ry: float = 50.0
    """Of DFT: which grid a Gaussian is mapped to, CP2K's REL_CUTOFF."""
    charge: int = 0
    """Of the cell, in e: 1 for an excess proton in water."""

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise InputError(f"the method is {self.method!r}; known: {', '.join(METHODS)}")
        if self.functional not in FUNCTIONALS:
            raise InputError(
                f"the functional is {self.functional!r}; known: {', '.join(FUNCTIONALS)}. For"
                " another one edit &XC and FUNCTIONAL, POTENTIAL in the dft.inp that is written"
            )
        check_word("the basis", self.basis)
        check_seed(self.seed)
        for name in (
            "temperature_K",
            "steps",
            "timestep_fs",
            "damping_fs",
            "every",
            "cutoff_Ry",
            "rel_cutoff_Ry",
        ):
            if not 0 < getattr(self, name) < math.inf:
                raise InputError(f"{name} is {getattr(self, name)}; it must be positive")
        if self.relax_steps < 0:
            raise InputError(
                f"relax_steps is {self.relax_steps}; it must not be negative (0 leaves relaxation"
                " out)"
            )

    @property
    def main(self) -> str:
        """Name of the input that CP2K is given."""
        return f"{self.method}.inp"

    @property
    def method_values(self) -> dict[str, object]:
        if self.method == "nnp":
            return {}
        if self.method == "xtb":
            return {"CHARGE": self.charge}
        return {
            "CHARGE": self.charge,
            "FUNCTIONAL": self.functional,
            "POTENTIAL": FUNCTIONALS[self.functional],
            "BASIS": self.basis,
            "CUTOFF": self.cutoff_Ry,
            "REL_CUTOFF": self.rel_cutoff_Ry,
        }

    @property
    def md_values(self) -> dict[str, object]:
        return {
            "STEPS": self.steps,
            "TIMESTEP": self.timestep_fs,
            "TEMPERATURE": self.temperature_K,
            "TIMECON": self.damping_fs,
            "EVERY": self.every,
            "SEED": self.seed,
        }


def write_reference(directory: Path | str, reference: Reference, frame: Trajectory) -> list[Path]:
    """Write the input of molecular dynamics that starts from one frame; returns the files written.

    Velocities are drawn by CP2K where the frame has none, or where it is relaxed first. The same
    input that lies there already is left alone. Raises InputError if another one, or another run,
    does, or the method cannot describe the atoms.
    """
    _describable(reference, frame)
    relaxes = reference.relax_steps > 0
    files = {
        reference.main: filled(f"cp2k/{reference.main}", reference.method_values),
        "md.inc": filled("cp2k/md.inc", reference.md_values),
        ATOMS: system(frame, with_velocities=not relaxes),
    }
    if relaxes:
        files["relax.inc"] = filled("cp2k/relax.inc", {"RELAX_STEPS": reference.relax_steps})
    return _write(Path(directory), files)


def write_labels(directory: Path | str, reference: Reference, frames: Trajectory) -> list[Path]:
    """Write the input that computes energy and forces of every frame (ENSEMBLE REFTRAJ); returns
    the files written.

    The frames are numbered from 1 in CP2K's output. Raises InputError as `write_reference`.
    """
    _describable(reference, frames)
    varies = bool((frames.cell != frames.cell[0]).any())
    values = {"FRAMES": frames.n_frames, "CELL_VARIES": ".TRUE." if varies else ".FALSE."}
    files = {
        reference.main: filled(
            f"cp2k/{reference.main}", {"RUN": "label", **reference.method_values}
        ),
        "label.inc": filled("cp2k/label.inc", values),
        ATOMS: system(frames[0], with_velocities=False),
        "frames.xyz": xyz(frames),
    }
    if varies:
        files["frames.cell"] = cell_table(frames)
    return _write(Path(directory), files)


def filled(template: str, values: Mapping[str, object]) -> str:
    """A template with the defaults of its lines `@SET NAME ${NAME-default}` replaced."""
    text = read_template(template)
    for name, value in values.items():
        text, times = re.subn(
            rf"(?m)^(@SET\s+{name}\s+\${{{name}-)[^}}]*}}", rf"\g<1>{value}}}", text
        )
        assert times == 1, f"{template} sets {name} {times} times"
    return text


def _describable(reference: Reference, frame: Trajectory) -> None:
    if reference.method == "nnp" and reference.charge:
        raise InputError("the network knows neutral water only: choose the method xtb or dft")
    others = sorted(set(frame.symbols) - {"H", "O"})
    if reference.method == "nnp" and (
        others or frame.symbols.count("H") != 2 * frame.symbols.count("O")
    ):
        raise InputError(
            "the network knows water only; found"
            f" {', '.join(others) or 'H and O not in the ratio 2 to 1'}: choose the method xtb"
            " or dft"
        )


def _write(directory: Path, files: Mapping[str, str]) -> list[Path]:
    """Write what is not there yet; nothing at all if the directory holds something else."""
    if directory.is_file():
        raise InputError("is a file: give a directory to write to", directory)
    present = sorted(f for f in directory.iterdir() if f.is_file()) if directory.is_dir() else []
    ours = {f.name for f in present} & files.keys()
    foreign = [f.name for f in present if role_of(f) and f.name not in files]
    same = [name for name in ours if (directory / name).read_text(encoding="utf-8") == files[name]]
    if len(same) == len(files):
        return [directory / name for name in files]
    if ours or foreign:
        changed = [name for name in files if name in ours and name not in same]
        there = changed or foreign or sorted(ours)
        raise InputError(
            f"holds another input or run already ({', '.join(there[:4])}); choose another"
            " directory, remove this one, or continue what is there with --resume",
            directory,
        )
    return write_files(directory, files)
