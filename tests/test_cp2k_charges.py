"""Charges of atoms that CP2K prints: every form of table, in `inspect`, and as those of a fit."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from command_line import invoke
from conftest import CUBE, liquid, present, topology_of
from cp2k_output import unpacked

from mld_ff.errors import InputError
from mld_ff.inference import Basis
from mld_ff.inference.charge_terms import charge_term, with_printed
from mld_ff.sources.cp2k import open_cp2k
from mld_ff.sources.cp2k.read.populations import read_charges
from mld_ff.trajectory import Floats, PrintedCharges, Trajectory

DFT = """\
 !-----------------------------------------------------------------------------!
                     Mulliken Population Analysis

 #  Atom  Element  Kind  Atomic population                           Net charge
       1     O        1          6.776112                             -0.776112
       2     H        2          0.611861                              0.388139
       3     H        2          0.612027                              0.387973
 # Total charge                              8.000000                  0.000000

 !-----------------------------------------------------------------------------!
                           Hirshfeld Charges

  #Atom  Element  Kind  Ref Charge     Population                    Net charge
      1       O      1       6.000          7.269                        -1.269
      2       H      2       1.000          0.364                         0.636
      3       H      2       1.000          0.364                         0.636

  Total Charge                                                            0.004
 !-----------------------------------------------------------------------------!

 LOWDIN POPULATION ANALYSIS

 #  Atom  Element  Kind  Atomic population                           Net charge
       1     O        1          6.564331                             -0.564331
       2     H        2          0.717754                              0.282246
       3     H        2          0.717915                              0.282085
 # Total charge                              8.000000                 -0.000000

 RESP charges:
  Type |   Atom   |    Charge

  RESP       1  O    -0.880674
  RESP       2  H     0.441850
  RESP       3  H     0.438824
  Total               0.000000
"""
XTB = """\
 MULLIKEN POPULATION ANALYSIS

  # Atom   Element   Kind        Atomic population                    Net charge
       2     O          1                 6.672433                     -0.672433
       1     H          2                 0.663617                      0.336383
       3     H          2                 0.663950                      0.336050
 # Total charge                          16.000000                     -0.000000
"""
SPIN = """\
                     Mulliken Population Analysis

 #  Atom  Element  Kind  Atomic population (alpha,beta) Net charge  Spin moment
       1     O        1          4.100000    2.700000     -0.800000    1.400000
       2     H        2          0.300000    0.300000      0.400000    0.000000
       3     H        2          0.300000    0.300000      0.400000    0.000000
 # Total charge and spin         4.700000    3.300000      0.000000    1.400000
"""


def printed(tmp_path: Path, *texts: str) -> dict[str, list[float]]:
    log = tmp_path / "run.log"
    log.write_text("".join(texts))
    return {name: of.mean.tolist() for name, of in read_charges([log], 3).items()}


def test_every_form_of_table(tmp_path: Path) -> None:
    """Of two steps the mean; rows in the order that xTB prints; a spin that is no charge."""
    both = printed(tmp_path, DFT, DFT.replace("-0.776112", "-0.736112"))
    assert both["mulliken"] == pytest.approx([-0.756112, 0.388139, 0.387973])
    assert both["hirshfeld"] == pytest.approx([-1.269, 0.636, 0.636])
    assert both["lowdin"] == pytest.approx([-0.564331, 0.282246, 0.282085])
    assert both["resp"] == pytest.approx([-0.880674, 0.44185, 0.438824])
    assert printed(tmp_path, XTB) == {"mulliken": [0.336383, -0.672433, 0.33605]}
    assert printed(tmp_path, SPIN) == {"mulliken": [-0.8, 0.4, 0.4]}


def test_a_table_that_lacks_atoms_tells_nothing(tmp_path: Path) -> None:
    lacks = XTB.replace("       1     H ", "       9     H ")
    stars = XTB.replace("0.336050", "********")
    assert printed(tmp_path, lacks, stars, XTB[:250]) == {}


def test_inspect_tells_them(tmp_path: Path) -> None:
    run = unpacked("argon", tmp_path)
    head = " CP2K| version string:                                       CP2K version 2023.1\n"
    (run / "argon.log").write_text(head + DFT.replace(" O ", " Ar").replace(" H ", " Ar"))
    told = json.loads(invoke("inspect", str(run), "--json").stdout)
    assert told["charges_e"]["resp"]["Ar"]["mean"] == pytest.approx(0, abs=1e-9)
    assert told["charges_e"]["mulliken"]["Ar"]["std"] == pytest.approx(0.5488, abs=1e-3)
    assert "mulliken charges" in invoke("inspect", str(run)).stdout
    assert open_cp2k(run).read().printed_charges == {}


class Printing(Trajectory):
    """Frames of a run whose log holds charges."""

    charges: Floats

    @property
    def printed_charges(self) -> dict[str, PrintedCharges]:
        return {"mulliken": PrintedCharges(self.charges, 0 * self.charges, 1)}


def test_charges_of_a_fit() -> None:
    """By type of atom, and made neutral by as little as possible."""
    frame = liquid(["H2O"] * 4 + ["CH3OH"] * 2, CUBE)
    topology = topology_of(frame)
    types = topology.atom_types
    of_type = {t: 0.1 + 0.1 * k for k, t in enumerate(sorted({*types} - {"O(HH)"}))}
    of_type["O(HH)"] = -sum(q * types.count(t) for t, q in of_type.items()) / 4
    planted = np.array([of_type[t] for t in types])
    source = Printing(**{name: getattr(frame, name) for name in vars(replace(frame))})
    object.__setattr__(source, "charges", planted + 0.01)
    blank = present(charge_term(Basis(charges="mulliken"), [topology], 6.0))
    found = with_printed(blank, [source], [topology], "mulliken")
    assert found.of_atoms(topology) == pytest.approx(planted, abs=0.02)
    assert found.charges_e.keys() == of_type.keys()
    with pytest.raises(InputError) as caught:
        with_printed(blank, [frame], [topology], "resp")
    assert str(caught.value) == (
        "no charges by resp are in the log of it: CP2K prints them with &FORCE_EVAL / &PROPERTIES /"
        " &RESP; put the log beside the trajectory, or name it with --file log="
    )
