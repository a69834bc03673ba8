"""OpenMM, as the rest of mld_ff knows it."""

from __future__ import annotations

from mld_ff.engines.engine import Engine, RunFiles, lazily

HERE = "mld_ff.engines.openmm"

OPENMM = Engine(
    name="openmm",
    label="OpenMM",
    export=lazily(f"{HERE}.export", "export_openmm"),
    evaluate=lazily(f"{HERE}.evaluation", "evaluate"),
    find=lazily(f"{HERE}.platforms", "find_device"),
    run=lazily(f"{HERE}.session", "run_session"),
    files=RunFiles(
        log="log.csv",
        read_log=lazily(f"{HERE}.session", "read_log"),
        velocities="velocities.dcd",
        read_velocities=lazily("mld_ff.engines.dcd", "read_velocities"),
        join_velocities=lazily("mld_ff.engines.dcd", "join"),
        checkpoints=("checkpoint.chk",),
        final="final.xml",
        first_frame=1,
    ),
    # The CPU platform computes nonbonded forces in float32: 6e-8 of positions of 12 Å, times
    # curvatures of at most some 40 eV/Å² (a bond of water without molecules), gives 3e-5 eV/Å, for
    # every pair at an atom. Measured there: 6.6e-5, and 1.6e-4 in a cell three times as long.
    force_tolerance_eV_per_A=1e-4,
    rounds_positions=True,
    # By its own forces. In Python it is 0.74 of LAMMPS's in the same run, but loops of matching
    # and refining, which go by this, have not been tried with that yet.
    balanced_us_per_atom=3.6,
    color="#0072b2",
    device_options=("platform", "precision", "many_body"),
    many_body_ways=lazily(f"{HERE}.neighbours", "many_body_ways"),
    version=lazily(f"{HERE}.platforms", "version"),
    devices=lazily(f"{HERE}.platforms", "devices"),
)
"""Its velocities are those half a timestep before the positions of the same frame, [Å/ps] in the
form of a DCD file; its reporters leave out the frame that a session starts from.
"""
