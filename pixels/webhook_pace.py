"""How fast webhooks are sent: at once, but with pauses while hits need the processor.

A message takes as much of it as a dozen hits do. Messages can wait until there is less to do, and
hits can't.
"""

from __future__ import annotations

import time

# How often it is looked who needs the processor.
LOOK_SECONDS = 0.1
# What a process's other threads use, of the one processor that Python gives them all.
BUSY_SHARE_MIN = 0.5
# For each second of a processor that messages take, so many are left to others.
PAUSE_TIMES = 12
PAUSE_SECONDS_MAX = 0.05


class Pace:
    """Says for how long the thread that made it, and sends, is to pause."""

    def __init__(self) -> None:
        self._asked_thread_s = time.thread_time()
        self._is_busy = False
        self._begin_to_look()

    def pause_seconds(self) -> float:
        """Return for how long to pause after what this thread has done since it last asked."""
        if time.monotonic() - self._looked_at >= LOOK_SECONDS:
            self._look()
        taken_s = time.thread_time() - self._asked_thread_s
        self._asked_thread_s += taken_s
        return min(taken_s * PAUSE_TIMES, PAUSE_SECONDS_MAX) if self._is_busy else 0.0

    def _look(self) -> None:
        process_s = time.process_time() - self._process_s
        thread_s = time.thread_time() - self._thread_s
        share = (process_s - thread_s) / (time.monotonic() - self._looked_at)
        self._is_busy = share > BUSY_SHARE_MIN
        self._begin_to_look()

    def _begin_to_look(self) -> None:
        self._looked_at = time.monotonic()
        self._process_s, self._thread_s = time.process_time(), time.thread_time()
