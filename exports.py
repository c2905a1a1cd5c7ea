"""A pixel's hits and recipients as rows for other programs, in CSV or JSON lines.

Rows are written as they are read, a part at a time, so that any number takes the same memory.
"""

from __future__ import annotations

import csv
import io
import json
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import recipients
import stats
from errors import BadRequest
from models import HIT_ID_SHIFT, Pixel
from schemas import RecipientOut, iso
from stats import Event, Question

ROWS_A_PART = 500
# A database's number goes one further.
HIT_ID_MAX = 2**63 - 2
HIT_COLUMNS = (
    *("id", "createdAt", "class", "reason", "recipient", "visitor", "country", "language"),
    *("browser", "os", "device", "channel", "hostname", "referrer", "query", "userAgent"),
)
RECIPIENT_COLUMNS = tuple(RecipientOut().fields)


def hits(pixel: Pixel, question: Question) -> Iterator[dict[str, Any]]:
    """Yield every hit of a question, the oldest first."""
    return (_hit(pixel, hit) for hit in stats.export(question))


def recipients_of(pixel: Pixel, search: str) -> Iterator[dict[str, Any]]:
    """Yield every recipient of a pixel that matches `search`, the last to open first."""
    shape = RecipientOut()
    return (shape.dump(each) for each in recipients.every(pixel, search))


def harmless(value: Any) -> Any:
    """Return a cell that no spreadsheet takes for a formula: senders choose their user agent."""
    if isinstance(value, str) and value and value[0] in "=+-@\t\r\n":
        return f"'{value}"
    return value


def as_csv(
    rows: Iterable[dict[str, Any]],
    columns: Sequence[str],
    cell: Callable[[Any], Any] = harmless,
) -> Iterator[str]:
    """Yield the parts of a CSV file with a line of column names, each value through `cell`."""
    part = io.StringIO()
    writer = csv.writer(part)
    writer.writerow(columns)
    for number, row in enumerate(rows, start=1):
        writer.writerow(cell(row[column]) for column in columns)
        if number % ROWS_A_PART == 0:
            yield part.getvalue()
            part.seek(0)
            part.truncate()
    yield part.getvalue()


def as_json_lines(rows: Iterable[dict[str, Any]]) -> Iterator[str]:
    """Yield each row as a line of JSON."""
    for row in rows:
        yield json.dumps(row, ensure_ascii=False) + "\n"


def event_id(pixel: Pixel, hit: Event) -> uuid.UUID:
    """Return a hit's id as a UUID of version 7, since JSON's numbers don't hold 63 bits."""
    at_ms, place = divmod(hit.id, 1 << HIT_ID_SHIFT)
    low = ((place & 0xFF) << 54) | pixel.number
    return uuid.UUID(int=(at_ms << 80) | (7 << 76) | ((place >> 8) << 64) | (2 << 62) | low)


def hit_id(event_id: uuid.UUID) -> int:
    """Return the hit's id that an event's id holds.

    Raises: BadRequest for any other UUID.
    """
    number = event_id.int
    place = ((number >> 64 & 0xFFF) << 8) | (number >> 54 & 0xFF)
    id = (number >> 80 << HIT_ID_SHIFT) | place
    if event_id.version != 7 or id > HIT_ID_MAX:
        raise BadRequest("after: Not the id of a hit.", {"after": ["Not the id of a hit."]})
    return id


def session_id(pixel: Pixel, hit: Event) -> uuid.UUID:
    """Return a visitor as a UUID of version 8; a hit of nobody is a session of its own."""
    if hit.visitor is None:
        return event_id(pixel, hit)
    visitor = hit.visitor % (1 << 64)
    high = (pixel.number << 80) | (8 << 76) | ((visitor >> 56) << 64)
    return uuid.UUID(int=high | (2 << 62) | (visitor & ((1 << 56) - 1)))


def _hit(pixel: Pixel, hit: Event) -> dict[str, Any]:
    return {
        "id": str(event_id(pixel, hit)),
        "createdAt": iso(hit.at),
        "class": hit.source.hit_class,
        "reason": hit.source.reason,
        "recipient": hit.recipient,
        "visitor": None if hit.visitor is None else str(session_id(pixel, hit)),
        "country": hit.source.country,
        "language": hit.source.language,
        "browser": hit.values["browser"],
        "os": hit.values["os"],
        "device": hit.values["device"],
        "channel": hit.values["channel"],
        "hostname": hit.source.hostname,
        "referrer": hit.source.referrer,
        "query": hit.source.query,
        "userAgent": hit.source.user_agent,
    }
