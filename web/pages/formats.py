"""How figures and instants are written on pages."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo


def number(value: float) -> str:
    """Return a count with thin spaces between its thousands."""
    return f"{value:,.0f}".replace(",", "\u202f")


def share_of(part: float, whole: float) -> str:
    """Return a part as a percentage."""
    return f"{part / whole:.0%}" if whole else "–"


def change(value: float, before: float) -> str:
    """Return how a figure changed, as `+12 %`; nothing where there was nothing to compare."""
    if not before:
        return ""
    percent = round((value - before) / before * 100)
    if percent == 0:
        return "±0 %"
    return f"{percent:+,d} %".replace("-", "−").replace(",", "\u202f")


def moment(at: datetime, zone: ZoneInfo) -> str:
    """Return an instant to the minute in a zone."""
    return f"{day(at, zone)}, {at.astimezone(zone):%H:%M}"


def day(at: datetime, zone: ZoneInfo) -> str:
    """Return the day of an instant in a zone, as `3 Mar 2026`."""
    local = at.astimezone(zone)
    return f"{local.day} {local:%b %Y}"


def clock(at: datetime, zone: ZoneInfo, at_present: datetime) -> str:
    """Return an instant in a zone to the second, without its day where that is today."""
    local = at.astimezone(zone)
    if local.date() == at_present.astimezone(zone).date():
        return f"{local:%H:%M:%S}"
    return f"{local.day} {local:%b, %H:%M}"


def ago(at: datetime, at_present: datetime) -> str:
    """Return how long ago an instant was, in one unit."""
    seconds = max(0, round((at_present - at).total_seconds()))
    for size, unit in ((86_400, "day"), (3_600, "hour"), (60, "minute")):
        if seconds >= size:
            count = seconds // size
            return f"{count} {unit}{'' if count == 1 else 's'} ago"
    return "just now" if seconds < 10 else f"{seconds} seconds ago"
