# What the tags above cannot say. ForceField.createSystem runs this at its end and lends it its
# own variables; FREE, BONDED, UNKNOWN, CHARGES, BY_TYPE, SLAB, ALPHA and SPACING stand above.
import itertools
import math
import warnings
from collections import Counter

import openmm
from openmm import app

if constraints is not None or rigidWater:
    warnings.warn(
        "the force field is of flexible molecules: constraints and rigidWater do nothing",
        stacklevel=3,
    )

# Atoms one, two and three bonds apart, by the elements along the shortest path between them.
symbols = [atom.element.symbol for atom in data.atoms]
paths = {}
for chain in itertools.chain(((b.atom1, b.atom2) for b in data.bonds), data.angles, data.propers):
    there = tuple(symbols[k] for k in chain)
    path = min(there, there[::-1], key=lambda p: [(symbol == "H", symbol) for symbol in p])
    ends = min(chain[0], chain[-1]), max(chain[0], chain[-1])
    if ends not in paths or (len(path), path) < (len(paths[ends]), paths[ends]):
        paths[ends] = path
pairs = sorted(paths)

# The loss ends at its own cutoff, whatever nonbondedCutoff says.
periodic = nonbondedMethod not in (app.NoCutoff, app.CutoffNonPeriodic)
TAGS = openmm.CustomNonbondedForce, openmm.CustomGBForce, openmm.CustomManyParticleForce
free = [f for f in sys.getForces() if isinstance(f, TAGS)]
for force, (name, (cutoff, group)) in zip(free, FREE.items(), strict=True):
    force.setName(name)
    force.setForceGroup(group)
    force.setNonbondedMethod(force.CutoffPeriodic if periodic else force.CutoffNonPeriodic)
    force.setCutoffDistance(cutoff)
    if isinstance(force, openmm.CustomGBForce):
        for i, j in pairs:
            force.addExclusion(i, j)

bonded = {}
for path, (name, energy) in BONDED.items():
    bonded[path] = openmm.CustomBondForce(energy)
    bonded[path].setName(name)
    bonded[path].setUsesPeriodicBoundaryConditions(periodic)
for i, j in pairs:
    bonded[paths[i, j]].addBond(i, j)
for force in bonded.values():
    sys.addForce(force)


def surroundings(atom, origin, bonds=2):
    others = [k for k in data.bondedToAtom[atom] if k != origin] if bonds else []
    each = sorted(surroundings(k, atom, bonds - 1) for k in others)
    return symbols[atom] + (f"({''.join(each)})" if each else "")


def smooth(least):
    rest = least
    for prime in (2, 3, 5, 7):
        while rest % prime == 0:
            rest //= prime
    return least if rest == 1 else smooth(least + 1)


if CHARGES:
    charged = openmm.NonbondedForce()
    charged.setName("charge")
    total = 0.0
    for atom, symbol in enumerate(symbols):
        own = CHARGES[surroundings(atom, atom) if BY_TYPE else symbol]
        charge, cutoff, group = own
        charged.addParticle(charge, 1.0, 0.0)
        total += charge
    if abs(total) > 1e-3:
        raise ValueError(f"the charges of this box add up to {total:.3g} e; only neutral boxes run")
    for i, j in pairs:
        charged.addException(i, j, 0.0, 1.0, 0.0)
    charged.setNonbondedMethod(charged.PME if periodic else charged.NoCutoff)
    charged.setExceptionsUsePeriodicBoundaryConditions(periodic)
    charged.setUseDispersionCorrection(False)
    charged.setCutoffDistance(cutoff)
    if periodic:  # a grid as coarse as its errors allow, where OpenMM's has up to three times more
        box = [math.dist(v._value, (0, 0, 0)) for v in sys.getDefaultPeriodicBoxVectors()]
        charged.setPMEParameters(ALPHA, *(smooth(math.ceil(x / SPACING)) for x in box))
    charged.setForceGroup(group)
    sys.addForce(charged)
    if SLAB and periodic:  # whose images along c do nothing to its dipole: 2 pi M^2/V
        moment = openmm.CustomExternalForce("q*z")
        moment.addPerParticleParameter("q")
        for k in range(len(symbols)):
            moment.addParticle(k, [charged.getParticleParameters(k)[0]])
        a, b, c = (v._value for v in sys.getDefaultPeriodicBoxVectors())
        slab = openmm.CustomCVForce(f"{2 * math.pi * SLAB / (a[0] * b[1] * c[2])!r}*moment^2")
        slab.addCollectiveVariable("moment", moment)
        slab.setName("charge of a slab")
        sys.addForce(slab)

count, inside = Counter(symbols), Counter(frozenset((path[0], path[-1])) for path in paths.values())
for name, (a, b) in UNKNOWN.items():
    if (count[a] * (count[a] - 1) // 2 if a == b else count[a] * count[b]) > inside[
        frozenset((a, b))
    ]:
        raise ValueError(f"the box has pairs for which the force field has no term: {name}")
