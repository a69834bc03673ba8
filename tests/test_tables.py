"""One table as text."""

from __future__ import annotations

import pytest

from mld_ff.tables import Table, number, with_error


def test_columns_are_as_wide_as_their_longest_cell() -> None:
    rows = [["O–H", "0.97", "yes"], ["g", "2.8134", "no"]]
    table = Table(["observable", "Å", "agrees"], rows, "lrl", "One sentence.")
    assert table.text.splitlines() == [
        "observable       Å  agrees",
        "O–H           0.97  yes",
        "g           2.8134  no",
        "One sentence.",
    ]
    assert Table(["", ""], [["a", "b"]]).text == "a  b"
    with pytest.raises(ValueError, match="every row needs 2 cells"):
        Table(["", ""], [["a"]])


def test_numbers_that_are_not_known() -> None:
    nan = float("nan")
    assert (number(None), number(nan), number(0.12345)) == ("–", "–", "0.1235")
    assert with_error(nan, 1.0) == "–"
    assert with_error(2.81, nan) == "2.81 ± ?"


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (2.81234, 0.0123, "2.812 ± 0.012"),
        (2.8, 0.000996, "2.8000 ± 0.0010"),
        (3499.7, 21.4, "3500 ± 21"),
        (3499.7, 214.0, "3500 ± 210"),
        (-0.5, 1.0, "-0.5 ± 1.0"),
        (1e-9, 2e-10, "1e-09 ± 2.0e-10"),
        (0.97, 0.0, "0.97 ± 0"),
    ],
)
def test_numbers_are_rounded_to_their_errors(value: float, error: float, text: str) -> None:
    assert with_error(value, error) == text
