"""Pixels as they are listed: how each mailing did at one look, in any order.

Figures of people with links of their own come for all pixels at once, from the rows of recipients;
those of the others from their days, one pixel after another, and only where they are needed.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Sequence
from datetime import datetime, tzinfo
from typing import Any, NamedTuple

from sqlalchemy import func, select

from core.clock import milliseconds
from core.database import db
from core.kept import Kept
from core.lists import ListQuery, Page
from models import OPENED, Pixel, Recipient
from pixels import mailings, persons, pixels
from pixels.recipient_lists import IS_OPENED, issued_to
from stats import questions
from stats.reading import Reading
from stats.shapes import Question

ORDERS = ("name", "sentAt", "sent", "opened", "rate", "lastOpenedAt")
# What can be told of a pixel without its figures.
PLAIN_ORDERS = {"name", "sentAt"}
CURVE_HOURS = 6
PIXELS_KEPT_MAX = 1_000


class Figures(NamedTuple):
    """How a mailing did: `sent` is None where nobody knows; `opened` is people, or unique opens."""

    sent: int | None
    opened: int
    last_opened_at: datetime | None
    has_people: bool


class Overview(NamedTuple):
    """A pixel, how its mailing did, and how many had opened after each six hours of a week."""

    pixel: Pixel
    figures: Figures
    curve: list[int]


def listing(owner: uuid.UUID, at: datetime, query: ListQuery) -> Page[Overview]:
    """Return a page of an owner's pixels, the last sent first unless ordered otherwise.

    Those without a value in the order come last; by the time of sending, a pixel that has none
    stands where it was made.
    """
    persons.fold_all([owner])
    order = query.order_by or "sentAt"
    mine = select(Pixel).where(Pixel.owner == owner, pixels.matches(query.search))
    found = list(db.session.scalars(mine.execution_options(populate_existing=True)))
    known: dict[int, Figures] = {}
    if order not in PLAIN_ORDERS:
        known = _figures(found, at)
    found.sort(key=lambda pixel: (pixel.name.casefold(), -pixel.number))
    with_value = [pixel for pixel in found if _key(pixel, order, known) is not None]
    without = [pixel for pixel in found if _key(pixel, order, known) is None]
    with_value.sort(key=lambda pixel: _key(pixel, order, known), reverse=query.is_descending())
    shown = [*with_value, *without][query.offset : query.offset + query.page_size]
    if order in PLAIN_ORDERS:
        known = _figures(shown, at)
    curves = mailings.opened_since_sending([pixel.number for pixel in shown], CURVE_HOURS)
    rows = [Overview(pixel, known[pixel.number], curves.get(pixel.number, [])) for pixel in shown]
    return query.page_of(rows, len(found))


def opens_by_day(pixel: Pixel, since: datetime, at: datetime, zone: tzinfo) -> list[int]:
    """Return how many opens a pixel had on each day of a zone, from one to today.

    The pixel is one that was listed just now.
    """
    version = _version(pixel, at, since, at.astimezone(zone).date(), zone)
    question = Question(pixel.number, since, at, zone=zone)
    return _days.of(pixel.number, version, lambda: questions.page_views(question, "day"))


def _key(pixel: Pixel, order: str, known: dict[int, Figures]) -> Any:
    if order == "name":
        return pixel.name.casefold()
    if order == "sentAt":
        return pixel.sent_at or pixel.created_at
    figures = known[pixel.number]
    if order == "sent":
        return figures.sent
    if order == "opened":
        return figures.opened or None
    if order == "rate":
        return figures.opened / figures.sent if figures.sent else None
    return figures.last_opened_at


def _figures(found: Sequence[Pixel], at: datetime) -> dict[int, Figures]:
    of_people = _figures_of_people([pixel.number for pixel in found])
    return {
        pixel.number: of_people.get(pixel.number) or _figures_of_opens(pixel, at) for pixel in found
    }


def _figures_of_people(numbers: Collection[int]) -> dict[int, Figures]:
    """Return the figures of pixels that were issued to people.

    Each is a range of an index, or its end: to put rows together by pixels takes several times as
    long.
    """
    theirs = issued_to(Pixel.number)
    people = select(func.count()).select_from(Recipient).where(theirs)
    opened = people.where(Recipient.status == OPENED)
    times = select(Recipient.last_opened_at).where(
        theirs, IS_OPENED, Recipient.last_opened_at.is_not(None)
    )
    last = times.order_by(Recipient.last_opened_at.desc()).limit(1)
    figures = (query.correlate(Pixel).scalar_subquery() for query in (people, opened, last))
    statement = select(Pixel.number, *figures).where(Pixel.number.in_(numbers))
    return {
        number: Figures(sent, count, last_opened_at, has_people=True)
        for number, sent, count, last_opened_at in db.session.execute(statement)
        if sent
    }


def _figures_of_opens(pixel: Pixel, at: datetime) -> Figures:
    unique, last = _opens.of(pixel.number, _version(pixel, at), lambda: _unique_opens(pixel, at))
    return Figures(pixel.sent_count, unique, last, has_people=False)


def _unique_opens(pixel: Pixel, at: datetime) -> tuple[int, datetime | None]:
    """Return how many visitors opened until now, and when the last open was."""
    if not pixel.folded_through:
        return 0, None
    since = mailings.EVER[0]
    question = Question(pixel.number, since, max(at, since), reading=Reading(pixel.number))
    _, unique = mailings.opens_of(question)
    newest = questions.events(question, page_size=1) if unique else []
    return unique, newest[0].at if newest else None


def _version(pixel: Pixel, at: datetime, *others: Any) -> Any:
    """Return what is another as soon as a pixel's opens until now may be others."""
    # What lies in the future becomes the past without any change.
    future = at if pixel.newest_ms > milliseconds(at) else None
    counted = pixel.folded_through, pixel.revision, pixel.people_version, pixel.pruned_before
    return *counted, future, *others


_opens: Kept[tuple[int, datetime | None]] = Kept(PIXELS_KEPT_MAX)
_days: Kept[list[int]] = Kept(PIXELS_KEPT_MAX)
