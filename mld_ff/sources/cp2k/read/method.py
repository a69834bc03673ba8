"""By which method a CP2K input computes energies and forces, in a few words."""

from __future__ import annotations

from mld_ff.sources.cp2k.read.inputfile import Section, is_true

PARTS = {"BLYP": "BECKE88 LYP", "BP": "BECKE88 P86C", "OLYP": "OPTX LYP", "LDA": "PADE"}
"""Of functionals by one name, those that CP2K writes into restart files instead."""


def method_of(root: Section) -> str | None:
    """Such as `QS BECKE88 LYP DFTD3`; None where an input has no &FORCE_EVAL."""
    evaluations = root.all("FORCE_EVAL")
    return " + ".join(map(_of_one, evaluations)) if evaluations else None


def _of_one(evaluation: Section) -> str:
    keyword = evaluation.get("METHOD")
    name = keyword.text.upper() if keyword else "QUICKSTEP"
    words = ["QS" if name == "QUICKSTEP" else name]
    inner = evaluation.get("DFT", "QS", "METHOD")
    if words == ["QS"] and inner and inner.text.upper() not in ("GPW", "GAPW"):
        return f"QS {inner.text.upper()}"  # semi-empirical: no functional
    for functional in evaluation.all("DFT", "XC", "XC_FUNCTIONAL"):
        shortcut = functional.parameter.upper()
        names = [] if shortcut in ("", "NO_SHORTCUT") else PARTS.get(shortcut, shortcut).split()
        names += [s.name for s in functional.sections if not s.parameter or is_true(s.parameter)]
        words += sorted(set(names))
    for potential in evaluation.all("DFT", "XC", "VDW_POTENTIAL", "PAIR_POTENTIAL"):
        kind = potential.get("TYPE")
        words.append(kind.text.upper() if kind else "DFTD3")
    return " ".join(words)
