"""The questions that are asked of a pixel's hits, and their answers.

A hit of nobody in particular (privacy, or Do Not Track) counts as a page view and belongs to no
visitor and no visit. A visit is a visitor's hits within one UTC clock hour; a bounce is a visit
of one hit; a visit's time is that from its first hit to its last, in whole seconds.

Whole UTC days are answered from their summaries, the ends of a range from its hits. Of a day
whose hits are pruned only the summary is left: it counts as a whole, at its first instant.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Literal

import numpy as np
from sqlalchemy import func, select, union

from core.clock import from_milliseconds, milliseconds
from core.database import begin_snapshot, db
from hits.agent_names import OTHER
from models import MS_PER_DAY, Hit, Profile, Visitor
from stats import folding, store
from stats.buckets import Unit as Unit
from stats.buckets import buckets
from stats.buckets import widened as widened_unit
from stats.days import Array
from stats.groups import Groups, Tally, add_hits
from stats.instants import dated, ids_at, undated
from stats.labels import LIMITED, Words
from stats.shapes import BreakdownRow, Event, Filter, Leader, Point, Question, Totals, Views
from stats.view import HITS_READ_AT_ONCE, Place, View, events_by_id

ACTIVE_MINUTES = 5
VALUES_MAX = 10
# A day's arrays take as long to be opened as the hits of so many bytes of them to be looked at.
DAY_BYTES_READ_MIN = 20_000
# So many are looked up by one statement.
INSTANTS_AT_ONCE = 500


def totals(question: Question) -> Totals:
    """Return the totals of a question's hits."""
    view = View.of(question)
    if view is None:
        return Totals()
    tally = view.tally()
    for day in view.days_for(tally.groups):
        tally.add(day)
    return Totals(*(int(column[1]) for column in tally.columns()))


def limited_count(question: Question) -> int:
    """Return how many hits of a question have `other` in place of what is not kept of them."""
    view = View.of(question)
    if view is None or len(view.words(LIMITED).words) == 1:
        return 0
    limited = Filter(LIMITED, "eq", (OTHER,))
    return totals(replace(question, filters=(*question.filters, limited))).pageviews


def series(question: Question, unit: Unit, *, filled: bool) -> list[Point]:
    """Return page views and visitors by minute, hour, half day, day, month or year of the zone.

    Buckets without hits are left out unless `filled`. A clock hour that comes twice, when clocks
    go back, is one bucket.
    """
    cut = buckets(question.start, question.end, question.zone, unit)
    view = View.of(question)
    none = np.zeros(len(cut.labels) + 1, np.int64)
    pageviews, visitors = view.by_bucket(cut, unit) if view else (none, none)
    return [
        Point(label, int(views), int(count))
        for label, views, count in zip(cut.labels, pageviews[1:], visitors[1:], strict=True)
        if views or filled
    ]


def page_views(question: Question, unit: Unit) -> list[int]:
    """Return the page views of each bucket of `series`, which takes less than whose they were."""
    cut = buckets(question.start, question.end, question.zone, unit)
    view = View.of(question)
    if view is None:
        return [0] * len(cut.labels)
    pageviews: list[int] = view.by_bucket(cut, unit, with_visitors=False)[0][1:].tolist()
    return pageviews


def clipped(question: Question) -> Question | None:
    """Return the same question of the part of its range that has hits, None if it has none."""
    known = date_range(question.pixel_number)
    if known is None:
        return None
    start, end = max(question.start, known[0]), min(question.end, known[1])
    return replace(question, start=start, end=end) if start <= end else None


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
) -> list[BreakdownRow]:
    """Return the values of a dimension, by visitors, then page views, then name.

    `search` is part of a value, whatever its case.
    """
    rows = _rows(question, dimension, search, offset + limit, by_visitors=True)
    return sorted(rows, key=_by_visitors)[offset : offset + limit]


def leaders(
    question: Question, dimensions: Collection[str], *, limit: int
) -> dict[str, list[Leader]]:
    """Return the first values of several dimensions, by page views, then name, at one reading.

    Whose they were is left out: to count visitors takes most of a breakdown's time.
    """
    view = View.of(question, *dimensions)
    if view is None:
        return {dimension: [] for dimension in dimensions}
    groups = {dimension: view.groups(dimension) for dimension in dimensions}
    found = {
        dimension: np.zeros(len(view.words(dimension).words), np.int64) for dimension in dimensions
    }
    # Most dimensions are of profiles: their days are read once for all of them.
    by_source = sorted(dimensions, key=lambda dimension: _source(groups[dimension]))
    for _, alike in itertools.groupby(by_source, lambda dimension: _source(groups[dimension])):
        names = list(alike)
        for day in view.days_for(groups[names[0]], with_members=False):
            for name in names:
                add_hits(found[name], day, groups[name])
    return {
        dimension: _leaders(view.words(dimension), found[dimension], limit)
        for dimension in dimensions
    }


def by_class(question: Question) -> dict[str, Views]:
    """Return the page views and visitors of each class that a question's hits have."""
    view = View.of(question, "class")
    if view is None:
        return {}
    tally = view.tally("class")
    for day in view.days_for(tally.groups):
        tally.add_views(day)
    counts = zip(*(column.tolist() for column in tally.columns()[:2]), strict=True)
    words = view.words("class").words
    found = zip(words, counts, strict=True)
    return {name: Views(*numbers) for name, numbers in found if name and numbers[0]}


def _source(groups: Groups) -> tuple[bool, bool]:
    """Return what groups have in common that can be told from the same days."""
    of_profiles = groups.of_visitor is None
    return of_profiles, not of_profiles and groups.by_class_only


def _leaders(of_dimension: Words, pageviews: Array, limit: int) -> list[Leader]:
    # Value 0 stands for hits that have none.
    pageviews[0] = 0
    places = _highest(pageviews, limit).tolist()
    rows = [Leader(of_dimension.words[place] or "", int(pageviews[place])) for place in places]
    return sorted(rows, key=_by_pageviews)[:limit]


def _by_visitors(row: BreakdownRow) -> tuple[int, int, str]:
    return -row.visitors, -row.pageviews, row.name


def _by_pageviews(row: BreakdownRow | Leader) -> tuple[int, str]:
    return -row.pageviews, row.name


def values(question: Question, dimension: str, search: str = "") -> list[tuple[str, int]]:
    """Return the few values of a dimension that have the most page views, and these."""
    rows = _rows(question, dimension, search, VALUES_MAX, by_visitors=False)
    rows.sort(key=_by_pageviews)
    return [(row.name, row.pageviews) for row in rows[:VALUES_MAX]]


def active(pixel_number: int, now: datetime) -> int:
    """Return how many visitors opened within the last minutes."""
    last_ms = milliseconds(now)
    first_ms = last_ms - ACTIVE_MINUTES * 60_000
    opened = (
        select(Hit.visitor)
        .join(Profile, (Profile.pixel_number == Hit.pixel_number) & (Profile.id == Hit.profile))
        .where(Hit.pixel_number == pixel_number, Profile.hit_class == "open")
    )
    # Each half is a range of a key.
    halves = (opened.where(way(first_ms, last_ms)) for way in (undated, dated))
    visitors = union(*halves).subquery().c.visitor
    return db.session.scalar(select(func.count(visitors))) or 0


def date_range(pixel_number: int) -> tuple[datetime, datetime] | None:
    """Return the instants of the first and the last hit, None without any.

    For hits that are pruned, the start of their UTC day stands.
    """
    folding.fold_for_question(pixel_number)
    begin_snapshot()
    # Only the first day and the last have to be looked into.
    days = store.days_of(pixel_number)
    edges = {day: np.zeros(1, np.int64) for day in days[:1] + days[-1:]}
    edges.update((day, hits.at) for day, hits in store.read_columns(pixel_number, [*edges]))
    instants = [
        day * MS_PER_DAY + int(edge) for day, at in edges.items() for edge in (at.min(), at.max())
    ]
    return (
        (from_milliseconds(min(instants)), from_milliseconds(max(instants))) if instants else None
    )


def newest_id(pixel_number: int) -> int | None:
    """Return the id of a pixel's newest hit that is still stored, one look at the key."""
    return db.session.scalar(select(func.max(Hit.id)).where(Hit.pixel_number == pixel_number))


def has_reason(pixel_number: int, reason: str) -> bool:
    """Tell whether any kind of a pixel's hits has a reason; only its kinds are looked at."""
    found = select(Profile.id).where(Profile.pixel_number == pixel_number, Profile.reason == reason)
    return db.session.scalar(found.limit(1)) is not None


def event_count(question: Question) -> int:
    """Return how many hits of a question can be listed."""
    view = View.of(question)
    return sum(count for _, count in view.hit_counts()) if view else 0


def events(question: Question, *, page: int = 1, page_size: int = 20) -> list[Event]:
    """Return a page of the hits of a question, the newest first."""
    view = View.of(question)
    if view is None:
        return []
    skipped, ids = (page - 1) * page_size, list[int]()
    if (few := view.newest_few(skipped + page_size)) is not None:
        return events_by_id(question.pixel_number, few[skipped:])
    # A page far back is found by counts, and only its own days are looked into.
    for day, count in reversed(view.hit_counts()):
        if skipped >= count:
            skipped -= count
            continue
        ids += view.newest_ids(day, skipped, page_size - len(ids))
        skipped = 0
        if len(ids) == page_size:
            break
    return events_by_id(question.pixel_number, ids)


def events_after(question: Question, after: int, *, limit: int) -> list[Event]:
    """Return the first hits of a question whose id is above `after`, in the order of commits."""
    view = View.of(question)
    if view is None:
        return []
    ids = itertools.islice(view.ids_after(after), limit)
    return events_by_id(question.pixel_number, list(ids))


def export(question: Question) -> Iterator[Event]:
    """Yield every hit of a question, the oldest first, in constant memory.

    Each chunk is read by itself, so that a slow reader holds nothing open.
    """
    view = View.of(question)
    if view is None:
        return
    done = Place(view.first_kept_ms, -1)
    while some := list(itertools.islice(view.places(done, view.last_ms), HITS_READ_AT_ONCE)):
        found = events_by_id(question.pixel_number, [place.id for place in some])
        db.session.commit()
        yield from found
        done = some[-1]


def events_of_visitor(pixel_number: int, visitor: int) -> list[Event]:
    """Return all hits of a visitor that are stored, in the order of commits.

    Days tell when they were: an index of hits by their visitors would make each hit dearer. Where
    days are many and small, to go through the hits takes less.
    """
    state = store.state_of(pixel_number)
    if state is None:
        return []
    is_theirs = (Hit.pixel_number == pixel_number) & (Hit.visitor == visitor)
    ids = select(Hit.id).where(is_theirs)
    days = store.days_of(pixel_number)
    if store.bytes_of_hits(pixel_number) < len(days) * DAY_BYTES_READ_MIN:
        return events_by_id(pixel_number, sorted(db.session.scalars(ids)))
    found: set[int | None] = {*db.session.scalars(ids.where(Hit.id > state.folded_through))}
    instants = _instants_of(pixel_number, visitor, days)
    for start in range(0, len(instants), INSTANTS_AT_ONCE):
        for statement in ids_at(instants[start : start + INSTANTS_AT_ONCE], is_theirs):
            found.update(db.session.scalars(statement))
    return events_by_id(pixel_number, sorted(id for id in found if id is not None))


def _instants_of(pixel_number: int, visitor: int, days: list[int]) -> list[int]:
    number = db.session.scalar(
        select(Visitor.number).where(
            Visitor.pixel_number == pixel_number, Visitor.visitor == visitor
        )
    )
    # Who has no number has no hit that was folded.
    instants: set[int] = set()
    for day, columns in store.read_columns(pixel_number, days if number else []):
        at_ms = columns.at[columns.visitor == number] + np.int64(day * MS_PER_DAY)
        instants.update(at_ms.tolist())
    return sorted(instants)


def _rows(
    question: Question, dimension: str, search: str, count: int, *, by_visitors: bool
) -> list[BreakdownRow]:
    """Return the first `count` rows of a breakdown, unsorted, and those that equal the last."""
    view = View.of(question, dimension)
    if view is None:
        return []
    tally = view.tally(dimension)
    for day in view.days_for(tally.groups):
        tally.add(day)
    return _first(view.words(dimension), tally, search, count, by_visitors=by_visitors)


def _first(
    of_dimension: Words, tally: Tally, search: str, count: int, *, by_visitors: bool
) -> list[BreakdownRow]:
    """Return the first `count` rows of what is tallied, unsorted, and those that equal the last."""
    words, columns = of_dimension.words, np.stack(tally.columns())
    pageviews, visitors = columns[:2]
    rank = pageviews + (visitors << _RANK_BITS if by_visitors else 0)
    # Value 0 stands for hits that have none.
    rank[0] = 0
    if search:
        folded = search.casefold()
        rank *= np.array([word is not None and folded in word.casefold() for word in words])
    places = _highest(rank, count).tolist()
    return [BreakdownRow(words[place] or "", *columns[:, place].tolist()) for place in places]


def _highest(rank: Array, count: int) -> Array:
    """Return the places of the first `count`, unsorted, and of those that equal the last."""
    places = np.flatnonzero(rank)
    if len(places) > count:
        least = np.partition(rank[places], -count)[-count]
        # Those that equal the last stay, since names decide among them.
        places = places[rank[places] >= least]
    return places


# More page views than a question can be about.
_RANK_BITS = 36


def _year_earlier(question: Question) -> tuple[datetime, datetime]:
    """Return the same days and times of the year before, in the question's zone."""
    start, end = (at.astimezone(question.zone) for at in (question.start, question.end))
    earlier = _of_the_year_before(start)
    # From noon of a 28th to the morning of the 29th there is nothing left of the range.
    return earlier, max(earlier, _of_the_year_before(end))


def _of_the_year_before(at: datetime) -> datetime:
    # A year without a 29 February has the 28th for it, at either end of a range, as Umami has it.
    day = 28 if (at.month, at.day) == (2, 29) else at.day
    return at.replace(year=at.year - 1, day=day).astimezone(UTC)
