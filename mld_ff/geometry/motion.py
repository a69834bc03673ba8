"""How atoms move from frame to frame, whatever images their positions are given at."""

from __future__ import annotations

import numpy as np

from mld_ff.trajectory import Floats


def displacements(positions: Floats, cells: Floats) -> Floats:
    """From every frame to the next, (F - 1, N, 3) [Å], by the nearest image.

    positions (F, N, 3), cells (F, 3, 3) [Å]: the changes of a cell carry the atoms along (NPT) and
    move none.
    """
    fractional = np.einsum("fpc,fcd->fpd", positions, np.linalg.inv(cells))
    steps = np.diff(fractional, axis=0)
    steps -= np.round(steps)
    return np.asarray(np.einsum("fpc,fcd->fpd", steps, (cells[1:] + cells[:-1]) / 2))
