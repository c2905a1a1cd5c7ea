"""The database: `db`, the connection pragmas, and the one door that writers pass.

SQLite lets one connection write at a time and makes the others sleep, each time longer, so that
under a stream of hits an unlucky writer may never get its turn. Every writer of ours therefore
takes a file lock first, which it asks for at short intervals; PostgreSQL's writers queue at an
advisory lock, hits sharing it. What is read inside the door stays true until its transaction
commits.

A connection whose file was deleted or replaced would go on, and what it commits would be gone;
`file_identity` tells, and no such connection is given out.
"""

from __future__ import annotations

import ctypes
import fcntl
import functools
import importlib
import os
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from urllib.parse import quote

from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import (
    BigInteger,
    Connection,
    Engine,
    Insert,
    MetaData,
    Select,
    TypeDecorator,
    event,
    func,
    make_url,
    select,
    text,
)
from sqlalchemy.exc import InvalidatePoolError, OperationalError, SQLAlchemyError
from sqlalchemy.orm import DeclarativeBase

from settings import Settings

try:
    import pysqlite3.dbapi2 as sqlite_module
except ImportError:  # No wheel for this platform: the system's SQLite serves.
    sqlite_module = sqlite3

Row = TypeVar("Row")

# How long a write waits for its turn before it fails.
BUSY_TIMEOUT_MS = 5_000
LOG_WAIT_MS = 100
# A writer has the lock for about a millisecond. To wait in the kernel would be without an end.
LOCK_POLL_SECONDS = 0.0005
# How long one try holds up the line while a stranger's transaction holds SQLite's lock.
TRY_MS = 50
WAL_BYTES_KEPT_MAX = 64 * 1024 * 1024
POSTGRESQL_LOCK_NOT_AVAILABLE = "55P03"
ADVISORY_LOCK = 0x706978656C  # "pixel"
# What one process at a time does; `first_start` has the lock after the writers'.
JOB_LOCKS = {"housekeeping": 2, "reclassify": 3}
# statx(2) and <linux/stat.h>.
AT_FDCWD, STATX_INO, STATX_BYTES, STATX_INO_AT = -100, 0x100, 256, slice(32, 40)
WAL_RESET_BUG_FIXED = (3, 51, 3)
WAL_RESET_BUG_BACKPORTS = {(3, 44): 6, (3, 50): 7}


class Base(DeclarativeBase):
    """The declarative base; constraint names are fixed so that migrations can name them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_label)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


db = SQLAlchemy(model_class=Base, session_options={"expire_on_commit": False, "autoflush": False})

if TYPE_CHECKING:
    Model = Base
else:
    Model = db.Model


class Instant(TypeDecorator[datetime]):
    """An aware UTC datetime, kept as whole milliseconds since the epoch."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Any) -> int | None:
        """Turn an aware datetime into milliseconds."""
        return None if value is None else milliseconds(value)

    def process_result_value(self, value: int | None, dialect: Any) -> datetime | None:
        """Turn milliseconds into an aware datetime."""
        return None if value is None else from_milliseconds(value)


def milliseconds(instant: datetime) -> int:
    """Return the whole milliseconds since the epoch of an aware `instant`."""
    return round(instant.timestamp() * 1000)


def from_milliseconds(value: int) -> datetime:
    """Return the aware UTC instant of milliseconds since the epoch."""
    return datetime.fromtimestamp(value // 1000, UTC).replace(microsecond=value % 1000 * 1000)


def now() -> datetime:
    """Return the clock's aware UTC instant, cut to the milliseconds that are kept."""
    instant = datetime.now(UTC)
    return instant.replace(microsecond=instant.microsecond // 1000 * 1000)


def engine_options(settings: Settings) -> dict[str, Any]:
    """Return what the engine of `settings` needs: driver, pool, waiting times."""
    pool = {
        "pool_size": settings.threads + 2,
        "max_overflow": 4,
        "pool_timeout": 10,
        # The connections used last have warm caches; the others stay small.
        "pool_use_lifo": True,
        # Parameters are people's data, and an error's text goes to the log.
        "hide_parameters": True,
    }
    if is_sqlite_url(settings.sqlalchemy_url):
        path = make_url(settings.sqlalchemy_url).database or ""
        return {**pool, "module": sqlite_module, "creator": lambda: _open_sqlite(path)}
    # libpq's own bounds: an unreachable server is an error in seconds, not a hung request.
    connect = {
        "connect_timeout": 3,
        "options": f"-c lock_timeout={BUSY_TIMEOUT_MS} -c statement_timeout=60000",
    }
    return {**pool, "pool_pre_ping": True, "connect_args": connect}


def _open_sqlite(path: str) -> Any:
    """Connect to a file that is there; one that vanished is an error, not a new, empty file."""
    return sqlite_module.connect(
        f"file:{quote(os.path.abspath(path))}?mode=rw",
        uri=True,
        timeout=BUSY_TIMEOUT_MS / 1000,
        check_same_thread=False,
    )


def prepare_engine(engine: Engine, settings: Settings) -> None:
    """Set pragmas and transaction starts for every SQLite connection of `engine`."""
    path = sqlite_file(engine)
    if path is None:
        return

    @event.listens_for(engine, "connect")
    def set_pragmas(connection: Any, record: Any) -> None:
        # The driver begins transactions at moments of its own; ours begin in `begin` below.
        connection.isolation_level = None
        connection.create_function("lower", 1, _lower, deterministic=True)
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute(f"PRAGMA synchronous = {settings.synchronous}")
        cursor.execute("PRAGMA foreign_keys = ON")
        # Deleted salts and recipients are overwritten, not just unlinked.
        cursor.execute("PRAGMA secure_delete = ON")
        cursor.execute("PRAGMA cache_size = -1024")
        cursor.execute(f"PRAGMA journal_size_limit = {WAL_BYTES_KEPT_MAX}")
        cursor.close()
        record.info["identity"] = file_identity(path)[0]

    @event.listens_for(engine, "checkout")
    def check_file(_connection: Any, record: Any, _proxy: Any) -> None:
        if record.info["identity"] != file_identity(path)[0]:
            raise InvalidatePoolError("the database's file was replaced")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        options = connection.get_execution_options()
        if options.get("isolation_level") == "AUTOCOMMIT":
            return
        if not options.get("immediate", False):
            connection.exec_driver_sql("BEGIN")
            return
        driver: Any = connection.connection.driver_connection
        driver.execute(f"PRAGMA busy_timeout = {TRY_MS}")
        try:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        finally:
            driver.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")


@dataclass(frozen=True, slots=True)
class Page(Generic[Row]):
    """A page of a list, and how many there are on all pages."""

    data: list[Row]
    count: int
    page: int
    page_size: int


def paginate(statement: Select[Row], page: int, page_size: int) -> Page[Row]:
    """Run a statement of single entities for one page (from 1) of its rows."""
    count = db.session.scalar(select(func.count()).select_from(statement.order_by(None).subquery()))
    rows = db.session.scalars(statement.limit(page_size).offset((page - 1) * page_size))
    return Page(list(rows), count or 0, page, page_size)


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
    return getattr(cause, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY


def begin_snapshot() -> None:
    """End the session's transaction and begin one whose statements all see the same moment."""
    db.session.commit()
    if db.engine.dialect.name == "postgresql":
        db.session.connection(execution_options={"isolation_level": "REPEATABLE READ"})


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
    error.sqlite_errorcode = sqlite3.SQLITE_BUSY
    return error  # type: ignore[no-any-return]


@contextmanager
def sole(engine: Engine, job: str) -> Iterator[bool]:
    """Tell whether this process, of all that share the database, has the job to itself for now."""
    path = sqlite_file(engine)
    if path is not None:
        with _sole_by_file(f"{path}-{job}") as mine:
            yield mine
        return
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        lock = {"lock": ADVISORY_LOCK + JOB_LOCKS[job]}
        mine = bool(connection.scalar(text("SELECT pg_try_advisory_lock(:lock)"), lock))
        try:
            yield mine
        finally:
            if mine:
                connection.execute(text("SELECT pg_advisory_unlock(:lock)"), lock)


@contextmanager
def _sole_by_file(path: str) -> Iterator[bool]:
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        yield _try_flock(lock)
    finally:
        os.close(lock)


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


def insert_unless_there(connection: Connection, table: Any) -> Insert:
    """Return the statement that inserts rows and leaves those with a key in use as they are."""
    # What SQLAlchemy has for the other database need not be in memory.
    dialect = importlib.import_module(f"sqlalchemy.dialects.{connection.dialect.name}")
    statement: Insert = dialect.insert(table).on_conflict_do_nothing()
    return statement


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


@functools.cache
def sqlite_file(engine: Engine) -> Path | None:
    """Return the file of a SQLite database, None for PostgreSQL."""
    return Path(str(engine.url.database)) if engine.dialect.name == "sqlite" else None


def is_database_error(error: object) -> bool:
    """Tell whether an error is a driver's own, raised by one database or the other."""
    return hasattr(error, "sqlite_errorcode") or hasattr(error, "sqlstate")


def file_identity(path: Path | None) -> tuple[int, ...]:
    """Return what tells the files at `path` from others put in their place: the inodes.

    Zero stands for a file that isn't there; nothing at all for PostgreSQL.
    """
    if path is None:
        return ()
    return _inode(str(path)), _inode(f"{path}-wal")


def _inode(path: str) -> int:
    """Return a file's inode, 0 if it isn't there.

    Where the system can be asked for that alone (statx), it is: who asks Linux, since 6.13, for a
    file's time as well has its next write noted to the nanosecond, and each sync of SQLite's log
    then writes the file system's journal too.
    """
    answer = ctypes.create_string_buffer(STATX_BYTES)
    if _statx and not _statx(AT_FDCWD, os.fsencode(path), 0, STATX_INO, answer):
        return int.from_bytes(answer.raw[STATX_INO_AT], sys.byteorder)
    try:
        return os.stat(path).st_ino
    except FileNotFoundError:
        return 0


_statx: Any = getattr(ctypes.CDLL(None), "statx", None)


def is_sqlite_url(url: str) -> bool:
    """Tell whether a SQLAlchemy URL names SQLite."""
    return url.startswith("sqlite")


def sqlite_version() -> str:
    """Return the version of the SQLite library in use."""
    return str(sqlite_module.sqlite_version)


def has_wal_reset_bug() -> bool:
    """Tell whether this SQLite can lose committed pages when connections write at once.

    Source: sqlite.org/wal.html, "The WAL-Reset Bug": 3.7.0 to 3.51.2, but for 3.44.6 and 3.50.7.
    """
    version = tuple(int(part) for part in sqlite_version().split("."))
    fixed_in = WAL_RESET_BUG_BACKPORTS.get((version[0], version[1]))
    if fixed_in is not None:
        return version[2] < fixed_in
    return version < WAL_RESET_BUG_FIXED


def _lower(value: object) -> object:
    """Fold any script's case, where SQLite's own `lower` folds ASCII alone."""
    return value.casefold() if isinstance(value, str) else value
