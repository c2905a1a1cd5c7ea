"""Hits that lie in the future, as a clock that ran ahead leaves them: noticing and telling."""

from __future__ import annotations

import logging

from sqlalchemy import func, select, update

from core.clock import database_now_ms, from_milliseconds, now_ms
from core.database import db
from core.locks import writing
from models import Catalogue, Hit, Pixel
from stats.instants import INSTANT_MS

# Clocks that are kept right differ by less.
AHEAD_MS_MIN = 5_000

log = logging.getLogger("pixelkeep.segments")


def note(newest_ms: int) -> None:
    """Remember the latest instant of some hits if it is in the future; say so once.

    Call it inside `writing()`.
    """
    if newest_ms <= now_ms() + AHEAD_MS_MIN:
        return
    # PostgreSQL has dated the hits, and it may be our clock that is wrong.
    is_ahead = newest_ms > database_now_ms(db.engine.dialect.name) + AHEAD_MS_MIN
    noting = update(Catalogue).where(Catalogue.future_ms < newest_ms, is_ahead)
    # Of several processes that notice it, the one whose statement changes the row says so.
    if db.session.connection().execute(noting.values(future_ms=newest_ms)).rowcount:
        log.warning(_told(newest_ms))


def note_folded() -> None:
    """Remember hits that were folded by a clock that was ahead, now that it may be right."""
    newest_ms = db.session.scalar(select(func.max(Pixel.newest_ms))) or 0
    if newest_ms > now_ms() + AHEAD_MS_MIN:
        with writing():
            note(newest_ms)


def warning() -> str | None:
    """Return what to tell of hits that lie in the future at this moment, None if there are none."""
    now = database_now_ms(db.engine.dialect.name)
    ahead = select(Catalogue.future_ms).where(Catalogue.future_ms > now + AHEAD_MS_MIN)
    newest_ms = db.session.scalar(ahead)
    return None if newest_ms is None else _told(newest_ms)


def newest_ms() -> int:
    """Return the latest instant of any pixel's hits, 0 without one; reads one hit a pixel."""
    last = (
        select(INSTANT_MS)
        .where(Hit.pixel_number == Pixel.number)
        .order_by(Hit.id.desc())
        .limit(1)
        .correlate(Pixel)
        .scalar_subquery()
    )
    folded, pending = db.session.execute(select(func.max(Pixel.newest_ms), func.max(last))).one()
    return max(folded or 0, pending or 0)


def look_again() -> None:
    """Look up the latest instant of any pixel's hits again; call it inside `writing()`."""
    newest = select(func.coalesce(func.max(Pixel.newest_ms), 0)).scalar_subquery()
    db.session.execute(update(Catalogue).values(future_ms=newest))


def _told(newest_ms: int) -> str:
    latest = from_milliseconds(newest_ms).isoformat(timespec="seconds").replace("+00:00", "Z")
    return (
        f"Hits lie in the future, the last at {latest}: a clock was ahead."
        " `script/pixelkeep hits future` lists them."
    )
