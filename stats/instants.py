"""When a hit was: its id says so, unless it is dated (`models.Hit`)."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, func, literal_column

from models import HIT_ID_SHIFT, Hit

# What a hit's id says, in milliseconds since the epoch; PostgreSQL shifts by small numbers only.
OF_ID_MS: Any = Hit.id.op(">>")(literal_column(str(HIT_ID_SHIFT)))
# The instant of a hit, in milliseconds since the epoch.
INSTANT_MS: Any = func.coalesce(Hit.dated_ms, OF_ID_MS)


def undated(first_ms: int, last_ms: int) -> ColumnElement[bool]:
    """Return the condition for hits of a range of time by their ids: a range of the key."""
    return Hit.dated_ms.is_(None) & Hit.id.between(
        first_ms << HIT_ID_SHIFT, ((last_ms + 1) << HIT_ID_SHIFT) - 1
    )


def dated(first_ms: int, last_ms: int) -> ColumnElement[bool]:
    """Return the condition for dated hits of a range of time: a range of their index."""
    return Hit.dated_ms.between(first_ms, last_ms)
