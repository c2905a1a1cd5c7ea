"""Where the shapes of a chart go. A template draws them, in classes that the style sheet colours.

Widths are counted in buckets and stretched by the browser to whatever there is; heights are
pixels, so that type and lines stay what they are on a phone. Pure: numbers in, numbers out.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

HEIGHT = 200
GRID_LINES_MAX = 4
LABELS_MAX = 8
# A few bars are slimmer, or they would be blocks.
BAR_SHARE, BAR_SHARE_OF_FEW, FEW = 0.68, 0.4, 8
SPARK_WIDTH, SPARK_HEIGHT = 100, 24

# How an instant is written below its bar, and in the table behind the chart.
SHORT = {"minute": "%H:%M", "hour": "%H:%M", "day": "{day} %b", "month": "%b %Y", "year": "%Y"}
LONG = {
    "minute": "{day} %b %Y, %H:%M",
    "hour": "{day} %b %Y, %H:%M",
    "day": "%a {day} %b %Y",
    "month": "%B %Y",
    "year": "%Y",
}


class Bucket(NamedTuple):
    """One bar: hits and, within it, how many visitors made them."""

    at: datetime
    hits: int
    visitors: int


class Line(NamedTuple):
    """A line of the grid and what it stands for."""

    y: float
    value: int


class Label(NamedTuple):
    """A label below the bars; a minor one goes where there is little room."""

    percent: float
    text: str
    is_minor: bool


class Slot(NamedTuple):
    """A bucket's place, and what it says to who points at it or reads the table."""

    x: int
    name: str
    hits: int
    visitors: int


class Chart(NamedTuple):
    """Bars of hits, with bars of visitors within them."""

    width: int
    height: int
    lines: list[Line]
    labels: list[Label]
    slots: list[Slot]
    hits: str
    visitors: str


def bars(buckets: Sequence[Bucket], unit: str) -> Chart:
    """Lay out a bar for each bucket; the grid ends at a round number above the highest."""
    step = _grid_step(max((each.hits for each in buckets), default=0))
    highest = max((each.hits for each in buckets), default=0)
    lines_count = max(1, -(-highest // step))
    top = step * lines_count
    return Chart(
        width=max(1, len(buckets)),
        height=HEIGHT,
        lines=[Line(_y(step * each, top), step * each) for each in range(lines_count + 1)],
        labels=_labels(buckets, unit),
        slots=[
            Slot(x, written(each.at, LONG[unit]), each.hits, each.visitors)
            for x, each in enumerate(buckets)
        ],
        hits=_path([each.hits for each in buckets], top),
        visitors=_path([each.visitors for each in buckets], top),
    )


def spark(counts: Sequence[int]) -> str:
    """Return the points of a small line, the first count at its left end."""
    top = max(*counts, 1)
    step = SPARK_WIDTH / max(1, len(counts) - 1)
    inset = 2  # Half of the line's own width, and air.
    return " ".join(
        f"{place * step:.1f},{SPARK_HEIGHT - inset - count / top * (SPARK_HEIGHT - 2 * inset):.1f}"
        for place, count in enumerate(counts)
    )


def written(at: datetime, form: str) -> str:
    """Write a local instant; `{day}` is the day of the month without a zero before it."""
    return at.strftime(form.replace("{day}", str(at.day)))


def _grid_step(highest: int) -> int:
    """Return the smallest of 1, 2, 5, 10, 20, … that needs few lines to reach `highest`."""
    scale = 1
    while True:
        for factor in (1, 2, 5):
            if factor * scale * GRID_LINES_MAX >= highest:
                return factor * scale
        scale *= 10


def _labels(buckets: Sequence[Bucket], unit: str) -> list[Label]:
    every = -(-len(buckets) // LABELS_MAX) or 1
    return [
        Label(
            percent=round((place + 0.5) / len(buckets) * 100, 2),
            text=written(buckets[place].at, SHORT[unit]),
            is_minor=place // every % 2 == 1,
        )
        for place in range(0, len(buckets), every)
    ]


def _path(counts: Sequence[int], top: int) -> str:
    """Return all bars as one path, a fraction of the size of as many rectangles."""
    share = BAR_SHARE_OF_FEW if len(counts) <= FEW else BAR_SHARE
    start = (1 - share) / 2
    return "".join(
        f"M{place + start:g} {HEIGHT}V{_y(count, top):g}h{share}V{HEIGHT}z"
        for place, count in enumerate(counts)
        if count
    )


def _y(count: int, top: int) -> float:
    return round(HEIGHT * (1 - count / top), 1)
