"""How people write the observables that JSON files name by keys."""

from __future__ import annotations

import re

SYMBOLS = {
    "oh_mean_A": "⟨r_OH⟩ in molecules [Å]",
    "oh_std_A": "σ(r_OH) in molecules [Å]",
    "hoh_mean_deg": "⟨∠HOH⟩ [°]",
    "hoh_std_deg": "σ(∠HOH) [°]",
    "goo_peak_A": "g_OO first peak [Å]",
    "goo_peak_height": "g_OO first peak, height",
    "goo_mean_abs_difference": "|Δg_OO|",
    "hydrogen_bonds_per_molecule": "hydrogen bonds per molecule",
    "temperature_K": "T [K]",
    "diffusion_A2_per_ps": "D [Å²/ps]",
    "dielectric_constant": "dielectric constant ε",
    "infrared:stretch_per_cm": "infrared, stretching band [cm⁻¹]",
    "proton_changes_per_ps": "protons handed on per ps",
}
"""Of keys that say no species."""
PATTERNS = {
    r"bonded:(\S+) mean_A": "⟨r_{}⟩ in molecules [Å]",
    r"bonded:(\S+) std_A": "σ(r_{}) in molecules [Å]",
    r"angle:(\S+) mean_deg": "⟨∠{}⟩ [°]",
    r"angle:(\S+) std_deg": "σ(∠{}) [°]",
    r"(?:free|any):(\S+) peak_A": "g_{} first peak [Å]",
    r"(?:free|any):(\S+) peak_height": "g_{} first peak, height",
    r"(?:free|any):(\S+) mean_abs_dg": "|Δg_{}|",
    r"coordination:(\S+)": "coordination number n_{}",
    r"spectrum:(\S+) mean_per_cm": "mean wavenumber of {} [cm⁻¹]",
    r"spectrum:(\S+) stretch_per_cm": "stretching band of {} [cm⁻¹]",
    r"dipole:(\S+) mean_D": "⟨μ⟩ of {} [D]",
    r"diffusion_A2_per_ps (\S+)": "D of {} [Å²/ps]",
}
"""Of keys that say species, which follow without their dashes."""
FORMULA = re.compile(r"(?:[A-Z][a-z]?\d*)+")
BELOW = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")
MATCHED = re.compile(r"free:|any:|bonded:|angle:|goo_|oh_|hoh_")
"""Observables that a model learns whose distances are matched to the reference's; an angle follows
from three of them.
"""


def symbol_of(key: str) -> str:
    """The symbol and unit of an observable; the key itself where none is known. `_` begins what is
    set below the line.
    """
    if key in SYMBOLS:
        return SYMBOLS[key]
    for pattern, symbol in PATTERNS.items():
        if found := re.fullmatch(pattern, key):
            return symbol.format(formula_of(found[1].replace("-", "")))
    return key


def formula_of(name: str) -> str:
    """A chemical formula as it is printed, H₂O for H2O; what is none stays."""
    return name.translate(BELOW) if FORMULA.fullmatch(name) else name


def is_matched(key: str) -> bool:
    """Whether `mld-ff match` learns this observable, so that it is no prediction."""
    return MATCHED.match(key) is not None
