"""Files of hits, as this program exports them and as Umami does, read a row at a time.

Pure. What a row can't say is left empty; one that can't be a hit is a `RefusedRow` with its line.

Umami keeps no user agent, and lets no machine in that it knows to be one: its rows are opens.
"""

from __future__ import annotations

import csv
import json
import re
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple, TextIO

from core.clock import milliseconds
from core.errors import BadRequest
from hits.agent_names import OTHER
from pixels.spreadsheets import undefused

REQUIRED = {"csv": ("id", "createdAt"), "umami": ("website_id", "session_id", "created_at")}
# Umami's kinds of events that are somebody's view: of a page, of a link, of a pixel.
VIEWS = ("", "1", "3", "4")
_COPY = re.compile(r'COPY (?:\w+\.)?"?(session|website_event)"? \((.*)\) FROM stdin;\s*')
# What a dump's sessions say of their events.
_OF_SESSION = ("browser", "country", "language", "hostname", "distinct_id")
_ESCAPE = re.compile(r"\\([0-7]{1,3}|x[0-9A-Fa-f]{1,2}|.)", re.DOTALL)
_ESCAPED = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_COUNTRY = re.compile("[A-Z]{2}")


class FileRow(NamedTuple):
    """A hit as a file tells of it; empty is what it doesn't say.

    `id` is the same whenever the file is read. `hit_class` and `reason` are the file's own.
    """

    line: int
    id: str
    at_ms: int
    visitor: str = ""
    recipient: str = ""
    user_agent: str = ""
    country: str = ""
    language: str = ""
    hostname: str = ""
    referrer: str = ""
    query: str = ""
    hit_class: str = ""
    reason: str = ""


class RefusedRow(NamedTuple):
    """A row that can't be a hit, and why."""

    line: int
    problem: str


class OtherRow(NamedTuple):
    """A row of Umami's that is no view, or another website's."""

    line: int
    website: str


ImportRow = FileRow | RefusedRow | OtherRow
Cells = dict[str, str]


def read(path: Path, kind: str, now_ms: int, website: str | None = None) -> Iterator[ImportRow]:
    """Yield the rows of a file of kind `csv`, `jsonl` or `umami`; `website` is Umami's id of one.

    Raises: BadRequest for a file that is none of the kind.
    """
    # What is no UTF-8 is the fault of its row.
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        for line, cells in _LISTS[kind](file):
            try:
                if isinstance(cells, str):
                    raise ValueError(cells)
                yield _row(kind, line, cells, now_ms, website)
            except ValueError as error:
                yield RefusedRow(line, str(error))


def _row(kind: str, line: int, cells: Cells, now_ms: int, website: str | None) -> ImportRow:
    for value in cells.values():
        if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
            raise ValueError("This is not UTF-8.")
    if kind != "umami":
        return _of_ours(line, cells, now_ms)
    found = _uuid(cells, "website_id")
    if cells.get("event_type", "") not in VIEWS or (website and found != website):
        return OtherRow(line, found)
    return _of_umami(line, cells, now_ms)


def websites(path: Path) -> set[str]:
    """Return the ids of the websites that Umami's file tells of.

    Raises: BadRequest for a file that is none of Umami's.
    """
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        found = (cells for _, cells in _of_umamis_file(file) if not isinstance(cells, str))
        return {cells["website_id"] for cells in found if cells.get("website_id")}


def _of_ours(line: int, cells: Cells, now_ms: int) -> FileRow:
    return FileRow(
        line,
        _uuid(cells, "id"),
        _instant(cells, "createdAt", now_ms),
        visitor=cells.get("visitor", ""),
        recipient=cells.get("recipient", ""),
        user_agent=cells.get("userAgent", ""),
        country=_country(cells),
        language=cells.get("language", ""),
        hostname=cells.get("hostname", ""),
        referrer=cells.get("referrer", ""),
        query=cells.get("query", ""),
        hit_class=cells.get("class", ""),
        reason=cells.get("reason", ""),
    )


def _of_umami(line: int, cells: Cells, now_ms: int) -> FileRow:
    session, at_ms = _uuid(cells, "session_id"), _instant(cells, "created_at", now_ms)
    query = cells.get("url_query", "")
    # Without an id, what is the same in all that is kept of it is the same.
    place = f"{at_ms} {session} {cells.get('url_path', '')}?{query}"
    return FileRow(
        line,
        _uuid(cells, "event_id") if cells.get("event_id") else place,
        at_ms,
        visitor=session,
        recipient=cells.get("distinct_id", ""),
        user_agent=OTHER,
        country=_country(cells),
        language=cells.get("language", ""),
        hostname=cells.get("hostname", ""),
        referrer=_referrer(cells),
        query=query,
        hit_class="open",
        reason="browser" if cells.get("browser") else "unknown",
    )


def _referrer(cells: Cells) -> str:
    domain, path, query = (
        cells.get(f"referrer_{part}", "") for part in ("domain", "path", "query")
    )
    return f"https://{domain}{path}{query and '?'}{query}" if domain else ""


def _country(cells: Cells) -> str:
    country = cells.get("country", "").upper()
    return country if _COUNTRY.fullmatch(country) else ""


def _uuid(cells: Cells, column: str) -> str:
    try:
        return str(uuid.UUID(cells.get(column, "")))
    except ValueError:
        raise ValueError(f"{column} is not a UUID.") from None


def _instant(cells: Cells, column: str, now_ms: int) -> int:
    """Return the milliseconds of an instant, which is in UTC unless it says otherwise."""
    text = cells.get(column, "")
    try:
        # PostgreSQL writes `+00`, and cuts fractions as short as they are.
        text = re.sub(r"([+-]\d\d)$", r"\1:00", text.strip()) if ":" in text else text
        text = re.sub(r"\.(\d+)", lambda found: f".{found[1]:0<6.6}", text)
        at = datetime.fromisoformat(text)
        at_ms = milliseconds(at if at.tzinfo else at.replace(tzinfo=UTC))
    except (ValueError, OverflowError):
        raise ValueError(f"{column} is not a date and time.") from None
    if not 0 <= at_ms <= now_ms:
        raise ValueError(f"{column} is {'in the future' if at_ms > 0 else 'before 1970'}.")
    return at_ms


# A line, and its cells by their columns, or what is wrong with it.
Lines = Iterator[tuple[int, Cells | str]]


def _of_csv(file: TextIO) -> Lines:
    return _table(file, REQUIRED["csv"], undefused)


def _of_json_lines(file: TextIO) -> Lines:
    for line, text in enumerate(file, start=1):
        if not text.strip():
            continue
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            found = None
        if isinstance(found, dict):
            yield line, {name: value for name, value in found.items() if isinstance(value, str)}
        else:
            yield line, "This is not an object of JSON."


def _of_umamis_file(file: TextIO) -> Lines:
    first = file.readline()
    file.seek(0)
    is_table = {*REQUIRED["umami"]} <= {*next(csv.reader([first]), [])}
    return _table(file, REQUIRED["umami"], str) if is_table else _copied(file)


def _table(file: TextIO, required: tuple[str, ...], cell: Callable[[str], str]) -> Lines:
    reader = csv.reader(file)
    columns = next(reader, [])
    missing = [column for column in required if column not in columns]
    if missing:
        raise BadRequest(f"The first line names no column {missing[0]}.")
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            yield line, f"{error}."
            continue
        if cells is None:
            return
        if cells:
            yield line, _by_column(columns, [cell(text) for text in cells])


def _copied(file: TextIO) -> Lines:
    """Yield the rows of a dump's block `COPY … website_event …`, with what their sessions say.

    A dump has its tables in the order of their names, so that sessions come first.
    """
    lines = enumerate(file, start=1)
    sessions: dict[str, tuple[str, ...]] = {}
    same: dict[tuple[str, ...], tuple[str, ...]] = {}
    for _, text in lines:
        block = _COPY.fullmatch(text)
        if block is None:
            continue
        rows = _block(lines, block[2])
        if block[1] == "website_event":
            for line, cells in rows:
                yield line, cells if isinstance(cells, str) else _with_session(cells, sessions)
            return
        for _, cells in rows:
            if not isinstance(cells, str):
                said = tuple(cells.get(name, "") for name in _OF_SESSION)
                # Many say the same, which is kept once.
                sessions[cells.get("session_id", "")] = same.setdefault(said, said)
    raise BadRequest("There is neither a table nor a block COPY of website_event in the file.")


def _with_session(cells: Cells, sessions: dict[str, tuple[str, ...]]) -> Cells:
    """Return a row with what its session says, where it says nothing of that itself."""
    said = sessions.get(cells.get("session_id", ""), ())
    of_session = {name: value for name, value in zip(_OF_SESSION, said, strict=False) if value}
    return of_session | {name: value for name, value in cells.items() if value}


def _block(lines: Iterator[tuple[int, str]], names: str) -> Lines:
    """Yield the rows of a block, to its end, by PostgreSQL's rules."""
    columns = [name.strip().strip('"') for name in names.split(",")]
    line = 0
    for line, written in lines:
        text = written.rstrip("\r\n")
        if text == "\\.":
            return
        cells = ("" if cell == "\\N" else _copied_cell(cell) for cell in text.split("\t"))
        yield line, _by_column(columns, list(cells))
    yield line + 1, "The block ends without its last line, \\."


def _copied_cell(text: str) -> str:
    return _ESCAPE.sub(_unescaped, text) if "\\" in text else text


def _unescaped(found: re.Match[str]) -> str:
    code = found[1]
    if code[0] in "01234567":
        return chr(int(code, 8) & 0xFF)
    return chr(int(code[1:], 16)) if len(code) > 1 else _ESCAPED.get(code, code)


def _by_column(columns: list[str], cells: list[str]) -> Cells | str:
    if len(cells) != len(columns):
        return f"There are {len(cells)} cells for {len(columns)} columns."
    return dict(zip(columns, cells, strict=True))


_LISTS: dict[str, Callable[[TextIO], Lines]] = {
    "csv": _of_csv,
    "jsonl": _of_json_lines,
    "umami": _of_umamis_file,
}
