"""Text files, plain or compressed, read line by line with their line numbers."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import sys
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import IO, Any, cast

from mld_ff.errors import InputError
from mld_ff.files import check_readable

_OPENERS: dict[str, Any] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
_BUFFER = 1 << 20
_LONGEST = 1 << 20
"""Bytes of a line: what a full disk or a crash leaves may be gigabytes of zeros without an end."""


@contextmanager
def open_binary(path: Path) -> Iterator[IO[bytes]]:
    """Open a file for reading bytes, decompressing by its suffix.

    Raises InputError if it is no file or cannot be opened or, while it is read, if the compressed
    data end early or are damaged.
    """
    check_readable(path)
    try:
        opener = _OPENERS.get(path.suffix.lower(), open)
        # Line iteration over a decompressor is slow in Python; BufferedReader does it in C.
        with (
            opener(path, "rb") as raw,
            io.BufferedReader(cast(io.RawIOBase, raw), _BUFFER) as stream,
        ):
            yield stream
    except (EOFError, lzma.LZMAError, zlib.error, gzip.BadGzipFile) as error:
        raise _damaged(path, error) from None
    except OSError as error:
        if error.errno is None:
            raise _damaged(path, error) from None
        raise InputError(f"cannot be read: {error.strerror}", path) from None


def _damaged(path: Path, error: Exception) -> InputError:
    return InputError(
        f"this {path.suffix} file is truncated or damaged ({error}); copy it again, "
        "or compress the file anew once CP2K has finished writing it",
        path,
    )


_MOST_DIGITS = 18
"""Of numbers of atoms; Python itself reads 4,300."""


def is_count(word: bytes) -> bool:
    """Whether it is a number of atoms."""
    return word.isdigit() and len(word) <= _MOST_DIGITS and int(word) > 0


class Lines:
    """Lines of a stream, taken in blocks; lines can be given back.

    `number` is the number (from 1) of the line taken last.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self.number = 0
        self._stream = iter(partial(stream.readline, _LONGEST), b"")
        self._returned: list[bytes] = []

    def take(self, count: int) -> list[bytes]:
        """The next `count` lines; fewer only at the end of the file."""
        lines, self._returned = self._returned[:count], self._returned[count:]
        lines += islice(self._stream, min(count - len(lines), sys.maxsize))
        self.number += len(lines)
        return lines

    def give_back(self, lines: list[bytes]) -> None:
        """Let `lines` be the next to be taken."""
        self._returned = lines + self._returned
        self.number -= len(lines)


def sha256(paths: Iterable[Path]) -> str:
    """SHA-256 of the contents of these files, one after the other, as they lie on the disk."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as stream:
            while block := stream.read(_BUFFER):
                digest.update(block)
    return digest.hexdigest()
