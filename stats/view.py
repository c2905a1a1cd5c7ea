"""One question put to the days it spans: which of them, in which form, and the hits at the ends."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from sqlalchemy import ColumnElement, Select, literal, select, tuple_

from core.clock import from_milliseconds, milliseconds
from core.database import begin_snapshot, db
from models import HIT_ID_SHIFT, MS_PER_DAY, Hit, Profile, Recipient, Visitor
from stats import folding, labels, store
from stats.arithmetic import between
from stats.buckets import Buckets
from stats.buckets import Unit as Unit
from stats.days import (
    NO_VISITOR,
    NO_VISITOR_SETS,
    Array,
    Columns,
    Hours,
    Quarters,
    VisitorRollup,
    VisitorSets,
)
from stats.dimensions import Source, values_of
from stats.groups import ByHit, ByPair, ByProfile, ByVisitor, Day, Groups, Tally, class_bit
from stats.instants import INSTANT_MS, dated
from stats.labels import Labels, Words
from stats.series import Series
from stats.shapes import Event, Filter, Question
from stats.store import State

HITS_READ_AT_ONCE = 1_000


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
    state: State
    labels: Labels

    @classmethod
    def of(cls, question: Question, *dimensions: str) -> View | None:
        """Fold what is pending, and read the words; None for a pixel that is gone."""
        folding.fold_for_question(question.pixel_number)
        begin_snapshot()
        state = store.state_of(question.pixel_number)
        if state is None:
            return None
        asked = {*dimensions, *(each.dimension for each in question.filters)}
        words = labels.of_pixel(
            question.pixel_number,
            state.revision,
            state.profile_count,
            state.visitor_count if "recipient" in asked else None,
        )
        return cls(question, state, words)

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
        of_profile = np.ones(self.state.profile_count + 1, np.int64)
        of_profile[0] = 0
        if hit_class != "all":
            of_profile *= self._matching(Filter("class", "eq", (hit_class,)))
        of_visitor = np.ones(self.state.visitor_count + 1, np.int64)
        of_people = [self._matching(each) for each in filters if each.dimension == "recipient"]
        others = [self._matching(each) for each in filters if each.dimension != "recipient"]
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
        asked = [dimension, *(each.dimension for each in filters)]
        return Groups(
            of_profile,
            of_visitor if "recipient" in asked else None,
            by_visitor,
            class_bit(hit_class),
            by_class_only=not {*asked} - {"", "recipient"},
            either=either,
        )

    def days_for(self, groups: Groups) -> Iterator[Day]:
        """Yield every day of the range: whole ones as they are kept, the ends from their hits."""
        whole, partial = self._days()
        for _, found in itertools.chain(self._whole(whole, groups), self._hits(partial)):
            yield found

    def by_bucket(self, buckets: Buckets, unit: Unit) -> tuple[Array, Array]:
        """Return page views and visitors by the place of a bucket's label."""
        tally = Series(buckets, self.state.visitor_count)
        groups = self.groups()
        whole, partial = self._days()
        single = [day for day in whole if tally.is_single(day) or day < self.state.pruned_before]
        split = sorted({*whole} - {*single})
        for day, found in self._whole(single, groups):
            tally.add_single(day, found, groups)
        if tally.is_by_quarter and not self.question.filters:
            for day, quarters in store.read(Quarters, self.question.pixel_number, split):
                tally.add_quarters(day, quarters, groups)
        elif unit == "hour" and tally.is_by_hour and groups.of_visitor is None:
            for day, hours in store.read(Hours, self.question.pixel_number, split):
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

    def hits(self) -> Iterator[tuple[int, Columns]]:
        """Yield each day's matching hits, of those that are still stored."""
        groups = self.groups()
        whole, partial = self._days()
        kept = [day for day in whole if day >= self.state.pruned_before]
        for day, found in self._hits(sorted((*kept, *partial))):
            group, _ = found.hits(groups)
            yield day, Columns(*(column[group > 0] for column in found.columns))

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
        start = day * MS_PER_DAY
        places_of = list(self.places(Place(start + oldest, -1), start + newest))[::-1]
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
        return heapq.merge(*((place.id for place in each) for each in (undated_ones, dated_ones)))

    def _scan(self, way: Callable[[Place], Way], after: Place) -> Iterator[Place]:
        """Yield the places of the matching hits that one way of reading finds, in its order."""
        groups = self.groups()
        numbers = _numbers(self.question.pixel_number, groups.of_visitor is not None)
        numbers = numbers.where(Hit.id <= self.state.folded_through)
        while True:
            condition, order = way(after)
            rows = db.session.execute(numbers.where(condition).order_by(*order)).all()
            for at_ms, id, profile, visitor in rows:
                after = Place(at_ms, id)
                if profile and groups.of(np.array(profile), np.array(visitor or NO_VISITOR)) > 0:
                    yield after
            if len(rows) < HITS_READ_AT_ONCE:
                return

    def _days(self) -> tuple[list[int], list[int]]:
        """Return the days of the range that are answered whole, and its ends from their hits."""
        whole, partial = [], []
        for day in store.days_of(self.question.pixel_number):
            start = day * MS_PER_DAY
            end = min(start + MS_PER_DAY - 1, self.state.newest_ms)
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
            visitor_sets = store.read(VisitorSets, pixel_number, days if with_members else [])
            for day, summary in store.read_summaries(pixel_number, days):
                yield (
                    day,
                    ByProfile(summary, next(visitor_sets)[1] if with_members else NO_VISITOR_SETS),
                )
            return
        pruned = [day for day in days if day < self.state.pruned_before]
        for day, remains in store.read_remains(pixel_number, pruned):
            yield day, ByPair(remains)
        kept = [day for day in days if day >= self.state.pruned_before]
        if groups.by_class_only:
            for day, visitors in store.read(VisitorRollup, pixel_number, kept):
                yield day, ByVisitor(visitors)
        else:
            yield from self._hits(kept)

    def _hits(self, days: list[int]) -> Iterator[tuple[int, ByHit]]:
        """Yield those hits of days that are in the range."""
        for day, columns in store.read(Columns, self.question.pixel_number, days):
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


def _numbers(pixel_number: int, with_visitors: bool) -> Select[Any]:
    """Return the statement for the next hits with the numbers of their profiles and visitors."""
    statement = (
        select(INSTANT_MS, Hit.id, Profile.number)
        .add_columns(Visitor.number if with_visitors else literal(NO_VISITOR))
        .join(Profile, (Profile.pixel_number == Hit.pixel_number) & (Profile.id == Hit.profile))
        .where(Hit.pixel_number == pixel_number)
        .limit(HITS_READ_AT_ONCE)
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
