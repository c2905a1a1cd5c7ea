"""The geometry of charts and the spans they show: pure, so tried with whatever comes."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given
from hypothesis import strategies as st

from web.pages import charts, periods
from web.pages.charts import HEIGHT, Bucket

AT = datetime(2026, 11, 23, 7, 30, tzinfo=UTC)
BERLIN = ZoneInfo("Europe/Berlin")
counts = st.lists(st.integers(0, 10**9), max_size=200)


def chart_of(hits: list[int]) -> charts.Chart:
    day = datetime(2026, 1, 1, tzinfo=BERLIN)
    buckets = [Bucket(day + timedelta(days=place), each, 0) for place, each in enumerate(hits)]
    return charts.bars(buckets, "day")


@given(counts)
def test_bars_stay_below_a_round_top_with_few_lines(hits: list[int]) -> None:
    chart = chart_of(hits)
    assert 2 <= len(chart.lines) <= charts.GRID_LINES_MAX + 1
    assert chart.lines[-1].value >= max(hits, default=0)
    assert (chart.lines[0].y, chart.lines[-1].y) == (HEIGHT, 0)
    tops = [float(each) for each in re.findall(rf"{HEIGHT}V([\d.]+)h", chart.hits)]
    assert len(tops) == sum(each > 0 for each in hits)
    assert all(0 <= each <= HEIGHT for each in tops)
    assert len(chart.labels) <= charts.LABELS_MAX


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=40))
def test_small_line_stays_in_its_box(hits: list[int]) -> None:
    for point in charts.spark(hits).split():
        x, y = map(float, point.split(","))
        assert 0 <= x <= charts.SPARK_WIDTH
        assert 0 < y < charts.SPARK_HEIGHT


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
