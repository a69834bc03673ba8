"""mld_ff: from a CP2K trajectory to a force field that stock OpenMM and stock LAMMPS run.

What the names below stand for is imported when it is first used; `__init__.pyi` lists where from.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
