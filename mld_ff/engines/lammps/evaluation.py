"""Energies and forces of frames, computed by LAMMPS from exported files."""

from __future__ import annotations

import re
import shutil
import tempfile
from pathlib import Path

import numpy as np

from mld_ff.engines.lammps import dump
from mld_ff.engines.lammps.executable import launch
from mld_ff.engines.lammps.export import DIPOLE_OF_SLAB
from mld_ff.engines.lammps.thermo import thermo
from mld_ff.engines.settings import Device
from mld_ff.errors import EngineError, InputError
from mld_ff.names import shown
from mld_ff.trajectory import Floats, Trajectory

EVALUATE = """\
units metal
atom_style {style}
boundary p p p
read_data system.data
include forcefield.lmp
neighbor 0.0 bin
thermo_style custom step pe
thermo_modify format float %.16g
thermo 1
dump forces all custom 1 {out} id fx fy fz
dump_modify forces sort id format float %.16g
fix integrator all nve
rerun {frames} dump x y z ix iy iz box yes
"""
EXPORTED = (".table", ".eam", ".adp", ".lmp", ".data")
"""Suffixes of the files that it needs."""
STYLES = {"table", "spline", "hybrid/overlay", "hybrid/scaled", "eam/he", "adp", "zero", "nocoeff"}
STYLES |= {"coul/long", "pppm"}
"""Words of the styles that exports use; LAMMPS has some that load programs."""
COMMANDS = {"pair_style", "pair_coeff", "bond_style", "bond_coeff", "special_bonds", "comm_modify"}
COMMANDS |= {"kspace_style", "kspace_modify", "pair_modify"}
"""All that forcefield.lmp is made of; LAMMPS has some that run programs."""


def evaluate(
    directory: Path | str, frames: Trajectory, device: Device | None = None
) -> tuple[Floats, Floats]:
    """Potential energy (F,) [eV] and forces (F, N, 3) [eV/Å] of frames with the files of
    `export_lammps`.

    Frames must be in engine form (`Start.engine_frames`). Raises EngineError if LAMMPS stops or
    warns.
    """
    style = _atom_style(Path(directory), frames)
    _check_commands(Path(directory) / "forcefield.lmp")
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        for file in Path(directory).iterdir():
            if file.suffix in EXPORTED:
                shutil.copy(file, work)
        text = "".join(dump.frames_text(frames))
        (work / "frames.lammpstrj").write_text(text, encoding="ascii")
        (work / "in.evaluate").write_text(
            EVALUATE.format(style=style, out="forces.lammpstrj", frames="frames.lammpstrj")
        )
        launch(work, "in.evaluate", {}, device)
        log = (work / "log.lammps").read_text(encoding="utf-8", errors="replace")
        return _energies(log), dump.vectors(work / "forces.lammpstrj")


def _atom_style(directory: Path, frames: Trajectory) -> str:
    """Of the data file. Raises InputError unless it is of the atoms of the frames."""
    data = directory / "system.data"
    if not data.is_file():
        raise InputError("no such file; write it with `mld-ff export --engine lammps`", data)
    text = data.read_text(encoding="utf-8", errors="replace")
    atoms = re.search(r"^(\d+) atoms$", text, re.MULTILINE)
    if atoms is None or int(atoms[1]) != frames.n_atoms:
        number = atoms[1] if atoms else "no"
        raise InputError(f"holds {number} atoms, the frames {frames.n_atoms}", data)
    style = re.search(r"^Atoms  # (atomic|molecular|full)$", text, re.MULTILINE)
    return style[1] if style else "molecular"


def _check_commands(file: Path) -> None:
    """Raise InputError for what no export writes: the files may be somebody else's."""
    if not file.is_file():
        raise InputError("no such file; write it with `mld-ff export --engine lammps`", file)
    text = file.read_text(encoding="utf-8", errors="replace")
    for number, line in enumerate(text.splitlines(), 1):
        command, *words = line.split() or ["#"]
        if command.startswith("#") or line in DIPOLE_OF_SLAB.splitlines():
            continue
        is_style = command.endswith("_style")
        foreign = [w for w in words if w not in STYLES and not _is_number(w)] if is_style else []
        if command not in COMMANDS or foreign or set("$&\"'") & {*line}:
            raise InputError(
                f"holds {shown(line.strip())}, which no export writes and which could run any"
                " program: export the model again with `mld-ff export --engine lammps`",
                file,
                number,
            )


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _energies(log: str) -> Floats:
    for names, rows in thermo(log):
        return np.array(rows)[:, names.index("PotEng")]
    raise EngineError("LAMMPS printed no thermodynamic output")
