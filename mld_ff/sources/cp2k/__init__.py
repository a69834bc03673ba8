"""CP2K: read its output, and run it. `open_cp2k` streams the frames of a run, `read_cp2k` reads
them into memory.
"""

from mld_ff.sources.cp2k.read.discover import ROLES, is_cp2k
from mld_ff.sources.cp2k.read.opening import open_cp2k, read_cp2k
from mld_ff.sources.cp2k.read.reader import CP2KSource
from mld_ff.sources.source import SourceKind

CP2K = SourceKind("the directory of a CP2K run", is_cp2k, open_cp2k, ROLES)

__all__ = ["CP2K", "CP2KSource", "open_cp2k", "read_cp2k"]
