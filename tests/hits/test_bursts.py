"""What is a gateway's burst, and what is an office full of people."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest

from hits.bursts import Sighting, Thresholds, find_bursts

DEFAULT = Thresholds()


def seen(
    at_ms: list[int], *, source: int = 1, pixel: int = 1, visitors: list[int] | None = None
) -> list[Sighting]:
    named = visitors or list(range(len(at_ms)))
    return [
        Sighting(pixel, hit, visitor, source, at)
        for hit, (at, visitor) in enumerate(zip(at_ms, named, strict=True))
    ]


def test_eight_people_within_a_second_are_a_burst_with_the_first_of_them() -> None:
    hits = seen([0, 100, 200, 300, 500, 600, 800, 990])
    # What follows them tells a burst from an office that begins to open.
    assert find_bursts(hits, DEFAULT, 2000) == []
    assert find_bursts(hits, DEFAULT, 2500) == hits
    assert find_bursts([*hits, *seen([2000, 2400], visitors=[98, 99])], DEFAULT, 2500) == []


def test_a_gateway_that_goes_on_stays_one() -> None:
    hits = seen([100 * place for place in range(300)])
    assert looked_at(hits) == {sighting.hit for sighting in hits}


@pytest.mark.parametrize(
    "hits",
    [
        seen([0, 100, 200, 300, 400, 500, 600]),
        seen([0, 100, 200, 300, 400, 500, 600, 700], visitors=[1, 1, 1, 1, 2, 2, 2, 2]),
        seen([place * 1000 for place in range(30)]),
        [*seen([0, 100, 200, 300, 400]), *seen([10, 20, 30, 40, 50], source=2)],
        [*seen([0, 100, 200, 300, 400]), *seen([10, 20, 30, 40, 50], pixel=2)],
    ],
    ids=["seven", "one person again", "one a second", "two sources", "two pixels"],
)
def test_what_is_less_is_no_burst(hits: list[Sighting]) -> None:
    assert looked_at(hits) == set()


def test_nothing_is_a_burst_where_it_is_turned_off() -> None:
    assert find_bursts(seen([0] * 50), Thresholds(people=0), 100) == []


def half_within_150_seconds(draw: random.Random) -> list[int]:
    """A thousand people, half of whom open within two and a half minutes, from a standing start."""
    return [
        draw.randrange(150_000) if place % 2 else draw.randrange(600_000) for place in range(1000)
    ]


def half_of_those_left(draw: random.Random) -> list[int]:
    """A thousand people, of whom half are left after each two and a half minutes."""
    return [round(draw.expovariate(math.log(2) / 150_000)) for _ in range(1000)]


@pytest.mark.parametrize("office", [half_within_150_seconds, half_of_those_left])
@pytest.mark.parametrize("draw", range(3))
def test_of_an_office_that_opens_within_minutes_hardly_anybody_is_taken(
    draw: int, office: Callable[[random.Random], list[int]]
) -> None:
    """People behind one address with one program, looked at once a second."""
    assert len(looked_at(seen(sorted(office(random.Random(draw)))))) < 10


def looked_at(hits: list[Sighting]) -> set[int]:
    """Return the hits of bursts, as they are found once a second by what a minute tells."""
    found: set[tuple[int, int, int]] = set()
    for at_ms in range(0, hits[-1].at_ms + 5000, 1000):
        minute = [
            sighting._replace(
                in_burst=(sighting.pixel_number, sighting.source, sighting.hit) in found
            )
            for sighting in hits
            if at_ms - 60_000 <= sighting.at_ms <= at_ms
        ]
        for sighting in find_bursts(minute, DEFAULT, at_ms):
            found.add((sighting.pixel_number, sighting.source, sighting.hit))
    return {hit for _, _, hit in found}
