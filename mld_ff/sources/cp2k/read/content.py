"""What a file is by what stands in it: people call logs and inputs as they like."""

from __future__ import annotations

import re
from pathlib import Path

from mld_ff.errors import InputError
from mld_ff.sources.textfiles import open_binary

_HEAD = 1 << 16
"""Bytes that are looked at: a queueing system may write before CP2K does."""
_LOG = re.compile(rb"^ (?:CP2K\| version string|.{21}PROGRAM STARTED AT )", re.MULTILINE)
_SECTION = re.compile(
    rb"^\s*(?:&(?:GLOBAL|FORCE_EVAL|MOTION)|@INCLUDE)\b", re.MULTILINE | re.IGNORECASE
)
_COMMENT = re.compile(rb"[#!].*")
_TABLE = re.compile(rb"ATOMIC FORCES in \[a\.u\.\]|FORCES\| Atomic forces \[")
_DIPOLES = re.compile(
    rb"^ (?:MM_DIPOLE\||TB_DIPOLE\||MM DIPOLE \[| Dipole moment \[Debye\])", re.MULTILINE
)
_NEVER = re.compile(
    r".*\.(?:restart|bak|wfn|kp|cube|dcd|xyz|ener|cell|stress|pdb)(?:[-.].*)?", re.IGNORECASE
)
"""Names of files that are something else: restarts are inputs, but not of the run itself."""


def role_by_content(file: Path) -> str | None:
    """`log`, `input`, `tables` and `dipoles` (forces and dipoles as the log has them), or None for
    anything else, and for what cannot be read.
    """
    head = _head(file)
    if b"\0" in head:
        return None
    if _LOG.search(head):
        return "log"
    if _TABLE.search(head):
        return "tables"
    if _DIPOLES.search(head):
        return "dipoles"
    if _NEVER.fullmatch(file.name):
        return None
    statements = (_COMMENT.sub(b"", line).strip() for line in head.splitlines())
    first = next((statement for statement in statements if statement), b"")
    return "input" if first[:1] in (b"&", b"@") and _SECTION.search(head) else None


def _head(file: Path) -> bytes:
    try:
        if not file.stat().st_size:  # nothing, or a file of the kernel that may wait for ever
            return b""
        with open_binary(file) as stream:
            return stream.read(_HEAD)
    except (InputError, OSError):  # a damaged file beside must not keep the frames from us
        return b""
