"""Hits that a wrong clock has dated: finding them, and redating or removing them.

Hits of a pixel are changed a chunk at a time, and its days rebuilt afterwards. After an
interruption the same command is run once more: redated hits are no longer in the range, and the
days of the whole range are rebuilt.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import numpy as np
from sqlalchemy import BigInteger, ColumnElement, and_, bindparam, delete, func, or_, select, update

from core.clock import from_milliseconds, milliseconds
from core.database import database_now, db
from core.errors import BadRequest
from core.locks import writing
from models import MS_PER_DAY, Hit, Pixel
from stats import folding, future, rebuilding, store
from stats.instants import INSTANT_MS, OF_ID_MS, dated, undated

ROWS_AT_ONCE = 2_000
# The last instant that a hit's id and a datetime can both hold.
LAST_MS = 7_258_118_400_000


class Span(NamedTuple):
    """A range of time in milliseconds, both ends included."""

    first_ms: int
    last_ms: int

    @property
    def days(self) -> range:
        """The UTC days that it touches."""
        return range(self.first_ms // MS_PER_DAY, self.last_ms // MS_PER_DAY + 1)


class PixelHits(NamedTuple):
    """A pixel's hits of a range of time."""

    pixel: Pixel
    hits: int
    first: datetime
    last: datetime


def span(start: datetime | None, end: datetime | None) -> Span:
    """Return a range of time; by default what lies in the future."""
    now_ms = milliseconds(database_now())
    first_ms = now_ms + future.AHEAD_MS_MIN if start is None else milliseconds(start)
    return Span(first_ms, LAST_MS if end is None else milliseconds(end))


def find(span: Span, pixel: Pixel | None = None) -> Iterator[PixelHits]:
    """Yield what each pixel, or one, has within a range of time, if anything."""
    for searched in [pixel] if pixel else db.session.scalars(select(Pixel)).all():
        _fold(searched.number)
        counted = select(func.count(), func.min(INSTANT_MS), func.max(INSTANT_MS))
        rows = [
            db.session.execute(counted.where(Hit.pixel_number == searched.number, way)).one()
            for way in _ways(span)
        ]
        count = sum(row[0] for row in rows)
        if count:
            first = min(row[1] for row in rows if row[0])
            last = max(row[2] for row in rows if row[0])
            yield PixelHits(searched, count, from_milliseconds(first), from_milliseconds(last))


def redate(pixel: Pixel, span: Span, by: timedelta) -> Iterator[int]:
    """Move a pixel's hits of a range of time; yield after each chunk how many it had.

    Raises: BadRequest if some would fall on days whose hits are pruned, and be counted no more.
    """
    by_ms = by // timedelta(milliseconds=1)
    moved = Span(span.first_ms + by_ms, span.last_ms + by_ms)
    state = store.state_of(pixel.number)
    if state and moved.first_ms < state.pruned_before * MS_PER_DAY:
        raise BadRequest(
            "Some hits would fall on days whose hits are pruned; choose another offset."
        )
    for some in _chunks(pixel.number, span):
        with writing():
            db.session.connection().execute(
                _move,
                [{"of_pixel": pixel.number, "of_hit": id, "to_ms": at + by_ms} for at, id in some],
            )
        yield len(some)
    _count_anew(pixel.number, span, moved)


def remove(pixel: Pixel, span: Span) -> Iterator[int]:
    """Delete a pixel's hits of a range of time; yield after each chunk how many it had."""
    for some in _chunks(pixel.number, span):
        with writing():
            db.session.connection().execute(
                _delete, [{"of_pixel": pixel.number, "of_hit": id} for _, id in some]
            )
        yield len(some)
    _count_anew(pixel.number, span)


def _fold(pixel_number: int) -> None:
    for _ in folding.fold_what_is_there(pixel_number):
        pass


def _ways(span: Span) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return undated(*span), dated(*span)


def _chunks(pixel_number: int, span: Span) -> Iterator[Sequence[tuple[int, int]]]:
    """Yield instants and ids of the folded hits of a range of time, in the order of their ids.

    By their ids, so that a hit that was moved and is in the range still doesn't come again.
    """
    _fold(pixel_number)
    state, last_id = store.state_of(pixel_number), -1
    while state:
        following = (
            select(INSTANT_MS, Hit.id)
            .where(Hit.pixel_number == pixel_number, Hit.id > last_id)
            .where(Hit.id <= state.folded_through, or_(*_ways(span)))
            .order_by(Hit.id)
            .limit(ROWS_AT_ONCE)
        )
        some: Any = db.session.execute(following).all()
        if not some:
            return
        yield some
        last_id = some[-1].id


def _count_anew(pixel_number: int, *spans: Span) -> None:
    """Make the days of ranges of time again, and find the latest instant of all."""
    days = set(store.days_of(pixel_number))
    first, *others = spans
    touched = {day for day in days if day in first.days}
    for other in others:
        # A day that had no hits before is none of those that are there.
        shift = other.first_ms - first.first_ms
        for day in sorted(touched):
            start = (day * MS_PER_DAY + shift) // MS_PER_DAY
            touched |= {start, start + 1}
    rebuilding.rebuild(pixel_number, sorted(touched))
    last = store.days_of(pixel_number)[-1:]
    newest_ms = 0
    for day, columns in store.read_columns(pixel_number, last):
        newest_ms = day * MS_PER_DAY + int(np.max(columns.at))
    with writing():
        db.session.execute(
            update(Pixel).where(Pixel.number == pixel_number).values(newest_ms=newest_ms)
        )
        future.look_again()


_hits: Any = Hit.__table__
_is_hit = and_(Hit.pixel_number == bindparam("of_pixel"), Hit.id == bindparam("of_hit"))
_move = (
    update(_hits)
    .where(_is_hit)
    .values(dated_ms=func.nullif(bindparam("to_ms", type_=BigInteger), OF_ID_MS))
)
_delete = delete(_hits).where(_is_hit)
