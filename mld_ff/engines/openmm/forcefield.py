"""OpenMM Forces → ForceField XML, which builds a System for any box of the same kinds of
molecules.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Sequence
from io import StringIO
from itertools import combinations_with_replacement
from typing import Any

import numpy as np
import openmm
from openmm import app

from mld_ff.engines.openmm.charges import COULOMB, waves
from mld_ff.engines.openmm.topology import openmm_topology
from mld_ff.engines.start import Start
from mld_ff.files import read_template
from mld_ff.geometry.topology import MAX_BONDS_APART
from mld_ff.loss.model import AgentLoss

HEAD = (
    " written by mld_ff: ForceField(this file).createSystem(topology,"
    " nonbondedMethod=CutoffPeriodic). The cutoff is the model's own; water is flexible "
)

TAGS = (openmm.CustomNonbondedForce, openmm.CustomGBForce, openmm.CustomManyParticleForce)
"""Forces between molecules, which ForceField has tags for."""
GB_KINDS = {
    getattr(openmm.CustomGBForce, name): name
    for name in ("SingleParticle", "ParticlePair", "ParticlePairNoExclusions")
}


def forcefield_xml(loss: AgentLoss, start: Start, forces: Sequence[openmm.Force]) -> str:
    """The force field of a system as `openmm.app.ForceField` reads it.

    forces: those of the whole system, a CustomBondForce per bonded term and TAGS whose particles
    differ by species only. Every kind of molecule becomes a template, and a script adds what tags
    cannot say (`templates/forcefield.py`). Every element has the mass of its first atom.
    """
    root = ET.Element("ForceField")
    root.append(ET.Comment(HEAD))
    root.append(_atom_types(start))
    root.append(_residues(root, start))
    free = [f for f in forces if isinstance(f, TAGS)]
    root.extend(_tag(force, start) for force in free)
    constants: dict[str, dict[Any, Any]] = {
        "FREE": {f.getName(): (f.getCutoffDistance()._value, f.getForceGroup()) for f in free},
        "BONDED": _bonded(loss, forces),
        "UNKNOWN": _unknown(loss, start),
        "CHARGES": _charges(loss, forces),
    }
    lines = [f"{name} = {_table(values)}" for name, values in constants.items()]
    by_type = loss.charges is not None and bool(loss.charges.atom_types)
    slab = COULOMB if loss.charges and loss.charges.slab else 0.0
    alpha, spacing = waves(loss.charges) if loss.charges else (0.0, 0.0)
    lines += [f"BY_TYPE = {by_type}", f"SLAB = {slab!r}"]
    lines += [f"ALPHA = {alpha!r}", f"SPACING = {spacing!r}"]
    ET.SubElement(root, "Script").text = "\n" + "\n".join(
        [*lines, "", read_template("forcefield.py")]
    )
    ET.indent(root, " ")
    return ET.tostring(root, encoding="unicode") + "\n"


def _table(values: dict[Any, Any]) -> str:
    """A dictionary as Python writes it, a line for every item."""
    return "{" + "".join(f"\n    {key!r}: {value!r}," for key, value in values.items()) + "\n}"


def _atom_types(start: Start) -> ET.Element:
    types = ET.Element("AtomTypes")
    for species in start.topology.species:
        mass = start.frame.masses[start.topology.symbols.index(species)]
        ET.SubElement(
            types,
            "Type",
            {"name": species, "class": species, "element": species, "mass": repr(float(mass))},
        )
    return types


def _residues(known: ET.Element, start: Start) -> ET.Element:
    """A template per kind of molecule: one is added for the first that OpenMM finds no match for,
    until all match.
    """
    some = np.concatenate(start.topology.kinds)
    topology = openmm_topology(start.topology.select(some), start.frame.cell[0])
    residues = ET.Element("Residues")
    forcefield = app.ForceField(StringIO(ET.tostring(known, encoding="unicode")))
    count: Counter[str] = Counter()
    while unmatched := forcefield.getUnmatchedResidues(topology):
        residue = unmatched[0]
        count[residue.name] += 1
        name = residue.name if count[residue.name] == 1 else f"{residue.name}-{count[residue.name]}"
        template = ET.SubElement(residues, "Residue", name=name, rigidWater="false")
        for atom in residue.atoms():
            ET.SubElement(template, "Atom", name=atom.name, type=atom.element.symbol)
        for one, other in residue.bonds():
            ET.SubElement(template, "Bond", atomName1=one.name, atomName2=other.name)
        one_more = ET.Element("ForceField")
        ET.SubElement(one_more, "Residues").append(template)
        forcefield.loadFile(StringIO(ET.tostring(one_more, encoding="unicode")))
    return residues


def _tag(force: openmm.Force, start: Start) -> ET.Element:
    """The tag with the same expressions, functions and parameters."""
    if isinstance(force, openmm.CustomNonbondedForce):
        tag = ET.Element(
            "CustomNonbondedForce",
            energy=force.getEnergyFunction(),
            bondCutoff=str(MAX_BONDS_APART),
        )
    elif isinstance(force, openmm.CustomManyParticleForce):
        tag = ET.Element(
            "CustomManyParticleForce",
            energy=force.getEnergyFunction(),
            particlesPerSet=str(force.getNumParticlesPerSet()),
            permutationMode="UniqueCentralParticle",
            bondCutoff="0",
        )
    else:
        tag = ET.Element("CustomGBForce")
        for k in range(force.getNumComputedValues()):
            name, expression, kind = force.getComputedValueParameters(k)
            ET.SubElement(tag, "ComputedValue", name=name, type=GB_KINDS[kind]).text = expression
        for k in range(force.getNumEnergyTerms()):
            expression, kind = force.getEnergyTermParameters(k)
            ET.SubElement(tag, "EnergyTerm", type=GB_KINDS[kind]).text = expression
    names = [
        force.getPerParticleParameterName(k) for k in range(force.getNumPerParticleParameters())
    ]
    for name in names:
        ET.SubElement(tag, "PerParticleParameter", name=name)
    for species in start.topology.species:
        values = force.getParticleParameters(start.topology.symbols.index(species))
        own = {"type": species}
        if isinstance(force, openmm.CustomManyParticleForce):
            values, own["filterType"] = values[0], str(values[1])
        own |= {name: repr(value) for name, value in zip(names, values, strict=True)}
        ET.SubElement(tag, "Atom", own)
    for k in range(force.getNumTabulatedFunctions()):
        function = ET.fromstring(openmm.XmlSerializer.serialize(force.getTabulatedFunction(k)))
        values = " ".join(value.attrib["v"] for value in function.iter("Value"))
        own = {**function.attrib, "name": force.getTabulatedFunctionName(k)}
        own["type"] = own["type"].removesuffix("Function")
        ET.SubElement(tag, "Function", own).text = values
    return tag


def _bonded(
    loss: AgentLoss, forces: Sequence[openmm.Force]
) -> dict[tuple[str, ...], tuple[str, str]]:
    """Name and expression of every bonded term by its path of elements."""
    path = {term.name: term.path for term in loss.bond_terms}
    bonded = [f for f in forces if isinstance(f, openmm.CustomBondForce)]
    return {path[f.getName()]: (f.getName(), f.getEnergyFunction()) for f in bonded}


def _charges(
    loss: AgentLoss, forces: Sequence[openmm.Force]
) -> dict[str, tuple[float, float, int]]:
    """Of every element or type of atom charge [e], and of all of them cutoff [nm] and number of the
    group of forces; empty without charges."""
    for force in forces:
        if isinstance(force, openmm.NonbondedForce) and loss.charges:
            cutoff = force.getCutoffDistance()._value
            return {
                owner: (charge, cutoff, force.getForceGroup())
                for owner, charge in loss.charges.charges_e.items()
            }
    return {}


def _unknown(loss: AgentLoss, start: Start) -> dict[str, tuple[str, str]]:
    """Pairs of species for which the model has no term, as this system has no such free pair;
    another box may.
    """
    known = {term.name for term in loss.free_terms}
    topology = start.topology
    every = combinations_with_replacement(topology.species, 2)
    pairs = {topology.free_name(a, b): (a, b) for a, b in every}
    return {name: pair for name, pair in pairs.items() if name not in known}
