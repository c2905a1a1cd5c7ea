"""An independent recount: the questions of `stats`, answered one hit after the other.

It shares with `stats` the shapes of questions and answers and the meaning of a profile's words,
and none of the arithmetic.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import aliased

from core.clock import from_milliseconds, milliseconds
from core.database import db
from models import HIT_ID_SHIFT, Hit, Profile, Recipient, Text, UserAgent
from stats.buckets import Unit
from stats.dimensions import Source, values_of
from stats.shapes import BreakdownRow, Event, Filter, Leader, Point, Question, Totals, Views

MS_PER_HOUR = 3_600_000
MS_PER_DAY = 86_400_000


class Recount:
    """Answers from a list of hits; of days before `pruned_before` by whole UTC days."""

    def __init__(self, hits: list[Event], pruned_before: int = 0) -> None:
        self.hits = hits
        self.pruned_before = pruned_before

    def totals(self, question: Question) -> Totals:
        return _count(self.matching(question))

    def series(self, question: Question, unit: Unit, *, filled: bool) -> list[Point]:
        by_bucket = defaultdict(list)
        for hit in self.matching(question):
            by_bucket[_start_of(self._when(hit).astimezone(question.zone), unit)].append(hit)
        if filled:
            at = question.start
            while at < question.end:
                by_bucket[_start_of(at.astimezone(question.zone), unit)]
                at += timedelta(minutes=1 if unit == "minute" else 15)
            by_bucket[_start_of(question.end.astimezone(question.zone), unit)]
        counted = ((local, _count(hits)) for local, hits in sorted(by_bucket.items()))
        return [
            Point(local.replace(tzinfo=question.zone), count.pageviews, count.visitors)
            for local, count in counted
        ]

    def breakdown(self, question: Question, dimension: str) -> list[BreakdownRow]:
        by_value = defaultdict(list)
        for hit in self.matching(question):
            if hit.values.get(dimension):
                by_value[hit.values[dimension]].append(hit)
        rows = [BreakdownRow(value, *_count(hits)) for value, hits in by_value.items()]
        return sorted(rows, key=lambda row: (-row.visitors, -row.pageviews, row.name))

    def leaders(self, question: Question, dimension: str) -> list[Leader]:
        rows = [Leader(row.name, row.pageviews) for row in self.breakdown(question, dimension)]
        return sorted(rows, key=lambda row: (-row.pageviews, row.name))

    def by_class(self, question: Question) -> dict[str, Views]:
        rows = self.breakdown(question, "class")
        return {row.name: Views(row.pageviews, row.visitors) for row in rows}

    def listed(self, question: Question) -> list[Event]:
        """Return the hits that can still be listed, the oldest first."""
        return [hit for hit in self.matching(question) if not self._is_pruned(hit)]

    def matching(self, question: Question) -> list[Event]:
        return [
            hit
            for hit in self.hits
            if question.start <= self._when(hit) <= question.end
            and question.hit_class in ("all", hit.source.hit_class)
            and all(
                _passes(wanted, hit.values.get(wanted.dimension)) for wanted in question.filters
            )
        ]

    def _is_pruned(self, hit: Event) -> bool:
        return milliseconds(hit.at) // MS_PER_DAY < self.pruned_before

    def _when(self, hit: Event) -> datetime:
        if not self._is_pruned(hit):
            return hit.at
        return hit.at.replace(hour=0, minute=0, second=0, microsecond=0)


def stored_hits(pixel_number: int) -> list[Event]:
    """Return all hits of a pixel as they are stored, the oldest first."""
    referrer, query = aliased(Text), aliased(Text)
    statement = (
        select(Hit.id, Hit.dated_ms, Hit.visitor, Recipient.recipient)
        .add_columns(Profile.hit_class, Profile.reason, UserAgent.user_agent)
        .add_columns(Profile.country, Profile.language, Profile.hostname)
        .add_columns(referrer.value, query.value)
        .add_columns(UserAgent.browser, UserAgent.os, UserAgent.device, UserAgent.rules_version)
        .join(Profile, (Profile.pixel_number == pixel_number) & (Profile.id == Hit.profile))
        .join(UserAgent, UserAgent.id == Profile.agent)
        .outerjoin(
            Recipient,
            (Recipient.pixel_number == pixel_number) & (Recipient.visitor == Hit.visitor),
        )
        .outerjoin(
            referrer, (referrer.pixel_number == pixel_number) & (referrer.id == Profile.referrer)
        )
        .outerjoin(query, (query.pixel_number == pixel_number) & (query.id == Profile.query))
        .where(Hit.pixel_number == pixel_number)
    )
    found = [_event(*row) for row in db.session.execute(statement)]
    return sorted(found, key=lambda hit: (hit.at, hit.id))


def _passes(wanted: Filter, value: str | None) -> bool:
    if value is None:
        return False
    is_one = value in wanted.values
    has_one = any(fragment.casefold() in value.casefold() for fragment in wanted.values)
    return {"eq": is_one, "neq": not is_one, "c": has_one, "dnc": not has_one}[wanted.operator]


def _event(
    id: int, dated_ms: int | None, visitor: int | None, recipient: str | None, *stored: Any
) -> Event:
    source = Source(*stored)
    known = {**values_of(source), "recipient": recipient}
    at = from_milliseconds(id >> HIT_ID_SHIFT if dated_ms is None else dated_ms)
    return Event(id, at, visitor, recipient, source, known)


def _start_of(local: datetime, unit: Unit) -> datetime:
    """Return the wall-clock start of the bucket that holds a local instant."""
    if unit == "half-day":
        local, unit = local.replace(hour=local.hour // 12 * 12), "hour"
    units = ("minute", "hour", "day", "month", "year")
    start = {"minute": 0, "hour": 0, "day": 1, "month": 1}
    finer = {name: start[name] for name in units[: units.index(unit)]}
    return local.replace(tzinfo=None, second=0, microsecond=0, fold=0, **finer)


def _count(hits: Iterable[Event]) -> Totals:
    pageviews = 0
    visits = defaultdict(list)
    for hit in hits:
        pageviews += 1
        if hit.visitor is not None:
            visits[hit.visitor, milliseconds(hit.at) // MS_PER_HOUR].append(milliseconds(hit.at))
    return Totals(
        pageviews,
        len({visitor for visitor, _ in visits}),
        len(visits),
        sum(len(visit) == 1 for visit in visits.values()),
        sum((max(visit) - min(visit)) // 1000 for visit in visits.values()),
    )
