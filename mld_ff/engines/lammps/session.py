"""A session of molecular dynamics by the exported in.nvt."""

from __future__ import annotations

import re

from mld_ff.engines.engine import Session
from mld_ff.engines.lammps.executable import launch

ROW = re.compile(r"\s*(\d+)(\s+[-+.\de]+){8}\s*")
"""Of in.nvt's thermodynamic output."""


def run_session(session: Session) -> None:
    """Run `in.nvt`. Raises EngineError if LAMMPS stops or warns."""
    settings, checkpoint = session.settings, session.checkpoint

    def listen(line: str) -> None:
        if row := ROW.fullmatch(line):
            session.at_step(int(row[1]))

    to = session.output.relative_to(session.files).as_posix() + "/"
    variables: dict[str, object] = {
        "ensemble": settings.ensemble,
        "P": settings.pressure_bar,
        "steps": settings.steps,
        "every": settings.every,
        "keep": settings.keep,
        "dump": "dcd",
        "velocities": "yes" if settings.velocities else "no",
        "start": f"read_restart {checkpoint.name}" if checkpoint else "read_data system.data",
        "to": to,
    }
    launch(session.files, "in.nvt", variables, session.device, listen, to + "log.lammps")
