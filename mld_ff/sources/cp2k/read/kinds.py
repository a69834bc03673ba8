"""From the labels that CP2K prints to elements and masses."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase.data import atomic_masses, atomic_numbers

from mld_ff.errors import InputError
from mld_ff.sources.cp2k.read.index import FrameIndex
from mld_ff.sources.cp2k.read.settings import Kind
from mld_ff.trajectory import Floats

_DEUTERIUM_MASS = 2.014


@dataclass(frozen=True)
class AtomKind:
    """Element and mass [amu] of the atoms with one label."""

    element: str
    mass: float


def resolve_atoms(
    indices: dict[str, FrameIndex], kinds: dict[str, Kind], notes: list[str]
) -> tuple[tuple[str, ...], Floats]:
    """Elements (N,) and masses [amu] (N,) of the atoms; `indices` by role, `kinds` by upper-case
    label.

    Adds to `notes` which labels were read as which element. Raises InputError if the files have
    different atoms, or none of them says which atoms.
    """
    known = dict[bytes, AtomKind]()
    first = next((index for index in indices.values() if index.labels), None)
    if first is None:
        raise InputError(
            "this file does not say which atoms it holds, and no other does; put forces or"
            " velocities as XYZ, or the log, beside it",
            indices["positions"].path,
        )
    for index in indices.values():
        for atom, label in enumerate(index.labels):
            if label not in known:
                known[label] = resolve_label(
                    _text(label), kinds, index.path, index.first_row + atom, notes
                )
        _check_same_atoms(first, index, known)
    renamed = [
        f"{_text(label)} is {kind.element}"
        for label, kind in known.items()
        if _text(label) != kind.element
    ]
    if renamed:
        notes.append(f"Labels of kinds were read as elements: {', '.join(renamed)}.")
    atoms = [known[label] for label in first.labels]
    return tuple(atom.element for atom in atoms), np.array([atom.mass for atom in atoms])


def _text(label: bytes) -> str:
    return label.decode("utf-8", "replace")


def _check_same_atoms(first: FrameIndex, other: FrameIndex, known: dict[bytes, AtomKind]) -> None:
    if first.n_atoms != other.n_atoms:
        raise InputError(
            f"expected {first.n_atoms} atoms as in {first.path.name}, found {other.n_atoms};"
            " the files must come from the same run",
            other.path,
            max(other.first_row - 2, 0) or None,
        )
    for atom, (expected, label) in enumerate(zip(first.labels, other.labels, strict=False)):
        if known[expected].element != known[label].element:
            raise InputError(
                f"atom {atom + 1}: expected {known[expected].element} as in"
                f" {first.path.name}:{first.first_row + atom}, found {known[label].element}; the"
                " files must come from the same run",
                other.path,
                other.first_row + atom,
            )


def element_of(label: str) -> str | None:
    """The element that a label without ELEMENT stands for, or None.

    As in CP2K a label that is an element in any letter case is that element: `CA` is calcium, `HO`
    is holmium. Otherwise its leading letters if they are one (`H_w`, `CL1`), their first two
    (`Cax`), or the first (`OW1`, `Hw`).
    `D` is hydrogen.
    """
    letters = re.match(r"[A-Za-z]*", label)
    stem = letters[0] if letters else ""
    for name in (stem, stem[:2], stem[:1]):
        if name.upper() == "D":
            return "H"
        if name and name.capitalize() in atomic_numbers and name.upper() != "X":
            return name.capitalize()
    return None


def resolve_label(
    label: str, kinds: dict[str, Kind], file: Path, line: int, notes: list[str]
) -> AtomKind:
    """Element and mass of a label; what the &KIND sections (by upper-case label) say comes first.

    CP2K prints the element instead of the label unless PRINT_ATOM_KIND is set, so a label that has
    no &KIND takes the mass of the kinds of its element if they agree; if not, the standard one, and
    `notes` say so. Raises InputError if the label stands for no element.
    """
    kind = kinds.get(label.upper())
    named = kind.element if kind and kind.element else label
    element = element_of(named)
    if element is None:
        raise InputError(
            f"'{named}' is no element; say which it is in the CP2K input: &KIND {label} with"
            " ELEMENT inside, and give that input to the reader",
            kind.file if kind and kind.element else file,
            kind.line if kind and kind.element else line,
        )
    is_deuterium = re.match(r"D(?![A-Za-z])", named, re.IGNORECASE) is not None
    masses = (
        {kind.mass}
        if kind
        else set()
        if is_deuterium
        else {k.mass for k in kinds_of(element, kinds)}
    )
    if len(masses) > 1:
        notes.append(
            f"The kinds of {element} have different masses and the files do not tell which atom is"
            " which; the standard mass was taken (PRINT_ATOM_KIND in &MOTION / &PRINT /"
            " &TRAJECTORY makes CP2K print the kinds)."
        )
    mass = masses.pop() if len(masses) == 1 else None
    if mass is None:
        mass = _DEUTERIUM_MASS if is_deuterium else float(atomic_masses[atomic_numbers[element]])
    return AtomKind(element, mass)


def kinds_of(element: str, kinds: dict[str, Kind]) -> list[Kind]:
    """The kinds that are this element."""
    return [kind for label, kind in kinds.items() if element_of(kind.element or label) == element]
