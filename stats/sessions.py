"""The visitors of a question one by one, as Umami lists sessions."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

import numpy as np
from sqlalchemy import select

from core.clock import from_milliseconds
from core.database import db
from models import MS_PER_DAY, Profile, Visitor
from stats import labels
from stats.days import MS_PER_HOUR, NO_VISITOR, Array
from stats.dimensions import Source
from stats.shapes import Question
from stats.view import View


class Session(NamedTuple):
    """A visitor and what they did within the range; the circumstances are those of the last hit."""

    visitor: int
    first_at: datetime
    last_at: datetime
    visits: int
    views: int
    source: Source


def sessions(question: Question, *, page: int, page_size: int) -> tuple[list[Session], int]:
    """Return a page of the visitors, the last to come first, and how many there are.

    Hits of nobody in particular are of no session, and hits that are pruned of none any more.
    """
    view = View.of(question)
    if view is None:
        return [], 0
    found = _Found.of(view)
    # All visitors of the range are counted before a page of them is named.
    there = np.flatnonzero(found.views)
    newest = there[np.lexsort((-there, -found.last_ms[there]))]
    numbers = newest[(page - 1) * page_size : page * page_size].tolist()
    return _sessions(question.pixel_number, found, numbers), len(there)


class _Found(NamedTuple):
    """What a range holds of each visitor, by the visitor's number."""

    first_ms: Array
    last_ms: Array
    visits: Array
    views: Array
    profile: Array

    @classmethod
    def of(cls, view: View) -> _Found:
        count = view.state.visitor_count + 1
        first_ms = np.full(count, np.iinfo(np.int64).max)
        last_ms, visits, views, profile = (np.zeros(count, np.int64) for _ in range(4))
        for day, columns in view.hits():
            is_known = columns.visitor != NO_VISITOR
            visitor, at = columns.visitor[is_known], columns.at[is_known].astype(np.int64)
            profiles = columns.profile[is_known]
            # Hits are sorted by hours and, within these, by visitors.
            begins, is_later = np.ones(len(at), bool), at[1:] >= at[:-1]
            begins[1:] = (visitor[1:] != visitor[:-1]) | (
                at[1:] // MS_PER_HOUR != at[:-1] // MS_PER_HOUR
            )
            visits += np.bincount(visitor[begins], minlength=count)
            views += np.bincount(visitor, minlength=count)
            if not (begins[1:] | is_later).all():
                # Those of a visit did not come in the order of their instants.
                order = np.argsort(at, kind="stable")
                visitor, at, profiles = visitor[order], at[order], profiles[order]
            at_ms = at + day * MS_PER_DAY
            np.minimum.at(first_ms, visitor, at_ms)
            # Of a place that is written more than once the last value stays.
            last_ms[visitor], profile[visitor] = at_ms, profiles
        return cls(first_ms, last_ms, visits, views, profile)


def _sessions(pixel_number: int, found: _Found, numbers: list[int]) -> list[Session]:
    keys = select(Visitor.number, Visitor.visitor).where(
        Visitor.pixel_number == pixel_number, Visitor.number.in_(numbers)
    )
    visitors = {row.number: row.visitor for row in db.session.execute(keys)}
    profiles = {int(found.profile[number]) for number in numbers}
    stored = labels.sources(pixel_number).add_columns(Profile.number)
    sources = {
        number: Source(*source)
        for *source, number in db.session.execute(stored.where(Profile.number.in_(profiles)))
    }
    return [
        Session(
            visitors[number],
            from_milliseconds(int(found.first_ms[number])),
            from_milliseconds(int(found.last_ms[number])),
            int(found.visits[number]),
            int(found.views[number]),
            sources[int(found.profile[number])],
        )
        for number in numbers
        # A visitor may have been forgotten since the days were read.
        if number in visitors and int(found.profile[number]) in sources
    ]
