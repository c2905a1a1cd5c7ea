"""The geometry of charts and the spans they show: pure, so tried with whatever comes."""

from __future__ import annotations

import itertools
import re
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stats import buckets
from web.pages import charts, formats, periods
from web.pages.charts import HEIGHT, Bucket
from web.pages.formats import NARROW

AT = datetime(2026, 11, 23, 7, 30, tzinfo=UTC)
BERLIN = ZoneInfo("Europe/Berlin")
counts = st.lists(st.integers(0, 10**9), max_size=200)


def chart_of(opens: list[int], *, is_running: bool = False) -> charts.Bars:
    day = datetime(2026, 1, 1, tzinfo=BERLIN)
    buckets = [Bucket(day + timedelta(days=place), count, 0) for place, count in enumerate(opens)]
    return charts.bars(buckets, "day", ("open", "opens"), is_running=is_running)


@given(counts)
def test_bars_stay_below_a_round_top_with_few_lines(opens: list[int]) -> None:
    chart = chart_of(opens)
    assert 2 <= len(chart.grid) <= charts.GRID_LINES_MAX + 1
    assert int(chart.grid[-1].text.replace(NARROW, "")) >= max(opens, default=0)
    assert (chart.grid[0].y, chart.grid[-1].y) == (HEIGHT, 0)
    tops = [float(top) for top in re.findall(rf"{HEIGHT}V([\d.]+)h", chart.opens)]
    assert len(tops) == sum(count > 0 for count in opens)
    assert all(0 <= top <= HEIGHT for top in tops)
    assert len(chart.labels) <= charts.LABELS_MAX + 1


def test_bar_of_today_is_apart_and_says_so() -> None:
    chart = chart_of([3, 1, 2], is_running=True)
    assert len(re.findall("z", chart.opens)) == 2
    assert [(bar.x, bar.is_unique) for bar in chart.unfinished] == [(71.33, False)]
    assert chart.labels[-1].lines == ("Today",)
    assert [slot.said for slot in chart.slots[-2:]] == [
        "Fri 2 Jan 2026: 1 open · 0 unique",
        "Sat 3 Jan 2026: 2 opens · 0 unique; So far",
    ]


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=charts.SPARK_DAYS))
def test_small_bars_stay_in_their_box(opens: list[int]) -> None:
    tops = [float(top) for top in re.findall(r"V([\d.]+)h5", charts.spark_bars(opens))]
    assert len(tops) == sum(count > 0 for count in opens)
    assert all(0 < top < charts.SPARK_HEIGHT for top in tops)


@given(
    st.integers(1, 10**6),
    st.floats(0, 10_000),
    st.lists(st.integers(0, 10**6), min_size=28, max_size=28),
)
def test_small_line_stays_in_its_box_and_ends_with_its_age(
    sent: int, age: float, counts: list[int]
) -> None:
    points = [point.split(" ") for point in charts.spark(counts, sent, age)[1:].split("L")]
    assert all(0 < float(y) < charts.SPARK_HEIGHT for _, y in points)
    assert 0 <= min(age, charts.SPARK_HOURS) - float(points[-1][0]) < charts.SPARK_STEP_HOURS


@pytest.mark.parametrize("hours", sorted(charts.SLOT_HOURS))
def test_slots_of_a_curve_are_24_and_cover_it(hours: int) -> None:
    assert len(charts.SLOT_HOURS[hours]) == 24
    assert sum(charts.SLOT_HOURS[hours]) == hours
    assert list(charts.SLOT_HOURS[hours]) == sorted(charts.SLOT_HOURS[hours])


def test_curve_says_what_each_slot_stands_for() -> None:
    opened, opens = [2, 1, *[0] * 166], [3, 1, *[0] * 166]
    now = charts.Course("This", 10, opened, opens, age=30.5)
    before = charts.Course("Before", 4, [1] * 168, [1] * 168, age=1000)
    curve = charts.curve([now, before], 48, AT, BERLIN)
    assert len(curve.slots) == 24
    assert curve.slots[0].tip == (
        f"+1{NARROW}h · 23 Nov, 09:30",
        f"2 opened · 20.0{NARROW}%",
        "3 opens this hour",
        f"25.0{NARROW}% Before",
    )
    assert curve.slots[-1].tip[1] == "Not there yet"
    assert [dot.line for dot in curve.slots[-1].dots] == ["was"]
    # The line ends within the hour that is running.
    assert curve.lines[0].path.rpartition("L")[2].startswith("30.50 ")
    assert [label.line for label in curve.end_labels] == ["was", "now"]


@given(
    st.lists(st.lists(st.integers(0, 50), max_size=168), min_size=1, max_size=3),
    st.integers(1, 200),
    st.floats(0, 400),
    st.sampled_from([24, 72, 168]),
)
def test_curves_stay_in_their_box(
    opened: list[list[int]], sent: int, age: float, hours: int
) -> None:
    courses = [charts.Course(str(n), sent, series, series, age) for n, series in enumerate(opened)]
    curve = charts.comparison(courses, hours)
    for line in curve.lines:
        points = [point.split(" ") for point in line.path[1:].split("L")]
        assert all(0 <= float(x) <= hours for x, _ in points)
        assert all(-0.1 <= float(y) <= curve.height for _, y in points)
    places = sorted(label.y for label in curve.end_labels)
    assert all(after - before >= 17 for before, after in itertools.pairwise(places))


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=4))
def test_parts_of_a_bar_fill_it(counts: list[int]) -> None:
    found = charts.parts([(str(place), count) for place, count in enumerate(counts)])
    assert len(found) == sum(count > 0 for count in counts)
    if found:
        assert abs(found[-1].x + found[-1].width - 100) < 0.1


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "–"),
        (0, "0 s"),
        (59, "59 s"),
        (60, "1 min"),
        (3 * 3600 + 12 * 60, "3 h 12 min"),
        (47 * 3600, "47 h"),
        (49 * 3600, "2 days 1 h"),
        (30 * 86400, "30 days"),
    ],
)
def test_spans_are_written_in_two_units(seconds: float | None, text: str) -> None:
    assert formats.span(seconds).replace(NARROW, " ") == text


@pytest.mark.parametrize(
    ("share", "before", "text"),
    [
        (0.3858, 0.3492, "3.7 points above"),
        (0.3492, 0.3858, "3.7 points below"),
        (0.31, 0.3, "1.0 point above"),
        (0.3, 0.30004, "As many as"),
    ],
)
def test_rates_compare_as_they_are_written(share: float, before: float, text: str) -> None:
    assert formats.points(share, before) == text


@given(
    st.sampled_from(["24h", "7d", "30d", "90d", "custom", ""]),
    st.text(max_size=12) | st.dates().map(date.isoformat),
    st.text(max_size=12) | st.dates().map(date.isoformat),
    st.datetimes(datetime(2001, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)),
    st.sampled_from(sorted(available_timezones())),
)
def test_every_period_is_a_span_with_one_as_long_before(
    name: str, first: str, last: str, at: datetime, zone: str
) -> None:
    period = periods.period_of(name, first, last, at, ZoneInfo(zone))
    start, end = period.start.astimezone(UTC), period.end.astimezone(UTC)
    before, end_before = period.before.astimezone(UTC), period.end_before.astimezone(UTC)
    assert start <= end
    assert before < start
    # The clocks may change within.
    assert abs((end - start) - (end_before - before)) <= timedelta(hours=25)


@pytest.mark.parametrize(
    ("name", "start", "unit"),
    [
        ("24h", "2026-11-22T09:00:00+01:00", "hour"),
        ("7d", "2026-11-17T00:00:00+01:00", "day"),
        ("30d", "2026-10-25T00:00:00+02:00", "day"),
        ("nonsense", "2026-11-17T00:00:00+01:00", "day"),
    ],
)
def test_named_periods_begin_where_a_day_or_an_hour_does(name: str, start: str, unit: str) -> None:
    period = periods.period_of(name, "", "", AT, BERLIN)
    assert (period.start.isoformat(), period.unit) == (start, unit)
    assert period.end == AT


def test_custom_days_are_whole_and_in_either_order() -> None:
    period = periods.period_of("custom", "2026-03-29", "2026-03-28", AT, BERLIN)
    assert period.start.isoformat() == "2026-03-28T00:00:00+01:00"
    assert period.end.isoformat() == "2026-03-29T23:59:59.999000+02:00"
    assert period.unit == "hour"


@pytest.mark.parametrize(
    ("first", "last", "days"),
    [
        ("2011-12-28", "2012-01-01", [28, 29, 31, 1]),
        ("2011-12-29", "2011-12-30", [29]),
        ("2011-12-30", "2011-12-30", [31]),
    ],
)
def test_day_that_a_zone_left_out_is_none(first: str, last: str, days: list[int]) -> None:
    apia = ZoneInfo("Pacific/Apia")
    period = periods.period_of("custom", first, last, AT, apia)
    cut = buckets.buckets(period.start, period.end, apia, "day")
    assert [label.day for label in cut.labels] == days
    assert cut.starts_ms == sorted(set(cut.starts_ms))
