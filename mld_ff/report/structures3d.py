"""Frames in three dimensions, by chemiscope (https://chemiscope.org), as its files hold them."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from mld_ff.errors import InputError
from mld_ff.geometry.pairs import minimum_image
from mld_ff.report.movies import Movie
from mld_ff.report.style import label_of
from mld_ff.units import EV_TO_MEV

VIEWER = "sphinx/static/chemiscope.min.js"
"""Of the installed package."""
BOND_COLOUR, BOND_RADIUS_A = "#0072B2", 0.06
DIGITS = 2
"""Of coordinates: what a picture of a box shows."""


def viewer_script() -> str:
    """Chemiscope's own, which pages carry; reading it imports nothing of the package."""
    found = find_spec("chemiscope")
    places = [] if found is None else list(found.submodule_search_locations or [])
    for place in places:
        if (file := Path(place) / VIEWER).is_file():
            return file.read_text(encoding="utf-8").replace("<!--", r"\x3c!--")
    raise InputError(f"chemiscope has no {VIEWER}: pip install 'chemiscope>=1.1'")


def scenes(movies: Mapping[str, Movie], titles: Mapping[str, str]) -> list[dict[str, Any]]:
    """What the page shows beside each other: `name`, `title`, `symbols` of all atoms, `times`
    [fs], and the `dataset` for chemiscope, to which the page's script adds what all frames have in
    common.
    """
    return [
        {
            "name": name,
            "title": titles.get(name, label_of(name)),
            "symbols": list(movie.frames.symbols),
            "times": np.round(movie.frames.time - movie.frames.time[0], 1).tolist(),
            "dataset": _dataset(movie, titles.get(name, label_of(name))),
        }
        for name, movie in movies.items()
    ]


def _dataset(movie: Movie, title: str) -> dict[str, Any]:
    frames = movie.frames
    structures = [
        {
            **dict(zip("xyz", np.round(x.T, DIGITS).tolist(), strict=True)),
            "cell": np.round(cell, 4).ravel().tolist(),
        }
        for x, cell in zip(frames.positions, frames.cell, strict=True)
    ]
    look = {
        "unitCell": True,
        "keepOrientation": True,
        "environments": {"activated": False},
        "color": {"palette": "viridis"},
    }
    every = range(frames.n_frames)
    return {
        "meta": {"name": title},
        "structures": structures,
        "properties": {
            "frame": {"target": "structure", "values": list(every)},
            **{
                name: {"target": "atom", "values": values}
                for name, values in _properties(movie).items()
            },
        },
        "shapes": {
            "hydrogen bonds": {
                "kind": "cylinders",
                "parameters": {
                    "global": {"radii": BOND_RADIUS_A, "colors": BOND_COLOUR},
                    "structure": [_bonds(movie, k) for k in every],
                },
            }
        },
        "settings": {"target": "structure", "structure": [look]},
    }


def _properties(movie: Movie) -> dict[str, list[float]]:
    """Of the atoms of all frames, one after the other."""
    if movie.force_error is None:
        return {}
    error = np.round(EV_TO_MEV * movie.force_error.ravel())
    return {"force error [meV/Å]": error.tolist()}


def _bonds(movie: Movie, frame: int) -> dict[str, Any]:
    """From hydrogen to acceptor, to its nearest image."""
    pairs = movie.hydrogen_bonds[movie.hydrogen_bonds[:, 0] == frame, 1:]
    x, cell = movie.frames.positions[frame], movie.frames.cell[frame]
    to = minimum_image(x, cell, pairs).vector
    return {
        "bases": np.round(x[pairs[:, 0]], DIGITS).tolist(),
        "vectors": np.round(to, DIGITS).tolist(),
    }
