"""One question put to the days it spans: which of them, in which form, and the hits at the ends."""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from sqlalchemy import ColumnElement, Select, and_, literal, select, tuple_

from core.clock import from_milliseconds, milliseconds
from core.database import db
from models import HIT_ID_SHIFT, MS_PER_DAY, Hit, Profile, Recipient, Visitor
from stats import labels, store
from stats.arithmetic import between
from stats.buckets import Buckets
from stats.buckets import Unit as Unit
from stats.days import (
    NO_VISITOR,
    Array,
    Columns,
    Hours,
    Quarters,
    Recent,
    VisitorRollup,
)
from stats.dimensions import Source, values_of
from stats.groups import (
    ByHit,
    ByPair,
    ByVisitor,
    Day,
    Groups,
    Tally,
    WholeDays,
    class_bit,
)
from stats.instants import INSTANT_MS, dated, undated
from stats.labels import Labels, Words
from stats.reading import Reading
from stats.series import Series
from stats.shapes import Event, Filter, Question
from stats.store import PixelState

HITS_READ_AT_ONCE = 1_000
# Of so many times the hits of a page, and some more, most questions are about enough.
FEW_TIMES, FEW_HITS = 4, 100


# A condition and the order to read in, which is that of a key.
Way = tuple[ColumnElement[bool], Sequence[Any]]


class Place(NamedTuple):
    """Where a hit is in time: its instant in milliseconds, and its id among its equals."""

    at_ms: int
    id: int


@dataclass(frozen=True)
class View:
    """A question before the words and the days that it is about."""

    question: Question
    state: PixelState
    labels: Labels
    reading: Reading

    @classmethod
    def of(cls, question: Question, *dimensions: str) -> View | None:
        """Fold what is pending, and read the words; None for a pixel that is gone."""
        reading = question.reading or Reading(question.pixel_number, keeps=False)
        state = reading.state()
        if state is None:
            return None
        asked = {*dimensions, *(condition.dimension for condition in question.filters)}
        words = labels.of_pixel(
            question.pixel_number,
            state.revision,
            state.profile_count,
            state.visitor_count if "recipient" in asked else None,
        )
        return cls(question, state, words, reading)

    @property
    def first_ms(self) -> int:
        """The first instant that is asked about, in milliseconds since the epoch."""
        return milliseconds(self.question.start)

    @property
    def last_ms(self) -> int:
        """The last instant that is asked about, in milliseconds since the epoch."""
        return milliseconds(self.question.end)

    def words(self, dimension: str) -> Words:
        """Return the words of a dimension; one that hits don't have has none."""
        if dimension == "recipient":
            return self.labels.recipients
        none = Words(np.zeros(self.state.profile_count + 1, np.int64), (None,))
        return self.labels.profiles.get(dimension, none)

    def tally(self, dimension: str = "") -> Tally:
        """Return an empty tally of a dimension's values, or of all hits as one group."""
        count = len(self.words(dimension).words) - 1 if dimension else 1
        return Tally(self.groups(dimension), count, self.state.visitor_count)

    def groups(self, dimension: str = "") -> Groups:
        """Return the groups of hits by a dimension, or one group of all that are wanted."""
        hit_class, filters = self.question.hit_class, self.question.filters
        # A filter is put to each kind of hit and each visitor once, and to no hit.
        of_profile = np.ones(self.state.profile_count + 1, np.int64)
        of_profile[0] = 0
        if hit_class != "all":
            of_profile *= self._matching(Filter("class", "eq", (hit_class,)))
        of_visitor = np.ones(self.state.visitor_count + 1, np.int64)
        of_people = [
            self._matching(condition) for condition in filters if condition.dimension == "recipient"
        ]
        others = [
            self._matching(condition) for condition in filters if condition.dimension != "recipient"
        ]
        either = None
        if self.question.any_filter and of_people and others:
            either = np.logical_or.reduce(others), np.logical_or.reduce(of_people)
        else:
            combine = np.logical_or if self.question.any_filter else np.logical_and
            if of_people:
                of_visitor *= combine.reduce(of_people)
            if others:
                of_profile *= combine.reduce(others)
        by_visitor = dimension == "recipient"
        if by_visitor:
            of_visitor *= self.words(dimension).codes[: len(of_visitor)]
        elif dimension:
            of_profile *= self.words(dimension).codes[: len(of_profile)]
        asked = [dimension, *(condition.dimension for condition in filters)]
        return Groups(
            of_profile,
            of_visitor if "recipient" in asked else None,
            by_visitor,
            class_bit(hit_class),
            by_class_only=not {*asked} - {"", "recipient"},
            either=either,
        )

    def days_for(self, groups: Groups, *, with_members: bool = True) -> Iterator[Day]:
        """Yield every day of the range: whole ones as they are kept, the ends from their hits."""
        whole, partial = self._days()
        yield from itertools.chain(*self._as_kept(whole, groups, with_members=with_members))
        yield from self._ends(partial)

    def by_bucket(
        self, buckets: Buckets, unit: Unit, *, with_visitors: bool = True
    ) -> tuple[Array, Array]:
        """Return page views and visitors by the place of a bucket's label."""
        tally = Series(buckets, self.state.visitor_count if with_visitors else None)
        groups = self.groups()
        whole, partial = self._days()
        split = [day for day in whole if day >= self.state.pruned_before]
        split = [day for day in split if not tally.is_single(day)]
        # A day within one bucket is a number of it; of others it has to be known when hits were.
        single = sorted({*whole} - {*split})
        from_hits: list[int] = []
        if tally.is_by_quarter and not self.question.filters:
            for day, quarters in store.read(Quarters, self.question.pixel_number, split):
                has_recent = day in self.recent
                tally.add_quarters(day, quarters, groups, is_whole=not has_recent)
        elif unit == "hour" and tally.is_by_hour and groups.of_visitor is None:
            # Hours have no visitors by whom recent hits could be told from others.
            from_hits += [day for day in split if day in self.recent and day in self.days_made]
            kept = sorted({*split} - {*from_hits})
            for day, hours in store.read(Hours, self.question.pixel_number, kept):
                tally.add_hours(day, hours, groups)
        else:
            from_hits += [day for day in split if day in self.days_made]
        others = sorted({*split} - {*from_hits})
        made, recent = self._as_kept(single, groups, others=others, with_members=with_visitors)
        for whole_day in itertools.chain(made, recent):
            tally.add_whole(whole_day, groups)
        hits = (found for _, found in self._hits(sorted(from_hits)))
        for found in itertools.chain(self._ends(partial), hits):
            tally.add_hits(found.day, found.columns, groups)
        return tally.result()

    def hit_counts(self) -> list[tuple[int, int]]:
        """Return how many hits of the question each day has, of those that are still stored."""
        groups = self.groups()
        whole, partial = self._days()
        whole = [day for day in whole if day >= self.state.pruned_before]
        made, recent = self._as_kept(whole, groups, with_members=False)
        counts: Counter[int] = Counter()
        found = itertools.chain(made, recent, (found for _, found in self._hits(partial)))
        for counted_day in found:
            group, hits = counted_day.hits(groups)
            days, of_day = np.unique(counted_day.hit_times() // MS_PER_DAY, return_inverse=True)
            numbers = np.bincount(of_day, np.where(group > 0, hits, 0)).astype(np.int64)
            counts.update(dict(zip(days.tolist(), numbers.tolist(), strict=True)))
        return sorted(counts.items())

    def hits(self) -> Iterator[tuple[int, Columns]]:
        """Yield each day's matching hits, of those that are still stored."""
        groups = self.groups()
        whole, partial = self._days()
        kept = [day for day in whole if day >= self.state.pruned_before]
        for day, found in self._hits(sorted((*kept, *partial))):
            group, _ = found.hits(groups)
            yield day, Columns(*(column[group > 0] for column in found.columns))

    def newest_few(self, count: int) -> list[int] | None:
        """Return the ids of the newest matching hits, the newest first, from the hits' own table.

        None if the newest hits of all have too few that match: then days have to be looked into.
        """
        groups = self.groups()
        limit = min(count * FEW_TIMES + FEW_HITS, HITS_READ_AT_ONCE)
        numbers = self._numbers_folded(groups).limit(limit)
        found: list[tuple[int, int, int, int]] = []
        certain = Place(0, 0)
        # One statement for both kinds of hits would read in the order of neither index.
        for condition, order in (
            (undated(self.first_kept_ms, self.last_ms), (Hit.id,)),
            (dated(self.first_kept_ms, self.last_ms), (Hit.dated_ms, Hit.id)),
        ):
            newest_first = numbers.where(condition).order_by(*(column.desc() for column in order))
            rows = db.session.execute(newest_first).all()
            found += [
                (at_ms, id, profile or 0, who or NO_VISITOR) for at_ms, id, profile, who in rows
            ]
            if len(rows) == limit:
                # What is older than the last of these may be, in time, between it and others.
                certain = max(certain, Place(*found[-1][:2]))
        if not found:
            return []
        found.sort(reverse=True)
        _, _, profile, visitor = np.array(found, np.int64).T
        matching = groups.of(profile, visitor) > 0
        ids = [
            id
            for (at_ms, id, _, _), matches in zip(found, matching.tolist(), strict=True)
            if matches and (at_ms, id) >= certain
        ]
        is_all = certain == Place(0, 0)
        return ids[:count] if is_all or len(ids) >= count else None

    def newest_ids(self, day: int, skipped: int, count: int) -> list[int]:
        """Return the ids of a day's matching hits, the newest first, after some."""
        groups = self.groups()
        at = all_at = np.zeros(0, np.int64)
        for _, found in self._hits([day]):
            group, _ = found.hits(groups)
            all_at = found.columns.at.astype(np.int64)
            at = all_at[group > 0]
        if skipped >= len(at):
            return []
        # Only the two ends of the page are looked for: to sort a day's hits would take longer.
        places = [max(len(at) - skipped - count, 0), len(at) - skipped - 1]
        oldest, newest = np.partition(at, places)[places].tolist()
        spans = [(oldest, newest)]
        if np.count_nonzero((all_at >= oldest) & (all_at <= newest)) > HITS_READ_AT_ONCE:
            # Each instant is looked up where many hits lie between that don't match.
            spans = [(ms, ms) for ms in np.unique(at[(at >= oldest) & (at <= newest)]).tolist()]
        start = day * MS_PER_DAY
        places_of = [
            place
            for first, last in spans
            for place in self.places(Place(start + first, -1), start + last)
        ][::-1]
        above = skipped - int(np.count_nonzero(at > newest))
        return [place.id for place in places_of[above : above + count]]

    @property
    def first_kept_ms(self) -> int:
        """The first instant that is asked about, of those whose hits are kept."""
        return max(self.first_ms, self.state.pruned_before * MS_PER_DAY)

    def places(self, after: Place, last_ms: int) -> Iterator[Place]:
        """Yield where the matching hits are in time, in this order, after one place."""
        return heapq.merge(
            self._scan(lambda place: _undated_after(place, last_ms), after),
            self._scan(lambda place: _dated_after(place, last_ms), after),
        )

    def ids_after(self, id: int) -> Iterator[int]:
        """Yield the ids of the matching hits that were committed after one, in that order."""
        first_ms, last_ms = self.first_kept_ms, self.last_ms
        undated_ones = self._scan(
            lambda place: _undated_from(max(first_ms << HIT_ID_SHIFT, place.id + 1), last_ms),
            Place(first_ms, id),
        )
        dated_ones = self._scan(
            lambda place: (dated(first_ms, last_ms) & (Hit.id > place.id), (Hit.id,)),
            Place(first_ms, id),
        )
        return heapq.merge(
            *((place.id for place in places) for places in (undated_ones, dated_ones))
        )

    def _scan(self, way: Callable[[Place], Way], after: Place) -> Iterator[Place]:
        """Yield the places of the matching hits that one way of reading finds, in its order."""
        groups = self.groups()
        numbers = self._numbers_folded(groups).limit(HITS_READ_AT_ONCE)
        while True:
            condition, order = way(after)
            rows = db.session.execute(numbers.where(condition).order_by(*order)).all()
            yield from _matching_places(rows, groups)
            if len(rows) < HITS_READ_AT_ONCE:
                return
            after = Place(*rows[-1][:2])

    def _numbers_folded(self, groups: Groups) -> Select[Any]:
        # What is not folded yet has no numbers, and would be missed by a filter.
        numbers = _numbers(self.question.pixel_number, groups.of_visitor is not None)
        return numbers.where(Hit.id <= self.state.folded_through)

    @property
    def recent(self) -> dict[int, Recent]:
        """The recent hits of the days that the range may touch; days without any are left out."""
        return self.reading.recent(self.first_ms // MS_PER_DAY, self.last_ms // MS_PER_DAY)

    @property
    def days_made(self) -> frozenset[int]:
        """The days of the pixel that have arrays."""
        return self.reading.days_made()

    def _days(self) -> tuple[list[int], list[int]]:
        """Return the days of the range that are answered whole, and its ends from their hits."""
        whole, partial = [], []
        for day in sorted({*self.days_made, *self.recent}):
            start = day * MS_PER_DAY
            # Today is whole for a question up to now: nothing that it has comes later.
            end = min(start + MS_PER_DAY - 1, self.state.newest_ms)
            is_pruned = day < self.state.pruned_before
            # So is the day of sending for a question since then: nothing that it has came before.
            begins_within = self.first_ms <= start or (
                end >= self.first_ms and not is_pruned and not self._has_hits_before(start)
            )
            if begins_within and start <= self.last_ms and (end <= self.last_ms or is_pruned):
                whole.append(day)
            elif start <= self.last_ms and end >= self.first_ms and not is_pruned:
                partial.append(day)
        return whole, partial

    def _has_hits_before(self, start_ms: int) -> bool:
        """Tell whether hits may lie between an instant and the range: one look at each key."""
        span = start_ms, self.first_ms - 1
        # Of hits that are dated too, so that a range of the key is all that is looked at.
        of_id = Hit.id >= start_ms << HIT_ID_SHIFT, Hit.id < self.first_ms << HIT_ID_SHIFT
        ways = and_(*of_id), dated(*span)
        ours = select(Hit.id).where(Hit.pixel_number == self.question.pixel_number).limit(1)
        return self.reading.once(
            ("before", *span),
            lambda: any(db.session.scalar(ours.where(way)) is not None for way in ways),
        )

    def _as_kept(
        self,
        days: list[int],
        groups: Groups,
        *,
        others: Sequence[int] = (),
        with_members: bool = True,
    ) -> tuple[Iterable[WholeDays], Iterable[WholeDays]]:
        """Return whole days from what answers fastest, and the recent hits that these lack.

        `others` are days whose recent hits are wanted only.
        """
        made = [day for day in days if day in self.days_made]
        lacking = {*days, *others}
        if groups.of_visitor is not None and not groups.by_class_only:
            # These are read with their recent hits.
            lacking -= {*made}
        return (
            self._whole(made, groups, with_members=with_members),
            self.reading.recent_days([day for day in self.recent if day in lacking], self.recent),
        )

    def _whole(
        self, days: list[int], groups: Groups, *, with_members: bool = True
    ) -> Iterator[WholeDays]:
        """Yield days that have arrays from what answers fastest."""
        pixel_number = self.question.pixel_number
        if groups.of_visitor is None:
            yield from self.reading.profile_days(days, with_members=with_members)
            return
        # Of pruned days visitors are known by what remains, whatever is asked of them.
        pruned = [day for day in days if day < self.state.pruned_before]
        yield from itertools.starmap(ByPair, store.read_remains(pixel_number, pruned))
        kept = [day for day in days if day >= self.state.pruned_before]
        if groups.by_class_only:
            yield from itertools.starmap(ByVisitor, store.read(VisitorRollup, pixel_number, kept))
        else:
            yield from (of_day for _, of_day in self._hits(kept))

    def _hits(self, days: list[int]) -> Iterator[tuple[int, ByHit]]:
        """Yield those hits of days that are in the range."""
        for day, columns in store.read_columns(self.question.pixel_number, days):
            start = day * MS_PER_DAY
            first, last = max(self.first_ms - start, 0), min(self.last_ms - start, MS_PER_DAY)
            is_whole = last - first == MS_PER_DAY
            yield day, ByHit(columns if is_whole else between(columns, first, last), day)

    def _ends(self, days: list[int]) -> list[ByHit]:
        """Return the hits in the range of days that are not whole, two at most."""
        span = "ends", self.first_ms, self.last_ms
        return self.reading.once(span, lambda: [found for _, found in self._hits(days)])

    def _matching(self, wanted: Filter) -> Array:
        words, state = self.words(wanted.dimension), self.state
        by_visitor = wanted.dimension == "recipient"
        count = state.visitor_count if by_visitor else state.profile_count
        matching: Array = wanted.matching(words.words)[words.codes[: count + 1]]
        return matching


def _undated_after(place: Place, last_ms: int) -> Way:
    """Read hits whose ids say when they were: those of an instant come by their ids."""
    first, end = place.at_ms << HIT_ID_SHIFT, (place.at_ms + 1) << HIT_ID_SHIFT
    return _undated_from(max(first, min(place.id + 1, end)), last_ms)


def _undated_from(id: int, last_ms: int) -> Way:
    last = ((last_ms + 1) << HIT_ID_SHIFT) - 1
    return Hit.dated_ms.is_(None) & Hit.id.between(id, last), (Hit.id,)


def _dated_after(place: Place, last_ms: int) -> Way:
    """Read hits that are dated."""
    follows = tuple_(Hit.dated_ms, Hit.id) > tuple_(*map(literal, place))
    return dated(place.at_ms, last_ms) & follows, (Hit.dated_ms, Hit.id)


def _matching_places(rows: Iterable[Any], groups: Groups) -> Iterator[Place]:
    for at_ms, id, profile, visitor in rows:
        if profile and groups.of(np.array(profile), np.array(visitor or NO_VISITOR)) > 0:
            yield Place(at_ms, id)


def _numbers(pixel_number: int, with_visitors: bool) -> Select[Any]:
    """Return the statement for hits with the numbers of their profiles and visitors."""
    statement = (
        select(INSTANT_MS, Hit.id, Profile.number)
        .add_columns(Visitor.number if with_visitors else literal(NO_VISITOR))
        .join(Profile, (Profile.pixel_number == Hit.pixel_number) & (Profile.id == Hit.profile))
        .where(Hit.pixel_number == pixel_number)
    )
    if with_visitors:
        same = (Visitor.pixel_number == Hit.pixel_number) & (Visitor.visitor == Hit.visitor)
        statement = statement.outerjoin(Visitor, same)
    return statement


def events_by_id(pixel_number: int, ids: list[int]) -> list[Event]:
    """Return hits by their ids, in the order of these."""
    statement = (
        labels.sources(pixel_number)
        .add_columns(Hit.id, INSTANT_MS, Hit.visitor, Recipient.recipient)
        .join(Hit, (Hit.pixel_number == pixel_number) & (Hit.profile == Profile.id))
        .outerjoin(
            Recipient,
            (Recipient.pixel_number == pixel_number) & (Recipient.visitor == Hit.visitor),
        )
        .where(Hit.id.in_(ids))
    )
    found = {}
    for *stored, id, at_ms, visitor, recipient in db.session.execute(statement):
        source = Source(*stored)
        known = {**values_of(source), "recipient": recipient}
        found[id] = Event(id, from_milliseconds(at_ms), visitor, recipient, source, known)
    # A hit may have gone in between.
    return [found[id] for id in ids if id in found]
