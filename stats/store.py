"""A pixel's days as they are stored, and how far folding has come."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from enum import IntEnum
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple, TypeVar

import numpy as np
from sqlalchemy import func, select

from core.database import db
from models import MS_PER_DAY, Pixel, Segment
from stats.arithmetic import join_columns, join_recent, sort_columns
from stats.days import (
    NO_HITS,
    NO_ROWS,
    NO_VISITOR_SETS,
    PARTS,
    SET_MAX,
    Array,
    Columns,
    Hours,
    PairRollup,
    ProfileDays,
    ProfileRollup,
    ProfileSetRollup,
    Quarters,
    Recent,
    Remains,
    Summary,
    VisitorRollup,
    VisitorSets,
    VisitRows,
    columns_of,
    unpack,
    unpack_recent,
)

# A statement for each day would take longer than to read it; for all, megabytes at once.
DAYS_AT_ONCE, DAYS_OF_HITS_AT_ONCE = 32, 8
# Days that are asked together have about so many visitors at most, each day's counted.
VISITORS_AT_ONCE = 1 << 17
DAYS_TOGETHER_MAX = 512
# The arrays of a summary as it is stored, and the place of the numbers of its visits.
SUMMARY_ARRAYS = 15
VISIT_NUMBERS = 9


class Part(IntEnum):
    """The parts of a day; a question reads only those it needs. Columns are in pieces.

    A day with few hits has only recent ones: see `Recent`.
    """

    COLUMNS = 0
    SUMMARY = 1
    VISITOR_SETS = 2
    VISITORS = 3
    QUARTERS = 4
    HOURS = 5
    # Only of days whose hits are pruned; of the others those keep summary and visitor sets.
    REMAINS = 6
    RECENT = 7


# The parts that are one shape of arrays as they are.
DayShape = TypeVar("DayShape", VisitorSets, VisitorRollup, Quarters, Hours)
_PART_OF: dict[type, Part] = {
    VisitorSets: Part.VISITOR_SETS,
    VisitorRollup: Part.VISITORS,
    Quarters: Part.QUARTERS,
    Hours: Part.HOURS,
}


class PixelState(NamedTuple):
    """How far a pixel's segments have come."""

    folded_through: int
    visitor_count: int
    profile_count: int
    pruned_before: int
    revision: int
    newest_ms: int


def state_of(pixel_number: int) -> PixelState | None:
    """Return how far a pixel's segments have come, None for a pixel that is gone."""
    return states_of([pixel_number]).get(pixel_number)


def states_of(pixel_numbers: Collection[int]) -> dict[int, PixelState]:
    """Return how far the segments of several pixels have come; those that are gone are left out."""
    columns = [getattr(Pixel, name) for name in PixelState._fields]
    statement = select(Pixel.number, *columns).where(Pixel.number.in_(pixel_numbers))
    return {number: PixelState(*row) for number, *row in db.session.execute(statement)}


def days_of(pixel_number: int) -> list[int]:
    """Return the UTC days that a pixel has segments of, in order."""
    return sorted({*_days_with(pixel_number, Part.SUMMARY), *_days_with(pixel_number, Part.RECENT)})


def bytes_of_hits(pixel_number: int) -> int:
    """Return how many bytes `read_columns` would read of all days, about ten for each hit."""
    size = select(func.sum(func.length(Segment.data))).where(
        Segment.pixel_number == pixel_number, Segment.part.in_((Part.COLUMNS, Part.RECENT))
    )
    return db.session.scalar(size) or 0


def days_with_arrays(pixel_number: int) -> list[int]:
    """Return the UTC days of a pixel that have more than recent hits."""
    return list(_days_with(pixel_number, Part.SUMMARY))


def _days_with(pixel_number: int, part: Part) -> Iterable[int]:
    statement = select(Segment.day).where(
        Segment.pixel_number == pixel_number, Segment.part == part
    )
    return db.session.scalars(statement)


def read(
    shape: type[DayShape], pixel_number: int, days: Sequence[int]
) -> Iterator[tuple[int, DayShape]]:
    """Yield what is kept of each of some days in this shape.

    Of pruned days only `VisitorSets` are, and what `read_summaries` and `read_remains` yield. What
    hits were taken in since then, `read_recent` yields.
    """
    for day, pieces in _read(pixel_number, _PART_OF[shape], days):
        yield day, shape(*unpack(pieces, len(shape._fields)))


def read_columns(pixel_number: int, days: Iterable[int]) -> Iterator[tuple[int, Columns]]:
    """Yield all hits of each of some days that are still stored, the recent ones among them."""
    days = sorted(days)
    recent = read_recent(pixel_number, days[0], days[-1]) if days else {}
    made = _read(pixel_number, Part.COLUMNS, days)
    day_made, pieces = next(made, (None, []))
    for day in days:
        # Days come in the same order from both, so neither has to be in memory as a whole.
        columns = NO_HITS
        if day == day_made:
            columns = Columns(*unpack(pieces, len(Columns._fields)))
            day_made, pieces = next(made, (None, []))
        if day in recent and len(recent[day].hits):
            columns = join_columns(columns, sort_columns(columns_of(recent[day].hits)))
        if len(columns.at):
            yield day, columns


def read_recent(pixel_number: int, first_day: int, last_day: int) -> dict[int, Recent]:
    """Return what is kept of recent hits of a range of days, by day and in their order."""
    statement = (
        select(Segment.day, Segment.data)
        .where(
            Segment.pixel_number == pixel_number,
            Segment.part == Part.RECENT,
            Segment.day.between(first_day, last_day),
        )
        .order_by(Segment.day, Segment.piece)
    )
    rows = db.session.execute(statement).all()
    return {
        day: join_recent([unpack_recent(data) for _, data in pieces])
        for day, pieces in groupby(rows, itemgetter(0))
    }


def recent_hits(recent: dict[int, Recent]) -> tuple[Columns, Columns]:
    """Return the recent hits of days, and what they replace, by milliseconds since the epoch."""
    return (
        _hits_of_days(recent, [of_day.hits for of_day in recent.values()]),
        _hits_of_days(recent, [of_day.replaced for of_day in recent.values()]),
    )


def _hits_of_days(days: Iterable[int], rows: Sequence[Array]) -> Columns:
    # Numbers of one kind that stand together are gone through several times faster.
    at, visitor, profile = np.ascontiguousarray(np.concatenate((NO_ROWS, *rows)).T)
    # By instants since the epoch the hours of different days are different hours.
    starts_ms = np.repeat(np.array([*days], np.int64), [len(hits) for hits in rows]) * MS_PER_DAY
    return Columns(at + starts_ms, visitor, profile)


def read_summaries(pixel_number: int, days: list[int]) -> Iterator[tuple[int, Summary]]:
    """Yield the summary of each of some days."""
    for day, pieces in _read(pixel_number, Part.SUMMARY, days):
        yield day, _summary(unpack(pieces, SUMMARY_ARRAYS))


def read_profile_days(
    pixel_number: int, days: Sequence[int], *, with_members: bool = True
) -> Iterator[ProfileDays]:
    """Yield totals and visitors of some days, of so many together as have not too many visitors.

    What a question does to arrays takes longer to begin than to do for those of one small day.
    """
    all_sets = read(VisitorSets, pixel_number, days) if with_members else None
    some: list[tuple[int, list[Array], VisitorSets]] = []
    count = 0
    for day, pieces in _read(pixel_number, Part.SUMMARY, days):
        sets = next(all_sets)[1] if all_sets else NO_VISITOR_SETS
        some.append((day, unpack(pieces, SUMMARY_ARRAYS), sets))
        count += len(sets.visitor)
        if count > VISITORS_AT_ONCE or len(some) == DAYS_TOGETHER_MAX:
            yield _together(some)
            some, count = [], 0
    if some:
        yield _together(some)


def _together(some: list[tuple[int, list[Array], VisitorSets]]) -> ProfileDays:
    days, summaries, sets = zip(*some, strict=True)
    arrays = [np.concatenate(parts) for parts in zip(*summaries, strict=True)]
    # Visits of several profiles are numbered by themselves in each day.
    numbers = [summary[VISIT_NUMBERS] for summary in summaries]
    counts = [int(of_day[-1]) + 1 if len(of_day) else 0 for of_day in numbers]
    before = np.repeat(np.cumsum(counts) - counts, [len(of_day) for of_day in numbers])
    arrays[VISIT_NUMBERS] = arrays[VISIT_NUMBERS] + before
    return ProfileDays(
        _summary(arrays),
        VisitorSets(*(np.concatenate(parts) for parts in zip(*sets, strict=True))),
        np.repeat(np.array(days, np.int64), [len(summary[0]) for summary in summaries]),
        np.repeat(np.array(days, np.int64), [len(visitor_sets.lengths) for visitor_sets in sets]),
    )


def _summary(arrays: list[Array]) -> Summary:
    profiles, visits, bounces, seconds = arrays[5:9]
    by_profile_set = ProfileSetRollup(
        profiles.reshape(-1, SET_MAX),
        visits,
        bounces.reshape(-1, SET_MAX),
        seconds.reshape(-1, len(PARTS)),
    )
    return Summary(ProfileRollup(*arrays[:5]), by_profile_set, VisitRows(*arrays[VISIT_NUMBERS:]))


def read_remains(pixel_number: int, days: list[int]) -> Iterator[tuple[int, Remains]]:
    """Yield what remains of each of some days whose hits are pruned."""
    for day, pieces in _read(pixel_number, Part.REMAINS, days):
        arrays = unpack(pieces, 12)
        yield day, Remains(PairRollup(*arrays[:6]), VisitRows(*arrays[6:]))


def _read(pixel_number: int, part: Part, days: Sequence[int]) -> Iterator[tuple[int, list[bytes]]]:
    """Yield a part of each of some days, in their order; a few at a time, each in memory."""
    days = sorted(days)
    at_once = DAYS_OF_HITS_AT_ONCE if part == Part.COLUMNS else DAYS_AT_ONCE
    for start in range(0, len(days), at_once):
        statement = select(Segment.day, Segment.data).where(
            Segment.pixel_number == pixel_number,
            Segment.part == part,
            Segment.day.in_(days[start : start + at_once]),
        )
        rows = db.session.execute(statement.order_by(Segment.day, Segment.piece)).all()
        for day, pieces in groupby(rows, itemgetter(0)):
            yield day, [data for _, data in pieces]
