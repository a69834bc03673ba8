"""Inference: from a stream of frames to the loss, by linear least squares on normal equations."""

from mld_ff.inference.basis import Basis, parse_rank
from mld_ff.inference.equations import Accumulated, NormalEquations, accumulate, design_matrix
from mld_ff.inference.fit import fit
from mld_ff.inference.problem import Problem
from mld_ff.inference.scan import Scan, scan

__all__ = [
    "Accumulated",
    "Basis",
    "NormalEquations",
    "Problem",
    "Scan",
    "accumulate",
    "design_matrix",
    "fit",
    "parse_rank",
    "scan",
]
