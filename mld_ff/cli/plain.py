"""Standard output and error where the terminal, or the locale, knows ASCII alone."""

from __future__ import annotations

import codecs
import io
import sys

HANDLER = "mld_ff.plain"
WORDS = {
    "Å": "A", "é": "e", "…": "...",
    "±": "+/-", "–": "-", "—": "-", "·": ".", "×": "x", "→": "->", "≤": "<=", "≥": ">=",
    "°": "deg", "²": "^2", "³": "^3", "⁴": "^4", "⁻": "^-", "¹": "1", "√": "sqrt", "½": "1/2",
    **dict(zip("₀₁₂₃₄₅₆₇₈₉", "0123456789", strict=True)),
    "⅓": "1/3", "⟨": "<", "⟩": ">", "∠": "angle ", "Σ": "sum ", "Δ": "d", "σ": "sigma", "ρ": "rho",
    "φ": "phi", "λ": "lambda", "μ": "u", "µ": "u", "β": "beta",
}  # fmt: skip
"""How characters of our own messages are written."""


def speak_plainly() -> None:
    """From now on no character fails to be printed: those that a stream cannot encode are written
    in ASCII, or as JSON tells them.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=HANDLER)


def json_for_terminal(text: str) -> str:
    """JSON in which what standard output cannot encode is escaped, so that nothing is lost."""
    encoding = getattr(sys.stdout, "encoding", None) or "ascii"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return "".join(c if c.isascii() else _escaped(c) for c in text)
    return text


def _in_ascii(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    characters = error.object[error.start : error.end]
    return "".join(WORDS.get(c) or _escaped(c) for c in characters), error.end


def _escaped(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    pairs = (units[k : k + 2].hex() for k in range(0, len(units), 2))
    return "".join(f"\\u{pair}" for pair in pairs)


codecs.register_error(HANDLER, _in_ascii)
