"""A CSV of recipients in, the same CSV out with each one's link beside them, for a mail merge.

The cells that came in go out as they are, also those that a spreadsheet would take for formulas:
a mail merge needs them unchanged. The added cells begin with `http` or `<img`, which is none.
"""

from __future__ import annotations

import codecs
import csv
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from marshmallow import ValidationError

from core.fields import Line
from core.files import whole_file
from core.links import RECIPIENT_CHARACTERS_MAX
from pixels.recipients import Link
from pixels.spreadsheets import undefused
from schemas import RECIPIENTS_ISSUED_MAX

DELIMITERS = (",", ";", "\t")
ADDED_COLUMNS = ("url", "html")
HEADER_CHARACTERS_MAX = 100_000
BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_recipient = Line(1, RECIPIENT_CHARACTERS_MAX)

Issue = Callable[[list[str]], Sequence[Link]]


class SheetError(Exception):
    """A CSV that can't be used; its text is the one line the operator sees."""


@dataclass(frozen=True, slots=True)
class Sheet:
    """A CSV file: how it is written, what its columns are, and which of them has recipients."""

    path: Path
    encoding: str
    delimiter: str
    line_end: str
    columns: list[str]
    place: int

    def rows(self) -> Iterator[tuple[list[str], str]]:
        """Yield each row, as long as the header is, with its recipient.

        Raises: SheetError at the first line that can't be used.
        """
        with self.path.open(encoding=self.encoding, newline="") as file:
            reader = csv.reader(file, delimiter=self.delimiter, strict=True)
            try:
                next(reader)
                for row in reader:
                    if row:
                        yield self._whole(row), self._recipient_of(row)
            except UnicodeError as error:
                raise _undecoded(self.path, self.encoding, error) from None
            except (csv.Error, ValidationError) as error:
                words = error.messages[0] if isinstance(error, ValidationError) else error
                raise SheetError(f"{self.path}, line {reader.line_num}: {words}") from None

    def _whole(self, row: list[str]) -> list[str]:
        if len(row) > len(self.columns):
            raise csv.Error(f"{len(row)} cells under {len(self.columns)} columns")
        return row + [""] * (len(self.columns) - len(row))

    def _recipient_of(self, row: list[str]) -> str:
        cell = row[self.place] if self.place < len(row) else ""
        return str(_recipient.deserialize(undefused(cell)))


def open_sheet(path: Path, column: str | None, encoding: str | None) -> Sheet:
    """Return the sheet in a file; its recipients are in `column`, or the first.

    Raises: SheetError for a file that is no CSV, or has no such column.
    """
    encoding = encoding or _encoding(path)
    try:
        with path.open(encoding=encoding, newline="") as file:
            head = file.readline(HEADER_CHARACTERS_MAX)
    except (UnicodeError, LookupError) as error:
        raise _undecoded(path, encoding, error) from None
    line_end = "\r\n" if head.endswith("\r\n") else "\n"
    delimiter, columns = max(
        ((each, next(csv.reader([head], delimiter=each), [])) for each in DELIMITERS),
        key=lambda read: len(read[1]),
    )
    if not columns or len(set(columns)) < len(columns):
        raise SheetError(f"{path} does not begin with the names of its columns")
    if column is not None and column not in columns:
        raise SheetError(f"{path} has no column {column!r} but {', '.join(columns)}")
    for added in ADDED_COLUMNS:
        if added in columns:
            raise SheetError(f"{path} has a column {added!r} already")
    place = columns.index(column) if column is not None else 0
    return Sheet(path, encoding, delimiter, line_end, columns, place)


def merge(sheet: Sheet, out: Path, issue: Issue, progressed: Callable[[int], object]) -> None:
    """Write the sheet to `out` with the links that `issue` returns for its recipients.

    `out` is there whole or, whatever happens, as it was before.

    Raises: SheetError, OSError.
    """
    with whole_file(out, sheet.encoding) as file:
        writer = csv.writer(file, delimiter=sheet.delimiter, lineterminator=sheet.line_end)
        writer.writerow([*sheet.columns, *ADDED_COLUMNS])
        rows = sheet.rows()
        while chunk := list(itertools.islice(rows, RECIPIENTS_ISSUED_MAX)):
            links = {each.recipient: each for each in issue([name for _, name in chunk])}
            writer.writerows([*row, links[name].url, links[name].html] for row, name in chunk)
            progressed(len(chunk))


def _undecoded(path: Path, encoding: str, error: Exception) -> SheetError:
    return SheetError(f"{path} is not {encoding}: {error}; name its --encoding")


def _encoding(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(4)
    return next((name for mark, name in BYTE_ORDER_MARKS if start.startswith(mark)), "utf-8")
