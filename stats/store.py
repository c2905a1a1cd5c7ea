"""A pixel's days as they are stored, and how far folding has come."""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple, TypeVar

from sqlalchemy import select

from core.database import db
from models import Pixel, Segment
from stats.days import (
    PARTS,
    SET_MAX,
    Columns,
    Hours,
    PairRollup,
    ProfileRollup,
    ProfileSetRollup,
    Quarters,
    Remains,
    Summary,
    VisitorRollup,
    VisitorSets,
    VisitRows,
    unpack,
)

DAYS_AT_ONCE = 8


class Part(IntEnum):
    """The parts of a day; a question reads only those it needs. Columns are in pieces."""

    COLUMNS = 0
    SUMMARY = 1
    VISITOR_SETS = 2
    VISITORS = 3
    QUARTERS = 4
    HOURS = 5
    # Only of days whose hits are pruned; of the others those keep summary and visitor sets.
    REMAINS = 6


# The parts that are one shape of arrays as they are.
Kept = TypeVar("Kept", Columns, VisitorSets, VisitorRollup, Quarters, Hours)
_PART_OF: dict[type, Part] = {
    Columns: Part.COLUMNS,
    VisitorSets: Part.VISITOR_SETS,
    VisitorRollup: Part.VISITORS,
    Quarters: Part.QUARTERS,
    Hours: Part.HOURS,
}


class State(NamedTuple):
    """How far a pixel's segments have come."""

    folded_through: int
    visitor_count: int
    profile_count: int
    pruned_before: int
    revision: int
    newest_ms: int


def state_of(pixel_number: int) -> State | None:
    """Return how far a pixel's segments have come, None for a pixel that is gone."""
    columns = [getattr(Pixel, name) for name in State._fields]
    row = db.session.execute(select(*columns).where(Pixel.number == pixel_number)).one_or_none()
    return State(*row) if row else None


def days_of(pixel_number: int) -> list[int]:
    """Return the UTC days that a pixel has segments of, in order."""
    statement = select(Segment.day).where(
        Segment.pixel_number == pixel_number, Segment.part == Part.SUMMARY
    )
    return list(db.session.scalars(statement.order_by(Segment.day)))


def read(shape: type[Kept], pixel_number: int, days: list[int]) -> Iterator[tuple[int, Kept]]:
    """Yield what is kept of each of some days in this shape.

    Of pruned days only `VisitorSets` are, and what `read_summaries` and `read_remains` yield.
    """
    for day, pieces in _read(pixel_number, _PART_OF[shape], days):
        yield day, shape(*unpack(pieces, len(shape._fields)))


def read_summaries(pixel_number: int, days: list[int]) -> Iterator[tuple[int, Summary]]:
    """Yield the summary of each of some days."""
    for day, pieces in _read(pixel_number, Part.SUMMARY, days):
        arrays = unpack(pieces, 15)
        profiles, visits, bounces, seconds = arrays[5:9]
        by_profile_set = ProfileSetRollup(
            profiles.reshape(-1, SET_MAX),
            visits,
            bounces.reshape(-1, SET_MAX),
            seconds.reshape(-1, len(PARTS)),
        )
        yield day, Summary(ProfileRollup(*arrays[:5]), by_profile_set, VisitRows(*arrays[9:]))


def read_remains(pixel_number: int, days: list[int]) -> Iterator[tuple[int, Remains]]:
    """Yield what remains of each of some days whose hits are pruned."""
    for day, pieces in _read(pixel_number, Part.REMAINS, days):
        arrays = unpack(pieces, 12)
        yield day, Remains(PairRollup(*arrays[:6]), VisitRows(*arrays[6:]))


def _read(pixel_number: int, part: Part, days: list[int]) -> Iterator[tuple[int, list[bytes]]]:
    """Yield a part of each of some days, in their order; a few at a time, each in memory."""
    days = sorted(days)
    for start in range(0, len(days), DAYS_AT_ONCE):
        statement = select(Segment.day, Segment.data).where(
            Segment.pixel_number == pixel_number,
            Segment.part == part,
            Segment.day.in_(days[start : start + DAYS_AT_ONCE]),
        )
        rows = db.session.execute(statement.order_by(Segment.day, Segment.piece)).all()
        for day, pieces in groupby(rows, itemgetter(0)):
            yield day, [data for _, data in pieces]
