"""PostgreSQL's side of `database`: connections on which every wait ends, and their pool.

A network may swallow what is sent on it, so that neither an answer comes nor an error. Whoever has
waited for a while therefore has somebody look, on a new connection, whether the database answers at
all: while it does, a statement may take its time; while it doesn't, nobody waits for it.

Nothing is kept in a server's session beyond a transaction, neither a setting nor a lock nor a
prepared statement behind a pooler, so that PgBouncer may give each transaction another session.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import Any, Self

import psycopg
import sqlalchemy
from psycopg.abc import PQGen
from psycopg.errors import ConnectionTimeout
from sqlalchemy import Engine, ExceptionContext, event
from sqlalchemy.pool import ConnectionPoolEntry, QueuePool
from sqlalchemy.util.queue import Empty

# How long a try to connect may take, for each host.
CONNECT_SECONDS_MAX = 3
# For so long a statement's answer is waited for before somebody looks whether any will come.
UNSUSPICIOUS_SECONDS = 2.0
# How often whoever waits longer sees what was found out.
LOOK_SECONDS = 0.2
# How often psycopg looks up while it waits, for Ctrl-C.
INTERVAL_SECONDS = 0.1
# What an answer may be late beyond the time that the server gives a statement.
GRACE_SECONDS = 5.0
# Between two looks at a database that doesn't answer.
SILENT_PAUSE_SECONDS = 0.5
# With these a host is a socket's path and no name.
SOCKET_STARTS = ("/", "@")
# What a server that was primary once says of a write (SQLSTATE read_only_sql_transaction).
READ_ONLY = "25006"


class NoAnswer(psycopg.OperationalError):
    """The database did not answer, and the connection was given up."""

    def __init__(self) -> None:
        super().__init__("the database does not answer")


class Connection(psycopg.Connection[Any]):
    """A connection on which every wait ends, and whose transactions bring their own timeouts.

    Times without an end are 0. `answer_by` is the instant, by the monotonic clock, at which
    whoever waits has no more use for an answer.
    """

    lock_timeout_ms = 5_000
    statement_timeout_ms = 60_000
    answer_by: float | None = None
    watch: Watch | None = None

    @classmethod
    def open(cls, *args: Any, **options: Any) -> Self:
        """Connect, and have no statements prepared where a pooler would lose them.

        The driver begins no transactions. A pooler gives a process number of its own, not that of
        the server's process.
        """
        connection = cls.connect(*args, autocommit=True, **with_addresses(options))
        try:
            connection.answer_by = time.monotonic() + CONNECT_SECONDS_MAX
            row = connection.execute("SELECT pg_backend_pid()").fetchone()
            if row is None or row[0] != connection.info.backend_pid:
                connection.prepare_threshold = None
        except BaseException:
            connection.close()
            raise
        connection.answer_by = None
        return connection

    def wait(
        self, gen: PQGen[Any], interval: float = INTERVAL_SECONDS, timeout: float | None = None
    ) -> Any:
        """Wait for an answer as psycopg does, but not for good.

        Raises: NoAnswer.
        """
        started_at = time.monotonic()
        step = UNSUSPICIOUS_SECONDS
        while True:
            try:
                return super().wait(gen, interval, self._patience(step))
            except psycopg.errors._WaitTimeout:
                waited = time.monotonic() - started_at
                if self._is_too_late(waited):
                    self.close()
                    raise NoAnswer from None
                if self.watch and waited >= UNSUSPICIOUS_SECONDS:
                    self.watch.look()
                step = LOOK_SECONDS

    def _patience(self, step: float) -> float:
        if self.watch and self.watch.is_silent:
            step = LOOK_SECONDS
        if self.answer_by is None:
            return step
        return max(min(step, self.answer_by - time.monotonic()), 0)

    def _is_too_late(self, waited: float) -> bool:
        if self.watch and self.watch.is_silent:
            return True
        if self.answer_by is not None:
            return time.monotonic() >= self.answer_by
        allowed_ms = self.statement_timeout_ms
        return bool(allowed_ms) and waited >= allowed_ms / 1000 + GRACE_SECONDS

    def begin_statement(self, *, is_snapshot: bool) -> str:
        """Return what begins a transaction whose statements all see the same moment, or the newest.

        The session may be another's by the next transaction: what is set ends with this one.
        """
        level = " ISOLATION LEVEL REPEATABLE READ" if is_snapshot else ""
        return (
            f"BEGIN{level}; SET LOCAL lock_timeout = {self.lock_timeout_ms};"
            f" SET LOCAL statement_timeout = {self.statement_timeout_ms}"
        )


def with_addresses(options: dict[str, Any]) -> dict[str, Any]:
    """Return what to connect to with its hosts' names looked up, in a bounded time.

    psycopg would wait for the resolver for as long as that likes. Certificates are compared with
    the names still.

    Raises: NoAnswer from a resolver that is silent; OperationalError if no host has an address.
    """
    hosts = str(options.get("host") or "").split(",")
    ports = str(options.get("port") or "").split(",")
    ports = ports * len(hosts) if len(ports) == 1 else ports
    are_paths = all(host.startswith(SOCKET_STARTS) or not host for host in hosts)
    if are_paths or options.get("hostaddr") or len(ports) != len(hosts):
        return options
    give_up_at = time.monotonic() + CONNECT_SECONDS_MAX
    found, failure = [], ""
    for host, port in zip(hosts, ports, strict=True):
        try:
            addresses = _addresses_of(host, give_up_at - time.monotonic())
        except (OSError, UnicodeError) as error:
            failure = f"{host} could not be looked up: {error}"
        else:
            found += [(host, port, address) for address in addresses]
    if not found:
        raise psycopg.OperationalError(failure)
    names = ("host", "port", "hostaddr")
    return options | {
        name: ",".join(values) for name, values in zip(names, zip(*found, strict=True), strict=True)
    }


def _addresses_of(host: str, seconds_max: float) -> list[str]:
    """Ask the resolver, which knows no deadline of ours, in a thread that may be left behind."""
    if host.startswith(SOCKET_STARTS) or not host:
        return [""]
    answer: Future[list[Any]] = Future()

    def ask() -> None:
        try:
            answer.set_result(socket.getaddrinfo(host, None, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as error:
            answer.set_exception(error)

    threading.Thread(target=ask, name="database-look-up", daemon=True).start()
    try:
        found = answer.result(max(seconds_max, 0))
    except TimeoutError:
        raise NoAnswer from None
    return list(dict.fromkeys(address_info[4][0] for address_info in found))


class Watch:
    """Finds out whether a database answers, for all connections of a process."""

    def __init__(self) -> None:
        # Set by whoever connects: what is looked at is what they connect to.
        self.connect: Callable[[], Connection] = Connection.open
        self._lock = threading.Lock()
        self._is_looking = False
        self.is_silent = False

    def look(self, *, is_silent: bool = False) -> None:
        """Begin to look, unless that is under way; `is_silent` where it is known already."""
        with self._lock:
            self.is_silent |= is_silent
            if self._is_looking:
                return
            self._is_looking = True
        threading.Thread(target=self._look, name="database-watch", daemon=True).start()

    def _look(self) -> None:
        """Look until it answers."""
        while not self._answers():
            self.is_silent = True
            time.sleep(SILENT_PAUSE_SECONDS)
        with self._lock:
            self.is_silent = self._is_looking = False

    def _answers(self) -> bool:
        """Tell whether a new connection is answered, be it with an error."""
        try:
            self.connect().close()
        except (NoAnswer, ConnectionTimeout):
            return False
        except Exception:
            # Whoever connects next hears what it was; a look that died would keep all out.
            return True
        return True


class Pool(QueuePool):
    """A pool that gives connections back when they have not been used for a while."""

    def _do_return_conn(self, record: ConnectionPoolEntry) -> None:
        record.info["idle_since"] = time.monotonic()
        super()._do_return_conn(record)

    def close_idle(self, seconds: float) -> int:
        """Close the connections that were not used for so long; return how many."""
        idle: list[ConnectionPoolEntry] = []
        # They come one by one, those that were used last first.
        with suppress(Empty):
            while True:
                idle.append(self._pool.get(False))
        used_after = time.monotonic() - seconds
        kept = [
            connection for connection in idle if connection.info.get("idle_since", 0) > used_after
        ]
        for connection in reversed(kept):
            self._pool.put(connection, False)
        closed = [connection for connection in idle if connection not in kept]
        for connection in closed:
            connection.close()
            self._dec_overflow()
        return len(closed)


def prepare_postgresql(engine: Engine) -> None:
    """Have every connection of `engine` be one of ours."""
    watch = Watch()

    @event.listens_for(engine, "do_connect")
    def connect(_dialect: Any, _record: Any, args: Any, options: Any) -> Connection:
        if watch.is_silent:
            raise NoAnswer
        watch.connect = partial(Connection.open, *args, **options)
        try:
            connection = watch.connect()
        except (NoAnswer, ConnectionTimeout):
            watch.look(is_silent=True)
            raise
        connection.watch = watch
        return connection

    @event.listens_for(engine, "begin")
    def begin(connection: sqlalchemy.Connection) -> None:
        options = connection.get_execution_options()
        if options.get("isolation_level") != "AUTOCOMMIT":
            driver: Any = connection.connection.driver_connection
            is_snapshot = options.get("snapshot", False)
            connection.exec_driver_sql(driver.begin_statement(is_snapshot=is_snapshot))

    @event.listens_for(engine, "handle_error")
    def leave_standby(context: ExceptionContext) -> None:
        # What was the primary may be a standby now: a new connection finds the other.
        if getattr(context.original_exception, "sqlstate", None) == READ_ONLY:
            context.is_disconnect = True
