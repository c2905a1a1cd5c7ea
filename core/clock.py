"""Instants: aware UTC datetimes, kept as whole milliseconds since the epoch."""

from __future__ import annotations

from datetime import UTC, datetime


def milliseconds(instant: datetime) -> int:
    """Return the whole milliseconds since the epoch of an aware `instant`."""
    return round(instant.timestamp() * 1000)


def from_milliseconds(value: int) -> datetime:
    """Return the aware UTC instant of milliseconds since the epoch."""
    return datetime.fromtimestamp(value // 1000, UTC).replace(microsecond=value % 1000 * 1000)


def now() -> datetime:
    """Return the clock's aware UTC instant, cut to the milliseconds that are kept."""
    instant = datetime.now(UTC)
    return instant.replace(microsecond=instant.microsecond // 1000 * 1000)
