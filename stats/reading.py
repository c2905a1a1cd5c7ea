"""What several questions about one pixel share: one moment, and the arrays that are read for it.

A page asks a dozen questions about the same days. Each by itself would look whether hits came
meanwhile, and read the days again; with a reading in common they are of one moment, so that no
figure contradicts another, and what one has read the others find.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from core.database import begin_snapshot, db
from stats import folding, store
from stats.days import Recent
from stats.groups import ByProfile, ByRecent
from stats.store import PixelState

Remembered = TypeVar("Remembered")

# Recent hits of several days are counted together, up to about so many.
RECENT_HITS_AT_ONCE = 100_000


class Reading:
    """A pixel's days at one moment, for as long as the session's transaction lasts.

    Whatever commits ends the moment; the next question begins another one, of which nothing is
    known yet: what was read before may have fewer visitors than what is read then.
    """

    def __init__(self, pixel_number: int, *, keeps: bool = True) -> None:
        self._pixel_number = pixel_number
        self._keeps = keeps
        self._transaction: Any = None
        self._state: PixelState | None = None
        self._kept: dict[tuple[int, ...], list[ByProfile]] = {}
        self._kept_recent: dict[tuple[int, ...], list[ByRecent]] = {}
        self._others: dict[Hashable, Any] = {}
        self._recent: dict[tuple[int, int], dict[int, Recent]] = {}
        self._days_made: frozenset[int] | None = None

    def state(self) -> PixelState | None:
        """Return the pixel's state at the moment, None for a pixel that is gone.

        The first time folds what is pending, so that the moment is of the last hit committed.
        """
        if self._transaction is None:
            folding.fold_for_question(self._pixel_number)
        # A transaction's own object can't come again for as long as it is held here.
        if self._transaction is None or db.session().get_transaction() is not self._transaction:
            # Several statements read the days, and nothing may be folded between two of them.
            begin_snapshot()
            self._state = store.state_of(self._pixel_number)
            self._kept, self._kept_recent, self._others = {}, {}, {}
            self._recent, self._days_made = {}, None
            self._transaction = db.session().get_transaction()
        return self._state

    def days_made(self) -> frozenset[int]:
        """Return the days of the pixel that have arrays."""
        if self._days_made is None:
            self._days_made = frozenset(store.days_with_arrays(self._pixel_number))
        return self._days_made

    def recent(self, first_day: int, last_day: int) -> dict[int, Recent]:
        """Return the recent hits of a range of days; days without any are left out."""
        span = first_day, last_day
        if span not in self._recent:
            found = store.read_recent(self._pixel_number, *span)
            self._recent[span] = {day: recent for day, recent in found.items() if len(recent.hits)}
        return self._recent[span]

    def profile_days(self, days: Sequence[int], *, with_members: bool) -> Iterable[ByProfile]:
        """Return totals and visitors of some days; without visitors only if none are wanted."""
        known = self._kept.get((*days,))
        if known is not None:
            return known
        found = store.read_profile_days(self._pixel_number, days, with_members=with_members)
        # One question by itself goes through its days once, and needs none of them afterwards.
        if not self._keeps or not with_members:
            return map(ByProfile, found)
        return self._kept.setdefault((*days,), [*map(ByProfile, found)])

    def once(self, key: Hashable, make: Callable[[], Remembered]) -> Remembered:
        """Return what several questions need in the same form, made by the first of them."""
        if not self._keeps:
            return make()
        if key not in self._others:
            self._others[key] = make()
        found: Remembered = self._others[key]
        return found

    def recent_days(self, days: Sequence[int], recent: dict[int, Recent]) -> Iterable[ByRecent]:
        """Return recent hits of some days, of several days together: most have few."""
        key = (*days,)
        if key not in self._kept_recent:
            self._kept_recent[key] = [*_together([(day, recent[day]) for day in days])]
        return self._kept_recent[key]


def _together(days: Iterable[tuple[int, Recent]]) -> Iterator[ByRecent]:
    some: dict[int, Recent] = {}
    count = 0
    for day, recent in days:
        some[day] = recent
        count += len(recent.hits)
        if count > RECENT_HITS_AT_ONCE:
            yield ByRecent(*store.recent_hits(some))
            some, count = {}, 0
    if some:
        yield ByRecent(*store.recent_hits(some))
