"""How figures, shares, spans and instants are written for a reader. Pure.

A narrow no-break space (U+202F) stands in thousands and before a unit; nothing is an en dash.
"""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

NARROW = "\u202f"
NO_VALUE = "–"
TIP_CHARACTERS_MAX = 24


def number(value: float) -> str:
    """Return a count with narrow spaces between its thousands."""
    return f"{value:,.0f}".replace(",", NARROW)


def counted(count: int, noun: str, plural: str = "") -> str:
    """Return a count with its noun: `1 open`, `2 opens`."""
    return f"{number(count)} {noun if count == 1 else plural or noun + 's'}"


def percent(part: float, whole: float | None) -> str:
    """Return a part as a percentage of one decimal; nothing without a whole."""
    return f"{part / whole * 100:.1f}{NARROW}%" if whole else NO_VALUE


def shortened(text: str) -> str:
    """Return a line of a chart's tip, cut to the room that it has."""
    return text if len(text) <= TIP_CHARACTERS_MAX else f"{text[: TIP_CHARACTERS_MAX - 1]}…"


def rate(share: float | None) -> str:
    """Return a share as a percentage of one decimal."""
    return NO_VALUE if share is None else percent(share, 1)


def points(share: float, before: float) -> str:
    """Return how a rate compares with one before: `3.7 points above`.

    The rates are compared as they are written, so that nobody who subtracts finds another figure.
    """
    difference = round(round(share * 100, 1) - round(before * 100, 1), 1)
    if not difference:
        return "As many as"
    unit = "point" if abs(difference) == 1 else "points"
    return f"{abs(difference):.1f} {unit} {'above' if difference > 0 else 'below'}"


def span(seconds: float | None) -> str:
    """Return how long something took, in its two largest units: `3 h 12 min`."""
    if seconds is None:
        return NO_VALUE
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole}{NARROW}s"
    minutes = whole // 60
    if minutes < 60:
        return f"{minutes}{NARROW}min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours}{NARROW}h" + (f" {minutes}{NARROW}min" if minutes else "")
    days, hours = divmod(hours, 24)
    return f"{counted(days, 'day')}" + (f" {hours}{NARROW}h" if hours else "")


def change_in_words(value: float, before: float, noun: str) -> str:
    """Return how a count changed: `12.4 % more opens than`; empty with nothing to compare."""
    if not before:
        return ""
    difference = round((value - before) / before * 100, 1)
    if not difference:
        return f"As many {noun} as"
    word = "more" if difference > 0 else "fewer"
    return f"{abs(difference):,.1f}{NARROW}% {word} {noun} than".replace(",", NARROW)


def moment(at: datetime, zone: ZoneInfo) -> str:
    """Return an instant to the minute in a zone, as `23 Nov 2026, 09:00`."""
    return f"{day(at, zone)}, {at.astimezone(zone):%H:%M}"


def day(at: datetime, zone: ZoneInfo) -> str:
    """Return the day of an instant in a zone, as `3 Mar 2026`."""
    local = at.astimezone(zone)
    return f"{local.day} {local:%b %Y}"


def date(text: str) -> str:
    """Return a day that is stored as `2026-11-23` as `23 Nov 2026`."""
    at = datetime.fromisoformat(text)
    return f"{at.day} {at:%b %Y}"


def time_of_day(at: datetime, zone: ZoneInfo) -> str:
    """Return the clock of an instant in a zone, as `09:00`."""
    return f"{at.astimezone(zone):%H:%M}"
