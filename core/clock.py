"""Instants: aware UTC datetimes, kept as whole milliseconds since the epoch.

And a clock that nobody sets, by which one that jumps is told from one that goes on.
"""

from __future__ import annotations

import functools
import secrets
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, cast, func, literal

# What tells a clock that was set from one that is put right little by little.
JUMP_MS_MIN = 3_600_000
# A clock that went ahead and has stayed there for so long was behind before.
JUMP_TRUSTED_AFTER_MS = 12 * 3_600_000
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
# Linux's goes on while the machine sleeps.
_SINCE_BOOT = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def milliseconds(instant: datetime) -> int:
    """Return the whole milliseconds since the epoch of an aware `instant`."""
    return round(instant.timestamp() * 1000)


def from_milliseconds(value: int) -> datetime:
    """Return the aware UTC instant of milliseconds since the epoch."""
    return datetime.fromtimestamp(value // 1000, UTC).replace(microsecond=value % 1000 * 1000)


def iso(instant: datetime) -> str:
    """Return an aware instant as `2024-03-15T09:20:00.000Z`."""
    return instant.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def now() -> datetime:
    """Return the clock's aware UTC instant, cut to the milliseconds that are kept."""
    return from_milliseconds(now_ms())


def now_ms() -> int:
    """Return the milliseconds since the epoch by this machine's clock."""
    return time.time_ns() // 1_000_000


def database_now_ms(dialect_name: str) -> ColumnElement[int]:
    """Return the expression for now by the clock that dates hits: PostgreSQL's, else ours."""
    if dialect_name != "postgresql":
        return literal(now_ms(), BigInteger)
    seconds: Any = func.extract("epoch", func.clock_timestamp())
    return cast(func.floor(seconds * 1000), BigInteger)


@functools.cache
def boot() -> str:
    """Return which start of this machine this is; where it can't be told, which of this program."""
    with suppress(OSError):
        return _BOOT_ID.read_text().strip()
    return secrets.token_hex(16)


def since_boot_ms() -> int:
    """Return the milliseconds since the machine's start, whatever its clock was set to since."""
    return time.clock_gettime_ns(_SINCE_BOOT) // 1_000_000


class SteadyClock:
    """Follows a clock that may jump, and doesn't follow it ahead before half a day has passed.

    For what is deleted when its time has come, and can't be brought back when it had not.
    """

    def __init__(self) -> None:
        self._offset_ms: int | None = None
        self._ahead_since_ms: int | None = None

    def resume(self, believed_ms: int, doubted_ms: int) -> None:
        """Go on from what was believed before a start, and from how long a jump was doubted."""
        since_ms = since_boot_ms()
        self._offset_ms = believed_ms - since_ms
        self._ahead_since_ms = since_ms - doubted_ms if doubted_ms else None

    @property
    def doubted_ms(self) -> int:
        """For how long the clock has been ahead of what is believed of it, 0 if it is not."""
        since_ms = self._ahead_since_ms
        return 0 if since_ms is None else max(since_boot_ms() - since_ms, 1)

    def read(self, shown_ms: int) -> int:
        """Return the time in milliseconds since the epoch, of a clock that shows `shown_ms`."""
        since_ms = since_boot_ms()
        offset_ms = shown_ms - since_ms
        if self._offset_ms is None or offset_ms - self._offset_ms < JUMP_MS_MIN:
            self._offset_ms, self._ahead_since_ms = offset_ms, None
        elif self._ahead_since_ms is None:
            self._ahead_since_ms = since_ms
        elif since_ms - self._ahead_since_ms > JUMP_TRUSTED_AFTER_MS:
            self._offset_ms, self._ahead_since_ms = offset_ms, None
        return since_ms + self._offset_ms
