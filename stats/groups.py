"""A day's totals by group, from whichever of its arrays answers cheapest; no database.

A group is a value of a dimension, or all that a question is about, within what its filters let
pass: a set of profiles, of visitors, or of both. Group 0 is none.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Protocol

import numpy as np

from models import MS_PER_DAY
from stats.arithmetic import Members, join_visits, runs, visit_rows_of, visits_of
from stats.days import (
    ANY_CLASS,
    CLASSES,
    NO_VISITOR,
    PARTS,
    Array,
    Columns,
    ProfileDays,
    Remains,
    VisitorRollup,
)


@dataclass(frozen=True)
class Groups:
    """Which group a hit belongs to, by its profile and its visitor.

    `class_bit` is the one class that is wanted, or any; `by_class_only` says that nothing else
    is asked of a profile.
    """

    of_profile: Array
    of_visitor: Array | None
    by_visitor: bool
    class_bit: int
    by_class_only: bool
    # Profiles and visitors, one of which a hit must have: filters of both kinds, any of which do.
    either: tuple[Array, Array] | None = None

    def of(self, profile: Array, visitor: Array) -> Array:
        """Return the groups of hits."""
        group: Array = self.of_profile[profile]
        if self.of_visitor is None:
            return group
        other = self.of_visitor[visitor]
        if self.either is not None:
            profiles, visitors = self.either
            group = np.where(profiles[profile] | visitors[visitor], group, 0)
        return np.where(group > 0, other, 0) if self.by_visitor else np.where(other > 0, group, 0)


class Visits(NamedTuple):
    """Numbers to add to their groups; none of them is of group 0, or counts there."""

    group: Array
    visits: Array
    bounces: Array
    seconds: Array


class Day(Protocol):
    """A day, several, or some of a day's hits, as groups see them."""

    def hits(self, groups: Groups) -> tuple[Array, Array]:
        """Return groups and numbers of hits."""

    def members(self, groups: Groups) -> tuple[Array, Array]:
        """Return groups and visitors, any of them more than once."""

    def visits(self, groups: Groups) -> Iterator[Visits]:
        """Yield what adds up to the visits."""


class WholeDays(Day, Protocol):
    """One or several days that are answered whole, as buckets of days see them.

    Instants are in milliseconds since the epoch; those of a day may be its first.
    """

    def hit_times(self) -> Array:
        """Return when each of `hits` is."""

    def members_in_time(self, groups: Groups) -> tuple[Array, Array, Array]:
        """Return what `members` does, and when each is there."""


@dataclass(frozen=True)
class ByProfile:
    """Whole days, for groups of profiles."""

    days: ProfileDays

    def hits(self, groups: Groups) -> tuple[Array, Array]:
        """As `Day` says."""
        by_profile = self.days.summary.by_profile
        return groups.of_profile[by_profile.profile], by_profile.hits

    def hit_times(self) -> Array:
        """As `WholeDays` says."""
        return self.days.of_rows * MS_PER_DAY

    def members(self, groups: Groups) -> tuple[Array, Array]:
        """As `Day` says: each set of profiles is asked, and not each visitor."""
        of_set, group, counts = self._sets(groups)
        return (
            np.repeat(group, counts),
            self.days.visitor_sets.visitor[runs(self._starts[of_set], counts)],
        )

    def members_in_time(self, groups: Groups) -> tuple[Array, Array, Array]:
        """As `WholeDays` says."""
        of_set, _, counts = self._sets(groups)
        return (*self.members(groups), np.repeat(self.days.of_sets[of_set] * MS_PER_DAY, counts))

    def _sets(self, groups: Groups) -> tuple[Array, Array, Array]:
        """Return sets of profiles, each as often as it has groups, these, and their visitors."""
        # There are far fewer sets than visitors: a filter is put to each set once.
        of_set, group = self._of_set, groups.of_profile[self.days.visitor_sets.profile]
        # A set's profiles often are of one group.
        kept = group > 0
        kept[1:] &= (group[1:] != group[:-1]) | (of_set[1:] != of_set[:-1])
        of_set, group = of_set[kept], group[kept]
        return of_set, group, self.days.visitor_sets.counts[of_set].astype(np.int64)

    @cached_property
    def _of_set(self) -> Array:
        """The set of each profile of the sets; the same whatever is asked."""
        lengths = self.days.visitor_sets.lengths
        return np.repeat(np.arange(len(lengths)), lengths)

    @cached_property
    def _starts(self) -> Array:
        """Where the visitors of each set begin."""
        counts = self.days.visitor_sets.counts
        starts: Array = np.cumsum(counts, dtype=np.int64) - counts
        return starts

    def visits(self, groups: Groups) -> Iterator[Visits]:
        """As `Day` says."""
        by_profile, by_profile_set, visit_rows = self.days.summary
        yield Visits(groups.of_profile[by_profile.profile], *by_profile[2:])
        # A set's visit belongs to a group by those of its profiles that the group picks: of each
        # part of the set it is known what its bounces and seconds are.
        of_sets = groups.of_profile[by_profile_set.profiles]
        for number, part in enumerate(PARTS):
            group = of_sets[:, part[0]]
            kept = group > 0
            for place in range(of_sets.shape[1]):
                kept &= (of_sets[:, place] == group) == (place in part)
            group, visits = group[kept], by_profile_set.visits[kept]
            bounces = by_profile_set.bounces[kept, part[0]] if len(part) == 1 else visits * 0
            yield Visits(group, visits, bounces, by_profile_set.seconds[kept, number])
        # Visits with more profiles than a set has are kept one by one.
        if len(visit_rows.visit):
            group = groups.of_profile[visit_rows.profile]
            yield _one_by_one(*join_visits(group, visit_rows))


@dataclass(frozen=True)
class ByVisitor:
    """A whole day, for groups of visitors within a class."""

    day: int
    visitors: VisitorRollup

    def hits(self, groups: Groups) -> tuple[Array, Array]:
        """As `Day` says."""
        return self._group(groups), self.visitors.hits

    def members(self, groups: Groups) -> tuple[Array, Array]:
        """As `Day` says."""
        return self._group(groups), self.visitors.visitor

    def hit_times(self) -> Array:
        """As `WholeDays` says."""
        return np.full(len(self.visitors.hits), self.day * MS_PER_DAY)

    def members_in_time(self, groups: Groups) -> tuple[Array, Array, Array]:
        """As `WholeDays` says."""
        return (*self.members(groups), self.hit_times())

    def visits(self, groups: Groups) -> Iterator[Visits]:
        """As `Day` says."""
        yield Visits(self._group(groups), *self.visitors[3:])

    def _group(self, groups: Groups) -> Array:
        assert groups.of_visitor is not None
        # A row for any class stands beside those for each: exactly one of them is asked for.
        wanted = self.visitors.classes & groups.class_bit != 0
        return np.where(wanted, groups.of_visitor[self.visitors.visitor], 0)


@dataclass(frozen=True)
class ByPair:
    """A whole day whose hits are gone, for any groups."""

    day: int
    remains: Remains

    def hits(self, groups: Groups) -> tuple[Array, Array]:
        """As `Day` says."""
        pairs = self.remains.pairs
        return groups.of(pairs.profile, pairs.visitor), pairs.hits

    def members(self, groups: Groups) -> tuple[Array, Array]:
        """As `Day` says."""
        pairs = self.remains.pairs
        return groups.of(pairs.profile, pairs.visitor), pairs.visitor

    def hit_times(self) -> Array:
        """As `WholeDays` says."""
        return np.full(len(self.remains.pairs.hits), self.day * MS_PER_DAY)

    def members_in_time(self, groups: Groups) -> tuple[Array, Array, Array]:
        """As `WholeDays` says."""
        return (*self.members(groups), self.hit_times())

    def visits(self, groups: Groups) -> Iterator[Visits]:
        """As `Day` says."""
        pairs, visit_rows = self.remains
        yield Visits(groups.of(pairs.profile, pairs.visitor), *pairs[3:])
        yield _one_by_one(
            *join_visits(groups.of(visit_rows.profile, visit_rows.visitor), visit_rows)
        )


@dataclass(frozen=True)
class ByHit:
    """Any of a day's hits, for any groups; a day that is read so may be asked as a whole."""

    columns: Columns
    day: int = 0

    def hits(self, groups: Groups) -> tuple[Array, Array]:
        """As `Day` says."""
        group = groups.of(self.columns.profile, self.columns.visitor)
        return group, np.ones(len(group), np.int64)

    def members(self, groups: Groups) -> tuple[Array, Array]:
        """As `Day` says."""
        return groups.of(self.columns.profile, self.columns.visitor), self.columns.visitor

    def hit_times(self) -> Array:
        """As `WholeDays` says: the hits' own instants."""
        return self.columns.at + np.int64(self.day * MS_PER_DAY)

    def members_in_time(self, groups: Groups) -> tuple[Array, Array, Array]:
        """As `WholeDays` says."""
        return (*self.members(groups), self.hit_times())

    def visits(self, groups: Groups) -> Iterator[Visits]:
        """As `Day` says."""
        group = groups.of(self.columns.profile, self.columns.visitor)
        kept = (group > 0) & (self.columns.visitor != NO_VISITOR)
        columns = Columns(*(column[kept] for column in self.columns))
        yield _one_by_one(*join_visits(group[kept], visit_rows_of(columns)))


@dataclass(frozen=True)
class ByRecent:
    """Recent hits of any whole days, for any groups, and what they take the place of.

    The arrays of a day know each visit as it was without its recent hits. These visits are counted
    again with all of their hits, and what the arrays say of them is taken off: a visitor's hits of
    one hour are all in, or all out, so that both are exact.
    """

    columns: Columns
    replaced: Columns

    def hits(self, groups: Groups) -> tuple[Array, Array]:
        """As `Day` says."""
        return ByHit(self.columns).hits(groups)

    def members(self, groups: Groups) -> tuple[Array, Array]:
        """As `Day` says."""
        return ByHit(self.columns).members(groups)

    def hit_times(self) -> Array:
        """As `WholeDays` says: the hits' own instants."""
        return self.columns.at

    def members_in_time(self, groups: Groups) -> tuple[Array, Array, Array]:
        """As `WholeDays` says."""
        return (*self.members(groups), self.columns.at)

    def visits(self, groups: Groups) -> Iterator[Visits]:
        """As `Day` says."""
        # First with all of its hits, then less what it was: the two may be of different groups.
        yield _visits_in(self._with_replaced, groups)
        if len(self.replaced.at):
            group, *counts = _visits_in(self.replaced, groups)
            yield Visits(group, *(-numbers.astype(np.int64) for numbers in counts))

    @cached_property
    def _with_replaced(self) -> Columns:
        if not len(self.replaced.at):
            return self.columns
        return Columns(*map(np.concatenate, zip(self.replaced, self.columns, strict=True)))


def _visits_in(columns: Columns, groups: Groups) -> Visits:
    group = groups.of(columns.profile, columns.visitor)
    # A hit of nobody is a page view, and belongs to no visit.
    kept = (group > 0) & (columns.visitor != NO_VISITOR)
    return _one_by_one(*visits_of(Columns(*(column[kept] for column in columns)), group[kept]))


def _one_by_one(group: Array, hits: Array, seconds: Array) -> Visits:
    return Visits(group, np.ones(len(group), np.int64), hits == 1, seconds)


class Tally:
    """Adds days up: page views, visitors, visits, bounces and seconds of each group from 1."""

    def __init__(self, groups: Groups, count: int, visitors: int) -> None:
        self.groups = groups
        self._counts = np.zeros((4, count + 1), np.int64)
        # Where a visitor is in one group only, they are in it or did not come.
        self._came = np.zeros(visitors + 1, bool)
        self._members = None if groups.by_visitor else Members(count + 1, visitors + 1)

    def add(self, day: Day) -> None:
        """Add a day."""
        self.add_views(day)
        # Groups may be met several times in a day, and numbers be taken off: all of it adds up.
        for group, *counts in day.visits(self.groups):
            for place, numbers in enumerate(counts, start=1):
                _add(self._counts[place], group, numbers)

    def add_views(self, day: Day) -> None:
        """Add only a day's page views and visitors."""
        add_hits(self._counts[0], day, self.groups)
        group, visitor = day.members(self.groups)
        if self._members:
            self._members.add(group, visitor)
        else:
            self._came[visitor[group > 0]] = True

    def columns(self) -> tuple[Array, ...]:
        """Return page views, visitors, visits, bounces, seconds, by group."""
        pageviews, visits, bounces, seconds = self._counts
        if self._members:
            visitors = self._members.counts()
        else:
            assert self.groups.of_visitor is not None
            visitors = np.bincount(self.groups.of_visitor[self._came], minlength=len(pageviews))
        return pageviews, visitors, visits, bounces, seconds


def add_hits(totals: Array, day: Day, groups: Groups) -> None:
    """Add a day's hits to the totals of their groups."""
    _add(totals, *day.hits(groups))


def class_bit(name: str) -> int:
    """Return the bit of a class; of any other name, that of whatever class."""
    return 1 << CLASSES.index(name) if name in CLASSES else ANY_CLASS


def _add(totals: Array, group: Array, counts: Array) -> None:
    """Add numbers to their groups; what is in none is in group 0, which nobody reads."""
    # For few rows a table of all groups would be made and added for nothing.
    if len(group) < len(totals):
        np.add.at(totals, group, counts.astype(np.int64))
    else:
        totals += np.bincount(group, counts, len(totals)).astype(np.int64)
