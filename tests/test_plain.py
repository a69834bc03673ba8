"""Terminals and locales that know ASCII alone: nothing fails to be printed, and nothing is lost."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest
from command_line import invoke

from mld_ff.cli import main
from mld_ff.cli.plain import HANDLER, json_for_terminal

SALT = Path(__file__).parent / "data" / "cp2k" / "nacl"
EVERYTHING = " ".join(map(chr, range(0, 0x110000, 97)))
"""Surrogates, which names of files may hold, and characters beyond 16 bits among it."""
MISSING = "nö 5Å 水 🜁"


def in_ascii(monkeypatch: pytest.MonkeyPatch, *words: object) -> str:
    """What `mld-ff` prints where standard output is ASCII."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii", write_through=True)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        try:
            main([str(word) for word in words])
        except SystemExit as left:
            assert left.code == 2
    assert isinstance(stream.buffer, io.BytesIO)
    return stream.buffer.getvalue().decode("ascii")


def test_answers_and_help(monkeypatch: pytest.MonkeyPatch) -> None:
    text = in_ascii(monkeypatch, "inspect", SALT)
    assert "distances [A]  shortest" in text and "g/cm^3" in text and "\\u" not in text
    assert "--cutoff A " in in_ascii(monkeypatch, "fit", "-h")


def test_json_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    told = json.loads(in_ascii(monkeypatch, "inspect", MISSING, "--json"))
    assert told == json.loads(invoke("inspect", MISSING, "--json").stdout)
    assert told["error"].startswith(f"error: {MISSING}: no such file or directory")


def test_any_text_is_printed_and_any_json_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    assert EVERYTHING.encode("ascii", HANDLER).isascii()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
        told = json_for_terminal(json.dumps({"said": EVERYTHING}, ensure_ascii=False))
    assert told.isascii() and json.loads(told) == {"said": EVERYTHING}
