"""Bursts: several people's own links of one pixel, fetched from one address within seconds.

This is how security gateways fetch, with an ordinary browser's agent. Who fetched is known here
only by a short hash of address and agent under the day's salt. `upkeep.bursts` shares what
the processes saw, for a minute, and relabels the hits.
"""

from __future__ import annotations

import threading
from bisect import bisect_left, bisect_right
from collections import defaultdict, deque
from collections.abc import Iterable
from typing import Final, NamedTuple

# What one process keeps until it is shared; beyond that the oldest are let go.
SIGHTINGS_MAX: Final = 20_000
# How long a sighting is kept to be compared with others.
KEPT_MS: Final = 60_000
# Bursts are looked for once a second or so; what is older was looked at with all around it known.
LOOKED_AT_MS: Final = 6_000
# How long before a burst and after it hardly anybody comes.
BEFORE_MS: Final = 5_000
AFTER_MS: Final = 1_500
# What goes on is a burst at so many times the people in so many times the time.
STEADY_PEOPLE: Final = 3.5
STEADY_TIME: Final = 2


class Thresholds(NamedTuple):
    """What makes a burst: so many people within so long, with hardly anybody before or after.

    Chosen by simulation (`script/bench bursts`): eight links within a second are a gateway's, while
    of a thousand people behind one address, who open within minutes, some come just before and
    just after any second. What goes on is a gateway's where more come than such an office has at
    its busiest (`STEADY_PEOPLE`). A `people` of 0 turns it off.
    """

    people: int = 8
    seconds: float = 1.5
    # Each hit that the address may be expected to make in that time asks for so many more.
    above_usual: float = 3.0


class Sighting(NamedTuple):
    """A hit of a signed link by a browser; `source` hashes its address and agent."""

    pixel_number: int
    hit: int
    visitor: int
    source: int
    at_ms: int
    in_burst: bool = False


class Sightings:
    """What one process saw and has not shared yet; any thread may note and take."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._noted: deque[Sighting] = deque(maxlen=SIGHTINGS_MAX)
        # When each source was seen last.
        self._seen_at_ms: dict[tuple[int, int], int] = {}

    def note(self, sighting: Sighting) -> None:
        """Keep a sighting until it is taken."""
        with self._lock:
            self._noted.append(sighting)

    def take(self) -> list[Sighting]:
        """Return what was noted since the last time."""
        with self._lock:
            taken = list(self._noted)
            self._noted.clear()
            for sighting in taken:
                self._seen_at_ms[sighting.pixel_number, sighting.source] = sighting.at_ms
        return taken

    def is_watching(self) -> bool:
        """Tell whether there are sources to look at."""
        return bool(self._seen_at_ms)

    def watched(self, at_ms: int) -> list[tuple[int, int]]:
        """Return the pixel and the hash of the sources whose last burst may still be found."""
        with self._lock:
            self._seen_at_ms = {
                source: seen_at_ms
                for source, seen_at_ms in self._seen_at_ms.items()
                if abs(at_ms - seen_at_ms) <= LOOKED_AT_MS
            }
            return sorted(self._seen_at_ms)


def find_bursts(
    sightings: Iterable[Sighting], thresholds: Thresholds, at_ms: int
) -> list[Sighting]:
    """Return the hits of new bursts among the sightings of a minute, at an instant."""
    if not thresholds.people:
        return []
    by_source: dict[tuple[int, int], list[Sighting]] = defaultdict(list)
    for sighting in sightings:
        by_source[sighting.pixel_number, sighting.source].append(sighting)
    return [
        hit
        for seen in by_source.values()
        if len(seen) >= thresholds.people
        for hit in _bursts_of(sorted(seen, key=_instant), thresholds, at_ms)
    ]


def _instant(sighting: Sighting) -> int:
    return sighting.at_ms


def _bursts_of(seen: list[Sighting], thresholds: Thresholds, at_ms: int) -> list[Sighting]:
    """Return what belongs to new bursts of one source's hits, which are in the order of time.

    What a burst holds is not usual, so that a gateway that goes on fetching stays one.
    """
    people, seconds, factor = thresholds
    hits = _Timeline(seen, factor)
    for last in hits.ends(at_ms):
        hits.mark(last, 1000 * seconds, people, (BEFORE_MS, AFTER_MS))
        hits.mark(last, STEADY_TIME * 1000 * seconds, STEADY_PEOPLE * people, (KEPT_MS, 0))
    return hits.found()


class _Timeline:
    """The hits of one source, in the order of time, and which of them are a burst's."""

    def __init__(self, seen: list[Sighting], above_usual: float) -> None:
        self._seen, self._above_usual = seen, above_usual
        self._instants = [sighting.at_ms for sighting in seen]
        self._in_burst = [sighting.in_burst for sighting in seen]

    def ends(self, at_ms: int) -> range:
        """Return the places of the hits that a window may end with: what followed is known."""
        return range(
            bisect_left(self._instants, at_ms - LOOKED_AT_MS),
            bisect_right(self._instants, at_ms - AFTER_MS),
        )

    def mark(self, last: int, window_ms: float, people: float, around_ms: tuple[int, int]) -> None:
        """Mark the window that ends at a place if so many people are in it.

        And more for each hit that is to be expected by those so long before it and after it.
        """
        at, (before_ms, after_ms) = self._instants, around_ms
        first = bisect_left(at, at[last] - window_ms, hi=last)
        if last - first + 1 < people:
            return
        since = bisect_left(at, at[first] - before_ms, hi=first)
        until = bisect_right(at, at[last] + after_ms, lo=last)
        around = self._others(since, first) + self._others(last + 1, until)
        expected = around * window_ms / (before_ms + after_ms)
        found = {sighting.visitor for sighting in self._seen[first : last + 1]}
        if len(found) >= people + self._above_usual * expected:
            self._in_burst[first : last + 1] = [True] * (last - first + 1)

    def _others(self, since: int, until: int) -> int:
        return self._in_burst[since:until].count(False)

    def found(self) -> list[Sighting]:
        """Return the hits of bursts that were none before."""
        return [
            sighting
            for sighting, found in zip(self._seen, self._in_burst, strict=True)
            if found and not sighting.in_burst
        ]
