"""Cells that spreadsheets take for text, and come back as they were."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixels.spreadsheets import defused, undefused

SIGNS = "=+-@＝＋－＠"
CUT = (",", ";", "\t")


def cells(text: str) -> list[str]:
    """Return what programs may take for a cell of a value, whatever they cut at."""
    lines = text.replace("\r", "\n").split("\n")
    return [cell for line in lines for mark in CUT for cell in line.split(mark)]


@pytest.mark.parametrize(
    "value",
    [
        *("=1+1", "x;=1+2", "x;;-2", "＝1+1", "a\n=1+1", "a\r=1", "a\r\n@x", "\t=1", "a,+1"),
        *('x;"=1+2', "x;＝1", "a\t@SUM(1)", "'=1", ";'=1", "''-1"),
    ],
)
def test_no_cell_of_a_defused_value_is_a_formula(value: str) -> None:
    text = str(defused(value))
    assert not [cell for cell in cells(text) if cell.lstrip('"').startswith(tuple(SIGNS))], text
    assert undefused(text) == value


@pytest.mark.parametrize(
    "value",
    ["", "Ada", "O'Brien", "a=b", "a-b; c", "1;2", "x'=1", "Mozilla/5.0 (a; +http://b)", "'"],
)
def test_what_is_no_formula_stays_as_it_is(value: str) -> None:
    assert defused(value) == value
    assert undefused(value) == value


def test_numbers_and_nothing_stay_what_they_are() -> None:
    assert [defused(value) for value in (None, -1, True)] == [None, -1, True]


@given(st.text(alphabet=st.sampled_from([*SIGNS, *"',;\t\r\n\"a "]), max_size=12))
def test_every_value_comes_back(value: str) -> None:
    assert undefused(str(defused(value))) == value


@given(st.lists(st.text(alphabet=st.sampled_from([*SIGNS, *"',;\n\"a "]), max_size=6), min_size=1))
def test_every_row_comes_back_through_a_file(row: list[str]) -> None:
    file = io.StringIO(newline="")
    csv.writer(file).writerow([defused(value) for value in row])
    [read] = csv.reader(io.StringIO(file.getvalue(), newline=""))
    assert [undefused(cell) for cell in read] == row
