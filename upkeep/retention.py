"""What leaves the disk, a chunk at a time: deleted pixels and old hits; and what outlives its use.

Each chunk is one short transaction, so that hits of other pixels wait for a moment only, and is
whole by itself: whoever stops in between, or is killed, leaves work that the next run finishes.

Pruned hits stay in the daily totals, and so does what these name: agents, referrers, queries,
recipients with their first and last opens. To forget those, delete the pixel.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    LargeBinary,
    Table,
    delete,
    exists,
    func,
    literal,
    select,
    tuple_,
)

from core.clock import milliseconds
from core.database import db
from core.locks import writing
from hits.references import is_over
from models import (
    MS_PER_DAY,
    Erasure,
    Hit,
    Pixel,
    Profile,
    RevokedToken,
    Salt,
    Share,
    UserAgent,
)
from pixels.catalogue import raise_version
from stats import questions, rebuilding
from stats.instants import dated, undated

ROWS_AT_ONCE_MAX = 5_000
# A row that holds a day's arrays may be megabytes.
BLOBS_AT_ONCE_MAX = 8
# These go with the pixel itself, at once.
_NOT_ERASED = {Pixel.__tablename__, Share.__tablename__, Erasure.__tablename__}


def finish_erasures() -> Iterator[int]:
    """Remove all rows of deleted pixels; yield after each chunk how many rows it had."""
    while (number := db.session.scalar(select(Erasure.pixel_number).limit(1))) is not None:
        for table in _tables_of_pixels():
            yield from _delete_rows(table, table.c.pixel_number == number)
        with writing():
            db.session.execute(delete(Erasure).where(Erasure.pixel_number == number))
        _delete_unnamed_agents()


def count_hits_before(day: int) -> int:
    """Return how many hits are older than a UTC day, counted in days since the epoch."""
    statement = select(func.count()).select_from(Hit).join(Pixel, Pixel.number == Hit.pixel_number)
    return sum(db.session.scalar(statement.where(old)) or 0 for old in _before(day))


def prune(before_day: int) -> Iterator[int]:
    """Delete the hits before a UTC day; yield after each chunk how many it had."""
    for pixel in db.session.scalars(select(Pixel).order_by(Pixel.number)).all():
        ours = Hit.pixel_number == pixel.number
        # Each is a range of a key.
        found = [ours & old for old in _before(before_day)]
        if any(db.session.scalar(select(exists().where(old))) for old in found):
            folded_through = rebuilding.forget_hits(pixel.number, before_day)
            for old in found:
                # One that came late, since then, is counted before it goes.
                yield from _delete_rows(Hit.__table__, old & (Hit.id <= folded_through))


def remove_hits(pixel_number: int) -> None:
    """Remove all hits that a pixel has by now, and what was counted of them.

    Its links, its people and its shares stay. What comes meanwhile stays too.
    """
    last = questions.newest_id(pixel_number) or 0
    for _ in _delete_rows(Hit.__table__, (Hit.pixel_number == pixel_number) & (Hit.id <= last)):
        pass
    rebuilding.forget_pruned(pixel_number)
    rebuilding.rebuild(pixel_number)


def forget_salts(today: int) -> int:
    """Delete the salts of UTC days that are over, so that nobody can compute what they made.

    Returns how many there were. SQLite overwrites what is deleted (`secure_delete`), and
    `database.empty_log` removes the copies in its log; PostgreSQL overwrites its pages and its
    log in its own time.
    """
    old = is_over(today)
    if not db.session.scalar(select(exists().where(old))):
        return 0
    with writing():
        return _delete_chunk(Salt.__table__, old)


def forget_revoked_tokens(at: datetime) -> int:
    """Delete the tokens that were revoked and would have expired by now; return how many."""
    expired = RevokedToken.expires_at < at
    if not db.session.scalar(select(exists().where(expired))):
        return 0
    with writing():
        return _delete_chunk(RevokedToken.__table__, expired)


def day_of(instant: datetime) -> int:
    """Return the UTC day of an instant, counted from the epoch."""
    return milliseconds(instant) // MS_PER_DAY


def _tables_of_pixels() -> list[Table]:
    return [
        table
        for table in db.metadata.sorted_tables
        if "pixel_number" in table.c and table.name not in _NOT_ERASED
    ]


def _before(day: int) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    last_ms = day * MS_PER_DAY - 1
    return undated(0, last_ms), dated(0, last_ms)


def _delete_rows(table: Any, condition: ColumnElement[bool]) -> Iterator[int]:
    """Delete rows that nobody adds to any more, in chunks; yield how many each had."""
    while True:
        with writing():
            count = _delete_chunk(table, condition)
        if not count:
            return
        yield count


def _delete_chunk(table: Any, condition: ColumnElement[bool]) -> int:
    """Delete the first rows of a table that match, by their key; return how many.

    Up to a key and not from a list of keys, so that it takes the same time however PostgreSQL's
    planner misjudges what is there.
    """
    has_blobs = any(isinstance(column.type, LargeBinary) for column in table.columns)
    rows_max = BLOBS_AT_ONCE_MAX if has_blobs else ROWS_AT_ONCE_MAX
    connection, key = db.session.connection(), list(table.primary_key)
    following = select(*key).where(condition).order_by(*key).offset(rows_max).limit(1)
    statement = delete(table).where(condition)
    for row in connection.execute(following):
        end = (literal(value, column.type) for value, column in zip(row, key, strict=True))
        statement = statement.where(tuple_(*key) < tuple_(*end))
    return connection.execute(statement).rowcount


def _delete_unnamed_agents() -> None:
    """Delete the user agents that no profile names any more."""
    unnamed = ~select(Profile.id).where(Profile.agent == UserAgent.id).correlate(UserAgent).exists()
    while db.session.scalar(select(select(UserAgent.id).where(unnamed).exists())):
        with writing():
            _delete_chunk(UserAgent.__table__, unnamed)
            # Recorders remember what is stored already, and must not remember these.
            raise_version()
