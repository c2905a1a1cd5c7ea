"""When a hit was: its id says so, unless it is dated (`models.Hit`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Select,
    column,
    func,
    literal_column,
    select,
    values,
)

from models import HIT_ID_SHIFT, Hit

# What a hit's id says, in milliseconds since the epoch; PostgreSQL shifts by small numbers only.
SHIFT: Any = literal_column(str(HIT_ID_SHIFT))
OF_ID_MS: Any = Hit.id.op(">>")(SHIFT)
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


def ids_at(instants: Sequence[int], condition: ColumnElement[bool]) -> Iterator[Select[Any]]:
    """Yield the statements for the ids, or None, of the hits of some instants, one at least.

    Each instant is looked up, so that it doesn't matter how many hits lie between them: SQLite
    begins with what is to the left of an outer join.
    """
    rows = values(column("at_ms", BigInteger), name="instants").data([(ms,) for ms in instants])
    table = rows.cte("instants")
    at_ms = table.c.at_ms
    of_id = (Hit.id >= at_ms.op("<<")(SHIFT)) & (Hit.id < (at_ms + 1).op("<<")(SHIFT))
    # A comparison of equality would have SQLite read all of a pixel's hits.
    for way in (Hit.dated_ms.is_(None) & of_id, Hit.dated_ms.between(at_ms, at_ms)):
        yield select(Hit.id).select_from(table.outerjoin(Hit, condition & way))
