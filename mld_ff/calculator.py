"""The loss as an ASE calculator: for ASE's own dynamics and optimisers, phonopy, i-PI and whoever
else takes one.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from ase import Atoms
from ase.calculators import calculator
from ase.stress import full_3x3_to_voigt_6_stress

from mld_ff.errors import InputError
from mld_ff.geometry.pairs import check_cutoff
from mld_ff.geometry.system import System
from mld_ff.geometry.topology import Topology, find_topology
from mld_ff.loss.model import AgentLoss
from mld_ff.policy import objections, refuse
from mld_ff.trajectory import Floats, half_width


class Calculator(calculator.Calculator):  # type: ignore[misc]
    """`energy` [eV], `forces` (N, 3) [eV/Å] and `stress` (6,) [eV/Å³] of periodic atoms in numpy.

    `atoms.calc = Calculator("model.json")`. Where the model has molecules, they are found from
    distances in the first atoms that it meets, and keep their bonds from then on; other elements,
    or a bond that would be broken, let it look again. A calculation raises InputError for atoms
    that are not periodic along all three vectors, a cell too small for the cutoff, and molecules
    that the model does not know.
    """

    implemented_properties: ClassVar[list[str]] = ["energy", "free_energy", "forces", "stress"]

    def __init__(
        self,
        loss: AgentLoss | Path | str,
        topology: Topology | None = None,
        force: bool = False,
    ) -> None:
        """loss: a model or its file. topology: bonds that never change; raises InputError for atoms
        of another one. force: compute molecules, too, that the data of the model did not hold.
        """
        super().__init__()
        self.force = force
        self.loss = loss if isinstance(loss, AgentLoss) else AgentLoss.load(loss)
        self.fixed, self.topology = topology is not None, topology

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = calculator.all_changes,
    ) -> None:
        """What ASE calls."""
        super().calculate(atoms, properties, system_changes)
        if not self.atoms.pbc.all() or self.atoms.cell.rank < 3:
            raise InputError(
                "the loss needs a cell that is periodic along all three vectors: set `cell` and"
                " `pbc`"
            )
        positions, cell = self.atoms.positions, self.atoms.cell.array
        check_cutoff(self.loss.cutoff_A, half_width(cell))
        self.results = self._evaluate(self._system(tuple(self.atoms.symbols), positions, cell))

    def _system(self, symbols: tuple[str, ...], positions: Floats, cell: Floats) -> System:
        known = self.topology
        if known is not None and self.fixed and known.symbols != symbols:
            raise InputError(
                "the atoms are not those of the topology that this calculator was made for"
            )
        if known is not None and known.symbols == symbols:
            system = System(known, positions, cell, self.loss.cutoff_A)
            if self.fixed or not system.broken.any():
                return system
        self.topology = find_topology(symbols, positions, cell, self.loss.topology_kind)
        refuse(objections(self.loss, self.topology), self.force)
        return System(self.topology, positions, cell, self.loss.cutoff_A)

    def _evaluate(self, system: System) -> dict[str, Any]:
        result, volume = self.loss.evaluate(system), abs(np.linalg.det(system.cell))
        return {
            "energy": result.energy,
            "free_energy": result.energy,
            "forces": result.forces,
            "stress": full_3x3_to_voigt_6_stress(result.virial / volume),
        }
