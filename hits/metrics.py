"""Numbers about the service, added up over all of its workers; nothing about who was served.

They live in memory that the master makes before it forks, a slot for each worker. The files of
prometheus-client's own multi-process mode would outlive a killed server, and on a full disk a
touch of their pages ends the process (SIGBUS), which is when hits must still be answered.
A worker that takes over the slot of a dead one counts on from there, so no counter falls.
"""

from __future__ import annotations

import mmap
import threading
from bisect import bisect_left
from collections.abc import Sequence
from typing import NamedTuple

# Twice the workers that may be configured: a reload starts new ones beside the old.
SLOTS_MAX = 128
BATCH_HITS_BOUNDS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
BATCH_SECONDS_BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1, 5)

# Where each number stands in a slot; a histogram is its sum and its buckets, +Inf the last.
UNKNOWN, UNSTORED, FAILURES, WAITING, HITS = range(5)
SECONDS = HITS + len(BATCH_HITS_BOUNDS) + 2
_SLOT_NUMBERS = SECONDS + len(BATCH_SECONDS_BOUNDS) + 2
_NUMBER_BYTES = 8


class Gauge(NamedTuple):
    """A number that is told beside those of `Metrics`."""

    name: str
    meaning: str
    value: float


class Metrics:
    """Counts for one process, and tells the sums of all that were forked after it was made."""

    def __init__(self) -> None:
        memory = mmap.mmap(-1, SLOTS_MAX * _SLOT_NUMBERS * _NUMBER_BYTES)
        self._numbers = memoryview(memory).cast("d")
        self._start = 0
        self._lock = threading.Lock()

    def take_slot(self, slot: int) -> None:
        """Count in `slot` from now on; no other living process may."""
        self._start = slot * _SLOT_NUMBERS
        self.set_waiting(0)

    def count_unknown(self) -> None:
        """Count a request that named no pixel."""
        self._add(UNKNOWN)

    def count_unstored(self) -> None:
        """Count a hit that was answered 503."""
        self._add(UNSTORED)

    def count_failure(self) -> None:
        """Count a transaction of hits that failed."""
        self._add(FAILURES)

    def count_batch(self, hits: int, seconds: float) -> None:
        """Count a commit: how many hits it stored and how long it took."""
        self._observe(HITS, BATCH_HITS_BOUNDS, hits)
        self._observe(SECONDS, BATCH_SECONDS_BOUNDS, seconds)

    def set_waiting(self, hits: int) -> None:
        """Say how many hits wait for a commit."""
        self._numbers[self._start + WAITING] = hits

    def total(self, place: int) -> float:
        """Return a number of all processes."""
        return sum(self._numbers[place::_SLOT_NUMBERS])

    def _add(self, place: int, amount: float = 1) -> None:
        with self._lock:
            self._numbers[self._start + place] += amount

    def _observe(self, place: int, bounds: Sequence[float], value: float) -> None:
        with self._lock:
            self._numbers[self._start + place] += value
            self._numbers[self._start + place + 1 + bisect_left(bounds, value)] += 1
