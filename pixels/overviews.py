"""Pixels as they are listed: how each mailing did at one look, in any order.

Figures of people with links of their own come for all pixels at once, from the rows of recipients;
those of the others from their days, one pixel after another, and only where they are needed.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import BigInteger, case, func, select, type_coerce

from core.clock import milliseconds
from core.database import db
from core.lists import ListQuery, Page
from models import OPENED, Pixel, Recipient
from pixels import mailings, persons, pixels
from pixels.recipient_lists import IS_OPENED, issued_to
from stats import questions
from stats.days import MS_PER_HOUR
from stats.reading import Reading
from stats.shapes import Question

ORDERS = ("name", "sentAt", "sent", "opened", "rate", "lastOpenedAt")
# What can be told of a pixel without its figures.
PLAIN_ORDERS = {"name", "sentAt"}
CURVE_HOURS = 6


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
    found = list(db.session.scalars(mine))
    known: dict[int, Figures] = {}
    if order not in PLAIN_ORDERS:
        known = _figures(found, at)
    found.sort(key=lambda pixel: (pixel.name.casefold(), -pixel.number))
    with_value = [each for each in found if _key(each, order, known) is not None]
    without = [each for each in found if _key(each, order, known) is None]
    with_value.sort(key=lambda pixel: _key(pixel, order, known), reverse=query.is_descending())
    shown = [*with_value, *without][query.offset : query.offset + query.page_size]
    if order in PLAIN_ORDERS:
        known = _figures(shown, at)
    curves = _curves(shown)
    rows = [Overview(each, known[each.number], curves.get(each.number, [])) for each in shown]
    return query.page_of(rows, len(found))


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
    of_people = _figures_of_people([each.number for each in found])
    return {
        each.number: of_people.get(each.number) or _figures_of_opens(each, at) for each in found
    }


def _figures_of_people(numbers: Collection[int]) -> dict[int, Figures]:
    opened = func.sum(case((Recipient.status == OPENED, 1), else_=0))
    statement = (
        select(Recipient.pixel_number, func.count(), opened)
        .where(
            Recipient.pixel_number.in_(numbers),
            Recipient.verified.is_(True),
            Recipient.opted_out.is_(False),
        )
        .group_by(Recipient.pixel_number)
    )
    return {
        number: Figures(sent, int(count), _last_open(number), has_people=True)
        for number, sent, count in db.session.execute(statement)
    }


def _last_open(pixel_number: int) -> datetime | None:
    """Return when somebody opened last, from the end of an index."""
    statement = select(Recipient.last_opened_at).where(
        issued_to(pixel_number), IS_OPENED, Recipient.last_opened_at.is_not(None)
    )
    last = statement.order_by(Recipient.last_opened_at.desc()).limit(1)
    return db.session.scalar(last)


def _figures_of_opens(pixel: Pixel, at: datetime) -> Figures:
    since = mailings.EVER[0]
    question = Question(pixel.number, since, max(at, since), reading=Reading(pixel.number))
    _, unique = mailings.opens_of(question)
    newest = questions.events(question, page_size=1) if unique else []
    return Figures(pixel.sent_count, unique, newest[0].at if newest else None, has_people=False)


def _curves(found: Sequence[Pixel]) -> dict[int, list[int]]:
    """Return how many people opened first in each six hours of the week after sending."""
    sent = {each.number: milliseconds(each.sent_at) for each in found if each.sent_at}
    counts = {number: [0] * (mailings.HOURS_COUNTED // CURVE_HOURS) for number in sent}
    after_ms = type_coerce(Recipient.first_opened_at, BigInteger) - type_coerce(
        Pixel.sent_at, BigInteger
    )
    place = after_ms // (MS_PER_HOUR * CURVE_HOURS)
    statement = (
        select(Recipient.pixel_number, place, func.count())
        .join(Pixel, Pixel.number == Recipient.pixel_number)
        .where(
            Recipient.pixel_number.in_(sent),
            Recipient.verified.is_(True),
            Recipient.opted_out.is_(False),
            Recipient.status == OPENED,
            after_ms >= 0,
            after_ms < MS_PER_HOUR * mailings.HOURS_COUNTED,
        )
        .group_by(Recipient.pixel_number, place)
    )
    for number, part, count in db.session.execute(statement):
        counts[number][int(part)] = count
    return counts
