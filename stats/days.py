"""The arrays that are kept of a pixel's UTC day, and how they are packed."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

MS_PER_HOUR = 3_600_000
HOURS_A_DAY = 24
MS_PER_QUARTER = 900_000
QUARTERS = 96
CLASSES = ("open", "prefetch", "bot")
# The bit beside those of the classes: whatever class.
ANY_CLASS = 1 << len(CLASSES)
# Visitor 0 is nobody in particular: hits without a visit.
NO_VISITOR = 0
# The sets of profiles that visits are summed by, and their parts.
SET_MAX = 3
PARTS = ((0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2))
# A day's hits are stored and gone through in pieces of so many at most.
PIECE_HITS_MAX = 1 << 16


class Columns(NamedTuple):
    """A day's hits by hour, visitor and arrival: milliseconds of the day, visitor, profile."""

    at: Array
    visitor: Array
    profile: Array


NO_HITS = Columns(*[np.zeros(0, np.uint8)] * 3)


class HourlyRollup(NamedTuple):
    """Hits by hour, visitor and profile: how many, first and last millisecond of the day.

    `quarters` has a bit for each quarter of the hour. Hour and visitor are a visit, but nobody's.
    """

    hour: Array
    visitor: Array
    profile: Array
    hits: Array
    first: Array
    last: Array
    quarters: Array


class ProfileRollup(NamedTuple):
    """Hits by profile, and their visits that have no other profile."""

    profile: Array
    hits: Array
    visits: Array
    bounces: Array
    seconds: Array


class ProfileSetRollup(NamedTuple):
    """Visits of two or three profiles by these, a row for each set; a missing third is 0.

    `bounces` are, for each profile, the visits in which it has one hit; `seconds`, for each of
    `PARTS`, from its first hits to its last.
    """

    profiles: Array
    visits: Array
    bounces: Array
    seconds: Array


class VisitRows(NamedTuple):
    """Visits of several profiles one by one, a row for each: hits, first and last millisecond."""

    visit: Array
    visitor: Array
    profile: Array
    hits: Array
    first: Array
    last: Array


class Summary(NamedTuple):
    """A day's totals for any choice of profiles, but for its visitors."""

    by_profile: ProfileRollup
    by_profile_set: ProfileSetRollup
    visit_rows: VisitRows


class VisitorSets(NamedTuple):
    """A day's visitors by the set of all their profiles.

    `lengths` of the sets, the sets' profiles one after the other, how many visitors each set has,
    and these, set after set.
    """

    lengths: Array
    profile: Array
    counts: Array
    visitor: Array


NO_VISITOR_SETS = VisitorSets(*[np.zeros(0, np.int64)] * 4)


class ProfileDays(NamedTuple):
    """Totals and visitors of several days, those of one after those of the other.

    `of_rows` has the UTC day of each row of the totals by profile, `of_sets` that of each set.
    """

    summary: Summary
    visitor_sets: VisitorSets
    of_rows: Array
    of_sets: Array


class VisitorRollup(NamedTuple):
    """Each visitor's totals by class, as bits; one with several classes has one row for all."""

    visitor: Array
    classes: Array
    hits: Array
    visits: Array
    bounces: Array
    seconds: Array


class Quarters(NamedTuple):
    """A day by quarters of an hour: hits by class, and when each row of `VisitorRollup` came.

    `early` has a bit for each quarter of the day's first half, `late` for those of the second.
    """

    hits: Array
    visitor: Array
    classes: Array
    early: Array
    late: Array


class PairRollup(NamedTuple):
    """Hits by profile and visitor, and their visits that have no other profile."""

    profile: Array
    visitor: Array
    hits: Array
    visits: Array
    bounces: Array
    seconds: Array


class Hours(NamedTuple):
    """A day by UTC hours and profiles: hits, and visits, which are the hour's visitors.

    First the hits by profile with their visits that have no other; then visits of several, by the
    set of these: `lengths` of the sets, and the sets' profiles one after the other.
    """

    hour: Array
    profile: Array
    hits: Array
    visits: Array
    set_hour: Array
    lengths: Array
    set_profile: Array
    set_visits: Array


class Remains(NamedTuple):
    """A day's totals for any choice of profiles and visitors, once its hits are gone."""

    pairs: PairRollup
    visit_rows: VisitRows


class Recent(NamedTuple):
    """A day's hits that its other arrays don't have yet, a row for each, in the order of their ids.

    A row is what `Columns` has of a hit: millisecond of the day, visitor, profile. `replaced` are
    those hits of the columns whose visits the recent ones go on: a visit counts once, so what the
    other arrays say of these is taken off, and they are counted with the recent ones instead.
    `starts` has the first visit of each piece of the columns, by hour and visitor as one number.
    """

    hits: Array
    replaced: Array
    starts: Array


# Three numbers of four bytes: `compacting` tells from a part's length about how many hits it has.
RECENT_HIT_BYTES = 12
NO_ROWS = np.zeros((0, len(Columns._fields)), "<u4")
NOTHING_RECENT = Recent(NO_ROWS, NO_ROWS, np.zeros(0, "<i8"))


def rows_of(columns: Columns) -> Array:
    """Return hits as rows."""
    return np.stack([column.astype("<u4") for column in columns], axis=1)


def columns_of(rows: Array) -> Columns:
    """Return rows of hits as columns."""
    return Columns(*rows.T)


def pack_recent(recent: Recent) -> bytes:
    """Return recent hits as bytes; these are of one width, so that many days are read as one."""
    head = _RECENT_HEAD.pack(*(len(array) for array in recent))
    return b"".join((head, *(np.ascontiguousarray(array).data for array in recent)))


def unpack_recent(data: bytes) -> Recent:
    """Return the recent hits that were packed; they can't be written to."""
    hits, replaced, starts = _RECENT_HEAD.unpack_from(data)
    place = _RECENT_HEAD.size
    width = len(Columns._fields)
    numbers = np.frombuffer(data, "<u4", (hits + replaced) * width, place).reshape(-1, width)
    place += numbers.nbytes
    return Recent(numbers[:hits], numbers[hits:], np.frombuffer(data, "<i8", starts, place))


_RECENT_HEAD = struct.Struct("<III")


def pack(arrays: Sequence[Array]) -> bytes:
    """Return arrays of numbers from 0 as bytes, each as narrow as its largest number allows."""
    # Most numbers of a day are small: at four bytes each, days would take about twice the room.
    narrowed = [narrow(array) for array in arrays]
    heads = (_HEAD.pack(array.itemsize, len(array)) for array in narrowed)
    return b"".join((*heads, *(array.data for array in narrowed)))


def unpack(pieces: Sequence[bytes], count: int) -> list[Array]:
    """Return the `count` arrays that were packed, of several pieces put together."""
    found = [_unpack(data, count) for data in pieces]
    # What is one piece is not copied; it can't be written to.
    return (
        found[0]
        if len(found) == 1
        else [np.concatenate(parts) for parts in zip(*found, strict=True)]
    )


_HEAD = struct.Struct("<BI")


def _unpack(data: bytes, count: int) -> list[Array]:
    # Nothing is copied: the arrays look into the bytes that the database gave.
    place = count * _HEAD.size
    arrays = []
    for number in range(count):
        width, length = _HEAD.unpack_from(data, number * _HEAD.size)
        arrays.append(np.frombuffer(data, f"<u{width}", length, place))
        place += width * length
    return arrays


def narrow(array: Array) -> Array:
    """Return numbers from 0 in as few bytes each as the largest needs."""
    largest = int(array.max(initial=0))
    width = next(width for width in (1, 2, 4, 8) if largest < 1 << 8 * width)
    return array.astype(f"<u{width}", copy=False)
