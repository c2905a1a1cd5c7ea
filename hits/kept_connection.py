"""The connection that a process commits its hits on, kept from one batch to the next.

Transactions begin and end by statements, which go straight to the driver: through SQLAlchemy they
would cost more than the commit itself (docs/benchmarks.md).
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection, Engine

from core.database import BUSY_TIMEOUT_MS, TRY_MS
from core.locks import ADVISORY_LOCK, is_busy
from core.sqlite import file_identity, sqlite_file

# Hits go to the end of their table: few pages are needed again.
CACHE_KIB = 256
SQLITE_SETTINGS = (f"PRAGMA busy_timeout = {TRY_MS}", f"PRAGMA cache_size = -{CACHE_KIB}")
BEGIN_SQLITE = "BEGIN IMMEDIATE"
# Hits share the lock that all other writers take for themselves. The session may be another's by
# the next transaction (PgBouncer): what is set ends with this one.
BEGIN_POSTGRESQL = (
    f"BEGIN; SET LOCAL lock_timeout = 1000; SET LOCAL statement_timeout = {BUSY_TIMEOUT_MS};"
    f" SELECT pg_advisory_xact_lock_shared({ADVISORY_LOCK})"
)


class KeptConnection:
    """Opened when it is first needed, after the fork; used by one thread at a time.

    `on_close` is called whenever the connection is given up, since the next one may be to another
    file, whose catalogue may be at the same version.
    """

    def __init__(self, engine: Engine, on_close: Callable[[], None]) -> None:
        self._engine = engine
        self._on_close = on_close
        self._file = sqlite_file(engine)
        self.is_sqlite = self._file is not None
        self.has_begun = False
        self._connection: Connection | None = None
        self._driver: Any = None
        self._cursor: Any = None
        # The instant, by the monotonic clock, by which PostgreSQL has to answer.
        self.answer_by = 0.0
        self._identity: tuple[int, ...] = ()

    def begin(self) -> None:
        """Begin a transaction, on a new connection if the kept one turns out to be dead."""
        was_kept = self._connection is not None
        try:
            self._begin()
        except Exception as error:
            self.close()
            if is_busy(error) or not was_kept:
                raise
            self._begin()

    def execute(self, statement: str, values: tuple[int | str | None, ...] = ()) -> Any:
        """Execute a statement in the driver's own words, and return the cursor."""
        return self._cursor.execute(statement, values)

    def execute_and_commit(self, statement: str, values: tuple[int | str | None, ...]) -> Any:
        """Execute a statement and commit, on one way to PostgreSQL and back; return the cursor."""
        with self._driver.pipeline():
            self.execute(statement, values)
            self._driver.execute("COMMIT")
        self.has_begun = False
        return self._cursor

    @property
    def for_sqlalchemy(self) -> Connection:
        """The same connection, for the statements of what is new, which are SQLAlchemy's."""
        assert self._connection is not None
        return self._connection

    def commit(self) -> None:
        """Commit the transaction that was begun; a statement by itself is committed already."""
        if self.has_begun:
            self.execute("COMMIT")
            self.has_begun = False

    def require_same_file(self) -> None:
        """Raise if the database's file was replaced: what the old one was given is lost."""
        if file_identity(self._file) != self._identity:
            self.close()
            raise OSError(errno.ESTALE, "the database's file was replaced")

    def close(self) -> None:
        """Close the connection, which takes back what it has not committed."""
        connection, self._connection = self._connection, None
        self._driver = self._cursor = None
        self._identity = ()
        self.has_begun = False
        self._on_close()
        if connection is not None:
            # In the pool it would be used again, with its settings and whatever is wrong with it.
            connection.invalidate()
            connection.close()

    def _begin(self) -> None:
        if self._connection is None:
            self._open()
        if not self.is_sqlite:
            self._driver.answer_by = self.answer_by
        self.execute(BEGIN_SQLITE if self.is_sqlite else BEGIN_POSTGRESQL)
        self.has_begun = True
        if not self._identity:
            # Read after BEGIN, when SQLite has certainly opened the file and its log.
            self._identity = file_identity(self._file)

    def _open(self) -> None:
        self._connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        self._driver = self._connection.connection.driver_connection
        self._cursor = self._connection.connection.cursor()
        for statement in SQLITE_SETTINGS if self.is_sqlite else ():
            self.execute(statement)
