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
from collections.abc import Iterable, Iterator, Sequence

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

# Twice the workers that may be configured: a reload starts new ones beside the old.
SLOTS_MAX = 128
RESULTS = ("stored", "unknown", "unstored")
BATCH_HITS_BOUNDS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
BATCH_SECONDS_BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1, 5)

# Where each number stands in a slot; a histogram is its sum and its buckets, +Inf the last.
_UNKNOWN, _UNSTORED, _FAILURES, _WAITING, _HITS = range(5)
_SECONDS = _HITS + len(BATCH_HITS_BOUNDS) + 2
_SLOT_NUMBERS = _SECONDS + len(BATCH_SECONDS_BOUNDS) + 2
_NUMBER_BYTES = 8


class _Families(Collector):
    """Families that are known already."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


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
        self._add(_UNKNOWN)

    def count_unstored(self) -> None:
        """Count a hit that was answered 503."""
        self._add(_UNSTORED)

    def count_failure(self) -> None:
        """Count a transaction of hits that failed."""
        self._add(_FAILURES)

    def count_batch(self, hits: int, seconds: float) -> None:
        """Count a commit: how many hits it stored and how long it took."""
        self._observe(_HITS, BATCH_HITS_BOUNDS, hits)
        self._observe(_SECONDS, BATCH_SECONDS_BOUNDS, seconds)

    def set_waiting(self, hits: int) -> None:
        """Say how many hits wait for a commit."""
        self._numbers[self._start + _WAITING] = hits

    def text(self, others: Iterable[Metric] = ()) -> bytes:
        """Return all numbers in Prometheus' text format, and those of other families."""
        registry = CollectorRegistry()
        registry.register(_Families([*self.collect(), *others]))
        return generate_latest(registry)

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily]:
        """Yield the families, as prometheus-client has them."""
        hits = CounterMetricFamily(
            "pixelkeep_hits", "Image requests by what became of the hit.", labels=["result"]
        )
        for result, number in zip(
            RESULTS,
            (self._sum(_HITS), self._sum(_UNKNOWN), self._sum(_UNSTORED)),
            strict=True,
        ):
            hits.add_metric([result], number)
        yield hits
        yield CounterMetricFamily(
            "pixelkeep_commit_failures",
            "Transactions of hits that failed.",
            value=self._sum(_FAILURES),
        )
        yield GaugeMetricFamily(
            "pixelkeep_hits_waiting",
            "Hits that wait for a commit now.",
            value=self._sum(_WAITING),
        )
        yield self._histogram(
            "pixelkeep_commit_hits", "Hits in a commit.", _HITS, BATCH_HITS_BOUNDS
        )
        yield self._histogram(
            "pixelkeep_commit_seconds",
            "Time from the writers' line to the commit.",
            _SECONDS,
            BATCH_SECONDS_BOUNDS,
        )

    def _histogram(
        self, name: str, text: str, place: int, bounds: Sequence[float]
    ) -> HistogramMetricFamily:
        below, buckets = 0.0, []
        for offset, bound in enumerate((*map(float, bounds), "+Inf")):
            below += self._sum(place + 1 + offset)
            buckets.append((str(bound), below))
        return HistogramMetricFamily(name, text, buckets=buckets, sum_value=self._sum(place))

    def _add(self, place: int, amount: float = 1) -> None:
        with self._lock:
            self._numbers[self._start + place] += amount

    def _observe(self, place: int, bounds: Sequence[float], value: float) -> None:
        with self._lock:
            self._numbers[self._start + place] += value
            self._numbers[self._start + place + 1 + bisect_left(bounds, value)] += 1

    def _sum(self, place: int) -> float:
        return sum(self._numbers[place::_SLOT_NUMBERS])
