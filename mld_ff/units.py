"""The only conversion factors of the package.

Inside everything is eV, Å, fs and amu. Factors multiply a value in the unit that the name begins
with and give the unit that it ends with. Constants: CODATA as shipped with scipy; those of CP2K
differ in the 8th digit.
"""

from scipy.constants import (
    N_A,
    Boltzmann,
    atomic_mass,
    elementary_charge,
    physical_constants,
    speed_of_light,
)

HARTREE_TO_EV: float = physical_constants["Hartree energy in eV"][0]
BOHR_TO_A: float = physical_constants["Bohr radius"][0] * 1e10
AU_TIME_TO_FS: float = physical_constants["atomic unit of time"][0] * 1e15
HARTREE_PER_BOHR_TO_EV_PER_A: float = HARTREE_TO_EV / BOHR_TO_A
BOHR_PER_AU_TIME_TO_A_PER_FS: float = BOHR_TO_A / AU_TIME_TO_FS

KB_EV_PER_K: float = Boltzmann / elementary_charge
AMU_A2_PER_FS2_TO_EV: float = atomic_mass * 1e10 / elementary_charge
"""Twice a kinetic energy: m v² with m in amu and v in Å/fs."""

EV_TO_KJ_PER_MOL: float = elementary_charge * N_A / 1e3
A_TO_NM = 0.1
FS_TO_PS = 1e-3
CM_TO_FS: float = 1e13 / speed_of_light
"""Time in which light goes so far: a wavenumber [1/cm] times a time [fs], divided by this, counts
oscillations.
"""
A_PER_FS_TO_NM_PER_PS = 100.0
A_PER_FS_TO_A_PER_PS = 1000.0
EV_PER_A_TO_KJ_PER_MOL_PER_NM: float = EV_TO_KJ_PER_MOL / A_TO_NM
EV_TO_MEV = 1e3
E2_PER_A_TO_EV: float = HARTREE_TO_EV * BOHR_TO_A
"""Energy of two charges of 1 e at 1 Å."""
DEBYE_TO_E_A: float = 1e-11 / (speed_of_light * elementary_charge)
"""1 debye is 1e-21 C m²/s over the speed of light."""
EV_PER_A3_TO_BAR: float = elementary_charge * 1e30 / 1e5
AMU_PER_A3_TO_G_PER_CM3: float = atomic_mass * 1e27
