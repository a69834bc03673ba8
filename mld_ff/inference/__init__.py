"""Inference: from a stream of frames to the loss, by linear least squares on normal equations."""

from mld_ff.inference.accumulation import Accumulated, accumulate
from mld_ff.inference.basis import Basis
from mld_ff.inference.dataset import Dataset, Part
from mld_ff.inference.design import design_matrix
from mld_ff.inference.exponents import ExponentScan, scan
from mld_ff.inference.fitting import Fit, fit, gather, solve
from mld_ff.inference.normal_equations import NormalEquations
from mld_ff.inference.problem import Problem
from mld_ff.inference.shards import SUFFIX, read_shard, read_shards, write_shard
from mld_ff.inference.words import parse_channels, parse_rank

__all__ = [
    "SUFFIX",
    "Accumulated",
    "Basis",
    "Dataset",
    "ExponentScan",
    "Fit",
    "NormalEquations",
    "Part",
    "Problem",
    "accumulate",
    "design_matrix",
    "fit",
    "gather",
    "parse_channels",
    "parse_rank",
    "read_shard",
    "read_shards",
    "scan",
    "solve",
    "write_shard",
]
