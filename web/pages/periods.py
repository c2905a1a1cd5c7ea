"""The span of time that a page asks about, in the viewer's zone, and the one before it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

ChartUnit = Literal["hour", "day", "month"]

HOURS_OF_PERIOD = {"24h": 24}
DAYS = {"7d": 7, "30d": 30, "90d": 90}
SINCE = "since"
CUSTOM = "custom"
DEFAULT = "7d"
# Beyond these the bars of a chart would be too many to see.
HOURLY_DAYS_MAX = 3
DAILY_DAYS_MAX = 92
FIRST_DAY, LAST_DAY = date(2000, 1, 1), date(2199, 12, 31)


@dataclass(frozen=True)
class Period:
    """From `start` to `end`, in buckets of `unit`; `before` is the instant that compares."""

    name: str
    start: datetime
    end: datetime
    before: datetime
    unit: ChartUnit

    @property
    def end_before(self) -> datetime:
        """The end of the span before, as far into it as `end` is into this one."""
        return self.before + (self.end - self.start)

    @property
    def last_day(self) -> date:
        """The last local day."""
        return self.end.date()

    def is_running(self, at: datetime) -> bool:
        """Tell whether its last bucket is still to be filled."""
        return self.end >= at


def period_of(
    name: str,
    first: str,
    last: str,
    at: datetime,
    zone: ZoneInfo,
    sent_at: datetime | None = None,
) -> Period:
    """Return the period of a name, or of two days; what can't be read counts as the default.

    The default is the time since sending, where there is one.
    """
    local = at.astimezone(zone)
    if name in HOURS_OF_PERIOD:
        return _of_hours(name, HOURS_OF_PERIOD[name], local, zone)
    days = sorted(day for day in (_day(first), _day(last)) if day)
    if name == CUSTOM and days:
        return _of_days(name, days[0], days[-1], zone)
    if name not in DAYS and sent_at is not None and sent_at < at:
        start = sent_at.astimezone(zone)
        return Period(SINCE, start, local, start - (at - sent_at), _unit_of(at - sent_at))
    name = name if name in DAYS else DEFAULT
    today = local.date()
    whole = _of_days(name, today - timedelta(days=DAYS[name] - 1), today, zone)
    return Period(name, whole.start, local, whole.before, whole.unit)


def days_before(at: datetime, count: int, zone: ZoneInfo) -> datetime:
    """Return when the first of so many local days began, of which the last is today."""
    return _midnight(at.astimezone(zone).date() - timedelta(days=count - 1), zone)


def _of_hours(name: str, count: int, local: datetime, zone: ZoneInfo) -> Period:
    """Return the running hour and those before it, counted in time that really passed."""
    hour = local.replace(minute=0, second=0, microsecond=0).astimezone(UTC)
    start = hour - timedelta(hours=count - 1)
    before = start - timedelta(hours=count)
    return Period(name, start.astimezone(zone), local, before.astimezone(zone), "hour")


def _of_days(name: str, first: date, last: date, zone: ZoneInfo) -> Period:
    """Return whole local days, both included; a day lasts 23 or 25 hours when clocks change.

    A day that a zone left out, as Apia did the 30th of December 2011, is the one after it.
    """
    count = (last - first).days + 1
    start, end = _midnight(first, zone), _last_instant(last, zone)
    if end.astimezone(UTC) < start.astimezone(UTC):
        end = _last_instant(last + timedelta(days=1), zone)
    before = _midnight(first - timedelta(days=count), zone)
    return Period(name, start, end, before, _unit_of(timedelta(days=count)))


def _unit_of(length: timedelta) -> ChartUnit:
    if length <= timedelta(days=HOURLY_DAYS_MAX):
        return "hour"
    return "day" if length <= timedelta(days=DAILY_DAYS_MAX) else "month"


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    """Return when a local day begins, as the clocks show that instant."""
    return datetime.combine(day, time(), zone).astimezone(UTC).astimezone(zone)


def _last_instant(day: date, zone: ZoneInfo) -> datetime:
    """Return the last millisecond before the next local day begins."""
    next_day = _midnight(day + timedelta(days=1), zone).astimezone(UTC)
    return (next_day - timedelta(milliseconds=1)).astimezone(zone)


def _day(text: str) -> date | None:
    try:
        day = date.fromisoformat(text)
    except ValueError:
        return None
    return day if FIRST_DAY <= day <= LAST_DAY else None
