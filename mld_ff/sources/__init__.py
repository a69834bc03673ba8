"""Where frames come from: `open_source` opens every kind of source there is."""

from mld_ff.sources.registry import open_source

__all__ = ["open_source"]
