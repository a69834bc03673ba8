"""Pairs and densities outside of what the data sampled."""

from __future__ import annotations

from dataclasses import dataclass

NEW_A = 0.03
"""A distance is new where it lies further than this beyond the sampled ones. Any run longer than
its data goes beyond some by thousandths; water with angles at 600 K, learned at 300 K, by 0.024.
"""


@dataclass(frozen=True)
class Escape:
    """A pair outside of the distances that the data sampled, or an atom whose density is outside
    of the sampled range."""

    term: str
    atoms: tuple[str, ...]
    """Element and number from 1; one atom where it is a density."""
    value: float
    """Distance [Å], or density."""
    limit: float
    """The least or the most sampled."""

    @property
    def outside(self) -> float:
        return abs(self.value - self.limit)

    @property
    def is_new(self) -> bool:
        """Whether it says more than that a run is longer than its data."""
        return len(self.atoms) == 1 or self.outside > NEW_A

    @property
    def what(self) -> str:
        """What left what, within a sentence."""
        if len(self.atoms) == 1:
            return "a density left the sampled range"
        return "a pair left the sampled distances"

    def __str__(self) -> str:
        more, unit = ("more", "") if len(self.atoms) == 1 else ("longer", " Å")
        less = {"more": "less", "longer": "shorter"}[more]
        which = less if self.value < self.limit else more
        return (
            f"{self.term}, {' and '.join(self.atoms)}: {self.value:.3f}{unit}, {which} than"
            f" {self.limit:.3f}{unit}"
        )
