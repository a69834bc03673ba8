"""UF3, two- and three-body, fitted to the shipped water: what the collective loss competes with.

python tests/benchmarks/uf3water.py water.uf3 [--flat]

fits, writes the potential, and prints the error on frames that the fit has not seen: minutes for
every frame. --flat: no fit, all coefficients zero, in seconds; to time it, which they do not matter
to. Needs the package `uf3` and what it imports (numba, pandas, scikit-learn, ndsplines,
plotly, PyYAML, tables); mld_ff does not.
"""

from __future__ import annotations

import sys
from pathlib import Path

import ase
import numpy as np
import pandas as pd
from uf3.data.composition import ChemicalSystem
from uf3.regression.least_squares import WeightedLinearModel, arrange_coefficients
from uf3.representation.bspline import BSplineBasis
from uf3.representation.process import BasisFeaturizer

from mld_ff import open_cp2k

EXAMPLE = Path(__file__).parents[2] / "examples/water/cp2k"
PAIRS = {"r_min": 0.5, "r_max": 5.5, "intervals": 25}
TRIPLES = {"r_min": 0.5, "r_max": 4.0, "intervals": 6}
"""Of the two legs from the centre; the third is twice as long, which LAMMPS insists on."""
TRAIN, TEST = (0, 120, 240, 360, 480), (600,)
"""Frames of the example: few, because one takes minutes to prepare."""


def basis() -> BSplineBasis:
    system = ChemicalSystem(["O", "H"], degree=3)
    pairs, triples = system.interactions_map[2], system.interactions_map[3]
    n = TRIPLES["intervals"]
    return BSplineBasis(
        system,
        r_min_map={p: PAIRS["r_min"] for p in pairs} | {t: [TRIPLES["r_min"]] * 3 for t in triples},
        r_max_map={p: PAIRS["r_max"] for p in pairs}
        | {t: [TRIPLES["r_max"] * k for k in (1, 1, 2)] for t in triples},
        resolution_map={p: PAIRS["intervals"] for p in pairs} | {t: [n, n, 2 * n] for t in triples},
    )


def features(frames: tuple[int, ...]) -> pd.DataFrame:
    """Rows of the design matrix, as uf3 makes them."""
    trajectory = open_cp2k(EXAMPLE).read()
    assert trajectory.energy is not None and trajectory.forces is not None
    rows = [
        {
            "geometry": ase.Atoms(
                trajectory.symbols, trajectory.positions[k], cell=trajectory.cell[k], pbc=True
            ),
            "energy": trajectory.energy[k],
            **{f"f{x}": trajectory.forces[k, :, c] for c, x in enumerate("xyz")},
        }
        for k in frames
    ]
    data = pd.DataFrame(rows, index=[str(k) for k in frames])
    return BasisFeaturizer(basis()).evaluate(data, progress=None)


def model() -> tuple[WeightedLinearModel, float]:
    """The fit, and its root mean square error [meV/Å] of force components of frames that it has not
    seen.
    """
    rows = features((*TRAIN, *TEST))
    of_frame = rows.index.get_level_values(0)
    kind = rows.index.get_level_values(1)
    x, y = rows.to_numpy()[:, 1:], rows.to_numpy()[:, 0]
    force, test = kind != "e", of_frame.isin([str(k) for k in TEST])
    fitted = WeightedLinearModel(basis())
    train, energy = force & ~test, ~force & ~test
    fitted.fit(x[energy], y[energy], x[train], y[train], weight=0.1)
    error = np.sqrt(np.mean((fitted.predict(x[force & test]) - y[force & test]) ** 2))
    return fitted, 1e3 * float(error)


def potential(fitted: WeightedLinearModel) -> str:
    """The model in the format of `pair_style uf3`; legs jk, ik, ij in this order."""
    shape, blocks = fitted.bspline_config, []
    coefficients = arrange_coefficients(fitted.coefficients, shape)

    def line(values: np.ndarray) -> str:
        return " ".join(f"{v:.17g}" for v in values)

    for degree in (2, 3):
        for species in shape.interactions_map[degree]:
            trims = f"{shape.leading_trim} {shape.trailing_trim}"
            head = (
                f"#UF3 POT UNITS: metal DATE: - AUTHOR: - CITATION:\n{degree}B {' '.join(species)}"
                f" {trims} nk"
            )
            knots, reach = shape.knots_map[species], shape.r_max_map[species]
            if degree == 2:
                c = coefficients[species]
                rest = [f"{reach} {len(knots)}", line(knots), f"{len(c)}", line(c)]
            else:
                c = shape.decompress_3B(coefficients[species], species)
                sizes = (
                    " ".join(f"{r}" for r in reach[::-1])
                    + " "
                    + " ".join(f"{len(k)}" for k in knots[::-1])
                )
                rest = [
                    sizes,
                    *map(line, knots[::-1]),
                    " ".join(map(str, c.shape)),
                    *map(line, c.reshape(-1, c.shape[2])),
                ]
            blocks.append("\n".join([head, *rest, "#"]))
    return "\n".join(blocks) + "\n"


if __name__ == "__main__":
    if "--flat" in sys.argv:
        flat = WeightedLinearModel(basis())
        flat.coefficients = np.zeros(flat.bspline_config.n_feats)
        Path(sys.argv[1]).write_text(potential(flat))
        sys.exit()
    fitted, error = model()
    Path(sys.argv[1]).write_text(potential(fitted))
    print(
        f"two- and three-body UF3 of {len(TRAIN)} frames: {error:.0f} meV/Å on {len(TEST)} others"
    )
