"""The only code that stores a hit; it returns when the hit is committed.

What waits is committed together (`group_commit`); here is the SQL. `docs/durability.md` says what
survives.

A hit's id is the order of its commit and, in its upper bits, the instant, as long as the two agree.
After a clock ran ahead they don't: ids go on above those that are folded already, and the instant
is stored beside them until the right time has caught up. On PostgreSQL both are made by the
statement that inserts, from the database's clock, so that no node's clock matters.

An address is used to name an anonymous visitor (`references`), and is never written anywhere.
"""

from __future__ import annotations

import functools
import itertools
import secrets
import time
import traceback
from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import NamedTuple

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from core.clock import now_ms
from core.database import BUSY_TIMEOUT_MS, is_database_error
from core.links import Links
from core.locks import is_busy, write_lock
from hits.classify import RULES_VERSION
from hits.group_commit import GroupCommit, Uncommitted, Waiting
from hits.kept_connection import KeptConnection
from hits.metrics import Metrics
from hits.pixel_names import KnownPixels, PixelEntry, PixelName, read_pixel
from hits.references import HitContext, HitRow, Identity, References
from models import HIT_ID_SHIFT, MS_PER_DAY

PATIENCE_SECONDS = BUSY_TIMEOUT_MS / 1000
# However little patience is left, an answer of PostgreSQL that is on its way is waited for.
ANSWER_SECONDS_MIN = 2.0
# Ids are drawn at random within a millisecond; two processes that draw the same draw again.
ATTEMPTS_MAX = 3
# While the clock is behind the ids, they go on by steps up to this, so that two processes that
# know of the same last one rarely draw the same next.
STEP_BITS = 16
# The first of the year 2200. A clock that shows more would use up what numbers there are.
ID_MS_MAX = 7_258_118_400_000
POSTGRESQL_NOW_MS = "CAST(floor(extract(epoch FROM clock_timestamp()) * 1000) AS BIGINT)"
READ_CATALOGUE = "SELECT version, folded_through, {} FROM catalogue"
# One statement for a batch, since each hands Python's lock to another thread and waits to have
# it back. It inserts nothing if the catalogue is not what the batch was made for.
INSERT_HITS = (
    "INSERT INTO hits (pixel_number, id, visitor, profile, dated_ms)"
    " SELECT * FROM (VALUES {}) AS new"
    " WHERE EXISTS (SELECT 1 FROM catalogue WHERE version = ? AND folded_through < ?)"
)
ONE_HIT = "(?, ?, ?, ?, ?)"
# PostgreSQL draws the ids itself, and inserts nothing on another UTC day than the batch's, whose
# salt has named the visitors. Of the clock there is one reading, because it is materialised. The
# rows come as arrays, so that the text stays the same: to read one with a place for each value
# took the driver a seventh of its time.
_POSTGRESQL_INSERT_HITS = (
    "WITH clock AS MATERIALIZED"
    " (SELECT {now} AS ms, folded_through FROM catalogue WHERE version = {number}),"
    " drawn AS MATERIALIZED (SELECT ms, GREATEST((LEAST(ms, {ms_max}) << {shift}) + {number},"
    " folded_through + {number}, {number}) AS last"
    " FROM clock WHERE ms / {ms_per_day} = {number})"
    " INSERT INTO hits (pixel_number, id, visitor, profile, dated_ms)"
    " SELECT pixel_number, last + place, visitor, profile,"
    " NULLIF(COALESCE(dated_ms, ms), (last + place) >> {shift})"
    " FROM drawn, unnest({numbers}, {numbers}, {numbers}, {numbers}) WITH ORDINALITY"
    " AS new (pixel_number, visitor, profile, dated_ms, place)"
    " RETURNING id, dated_ms"
)
POSTGRESQL_INSERT_HITS = _POSTGRESQL_INSERT_HITS.format(
    now=POSTGRESQL_NOW_MS,
    ms_max=ID_MS_MAX,
    ms_per_day=MS_PER_DAY,
    shift=HIT_ID_SHIFT,
    number="CAST(%s AS BIGINT)",
    numbers="CAST(%s AS BIGINT[])",
)


class Unstored(Exception):
    """A hit could not be committed in time; its text says why, and nothing of anybody."""


class NewHit(NamedTuple):
    """A hit that is to be stored; `at_ms` only where a permitted caller has said it."""

    name: PixelName
    pixel: PixelEntry
    context: HitContext
    identity: Identity | None
    at_ms: int | None = None


class Stored(NamedTuple):
    """A committed hit, its instant in milliseconds since the epoch, and who fetched.

    The last only where it may be one of a burst, see `hits.bursts`.
    """

    id: int
    visitor: int | None
    at_ms: int
    source: int | None = None


class Batch(NamedTuple):
    """The rows of hits, which hold for one UTC day, since its salt has named the visitors.

    `found` tells of each hit, in order, whether its request still names the same pixel: the others
    have no row.
    """

    rows: list[HitRow]
    found: list[bool]
    day: int
    at_ms: int
    is_from_memory: bool = False


WaitingHit = Waiting[NewHit, Stored | None]


class Recorder:
    """Finds pixels and stores hits for one process; safe to make before a fork.

    From `commit` on everything is the leader's own and needs no lock: there is one at a time.
    """

    def __init__(
        self,
        engine: Engine,
        metrics: Metrics,
        links: Links,
        rules_version: int = RULES_VERSION,
    ) -> None:
        self._engine = engine
        self._links = links
        self._group: GroupCommit[NewHit, Stored | None] = GroupCommit(
            self, PATIENCE_SECONDS, metrics
        )
        self._integrity_error: type[Exception] = engine.dialect.loaded_dbapi.IntegrityError
        self._connection = KeptConnection(engine, on_close=self._forget)
        self._pixels = KnownPixels()
        self._references = References(rules_version)
        # The catalogue as it was read last.
        self._version = -1
        self._folded_through = 0
        # Of this process's own ids, whatever database they went to.
        self._last_id = 0

    def find(self, name: PixelName) -> PixelEntry | None:
        """Return the pixel that a request names, None if there is none.

        What is found may be a moment old: the hit's own transaction asks again.

        Raises: Unstored if the database doesn't answer.
        """
        return self._pixels.get(name) or self.look_up(name)

    def look_up(self, name: PixelName) -> PixelEntry | None:
        """Return the pixel that a request names by what is committed now, None if there is none.

        Raises: Unstored if the database doesn't answer.
        """
        try:
            with self._engine.connect() as connection:
                return read_pixel(connection, name)
        except SQLAlchemyError as error:
            raise Unstored(reason_of(error)) from None

    def enqueue(self, hit: NewHit) -> WaitingHit:
        """Put a hit into the queue for the next commit; `wait` returns what became of it."""
        return self._group.enqueue(hit)

    def wait(self, waiting: WaitingHit) -> Stored | None:
        """Return a hit once it is committed. None: the request names another pixel now.

        Raises: Unstored if it could not be committed. Where the commit itself failed, the hit
        may be found later all the same; in all other cases nothing of it is stored.
        """
        try:
            return self._group.wait(waiting)
        except Uncommitted as error:
            raise Unstored(reason_of(error.reason)) from None

    def commit_now(self) -> bool:
        """Commit all that wait, if that takes a moment; False if somebody else is at it.

        PostgreSQL is a network away, which is more than a moment.
        """
        return self._connection.is_sqlite and self._group.commit_now()

    def turn(self, patience_s: float) -> AbstractContextManager[None]:
        """Hold SQLite's one writer's place, as `Storage` says; PostgreSQL has to answer in time."""
        self._connection.answer_by = time.monotonic() + max(patience_s, ANSWER_SECONDS_MIN)
        return write_lock(self._engine, patience_s)

    def lock(self) -> None:
        """Take the database's lock for the next commit, as `Storage` says."""
        self._connection.begin()

    def is_busy(self, error: Exception) -> bool:
        """Tell whether an error says no more than that somebody else holds the lock."""
        return is_busy(error)

    def commit(self, hits: list[NewHit]) -> list[Stored | None]:
        """Commit all hits or none, and return in their order what became of each.

        In the steady state that is one statement, which inserts nothing unless the catalogue still
        is what the batch was made for; then it is made again in a transaction that reads it first.
        """
        connection = self._connection
        insert = self._insert_on_sqlite if connection.is_sqlite else self._insert_on_postgresql
        try:
            if not connection.is_sqlite and not connection.has_begun:
                # Here the shared lock keeps others from changing a pixel until the commit; on
                # SQLite a single statement is a transaction of its own.
                connection.begin()
            for attempt in range(ATTEMPTS_MAX):
                batch = None if attempt else self._make_from_memory(hits)
                batch = batch or self._make_from_tables(hits)
                try:
                    inserted = insert(batch) if batch.rows else []
                except self._integrity_error:
                    # Somebody else's hit of the same pixel has the id that was drawn.
                    connection.close()
                    if attempt == ATTEMPTS_MAX - 1:
                        raise
                    continue
                if inserted is not None:
                    break
            else:
                raise RuntimeError("the catalogue changed within a transaction")
            connection.commit()
        except Exception:
            connection.close()
            raise
        # Not before the commit: rows of a transaction that failed are not stored.
        self._references.learn()
        # After it, since the file may have been replaced at any moment until then.
        connection.require_same_file()
        stored = iter(inserted)
        return [next(stored) if is_found else None for is_found in batch.found]

    def _make_from_memory(self, hits: list[NewHit]) -> Batch | None:
        """Make the rows of hits of which all is known already; None if it is not."""
        at_ms = now_ms()
        # On PostgreSQL the statement itself looks at the day, by the one clock that counts.
        day = at_ms // MS_PER_DAY if self._connection.is_sqlite else self._references.day
        if self._references.day != day or any(
            self._pixels.get(hit.name) != hit.pixel
            or not self._references.knows(hit.pixel.number, hit.identity)
            for hit in hits
        ):
            return None
        rows = [
            self._references.row(hit.pixel.number, hit.context, hit.identity, hit.at_ms)
            for hit in hits
        ]
        if self._references.has_unstored:
            # They have to be inserted with the hits, in one transaction.
            return None
        return Batch(rows, [True] * len(rows), day, at_ms, is_from_memory=True)

    def _make_from_tables(self, hits: list[NewHit]) -> Batch:
        """Make the rows of hits by what the catalogue and the tables say, and store the others.

        The catalogue's version can't change until the commit: what is true here is true there.
        """
        if not self._connection.has_begun:
            self._connection.begin()
        connection = self._connection.for_sqlalchemy
        clock = str(now_ms()) if self._connection.is_sqlite else POSTGRESQL_NOW_MS
        catalogue = self._connection.execute(READ_CATALOGUE.format(clock)).fetchall()
        [(version, folded_through, at_ms)] = catalogue
        if version != self._version:
            # Something has changed that hits must obey: a pixel, a person, or rows were deleted.
            self._forget()
        self._version, self._folded_through = version, folded_through
        self._references.use_salt_of(connection, at_ms)
        found = [self._pixels.resolve(connection, hit.name) == hit.pixel for hit in hits]
        wanted = [
            (hit.pixel.number, hit.context, hit.identity, hit.at_ms)
            for hit in itertools.compress(hits, found)
        ]
        people = ((number, identity) for number, _, identity, _ in wanted)
        self._references.find_people(connection, self._links, people)
        rows = [self._references.row(*arguments) for arguments in wanted]
        self._references.store(connection)
        return Batch(rows, found, at_ms // MS_PER_DAY, at_ms)

    def _insert_on_sqlite(self, batch: Batch) -> list[Stored] | None:
        """Insert hits; None, and nothing of them, if the catalogue is not as it was read.

        They get ids one after the other, above all that this process gave and all that are folded,
        and the instant is ours.
        """
        first = next_id(batch.at_ms, above=max(self._last_id, self._folded_through))
        stored = [
            Stored(id, row.visitor, batch.at_ms if row.at_ms is None else row.at_ms, row.source)
            for id, row in enumerate(batch.rows, first)
        ]
        values = (
            (row.pixel_number, hit.id, row.visitor, row.profile, _dated(hit))
            for row, hit in zip(batch.rows, stored, strict=True)
        )
        statement = _insert_statement(len(stored))
        parameters = (*itertools.chain(*values), self._version, first)
        if self._connection.execute(statement, parameters).rowcount < len(stored):
            return None
        self._last_id = stored[-1].id
        return stored

    def _insert_on_postgresql(self, batch: Batch) -> list[Stored] | None:
        """Insert hits as on SQLite, but ids and instants are by the database's clock.

        Nothing is inserted on another day than the batch's either. In the steady state the commit
        goes with it: of what was not inserted it commits nothing.
        """
        drawn, step = secrets.randbits(HIT_ID_SHIFT - 1), 1 + secrets.randbits(STEP_BITS)
        clock = (self._version, drawn, step, self._last_id + step, batch.day)
        rows = batch.rows
        columns = (
            _array(row.pixel_number for row in rows),
            _array(row.visitor for row in rows),
            _array(row.profile for row in rows),
            _array(row.at_ms for row in rows),
        )
        connection = self._connection
        execute = connection.execute_and_commit if batch.is_from_memory else connection.execute
        found = sorted(execute(POSTGRESQL_INSERT_HITS, (*clock, *columns)).fetchall())
        if len(found) < len(rows):
            return None
        self._last_id = found[-1][0]
        return [
            Stored(
                id, row.visitor, id >> HIT_ID_SHIFT if dated_ms is None else dated_ms, row.source
            )
            for row, (id, dated_ms) in zip(rows, found, strict=True)
        ]

    def _forget(self) -> None:
        """Forget what held for one version of one database's catalogue."""
        self._version = -1
        self._folded_through = 0
        self._pixels.forget()
        self._references.forget()


def next_id(at_ms: int, above: int) -> int:
    """Return the first id for hits of an instant, above those that are there.

    The low bits are random, since another process may commit in the same millisecond.
    """
    drawn = (min(at_ms, ID_MS_MAX) << HIT_ID_SHIFT) + secrets.randbits(HIT_ID_SHIFT - 1)
    return drawn if drawn > above else above + 1 + secrets.randbits(STEP_BITS)


def _dated(hit: Stored) -> int | None:
    """Return a hit's instant if its id doesn't say it."""
    return None if hit.at_ms == hit.id >> HIT_ID_SHIFT else hit.at_ms


@functools.cache
def _insert_statement(count: int) -> str:
    return INSERT_HITS.format(", ".join([ONE_HIT] * count))


def _array(numbers: Iterable[int | None]) -> str:
    """Return numbers as PostgreSQL writes an array."""
    return f"{{{','.join('NULL' if number is None else str(number) for number in numbers)}}}"


def reason_of(error: Exception) -> str:
    """Return what an error was about, for the log: without values, which may be people's data."""
    cause: BaseException = (isinstance(error, DBAPIError) and error.orig) or error
    name = type(cause).__name__
    if isinstance(cause, OSError):
        return f"{name}: {cause.strerror}"
    if isinstance(cause, SQLAlchemyError) or is_database_error(cause):
        return f"{name}: {str(cause).strip().partition(chr(10))[0]}"
    return "\n".join([name, *traceback.format_tb(cause.__traceback__)])
