"""Opens since an instant: by hours, and each visitor's first; from days as they are kept.

Of a day whose hits are pruned nothing is known but the day: its opens count at its first instant,
or at the one that is counted from, if that is later the same day.
"""

from __future__ import annotations

from datetime import datetime

import numpy as np

from core.clock import milliseconds
from models import MS_PER_DAY
from stats import store
from stats.days import MS_PER_HOUR, NO_VISITOR, Array
from stats.shapes import Question
from stats.view import View

NO_ONE: Array = np.zeros(0, np.int64)
NEVER = np.iinfo(np.int64).max


def count(question: Question) -> tuple[int, int]:
    """Return how many hits a question is about, and how many visitors had them."""
    view = View.of(question)
    if view is None:
        return 0, 0
    tally = view.tally()
    for day in view.days_for(tally.groups):
        tally.add_views(day)
    hits, visitors, *_ = tally.columns()
    return int(hits[1]), int(visitors[1])


def count_hits(question: Question) -> int:
    """Return how many hits a question is about, which takes less than to tell whose they were."""
    view = View.of(question)
    if view is None:
        return 0
    groups, total = view.groups(), 0
    for day in view.days_for(groups, with_members=False):
        group, hits = day.hits(groups)
        total += int(hits[group > 0].sum())
    return total


def by_hour(question: Question, since: datetime, hours: int, without: Array = NO_ONE) -> Array:
    """Return how many hits of a question each of the hours since an instant has.

    `without` are the numbers of visitors who are left out.
    """
    counts, since_ms = np.zeros(hours, np.int64), milliseconds(since)
    view = View.of(question)
    if view is None:
        return counts
    # Hours since an instant are none of the clock's: hits have to be looked at, of a week at most.
    is_counted = view.groups().of_profile > 0
    is_left_out = np.zeros(view.state.visitor_count + 1, bool)
    is_left_out[without] = True
    first, last = since_ms // MS_PER_DAY, (since_ms + hours * MS_PER_HOUR) // MS_PER_DAY
    days = [day for day in store.days_of(question.pixel_number) if first <= day <= last]
    pruned = [day for day in days if day < view.state.pruned_before]
    # Of a pruned day it is known how many hits it had, and not when: its first instant counts.
    for day, summary in store.read_summaries(question.pixel_number, pruned):
        hits = summary.by_profile.hits[is_counted[summary.by_profile.profile]]
        hour = max(day * MS_PER_DAY - since_ms, 0) // MS_PER_HOUR
        if hour < hours:
            counts[hour] += int(hits.sum())
    for day, remains in store.read_remains(question.pixel_number, pruned if len(without) else []):
        pairs = remains.pairs
        hits = pairs.hits[is_counted[pairs.profile] & is_left_out[pairs.visitor]]
        hour = max(day * MS_PER_DAY - since_ms, 0) // MS_PER_HOUR
        if hour < hours:
            counts[hour] -= int(hits.sum())
    for day, columns in store.read_columns(question.pixel_number, days):
        kept = is_counted[columns.profile]
        if len(without):
            kept &= ~is_left_out[columns.visitor]
        at_ms = columns.at[kept].astype(np.int64)
        counts += in_hours(at_ms + (day * MS_PER_DAY - since_ms), hours)
    return counts


def first_of_each(question: Question, without: Array = NO_ONE) -> Array:
    """Return when each visitor's first hit of a question was, in milliseconds, in no order.

    `without` are the numbers of visitors who are left out.
    """
    view = View.of(question)
    if view is None:
        return np.zeros(0, np.int64)
    key = "firsts", question, without.tobytes()
    return view.reading.once(key, lambda: _first_of_each(view, without))


def _first_of_each(view: View, without: Array) -> Array:
    question, of_profile = view.question, view.groups().of_profile
    found = np.full(view.state.visitor_count + 1, NEVER)
    days = store.days_of(question.pixel_number)
    pruned = [day for day in days if day < view.state.pruned_before]
    for day, remains in store.read_remains(question.pixel_number, pruned):
        visitor = remains.pairs.visitor[of_profile[remains.pairs.profile] > 0]
        found[visitor] = np.minimum(found[visitor], day * MS_PER_DAY)
    for day, columns in store.read_columns(question.pixel_number, days):
        # Visitors of an earlier day are done.
        kept = (of_profile[columns.profile] > 0) & (found[columns.visitor] == NEVER)
        at_ms = columns.at[kept].astype(np.int64) + day * MS_PER_DAY
        np.minimum.at(found, columns.visitor[kept], at_ms)
    # Hits of nobody in particular are many, and none of them is anybody's first.
    found[NO_VISITOR] = NEVER
    found[without] = NEVER
    return found[found < NEVER]


def in_hours(after_ms: Array, hours: int) -> Array:
    """Return how many of some spans, in milliseconds, end in each hour from 0."""
    hour = after_ms // MS_PER_HOUR
    return np.bincount(hour[(hour >= 0) & (hour < hours)], minlength=hours)
