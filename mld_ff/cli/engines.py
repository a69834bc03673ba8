"""Options of engines."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from mld_ff.engines.registry import ENGINES

EngineName = Annotated[str, Parameter(choices=tuple(ENGINES), help="That runs the model.")]
