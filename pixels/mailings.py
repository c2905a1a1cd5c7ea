"""How a mailing did: to how many it went, who opened, and when.

Where people were issued links of their own, the figures are about them: each person is opened,
machine only or unopened. Else they are about opens, beside a count that the owner tells.

People who opted out are in none of them: neither as people, nor by the opens that came under their
name until then. Those that came since have no name, and count as anybody's.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable
from datetime import UTC, datetime
from typing import Any, NamedTuple

import numpy as np
from sqlalchemy import BigInteger, ColumnElement, and_, func, literal, select, true, type_coerce
from sqlalchemy.orm import aliased

from core.clock import from_milliseconds, milliseconds
from core.database import db
from models import OPENED, Pixel, Recipient
from pixels.recipient_lists import Counts, counts, issued_to
from stats import folding, opens
from stats.days import MS_PER_HOUR, Array
from stats.reading import Reading
from stats.shapes import Question

HOURS_COUNTED = 168
PIXELS_MAX = 100
EVER = (datetime(1970, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC))


class Hour(NamedTuple):
    """An hour since sending: how many opened for the first time in it, and all of its opens."""

    hour: int
    opened: int
    opens: int


class Mailing(NamedTuple):
    """A pixel's mailing in figures.

    `basis` says whom they are about: `recipients`, people with links of their own; `count`, as
    many as the owner says; None, nobody knows how many. `open_rate` is from 0 to 1.
    """

    pixel_id: uuid.UUID
    sent_at: datetime | None
    basis: str | None
    sent: int | None
    opened: int
    machine: int | None
    unopened: int | None
    open_rate: float | None
    opens: int
    first_opened_at: datetime | None
    median_seconds_to_open: int | None


def of_pixel(pixel: Pixel, reading: Reading | None = None) -> Mailing:
    """Return how a pixel's mailing did, exact to the last committed hit.

    `reading` is what it shares with other questions about the pixel.
    """
    question, basis = _question(pixel, reading), basis_of(pixel)
    if basis == "recipients":
        found = opens.count_hits(question)
        all_opens = max(found - _opted_out(pixel.number).opens, 0)
        return _of_people(pixel, counts(pixel.number), all_opens)
    all_opens, visitors = opens_of(question)
    first_at, median = _times_of_visitors(question, pixel.sent_at)
    return Mailing(
        pixel.id,
        pixel.sent_at,
        basis=basis,
        sent=pixel.sent_count,
        opened=visitors,
        machine=None,
        unopened=None,
        open_rate=_rate(visitors, pixel.sent_count),
        opens=all_opens,
        first_opened_at=first_at,
        median_seconds_to_open=median,
    )


def basis_of(pixel: Pixel) -> str | None:
    """Return whom a mailing's figures are about, as `Mailing` says."""
    if _has_recipients(pixel):
        return "recipients"
    return None if pixel.sent_count is None else "count"


def hours_of(pixel: Pixel, reading: Reading | None = None) -> list[Hour]:
    """Return the first week of a mailing by hours since it was sent; none if that isn't known."""
    if pixel.sent_at is None:
        return []
    by_hour = opens_by_hour(pixel, HOURS_COUNTED, reading)
    opened = opened_by_hour(pixel, reading)
    return [Hour(*figures) for figures in zip(range(HOURS_COUNTED), opened, by_hour, strict=True)]


def opened_by_hour(pixel: Pixel, reading: Reading | None = None) -> list[int]:
    """Return how many opened for the first time in each hour of the week since sending."""
    if pixel.sent_at is None:
        return []
    question = _question(pixel, reading)
    if _has_recipients(pixel):
        folding.fold_for_question(pixel.number)
        found = opened_since_sending([pixel.number], hours=1)
        return found.get(pixel.number, [0] * HOURS_COUNTED)
    firsts = opens.first_of_each(question, _opted_out(pixel.number).numbers)
    after_ms = firsts - milliseconds(pixel.sent_at)
    by_hour: list[int] = opens.in_hours(after_ms, HOURS_COUNTED).tolist()
    return by_hour


def opens_by_hour(pixel: Pixel, hours: int, reading: Reading | None = None) -> list[int]:
    """Return how many opens each of the first hours since sending has."""
    if pixel.sent_at is None:
        return []
    # First, so that whoever opted out has a number.
    folding.fold_for_question(pixel.number)
    numbers = _opted_out(pixel.number).numbers
    question = _question(pixel, reading)
    found: list[int] = opens.by_hour(question, pixel.sent_at, hours, numbers).tolist()
    return found


def opened_since_sending(pixel_numbers: Collection[int], hours: int) -> dict[int, list[int]]:
    """Return how many people opened first in each so many hours of the week after sending.

    Of each pixel, none of those that were not sent. Each span is a range of an index, which is
    counted several times as fast as its rows are put together by spans.
    """
    span_ms, count = hours * MS_PER_HOUR, HOURS_COUNTED // hours
    places = select(literal(0).label("place")).cte("places", recursive=True)
    places = places.union_all(select(places.c.place + 1).where(places.c.place < count - 1))
    start_ms = type_coerce(Pixel.sent_at, BigInteger) + places.c.place * span_ms
    first_ms = type_coerce(Recipient.first_opened_at, BigInteger)
    opened = (
        select(func.count())
        .select_from(Recipient)
        .where(issued_to(Pixel.number), Recipient.status == OPENED)
        .where(first_ms >= start_ms, first_ms < start_ms + span_ms)
        .correlate(Pixel, places)
        .scalar_subquery()
    )
    statement = (
        select(Pixel.number, places.c.place, opened)
        .join(places, true())
        .where(Pixel.number.in_(pixel_numbers), Pixel.sent_at.is_not(None))
    )
    found: dict[int, list[int]] = {}
    for number, place, people in db.session.execute(statement):
        found.setdefault(number, [0] * count)[place] = people
    return found


def opens_of(question: Question) -> tuple[int, int]:
    """Return how many opens a question is about, and of how many visitors, none who opted out.

    It has to be about all of a pixel's time.
    """
    all_opens, visitors = opens.count(question)
    out = _opted_out(question.pixel_number)
    return max(all_opens - out.opens, 0), max(visitors - out.openers, 0)


def of_pixels(pixels: Iterable[Pixel]) -> list[Mailing]:
    """Return how several mailings did, in their order."""
    return [of_pixel(pixel) for pixel in pixels]


def before(pixel: Pixel) -> Pixel | None:
    """Return the same owner's mailing with the last time of sending before a pixel's own."""
    if pixel.sent_at is None:
        return None
    same_owner = Pixel.team_id == pixel.team_id if pixel.team_id else Pixel.user_id == pixel.user_id
    statement = select(Pixel).where(same_owner, Pixel.sent_at < pixel.sent_at)
    return db.session.scalar(statement.order_by(Pixel.sent_at.desc(), Pixel.number.desc()).limit(1))


class _OptedOut(NamedTuple):
    """Visitors who opted out since: their numbers, their opens until then, how many had some."""

    numbers: Array
    opens: int
    openers: int


def _opted_out(pixel_number: int) -> _OptedOut:
    rows = [
        row
        # One after the other, so that an index serves.
        for verified in (True, False)
        for row in db.session.execute(
            select(Recipient.number, Recipient.opens).where(
                Recipient.pixel_number == pixel_number,
                Recipient.visitor.in_(_visitors_out(pixel_number, verified)),
                Recipient.number.is_not(None),
            )
        )
    ]
    counted = [row.opens for row in rows]
    numbers = np.array([row.number for row in rows], np.int64)
    return _OptedOut(numbers, sum(counted), sum(count > 0 for count in counted))


def _visitors_out(pixel_number: int, verified: bool) -> Any:
    out = aliased(Recipient)
    return select(out.visitor).where(
        out.pixel_number == pixel_number, out.verified.is_(verified), out.opted_out.is_(True)
    )


def _of_people(pixel: Pixel, people: Counts, all_opens: int) -> Mailing:
    first_at, median = _times_of_people(pixel)
    return Mailing(
        pixel.id,
        pixel.sent_at,
        basis="recipients",
        sent=people.all,
        opened=people.opened,
        machine=people.machine,
        unopened=people.unopened,
        open_rate=_rate(people.opened, people.all),
        opens=all_opens,
        first_opened_at=first_at,
        median_seconds_to_open=median,
    )


def _rate(opened: int, sent: int | None) -> float | None:
    return min(opened / sent, 1.0) if sent else None


def _question(pixel: Pixel, reading: Reading | None = None) -> Question:
    return Question(pixel.number, *EVER, reading=reading)


def _has_recipients(pixel: Pixel) -> bool:
    """Tell whether links of people's own were issued, those who opted out later included."""
    statement = select(Recipient.visitor).where(
        Recipient.pixel_number == pixel.number, Recipient.verified.is_(True)
    )
    return db.session.scalar(statement.limit(1)) is not None


def _opened(pixel: Pixel) -> ColumnElement[bool]:
    return and_(
        issued_to(pixel.number),
        Recipient.status == OPENED,
        Recipient.first_opened_at.is_not(None),
    )


def _times_of_people(pixel: Pixel) -> tuple[datetime | None, int | None]:
    """Return when the first of a pixel's people opened, and the median time that they took."""
    first = db.session.scalar(select(func.min(Recipient.first_opened_at)).where(_opened(pixel)))
    sent_at: Any = type_coerce(Recipient.sent_at, BigInteger)
    if pixel.sent_at is not None:
        sent_at = func.coalesce(sent_at, milliseconds(pixel.sent_at))
    took = type_coerce(Recipient.first_opened_at, BigInteger) - sent_at
    timed = (_opened(pixel), sent_at.is_not(None))
    counted = select(func.min(sent_at), func.max(sent_at), func.count()).where(*timed)
    sent_first, sent_last, count = db.session.execute(counted).one()
    # Those who were sent it at one time took the longer the later they opened, as an index has it.
    order = Recipient.first_opened_at if sent_first == sent_last else took
    middle = select(took).where(*timed).order_by(order)
    found = db.session.scalars(middle.offset(max(count - 1, 0) // 2).limit(2 - count % 2)).all()
    return first, _seconds([max(took_ms, 0) for took_ms in found])


def _times_of_visitors(
    question: Question, sent_at: datetime | None
) -> tuple[datetime | None, int | None]:
    """Return when the first visitor opened, and the median time that they took."""
    firsts = opens.first_of_each(question, _opted_out(question.pixel_number).numbers)
    if not len(firsts):
        return None, None
    if sent_at is None:
        return from_milliseconds(int(firsts.min())), None
    took = np.sort(np.maximum(firsts - milliseconds(sent_at), 0))
    middle = took[(len(took) - 1) // 2 : len(took) // 2 + 1]
    return from_milliseconds(int(firsts.min())), _seconds(middle.tolist())


def _seconds(middle_ms: list[int]) -> int | None:
    """Return the median in seconds from the one or two spans in the middle."""
    return round(sum(middle_ms) / len(middle_ms) / 1000) if middle_ms else None
