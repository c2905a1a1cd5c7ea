"""Tables of people, read whatever way other programs write them, and written in the same way.

Pure. The cells that came in go out as they are, also those that a spreadsheet would take for
formulas: a mail merge needs them unchanged.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from core.errors import BadRequest

ROWS_MAX = 1_000_000
SAMPLE_CHARACTERS = 64 * 1024
SAMPLE_ROWS = 200
# The first that fits best wins.
DELIMITERS = (",", ";", "\t", "|", "^", "~", ":")
CONSISTENT_SHARE_MIN = 0.6
BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
ENCODING_NAMES = {
    "utf-8": "UTF-8",
    "utf-16-le": "UTF-16",
    "utf-16-be": "UTF-16",
    "cp1252": "Windows-1252",
}
# What a first line says when it names its columns and no cell has an address to tell by.
HEADINGS = {
    *("email", "e-mail", "mail", "email address", "e-mail address", "mail address", "address"),
    *("e-mail-adresse", "mailadresse", "adresse e-mail", "indirizzo email", "correo electrónico"),
    *("recipient", "recipients", "name", "names", "id"),
}
_ADDRESS = re.compile(r"[^\s@<>,;]+@[^\s@<>,;]+")
_NAMED_ADDRESS = re.compile(r"[^<>]*<\s*(?:mailto:)?([^\s@<>,;]+@[^\s@<>,;]+)\s*>\s*[,;]?")
_SEPARATOR_LINE = re.compile(r"sep=(.)\r?\n?", re.IGNORECASE)


class TableError(BadRequest):
    """A table that can't be used; its text is the one line that people see."""


@dataclass(frozen=True, slots=True)
class Format:
    """How a table is written: `encoding` is Python's name; `mark` and `start` come before all."""

    encoding: str = "utf-8"
    mark: bytes = b""
    delimiter: str = ","
    line_end: str = "\r\n"
    start: str = ""

    @property
    def encoding_name(self) -> str:
        """The encoding's name as people know it."""
        return ENCODING_NAMES.get(self.encoding, self.encoding)


@dataclass(frozen=True, slots=True)
class TableRow:
    """A row's cells, and the line of the file that it begins in, from 1."""

    line: int
    cells: list[str]

    @property
    def is_blank(self) -> bool:
        """Whether nothing stands in it."""
        return not any(cell.strip() for cell in self.cells)


@dataclass(frozen=True, slots=True)
class Table:
    """A table without its header: as many cells in each row as there are columns, or more."""

    format: Format
    columns: list[str]
    has_header: bool
    rows: list[TableRow]


def read(
    data: bytes,
    *,
    encoding: str | None = None,
    delimiter: str | None = None,
    has_header: bool | None = None,
    column: str | None = None,
) -> Table:
    """Return the table in a file's bytes; what is not said is found out.

    `column` is the name of a column that is expected, which tells that there is a header.

    Raises: TableError.
    """
    text, form = _decoded(data, encoding)
    return _parsed(text, form, delimiter, has_header, column)


def read_text(text: str, *, has_header: bool | None = None, column: str | None = None) -> Table:
    """Return the table in a text that was pasted.

    Raises: TableError.
    """
    return _parsed(text, Format(), None, has_header, column)


def write(form: Format, rows: Iterable[Sequence[str]]) -> Iterator[bytes]:
    """Yield the parts of a file that is written in the way of another."""
    part = io.StringIO(newline="")
    writer = csv.writer(part, delimiter=form.delimiter, lineterminator=form.line_end)
    yield form.mark + form.start.encode(form.encoding)
    rows = iter(rows)
    while some := list(islice(rows, 500)):
        writer.writerows(some)
        yield part.getvalue().encode(form.encoding)
        part.seek(0)
        part.truncate()


def address_in(cell: str) -> str | None:
    """Return the mail address in a cell, by itself or as `Name <address>`; None for none."""
    cell = cell.strip()
    match = _NAMED_ADDRESS.fullmatch(cell)
    if match:
        return match[1]
    return cell.removeprefix("mailto:") if _ADDRESS.fullmatch(cell) else None


def count_addresses(cell: str) -> int:
    """Return how many mail addresses a cell seems to hold."""
    return len(_ADDRESS.findall(cell))


def address_column(rows: Sequence[TableRow]) -> int | None:
    """Return the column with the most mail addresses, the first of equals; None without any."""
    counts: Counter[int] = Counter()
    for row in rows:
        counts.update(place for place, cell in enumerate(row.cells) if _has_address(cell))
    if not counts:
        return None
    most = max(counts.values())
    return min(place for place, count in counts.items() if count == most)


def is_list(rows: Sequence[TableRow]) -> bool:
    """Tell whether rows are nothing but mail addresses, several in a line."""
    several = any(sum(bool(cell.strip()) for cell in row.cells) > 1 for row in rows)
    return several and all(_has_address(cell) for row in rows for cell in row.cells if cell.strip())


def is_heading(cell: str) -> bool:
    """Tell whether a cell is a usual name of a column of people."""
    return cell.strip().casefold() in HEADINGS


def _decoded(data: bytes, encoding: str | None) -> tuple[str, Format]:
    mark, found = next(
        ((mark, name) for mark, name in BYTE_ORDER_MARKS if data.startswith(mark)), (b"", "")
    )
    if encoding and not _is_same_encoding(encoding, found):
        return _decode(data, encoding), Format(encoding)
    data = data[len(mark) :]
    if found:
        return _decode(data, found), Format(found, mark)
    for guess in (*_utf_16_of(data), "utf-8", "cp1252"):
        try:
            text = data.decode(guess)
        except UnicodeDecodeError:
            continue
        if "\0" not in text:
            return text, Format(guess)
    raise TableError("The file is no text that can be read; save it as CSV, or name its encoding.")


def _is_same_encoding(encoding: str, found: str) -> bool:
    """Tell whether a named encoding means one that a mark has told already."""
    try:
        name = codecs.lookup(encoding).name
    except LookupError:
        raise TableError(f"There is no encoding {encoding!r}.") from None
    return bool(found) and name.replace("-sig", "").startswith(found[:6])


def _decode(data: bytes, encoding: str) -> str:
    try:
        return data.decode(encoding)
    except (UnicodeDecodeError, LookupError) as error:
        raise TableError(f"The file is not {encoding}: {error}.") from None


def _utf_16_of(data: bytes) -> list[str]:
    """Return which UTF-16 a text without a mark may be, by where its zeros are."""
    if len(data) % 2 or not data:
        return []
    high, low = data[0::2].count(0), data[1::2].count(0)
    share = max(high, low) / (len(data) // 2)
    return [] if share < 0.5 else ["utf-16-be" if high > low else "utf-16-le"]


def _parsed(
    text: str, form: Format, delimiter: str | None, has_header: bool | None, column: str | None
) -> Table:
    start = _SEPARATOR_LINE.match(text)
    if start:
        delimiter = delimiter or start[1]
        text = text[start.end() :]
    delimiter = delimiter or _delimiter_of(text)
    form = Format(
        form.encoding, form.mark, delimiter, _line_end_of(text), start[0] if start else ""
    )
    first_line = 2 if start else 1
    rows = list(_rows(text, delimiter, first_line))
    if '"' in text and not has_header:
        # Mail programs put a blank before a name in quotes, which is none in a table.
        listed = list(_rows(text, delimiter, first_line, skips_blanks=True))
        rows = listed if is_list(listed) else rows
    while rows and rows[-1].is_blank:
        rows.pop()
    if not rows:
        raise TableError("There is nobody in it.")
    if has_header is None:
        has_header = _has_header(rows, column)
    width = max(len(row.cells) for row in rows[:SAMPLE_ROWS])
    columns = rows[0].cells if has_header else [f"Column {n}" for n in range(1, width + 1)]
    kept = [
        TableRow(row.line, row.cells + [""] * (len(columns) - len(row.cells)))
        for row in rows[int(has_header) :]
    ]
    return Table(form, [heading.strip() for heading in columns], has_header, kept)


def _rows(
    text: str, delimiter: str, first_line: int, *, skips_blanks: bool = False
) -> Iterator[TableRow]:
    """Yield all rows, blank ones too; with or without the blanks after delimiters.

    Not in the strict way, which refuses `"Doe, B" <b@example.org>` as mail programs write it; a
    quote that is never closed is refused all the same, since it takes in all that follows.
    """
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=skips_blanks
    )
    line, cells = first_line, list[str]()
    try:
        for count, cells in enumerate(reader):
            if count >= ROWS_MAX:
                raise TableError(f"The file has more than {ROWS_MAX:,} rows.")
            yield TableRow(line, cells)
            last, line = line, first_line + reader.line_num
        if cells and "\n" in cells[-1] and _is_open(text, last - first_line):
            raise TableError(f"Line {last}: a quote is not closed.")
    except csv.Error as error:
        raise TableError(f"Line {line}: {error}.") from None


def _is_open(text: str, line: int) -> bool:
    rest = "".join(io.StringIO(text, newline="").readlines()[line:])
    return rest.count('"') % 2 == 1


def _line_end_of(text: str) -> str:
    found = re.search(r"\r\n|\n|\r", text)
    return found[0] if found else "\r\n"


def _delimiter_of(text: str) -> str:
    """Return what stands between the cells: what makes the most columns, as many in each row."""
    sample = text[:SAMPLE_CHARACTERS]
    if len(sample) < len(text):
        sample = sample[: max(sample.rfind("\n"), sample.rfind("\r")) + 1] or sample
    best, most = DELIMITERS[0], 1
    for delimiter in DELIMITERS:
        columns = _column_count(sample, delimiter)
        if columns > most:
            best, most = delimiter, columns
    return best


def _column_count(sample: str, delimiter: str) -> int:
    """Return how many columns a delimiter makes, 0 if it makes no table."""
    reader = csv.reader(io.StringIO(sample, newline=""), delimiter=delimiter)
    try:
        found = [cells for cells in islice(reader, SAMPLE_ROWS) if cells]
    except csv.Error:
        return 0
    if not found:
        return 0
    width, count = Counter(map(len, found)).most_common(1)[0]
    rows = [TableRow(0, cells) for cells in found]
    if width > 1 and count >= CONSISTENT_SHARE_MIN * len(found):
        return width
    return max(map(len, found)) if is_list(rows) else 0


def _has_header(rows: Sequence[TableRow], column: str | None) -> bool:
    first = rows[0].cells
    if column is not None and column.strip() in (cell.strip() for cell in first):
        return True
    if any(_has_address(cell) for cell in first):
        return False
    return address_column(rows) is not None or any(is_heading(cell) for cell in first)


def _has_address(cell: str) -> bool:
    return "@" in cell and _ADDRESS.search(cell) is not None
