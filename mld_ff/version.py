"""The version of this installation, for files that say who wrote them."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

try:
    VERSION = version("mld_ff")
except PackageNotFoundError:  # Python started in a checkout imports the package from there
    VERSION = "not installed"
