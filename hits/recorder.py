"""The only code that stores a hit; it returns when the hit is committed.

Group commit without a thread of its own: `begin` puts a hit into the queue, and the first `finish`
that finds no commit under way leads. It waits in the writers' line, takes all that wait by then,
stores them in one transaction and wakes the others. Alone, a request pays no thread switch; under
load one fsync serves many. The queue is as long as a group of images and the threads together, at
most. `docs/durability.md` says what survives.

An address is used to name an anonymous visitor (`facts`), and is never written anywhere.
"""

from __future__ import annotations

import errno
import functools
import itertools
import math
import secrets
import threading
import time
import traceback
import uuid
from collections import deque
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sqlalchemy import Connection, Engine, select
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from core.database import BUSY_TIMEOUT_MS, TRY_MS, is_database_error
from core.locks import ADVISORY_LOCK, is_busy, writers_turn
from core.sqlite import file_identity, sqlite_file
from hits.metrics import Metrics
from hits.references import HitContext, Identity, References, Rows
from models import HIT_ID_SHIFT, MS_PER_DAY, Pixel

PATIENCE_SECONDS = BUSY_TIMEOUT_MS / 1000
# Once hits gave up, and until the lock is free, new ones do sooner: those behind them have a turn.
PATIENCE_AFTER_GIVING_UP_SECONDS = 0.2
# What a thread that has other things to do waits for another process's commit.
MOMENT_SECONDS = 0.005
POSTGRESQL_TIMEOUTS = (
    "SET lock_timeout = 1000",
    f"SET statement_timeout = {BUSY_TIMEOUT_MS}",
)
# Hits go to the end of their table: few pages are needed again.
CACHE_KIB = 256
PIXELS_CACHED_MAX = 10_000
# Ids are drawn at random within a millisecond; two processes that draw the same draw again.
DRAWS_MAX = 3
SUFFIX = ".gif"
LOCK_SHARED = f"SELECT pg_advisory_xact_lock_shared({ADVISORY_LOCK})"
READ_CATALOGUE = "SELECT version, folded_through FROM catalogue"
# One statement for a batch, since each hands Python's lock to another thread and waits to have
# it back. It inserts nothing if the catalogue is not what the batch was made for.
INSERT_HITS = (
    "INSERT INTO hits (pixel_number, id, visitor, profile) SELECT * FROM (VALUES {}) AS new"
    " WHERE EXISTS (SELECT 1 FROM catalogue WHERE version = ? AND folded_through < ?)"
)
ONE_HIT = "(?, ?, ?, ?)"


class Unstored(Exception):
    """A hit could not be committed in time; its text says why, and nothing of anybody."""


class PixelEntry(NamedTuple):
    """What a hit needs to know of its pixel."""

    number: int
    id: uuid.UUID
    anonymous: bool


class PixelName(NamedTuple):
    """How a request names its pixel: by a slug, as written or without `.gif`, or by its id."""

    slug: str = ""
    id: uuid.UUID | None = None
    may_have_suffix: bool = False


class Stored(NamedTuple):
    """A committed hit."""

    id: int
    visitor: int | None


class HitRow(NamedTuple):
    """A row of `hits`."""

    pixel_number: int
    id: int
    visitor: int | None
    profile: int


@dataclass(slots=True, eq=False)
class Waiting:
    """A hit in the queue; its gate is closed until it is committed, or has to lead."""

    request: PixelName
    pixel: PixelEntry
    circumstances: HitContext
    who: Identity | None
    give_up_at: float
    gate: Any = field(default_factory=threading.Lock)
    is_taken: bool = False
    may_lead: bool = False
    leads: bool = False
    outcome: Stored | None = None
    failure: str | None = None


class Recorder:
    """Finds pixels and stores hits for one process; safe to make before a fork.

    What the leader alone touches needs no lock: there is one leader at a time.
    """

    def __init__(self, engine: Engine, metrics: Metrics) -> None:
        self._engine = engine
        self._metrics = metrics
        self._lock = threading.Lock()
        self._waiting: deque[Waiting] = deque()
        self._led = False
        # Somebody else was found to hold the database's lock; for so long that hits gave up.
        self._locked = False
        self._gave_up = False
        self._integrity_error: type[Exception] = engine.dialect.loaded_dbapi.IntegrityError
        self._file = sqlite_file(engine)
        if self._file is not None:
            self._opening_statements: tuple[str, ...] = (
                f"PRAGMA busy_timeout = {TRY_MS}",
                f"PRAGMA cache_size = -{CACHE_KIB}",
            )
            self._begin_statement = "BEGIN IMMEDIATE"
            self._parameter = "?"
        else:
            self._opening_statements = POSTGRESQL_TIMEOUTS
            self._begin_statement = f"BEGIN; {LOCK_SHARED}"
            self._parameter = "CAST(%s AS BIGINT)"
        # From here on the leader's own.
        self._connection: Connection | None = None
        self._cursor: Any = None
        self._identity: tuple[int, ...] = ()
        self._has_begun = False
        self._version = -1
        self._folded_through = 0
        self._pixels: dict[PixelName, PixelEntry] = {}
        self._facts = References()
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

    def begin(
        self,
        request: PixelName,
        pixel: PixelEntry,
        circumstances: HitContext,
        who: Identity | None,
    ) -> Waiting:
        """Put a hit into the queue, for whoever commits next; `finish` sees it through."""
        patience_s = PATIENCE_AFTER_GIVING_UP_SECONDS if self._gave_up else PATIENCE_SECONDS
        give_up_at = time.monotonic() + patience_s
        waiting = Waiting(request, pixel, circumstances, who, give_up_at)
        waiting.gate.acquire()
        with self._lock:
            self._waiting.append(waiting)
            self._metrics.set_waiting(len(self._waiting))
        return waiting

    def finish(self, waiting: Waiting) -> Stored | None:
        """Return a hit once it is committed. None: the request names another pixel now.

        Raises: Unstored if it could not be committed. Where the commit itself failed, the hit
        may be found later all the same; in all other cases nothing of it is stored.
        """
        with self._lock:
            leads = not self._led and not waiting.is_taken
            self._led |= leads
            waiting.may_lead = True
        if leads or self._has_to_lead(waiting):
            self._lead(waiting.give_up_at)
        if waiting.failure is not None:
            raise Unstored(waiting.failure)
        return waiting.outcome

    def commit_now(self) -> bool:
        """Commit all that wait, if that takes a moment; False if somebody else is at it.

        For a thread that has other things to do: it then has another one call `finish`.
        """
        with self._lock:
            if self._led or self._locked or self._file is None:
                return False
            if not self._waiting:
                return True
            self._led = True
        return self._lead(time.monotonic() + MOMENT_SECONDS, or_fail=False)

    def _has_to_lead(self, waiting: Waiting) -> bool:
        """Wait for a leader's word: True is the word to lead, False that the rest is done."""
        if waiting.gate.acquire(timeout=max(waiting.give_up_at - time.monotonic(), 0)):
            return waiting.leads
        with self._lock:
            if not waiting.is_taken and not waiting.leads:
                self._waiting.remove(waiting)
                raise Unstored("the writers' line is too long")
        # Taken, or chosen to lead, at this very moment.
        waiting.gate.acquire()
        return waiting.leads

    def _lead(self, give_up_at: float, *, or_fail: bool = True) -> bool:
        """Commit all that wait, wake them, and hand the lead to who came meanwhile.

        False: it was not our turn in time. Then those fail whose time is up, unless they may
        wait for another leader.
        """
        batch: list[Waiting] = []
        try:
            self._commit(batch, give_up_at)
            self._locked = self._gave_up = False
        except Exception as error:
            is_late = is_busy(error)
            if is_late and not or_fail:
                return False
            # Whatever it was, nobody may hang and no image may say that this was stored.
            self._close()
            self._locked = self._gave_up = is_late
            self._metrics.count_failure()
            batch = batch or self._take(give_up_at + TRY_MS / 1000)
            for waiting in batch:
                waiting.failure = reason_of(error)
        finally:
            with self._lock:
                # Who has not come to `finish` yet leads from there.
                successor = next((each for each in self._waiting if each.may_lead), None)
                self._led = successor is not None
                if successor:
                    successor.leads = True
            for waiting in batch:
                waiting.gate.release()
            if successor:
                successor.gate.release()
        return True

    def _take(self, before: float = math.inf) -> list[Waiting]:
        """Take the hits out of the queue that give up before an instant, by default all."""
        with self._lock:
            batch = [each for each in self._waiting if each.give_up_at <= before]
            self._waiting = deque(each for each in self._waiting if each.give_up_at > before)
            for each in batch:
                each.is_taken = True
            self._metrics.set_waiting(len(self._waiting))
        return batch

    def _put_back(self, batch: list[Waiting]) -> None:
        with self._lock:
            self._waiting.extendleft(reversed(batch))
            for each in batch:
                each.is_taken = False
        batch.clear()

    def _commit(self, batch: list[Waiting], give_up_at: float) -> None:
        """Store all that wait when it is our turn; `batch` is filled as they are taken."""
        started_at = time.monotonic()
        new: Rows = {}
        outcomes: list[Stored | None] = []

        def store() -> None:
            outcomes[:] = self._take_and_store(batch, new)

        with writers_turn(self._engine, store, give_up_at - started_at):
            pass  # Others may write as soon as all is committed.
        # What was committed into a file that is not the database's any more is lost.
        if file_identity(self._file) != self._identity:
            raise OSError(errno.ESTALE, "the database's file was replaced")
        self._facts.learn(new)
        for waiting, outcome in zip(batch, outcomes, strict=True):
            waiting.outcome = outcome
        self._metrics.count_batch(len(batch), time.monotonic() - started_at)

    def _take_and_store(self, batch: list[Waiting], new: Rows) -> list[Stored | None]:
        """Take all that wait, and commit them; put them back if somebody holds the lock.

        They are taken in the hope that nobody does. Once somebody did, the lock comes first, so
        that who has waited for too long meanwhile can go.
        """
        if self._locked:
            self._begin()
        batch.extend(self._take())
        try:
            return self._store_or_draw_again(batch, new)
        except Exception as error:
            if is_busy(error):
                self._close()
                self._put_back(batch)
                self._locked = True
            raise

    def _begin(self) -> None:
        """Begin on the kept connection, or on a new one if the kept one has had its day."""
        was_kept = self._connection is not None
        try:
            self._start()
        except Exception as error:
            self._close()
            if is_busy(error) or not was_kept:
                raise
            self._start()

    def _start(self) -> None:
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

    def _store_or_draw_again(self, batch: list[Waiting], new: Rows) -> list[Stored | None]:
        for _ in range(DRAWS_MAX - 1):
            try:
                return self._store(batch, new)
            except self._integrity_error:
                self._close()
                new.clear()
        return self._store(batch, new)

    def _store(self, batch: list[Waiting], new: Rows) -> list[Stored | None]:
        """Commit a batch and return, in its order, what each hit became."""
        if self._file is None and not self._has_begun:
            self._begin()
        outcomes = self._store_from_memory(batch, new)
        if outcomes is None:
            if not self._has_begun:
                self._begin()
            outcomes = self._store_by_catalogue(batch, new)
        if self._has_begun:
            self._execute("COMMIT")
            self._has_begun = False
        return outcomes

    def _store_from_memory(self, batch: list[Waiting], new: Rows) -> list[Stored | None] | None:
        """Insert a batch of which all is known already, in one statement; None if it is not."""
        first_id = self._first_id(len(batch))
        if self._facts.day != _day_of(first_id) or any(
            self._pixels.get(each.request) != each.pixel for each in batch
        ):
            return None
        rows = [self._row(each, id, new) for id, each in enumerate(batch, first_id)]
        if new or not self._insert(rows):
            return None
        return [Stored(id, visitor) for _, id, visitor, _ in rows]

    def _store_by_catalogue(self, batch: list[Waiting], new: Rows) -> list[Stored | None]:
        """Insert what is found of a batch by what the catalogue and the tables say now."""
        connection = self._connection
        assert connection is not None
        [(version, self._folded_through)] = self._execute(READ_CATALOGUE).fetchall()
        if version != self._version:
            self._start_version(version)
            new.clear()
        next_id = self._first_id(len(batch))
        self._facts.use_salt_of(connection, _day_of(next_id))
        rows: list[HitRow] = []
        outcomes: list[Stored | None] = []
        for each in batch:
            # The version can't change until the commit: what is true here is true there.
            if self._resolve(connection, each.request) != each.pixel:
                outcomes.append(None)
                continue
            row = self._row(each, next_id, new)
            rows.append(row)
            outcomes.append(Stored(next_id, row.visitor))
            next_id += 1
        self._facts.store(connection, new)
        if rows and not self._insert(rows):
            raise RuntimeError("the catalogue changed within a transaction")
        return outcomes

    def _row(self, waiting: Waiting, id: int, new: Rows) -> HitRow:
        number, circumstances = waiting.pixel.number, waiting.circumstances
        visitor = self._facts.visitor(number, circumstances, waiting.who, new)
        return HitRow(number, id, visitor, self._facts.profile(number, circumstances, new))

    def _insert(self, rows: list[HitRow]) -> bool:
        """Insert hits; False, and nothing of them, if the catalogue is not as it was read."""
        values = itertools.chain(*rows, (self._version, rows[0].id))
        cursor = self._execute(_insert_statement(len(rows), self._parameter), tuple(values))
        return bool(cursor.rowcount == len(rows))

    def _first_id(self, count: int) -> int:
        """Return the first of `count` ids above all that this process gave or knows to be folded.

        The low bits are random, since another process may commit in the same millisecond.
        """
        at_ms = time.time_ns() // 1_000_000
        drawn = (at_ms << HIT_ID_SHIFT) + secrets.randbits(HIT_ID_SHIFT - 1)
        first = max(drawn, self._last_id + 1, self._folded_through + 1)
        self._last_id = first + count
        return first

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
        self._facts.forget()
        self._version = version


@functools.cache
def _insert_statement(count: int, parameter: str) -> str:
    return INSERT_HITS.format(", ".join([ONE_HIT] * count)).replace("?", parameter)


def _day_of(hit_id: int) -> int:
    return (hit_id >> HIT_ID_SHIFT) // MS_PER_DAY


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
    return row and PixelEntry(row.number, row.id, row.privacy == "anonymous")


def reason_of(error: Exception) -> str:
    """Return what an error was about, for the log: without values, which may be people's data."""
    cause: BaseException = (isinstance(error, DBAPIError) and error.orig) or error
    name = type(cause).__name__
    if isinstance(cause, OSError):
        return f"{name}: {cause.strerror}"
    if isinstance(cause, SQLAlchemyError) or is_database_error(cause):
        return f"{name}: {str(cause).strip().partition(chr(10))[0]}"
    return "\n".join([name, *traceback.format_tb(cause.__traceback__)])
