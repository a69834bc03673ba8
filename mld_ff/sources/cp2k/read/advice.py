"""What to tell CP2K where something is missing or wrong."""

from __future__ import annotations

from mld_ff.origin import Remedies
from mld_ff.sources.cp2k.read.settings import RunSettings

FORCES_SECTION = """\
&MOTION
  &PRINT
    &FORCES
      &EACH
        MD 1
      &END EACH
    &END FORCES
  &END PRINT
&END MOTION"""

ZERO_FORCES = (
    "all forces are zero, so CP2K did not compute them; with ENSEMBLE REFTRAJ the section &MOTION /"
    " &MD / &REFTRAJ needs EVAL ENERGY_FORCES (before release 2023.2 both EVAL_ENERGY_FORCES .TRUE."
    " and EVAL_FORCES .TRUE.)"
)

UNKNOWN_ENERGIES = "The potential energy is not known for every frame and was left out."

REMEDIES = Remedies(
    forces="print &MOTION/&PRINT/&FORCES in the CP2K run",
    force_noise=(
        "It comes from CP2K's real-space grid: raise &MGRID CUTOFF (400 Ry or more, REL_CUTOFF 50),"
        " set &XC_GRID XC_DERIV NN50_SMOOTH, XC_SMOOTH_RHO NN50, then compute the forces of these"
        " frames again (ENSEMBLE REFTRAJ)."
    ),
    temperature=(
        "it has no velocities, no .ener file and no input with a thermostat; keep one of them"
        " beside it"
    ),
    kinetic_energy="neither velocities nor an .ener file of these frames",
    inconsistent=(
        "Are all files of one run? Units other than CP2K's are told by the input beside them, in"
        " &MOTION/&PRINT/&FORCES (or &VELOCITIES) by UNIT eV*angstrom^-1, for example; files are"
        " named by --file ROLE=FILE."
    ),
    cell=(
        "Put the .cell file of the run beside it, or name it with --file cells=FILE; the input's"
        " &SUBSYS/&CELL is taken in Å unless it says [bohr]."
    ),
    denser=(
        "Let CP2K print positions and velocities every {steps} steps or more often (`mld-ff"
        " reference … --every {steps}`)."
    ),
    one_by_one="REFTRAJ",
    timing=("median of the seconds per step in its .ener file, on the machine that it ran on"),
    no_timing="CP2K left no .ener file with its timing",
)


def no_forces(project: str | None) -> str:
    """What is to be done where they are not found."""
    return (
        f"positions are there, but no forces ({project or 'PROJ'}-frc-1.xyz); CP2K prints them if"
        f" its input has\n{FORCES_SECTION}\n(or name the file with --file forces=FILE)"
    )


def frames_in_log(role: str, n_atoms: int, log: str, project: str | None) -> str:
    """How to get at forces or velocities that stand between the other lines of a log."""
    suffix = {"forces": "frc", "velocities": "vel"}[role]
    command = f"awk 'NF == 1 && $1 == {n_atoms} {{n = {n_atoms + 2}}} n-- > 0' {log}"
    return (
        f"the {role} stand in the log (FILENAME __STD_OUT__), from where they are not read; if"
        f" nothing else of the kind does, take them out of it with `{command}"
        f" > {project or 'PROJ'}-{suffix}-1.xyz`"
    )


def what_forces_hold(settings: RunSettings, is_optimization: bool) -> list[str]:
    """What a fit to the frames of such a run has to know, a sentence each."""
    told = []
    if settings.biases:
        told.append(
            f"The run was biased ({', '.join(settings.biases)}), and CP2K prints forces with the"
            " bias in them, which a fit learns with the rest: compute the forces of these frames"
            " again without it (ENSEMBLE REFTRAJ)."
        )
    if settings.constraints:
        told.append(
            f"Coordinates were constrained ({', '.join(settings.constraints)}): the frames do not"
            " tell what it costs to move them."
        )
    if is_optimization:
        told.append(
            f"The frames are steps of an optimization ({settings.run_type or 'no times'}), not of"
            " dynamics: they sample a way downhill, not a temperature."
        )
    return told
