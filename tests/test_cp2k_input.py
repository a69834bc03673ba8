"""CP2K input and restart files: the parser, and what is taken from them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ase.data import chemical_symbols
from hypothesis import given
from hypothesis import strategies as st

from mld_ff.errors import InputError
from mld_ff.sources.cp2k.read.inputfile import parse_input
from mld_ff.sources.cp2k.read.kinds import element_of, resolve_label
from mld_ff.sources.cp2k.read.settings import Kind, RunSettings, read_settings
from mld_ff.sources.cp2k.read.units import FORCE, VELOCITY, Quantity, unit_factor

DATA = Path(__file__).parent / "data" / "cp2k"
Read = Callable[[str], RunSettings]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    def settings(text: str) -> RunSettings:
        (tmp_path / "x.inp").write_text(text)
        return read_settings(tmp_path / "x.inp")

    return settings


def in_cell(lines: str) -> str:
    return f"&FORCE_EVAL\n&SUBSYS\n&CELL\n{lines}\n&END CELL\n&END\n&END"


def test_real_inputs() -> None:
    network, functional = (
        read_settings(DATA / "water64" / "nnp.inp"),
        read_settings(DATA / "blyp" / "dft.inp"),
    )
    assert (network.project, network.ensemble, network.timestep, network.temperature) == (
        "w64",
        "NVT",
        0.5,
        300,
    )
    assert functional.ensemble == "REFTRAJ"
    assert set(functional.kinds or {}) == {"O", "H"}
    for settings in (network, functional):
        assert settings.cell is not None and settings.cell == pytest.approx(12.444661 * np.eye(3))
        assert settings.cell_varies is False


def test_real_restart_agrees_with_its_input() -> None:
    start, end = (
        read_settings(DATA / "npt" / "npt.inp"),
        read_settings(DATA / "npt" / "npt-1.restart"),
    )
    assert start.kinds == end.kinds == {"AR1": Kind("Ar", None), "NE_X": Kind("Ne", 21.0)}
    assert start.units == end.units == {"forces": 1.0, "velocities": 1.0}
    assert (start.project, start.ensemble, start.cell_varies) == (
        end.project,
        end.ensemble,
        end.cell_varies,
    )
    assert (start.timestep, start.temperature) == pytest.approx((end.timestep, end.temperature))


def test_cell_from_lengths_and_angles_is_the_one_that_cp2k_printed() -> None:
    """ABC in nm with angles 80, 85, 75 against the first row of the .cell file of the same run."""
    row = (DATA / "npt" / "npt-1.cell").read_text().splitlines()[1].split()[2:11]
    cell = read_settings(DATA / "npt" / "npt.inp").cell
    assert cell is not None and cell.ravel() == pytest.approx([float(x) for x in row], abs=2e-9)


@pytest.mark.parametrize(
    ("lines", "rows"),
    [
        ("ABC 1 2 3", [[1, 0, 0], [0, 2, 0], [0, 0, 3]]),
        ("abc [ Bohr ] 1.0D1 2.0E1 60/2", np.diag([10, 20, 30]) * 0.529177),
        ("A [nm] 1 0 0\nB [angstrom] 0.5 2 0\nC 0 0.25 3", [[10, 0, 0], [0.5, 2, 0], [0, 0.25, 3]]),
        ("ABC 2 2 3\nALPHA_BETA_GAMMA 90 90 60", [[2, 0, 0], [1, 3**0.5, 0], [0, 0, 3]]),
        (
            "ABC 2 2 3\nANGLES [rad] 1.5707963268 1.5707963268 1.0471975512",
            [[2, 0, 0], [1, 3**0.5, 0], [0, 0, 3]],
        ),
        ("ABC 1 2 3\nMULTIPLE_UNIT_CELL 3 2 1", np.diag([3, 4, 3])),
        ("ABC \\\n 1 2 \\\n 3 ! lengths", np.diag([1, 2, 3])),
        ("ABC 1 2 3\n&CELL_REF\nABC 9 9 9\n&END", np.diag([1, 2, 3])),
        ("ABC 4.04*1.5 2*3/4*1.0D0 8/2", np.diag([6.06, 1.5, 4])),
        ('ABC "1" "2" 3', np.diag([1, 2, 3])),
        ("A 2 0 0\nB 2*COS(60) 2*sqrt(3)/2 0\nC 0 0 3", [[2, 0, 0], [1, 3**0.5, 0], [0, 0, 3]]),
        ("ABC [internal_cp2k] 10 10 10", 5.29177 * np.eye(3)),
        ("@SET A 1\n@IF NO\n@SET A 2\n@ENDIF\nABC ${A} 1 1", np.diag([2, 1, 1])),
        (
            "@SET A x\n@IF (${A} == X)\n@SET A 2\n@ENDIF\n@IF (${A} /= X)\nABC 3 1 1\n@ENDIF",
            np.diag([3, 1, 1]),
        ),
        ("ABC 1 1 1\n@IF 0\n@IF 1\nB 3\n@ENDIF\nABC 4 1 1\n@ENDIF", np.diag([4, 1, 1])),
    ],
)
def test_cells(read: Read, lines: str, rows: list[list[float]]) -> None:
    assert read(in_cell(lines)).cell == pytest.approx(np.array(rows), rel=2e-6, abs=1e-8)


ODD = "ABC 12 13 15\nALPHA_BETA_GAMMA 85 97 110"


@pytest.mark.parametrize(
    ("symmetry", "rows"),
    [
        ("CUBIC", np.diag([13.024] * 3)),
        ("TETRAGONAL_AC", np.diag([13.435, 12.201, 13.435])),
        ("ORTHORHOMBIC", np.diag([12, 12.201, 14.87])),
        ("HEXAGONAL", [[12.5, 0, 0], [6.25, 10.825, 0], [0, 0, 15]]),
        ("MONOCLINIC", [[12, 0, 0], [0, 13, 0], [-1.828, 0, 14.888]]),
        ("MONOCLINIC_GAMMA_AB", [[12.5, 0, 0], [-4.275, 11.746, 0], [0, 0, 15]]),
        ("RHOMBOHEDRAL", [[13.333, 0, 0], [-1.702, 13.224, 0], [-1.702, -1.935, 13.082]]),
        ("TRICLINIC", [[12, 0, 0], [-4.446, 12.216, 0], [-1.828, 0.726, 14.87]]),
    ],
)
def test_symmetries(read: Read, symmetry: str, rows: list[list[float]]) -> None:
    """Rows as CP2K 2023.1 writes them into its log for these lines."""
    cell = read(in_cell(f"SYMMETRY {symmetry}\n{ODD}")).cell
    assert cell == pytest.approx(np.array(rows), abs=6e-4)


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        ("ABC 1 2", "expected 3 numbers, found '1 2'"),
        ("ABC 1 2 $L", "expected a number, found '$L'"),
        ("ABC 1 2 3/0", "expected a number, found '3/0'"),
        ("ABC 1 2 0", "this cell has no volume"),
        ("ABC 1 2 1+2", "expected a number, found '1+2'"),
        ("ABC 1 2 SQRT(-1)", "expected a number, found 'SQRT(-1)'"),
        ("ABC 1 2 inf", "expected a number, found 'inf'"),
        ("ABC [fs] 1 2 3", "unit 'fs' is not one of length"),
        ("ABC [ell] 1 2 3", "unit 'ell' is not known; those known are angstrom, bohr, au_l, nm, "),
        ("ABC 1 2 3 \nMULTIPLE_UNIT_CELL 1 2", "expected 3 numbers, found '1 2'"),
    ],
)
def test_cells_that_are_none(read: Read, tmp_path: Path, lines: str, problem: str) -> None:
    with pytest.raises(InputError) as caught:
        read(in_cell(lines))
    line = 4 + lines.count("\n")
    assert str(caught.value).startswith(f"{tmp_path / 'x.inp'}:{line}: {problem}")


def test_angles_that_fit_no_cell(read: Read, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        read(in_cell("ABC 1 2 3\nALPHA_BETA_GAMMA 150 20 20"))
    assert str(caught.value) == f"{tmp_path / 'x.inp'}:4: this cell has no volume"


CIF = """data_x
_cell_length_a 9.0
_cell_length_b 9.0
_cell_length_c 12.5
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 120
loop_
_atom_site_label
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
Si 0 0 0
"""
HEXAGONAL = [[9, 0, 0], [-4.5, 9 * 0.75**0.5, 0], [0, 0, 12.5]]


@pytest.mark.parametrize(
    ("name", "form", "text"),
    [
        ("x.cif", "CIF", CIF),
        ("a-1.cell", "", "# Step\n0 0.0 9 0 0 -4.5 7.79422863 0 0 0 12.5 876.85\n"),
        ("a.xsc", "XSC", "#$LABELS step a_x\n1 9 0 0 -4.5 7.79422863 0 0 0 12.5 0 0 0\n"),
        (
            "a.xyz",
            "EXTXYZ",
            '1\nLattice="9 0 0 -4.5 7.79422863 0 0 0 12.5" Properties=species:S:1:pos:R:3\n'
            "H 0 0 0\n",
        ),
        (
            "a.pdb",
            "pdb",
            "CRYST1    9.000    9.000   12.500  90.00  90.00 120.00 P 1\n"
            "ATOM      1  H   X       1       0.000   0.000   0.000  1.00  0.00           H\n",
        ),
    ],
)
def test_cell_in_a_file_that_the_input_names(
    read: Read, tmp_path: Path, name: str, form: str, text: str
) -> None:
    (tmp_path / name).write_text(text)
    lines = f"ABC 1 1 1\nCELL_FILE_NAME '{name}'" + (f"\nCELL_FILE_FORMAT {form}" if form else "")
    assert read(in_cell(lines)).cell == pytest.approx(np.array(HEXAGONAL), rel=1e-6, abs=1e-6)
    if form not in ("", "XSC"):
        topology = f"&TOPOLOGY\nCOORD_FILE_NAME {name}\nCOORD_FILE_FORMAT {form}\n&END"
        cell = read(f"&FORCE_EVAL\n&SUBSYS\n{topology}\n&END\n&END").cell
        assert cell == pytest.approx(np.array(HEXAGONAL), rel=1e-6, abs=1e-6)
    (tmp_path / name).write_text("nothing\n" if form else "# nothing\n")
    with pytest.raises(InputError, match=name):
        read(in_cell(lines))
    (tmp_path / name).unlink()
    assert read(in_cell(lines)).cell == pytest.approx(np.eye(3))


def test_quotation_marks(read: Read) -> None:
    """As Atomic Simulation Recipes, AiiDA and others write them."""
    settings = read(
        '&GLOBAL\n PROJECT_NAME "melt"\n RUN_TYPE "MD"\n&END\n'
        '&FORCE_EVAL\n&SUBSYS\n&KIND "O1"\n ELEMENT "O"\n MASS "18.0"\n&END\n&END\n&END\n'
        '&MOTION\n&MD\n ENSEMBLE "NVT"\n&END\n&PRINT\n&FORCES\n UNIT "eV*angstrom^-1"\n'
        " FILENAME =forces\n&END\n&VELOCITIES\n UNIT [angstrom*fs^-1]\n&END\n&END\n&END"
    )
    assert (settings.project, settings.run_type, settings.ensemble) == ("melt", "MD", "NVT")
    assert settings.kinds == {"O1": Kind("O", 18.0)}
    assert settings.units == {"forces": 1.0, "velocities": 1.0}


def test_variables_includes_conditions_and_comments(tmp_path: Path) -> None:
    (tmp_path / "md.inc").write_text(
        "ensemble ${ENS}  # the ensemble\nTimeStep [ps] $DT\n@SET HOT 2\n"
    )
    (tmp_path / "x.inp").write_text(
        "@SET ENS nvt\n@SET dt 0.001\n@SET NAME 'water'\n@SET OUTER ${NAME}_box\n"
        "&global\n project runs/${OUTER} ! comment\n UNHEARD_OF 1\n&end global\n"
        "&MOTION\n&MD\n@INCLUDE 'md.inc'\n@INCLUDE missing.inc\n"
        "@IF ( ${HOT} == 2 )\nTEMPERATURE 400\n@ENDIF\n@IF $HOT == 1\nTEMPERATURE 300\n@ENDIF\n"
        "@IF ${COLD-0}\nTEMPERATURE 100\n@ENDIF\n&END MD\n&END MOTION\n"
    )
    settings = read_settings(tmp_path / "x.inp")
    assert (settings.project, settings.ensemble, settings.timestep, settings.temperature) == (
        "water_box",
        "NVT",
        1,
        400,
    )


def test_input_that_grows_without_end(tmp_path: Path) -> None:
    """By itself, in a circle, by many files that each include the next twice, by its variables."""
    file = tmp_path / "x.inp"

    def said(text: str) -> str:
        file.write_text(text)
        with pytest.raises(InputError) as caught:
            parse_input(file)
        return str(caught.value)

    assert said("&GLOBAL\n&END\n@INCLUDE x.inp\n@INCLUDE x.inp\n") == (
        f"{file}:3: includes x.inp without end"
    )
    (tmp_path / "y.inp").write_text("@INCLUDE x.inp\n")
    assert said("@INCLUDE y.inp\n") == f"{tmp_path / 'y.inp'}:1: includes x.inp without end"
    for k in range(40):
        (tmp_path / f"{k}.inc").write_text(f"@INCLUDE {k + 1}.inc\n" * 2)
    assert said("@INCLUDE 0.inc\n").endswith(".inc without end")
    doubled = "".join(f"@SET A{k + 1} ${{A{k}}}${{A{k}}}\n" for k in range(60))
    assert said(f"@SET A0 x\n{doubled}&GLOBAL\n").endswith("grows without end by its variables")


def test_repeated_sections_and_kinds(tmp_path: Path) -> None:
    (tmp_path / "x.inp").write_text(
        "&FORCE_EVAL\n&SUBSYS\n&KIND O1\nELEMENT O\n&END KIND\n&KIND Hw\nELEMENT H\nMASS [m_e]"
        " 3671.5\n&END\n&END\n&END\n&FORCE_EVAL\n&SUBSYS\n&CELL\nABC 1 1"
        " 1\n&END\n&END\n&END\n&END\n&END\n"
    )
    assert len(parse_input(tmp_path / "x.inp").all("FORCE_EVAL")) == 2
    settings = read_settings(tmp_path / "x.inp")
    assert settings.kinds is not None and settings.kinds["O1"] == Kind("O", None)
    assert settings.kinds["HW"].mass == pytest.approx(2.0141, abs=1e-4)
    assert settings.cell is not None and settings.cell[0, 0] == 1


def test_unit_that_is_not_known(read: Read, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        read("&MOTION\n&PRINT\n&FORCES\nUNIT dyne\n&END\n&END\n&END")
    assert str(caught.value).startswith(
        f"{tmp_path / 'x.inp'}:4: unit 'dyne' is not known; those known are angstrom, "
    )
    with pytest.raises(InputError, match=r"x\.inp:4: unit 'hartree' is not one of energy/length"):
        read("&MOTION\n&PRINT\n&FORCES\nUNIT hartree\n&END\n&END\n&END")


@given(st.text(max_size=200))
def test_any_text_is_parsed_or_refused(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    """Never anything but settings or an InputError."""
    file = tmp_path_factory.mktemp("any") / "x.inp"
    file.write_text(in_cell(f"ABC {text}\n{text}"), encoding="utf-8", errors="replace")
    try:
        read_settings(file)
    except InputError as error:
        assert str(error).startswith(str(file))


@pytest.mark.parametrize(
    ("text", "quantity", "factor"),
    [
        ("hartree*bohr^-1", FORCE, 27.211386 / 0.529177),
        ("Hartree / Bohr", FORCE, 27.211386 / 0.529177),
        ("au_f", FORCE, 27.211386 / 0.529177),
        ("eV*angstrom^-1", FORCE, 1.0),
        ("mNewton", FORCE, 1e-13 / 1.602176634e-19),
        ("bohr*au_t^-1", VELOCITY, 0.529177 / 0.02418884),
        ("angstrom*fs^-1", VELOCITY, 1.0),
        ("kcalmol", "energy", 0.0433641),
        ("Ry", "energy", 13.605693),
        ("nm", "length", 10.0),
    ],
)
def test_units(text: str, quantity: Quantity, factor: float) -> None:
    assert unit_factor(text, quantity) == pytest.approx(factor, rel=2e-6)


@pytest.mark.parametrize(
    ("label", "element"),
    [
        ("O", "O"),
        ("O1", "O"),
        ("H_w", "H"),
        ("Hw", "H"),
        ("HW", "H"),
        ("OW", "O"),
        ("OW1", "O"),
        ("CL1", "Cl"),
        ("NA", "Na"),
        ("Ca2", "Ca"),
        ("CA", "Ca"),
        ("HO", "Ho"),
        ("D", "H"),
        ("D1", "H"),
        ("Dy", "Dy"),
        ("Clx", "Cl"),
        ("Qq", None),
        ("1", None),
        ("X", None),
        ("", None),
    ],
)
def test_labels(label: str, element: str | None) -> None:
    assert element_of(label) == element


@given(
    st.sampled_from(chemical_symbols[1:]),
    st.sampled_from(["", "1", "12", "_w", "-a"]),
    st.booleans(),
)
def test_every_element_is_read_in_any_case_with_a_number(
    symbol: str, tail: str, upper: bool
) -> None:
    assert element_of((symbol.upper() if upper else symbol) + tail) == symbol


def test_kinds_come_before_the_label() -> None:
    notes: list[str] = []

    def resolve(label: str, kinds: dict[str, Kind]) -> tuple[str, float]:
        atom = resolve_label(label, kinds, Path("p.xyz"), 3, notes)
        return atom.element, round(atom.mass, 3)

    assert resolve("CA", {"CA": Kind("C", None)}) == ("C", 12.011)
    assert resolve("H", {"HW": Kind("H", 2.0)}) == ("H", 2.0)  # CP2K printed the element of kind Hw
    assert resolve("D", {"H": Kind(None, 1.1)}) == ("H", 2.014)
    assert resolve("H1", {"H1": Kind("D", None)}) == ("H", 2.014)
    assert resolve("H", {"D": Kind("H", 2.014), "H": Kind(None, None)}) == ("H", 1.008)
    assert notes == []
    assert resolve("H", {"D": Kind("H", 2.014), "H1": Kind(None, None)}) == ("H", 1.008)
    assert notes == [
        "The kinds of H have different masses and the files do not tell which atom is which; the"
        " standard mass was taken (PRINT_ATOM_KIND in &MOTION / &PRINT / &TRAJECTORY makes CP2K"
        " print the kinds)."
    ]
    with pytest.raises(InputError) as caught:
        resolve_label("Q1", {"Q1": Kind("Qq", None, Path("x.inp"), 7)}, Path("p.xyz"), 3, [])
    assert (
        str(caught.value)
        == "x.inp:7: 'Qq' is no element; say which it is in the CP2K input: &KIND Q1 with ELEMENT"
        " inside, and give that input to the reader"
    )
