"""Adds days up by buckets of time."""

from __future__ import annotations

import itertools

import numpy as np

from models import MS_PER_DAY
from stats.arithmetic import Members
from stats.buckets import Buckets
from stats.days import (
    ANY_CLASS,
    CLASSES,
    HOURS_A_DAY,
    MS_PER_HOUR,
    MS_PER_QUARTER,
    QUARTERS,
    Array,
    Columns,
    Hours,
    Quarters,
)
from stats.groups import ByHit, Groups, WholeDays


class Series:
    """Adds days up by buckets of time."""

    def __init__(self, buckets: Buckets, visitors: int | None) -> None:
        """With `visitors`, how many there are, count them too."""
        self._starts_ms = np.array(buckets.starts_ms)
        self._places = np.array(buckets.places)
        self._count = len(buckets.labels) + 1
        self._pageviews = np.zeros(self._count, np.int64)
        # Of buckets within a day; those of others may meet the same visitors on another.
        self._visitors = np.zeros(self._count, np.int64)
        self._members = None if visitors is None else Members(self._count, visitors + 1)

    @property
    def is_by_quarter(self) -> bool:
        """Whether every bucket starts with a quarter of an hour."""
        return not (self._starts_ms % MS_PER_QUARTER).any()

    @property
    def is_by_hour(self) -> bool:
        """Whether every hour of the zone is a UTC hour, or what the range has of it."""
        # Clocks that go back make one bucket of two hours.
        is_one = len({*self._places.tolist()}) == len(self._places)
        starts = self._starts_ms // MS_PER_HOUR
        lengths = np.diff(starts)
        return (
            is_one and bool((lengths == 1).all()) and not (self._starts_ms[1:] % MS_PER_HOUR).any()
        )

    def is_single(self, day: int) -> bool:
        """Tell whether a whole day lies in one bucket."""
        ends = np.array([day * MS_PER_DAY, (day + 1) * MS_PER_DAY - 1])
        first, last = np.searchsorted(self._starts_ms, ends, "right")
        return bool(first == last)

    def add_whole(self, found: WholeDays, groups: Groups) -> None:
        """Add days each of which lies in one bucket, or what is known of them by the instant."""
        group, hits = found.hits(groups)
        place = self._place(found.hit_times()[group > 0])
        self._add(self._pageviews, place, hits[group > 0])
        if self._members is None:
            return
        group, visitor, at_ms = found.members_in_time(groups)
        self._members.add(self._place(at_ms[group > 0]), visitor[group > 0])

    def add_hits(self, day: int, columns: Columns, groups: Groups) -> None:
        """Add any of a day's hits."""
        group, _ = ByHit(columns).hits(groups)
        place = self._place(columns.at[group > 0] + np.int64(day * MS_PER_DAY))
        self._pageviews += np.bincount(place, minlength=self._count)
        if self._members is None:
            return
        visitor = columns.visitor[group > 0]
        # A visitor who stays in a bucket comes in a row, for as long as an hour lasts.
        first = np.ones(len(place), bool)
        first[1:] = (place[1:] != place[:-1]) | (visitor[1:] != visitor[:-1])
        self._members.add(place[first], visitor[first])

    def add_quarters(self, day: int, quarters: Quarters, groups: Groups, *, is_whole: bool) -> None:
        """Add a day by its quarters, which are the whole of it or lack recent hits."""
        starts = day * MS_PER_DAY + np.arange(-1, QUARTERS + 1) * MS_PER_QUARTER
        before, *place, after = self._place(starts).tolist()
        for number, hits in enumerate(quarters.hits.reshape(len(CLASSES), QUARTERS)):
            if groups.class_bit in (1 << number, ANY_CLASS):
                np.add.at(self._pageviews, place, hits)
        if self._members is None:
            return
        kept = quarters.classes & groups.class_bit != 0
        visitor = quarters.visitor[kept]
        early, late = (column[kept].astype(np.int64) for column in quarters[3:])
        for bucket, slots in itertools.groupby(range(QUARTERS), place.__getitem__):
            bits = sum(1 << slot for slot in slots)
            there = _overlap(early, late, bits)
            # A visitor of other hits of the bucket counts once.
            if bucket in (before, after) or not is_whole:
                self._members.add(np.full(len(visitor), bucket)[there], visitor[there])
            else:
                self._visitors[bucket] += np.count_nonzero(there)

    def add_hours(self, day: int, hours: Hours, groups: Groups) -> None:
        """Add a day by its hours, each of which is a bucket."""
        place = self._place(day * MS_PER_DAY + np.arange(HOURS_A_DAY) * MS_PER_HOUR)
        kept = groups.of_profile[hours.profile] > 0
        self._add(self._pageviews, place[hours.hour[kept]], hours.hits[kept])
        if self._members is None:
            return
        self._add(self._visitors, place[hours.hour[kept]], hours.visits[kept])
        # A visit of several profiles stands with the set of these, and counts if one is wanted.
        ends = np.cumsum(hours.lengths, dtype=np.int64)
        of_set = groups.of_profile[hours.set_profile] > 0
        kept = np.logical_or.reduceat(of_set, ends - hours.lengths)
        self._add(self._visitors, place[hours.set_hour[kept]], hours.set_visits[kept])

    def result(self) -> tuple[Array, Array]:
        """Return page views and visitors by place."""
        visitors = self._members.counts() if self._members else 0
        return self._pageviews, self._visitors + visitors

    def _add(self, totals: Array, place: Array, counts: Array) -> None:
        totals += np.bincount(place, counts, self._count).astype(np.int64)

    def _place(self, at_ms: Array) -> Array:
        # What begins before the range, an hour say, has nothing but what is in the first bucket.
        place = np.searchsorted(self._starts_ms, at_ms, "right") - 1
        return self._places[np.maximum(place, 0)]


def _overlap(early: Array, late: Array, slots: int) -> Array:
    """Tell which rows of `Quarters` have one of some quarters, as bits of the whole day."""
    # A day has more quarters than an integer of the arrays has bits: each half is one of its own.
    half = QUARTERS // 2
    first, second = slots & ((1 << half) - 1), slots >> half
    there: Array = early & first != 0 if first else late & second != 0
    return there | (late & second != 0) if first and second else there
