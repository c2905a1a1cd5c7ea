"""Where the shapes of a chart go. Templates draw them, in classes that the style sheet colours.

Widths are percentages, or units that the browser stretches; heights are pixels, so that type and
lines stay what they are on a phone. Pure: numbers in, numbers out.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

from web.pages.formats import NARROW, counted, moment, number, percent

HEIGHT, HEIGHT_OF_COMPARISON = 200, 260
# Below the curve: opens in each hour.
HOURS_HEIGHT = 44
GRID_LINES_MAX = 5
LABELS_MAX = 8
# A label at the end of a line keeps this far from the line and from its neighbours.
LABEL_ABOVE, LABEL_BELOW, LABEL_APART, LABEL_TOP = 12, 20, 18, 14
# Above the highest line there is room for its label.
HEADROOM = 1.12
# From here on a tip opens to the left, or it would leave the chart.
FLIPS_FROM_PERCENT = 42
# The lines of a comparison, first the one that the page is about.
LINES = ("now", "second", "third")
# How far a curve goes, and how its hours are gathered into 24 slots that widen with age.
SLOT_HOURS = {
    24: (1,) * 24,
    48: (1,) * 12 + (2,) * 6 + (4,) * 6,
    72: (2,) * 12 + (4,) * 12,
    168: (2,) * 12 + (12,) * 12,
}
LABEL_HOURS = {24: 3, 48: 6, 72: 12, 168: 24}
# Where the two bars of a bucket begin, and how wide they are.
OPENS_BAR, UNIQUE_BAR = (0.14, 0.4), (0.6, 0.26)
PART_GAP = 0.3
SPARK_TOP = 0.6
SPARK_HOURS, SPARK_STEP_HOURS, SPARK_HEIGHT = 168, 6, 28
SPARK_DAYS = 10

# How an instant is written below its bar, and in the table behind the chart.
SHORT = {"hour": "%H:%M", "day": "{day} %b", "month": "%b %Y"}
LONG = {"hour": "{day} %b %Y, %H:%M", "day": "%a {day} %b %Y", "month": "%B %Y"}


class GridLine(NamedTuple):
    """A line of the grid and what it stands for."""

    y: float
    text: str


class BarPart(NamedTuple):
    """A part of a bar that is split: its kind, and its place in percent."""

    kind: str
    x: float
    width: float


class Label(NamedTuple):
    """A label below a chart, in one line or two; a minor one goes where there is little room."""

    percent: float
    lines: tuple[str, ...]
    is_minor: bool


class EndLabel(NamedTuple):
    """The name of a line, where it ends."""

    percent: float
    y: float
    text: str
    line: str


class Dot(NamedTuple):
    """Where a slot's rule meets a line."""

    y: float
    line: str


class Slot(NamedTuple):
    """A part of the time: its place, what it says when pointed at, and the row of the table."""

    start: float
    width: float
    end: float
    tip: tuple[str, ...]
    dots: tuple[Dot, ...]
    row: tuple[str, ...]

    @property
    def flips(self) -> bool:
        """Whether the tip opens to the left."""
        return self.end > FLIPS_FROM_PERCENT

    @property
    def said(self) -> str:
        """What a screen reader says of it."""
        return f"{self.tip[0]}: {'; '.join(self.tip[1:])}"


class CurveLine(NamedTuple):
    """A line of a curve."""

    name: str
    path: str
    line: str


class Course(NamedTuple):
    """How one mailing went: people who had opened, and opens, in each hour since sending.

    `age` is in hours and ends the line; `sent` is how many people it went to.
    """

    name: str
    sent: int
    opened: Sequence[int]
    opens: Sequence[int]
    age: float

    def had_opened(self, hours: float) -> int:
        """Return how many had opened so many hours after sending."""
        return sum(self.opened[: int(hours)])

    def share(self, hours: float) -> float:
        """Return which part of the people had opened."""
        return self.had_opened(hours) / self.sent if self.sent else 0.0


class Curve(NamedTuple):
    """Lines of the share of people who had opened, by hours since sending."""

    hours: int
    height: int
    grid: list[GridLine]
    labels: list[Label]
    lines: list[CurveLine]
    end_labels: list[EndLabel]
    slots: list[Slot]
    bars: str
    bars_top: int


class Unfinished(NamedTuple):
    """A bar whose time still runs."""

    x: float
    width: float
    y: float
    height: float
    is_unique: bool


class Bucket(NamedTuple):
    """One bar: opens and, beside it, how many different people or programs made them."""

    at: datetime
    opens: int
    unique: int


class Bars(NamedTuple):
    """Bars of opens over time, a thinner one of unique opens beside each."""

    width: int
    height: int
    grid: list[GridLine]
    labels: list[Label]
    slots: list[Slot]
    opens: str
    unique: str
    unfinished: list[Unfinished]


def curve(courses: Sequence[Course], hours: int, sent_at: datetime, zone: ZoneInfo) -> Curve:
    """Lay out a mailing's course, the one before it in grey, and opens in each hour below."""
    return _curve(
        courses, ("now", "was"), hours, HEIGHT, _clock_labels(hours, sent_at, zone), sent_at, zone
    )


def comparison(courses: Sequence[Course], hours: int) -> Curve:
    """Lay out several mailings' courses by hours since sending."""
    return _curve(courses, LINES, hours, HEIGHT_OF_COMPARISON, _hour_labels(hours))


def _curve(
    courses: Sequence[Course],
    names: Sequence[str],
    hours: int,
    height: int,
    labels: list[Label],
    sent_at: datetime | None = None,
    zone: ZoneInfo | None = None,
) -> Curve:
    highest = HEADROOM * max(
        (course.share(min(course.age + 1, hours)) for course in courses), default=0.0
    )
    step = _grid_step(max(1, round(highest * 1000)), (10, 20, 50, 100, 200, 250)) / 1000
    top = step * max(1, -(-round(highest * 1000) // round(step * 1000)))
    lines = [
        CurveLine(course.name, _line(course, hours, top, height), line)
        for course, line in zip(courses, names, strict=False)
    ]
    first = courses[0]
    return Curve(
        hours=hours,
        height=height,
        grid=[
            GridLine(
                _y(step * multiple, top, height),
                f"{step * multiple:.0%}".replace("%", f"{NARROW}%"),
            )
            for multiple in range(round(top / step) + 1)
        ],
        labels=labels,
        lines=lines,
        end_labels=_end_labels(courses, names, hours, top, height, is_alone=sent_at is not None),
        slots=_slots(courses, names, hours, top, height, sent_at, zone),
        bars=_hour_bars(first.opens[:hours]),
        bars_top=max(first.opens[:hours], default=0),
    )


def _line(course: Course, hours: int, top: float, height: int) -> str:
    ends = [*range(int(min(course.age, hours)) + 1)]
    points = [f"{hour} {_y(course.share(hour), top, height):g}" for hour in ends]
    if course.age < hours:
        # The hour that is running: what came in it so far.
        points.append(f"{course.age:.2f} {_y(course.share(course.age + 1), top, height):g}")
    return f"M{'L'.join(points)}"


def _slots(
    courses: Sequence[Course],
    names: Sequence[str],
    hours: int,
    top: float,
    height: int,
    sent_at: datetime | None,
    zone: ZoneInfo | None,
) -> list[Slot]:
    found = []
    ends = list(itertools.accumulate(SLOT_HOURS[hours]))
    for end, width in zip(ends, SLOT_HOURS[hours], strict=True):
        dots = tuple(
            Dot(_y(course.share(min(end, course.age + 1)), top, height), line)
            for course, line in zip(courses, names, strict=False)
            if course.age > end - width
        )
        tip, row = _said(courses, end, width, sent_at, zone)
        found.append(
            Slot(
                start=round((end - width) / hours * 100, 2),
                width=round(width / hours * 100, 2),
                end=round(end / hours * 100, 2),
                tip=tip,
                dots=dots,
                row=row,
            )
        )
    return found


def _said(
    courses: Sequence[Course],
    end: int,
    width: int,
    sent_at: datetime | None,
    zone: ZoneInfo | None,
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return what a slot's tip says, line by line, and its row of the table."""
    after = f"+{end}{NARROW}h"
    shares = [
        percent(course.had_opened(end), course.sent) if course.age > end - width else "–"
        for course in courses
    ]
    if sent_at is None or zone is None:
        words = [
            f"{share} {course.name}" if share != "–" else f"Not yet: {course.name}"
            for course, share in zip(courses, shares, strict=True)
        ]
        return (f"{after} after sending", *words), (after, *shares)
    first, before = courses[0], courses[1:]
    at = (sent_at.astimezone(UTC) + timedelta(hours=end)).astimezone(zone)
    clock = f"{at.day} {at:%b, %H:%M}"
    then = [f"{share} {course.name}" for course, share in zip(before, shares[1:], strict=True)]
    if first.age <= end - width:
        return (f"{after} · {clock}", "Not there yet", *then), (
            *(after, moment(at, zone), "–", "–", "–"),
            *shares[1:],
        )
    opened, opens = first.had_opened(end), sum(first.opens[end - width : end])
    within = "this hour" if width == 1 else f"in {width}{NARROW}h"
    tip = (
        f"{after} · {clock}",
        f"{number(opened)} opened · {shares[0]}",
        f"{counted(opens, 'open')} {within}",
        *then,
    )
    row = (after, moment(at, zone), number(opened), shares[0], number(opens), *shares[1:])
    return tip, row


def _end_labels(
    courses: Sequence[Course],
    names: Sequence[str],
    hours: int,
    top: float,
    height: int,
    *,
    is_alone: bool,
) -> list[EndLabel]:
    """Place the names of the lines at their ends, the highest line's first, none upon another."""
    ends = sorted(
        (_y(mailing.share(min(mailing.age + 1, hours)), top, height), place)
        for place, mailing in enumerate(courses)
    )
    found, last = [], -LABEL_APART
    for order, (y, place) in enumerate(ends):
        course = courses[place]
        fits_above = y - LABEL_ABOVE >= max(last + LABEL_APART, LABEL_TOP)
        is_above = fits_above and (order == 0 or y + LABEL_BELOW > height)
        at = y - LABEL_ABOVE if is_above else max(y + LABEL_BELOW, last + LABEL_APART)
        last = round(at)
        age = min(course.age, hours)
        text = course.name
        if is_alone:
            share = percent(course.had_opened(min(course.age + 1, hours)), course.sent)
            so_far = f"{share} after {int(age)}{NARROW}h" if course.age >= 1 else share
            text = so_far if place == 0 else f"{course.name} {share}"
        elif course.age < hours:
            text = f"{course.name}, {int(age)}{NARROW}h so far"
        # A short line's name would leave the chart to the left.
        found.append(EndLabel(max(round(age / hours * 100, 2), 34), at, text, names[place]))
    return found


def _hour_bars(opens: Sequence[int]) -> str:
    highest = max(opens, default=0)
    return "".join(
        f"M{hour + 0.15:g} {HOURS_HEIGHT}V{HOURS_HEIGHT * (1 - count / highest):.1f}"
        f"h.7V{HOURS_HEIGHT}z"
        for hour, count in enumerate(opens)
        if count
    )


def _clock_labels(hours: int, sent_at: datetime, zone: ZoneInfo) -> list[Label]:
    """Return labels of hours since sending, the zone's clock in their second lines."""
    found = []
    for label in _hour_labels(hours):
        hour = round(label.percent / 100 * hours)
        at = (sent_at.astimezone(UTC) + timedelta(hours=hour)).astimezone(zone)
        clock = f"{at:%H:%M}" if label.is_minor else f"{at:%H:%M}, {at.day} {at:%b}"
        found.append(label._replace(lines=(*label.lines, clock)))
    return found


def _hour_labels(hours: int) -> list[Label]:
    every = LABEL_HOURS[hours]
    whole = {0, hours // 2 // every * every, hours}
    return [
        Label(
            percent=round(hour / hours * 100, 2),
            lines=(f"+{hour}{NARROW}h" if hour else "Sent",),
            is_minor=hour not in whole,
        )
        for hour in range(0, hours + 1, every)
    ]


def parts(counts: Sequence[tuple[str, int]]) -> list[BarPart]:
    """Split a bar by counts, a gap between its parts; what is nothing has none."""
    shown = [(kind, count) for kind, count in counts if count]
    whole = sum(count for _, count in shown)
    free = 100 - PART_GAP * (len(shown) - 1)
    found, x = [], 0.0
    for kind, count in shown:
        width = free * count / whole
        found.append(BarPart(kind, round(x, 2), round(width, 2)))
        x += width + PART_GAP
    return found


def bars(buckets: Sequence[Bucket], unit: str, nouns: tuple[str, str], *, is_running: bool) -> Bars:
    """Lay out bars for each bucket; the last is unfinished where its time still runs."""
    highest = max((bucket.opens for bucket in buckets), default=0)
    step = _grid_step(max(1, highest), (1, 2, 5))
    top = step * max(1, -(-highest // step))
    width = max(1, len(buckets))
    whole = buckets[:-1] if is_running else buckets
    return Bars(
        width=width,
        height=HEIGHT,
        grid=[
            GridLine(_y(step * multiple, top, HEIGHT), number(step * multiple))
            for multiple in range(top // step + 1)
        ],
        labels=_bucket_labels(buckets, unit, is_running=is_running),
        slots=[
            _bucket_slot(
                place, bucket, width, unit, nouns, is_last=is_running and place == width - 1
            )
            for place, bucket in enumerate(buckets)
        ],
        opens=_bar_path([bucket.opens for bucket in whole], *OPENS_BAR, top),
        unique=_bar_path([bucket.unique for bucket in whole], *UNIQUE_BAR, top),
        unfinished=_unfinished(buckets[-1], width, top) if is_running and buckets else [],
    )


def spark(counts: Sequence[int], sent: int, age: float) -> str:
    """Return the path of a small line of who had opened, its scale the same for every mailing.

    `counts` are of six hours each; the line ends with the mailing's age, which is in hours.
    """
    whole = min(int(age) // SPARK_STEP_HOURS, SPARK_HOURS // SPARK_STEP_HOURS)
    sums = itertools.accumulate(counts[:whole], initial=0)
    return "M" + "L".join(
        f"{place * SPARK_STEP_HOURS} {_spark_y(count / sent if sent else 0.0):.1f}"
        for place, count in enumerate(sums)
    )


def _spark_y(share: float) -> float:
    return SPARK_HEIGHT - 2 - min(1.0, share / SPARK_TOP) * (SPARK_HEIGHT - 4)


def spark_bars(counts: Sequence[int]) -> str:
    """Return the path of small bars, the highest as high as there is room; none for nothing."""
    highest = max(counts, default=0)
    return "".join(
        f"M{place * 7 + 1} 27V{27 - count / highest * 24:.1f}h5V27z"
        for place, count in enumerate(counts)
        if count
    )


def written(at: datetime, form: str) -> str:
    """Write a local instant; `{day}` is the day of the month without a zero before it."""
    return at.strftime(form.replace("{day}", str(at.day)))


def _bucket_slot(
    place: int, bucket: Bucket, width: int, unit: str, nouns: tuple[str, str], *, is_last: bool
) -> Slot:
    name = written(bucket.at, LONG[unit])
    said = f"{counted(bucket.opens, *nouns)} · {number(bucket.unique)} unique"
    return Slot(
        start=round(place / width * 100, 2),
        width=round(100 / width, 2),
        end=round((place + 1) / width * 100, 2),
        tip=(name, said, "So far") if is_last else (name, said),
        dots=(),
        row=(name, number(bucket.opens), number(bucket.unique)),
    )


def _unfinished(bucket: Bucket, width: int, top: int) -> list[Unfinished]:
    return [
        Unfinished(
            x=round((width - 1 + start) / width * 100, 2),
            width=round(share / width * 100, 2),
            y=_y(count, top, HEIGHT),
            height=round(HEIGHT - _y(count, top, HEIGHT), 1),
            is_unique=is_unique,
        )
        for count, start, share, is_unique in (
            (bucket.opens, *OPENS_BAR, False),
            (bucket.unique, *UNIQUE_BAR, True),
        )
        if count
    ]


def _bucket_labels(buckets: Sequence[Bucket], unit: str, *, is_running: bool) -> list[Label]:
    every = -(-len(buckets) // LABELS_MAX) or 1
    last = len(buckets) - 1
    places = [*range(last % every, last, every), last] if buckets else []
    return [
        Label(
            percent=round((place + 0.5) / len(buckets) * 100, 2),
            lines=(
                "Today"
                if is_running and unit == "day" and place == last
                else written(buckets[place].at, SHORT[unit]),
            ),
            is_minor=(last - place) // every % 2 == 1,
        )
        for place in places
    ]


def _grid_step(highest: int, factors: Sequence[int]) -> int:
    """Return the smallest of these factors, times powers of ten, that needs few lines."""
    scale = 1
    while True:
        for factor in factors:
            if factor * scale * GRID_LINES_MAX >= highest:
                return factor * scale
        scale *= 10


def _bar_path(counts: Sequence[int], start: float, share: float, top: int) -> str:
    """Return all bars as one path, a fraction of the size of as many rectangles."""
    return "".join(
        f"M{place + start:g} {HEIGHT}V{_y(count, top, HEIGHT):g}h{share:g}V{HEIGHT}z"
        for place, count in enumerate(counts)
        if count
    )


def _y(value: float, top: float, height: int) -> float:
    return round(height * (1 - value / top), 1)
