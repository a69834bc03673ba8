"""Read CP2K output: `open_cp2k` streams the frames of a run, `read_cp2k` reads them into memory."""

from mld_ff.sources.cp2k.read.reader import CP2KSource, open_cp2k, read_cp2k

__all__ = ["CP2KSource", "open_cp2k", "read_cp2k"]
