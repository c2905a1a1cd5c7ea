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

import errno
import functools
import itertools
import secrets
import traceback
import uuid
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection, Engine, select
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from core.clock import milliseconds, now_ms
from core.database import BUSY_TIMEOUT_MS, TRY_MS, is_database_error
from core.links import Links
from core.locks import ADVISORY_LOCK, is_busy, write_lock
from core.sqlite import file_identity, sqlite_file
from hits.classify import RULES_VERSION
from hits.group_commit import GroupCommit, Uncommitted
from hits.group_commit import Waiting as WaitingItem
from hits.metrics import Metrics
from hits.references import HitContext, Identity, References, Rows
from models import HIT_ID_SHIFT, MS_PER_DAY, Pixel

PATIENCE_SECONDS = BUSY_TIMEOUT_MS / 1000
POSTGRESQL_TIMEOUTS = (
    "SET lock_timeout = 1000",
    f"SET statement_timeout = {BUSY_TIMEOUT_MS}",
)
# Hits go to the end of their table: few pages are needed again.
CACHE_KIB = 256
PIXELS_CACHED_MAX = 10_000
# Ids are drawn at random within a millisecond; two processes that draw the same draw again.
ATTEMPTS_MAX = 3
# While the clock is behind the ids, they go on by steps up to this, so that two processes that
# know of the same last one rarely draw the same next.
STEP_BITS = 16
# The first of the year 2200. A clock that shows more would use up what numbers there are.
ID_MS_MAX = 7_258_118_400_000
SUFFIX = ".gif"
LOCK_SHARED = f"SELECT pg_advisory_xact_lock_shared({ADVISORY_LOCK})"
POSTGRESQL_NOW_MS = "CAST(floor(extract(epoch FROM clock_timestamp()) * 1000) AS BIGINT)"
READ_CATALOGUE = "SELECT version, folded_through, {} FROM catalogue"
# One statement for a batch, since each hands Python's lock to another thread and waits to have
# it back. It inserts nothing if the catalogue is not what the batch was made for.
INSERT_HITS = (
    "INSERT INTO hits (pixel_number, id, visitor, profile, dated_ms)"
    " SELECT * FROM (VALUES {}) AS new"
    " WHERE EXISTS (SELECT 1 FROM catalogue WHERE version = ? AND folded_through < ?)"
)
# PostgreSQL draws the ids itself, and inserts nothing on another UTC day than the batch's, whose
# salt has named the visitors. Of the clock there is one reading, because it is materialised.
POSTGRESQL_INSERT_HITS = (
    "WITH clock AS MATERIALIZED"
    " (SELECT {now} AS ms, folded_through FROM catalogue WHERE version = {p}),"
    " drawn AS MATERIALIZED (SELECT ms,"
    " GREATEST((LEAST(ms, {ms_max}) << {shift}) + {p}, folded_through + {p}, {p}) AS first"
    " FROM clock WHERE ms / {ms_per_day} = {p})"
    " INSERT INTO hits (pixel_number, id, visitor, profile, dated_ms)"
    " SELECT pixel_number, first + place, visitor, profile,"
    " NULLIF(COALESCE(dated_ms, ms), (first + place) >> {shift})"
    " FROM drawn, (VALUES {rows}) AS new (pixel_number, place, visitor, profile, dated_ms)"
    " RETURNING id, dated_ms"
)
ONE_HIT = "(?, ?, ?, ?, ?)"


class Unstored(Exception):
    """A hit could not be committed in time; its text says why, and nothing of anybody."""


class PixelEntry(NamedTuple):
    """What a hit needs to know of its pixel."""

    number: int
    id: uuid.UUID
    anonymous: bool
    needs_consent: bool = False


class PixelName(NamedTuple):
    """How a request names its pixel: by a slug, as written or without `.gif`, or by its id."""

    slug: str = ""
    id: uuid.UUID | None = None
    may_have_suffix: bool = False


class NewHit(NamedTuple):
    """A hit that is to be stored; `at` only where a caller who may has said when it was."""

    request: PixelName
    pixel: PixelEntry
    circumstances: HitContext
    who: Identity | None
    at: datetime | None = None


class Stored(NamedTuple):
    """A committed hit, its instant in milliseconds since the epoch, and who fetched.

    The last only where it may be one of a burst, see `hits.bursts`.
    """

    id: int
    visitor: int | None
    at_ms: int
    source: int | None = None


class HitRow(NamedTuple):
    """A row of `hits` before it has an id; `at_ms` only where a caller has said it."""

    pixel_number: int
    visitor: int | None
    profile: int
    at_ms: int | None
    source: int | None = None


class Batch(NamedTuple):
    """Rows for hits, None for one whose request names another pixel now.

    They hold for one UTC day, whose salt has named the visitors.
    """

    rows: list[HitRow | None]
    day: int
    at_ms: int


Waiting = WaitingItem[NewHit, Stored | None]


class Recorder:
    """Finds pixels and stores hits for one process; safe to make before a fork.

    What the leader alone touches needs no lock: there is one leader at a time.
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
        self._file = sqlite_file(engine)
        if self._file is not None:
            self._opening_statements: tuple[str, ...] = (
                f"PRAGMA busy_timeout = {TRY_MS}",
                f"PRAGMA cache_size = -{CACHE_KIB}",
            )
            self._begin_statement = "BEGIN IMMEDIATE"
        else:
            self._opening_statements = POSTGRESQL_TIMEOUTS
            self._begin_statement = f"BEGIN; {LOCK_SHARED}"
        # From here on the leader's own.
        self._connection: Connection | None = None
        self._cursor: Any = None
        self._identity: tuple[int, ...] = ()
        self._has_begun = False
        self._version = -1
        self._folded_through = 0
        self._pixels: dict[PixelName, PixelEntry] = {}
        self._references = References(rules_version)
        # What hits refer to and no transaction has stored yet.
        self._new: Rows = {}
        # Of this process's own ids, whatever database they went to.
        self._last_id = 0

    def find(self, request: PixelName) -> PixelEntry | None:
        """Return the pixel that a request names, None if there is none.

        What is found may be a moment old: the hit's own transaction asks again.

        Raises: Unstored if the database doesn't answer.
        """
        return self._pixels.get(request) or self.look_up(request)

    def look_up(self, request: PixelName) -> PixelEntry | None:
        """Return the pixel that a request names by what is committed now, None if there is none.

        Raises: Unstored if the database doesn't answer.
        """
        try:
            with self._engine.connect() as connection:
                return _read_pixel(connection, request)
        except SQLAlchemyError as error:
            raise Unstored(reason_of(error)) from None

    def enqueue(self, hit: NewHit) -> Waiting:
        """Put a hit into the queue, for whoever commits next; `wait` sees it through."""
        return self._group.enqueue(hit)

    def wait(self, waiting: Waiting) -> Stored | None:
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
        return self._file is not None and self._group.commit_now()

    def turn(self, patience_s: float) -> AbstractContextManager[None]:
        """Hold SQLite's one writer's place, as `Storage` says."""
        return write_lock(self._engine, patience_s)

    def begin(self) -> None:
        """Take the database's lock for the next commit, as `Storage` says."""
        self._begin_transaction()

    def is_busy(self, error: Exception) -> bool:
        """Tell whether an error says no more than that somebody else holds the lock."""
        return is_busy(error)

    def commit(self, hits: list[NewHit]) -> list[Stored | None]:
        """Commit all hits or none, and return in their order what became of each.

        In the steady state that is one statement, which inserts nothing unless the catalogue still
        is what the batch was made for; then it is made anew in a transaction that reads it first.
        """
        try:
            stored = self._store(hits)
        except Exception:
            self._close()
            raise
        # What was committed into a file that is not the database's any more is lost.
        if file_identity(self._file) != self._identity:
            self._close()
            raise OSError(errno.ESTALE, "the database's file was replaced")
        return stored

    def _store(self, hits: list[NewHit]) -> list[Stored | None]:
        if self._file is None and not self._has_begun:
            self._begin_transaction()
        for attempt in range(ATTEMPTS_MAX):
            batch = None if attempt else self._make_from_memory(hits)
            try:
                batch = batch or self._make_from_tables(hits)
                stored = self._insert(batch)
            except self._integrity_error:
                # Somebody else's hit of the same pixel has the id that was drawn.
                self._close()
                if attempt == ATTEMPTS_MAX - 1:
                    raise
                continue
            if stored is not None:
                break
        else:
            raise RuntimeError("the catalogue changed within a transaction")
        if self._has_begun:
            self._execute("COMMIT")
            self._has_begun = False
        self._references.learn(self._new)
        self._new = {}
        return stored

    def _make_from_memory(self, hits: list[NewHit]) -> Batch | None:
        """Make the rows of hits of which all is known already; None if it is not."""
        at_ms = now_ms()
        # On PostgreSQL the statement itself looks at the day, by the one clock that counts.
        day = self._references.day if self._file is None else at_ms // MS_PER_DAY
        if self._references.day != day or any(
            self._pixels.get(each.request) != each.pixel
            or not self._references.knows(each.pixel.number, each.who)
            for each in hits
        ):
            return None
        rows: list[HitRow | None] = [self._row(each) for each in hits]
        return None if self._new else Batch(rows, day, at_ms)

    def _make_from_tables(self, hits: list[NewHit]) -> Batch:
        """Make the rows of hits by what the catalogue and the tables say, and store the others.

        The catalogue's version can't change until the commit: what is true here is true there.
        """
        if not self._has_begun:
            self._begin_transaction()
        connection = self._connection
        assert connection is not None
        clock = POSTGRESQL_NOW_MS if self._file is None else str(now_ms())
        catalogue = self._execute(READ_CATALOGUE.format(clock)).fetchall()
        [(version, self._folded_through, at_ms)] = catalogue
        if version != self._version:
            self._start_version(version)
        self._references.use_salt_of(connection, at_ms)
        found = [self._resolve(connection, each.request) == each.pixel for each in hits]
        wanted = itertools.compress(((each.pixel.number, each.who) for each in hits), found)
        self._references.find_people(connection, self._links, wanted)
        rows = [
            self._row(each) if is_found else None
            for each, is_found in zip(hits, found, strict=True)
        ]
        self._references.store(connection, self._new)
        return Batch(rows, at_ms // MS_PER_DAY, at_ms)

    def _row(self, hit: NewHit) -> HitRow:
        number, circumstances = hit.pixel.number, hit.circumstances
        at_ms = milliseconds(hit.at) if hit.at else None
        # The salt is today's: on another day the same address is somebody else.
        day = None if at_ms is None else at_ms // MS_PER_DAY
        visitor = self._references.visitor(number, circumstances, hit.who, self._new, day)
        profile = self._references.profile(number, circumstances, self._new)
        # When others fetched is known of what is dated now only.
        source = None if hit.at else self._references.source(circumstances, hit.who)
        return HitRow(number, visitor, profile, at_ms, source)

    def _insert(self, batch: Batch) -> list[Stored | None] | None:
        """Insert hits; None, and nothing of them, if the catalogue is not as it was read.

        They get ids one after the other, above all that this process gave and all that are folded.
        """
        rows = [row for row in batch.rows if row]
        if not rows:
            return [None for _ in batch.rows]
        if self._file is None:
            inserted = self._insert_by_clock_of_database(batch.day, rows)
        else:
            inserted = self._insert_by_clock_of_ours(batch.at_ms, rows)
        if inserted is None:
            return None
        self._last_id = inserted[-1].id
        done = iter(inserted)
        return [row and next(done) for row in batch.rows]

    def _insert_by_clock_of_ours(self, at_ms: int, rows: list[HitRow]) -> list[Stored] | None:
        first = next_id(at_ms, above=max(self._last_id, self._folded_through))
        stored = [
            Stored(id, row.visitor, at_ms if row.at_ms is None else row.at_ms, row.source)
            for id, row in enumerate(rows, first)
        ]
        values = (
            (row.pixel_number, hit.id, row.visitor, row.profile, _dated(hit))
            for row, hit in zip(rows, stored, strict=True)
        )
        statement = _insert_statement(len(rows))
        cursor = self._execute(statement, (*itertools.chain(*values), self._version, first))
        return stored if cursor.rowcount == len(rows) else None

    def _insert_by_clock_of_database(self, day: int, rows: list[HitRow]) -> list[Stored] | None:
        drawn, step = secrets.randbits(HIT_ID_SHIFT - 1), 1 + secrets.randbits(STEP_BITS)
        clock = (self._version, drawn, step, self._last_id + step, day)
        values = (
            (row.pixel_number, place, row.visitor, row.profile, row.at_ms)
            for place, row in enumerate(rows)
        )
        statement = _postgresql_insert_statement(len(rows))
        found = sorted(self._execute(statement, (*clock, *itertools.chain(*values))).fetchall())
        if len(found) < len(rows):
            return None  # The catalogue is not as it was read.
        return [
            Stored(
                id, row.visitor, id >> HIT_ID_SHIFT if dated_ms is None else dated_ms, row.source
            )
            for row, (id, dated_ms) in zip(rows, found, strict=True)
        ]

    def _begin_transaction(self) -> None:
        """Begin on the kept connection, or on a new one if the kept one has had its day."""
        was_kept = self._connection is not None
        try:
            self._begin_on_connection()
        except Exception as error:
            self._close()
            if is_busy(error) or not was_kept:
                raise
            self._begin_on_connection()

    def _begin_on_connection(self) -> None:
        if self._connection is None:
            self._open()
        self._execute(self._begin_statement)
        self._has_begun = True
        if not self._identity:
            self._identity = file_identity(self._file)

    def _open(self) -> None:
        """Open the connection that is kept, on which transactions begin and end by statements.

        Its statements in the steady state go to the driver: through SQLAlchemy they would cost
        more than the commit (docs/benchmarks.md). Those of a first sight are SQLAlchemy's.
        """
        self._connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        self._cursor = self._connection.connection.cursor()
        for statement in self._opening_statements:
            self._execute(statement)

    def _close(self) -> None:
        """Close the kept connection, which takes back what it has not committed.

        The next one may be to another file, whose catalogue may be at the same version.
        """
        connection, self._connection, self._cursor = self._connection, None, None
        self._identity = ()
        self._has_begun = False
        self._folded_through = 0
        self._start_version(-1)
        if connection is not None:
            connection.invalidate()
            connection.close()

    def _execute(self, statement: str, values: tuple[int | None, ...] = ()) -> Any:
        assert self._cursor is not None
        return self._cursor.execute(statement, values)

    def _resolve(self, connection: Connection, request: PixelName) -> PixelEntry | None:
        """Return what a request names, from memory where this version was asked before."""
        entry = self._pixels.get(request)
        if entry is None:
            entry = _read_pixel(connection, request)
            if entry is not None:
                if len(self._pixels) >= PIXELS_CACHED_MAX:
                    self._pixels = {}
                self._pixels[request] = entry
        return entry

    def _start_version(self, version: int) -> None:
        self._pixels = {}
        self._references.forget()
        self._new = {}
        self._version = version


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


@functools.cache
def _postgresql_insert_statement(count: int) -> str:
    parameter = "CAST(%s AS BIGINT)"
    return POSTGRESQL_INSERT_HITS.format(
        now=POSTGRESQL_NOW_MS,
        ms_max=ID_MS_MAX,
        ms_per_day=MS_PER_DAY,
        shift=HIT_ID_SHIFT,
        rows=", ".join([ONE_HIT.replace("?", parameter)] * count),
        p=parameter,
    )


_pixel_columns = select(Pixel.number, Pixel.id, Pixel.privacy)


def _read_pixel(connection: Connection, request: PixelName) -> PixelEntry | None:
    if "\0" in request.slug:
        # No slug has one, and PostgreSQL would refuse the question.
        return None
    wanted = Pixel.id == request.id if request.id else Pixel.slug == request.slug
    row = connection.execute(_pixel_columns.where(wanted)).one_or_none()
    if row is None and request.may_have_suffix and request.slug.endswith(SUFFIX):
        slug = request.slug.removesuffix(SUFFIX)
        row = connection.execute(_pixel_columns.where(Pixel.slug == slug)).one_or_none()
    if row is None:
        return None
    return PixelEntry(row.number, row.id, row.privacy == "anonymous", row.privacy == "consent")


def reason_of(error: Exception) -> str:
    """Return what an error was about, for the log: without values, which may be people's data."""
    cause: BaseException = (isinstance(error, DBAPIError) and error.orig) or error
    name = type(cause).__name__
    if isinstance(cause, OSError):
        return f"{name}: {cause.strerror}"
    if isinstance(cause, SQLAlchemyError) or is_database_error(cause):
        return f"{name}: {str(cause).strip().partition(chr(10))[0]}"
    return "\n".join([name, *traceback.format_tb(cause.__traceback__)])
