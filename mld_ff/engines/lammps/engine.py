"""LAMMPS, as the rest of mld_ff knows it."""

from __future__ import annotations

from mld_ff.engines.engine import Engine, RunFiles, lazily

HERE = "mld_ff.engines.lammps"

LAMMPS = Engine(
    name="lammps",
    label="LAMMPS",
    export=lazily(f"{HERE}.export", "export_lammps"),
    evaluate=lazily(f"{HERE}.evaluation", "evaluate"),
    find=lazily(f"{HERE}.executable", "find_device"),
    run=lazily(f"{HERE}.session", "run_session"),
    files=RunFiles(
        log="log.lammps",
        read_log=lazily(f"{HERE}.thermo", "read_log"),
        velocities="velocities.lammpstrj",
        read_velocities=lazily(f"{HERE}.dump", "read_velocities"),
        join_velocities=lazily(f"{HERE}.dump", "join"),
        checkpoints=("restart.a", "restart.b", "restart.end"),
        final="final.data",
        checkpoint_end=b"LammpS RestartT\0",
    ),
    # It computes in float64 but looks tables up: its spline in r² through points 0.001 Å apart errs
    # by less than 1e-6 eV/Å, and at extrema of a force, where the file holds the slope of the
    # energy instead, by up to 1e-4.
    force_tolerance_eV_per_A=2e-4,
    balanced_us_per_atom=6.8,
    device_options=("processes",),
    color="#d55e00",
    linestyle="--",
    precision="double",
    version=lazily(f"{HERE}.executable", "version"),
    devices=lazily(f"{HERE}.executable", "devices"),
)
"""Its velocities are a dump of its own [Å/ps]; like CP2K's they belong to the positions of the same
frame.
"""
