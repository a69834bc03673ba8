"""Whether positions, forces, velocities, energies, times and cell of frames belong together."""

from mld_ff.consistency.examination import Examination, contradictions, examine, examine_all

__all__ = ["Examination", "contradictions", "examine", "examine_all"]
