"""The numbers of `metrics` in Prometheus' text format.

Loaded by a process that is asked for them: prometheus-client takes memory, and most servers have
nobody who asks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from hits.metrics import (
    BATCH_HITS_BOUNDS,
    BATCH_SECONDS_BOUNDS,
    FAILURES,
    HITS,
    SECONDS,
    UNKNOWN,
    UNSTORED,
    WAITING,
    Gauge,
    Metrics,
)

RESULTS = {"stored": HITS, "unknown": UNKNOWN, "unstored": UNSTORED}


class _Families(Collector):
    """Families that are known already."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def text(metrics: Metrics, gauges: Iterable[Gauge] = ()) -> bytes:
    """Return all numbers, and those of other gauges."""
    registry = CollectorRegistry()
    others = [GaugeMetricFamily(gauge.name, gauge.meaning, value=gauge.value) for gauge in gauges]
    registry.register(_Families([*_families(metrics), *others]))
    return generate_latest(registry)


def _families(metrics: Metrics) -> Iterator[Metric]:
    hits = CounterMetricFamily(
        "pixelkeep_hits", "Image requests by what became of the hit.", labels=["result"]
    )
    for result, place in RESULTS.items():
        hits.add_metric([result], metrics.total(place))
    yield hits
    yield CounterMetricFamily(
        "pixelkeep_commit_failures",
        "Transactions of hits that failed.",
        value=metrics.total(FAILURES),
    )
    yield GaugeMetricFamily(
        "pixelkeep_hits_waiting", "Hits that wait for a commit now.", value=metrics.total(WAITING)
    )
    yield _histogram(metrics, "pixelkeep_commit_hits", "Hits in a commit.", HITS, BATCH_HITS_BOUNDS)
    yield _histogram(
        metrics,
        "pixelkeep_commit_seconds",
        "Time from the writers' line to the commit.",
        SECONDS,
        BATCH_SECONDS_BOUNDS,
    )


def _histogram(
    metrics: Metrics, name: str, meaning: str, place: int, bounds: Sequence[float]
) -> HistogramMetricFamily:
    below, buckets = 0.0, []
    for offset, bound in enumerate((*map(float, bounds), "+Inf")):
        below += metrics.total(place + 1 + offset)
        buckets.append((str(bound), below))
    return HistogramMetricFamily(name, meaning, buckets=buckets, sum_value=metrics.total(place))
