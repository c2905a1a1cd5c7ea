"""The one door that writers pass.

SQLite lets one connection write at a time and makes the others sleep, each time longer, so that
under a stream of hits an unlucky writer may never get its turn. Every writer of ours therefore
takes a file lock first, which it asks for at short intervals; PostgreSQL's writers queue at an
advisory lock, which hits share. What is read inside the door stays true until its transaction
commits.
"""

from __future__ import annotations

import fcntl
import functools
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from core.database import BUSY_TIMEOUT_MS, db
from core.sqlite import sqlite_file, sqlite_module

LOG_WAIT_MS = 100
# A writer has the lock for about a millisecond. To wait in the kernel would be without an end.
LOCK_POLL_SECONDS = 0.0005
POSTGRESQL_LOCK_NOT_AVAILABLE = "55P03"
ADVISORY_LOCK = 0x706978656C  # "pixel"
# What one process at a time does; `prepare` has the lock after the writers'.
JOB_LOCKS = {"housekeeping": 2, "reclassify": 3, "webhooks": 4}
# Pixels share these many places in which one thread at a time folds; PostgreSQL's are this class.
FOLD_PLACES = 256
FOLD_LOCKS = 0x666F6C64  # "fold"
FOLD_POLL_SECONDS = 0.002
# Of one process at once: each holds a connection to PostgreSQL for its lock and needs another for
# its work, and were all held so, they would wait for each other.
POSTGRESQL_FOLDS_MAX = 2


@contextmanager
def writing() -> Iterator[None]:
    """Open the one transaction in which anything but a hit is written.

    Ends the session's read first, so that what is read inside is the newest and stays so.
    Commits at the end; rolls back and passes on what was raised. Keep nothing slow inside.

    Raises: OperationalError if no turn came within the busy timeout, RuntimeError inside another
    `writing()`, which would wait for itself.
    """
    if "writing" in db.session.info:
        raise RuntimeError("writing() is open already")
    db.session.commit()
    with _marked_writing(), writers_turn(db.engine, _begin_session, BUSY_TIMEOUT_MS / 1000):
        try:
            yield
            db.session.commit()
        except BaseException:
            db.session.rollback()
            raise


def give_way() -> None:
    """Let those who wait in line have their turn; between one short `writing()` and the next."""
    time.sleep(4 * LOCK_POLL_SECONDS)


@contextmanager
def _marked_writing() -> Iterator[None]:
    db.session.info["writing"] = True
    try:
        yield
    finally:
        db.session.info.pop("writing", None)


def _begin_session() -> None:
    try:
        connection = db.session.connection(execution_options={"immediate": True})
        lock_shared_state(connection, exclusive=True)
    except BaseException:
        db.session.rollback()
        raise


@contextmanager
def writers_turn(engine: Engine, begin: Callable[[], None], patience_s: float) -> Iterator[None]:
    """Wait in line, call `begin`, which starts a transaction, and keep the line closed meanwhile.

    While a stranger holds the database's lock, one short try follows another until the patience
    is over, and those in line take turns, so that each notices when its own time is up.

    Raises: what `begin` raises.
    """
    give_up_at = time.monotonic() + patience_s
    while True:
        with write_lock(engine, give_up_at - time.monotonic()):
            try:
                begin()
            except Exception as error:
                if not is_busy(error) or time.monotonic() >= give_up_at:
                    raise
                continue
            yield
            return


def is_busy(error: Exception) -> bool:
    """Tell whether an error says that another transaction holds the lock."""
    cause = error.orig if isinstance(error, OperationalError) else error
    if getattr(cause, "sqlstate", None) == POSTGRESQL_LOCK_NOT_AVAILABLE:
        return True
    return bool(getattr(cause, "sqlite_errorcode", 0) & 0xFF == sqlite_module.SQLITE_BUSY)


def lock_shared_state(connection: Connection, *, exclusive: bool) -> None:
    """Queue at PostgreSQL's advisory lock until the transaction ends; SQLite has its own."""
    if connection.dialect.name == "postgresql":
        function = "pg_advisory_xact_lock" if exclusive else "pg_advisory_xact_lock_shared"
        connection.execute(text(f"SELECT {function}({ADVISORY_LOCK})"))


@contextmanager
def write_lock(engine: Engine, patience_s: float = BUSY_TIMEOUT_MS / 1000) -> Iterator[None]:
    """Hold SQLite's one writer's place; nothing to hold on PostgreSQL.

    The lock belongs to an open file, so the kernel gives it up with the process that held it.

    Raises: OperationalError if it wasn't free within the patience.
    """
    path = sqlite_file(engine)
    if path is None:
        yield
        return
    lock = os.open(f"{path}-lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        give_up_at = time.monotonic() + patience_s
        while not _try_flock(lock):
            if time.monotonic() >= give_up_at:
                raise OperationalError(None, None, _too_long())
            time.sleep(LOCK_POLL_SECONDS)
        yield
    finally:
        os.close(lock)


def _too_long() -> Exception:
    error = sqlite_module.OperationalError("the writers' line is too long")
    error.sqlite_errorcode = sqlite_module.SQLITE_BUSY
    return error  # type: ignore[no-any-return]


@contextmanager
def sole(engine: Engine, job: str) -> Iterator[bool]:
    """Tell whether this process, of all that share the database, has the job to itself for now."""
    path = sqlite_file(engine)
    if path is not None:
        with _sole_by_file(f"{path}-{job}") as mine:
            yield mine
        return
    # The transaction's end gives it back; behind PgBouncer a session may be another's by then.
    with engine.connect() as connection:
        lock = {"lock": ADVISORY_LOCK + JOB_LOCKS[job]}
        yield bool(connection.scalar(text("SELECT pg_try_advisory_xact_lock(:lock)"), lock))


@contextmanager
def _sole_by_file(path: str) -> Iterator[bool]:
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        yield _try_flock(lock)
    finally:
        os.close(lock)


@contextmanager
def folders_turn(engine: Engine, pixel_number: int, patience_s: float) -> Iterator[bool]:
    """Wait until nobody else, in any process, folds a pixel's hits; False if that took too long.

    Waiting costs next to nothing, where folding the same hits again costs what folding does. Among
    threads a lock of our own does, and one thread of each process asks the others.
    """
    place = pixel_number % FOLD_PLACES
    give_up_at = time.monotonic() + patience_s
    if not _fold_places[place].acquire(timeout=max(patience_s, 0)):
        yield False
        return
    try:
        with _fold_place(engine, place, give_up_at - time.monotonic()) as is_taken:
            while not (mine := is_taken()) and time.monotonic() < give_up_at:
                time.sleep(FOLD_POLL_SECONDS)
            yield mine
    finally:
        _fold_places[place].release()


_fold_places = [threading.Lock() for _ in range(FOLD_PLACES)]
_postgresql_folds = threading.BoundedSemaphore(POSTGRESQL_FOLDS_MAX)


@contextmanager
def _fold_place(engine: Engine, place: int, patience_s: float) -> Iterator[Callable[[], bool]]:
    """Yield what tries to take a place for this process, and give the place back afterwards."""
    path = sqlite_file(engine)
    if path is not None:
        file = _fold_file(f"{path}-fold", os.getpid())
        try:
            yield lambda: _try_lock(file, place)
        finally:
            fcntl.lockf(file, fcntl.LOCK_UN, 1, place)
        return
    if not _postgresql_folds.acquire(timeout=max(patience_s, 0)):
        yield lambda: False
        return
    try:
        with engine.connect() as connection:
            lock = {"kind": FOLD_LOCKS, "place": place}
            taking = text("SELECT pg_try_advisory_xact_lock(:kind, :place)")
            yield lambda: bool(connection.scalar(taking, lock))
    finally:
        _postgresql_folds.release()


@functools.cache
def _fold_file(path: str, _process: int) -> int:
    """Open the file whose bytes are the places.

    It stays open: such locks are a process's, and closing the file would give all of them back.
    """
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _try_lock(file: int, place: int) -> bool:
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)
    except (BlockingIOError, PermissionError):
        return False
    return True


def _try_flock(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def empty_log(engine: Engine) -> bool:
    """Move SQLite's write-ahead log into the file and empty it, so that nothing deleted is in it.

    False if a reader was in the way for longer than hits should wait; nothing is lost by it.
    """
    if sqlite_file(engine) is None:
        return True
    with engine.connect() as connection:
        driver: Any = connection.connection.driver_connection
        # Most of the work is done before the line is closed.
        driver.execute("PRAGMA wal_checkpoint(PASSIVE)")
        with write_lock(engine):
            driver.execute(f"PRAGMA busy_timeout = {LOG_WAIT_MS}")
            try:
                busy, _, _ = driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            finally:
                driver.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
    return not busy


def probe_write() -> str | None:
    """Commit a write that changes nothing; return what went wrong, without any secret, or None.

    It goes through the hits' door. To take it back would prove less, since SQLite writes at the
    commit, and only pages that have changed meanwhile.
    """
    try:
        engine = db.engine.execution_options(immediate=True)
        with write_lock(db.engine), engine.begin() as connection:
            lock_shared_state(connection, exclusive=False)
            connection.execute(text("UPDATE catalogue SET version = version + 1"))
            connection.execute(text("UPDATE catalogue SET version = version - 1"))
    except (SQLAlchemyError, OSError) as error:
        return f"no write to the database: {type(error.__cause__ or error).__name__}"
    return None
