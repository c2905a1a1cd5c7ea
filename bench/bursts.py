"""What is taken for a gateway's burst: simulated offices and gateways, for several thresholds.

Every hit is of another person's link, of one address and of one agent, so that only time can tell
them apart. Each draw is looked at once a second, as the service does; the table says how many of
its hits were relabelled, on average of all draws.
"""

from __future__ import annotations

import argparse
import random
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from statistics import fmean

from hits.bursts import KEPT_MS, LOOKED_AT_MS, Sighting, Thresholds, find_bursts

LOOK_EVERY_MS, PROCESSES = 1000, 2
# The defaults, and what stands beside them.
CANDIDATES = {
    "the default": Thresholds(),
    "8 in 1.0 s": Thresholds(seconds=1.0),
    "8 in 2.0 s": Thresholds(seconds=2.0),
    "6 in 1.5 s": Thresholds(people=6),
    "10 in 1.5 s": Thresholds(people=10),
    "whoever is around": Thresholds(above_usual=0.0),
}

Draw = Callable[[random.Random], list[float]]


def main() -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=8, help="of each; 8 unless given")
    draws = parser.parse_args().draws
    print(f"| of these, relabelled | {' | '.join(CANDIDATES)} |")
    print(f"| --- |{' ---: |' * len(CANDIDATES)}")
    for name, draw in SCENES.items():
        scenes = [instants_of(draw, number) for number in range(draws)]
        shares = (
            fmean(relabelled(scene, thresholds) for scene in scenes)
            for thresholds in CANDIDATES.values()
        )
        print(f"| {name} | {' | '.join(f'{share:.1%}' for share in shares)} |", flush=True)


def instants_of(draw: Draw, number: int) -> list[int]:
    """Return when the hits of a draw are, in milliseconds, in order."""
    return sorted(round(1000 * at_s) for at_s in draw(random.Random(number)))  # noqa: S311


def relabelled(instants: list[int], thresholds: Thresholds) -> float:
    """Return which share of hits is taken for bursts by two processes that take turns to answer.

    Each shares what it saw once a second, and looks then.
    """
    draw = random.Random(len(instants))  # noqa: S311
    phases = [draw.randrange(LOOK_EVERY_MS) for _ in range(PROCESSES)]
    seen = [Sighting(1, place, place, 1, at) for place, at in enumerate(instants)]
    shared_at_ms = []
    for sighting in seen:
        phase = draw.choice(phases)
        shared_at_ms.append(
            sighting.at_ms + LOOK_EVERY_MS - (sighting.at_ms - phase) % LOOK_EVERY_MS
        )
    begins_at, ends_at = instants[0], instants[-1] + 2 * LOOKED_AT_MS
    looks = sorted(
        at_ms for phase in phases for at_ms in range(begins_at + phase, ends_at, LOOK_EVERY_MS)
    )
    taken: set[int] = set()
    for at_ms in looks:
        minute = slice(bisect_left(instants, at_ms - KEPT_MS), bisect_right(instants, at_ms))
        known = [
            sighting._replace(in_burst=sighting.hit in taken)
            for sighting, shared in zip(seen[minute], shared_at_ms[minute], strict=True)
            if shared <= at_ms
        ]
        taken.update(sighting.hit for sighting in find_bursts(known, thresholds, at_ms))
    return len(taken) / len(seen)


def evenly(count: int, seconds: float, starting: float = 0.0) -> Draw:
    """Return a draw of people who come at any instant of a time alike."""
    return lambda draw: [starting + draw.random() * seconds for _ in range(count)]


def ever_fewer(count: int, half_life_s: float, seconds: float) -> Draw:
    """Return a draw of people of whom half are left to come after each half-life."""

    def drawn(draw: random.Random) -> list[float]:
        found: list[float] = []
        while len(found) < count:
            at = draw.expovariate(0.6931 / half_life_s)
            if at < seconds:
                found.append(at)
        return found

    return drawn


def both(*draws: Draw) -> Draw:
    """Return several draws together."""
    return lambda draw: [at for arrivals in draws for at in arrivals(draw)]


def one_by_one(count: int, gap_s: float) -> Draw:
    """Return a draw of links that are fetched in turn, each taking about so long."""

    def drawn(draw: random.Random) -> list[float]:
        at, found = 0.0, []
        for _ in range(count):
            found.append(at)
            at += gap_s * draw.uniform(0.5, 1.5)
        return found

    return drawn


SCENES: dict[str, Draw] = {
    "an office of 1,000, evenly over 10 min": evenly(1000, 600),
    "… half of it within 2.5 min, from a standing start": both(
        evenly(500, 150), evenly(500, 450, 150)
    ),
    "… half of those left in each 2.5 min": ever_fewer(1000, 150, 600),
    "… half of those left in each minute": ever_fewer(1000, 60, 600),
    "an office of 200, evenly over 5 min": evenly(200, 300),
    "an office of 5,000, evenly over 30 min": evenly(5000, 1800),
    "a gateway, 8 links in 1 s": evenly(8, 1.0),
    "… 8 links one by one, 0.1 s each": one_by_one(8, 0.1),
    "… 8 links in 1 s, in the middle of an office of 100 over 5 min": both(
        evenly(100, 300), evenly(8, 1.0, 150)
    ),
    "… 20 links in 2 s": evenly(20, 2.0),
    "… 20 links in 5 s": evenly(20, 5.0),
    "… 100 links in 10 s": evenly(100, 10.0),
    "… 300 links one by one, 0.1 s each": one_by_one(300, 0.1),
    "… 1,000 links in 20 s": evenly(1000, 20.0),
}

if __name__ == "__main__":
    main()
