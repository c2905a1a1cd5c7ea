"""What one sender can make us keep: agents, queries, referrers and host names never seen before.

They are counted for each sender by the hour and for each pixel by the day, in memory that the
processes of a node share, and their bytes are paid for by the hits that bring them. Beyond that a
hit is stored with `OTHER` in their place; its class and reason are still its own. A sender is
known here by a keyed hash, and for no longer than the processes live.

What was seen before a start counts as new once more. Each node counts for itself.
"""

from __future__ import annotations

import logging
import threading
import uuid
from typing import Any

from core.addresses import network_of
from core.shared_counts import SharedCounts, SharedMarks
from hits.agent_names import OTHER
from hits.classify import Agent, Reason, Verdict
from hits.references import HitContext
from models import MS_PER_DAY

# What a pixel's day may take on average, and what a hit takes of it without any text: the hit, its
# visitor, its profile, and what is derived from them, on the database that needs more for it.
HIT_BYTES_MAX = 1_600
HIT_BYTES = 700
# What a text takes beside its bytes.
TEXT_BYTES = 70
# A recipient's row is in no order, and takes half as much again; so do those of its indexes.
RECIPIENT_BYTES = 200
# The first hits of a pixel's day may take more than their own.
DAY_BYTES = 16 * 1024
# Agents of these reasons are of known programs, unless they are longer than any of these is.
KNOWN_PROGRAMS: frozenset[Reason] = frozenset(
    {"browser", "mail-client", "gmail-proxy", "yahoo-proxy", "apple-mpp", "gmail-prefetch"}
)
KNOWN_PROGRAM_CHARACTERS_MAX = 256
# These are forgotten as a whole when they are full.
FAMILIAR_MAX = 8_000
PIXELS_MAX = 10_000

log = logging.getLogger("pixelkeep.new_values")


class NewValues:
    """Decides what is kept of a hit's context; make it before the fork."""

    def __init__(self, per_sender_hour: int, per_pixel_day: int) -> None:
        self._per_sender_hour = per_sender_hour
        self._per_pixel_day = per_pixel_day
        self._senders = SharedCounts()
        self._pixels = SharedCounts()
        self._seen = SharedMarks()
        self._lock = threading.Lock()
        # Hashes of contexts of which nothing is new.
        self._familiar: set[int] = set()
        # By pixel: a UTC day, and the bytes that it has left.
        self._left: dict[int, tuple[int, int]] = {}
        # By pixel: the hour in which the log last told of it.
        self._told: dict[int, int] = {}

    def limited(
        self,
        pixel: tuple[int, uuid.UUID],
        address: str,
        context: HitContext,
        says: tuple[Agent, Verdict],
        recipient: str | None,
        at_ms: int,
    ) -> HitContext:
        """Return the context that is kept of a hit: as it is, or with `OTHER` in them."""
        number, pixel_id = pixel
        agent, verdict = says
        texts = _texts(context)
        key = hash((number, *texts.values()))
        if key in self._familiar:
            return context
        hour = at_ms // (MS_PER_DAY // 24)
        with self._lock:
            replaced = self._replaced(number, network_of(address), texts, agent, recipient, hour)
            if not replaced:
                if len(self._familiar) >= FAMILIAR_MAX:
                    self._familiar = set()
                self._familiar.add(key)
                return context
            self._tell(number, pixel_id, hour)
        others: dict[str, Any] = dict.fromkeys(replaced, OTHER)
        if "user_agent" in replaced:
            others["verdict"] = verdict
        return context._replace(**others)

    def _replaced(
        self,
        number: int,
        network: str,
        texts: dict[str, str | None],
        agent: Agent,
        recipient: str | None,
        hour: int,
    ) -> list[str]:
        """Return the names of those texts that may not be kept; count the others."""
        left = self._bytes_left(number, hour // 24) + HIT_BYTES_MAX - HIT_BYTES
        if recipient:
            left -= len(recipient.encode()) * 3 // 2 + RECIPIENT_BYTES
        replaced = []
        for name, text in texts.items():
            # Agents are stored once for all pixels.
            mark = f"{name} {0 if name == 'user_agent' else number} {text}"
            if not text or text == OTHER or self._seen.has(mark):
                continue
            size = len(text.encode()) + TEXT_BYTES
            is_known = name == "user_agent" and _is_of_known_program(agent, text)
            if size > left or not (is_known or self._count(number, network, hour)):
                replaced.append(name)
                continue
            left -= size
            self._seen.add(mark)
        if len(self._left) >= PIXELS_MAX:
            self._left = {}
        self._left[number] = hour // 24, max(left, 0)
        return replaced

    def _bytes_left(self, number: int, day: int) -> int:
        counted_day, left = self._left.get(number, (day, DAY_BYTES))
        return left if counted_day == day else DAY_BYTES

    def _count(self, number: int, network: str, hour: int) -> bool:
        """Count a new value; False where its sender or its pixel has had all that it may."""
        if (
            self._senders.of(network, hour) >= self._per_sender_hour
            or self._pixels.of(str(number), hour // 24) >= self._per_pixel_day
        ):
            return False
        self._senders.add(network, hour)
        self._pixels.add(str(number), hour // 24)
        return True

    def _tell(self, number: int, pixel_id: uuid.UUID, hour: int) -> None:
        if self._told.get(number) == hour:
            return
        if len(self._told) >= PIXELS_MAX:
            self._told = {}
        self._told[number] = hour
        log.warning(
            "Pixel %s gets more new agents, queries, referrers and host names than one sender"
            " (%d an hour) or a pixel (%d a day, or their bytes) may add: hits are stored with"
            " %r in their place.",
            pixel_id,
            self._per_sender_hour,
            self._per_pixel_day,
            OTHER,
        )


def _texts(context: HitContext) -> dict[str, str | None]:
    return {
        "user_agent": context.user_agent,
        "query": context.query,
        "referrer": context.referrer,
        "hostname": context.hostname,
    }


def _is_of_known_program(agent: Agent, text: str) -> bool:
    return agent.reason in KNOWN_PROGRAMS and len(text) <= KNOWN_PROGRAM_CHARACTERS_MAX
