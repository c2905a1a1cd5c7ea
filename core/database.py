"""The database: `db`, its engine and connection pragmas, and pages of rows.

A connection whose file was deleted or replaced would go on, and what it commits would be gone;
`file_identity` tells, and no such connection is given out.
"""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import (
    CTE,
    BigInteger,
    ColumnElement,
    Connection,
    Engine,
    Executable,
    Insert,
    LargeBinary,
    MetaData,
    Select,
    String,
    TypeDecorator,
    bindparam,
    cast,
    create_engine,
    event,
    func,
    literal_column,
    make_url,
    select,
    text,
)
from sqlalchemy.exc import IntegrityError, InvalidatePoolError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import DeclarativeBase, InstrumentedAttribute
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from core.clock import database_now_ms, from_milliseconds, milliseconds
from core.lists import ListQuery, Page
from core.settings import Settings
from core.sqlite import drop_foreign_log, file_identity, is_sqlite_url, sqlite_file, sqlite_module

Entity = TypeVar("Entity")

# How long a write waits for its turn before it fails.
BUSY_TIMEOUT_MS = 5_000
# How long one try holds up the line while a stranger's transaction holds SQLite's lock.
TRY_MS = 50
# Of PostgreSQL's connections those that hits have to themselves: one is kept for commits, the other
# finds pixels that are not in memory. And one for each `postgresql.Watch`, of hits and of the rest.
HITS_CONNECTIONS, WATCH_CONNECTIONS = 2, 2
# PostgreSQL has a process for each connection, used or not.
IDLE_SECONDS_MAX = 10
WAL_BYTES_KEPT_MAX = 64 * 1024 * 1024
# What SQLite and PostgreSQL say of a constraint that failed; not every driver has SQLite's codes.
DUPLICATES = ("UNIQUE constraint failed", "23505")
ORPHANS = ("FOREIGN KEY constraint failed", "23503")


class ModelBase(DeclarativeBase):
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


db = SQLAlchemy(
    model_class=ModelBase, session_options={"expire_on_commit": False, "autoflush": False}
)

if TYPE_CHECKING:
    Model = ModelBase
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


def engine_options(settings: Settings) -> dict[str, Any]:
    """Return what the engine of `settings` needs: driver, pool, waiting times."""
    pool = {
        # The connections used last have warm caches; the others stay small.
        "pool_use_lifo": True,
        # Parameters are people's data, and an error's text goes to the log.
        "hide_parameters": True,
    }
    if is_sqlite_url(settings.sqlalchemy_url):
        path = make_url(settings.sqlalchemy_url).database or ""
        return {
            **pool,
            "pool_size": settings.threads + 2,
            "max_overflow": 4,
            "pool_timeout": 10,
            "module": sqlite_module,
            "creator": lambda: _open_sqlite(path),
        }
    # psycopg need not be in memory where SQLite is.
    postgresql = importlib.import_module("core.postgresql")
    return {
        **pool,
        "poolclass": postgresql.Pool,
        "pool_size": settings.connections_a_process - HITS_CONNECTIONS - WATCH_CONNECTIONS,
        "max_overflow": 0,
        "pool_timeout": 10,
        "pool_pre_ping": True,
        "connect_args": {"connect_timeout": postgresql.CONNECT_SECONDS_MAX},
    }


def engine_of_hits(engine: Engine, settings: Settings) -> Engine:
    """Return the engine that stores hits: on PostgreSQL its connections are its own.

    However many questions wait for connections, no hit does.
    """
    if engine.dialect.name != "postgresql":
        return engine
    own = create_engine(engine.url, **engine_options(settings) | {"pool_size": HITS_CONNECTIONS})
    prepare_engine(own, settings)
    return own


def _open_sqlite(path: str) -> Any:
    """Connect to a file that is there; one that vanished is an error, not a new, empty file."""
    return sqlite_module.connect(
        f"file:{quote(os.path.abspath(path))}?mode=rw",
        uri=True,
        timeout=BUSY_TIMEOUT_MS / 1000,
        check_same_thread=False,
    )


def prepare_engine(engine: Engine, settings: Settings) -> None:
    """Set pragmas and transaction starts for every connection of `engine`."""
    path = sqlite_file(engine)
    if path is None:
        importlib.import_module("core.postgresql").prepare_postgresql(engine)
        return
    drop_foreign_log(path)

    @event.listens_for(engine, "connect")
    def set_pragmas(connection: Any, record: Any) -> None:
        # The driver begins transactions at moments of its own; ours begin in `begin` below.
        connection.isolation_level = None
        connection.create_function("lower", 1, _lower, deterministic=True)
        cursor = connection.cursor()
        # A file that is made so can be made smaller while it is served. Of one that has tables the
        # statement would do no more than wait for the writers' lock.
        if cursor.execute("PRAGMA page_count").fetchone() == (0,):
            cursor.execute("PRAGMA auto_vacuum = INCREMENTAL")
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


def give_back_idle(engine: Engine, seconds: float = IDLE_SECONDS_MAX) -> None:
    """Close connections to PostgreSQL that were not used for so long: others may need them."""
    if engine.dialect.name == "postgresql":
        engine.pool.close_idle(seconds)  # type: ignore[attr-defined]


@contextmanager
def patient(connection: Connection, lock_timeout_ms: int) -> Iterator[None]:
    """Let the statements of a connection take as long as they need, and wait for locks so long."""
    driver: Any = connection.connection.driver_connection
    if connection.dialect.name != "postgresql":
        yield
        return
    usual = driver.lock_timeout_ms, driver.statement_timeout_ms
    driver.lock_timeout_ms, driver.statement_timeout_ms = lock_timeout_ms, 0
    try:
        yield
    finally:
        driver.lock_timeout_ms, driver.statement_timeout_ms = usual


def paginate(statement: Select[Entity], query: ListQuery) -> Page[Entity]:
    """Run a statement of single entities for one page of its rows."""
    count = db.session.scalar(select(func.count()).select_from(statement.order_by(None).subquery()))
    rows = db.session.scalars(statement.limit(query.page_size).offset(query.offset))
    return query.page_of(list(rows), count or 0)


def holds(column: InstrumentedAttribute[Any], search: str) -> ColumnElement[bool]:
    """Return the condition for a column to hold a text, whatever the case of its letters.

    SQLite and PostgreSQL answer alike: ASCII letters are found by those of either case and by
    nothing else, others by what the case of each character by itself makes of them. So `ss` is no
    sharp s, and a capital I with a dot no `i`.
    """
    text = _lower(search)
    is_sqlite = db.engine.dialect.name == "sqlite"
    if text.isascii():
        # SQLite's own comparison knows ASCII only, and takes a tenth of the time.
        if is_sqlite:
            return column.contains(text, autoescape=True)
        return column.collate("C").icontains(text, autoescape=True)
    found = column.icontains(text, autoescape=True)
    if is_sqlite:
        # In a name of ASCII only there is nothing to find.
        return (func.length(column) < func.length(cast(column, LargeBinary))) & found
    return found


def in_order(
    statement: Select[Entity],
    query: ListQuery,
    orders: Mapping[str, InstrumentedAttribute[Any]],
    last: InstrumentedAttribute[Any],
) -> Select[Entity]:
    """Return a statement in the order that is asked for, by default the newest first.

    `last` decides among equals, so that no row is on two pages.
    """
    column = orders[query.order_by or "createdAt"]
    return statement.order_by(column.desc() if query.is_descending() else column, last)


def database_now() -> datetime:
    """Return the instant by the clock that dates hits: PostgreSQL's, else this machine's."""
    return from_milliseconds(
        db.session.scalar(select(database_now_ms(db.engine.dialect.name))) or 0
    )


def server_version() -> str | None:
    """Return the version of the database's server; None of SQLite, which has none."""
    if db.engine.dialect.name != "postgresql":
        return None
    return str(db.session.scalar(text("SHOW server_version")))


def begin_snapshot() -> None:
    """End the session's transaction and begin one whose statements all see the same moment."""
    db.session.commit()
    if db.engine.dialect.name == "postgresql":
        db.session.connection(execution_options={"snapshot": True})


def insert_unless_there(connection: Connection, table: Any) -> Insert:
    """Return the statement that inserts rows and leaves those with a key in use as they are."""
    # What SQLAlchemy has for the other database need not be in memory.
    dialect = importlib.import_module(f"sqlalchemy.dialects.{connection.dialect.name}")
    statement: Insert = dialect.insert(table).on_conflict_do_nothing()
    return statement


def replacing(connection: Connection, table: Any) -> Insert:
    """Return the statement that inserts rows, each in place of the one that has its key."""
    dialect = importlib.import_module(f"sqlalchemy.dialects.{connection.dialect.name}")
    statement: Any = dialect.insert(table)
    key = [column.name for column in table.__table__.primary_key]
    others = {
        column.name: statement.excluded[column.name]
        for column in table.__table__.columns
        if column.name not in key
    }
    replaced: Insert = statement.on_conflict_do_update(index_elements=key, set_=others)
    return replaced


class _Elements(FunctionElement[Any]):
    """The elements of a JSON array, a row for each, as both databases know them."""

    name = "elements"
    inherit_cache = True


@compiles(_Elements)
def _sqlite_elements(element: _Elements, compiler: SQLCompiler, **options: Any) -> str:
    return f"json_each({compiler.process(element.clauses, **options)})"


@compiles(_Elements, "postgresql")
def _postgresql_elements(element: _Elements, compiler: SQLCompiler, **options: Any) -> str:
    return f"jsonb_array_elements(CAST({compiler.process(element.clauses, **options)} AS JSONB))"


def rows_of_numbers(*columns: str) -> CTE:
    """Return rows of whole numbers that a statement has from outside: `rows`, a JSON array of rows.

    One statement for all of them, where one for each hands Python's lock to another thread and
    waits to have it back, with the writers' place taken meanwhile.
    """
    row = _Elements(bindparam("rows", type_=String)).table_valued("value").c.value
    numbers = (
        cast(row.op("->>")(literal_column(str(place))), BigInteger).label(name)
        for place, name in enumerate(columns)
    )
    return select(*numbers).cte("new").prefix_with("MATERIALIZED")


def write_rows(statement: Executable, rows: Iterable[Sequence[int | None]]) -> None:
    """Execute a statement of `rows_of_numbers` in the session's transaction, unless it has none."""
    numbers = [*rows]
    if numbers:
        db.session.connection().execute(statement, {"rows": json.dumps(numbers)})


def is_database_error(error: object) -> bool:
    """Tell whether an error is a driver's own, raised by one database or the other."""
    return hasattr(error, "sqlite_errorcode") or hasattr(error, "sqlstate")


def is_duplicate(error: IntegrityError) -> bool:
    """Tell whether a row was refused because another has its unique value."""
    return _constraint(error) in DUPLICATES


def is_orphan(error: IntegrityError) -> bool:
    """Tell whether a row was refused because what it refers to is not there."""
    return _constraint(error) in ORPHANS


def _constraint(error: IntegrityError) -> str:
    return getattr(error.orig, "sqlstate", None) or str(error.orig).partition(":")[0]


def _lower(value: Any) -> Any:
    """Return text in lower case as PostgreSQL does; SQLite's own `lower` knows only ASCII.

    That is character by character: a sigma that ends a word is none of its own.
    """
    if not isinstance(value, str):
        return value
    return "".join(map(str.lower, value)) if "Σ" in value else value.lower()
