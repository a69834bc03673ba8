"""Which mld_ff this is; the number itself stands in pyproject.toml alone."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("mld_ff")
except PackageNotFoundError:  # Python started in a checkout imports the package from there
    __version__ = "0+not.installed"
