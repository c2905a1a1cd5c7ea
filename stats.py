"""The questions that are asked of a pixel's hits, and their answers.

A hit of nobody in particular (privacy, or Do Not Track) counts as a page view and belongs to no
visitor and no visit. A visit is a visitor's hits within one UTC clock hour; a bounce is a visit
of one hit; a visit's time is that from its first hit to its last, in whole seconds.

Whole UTC days are answered from their summaries, the ends of a range from its hits. Of a day
whose hits are pruned only the summary is left: it counts as a whole, at its first instant.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Literal, NamedTuple

import numpy as np
from sqlalchemy import func, literal, select

import lexicon
import segments
from calendars import Buckets, buckets
from calendars import Unit as Unit
from calendars import widened as widened_unit
from database import begin_snapshot, db, from_milliseconds, milliseconds
from dimensions import DIMENSIONS as DIMENSIONS
from dimensions import Source, Value, values_of
from groups import ByHit, ByPair, ByProfile, ByVisitor, Day, Groups, Tally, class_bit
from lexicon import Lexicon, Words
from models import HIT_ID_SHIFT, Hit, Profile, Recipient, Visitor
from segments import MS_PER_DAY, State
from summaries import (
    ANY_CLASS,
    CLASSES,
    MS_PER_HOUR,
    MS_PER_QUARTER,
    NO_ONE,
    NOBODY,
    QUARTERS,
    Array,
    Columns,
    Hours,
    Members,
    People,
    Quarters,
    Seen,
    between,
)

ACTIVE_MINUTES = 5
VALUES_MAX = 10
HITS_READ_AT_ONCE = 1_000
HOURS_A_DAY = 24


@dataclass(frozen=True)
class Filter:
    """Only hits whose value is (or, negated, is not) one of `values`, or has one in it.

    eq: is one of; neq: has a value, and is none of; c: contains one of, whatever its case;
    dnc: has a value, and contains none of.
    """

    dimension: str
    operator: Literal["eq", "neq", "c", "dnc"]
    values: tuple[str, ...]

    def matching(self, values: Sequence[Value]) -> Array:
        """Tell which values pass; no value passes nothing."""
        if self.operator in ("eq", "neq"):
            wanted = frozenset(self.values)
            found = [value in wanted for value in values]
        else:
            parts = [each.casefold() for each in self.values]
            folded = [(value or "").casefold() for value in values]
            found = [any(part in value for part in parts) for value in folded]
        passes: Array = np.array(found) == (self.operator in ("eq", "c"))
        passes &= [value is not None for value in values]
        return passes


@dataclass(frozen=True)
class Question:
    """Which hits are asked for: those of one pixel from `start` to `end`, both included."""

    pixel_number: int
    start: datetime
    end: datetime
    hit_class: str = "open"
    filters: tuple[Filter, ...] = ()
    zone: tzinfo = UTC


class Totals(NamedTuple):
    """What hits come to; `totaltime` is in seconds."""

    pageviews: int = 0
    visitors: int = 0
    visits: int = 0
    bounces: int = 0
    totaltime: int = 0


class Point(NamedTuple):
    """A bucket of a series, by the local instant of its start."""

    at: datetime
    pageviews: int
    visitors: int


class Row(NamedTuple):
    """A value of a dimension and what its hits come to."""

    name: str
    pageviews: int
    visitors: int
    visits: int
    bounces: int
    totaltime: int


class Leader(NamedTuple):
    """A value of a dimension, without its visits."""

    name: str
    pageviews: int
    visitors: int


class Event(NamedTuple):
    """One hit, with all that is known of it."""

    id: int
    at: datetime
    visitor: int | None
    recipient: Value
    source: Source
    values: dict[str, Value]


def totals(question: Question) -> Totals:
    """Return what the hits of a question come to."""
    view = _View.of(question)
    if view is None:
        return Totals()
    tally = view.tally()
    for day in view.days_for(tally.groups):
        tally.add(day)
    return Totals(*(int(column[1]) for column in tally.columns()))


def series(question: Question, unit: Unit, *, filled: bool) -> list[Point]:
    """Return page views and visitors by minute, hour, half day, day, month or year of the zone.

    Buckets without hits are left out unless `filled`. A clock hour that comes twice, when clocks
    go back, is one bucket.
    """
    cut = buckets(question.start, question.end, question.zone, unit)
    view = _View.of(question)
    none = np.zeros(len(cut.labels) + 1, np.int64)
    pageviews, visitors = view.by_bucket(cut, unit) if view else (none, none)
    return [
        Point(label, int(views), int(count))
        for label, views, count in zip(cut.labels, pageviews[1:], visitors[1:], strict=True)
        if views or filled
    ]


def widened(question: Question, unit: Unit) -> Unit:
    """Return `unit`, or the next wider one that makes no more buckets than an answer may have."""
    return widened_unit(question.end - question.start, unit)


def compared_with(question: Question, how: Literal["prev", "yoy"]) -> Question:
    """Return the same question of the time just before, as long, or of a year earlier."""
    if how == "yoy":
        start, end = _year_earlier(question)
    else:
        end = question.start - timedelta(milliseconds=1)
        start = end - (question.end - question.start)
    return replace(question, start=start, end=end)


def breakdown(
    question: Question, dimension: str, *, limit: int, offset: int = 0, search: str = ""
) -> list[Row]:
    """Return the values of a dimension, by visitors, then page views, then name.

    `search` is part of a value, whatever its case.
    """
    rows = _rows(question, dimension, search, offset + limit, by_visitors=True)
    return sorted(rows, key=_by_visitors)[offset : offset + limit]


def leaders(
    question: Question, dimensions: Collection[str], *, limit: int
) -> dict[str, list[Leader]]:
    """Return the first values of several dimensions, in `breakdown`'s order, at one reading.

    Visits are left out: to count them takes most of a breakdown's time.
    """
    view = _View.of(question, *dimensions)
    if view is None:
        return {dimension: [] for dimension in dimensions}
    tallies = {each: view.tally(each) for each in dimensions}
    for _, alike in itertools.groupby(sorted(tallies.values(), key=_source), _source):
        first, *others = alike
        for day in view.days_for(first.groups):
            for tally in (first, *others):
                tally.add_views(day)
    found = {
        dimension: _first(view.words(dimension), tally, "", limit, by_visitors=True)
        for dimension, tally in tallies.items()
    }
    return {
        dimension: [Leader(*row[:3]) for row in sorted(rows, key=_by_visitors)[:limit]]
        for dimension, rows in found.items()
    }


def _source(tally: Tally) -> tuple[bool, bool]:
    """Return what two tallies have in common that can be filled from the same days."""
    of_profiles = tally.groups.of_visitor is None
    return of_profiles, not of_profiles and tally.groups.by_class_alone


def _by_visitors(row: Row) -> tuple[int, int, str]:
    return -row.visitors, -row.pageviews, row.name


def values(question: Question, dimension: str, search: str = "") -> list[tuple[str, int]]:
    """Return the few values of a dimension that have the most page views, and these."""
    rows = _rows(question, dimension, search, VALUES_MAX, by_visitors=False)
    rows.sort(key=lambda row: (-row.pageviews, row.name))
    return [(row.name, row.pageviews) for row in rows[:VALUES_MAX]]


def active(pixel_number: int, now: datetime) -> int:
    """Return how many visitors opened within the last minutes."""
    start = milliseconds(now - timedelta(minutes=ACTIVE_MINUTES)) << HIT_ID_SHIFT
    statement = (
        select(func.count(Hit.visitor.distinct()))
        .join(Profile, (Profile.pixel_number == Hit.pixel_number) & (Profile.id == Hit.profile))
        .where(Hit.pixel_number == pixel_number, Hit.id >= start, Profile.hit_class == "open")
    )
    return db.session.scalar(statement) or 0


def date_range(pixel_number: int) -> tuple[datetime, datetime] | None:
    """Return the instants of the first and the last hit, None without any.

    For hits that are pruned, the start of their UTC day stands.
    """
    # Each by itself is one look at the key; both at once would read every hit.
    first, last = (
        db.session.scalar(select(edge(Hit.id)).where(Hit.pixel_number == pixel_number))
        for edge in (func.min, func.max)
    )
    instants = [_at(hit_id) for hit_id in (first, last) if hit_id is not None]
    state = segments.state_of(pixel_number)
    pruned = [day for day in segments.days_of(pixel_number) if state and day < state.pruned_before]
    instants += [from_milliseconds(day * MS_PER_DAY) for day in (pruned[:1] + pruned[-1:])]
    return (min(instants), max(instants)) if instants else None


def event_count(question: Question) -> int:
    """Return how many hits of a question can be listed."""
    view = _View.of(question)
    return sum(count for _, count in view.hit_counts()) if view else 0


def events(question: Question, *, page: int = 1, page_size: int = 20) -> list[Event]:
    """Return a page of the hits of a question, the newest first."""
    view = _View.of(question)
    if view is None:
        return []
    skipped, ids = (page - 1) * page_size, list[int]()
    for day, count in reversed(view.hit_counts()):
        if skipped >= count:
            skipped -= count
            continue
        ids += view.newest_ids(day, skipped, page_size - len(ids))
        skipped = 0
        if len(ids) == page_size:
            break
    return list(_events(question.pixel_number, ids))[::-1]


def events_after(question: Question, after: int, *, limit: int) -> list[Event]:
    """Return the first hits of a question whose id is above `after`, the oldest first."""
    view = _View.of(question)
    if view is None:
        return []
    first, last = view.id_range
    ids = itertools.islice(view.ids(max(first, after + 1), last), limit)
    return list(_events(question.pixel_number, list(ids)))


def export(question: Question) -> Iterator[Event]:
    """Yield every hit of a question, the oldest first, in constant memory.

    Each chunk is read by itself, so that a slow reader holds nothing open.
    """
    view = _View.of(question)
    if view is None:
        return
    first, last = view.id_range
    while ids := list(itertools.islice(view.ids(first, last), HITS_READ_AT_ONCE)):
        found = list(_events(question.pixel_number, ids))
        db.session.commit()
        yield from found
        first = ids[-1] + 1


def _rows(
    question: Question, dimension: str, search: str, count: int, *, by_visitors: bool
) -> list[Row]:
    """Return the first `count` rows of a breakdown, unsorted, and those that equal the last."""
    view = _View.of(question, dimension)
    if view is None:
        return []
    tally = view.tally(dimension)
    for day in view.days_for(tally.groups):
        tally.add(day)
    return _first(view.words(dimension), tally, search, count, by_visitors=by_visitors)


def _first(
    of_dimension: Words, tally: Tally, search: str, count: int, *, by_visitors: bool
) -> list[Row]:
    """Return the first `count` rows of what is tallied, unsorted, and those that equal the last."""
    words, columns = of_dimension.words, np.stack(tally.columns())
    pageviews, visitors = columns[:2]
    rank = pageviews + (visitors << _RANK_BITS if by_visitors else 0)
    rank[0] = 0
    if search:
        folded = search.casefold()
        rank *= np.array([word is not None and folded in word.casefold() for word in words])
    places = np.flatnonzero(rank)
    if len(places) > count:
        least = np.partition(rank[places], -count)[-count]
        places = places[rank[places] >= least]
    return [Row(words[place] or "", *columns[:, place].tolist()) for place in places.tolist()]


# More page views than a question can be about.
_RANK_BITS = 36


@dataclass(frozen=True)
class _View:
    """A question before the words and the days that it is about."""

    question: Question
    state: State
    lexicon: Lexicon

    @classmethod
    def of(cls, question: Question, *dimensions: str) -> _View | None:
        """Fold what is pending, and read the words; None for a pixel that is gone."""
        segments.fold_for_question(question.pixel_number)
        begin_snapshot()
        state = segments.state_of(question.pixel_number)
        if state is None:
            return None
        asked = {*dimensions, *(each.dimension for each in question.filters)}
        words = lexicon.of_pixel(
            question.pixel_number,
            state.revision,
            state.profile_count,
            state.visitor_count if "recipient" in asked else None,
        )
        return cls(question, state, words)

    @property
    def first_ms(self) -> int:
        return milliseconds(self.question.start)

    @property
    def last_ms(self) -> int:
        return milliseconds(self.question.end)

    @property
    def id_range(self) -> tuple[int, int]:
        """The ids that the hits of the range can have, both ends included."""
        last = ((self.last_ms + 1) << HIT_ID_SHIFT) - 1
        return self.first_ms << HIT_ID_SHIFT, min(last, self.state.folded_through)

    def words(self, dimension: str) -> Words:
        """Return the words of a dimension; one that hits don't have has none."""
        if dimension == "recipient":
            return self.lexicon.recipients
        none = Words(np.zeros(self.state.profile_count + 1, np.int64), (None,))
        return self.lexicon.profiles.get(dimension, none)

    def tally(self, dimension: str = "") -> Tally:
        """Return an empty tally of a dimension's values, or of all hits as one group."""
        count = len(self.words(dimension).words) - 1 if dimension else 1
        return Tally(self.groups(dimension), count, self.state.visitor_count)

    def groups(self, dimension: str = "") -> Groups:
        """Return the groups of hits by a dimension, or one group of all that are wanted."""
        hit_class, filters = self.question.hit_class, self.question.filters
        of_profile = np.ones(self.state.profile_count + 1, np.int64)
        of_profile[0] = 0
        if hit_class != "all":
            of_profile *= self._matching(Filter("class", "eq", (hit_class,)))
        of_visitor = np.ones(self.state.visitor_count + 1, np.int64)
        for each in filters:
            if each.dimension == "recipient":
                of_visitor *= self._matching(each)
            else:
                of_profile *= self._matching(each)
        by_visitor = dimension == "recipient"
        if by_visitor:
            of_visitor *= self.words(dimension).codes[: len(of_visitor)]
        elif dimension:
            of_profile *= self.words(dimension).codes[: len(of_profile)]
        asked = [dimension, *(each.dimension for each in filters)]
        return Groups(
            of_profile,
            of_visitor if "recipient" in asked else None,
            by_visitor,
            class_bit(hit_class),
            by_class_alone=not {*asked} - {"", "recipient"},
        )

    def days_for(self, groups: Groups) -> Iterator[Day]:
        """Yield every day of the range: whole ones as they are kept, the ends from their hits."""
        whole, partial = self._days()
        for _, found in itertools.chain(self._whole(whole, groups), self._hits(partial)):
            yield found

    def by_bucket(self, buckets: Buckets, unit: Unit) -> tuple[Array, Array]:
        """Return page views and visitors by the place of a bucket's label."""
        tally = _Series(buckets, self.state.visitor_count)
        groups = self.groups()
        whole, partial = self._days()
        single = [day for day in whole if tally.is_single(day) or day < self.state.pruned_before]
        split = sorted({*whole} - {*single})
        for day, found in self._whole(single, groups):
            tally.add_single(day, found, groups)
        if tally.is_by_quarter and not self.question.filters:
            for day, quarters in segments.read(Quarters, self.question.pixel_number, split):
                tally.add_quarters(day, quarters, groups)
        elif unit == "hour" and tally.is_by_hour and groups.of_visitor is None:
            for day, hours in segments.read(Hours, self.question.pixel_number, split):
                tally.add_hours(day, hours, groups)
        else:
            partial = sorted((*partial, *split))
        for day, found in self._hits(partial):
            tally.add_hits(day, found.columns, groups)
        return tally.result()

    def hit_counts(self) -> list[tuple[int, int]]:
        """Return how many hits of the question each day has, of those that are still stored."""
        groups = self.groups()
        whole, partial = self._days()
        whole = [day for day in whole if day >= self.state.pruned_before]
        days = self._whole(whole, groups, with_members=False)
        counts = []
        for day, found in itertools.chain(days, self._hits(partial)):
            group, hits = found.hits(groups)
            counts.append((day, int(hits[group > 0].sum())))
        return sorted(counts)

    def newest_ids(self, day: int, skipped: int, count: int) -> list[int]:
        """Return the ids of a day's matching hits, the newest first, after some."""
        groups = self.groups()
        at = np.zeros(0, np.int64)
        for _, found in self._hits([day]):
            group, _ = found.hits(groups)
            at = found.columns.at[group > 0].astype(np.int64)
        if skipped >= len(at):
            return []
        places = [max(len(at) - skipped - count, 0), len(at) - skipped - 1]
        oldest, newest = np.partition(at, places)[places].tolist()
        first = (day * MS_PER_DAY + oldest) << HIT_ID_SHIFT
        last = ((day * MS_PER_DAY + newest + 1) << HIT_ID_SHIFT) - 1
        ids = list(self.ids(first, last))[::-1]
        above = skipped - int(np.count_nonzero(at > newest))
        return ids[above : above + count]

    def ids(self, first: int, last: int) -> Iterator[int]:
        """Yield the ids of matching hits in a range of ids, in their order."""
        groups = self.groups()
        while True:
            rows = _numbers(self.question.pixel_number, first, last, groups.of_visitor is not None)
            for id, profile, visitor in rows:
                if profile and groups.of(np.array(profile), np.array(visitor or NOBODY)) > 0:
                    yield id
            if len(rows) < HITS_READ_AT_ONCE:
                return
            first = rows[-1][0] + 1

    def _days(self) -> tuple[list[int], list[int]]:
        """Return the days of the range that are answered whole, and its ends from their hits."""
        whole, partial = [], []
        newest_ms = self.state.folded_through >> HIT_ID_SHIFT
        for day in segments.days_of(self.question.pixel_number):
            start = day * MS_PER_DAY
            end = min(start + MS_PER_DAY - 1, newest_ms)
            is_pruned = day < self.state.pruned_before
            if self.first_ms <= start <= self.last_ms and (end <= self.last_ms or is_pruned):
                whole.append(day)
            elif start <= self.last_ms and end >= self.first_ms and not is_pruned:
                partial.append(day)
        return whole, partial

    def _whole(
        self, days: list[int], groups: Groups, *, with_members: bool = True
    ) -> Iterator[tuple[int, Day]]:
        """Yield whole days from what answers fastest."""
        pixel_number = self.question.pixel_number
        if groups.of_visitor is None:
            seen = segments.read(Seen, pixel_number, days if with_members else [])
            for day, summary in segments.read_summaries(pixel_number, days):
                yield day, ByProfile(summary, next(seen)[1] if with_members else NO_ONE)
            return
        pruned = [day for day in days if day < self.state.pruned_before]
        for day, remains in segments.read_remains(pixel_number, pruned):
            yield day, ByPair(remains)
        kept = [day for day in days if day >= self.state.pruned_before]
        if groups.by_class_alone:
            for day, people in segments.read(People, pixel_number, kept):
                yield day, ByVisitor(people)
        else:
            yield from self._hits(kept)

    def _hits(self, days: list[int]) -> Iterator[tuple[int, ByHit]]:
        """Yield those hits of days that are in the range."""
        for day, columns in segments.read(Columns, self.question.pixel_number, days):
            start = day * MS_PER_DAY
            first, last = max(self.first_ms - start, 0), min(self.last_ms - start, MS_PER_DAY)
            is_whole = last - first == MS_PER_DAY
            yield day, ByHit(columns if is_whole else between(columns, first, last))

    def _matching(self, wanted: Filter) -> Array:
        words, state = self.words(wanted.dimension), self.state
        by_visitor = wanted.dimension == "recipient"
        count = state.visitor_count if by_visitor else state.profile_count
        matching: Array = wanted.matching(words.words)[words.codes[: count + 1]]
        return matching


class _Series:
    """Adds days up by buckets of time."""

    def __init__(self, buckets: Buckets, visitors: int) -> None:
        self._starts_ms = np.array(buckets.starts_ms)
        self._places = np.array(buckets.places)
        self._count = len(buckets.labels) + 1
        self._pageviews = np.zeros(self._count, np.int64)
        # Of buckets within a day; those of others may meet the same visitors on another.
        self._visitors = np.zeros(self._count, np.int64)
        self._members = Members(self._count, visitors + 1)

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

    def add_single(self, day: int, found: Day, groups: Groups) -> None:
        """Add a day that lies in one bucket."""
        place = self._place(np.array([day * MS_PER_DAY]))[0]
        group, hits = found.hits(groups)
        self._pageviews[place] += int(hits[group > 0].sum())
        group, visitor = found.members(groups)
        visitor = visitor[group > 0]
        self._members.add(np.full(len(visitor), place), visitor)

    def add_hits(self, day: int, columns: Columns, groups: Groups) -> None:
        """Add any of a day's hits."""
        group, _ = ByHit(columns).hits(groups)
        place = self._place(columns.at[group > 0] + np.int64(day * MS_PER_DAY))
        self._pageviews += np.bincount(place, minlength=self._count)
        visitor = columns.visitor[group > 0]
        # Who stays in a bucket comes in a row, for as long as an hour lasts.
        first = np.ones(len(place), bool)
        first[1:] = (place[1:] != place[:-1]) | (visitor[1:] != visitor[:-1])
        self._members.add(place[first], visitor[first])

    def add_quarters(self, day: int, quarters: Quarters, groups: Groups) -> None:
        """Add a day by its quarters."""
        starts = day * MS_PER_DAY + np.arange(-1, QUARTERS + 1) * MS_PER_QUARTER
        before, *place, after = self._place(starts).tolist()
        for number, hits in enumerate(quarters.hits.reshape(len(CLASSES), QUARTERS)):
            if groups.class_bit in (1 << number, ANY_CLASS):
                np.add.at(self._pageviews, place, hits)
        kept = quarters.classes & groups.class_bit != 0
        visitor = quarters.visitor[kept]
        early, late = (each[kept].astype(np.int64) for each in quarters[3:])
        for bucket, slots in itertools.groupby(range(QUARTERS), place.__getitem__):
            bits = sum(1 << slot for slot in slots)
            there = _overlap(early, late, bits)
            if bucket in (before, after):
                self._members.add(np.full(len(visitor), bucket)[there], visitor[there])
            else:
                self._visitors[bucket] += np.count_nonzero(there)

    def add_hours(self, day: int, hours: Hours, groups: Groups) -> None:
        """Add a day by its hours, each of which is a bucket."""
        place = self._place(day * MS_PER_DAY + np.arange(HOURS_A_DAY) * MS_PER_HOUR)
        kept = groups.of_profile[hours.profile] > 0
        self._add(self._pageviews, place[hours.hour[kept]], hours.hits[kept])
        self._add(self._visitors, place[hours.hour[kept]], hours.visits[kept])
        ends = np.cumsum(hours.lengths, dtype=np.int64)
        of_set = groups.of_profile[hours.set_profile] > 0
        kept = np.logical_or.reduceat(of_set, ends - hours.lengths)
        self._add(self._visitors, place[hours.set_hour[kept]], hours.set_visits[kept])

    def result(self) -> tuple[Array, Array]:
        """Return page views and visitors by place."""
        return self._pageviews, self._visitors + self._members.counts()

    def _add(self, totals: Array, place: Array, counts: Array) -> None:
        totals += np.bincount(place, counts, self._count).astype(np.int64)

    def _place(self, at_ms: Array) -> Array:
        return self._places[np.searchsorted(self._starts_ms, at_ms, "right") - 1]


def _overlap(early: Array, late: Array, slots: int) -> Array:
    """Tell which rows of `Quarters` have one of some quarters, as bits of the whole day."""
    half = QUARTERS // 2
    first, second = slots & ((1 << half) - 1), slots >> half
    there: Array = early & first != 0 if first else late & second != 0
    return there | (late & second != 0) if first and second else there


def _numbers(
    pixel_number: int, first: int, last: int, with_visitors: bool
) -> list[tuple[int, int, int | None]]:
    """Return the next hits in a range of ids with the numbers of their profiles and visitors."""
    statement = (
        select(Hit.id, Profile.number, Visitor.number if with_visitors else literal(NOBODY))
        .join(Profile, (Profile.pixel_number == Hit.pixel_number) & (Profile.id == Hit.profile))
        .where(Hit.pixel_number == pixel_number, Hit.id.between(first, last))
        .order_by(Hit.id)
        .limit(HITS_READ_AT_ONCE)
    )
    if with_visitors:
        same = (Visitor.pixel_number == Hit.pixel_number) & (Visitor.visitor == Hit.visitor)
        statement = statement.outerjoin(Visitor, same)
    return [(id, profile or 0, visitor) for id, profile, visitor in db.session.execute(statement)]


def _events(pixel_number: int, ids: list[int]) -> Iterator[Event]:
    """Yield hits by their ids, in the order of these."""
    statement = (
        lexicon.sources(pixel_number)
        .add_columns(Hit.id, Hit.visitor, Recipient.recipient)
        .join(Hit, (Hit.pixel_number == pixel_number) & (Hit.profile == Profile.id))
        .outerjoin(
            Recipient,
            (Recipient.pixel_number == pixel_number) & (Recipient.visitor == Hit.visitor),
        )
        .where(Hit.id.in_(ids))
        .order_by(Hit.id)
    )
    for *stored, id, visitor, recipient in db.session.execute(statement):
        source = Source(*stored)
        known = {**values_of(source), "recipient": recipient}
        yield Event(id, _at(id), visitor, recipient, source, known)


def _at(hit_id: int) -> datetime:
    return from_milliseconds(hit_id >> HIT_ID_SHIFT)


def _year_earlier(question: Question) -> tuple[datetime, datetime]:
    """Return the same days and times of the year before, in the question's zone.

    29 February is the 28th; where a range only ends on it, the day after the 28th.
    """
    start, end = (at.astimezone(question.zone) for at in (question.start, question.end))
    if _is_leap_day(end) and not _is_leap_day(start):
        end += timedelta(days=1)
    return _of_the_year_before(start), _of_the_year_before(end)


def _of_the_year_before(at: datetime) -> datetime:
    day = 28 if _is_leap_day(at) else at.day
    return at.replace(year=at.year - 1, day=day).astimezone(UTC)


def _is_leap_day(at: datetime) -> bool:
    return (at.month, at.day) == (2, 29)
