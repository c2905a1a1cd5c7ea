"""What is removed from the disk, a chunk at a time: deleted pixels, old hits, expired rows.

Each chunk is one short transaction, so that hits of other pixels wait only for a moment, and is
complete by itself: a run that is stopped or killed leaves work that the next one finishes.

Pruned hits stay in the daily totals, and so does what these name: agents, referrers, queries,
recipients with their first and last opens. To forget those, delete the pixel.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import numpy as np
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
    update,
)

from core.clock import JUMP_TRUSTED_AFTER_MS, from_milliseconds, iso, milliseconds
from core.database import db
from core.locks import give_way, writing
from hits.references import is_over
from models import (
    MS_PER_DAY,
    Catalogue,
    Erasure,
    Hit,
    ImportedHit,
    Pixel,
    Profile,
    Recipient,
    Restart,
    RetentionRun,
    RevokedToken,
    Salt,
    Share,
    UserAgent,
)
from pixels.catalogue import raise_version
from stats import future, questions, rebuilding, store
from stats.days import MS_PER_HOUR
from stats.instants import dated, undated

ROWS_AT_ONCE_MAX = 5_000
# A row that holds a day's arrays may be megabytes.
BLOBS_AT_ONCE_MAX = 8
# How long a request removes what it is told to before it leaves the rest to the housekeeper.
RESTART_SECONDS_MAX = 5.0
# How long nothing goes after the first start that would delete old hits.
WARNED_FOR = timedelta(days=1)
RUN_ID = 1
CLOCKS_DIFFER_MAX = timedelta(milliseconds=future.AHEAD_MS_MIN)
# These go with the pixel itself, at once.
_NOT_ERASED = {Pixel.__tablename__, Share.__tablename__, Erasure.__tablename__}


log = logging.getLogger("pixelkeep.retention")


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


def doubt() -> str | None:
    """Return why old hits don't go by themselves at the moment, None if nothing is doubted."""
    known = select(Catalogue.believed_ms).where(Catalogue.doubted_ms > 0)
    believed_ms = db.session.scalar(known)
    if believed_ms is None:
        return None
    hours = JUMP_TRUSTED_AFTER_MS // MS_PER_HOUR
    return (
        f"nothing goes while the clock is ahead of {iso(from_milliseconds(believed_ms))}, until it"
        f" has been so for {hours} hours"
    )


def doubts(at: datetime) -> Iterator[str]:
    """Yield what speaks against deleting old hits by a clock that shows `at`."""
    newest = from_milliseconds(future.newest_ms())
    if newest > at + CLOCKS_DIFFER_MAX:
        yield (
            f"the clock is behind, or was ahead when the newest hit came: it shows {iso(at)}, and"
            f" the hit is of {iso(newest)}."
        )
    believed_ms = db.session.scalar(select(Catalogue.believed_ms)) or 0
    believed = from_milliseconds(believed_ms)
    if believed_ms and at > believed + WARNED_FOR:
        yield (
            f"the service last knew {iso(believed)}, and the clock shows {iso(at)}: if it is ahead,"
            " hits go too early."
        )


def prune(before_day: int) -> Iterator[int]:
    """Delete the hits before a UTC day; yield after each chunk how many it had."""
    for number in db.session.scalars(select(Pixel.number).order_by(Pixel.number)).all():
        yield from _prune_pixel(number, before_day)


def prune_by_itself(days: int, at: datetime) -> Iterator[int]:
    """Once a day, delete what is older than `days`, or than a pixel's own; yield after each step.

    With 0 days, only pixels that have days of their own lose hits. The first time nothing is
    deleted for a day, so that a setting made by mistake can be taken back. Unverified names that
    have no hit left go too; people whom links were issued to stay, to be listed as not opened.
    """
    own = db.session.execute(
        select(Pixel.number, Pixel.retention_days).order_by(Pixel.number)
    ).all()
    limits = {number: keeps or days for number, keeps in own if keeps or days}
    if not limits or not _is_due(at):
        return
    hits = names = 0
    for number, keeps in limits.items():
        for count in _prune_pixel(number, day_of(at) - keeps):
            hits += count
            yield count
        names += _forget_names(number)
        yield 0
    with writing():
        db.session.execute(
            update(RetentionRun).values(ran_at=at, hits_removed=hits, names_removed=names)
        )
    if hits or names:
        log.info("Retention: %d hits and %d unverified names are gone.", hits, names)


def last_run() -> RetentionRun | None:
    """Return when old hits went by themselves last, None if they never had to."""
    return db.session.get(RetentionRun, RUN_ID)


def _is_due(at: datetime) -> bool:
    """Tell whether today's hits that are too old have to go; note when this was asked first."""
    run = last_run()
    if run is None or run.begins_at > at + WARNED_FOR:
        begins_at = at + WARNED_FOR
        with writing():
            db.session.merge(RetentionRun(id=RUN_ID, begins_at=begins_at))
        log.warning(
            "Old hits are deleted by themselves from %s on, as PIXELKEEP_RETENTION_DAYS or a pixel"
            " says. Their daily totals stay.",
            iso(begins_at),
        )
        return False
    # A day that a wrong clock made up doesn't count.
    return at >= run.begins_at and (run.ran_at is None or day_of(run.ran_at) != day_of(at))


def _prune_pixel(number: int, before_day: int) -> Iterator[int]:
    ours = Hit.pixel_number == number
    # Each is a range of a key.
    found = [ours & old for old in _before(before_day)]
    if any(db.session.scalar(select(exists().where(old))) for old in found):
        folded_through = rebuilding.forget_hits(number, before_day)
        for old in found:
            # One that came late, since then, is counted before it goes.
            yield from _delete_rows(Hit.__table__, old & (Hit.id <= folded_through))


def _forget_names(pixel_number: int) -> int:
    """Delete the names of plain links that no hit has any more; return how many."""
    state = store.state_of(pixel_number)
    if state is None or not state.pruned_before:
        return 0
    seen = np.zeros(state.visitor_count + 1, bool)
    days = store.days_of(pixel_number)
    for _, columns in store.read_columns(pixel_number, days):
        seen[columns.visitor] = True
    statement = select(Recipient.visitor, Recipient.number).where(
        Recipient.pixel_number == pixel_number,
        Recipient.verified.is_(False),
        Recipient.number <= state.visitor_count,
    )
    rows = db.session.execute(statement).all()
    gone = [visitor for visitor, number in rows if not seen[number]]
    for start in range(0, len(gone), ROWS_AT_ONCE_MAX):
        with writing():
            # Hits that came meanwhile are not counted in days yet.
            pending = select(Hit.visitor).where(
                Hit.pixel_number == pixel_number,
                Hit.id > state.folded_through,
                Hit.visitor.is_not(None),
            )
            db.session.execute(
                delete(Recipient).where(
                    Recipient.pixel_number == pixel_number,
                    Recipient.visitor.in_(gone[start : start + ROWS_AT_ONCE_MAX]),
                    Recipient.visitor.not_in(pending),
                )
            )
            db.session.execute(
                update(Pixel)
                .where(Pixel.number == pixel_number)
                .values(revision=Pixel.revision + 1)
            )
            raise_version()
    return len(gone)


def start_anew(pixel_number: int) -> bool:
    """Remove all hits that a pixel has by now, and what was counted of them; tell if all are gone.

    Its links, its people and its shares stay, and what comes meanwhile stays too. It begins at
    once; what can't be done in seconds the housekeeper does.
    """
    last = questions.newest_id(pixel_number) or 0
    with writing():
        db.session.merge(Restart(pixel_number=pixel_number, through=last))
    give_up_at = time.monotonic() + RESTART_SECONDS_MAX
    for _ in _restart(pixel_number, last):
        if time.monotonic() > give_up_at:
            return False
        give_way()
    return True


def finish_restarts() -> Iterator[int]:
    """Remove what pixels that start anew had; yield after each step how many rows it removed."""
    for number, through in db.session.execute(select(Restart.pixel_number, Restart.through)).all():
        yield from _restart(number, through)


def _restart(pixel_number: int, through: int) -> Iterator[int]:
    """Remove a pixel's hits up to one, and count anew; whoever stops in between may begin again."""
    ours = Hit.pixel_number == pixel_number
    yield from _delete_rows(Hit.__table__, ours & (Hit.id <= through))
    yield from _delete_rows(ImportedHit.__table__, ImportedHit.pixel_number == pixel_number)
    # There are no figures any more for which those who were forgotten would have to stay.
    nameless = (Recipient.pixel_number == pixel_number) & Recipient.recipient.is_(None)
    yield from _delete_rows(Recipient.__table__, nameless)
    rebuilding.forget_pruned(pixel_number)
    rebuilding.rebuild(pixel_number)
    is_done = (Restart.pixel_number == pixel_number) & (Restart.through <= through)
    with writing():
        db.session.execute(delete(Restart).where(is_done))


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
