"""Options of engines."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from mld_ff.engines.openmm.run import PRECISIONS
from mld_ff.verification import ENGINES

EngineName = Annotated[str, Parameter(choices=ENGINES, help="That runs the model.")]
Platform = Annotated[
    str | None,
    Parameter(
        help="OpenMM's: CPU, CUDA, HIP, OpenCL or Reference. If not given, the fastest present."
    ),
]
Precision = Annotated[
    str | None,
    Parameter(
        choices=PRECISIONS, help="Of CUDA, HIP or OpenCL. If not given, OpenMM's own, single."
    ),
]
