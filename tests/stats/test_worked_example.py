"""The numbers in docs/worked-example.md are those that the code makes of its five hits."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from models import MS_PER_DAY
from stats.arithmetic import (
    group_hits,
    hits_of_visits,
    remains_of,
    sort_columns,
    summarise,
    visit_numbers,
    visitor_rollups_of,
    visitor_sets_of,
)
from stats.days import (
    NO_ROWS,
    Array,
    Columns,
    ProfileDays,
    Recent,
    columns_of,
    rows_of,
)
from stats.groups import ByProfile, ByRecent, Groups, Tally, class_bit
from stats.store import recent_hits
from tests.conftest import PROJECT_DIR

PAGE = PROJECT_DIR / "docs" / "worked-example.md"
DAY = 20_514
# Instant, visitor, profile, in the order of their ids.
HITS = (
    ("08:59:30", 1, 1),
    ("09:00:10", 1, 1),
    ("09:10:05", 1, 2),
    ("09:12:00", 2, 2),
    ("09:55:30", 2, 2),
)
# Profile 1 is a prefetch, profile 2 an open; number 0 is no profile.
CLASS_BITS = np.array([0, class_bit("prefetch"), class_bit("open")])


def milliseconds_of(time: str) -> int:
    hours, minutes, seconds = map(int, time.split(":"))
    return ((hours * 60 + minutes) * 60 + seconds) * 1000


def columns_with(count: int) -> Columns:
    """Return the first hits of the day as they came."""
    rows = [(milliseconds_of(time), *numbers) for time, *numbers in HITS[:count]]
    return Columns(*np.array(rows).T)


def shown(arrays: Any) -> str:
    """Return arrays as the page has them: a line each, its name before it."""
    return "\n".join(
        f"{name:<12}{' '.join(map(str, array.tolist()))}".rstrip()
        for name, array in arrays._asdict().items()
    )


def rows_shown(rows: Array) -> str:
    return "\n".join(" ".join(map(str, row)) for row in rows.tolist())


def counted(*days: Any) -> str:
    """Return what a question for opens adds up, and the answer."""
    groups = Groups(np.array([0, 0, 1]), None, False, class_bit("open"), by_class_only=True)
    tally = Tally(groups, 1, 2)
    lines = []
    for day in days:
        group, hits = day.hits(groups)
        lines.append(f"page views  {int(hits[group > 0].sum()):+d}")
        for visits in day.visits(groups):
            numbers = [int(column[visits.group > 0].sum()) for column in visits[1:]]
            if any(numbers):
                lines.append("visits {:+d}, bounces {:+d}, seconds {:+d}".format(*numbers))
        tally.add(day)
    pageviews, visitors, visits, bounces, seconds = (int(column[1]) for column in tally.columns())
    answer = f"= {pageviews} page views, {visitors} visitors, {visits} visits, {bounces} bounce"
    return "\n".join((*lines, f"{answer}, {seconds} seconds"))


def blocks() -> Iterator[tuple[str, str]]:
    """Yield the name and the text of every block of numbers on the page."""
    yield "recent of four", rows_shown(rows_of(columns_with(4)))
    columns = sort_columns(columns_with(4))
    yield "columns", shown(columns)
    hourly, by_quarter = group_hits([columns], CLASS_BITS)
    yield "hourly rollup", shown(hourly)
    summary, hours = summarise(hourly)
    yield "summary by profile", shown(summary.by_profile)
    yield "summary by set of profiles", shown(summary.by_profile_set)
    yield "summary, other visits", shown(summary.visit_rows)
    visitor_sets = visitor_sets_of(hourly)
    yield "visitor sets", shown(visitor_sets)
    visitors, quarters = visitor_rollups_of(hourly, by_quarter, CLASS_BITS)
    yield "visitors", shown(visitors)
    hits = quarters.hits.reshape(3, -1)
    places = [f"{row} {place}: {hits[row, place]}" for row, place in np.argwhere(hits).tolist()]
    yield "quarters, hits", "\n".join(places)
    words = shown(quarters).splitlines()[1:]
    yield "quarters", "\n".join(words)
    yield "hours", shown(hours)
    fifth = Columns(*(column[4:] for column in columns_with(5)))
    replaced = hits_of_visits(columns, visit_numbers(fifth))
    starts = visit_numbers(columns)[:1]
    recent = Recent(rows_of(fifth), rows_of(replaced), starts)
    yield (
        "recent of the fifth",
        "\n".join(
            (
                f"hits      {rows_shown(recent.hits)}",
                f"replaced  {rows_shown(recent.replaced)}",
                f"starts    {' '.join(map(str, recent.starts.tolist()))}",
            )
        ),
    )
    day = np.array([DAY])
    arrays = ProfileDays(
        summary,
        visitor_sets,
        np.repeat(day, len(summary.by_profile.profile)),
        np.repeat(day, len(visitor_sets.lengths)),
    )
    yield "question", counted(ByProfile(arrays), ByRecent(*recent_hits({DAY: recent})))
    remains = remains_of(group_hits([sort_columns(columns_with(5))], CLASS_BITS)[0])
    yield "remains, pairs", shown(remains.pairs)
    yield "remains, other visits", shown(remains.visit_rows)


def blocks_of_page() -> dict[str, str]:
    """Return the blocks of the page by their names, which the line before each has in bold."""
    block = r"^\*\*([^*]+)\*\*[^\n]*\n+```text\n(.*?)\n```"
    return dict(re.findall(block, PAGE.read_text(), re.M | re.S))


@pytest.mark.parametrize("name", [name for name, _ in blocks()])
def test_numbers_of_the_page_are_what_the_code_makes_of_its_hits(name: str) -> None:
    assert blocks_of_page()[name] == dict(blocks())[name]


def test_page_has_no_other_numbers_and_the_hits_that_they_are_of() -> None:
    assert list(blocks_of_page()) == [name for name, _ in blocks()]
    page = PAGE.read_text()
    for number, (time, visitor, profile) in enumerate(HITS, 1):
        assert f"| {number} | {time} | {visitor} | {profile} |" in page
    assert str(DAY * MS_PER_DAY) in page.replace(",", "")


def test_recent_hits_as_rows_are_the_same_hits() -> None:
    columns = columns_with(5)
    again = columns_of(np.concatenate((NO_ROWS, rows_of(columns))))
    assert [column.tolist() for column in again] == [column.tolist() for column in columns]
