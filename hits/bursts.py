"""Bursts: several people's own links of one pixel, fetched from one address within seconds.

This is how security gateways fetch, with an ordinary browser's agent. Who fetched is known here
only by a short hash of address and agent under the day's salt. `upkeep.bursts` shares what
the processes saw, for a minute, and relabels the hits.
"""

from __future__ import annotations

import ipaddress
import threading
from collections import defaultdict, deque
from collections.abc import Iterable
from typing import Final, NamedTuple

# What one process keeps until it is shared; beyond that the oldest are let go.
SIGHTINGS_MAX: Final = 20_000
# How long a sighting is kept to be compared with others.
KEPT_MS: Final = 60_000
# Bursts are looked for once a second or so; what is older was looked at with all before it known.
LOOKED_AT_MS: Final = 5_000


class Thresholds(NamedTuple):
    """What makes a burst: so many people within so long, above what their address does anyway.

    Chosen by simulation (docs/benchmarks.md): eight links within a second are a gateway's, and of
    a thousand people behind one address, who open within ten minutes, none are taken for one. A
    `people` of 0 turns it off.
    """

    people: int = 8
    seconds: float = 1.5
    # Each hit that the address may be expected to make in that time asks for so many more.
    above_usual: float = 3.0


class Sighting(NamedTuple):
    """A hit of a signed link by a browser; `source` hashes its address and agent."""

    pixel_number: int
    hit: int
    visitor: int
    source: int
    at_ms: int
    in_burst: bool = False


class Sightings:
    """What one process saw and has not shared yet; any thread may note and take."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._noted: deque[Sighting] = deque(maxlen=SIGHTINGS_MAX)

    def note(self, sighting: Sighting) -> None:
        """Keep a sighting until it is taken."""
        with self._lock:
            self._noted.append(sighting)

    def take(self) -> list[Sighting]:
        """Return what was noted since the last time."""
        with self._lock:
            taken = list(self._noted)
            self._noted.clear()
        return taken


def is_public(address: str) -> bool:
    """Tell whether an address is one of the internet's: others are many people's, or a proxy's."""
    try:
        known = ipaddress.ip_address(address.partition("%")[0].partition("/")[0])
    except ValueError:
        return False
    if isinstance(known, ipaddress.IPv6Address) and known.ipv4_mapped:
        known = known.ipv4_mapped
    return not any(known in network for network in _NOT_PUBLIC if network.version == known.version)


_NOT_PUBLIC = tuple(
    map(
        ipaddress.ip_network,
        (
            *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16"),
            *("172.16.0.0/12", "192.168.0.0/16", "224.0.0.0/3"),
            *("::/127", "fc00::/7", "fe80::/10", "ff00::/8"),
        ),
    )
)


def find_bursts(
    sightings: Iterable[Sighting], thresholds: Thresholds, at_ms: int
) -> list[Sighting]:
    """Return the hits of new bursts among the sightings of a minute, at an instant."""
    if not thresholds.people:
        return []
    by_source: dict[tuple[int, int], list[Sighting]] = defaultdict(list)
    for sighting in sightings:
        by_source[sighting.pixel_number, sighting.source].append(sighting)
    return [
        each
        for seen in by_source.values()
        if len(seen) >= thresholds.people
        for each in _bursts_of(sorted(seen, key=_instant), thresholds, at_ms - LOOKED_AT_MS)
    ]


def _instant(sighting: Sighting) -> int:
    return sighting.at_ms


def _bursts_of(seen: list[Sighting], thresholds: Thresholds, since_ms: int) -> list[Sighting]:
    """Return what belongs to new bursts of one source's hits, which are in the order of time.

    What a burst holds is not usual, so that a gateway that goes on fetching stays one.
    """
    window_ms = thresholds.seconds * 1000
    in_burst = [each.in_burst for each in seen]
    usual = in_burst.count(False)
    first = 0
    for last, newest in enumerate(seen):
        while newest.at_ms - seen[first].at_ms > window_ms:
            first += 1
        window = slice(first, last + 1)
        if newest.at_ms < since_ms or last - first + 1 < thresholds.people:
            continue
        new = in_burst[window].count(False)
        expected = (usual - new) * window_ms / KEPT_MS
        people = len({each.visitor for each in seen[window]})
        if people >= thresholds.people + thresholds.above_usual * expected:
            in_burst[window] = [True] * (last - first + 1)
            usual -= new
    return [each for each, found in zip(seen, in_burst, strict=True) if found and not each.in_burst]
