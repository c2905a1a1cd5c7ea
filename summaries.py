"""The arithmetic of a day's hits: columns in, a summary out; no database.

A summary keeps, for any choice of profiles and visitors, all that the day's hits come to: what
each visitor did under each profile, and, since visits don't add up where a visit has several
profiles, those visits one by one. It grows with visitors, not with hits.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

MS_PER_HOUR = 3_600_000
MS_PER_QUARTER = 900_000
QUARTERS = 96
TABLE_CELLS_MAX = 1 << 23
CLASSES = ("open", "prefetch", "bot")
# Visitor 0 is nobody in particular: hits without a visit.
NOBODY = 0
# Hour, visitor and place of a hit, in one number to sort by.
_PLACE_BITS, _VISITOR_BITS = 27, 32


class Columns(NamedTuple):
    """A day's hits by hour, visitor and arrival: milliseconds of the day, visitor, profile."""

    at: Array
    visitor: Array
    profile: Array


class Tallies(NamedTuple):
    """Hits by profile and visitor, and their visits that have no other profile."""

    profile: Array
    visitor: Array
    hits: Array
    visits: Array
    bounces: Array
    seconds: Array


class Mixed(NamedTuple):
    """Visits of several profiles, a row for each: hits, first and last millisecond."""

    visit: Array
    visitor: Array
    profile: Array
    hits: Array
    first: Array
    last: Array


class Summary(NamedTuple):
    """What a day's hits come to; `by_profile` is `by_pair` without the visitors."""

    by_profile: Tallies
    by_pair: Tallies
    mixed: Mixed


class Quarters(NamedTuple):
    """A day by quarters of an hour: hits of each class; the visitors, and their classes as bits."""

    hits: Array
    visitor_counts: Array
    visitor: Array
    classes: Array


class Members:
    """Counts the distinct visitors of each group from 1, exactly; nobody is no visitor.

    Few groups are a table of who is in which; many are lists of numbers to sort.
    """

    def __init__(self, groups: int, visitors: int) -> None:
        self._groups = groups
        self._bits = visitors.bit_length()
        cells = groups << self._bits
        self._table: Array | None = np.zeros(cells, bool) if cells <= TABLE_CELLS_MAX else None
        # Narrow numbers are sorted twice as fast.
        self._type = np.uint32 if cells <= 1 << 32 else np.uint64
        self._keys: list[Array] = []

    def add(self, group: Array, visitor: Array) -> None:
        """Add pairs of group and visitor."""
        if self._table is None:
            kept = (group > 0) & (visitor != NOBODY)
            group, visitor = group[kept], visitor[kept]
        keys = np.left_shift(group.astype(self._type), self._bits) | visitor.astype(self._type)
        if self._table is None:
            self._keys.append(keys)
        else:
            self._table[keys] = True

    def counts(self) -> Array:
        """Return how many distinct visitors each group has; group 0 is none."""
        if self._table is not None:
            table = self._table.reshape(self._groups, -1)
            table[:, NOBODY] = False
            return np.array(np.count_nonzero(table, axis=1))
        keys = np.concatenate((np.zeros(0, self._type), *self._keys))
        keys.sort()
        group = np.right_shift(keys[_starts(keys)], self._bits).astype(np.int64)
        return np.bincount(group, minlength=self._groups)


def sort_columns(columns: Columns) -> Columns:
    """Return hits that came in this order, sorted."""
    hour = (columns.at // MS_PER_HOUR).astype(np.uint64)
    keys = hour << np.uint64(_VISITOR_BITS) | columns.visitor.astype(np.uint64)
    keys = keys << np.uint64(_PLACE_BITS) | np.arange(len(keys), dtype=np.uint64)
    keys.sort()
    order = (keys & np.uint64((1 << _PLACE_BITS) - 1)).astype(np.intp)
    return Columns(*(each[order] for each in columns))


def join_columns(first: Columns, second: Columns) -> Columns:
    """Return the hits of both, the second's having come later."""
    return sort_columns(Columns(*map(np.concatenate, zip(first, second, strict=True))))


def between(columns: Columns, first_ms: int, last_ms: int) -> Columns:
    """Return the hits from one millisecond of the day to another, both included."""
    kept = (columns.at >= first_ms) & (columns.at <= last_ms)
    return Columns(*(each[kept] for each in columns))


def summarise(columns: Columns) -> Summary:
    """Return what sorted hits come to."""
    known = columns.visitor != NOBODY
    at, visitor, profile = (each[known].astype(np.int64) for each in columns)
    starts = _starts(visitor, at // MS_PER_HOUR)
    hits = _lengths(starts, len(at))
    lowest = np.minimum.reduceat(profile, starts)
    plain = lowest == np.maximum.reduceat(profile, starts)
    seconds = (np.maximum.reduceat(at, starts) - np.minimum.reduceat(at, starts)) // 1000
    in_mixed = np.repeat(~plain, hits)
    visit = np.repeat(np.arange(len(starts)), hits)[in_mixed]
    mixed = _mixed(visit, *(each[in_mixed] for each in (at, visitor, profile)))
    nobodys = columns.profile[~known].astype(np.int64)
    none = np.zeros(len(mixed.hits) + len(nobodys), np.int64)
    by_pair = _grouped(
        Tallies(
            np.concatenate((lowest[plain], mixed.profile, nobodys)),
            np.concatenate((visitor[starts][plain], mixed.visitor, nobodys * 0 + NOBODY)),
            np.concatenate((hits[plain], mixed.hits, nobodys * 0 + 1)),
            np.concatenate((np.ones(np.count_nonzero(plain), np.int64), none)),
            np.concatenate(((hits[plain] == 1).astype(np.int64), none)),
            np.concatenate((seconds[plain], none)),
        )
    )
    nameless = by_pair._replace(visitor=by_pair.visitor * 0)
    return Summary(_summed(nameless, _starts(by_pair.profile)), by_pair, mixed)


def quarter(columns: Columns, class_bits: Array) -> Quarters:
    """Return a day's hits by quarters; `class_bits` has a bit for each profile's class."""
    slot = columns.at.astype(np.int64) // MS_PER_QUARTER
    bits = class_bits[columns.profile]
    hits = np.stack(
        [np.bincount(slot[bits == 1 << place], minlength=QUARTERS) for place in range(len(CLASSES))]
    )
    known = columns.visitor != NOBODY
    keys = (slot[known] << _VISITOR_BITS | columns.visitor[known]) << len(CLASSES) | bits[known]
    keys.sort()
    pairs = keys >> len(CLASSES)
    starts = _starts(pairs)
    slots = pairs[starts] >> _VISITOR_BITS
    return Quarters(
        hits.ravel(),
        np.bincount(slots, minlength=QUARTERS),
        pairs[starts] & ((1 << _VISITOR_BITS) - 1),
        np.bitwise_or.reduceat(keys & ((1 << len(CLASSES)) - 1), starts),
    )


def group_visits(group: Array, mixed: Mixed) -> tuple[Array, Array, Array, Array]:
    """Join a visit's rows of one group; return the groups, hits, firsts and lasts of the visits."""
    keys = mixed.visit.astype(np.int64) << _VISITOR_BITS | group
    order = np.argsort(keys)
    starts = _starts(keys[order])
    return (
        group[order][starts],
        np.add.reduceat(mixed.hits[order].astype(np.int64), starts),
        np.minimum.reduceat(mixed.first[order].astype(np.int64), starts),
        np.maximum.reduceat(mixed.last[order].astype(np.int64), starts),
    )


def pack(arrays: Sequence[Array]) -> bytes:
    """Return arrays of numbers from 0 as bytes, each as narrow as its largest number allows."""
    narrow = [each.astype(_narrowest(each)) for each in arrays]
    head = b"".join(_HEAD.pack(each.itemsize, len(each)) for each in narrow)
    return head + b"".join(each.tobytes() for each in narrow)


def unpack(data: bytes, count: int) -> list[Array]:
    """Return the `count` arrays that were packed; they can't be written to."""
    place = count * _HEAD.size
    arrays = []
    for number in range(count):
        width, length = _HEAD.unpack_from(data, number * _HEAD.size)
        arrays.append(np.frombuffer(data, f"<u{width}", length, place))
        place += width * length
    return arrays


_HEAD = struct.Struct("<BI")


def _narrowest(array: Array) -> str:
    largest = int(array.max(initial=0))
    return next(f"<u{width}" for width in (1, 2, 4, 8) if largest < 1 << 8 * width)


def _starts(*keys: Array) -> Array:
    """Return where runs of equal keys start."""
    changes = np.zeros(len(keys[0]), bool)
    changes[:1] = True
    for key in keys:
        changes[1:] |= key[1:] != key[:-1]
    return np.flatnonzero(changes)


def _lengths(starts: Array, total: int) -> Array:
    return np.diff(starts, append=total)


def _mixed(visit: Array, at: Array, visitor: Array, profile: Array) -> Mixed:
    order = np.lexsort((profile, visit))
    visit, at, visitor, profile = (each[order] for each in (visit, at, visitor, profile))
    starts = _starts(visit, profile)
    return Mixed(
        visit[starts],
        visitor[starts],
        profile[starts],
        _lengths(starts, len(visit)),
        np.minimum.reduceat(at, starts),
        np.maximum.reduceat(at, starts),
    )


def _grouped(rows: Tallies) -> Tallies:
    keys = rows.profile << _VISITOR_BITS | rows.visitor
    order = np.argsort(keys)
    return _summed(Tallies(*(each[order] for each in rows)), _starts(keys[order]))


def _summed(rows: Tallies, starts: Array) -> Tallies:
    counts = (np.add.reduceat(each, starts) for each in rows[2:])
    return Tallies(rows.profile[starts], rows.visitor[starts], *counts)
