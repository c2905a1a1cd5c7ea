"""Time cut into buckets as the clocks of a zone show it, on the days that they change too. Pure."""

from __future__ import annotations

import bisect
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final, Literal, NamedTuple

Unit = Literal["minute", "hour", "half-day", "day", "month", "year"]

# Units too fine for a range are widened until they make no more buckets than this.
BUCKETS_MAX = 1500
SECONDS: Final[dict[Unit, int]] = {
    "minute": 60,
    "hour": 3600,
    "half-day": 43_200,
    "day": 86_400,
    "month": 28 * 86_400,
    "year": 365 * 86_400,
}
# Clocks differ from UTC by whole quarters of an hour.
QUARTER = timedelta(minutes=15)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_WIDER: Final[tuple[Unit, ...]] = ("minute", "hour", "day", "month", "year")


class Buckets(NamedTuple):
    """Labels in order, and from which millisecond on which label holds, by its place from 1."""

    labels: list[datetime]
    starts_ms: list[int]
    places: list[int]


def widened(length: timedelta, unit: Unit) -> Unit:
    """Return `unit`, or the first wider one with few enough buckets in `length`."""
    for wider in _WIDER[_WIDER.index(unit) :]:
        if length.total_seconds() / SECONDS[wider] < BUCKETS_MAX:
            return wider
    return "year"


def buckets(start: datetime, end: datetime, zone: tzinfo, unit: Unit) -> Buckets:
    """Return the buckets that a range touches, each labelled with the local instant it starts at.

    An hour that comes twice, when clocks go back, is one bucket of two pieces.
    """
    places: dict[datetime, int] = {}
    starts_ms: list[int] = []
    piece_places: list[int] = []
    pieces = _days(start, end, zone, unit) if unit in _DAYS else _steps(start, end, zone, unit)
    for at, label in pieces:
        place = places.setdefault(label, len(places) + 1)
        if not piece_places or piece_places[-1] != place:
            starts_ms.append(round(at.timestamp() * 1000))
            piece_places.append(place)
    labels = sorted(places)
    order = {places[label]: place for place, label in enumerate(labels, 1)}
    return Buckets(
        [label.replace(tzinfo=zone) for label in labels],
        starts_ms,
        [order[place] for place in piece_places],
    )


_DAYS = ("day", "month", "year")


def _steps(
    start: datetime, end: datetime, zone: tzinfo, unit: Unit
) -> Iterator[tuple[datetime, datetime]]:
    """Yield instants a bucket or less apart, with the label of each."""
    step = timedelta(minutes=1) if unit == "minute" else QUARTER
    at = start - (start - EPOCH) % step
    while at <= end:
        local = at.astimezone(zone)
        hour = local.hour // 12 * 12 if unit == "half-day" else local.hour
        minute = local.minute if unit == "minute" else 0
        yield at, datetime(local.year, local.month, local.day, hour, minute)
        at += step


def _days(
    start: datetime, end: datetime, zone: tzinfo, unit: Unit
) -> Iterator[tuple[datetime, datetime]]:
    """Yield the first instant of each local day, month or year, with its label.

    A day that a zone left out has no length, and no bucket.
    """
    label = _midnight(start.astimezone(zone), unit)
    last = end.astimezone(zone).replace(tzinfo=None)
    while label <= last:
        following = _midnight(label + timedelta(seconds=SECONDS[unit]) + _SLACK[unit], unit)
        if _instant_of(label, zone) < _instant_of(following, zone):
            yield _instant_of(label, zone), label
        label = following


# More than the longest of its kind needs, and less than two of them.
_SLACK = {"day": timedelta(0), "month": timedelta(days=3), "year": timedelta(days=1)}


def _midnight(local: datetime, unit: Unit) -> datetime:
    midnight = local.replace(tzinfo=None, fold=0, hour=0, minute=0, second=0, microsecond=0)
    if unit == "day":
        return midnight
    return midnight.replace(day=1) if unit == "month" else midnight.replace(month=1, day=1)


def _instant_of(local: datetime, zone: tzinfo) -> datetime:
    """Return when clocks first show `local`, or what comes next where they skip it."""
    aware = local.replace(tzinfo=zone)
    at = aware.astimezone(UTC)
    if at.astimezone(zone).replace(tzinfo=None, fold=0) == local:
        return at
    # Clocks skip it: they do so between these two instants, when the offset changes.
    earliest = aware.replace(fold=1).astimezone(UTC)
    minutes = range(int((at - earliest).total_seconds()) // 60 + 1)
    after = at.astimezone(zone).utcoffset()
    skipped = bisect.bisect_left(
        minutes,
        True,
        key=lambda minute: (
            (earliest + timedelta(minutes=minute)).astimezone(zone).utcoffset() == after
        ),
    )
    return earliest + timedelta(minutes=skipped)
