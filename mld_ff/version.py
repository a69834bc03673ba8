"""Which mld_ff this is; the number itself stands in pyproject.toml alone."""

from importlib.metadata import version

__version__ = version("mld_ff")
