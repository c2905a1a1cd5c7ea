"""A table of people in, the same table out with each one's link beside them, for a mail merge.

First it is checked, whole, and nothing is stored: every row that can't be used is told at once,
with its line. Browser and command line share all of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import NamedTuple

from marshmallow import ValidationError

from core.clock import now
from core.fields import Line
from core.links import RECIPIENT_CHARACTERS_MAX, Links
from core.people_key import folded
from models import Pixel
from pixels import recipients, tables
from pixels.recipients import Link
from pixels.spreadsheets import undefused
from pixels.tables import Table, TableError, TableRow

# How many links are made between two steps of a progress bar.
ISSUED_AT_ONCE = 10_000
ADDED_COLUMNS = ("url", "html", "opt_out_url")
CELLS_SHOWN_CHARACTERS_MAX = 80
CONSENTING = {"yes", "y", "true", "1", "x", "ja", "oui", "sì", "si", "sí"}
_recipient = Line(1, RECIPIENT_CHARACTERS_MAX)


class BadRow(NamedTuple):
    """A row that can't be used: its line in the file, what stands there, and why."""

    line: int
    text: str
    reason: str


class Duplicate(NamedTuple):
    """Rows of the same person, in their order."""

    person: str
    lines: list[int]


@dataclass(frozen=True, slots=True)
class CheckedTable:
    """What is in a table, with nothing stored yet.

    `rows` are the good ones, each with its person as first written; `people` is each person once.
    """

    table: Table
    place: int
    rows: list[tuple[TableRow, str]]
    people: list[str]
    bad: list[BadRow]
    duplicates: list[Duplicate]
    consenting: frozenset[str]

    @property
    def column(self) -> str:
        """The name of the column with the people."""
        return self.table.columns[self.place]

    @property
    def row_count(self) -> int:
        """How many rows there are, good and bad."""
        return len(self.rows) + len(self.bad)

    def consents(self, person: str) -> bool:
        """Tell whether a person's row says that they consent to be named."""
        return folded(person) in self.consenting

    def summary(self, lines_max: int = 1_000) -> list[str]:
        """Return what a person should read before anything is stored, in sentences."""
        form, count = self.table.format, len(self.table.columns)
        header = "with a header" if self.table.has_header else "without a header"
        delimiter = {"\t": "tabs"}.get(form.delimiter, f"“{form.delimiter}”")
        cut = f", separated by {delimiter}" if count > 1 else ""
        where = f", column {self.column} ({self.place + 1} of {count})" if count > 1 else ""
        return [
            f"{_counted(self.row_count, 'row')}, {_counted(len(self.people), 'person')}{where};"
            f" {form.encoding_name}{cut}, {header}.",
            *_some(
                [
                    f"Lines {_joined(duplicate.lines)} are the same person: {duplicate.person}"
                    for duplicate in self.duplicates
                ],
                lines_max,
            ),
            *_some(
                [f"Line {row.line}: {row.reason} ({row.text!r})" for row in self.bad],
                lines_max,
            ),
        ]


def check(
    table: Table, column: str | None = None, consent_column: str | None = None
) -> CheckedTable:
    """Return who is in a table, and which of its rows can't be used; nothing is stored.

    `column` is the name of the column with the people, or its number from 1; else it is the one
    with the most mail addresses.

    Raises: TableError.
    """
    if column is None and not table.has_header and tables.is_list(table.rows):
        table = _one_below_the_other(table)
    place = _place_of(table, column) if column is not None else _place_found(table)
    _require_new_columns(table)
    consent_place = None if consent_column is None else _place_of(table, consent_column)
    of_addresses = any(tables.address_in(undefused(_cell(row, place))) for row in table.rows)
    rows: list[tuple[TableRow, str]] = []
    bad: list[BadRow] = []
    spelling: dict[str, str] = {}
    lines: dict[str, list[int]] = {}
    consenting = set()
    for row in table.rows:
        try:
            person = _person_of(row, place, len(table.columns), of_addresses)
        except TableError as error:
            text = table.format.delimiter.join(row.cells)[:CELLS_SHOWN_CHARACTERS_MAX]
            bad.append(BadRow(row.line, text, error.message))
            continue
        key = folded(person)
        rows.append((row, spelling.setdefault(key, person)))
        lines.setdefault(key, []).append(row.line)
        if consent_place is not None and _consents(_cell(row, consent_place)):
            consenting.add(key)
    return CheckedTable(
        table,
        place,
        rows,
        list(spelling.values()),
        bad,
        [Duplicate(spelling[key], found) for key, found in lines.items() if len(found) > 1],
        frozenset(consenting),
    )


def issue(
    links: Links,
    pixel: Pixel,
    checked: CheckedTable,
    sent_at: datetime | None,
    base: str,
    *,
    all_consent: bool = False,
) -> Iterator[dict[str, Link]]:
    """Store the people of a table, some at a time, and yield these' links by folded name.

    Whatever their number, `recipients.take_back` takes them back as one.

    Raises: TableError if there is nobody; as `recipients.issue` does.
    """
    require_somebody(checked)
    issued_at, people = now(), iter(checked.people)
    while some := list(islice(people, ISSUED_AT_ONCE)):
        issued = recipients.issue(
            links,
            pixel,
            some,
            sent_at,
            base,
            consents=lambda name: all_consent or checked.consents(name),
            issued_at=issued_at,
        )
        yield {folded(link.recipient): link for link in issued}


def merged(checked: CheckedTable, links: Mapping[str, Link]) -> Iterator[bytes]:
    """Yield the parts of the table's file with the links, by folded name, beside its good rows."""
    return tables.write(checked.table.format, _merged_rows(checked, links))


def require_somebody(checked: CheckedTable) -> None:
    """Raise if no row names anybody.

    Raises: TableError.
    """
    if not checked.people:
        raise TableError("There is nobody in it.")


def _merged_rows(checked: CheckedTable, links: Mapping[str, Link]) -> Iterator[Sequence[str]]:
    if checked.table.has_header:
        yield [*checked.table.columns, *ADDED_COLUMNS]
    for row, person in checked.rows:
        link = links[folded(person)]
        yield [*row.cells, link.url, link.html, str(link.opt_out_url)]


def _one_below_the_other(table: Table) -> Table:
    """Return a pasted list with each mail address in a row of its own."""
    rows = [
        TableRow(row.line, [cell.strip()])
        for row in table.rows
        for cell in row.cells
        if cell.strip()
    ]
    return Table(table.format, ["Column 1"], False, rows)


def _place_of(table: Table, column: str) -> int:
    folded_names = [name.casefold() for name in table.columns]
    for names, wanted in ((table.columns, column.strip()), (folded_names, column.casefold())):
        if names.count(wanted) > 1:
            raise TableError(f"Several columns are named {column!r}; say which by its number.")
        if wanted in names:
            return names.index(wanted)
    if column.isdecimal() and 1 <= int(column) <= len(table.columns):
        return int(column) - 1
    raise TableError(f"There is no column {column!r} but {', '.join(table.columns)}.")


def _place_found(table: Table) -> int:
    place = tables.address_column(table.rows)
    if place is not None and place < len(table.columns):
        return place
    headings = [n for n, name in enumerate(table.columns) if tables.is_heading(name)]
    if len(table.columns) == 1 or len(headings) == 1:
        return headings[0] if headings else 0
    raise TableError(
        f"No column has mail addresses; choose the one with the people: {', '.join(table.columns)}."
    )


def _require_new_columns(table: Table) -> None:
    for name in ADDED_COLUMNS:
        if table.has_header and name in table.columns:
            raise TableError(f"There is a column {name!r} already.")


def _cell(row: TableRow, place: int) -> str:
    return row.cells[place] if place < len(row.cells) else ""


def _person_of(row: TableRow, place: int, width: int, of_addresses: bool) -> str:
    """Return whom a row is about.

    Raises: TableError where that can't be said.
    """
    if row.is_blank:
        raise TableError("The line is blank.")
    if len(row.cells) > width:
        raise TableError(f"{len(row.cells)} cells under {_counted(width, 'column')}.")
    cell = undefused(_cell(row, place))
    if not cell.strip():
        raise TableError("The cell is blank.")
    if of_addresses:
        address = tables.address_in(cell)
        if address is None:
            several = tables.count_addresses(cell) > 1
            raise TableError(
                "Several mail addresses in one cell." if several else "No mail address."
            )
        cell = address
    try:
        return str(_recipient.deserialize(cell))
    except ValidationError as error:
        raise TableError(str(error.messages[0])) from None


def _consents(cell: str) -> bool:
    return cell.strip().casefold() in CONSENTING


def _counted(count: int, noun: str) -> str:
    plural = {"person": "people"}.get(noun, f"{noun}s")
    return f"{count:,} {noun if count == 1 else plural}"


def _some(lines: list[str], lines_max: int) -> list[str]:
    """Return the first lines, and how many more there are."""
    more = len(lines) - lines_max
    return lines[:lines_max] + ([f"And {_counted(more, 'more line')}."] if more > 0 else [])


def _joined(lines: Iterable[int]) -> str:
    *first, last = map(str, lines)
    return f"{', '.join(first)} and {last}"
